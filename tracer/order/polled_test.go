package order

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// seen makes a row of maps, addresses in pages.
func seen(from, to uint64, mode procmaps.Mode, name string) space.Row {
	r := row(from, to, mode)
	r.Name = name
	if strings.HasPrefix(name, "/") {
		r.Dev, r.Inode = procmaps.Device{Major: 8}, 1+uint64(len(name))
	}
	return r
}

func lookAt(pid int, id, at uint64, rows ...space.Row) Event {
	return Event{
		Kind: KindLook, Flags: model.Polled, TGID: pid, Space: id, Time: at,
		Look: &Look{Rows: rows, At: at, Until: at + 1, Space: id},
	}
}

func TestWhatALookShowsIsToldAsTheCallThatItLooksLike(t *testing.T) {
	t.Parallel()
	const ro = procmaps.Read
	stack, heap := seen(900, 910, rw, "[stack]"), seen(100, 110, rw, "[heap]")
	file := seen(200, 210, ro, "/lib/a")
	later := file
	later.Offset = 5 << 12
	tests := []struct {
		name     string
		was, now []space.Row
		want     []string // op, pages, kind before and after
	}{
		{"nothing", []space.Row{heap, stack}, []space.Row{heap, stack}, nil},
		{"a new mapping", []space.Row{stack}, []space.Row{seen(300, 304, rw, ""), stack}, []string{"mmap 300-304 now anon"}},
		{"one that is gone", []space.Row{seen(300, 304, rw, ""), stack}, []space.Row{stack}, []string{"munmap 300-304 was anon"}},
		{"a piece that is gone", []space.Row{seen(300, 304, rw, "")}, []space.Row{seen(300, 301, rw, ""), seen(302, 304, rw, "")}, []string{"munmap 301-302 was anon"}},
		{"one that grew", []space.Row{seen(300, 304, rw, "")}, []space.Row{seen(300, 308, rw, "")}, []string{"mmap 304-308 now anon"}},
		{"a first heap", []space.Row{stack}, []space.Row{heap, stack}, []string{"brk 100-110 now heap"}},
		{"a heap that grew", []space.Row{heap}, []space.Row{seen(100, 115, rw, "[heap]")}, []string{"brk 110-115 now heap"}},
		{"a heap that shrank", []space.Row{heap}, []space.Row{seen(100, 104, rw, "[heap]")}, []string{"brk 104-110 was heap"}},
		{"a heap that is gone", []space.Row{heap, stack}, []space.Row{stack}, []string{"brk 100-110 was heap"}},
		{"a stack that grew", []space.Row{stack}, []space.Row{seen(880, 910, rw, "[stack]")}, []string{"stack 880-900 now stack"}},
		{"another mode", []space.Row{file}, []space.Row{seen(200, 203, rw, "/lib/a"), {Mapping: procmaps.Mapping{
			Range: procmaps.Range{Start: 203 << 12, End: 210 << 12}, Mode: ro, Offset: 3 << 12, Dev: file.Dev, Inode: file.Inode, Name: file.Name,
		}}}, []string{"mprotect 200-203 was file now file"}},
		{"a name", []space.Row{seen(300, 304, rw, "")}, []space.Row{seen(300, 304, rw, "[anon:pool]")}, []string{"name 300-304 was anon now anon"}},
		{"another file in its place", []space.Row{file}, []space.Row{seen(200, 210, rw, "/lib/other")}, []string{"mmap 200-210 was file now file"}},
		{"another part of the file", []space.Row{file}, []space.Row{later}, []string{"mmap 200-210 was file now file"}},
		{"a file over memory", []space.Row{seen(200, 210, ro, "")}, []space.Row{file}, []string{"mmap 200-210 was anon now file"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			src := &script{events: []Event{
				{Kind: KindLook, Flags: model.Polled, Time: 90},
				{Kind: model.KindExec, Flags: model.Polled, TGID: 7, Space: 1, Time: 100, Comm: "prog"},
				lookAt(7, 1, 100, tt.was...), lookAt(7, 1, 200, tt.now...), lookAt(7, 1, 300, tt.now...),
			}}
			tr := New(src, nil, Options{Polling: time.Second, OnChange: func(c *model.Change) {
				if c.Kind != model.KindReread {
					return
				}
				for _, f := range c.Found {
					s := fmt.Sprintf("%s %d-%d", c.Call.Op, f.Range.Start>>12, f.Range.End>>12)
					if f.Was.Kind != 0 {
						s += " was " + f.Was.Kind.String()
					}
					if f.Now.Kind != 0 {
						s += " now " + f.Now.Kind.String()
					}
					got = append(got, s)
				}
				if c.Time != 200 || c.Flags&model.Polled == 0 || c.Process == nil || c.Process.PID != 7 {
					t.Errorf("a change of %+v at %d, flags %b", c.Process, c.Time, c.Flags)
				}
			}})
			if err := tr.Run(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			if s := tr.Report().Stats; s.Looks != 1 || s.Polled != uint64(len(tt.want)) {
				t.Errorf("%d looks, %d changes", s.Looks, s.Polled)
			}
		})
	}
}

func TestAPolledChildBeginsWithItsFirstLook(t *testing.T) {
	t.Parallel()
	var told []string
	fork := Event{Kind: model.KindFork, Flags: model.Polled, TGID: 7, Space: 1, Time: 150, Child: 8, ChildSpace: 2}
	src := &script{events: []Event{
		{Kind: model.KindExec, Flags: model.Polled, TGID: 7, Space: 1, Time: 100, Comm: "prog"},
		lookAt(7, 1, 100, row(10, 20, rw)),
		fork, lookAt(8, 2, 150, row(10, 20, rw), row(30, 34, rw)),
		// Another was gone through its execve before anybody looked.
		{Kind: model.KindFork, Flags: model.Polled, TGID: 7, Space: 1, Time: 160, Child: 9, ChildSpace: 3},
		{Kind: model.KindExec, Flags: model.Polled, TGID: 9, Space: 3, Time: 160, Comm: "other"},
		lookAt(9, 3, 160, row(50, 51, rw)),
		{Kind: model.KindExit, Flags: model.Polled | model.NoStatus, TGID: 8, Space: 2, Time: 170},
		{Kind: KindGone, Flags: model.Polled, TGID: 8, Space: 2, Time: 170},
	}}
	tr := New(src, nil, Options{Polling: time.Second, OnChange: func(c *model.Change) {
		if c.Kind == model.KindReread {
			told = append(told, fmt.Sprint(c.Found))
		}
	}})
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	rep := tr.Report()
	got := map[int]string{}
	for _, pid := range []int{7, 8, 9} {
		got[pid] = pages(tr, pid)
	}
	if diff := cmp.Diff(got, map[int]string{7: "10-20", 8: "10-20 30-34", 9: "50-51"}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if len(told) > 0 {
		t.Errorf("changes that nobody made: %v", told)
	}
	for _, sp := range rep.Spaces {
		if sp.Process.PID == 8 && sp.Process.ExitText() != "status not seen" {
			t.Errorf("the child's end: %q", sp.Process.ExitText())
		}
		if sp.Process.PID == 9 && sp.Process.Comm != "other" {
			t.Errorf("the other child is called %q", sp.Process.Comm)
		}
	}
}

// What is shown of a process whose mappings could not be read at a look is that of an earlier
// one, and the report says so.
func TestALookWithoutAnAnswerMakesATreeApproximate(t *testing.T) {
	t.Parallel()
	row := seen(300, 304, rw, "")
	src := &script{events: []Event{
		{Kind: model.KindExec, Flags: model.Polled, TGID: 7, Space: 1, Time: 100, Comm: "prog"},
		lookAt(7, 1, 100, row),
		{Kind: model.KindExec, Flags: model.Polled, TGID: 8, Space: 2, Time: 100, Comm: "prog"},
		lookAt(8, 2, 100, row),
		{Kind: KindLook, Flags: model.Polled, TGID: 7, Space: 1, Time: 200, Look: &Look{Err: errors.New("no answer")}},
	}}
	tr := New(src, nil, Options{Polling: time.Second})
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	rep := tr.Report()
	if got, want := pictureOf(&rep, 7), "approximate: it was not seen at every look: no answer"; got != want || pages(tr, 7) != "300-304" {
		t.Errorf("%s, %s; want %s", got, pages(tr, 7), want)
	}
	if got, of := rep.Picture.String(), pictureOf(&rep, 7); got != of {
		t.Errorf("of all: %s, of it %s", got, of)
	}
	if got, want := pictureOf(&rep, 8), "approximate: "+model.Unseen(time.Second); got != want {
		t.Errorf("another: %s, want %s", got, want)
	}
}
