package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/space"
)

var update = flag.Bool("update", false, "write the golden files anew")

// clock shows the stamp 5 s as 12:00:00 UTC.
var clock = NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), 5e9)

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// checkPrintable checks that a terminal prints all of it and obeys none of it.
func checkPrintable(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		for _, r := range strings.TrimSuffix(line, "\n") {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				t.Errorf("%q is not printable in %q", r, line)
				break
			}
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		stamp uint64
		want  string
	}{
		{"the moment it was set", 5e9, "12:00:00.000000"},
		{"later", 5e9 + 1500, "12:00:00.000001"},
		{"earlier", 4e9 - 1000, "11:59:58.999999"},
		{"when the machine was started", 0, "11:59:55.000000"},
		{"a day later", 5e9 + 24*3600*1e9, "12:00:00.000000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := clock.Text(tt.stamp); got != tt.want {
				t.Errorf("Text(%d) = %s, want %s", tt.stamp, got, tt.want)
			}
		})
	}
	if d := clock.Time(6e9).Sub(clock.Time(5e9)); d != time.Second {
		t.Errorf("a second is %v", d)
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		short string
		whole string
	}{
		{"", "[ anon ]", "[ anon ]"},
		{"[heap]", "[heap]", "[heap]"},
		{"[anon:a/b]", "[anon:a/b]", "[anon:a/b]"},
		{"/usr/lib/libc.so.6", "libc.so.6", "/usr/lib/libc.so.6"},
		{"/tmp/x (deleted)", "x (deleted)", "/tmp/x (deleted)"},
		{"/memfd:a/b (deleted)", "b (deleted)", "/memfd:a/b (deleted)"},
		{"anon_inode:[io_uring]", "anon_inode:[io_uring]", "anon_inode:[io_uring]"},
		{"libc.so.6", "libc.so.6", "libc.so.6"},
		{"/a/\x1b[31mred", `\x1b[31mred`, `/a/\x1b[31mred`},
		{"/a/\x9b31m", `\x9b31m`, `/a/\x9b31m`},
		{"/a/\u009b31m", `\xc2\x9b31m`, `/a/\xc2\x9b31m`},
		{"/a/line\nline", `line\x0aline`, `/a/line\x0aline`},
		{"/a/\xff\xfe", `\xff\xfe`, `/a/\xff\xfe`},
		{"/a/\u202etxt.exe", `\xe2\x80\xaetxt.exe`, `/a/\xe2\x80\xaetxt.exe`},
		{"/a/grün 日本", "grün 日本", "/a/grün 日本"},
	}
	for _, tt := range tests {
		if got := Name(tt.name, false); got != tt.short {
			t.Errorf("Name(%q) = %q, want %q", tt.name, got, tt.short)
		}
		if got := Name(tt.name, true); got != tt.whole {
			t.Errorf("Name(%q) with paths = %q, want %q", tt.name, got, tt.whole)
		}
	}
}

func span(start, end uint64) procmaps.Range { return procmaps.Range{Start: start, End: end} }

func extent(start, end uint64, mode procmaps.Mode, kind procmaps.Kind, name string) space.Extent {
	return space.Extent{Range: span(start, end), Mode: mode, Kind: kind, Name: name}
}

const (
	rw = procmaps.Read | procmaps.Write
	rx = procmaps.Read | procmaps.Exec
)

// call is the change that a call made.
func call(c space.Call, eff space.Effect) *tracer.Change {
	return &tracer.Change{
		Kind: tracer.KindCall, Time: 5e9 + 250e3, TGID: 100, TID: 101, Space: 1, Call: &c, Effect: &eff,
	}
}

// failedCall is a call that returned an error.
func failedCall(c space.Call, errno unix.Errno) *tracer.Change {
	c.Ret = -int64(errno)
	return call(c, space.Effect{})
}

// suppressedCall is a call that was not executed.
func suppressedCall(c space.Call) *tracer.Change {
	ch := call(c, space.Effect{})
	ch.Kind, ch.Effect = tracer.KindSuppressed, nil
	return ch
}

func told(c tracer.Change) *tracer.Change {
	c.Time, c.TGID, c.TID, c.Space = 5e9+250e3, 100, 101, 1
	return &c
}

const base = uint64(0x7f0000000000)

// changes are one of everything, and of what is hard.
var changes = []struct {
	name string
	c    *tracer.Change
}{
	{"new memory", call(space.Call{Op: space.OpMmap, Ret: int64(base)}, space.Effect{
		Range: span(base, base+0x23000), Delta: 0x23000, Now: extent(base, base+0x23000, rw, procmaps.KindAnon, ""),
	})},
	{"a file", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(base, base+0x2000), Delta: 0x2000, Now: extent(base, base+0x2000, rx, procmaps.KindFile, "/usr/lib/libc.so.6"),
	})},
	{"a low address", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(0x10000, 0x11000), Delta: 0x1000, Now: extent(0x10000, 0x11000, rw, procmaps.KindAnon, ""),
	})},
	{"a terabyte", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(base, base+1<<40), Delta: 1 << 40, Now: extent(base, base+1<<40, 0, procmaps.KindAnon, ""),
	})},
	{"memory over another", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(base, base+0x1000), Now: extent(base, base+0x1000, rw, procmaps.KindAnon, ""),
		Displaced: []space.Displaced{{
			Extent: extent(base, base+0x1000, procmaps.Read, procmaps.KindFile, "/usr/lib/libc.so.6"), How: space.Replaced, Partial: true,
		}},
	})},
	{"memory over many", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(base, base+0x6000), Delta: 0x1000, Now: extent(base, base+0x6000, rw, procmaps.KindAnon, ""),
		Displaced: []space.Displaced{
			{Extent: extent(base, base+0x1000, rw, procmaps.KindAnon, ""), How: space.Replaced, Partial: true},
			{Extent: extent(base+0x1000, base+0x2000, rx, procmaps.KindFile, "/bin/a"), How: space.Replaced},
			{Extent: extent(base+0x2000, base+0x3000, rx, procmaps.KindFile, "/bin/b"), How: space.Replaced},
			{Extent: extent(base+0x3000, base+0x4000, rx, procmaps.KindFile, "/bin/c"), How: space.Replaced},
			{Extent: extent(base+0x4000, base+0x5000, rx, procmaps.KindFile, "/bin/d"), How: space.Replaced},
		},
	})},
	{"memory given back", call(space.Call{Op: space.OpMunmap}, space.Effect{
		Range: span(base, base+0x5000), Delta: -0x5000,
		Displaced: []space.Displaced{{Extent: extent(base, base+0x5000, rw, procmaps.KindAnon, ""), How: space.Unmapped}},
	})},
	{"a hole", call(space.Call{Op: space.OpMunmap}, space.Effect{
		Range: span(base+0x1000, base+0x2000), Delta: -0x1000,
		Displaced: []space.Displaced{{
			Extent: extent(base+0x1000, base+0x2000, rw, procmaps.KindAnon, ""), How: space.Unmapped, Partial: true,
		}},
	})},
	{"nothing given back", call(space.Call{Op: space.OpMunmap}, space.Effect{Range: span(base, base+0x1000)})},
	{"the heap grows", call(space.Call{Op: space.OpBrk}, space.Effect{
		Range: span(0x555555580000, 0x5555555a1000), Delta: 0x21000,
		Now: extent(0x555555560000, 0x5555555a1000, rw, procmaps.KindHeap, "[heap]"),
	})},
	{"a question about the heap", call(space.Call{Op: space.OpBrk}, space.Effect{})},
	{"memory moved", call(space.Call{Op: space.OpMremap}, space.Effect{
		Range: span(base, base+0x4000), From: span(base+0x10000, base+0x12000), Delta: 0x2000,
		Now:       extent(base, base+0x4000, rw, procmaps.KindAnon, ""),
		Displaced: []space.Displaced{{Extent: extent(base+0x10000, base+0x12000, rw, procmaps.KindAnon, ""), How: space.Moved}},
	})},
	{"memory grown in place", call(space.Call{Op: space.OpMremap}, space.Effect{
		Range: span(base, base+0x4000), From: span(base, base+0x2000), Delta: 0x2000,
		Now: extent(base, base+0x4000, rw, procmaps.KindAnon, ""),
	})},
	{"another protection", call(space.Call{Op: space.OpMprotect}, space.Effect{
		Range: span(base, base+0x1000), Now: extent(base, base+0x1000, procmaps.Read, procmaps.KindFile, "/usr/lib/libc.so.6"),
		Displaced: []space.Displaced{{
			Extent: extent(base, base+0x1000, rw, procmaps.KindFile, "/usr/lib/libc.so.6"), How: space.Protected, Partial: true,
		}},
	})},
	{"another protection, by its other name", call(space.Call{Op: space.OpMprotect, Sub: space.SubPkeyMprotect}, space.Effect{
		Range: span(base, base+0x1000), Now: extent(base, base+0x1000, procmaps.Read, procmaps.KindAnon, ""),
	})},
	{"an advice", call(space.Call{Op: space.OpMadvise, Args: [6]uint64{base, 0x1000, 4}}, space.Effect{
		Range: span(base, base+0x1000), Now: extent(base, base+0x1000, rw, procmaps.KindAnon, ""),
	})},
	{"an advice of the future", call(space.Call{Op: space.OpMadvise, Args: [6]uint64{base, 0x1000, 4096}}, space.Effect{
		Range: span(base, base+0x1000), Now: extent(base, base+0x1000, rw, procmaps.KindAnon, ""),
	})},
	{"all is locked", call(space.Call{Op: space.OpMlock, Sub: space.SubMlockall}, space.Effect{})},
	{"a late event", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(base, base+0x1000), Delta: 0x1000, Late: true, Now: extent(base, base+0x1000, rw, procmaps.KindAnon, ""),
	})},
	{"an evil name", call(space.Call{Op: space.OpMmap}, space.Effect{
		Range: span(base, base+0x1000), Delta: 0x1000,
		Now: extent(base, base+0x1000, rx, procmaps.KindFile, "/tmp/\x1b]0;x\x07\x1b[2J\x9b31m\u009b1m\u202e\x7f\xff\nx\"<&\\"),
		Displaced: []space.Displaced{{
			Extent: extent(base, base+0x1000, rw, procmaps.KindFile, "/tmp/\x1bc\r\U000e0001"), How: space.Replaced,
		}},
	})},
	{"no memory", failedCall(space.Call{Op: space.OpMmap, Args: [6]uint64{0, 0x2000}}, unix.ENOMEM)},
	{"no room where it was wanted", failedCall(space.Call{Op: space.OpMmap, Args: [6]uint64{base, 0x2000}}, unix.EEXIST)},
	{"a failed munmap", failedCall(space.Call{Op: space.OpMunmap, Args: [6]uint64{base + 1, 0x1000}}, unix.EINVAL)},
	{"a failed munmap of everything", failedCall(space.Call{Op: space.OpMunmap, Args: [6]uint64{base, ^uint64(0)}}, unix.EINVAL)},
	{"a failed shmat", failedCall(space.Call{Op: space.OpShmat, Args: [6]uint64{32768, base, 0}}, unix.EIDRM)},
	{"a failed shmdt", failedCall(space.Call{Op: space.OpShmdt, Args: [6]uint64{base, 0xdead, 0xbeef}}, unix.EINVAL)},
	{"a failed mlockall", failedCall(space.Call{Op: space.OpMlock, Sub: space.SubMlockall, Args: [6]uint64{3}}, unix.EPERM)},
	{"a suppressed munmap", suppressedCall(space.Call{Op: space.OpMunmap, Args: [6]uint64{base, 0x1000}})},
	{"a suppressed mmap", suppressedCall(space.Call{Op: space.OpMmap, Ret: int64(base), Args: [6]uint64{0, 0x2000}})},
	{"a suppressed brk", suppressedCall(space.Call{Op: space.OpBrk})},
	{"a failed naming", failedCall(space.Call{Op: space.OpSetVMA, Args: [6]uint64{0x53564d41, 0, base, 0x1000}}, unix.EBADF)},
	{"an error without a name", failedCall(space.Call{Op: space.OpMunmap, Args: [6]uint64{base, 0x1000}}, 4000)},
	{"a child", told(tracer.Change{Kind: tracer.KindFork, Child: 102, ChildSpace: 2})},
	{"a child in the same memory", told(tracer.Change{
		Kind: tracer.KindFork, Child: 102, ChildSpace: 1, Flags: tracer.SharesSpace,
	})},
	{"a child that is left alone", told(tracer.Change{Kind: tracer.KindFork, Child: 102})},
	{"another program", told(tracer.Change{Kind: tracer.KindExec, Comm: "evil\x1b[2J\n"})},
	{"an end", told(tracer.Change{
		Kind:    tracer.KindExit,
		Process: &tracer.Process{PID: 100, Exited: true, Status: 7 << 8},
	})},
	{"a violent end", told(tracer.Change{
		Kind:    tracer.KindExit,
		Process: &tracer.Process{PID: 100, Exited: true, Status: 9},
	})},
	{"a loss", &tracer.Change{Kind: tracer.KindLost, Time: 5e9, Lost: 12345}},
	{"the stack has grown", told(tracer.Change{
		Kind: tracer.KindReread, NR: -1, Call: &space.Call{Op: space.OpStack},
		Found: []space.Change{{
			Range: span(0x7ffffffdc000, 0x7ffffffde000), Now: extent(0x7ffffffdc000, 0x7ffffffff000, rw, procmaps.KindStack, "[stack]"),
		}},
	})},
	{"what the kernel did by itself", told(tracer.Change{
		Kind: tracer.KindReread, NR: 206, Call: &space.Call{Op: space.OpOther},
		Found: []space.Change{
			{Range: span(base, base+0x1000), Now: extent(base, base+0x1000, rw|procmaps.Shared, procmaps.KindShm, "/[aio] (deleted)")},
			{Range: span(base, base+0x1000), Was: extent(base, base+0x1000, rw, procmaps.KindAnon, "")},
			{
				Range: span(base, base+0x1000), Was: extent(base, base+0x1000, rw, procmaps.KindAnon, ""),
				Now: extent(base, base+0x1000, rx, procmaps.KindAnon, ""),
			},
			{
				Range: span(base, base+0x1000), Was: extent(base, base+0x1000, rw, procmaps.KindAnon, ""),
				Now: extent(base, base+0x1000, rw, procmaps.KindFile, "/tmp/x"),
			},
		},
	})},
	{"drift", told(tracer.Change{
		Kind: tracer.KindDrift,
		Drift: []space.Drift{
			{
				Range: span(base, base+0x1000), What: space.Missing,
				Row: procmaps.Mapping{Range: span(base, base+0x1000), Mode: rw, Name: "/tmp/\x1b[2J"},
			},
			{Range: span(base, base+0x1000), What: space.Extra, Tree: extent(base, base+0x1000, rw, procmaps.KindAnon, "")},
		},
	})},
	{"a beginning, which is no line", told(tracer.Change{Kind: tracer.KindBegin})},
}

func TestText(t *testing.T) {
	t.Parallel()
	for name, paths := range map[string]bool{"events.txt": false, "events-paths.txt": true} {
		text := Text{Clock: clock, Paths: paths}
		out := text.AppendHeader(nil)
		for _, tt := range changes {
			events := AppendEvents(nil, tt.c)
			for i := range events {
				out = text.Append(out, &events[i])
			}
		}
		golden(t, name, string(out))
		checkPrintable(t, string(out))
	}
}

func TestStacksStandBelowTheirCalls(t *testing.T) {
	t.Parallel()
	e := Event{
		Op: "brk", Time: 1, PID: 1, TID: 1, Range: span(0x1000, 0x3000), Delta: 0x2000, Mapped: true,
		Now: extent(0x1000, 0x3000, rw, procmaps.KindHeap, "[heap]"), Stack: []string{"leak (a.c:1)", "\x1b[31mmain (a)"},
	}
	lines := strings.Split(string((&Text{}).Append(nil, &e)), "\n")
	want := []string{stackIndent + "leak (a.c:1)", stackIndent + `\x1b[31mmain (a)`, ""}
	if diff := cmp.Diff(want, lines[1:]); diff != "" || !strings.Contains(lines[0], " brk ") {
		t.Errorf("below %q (-want +got)\n%s", lines[0], diff)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	enc := json.NewEncoder(table.JSONWriter(&b))
	for _, tt := range changes {
		events := AppendEvents(nil, tt.c)
		for i := range events {
			o := events[i].Object(clock)
			b0 := b.Len()
			if err := enc.Encode(o); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			line := b.Bytes()[b0:]
			if bytes.Count(line, []byte("\n")) != 1 {
				t.Errorf("%s: not one line: %q", tt.name, line)
			}
			var back struct {
				Mapping string `json:"mapping"`
			}
			if err := json.Unmarshal(line, &back); err != nil {
				t.Errorf("%s: %v in %q", tt.name, err, line)
			}
			if want := strings.NewReplacer("\xff", `\xff`, "[2J\x9b", `[2J\x9b`).Replace(string(o.Mapping)); back.Mapping != want {
				t.Errorf("%s: the name %q came back as %q", tt.name, want, back.Mapping)
			}
		}
	}
	golden(t, "events.json", b.String())
	checkPrintable(t, b.String())
}

func TestEventsAboutNothingMatchNoKind(t *testing.T) {
	t.Parallel()
	e := Event{Op: "fork"}
	if e.Kind() != 0 || e.Name() != "" || e.Size() != 0 {
		t.Errorf("a fork has kind %v, name %q, size %d", e.Kind(), e.Name(), e.Size())
	}
	e = Event{Op: "munmap", Delta: -5, Displaced: []space.Displaced{{Extent: extent(0, 9, rw, procmaps.KindHeap, "[heap]")}}}
	if e.Kind() != procmaps.KindHeap || e.Name() != "[heap]" || e.Size() != 5 {
		t.Errorf("what was unmapped has kind %v, name %q, size %d", e.Kind(), e.Name(), e.Size())
	}
}

// report is a run with one process that has done a little of everything.
func report(t *testing.T) (*tracer.Report, *space.Space) {
	t.Helper()
	tree := space.New(space.Options{Reports: true})
	row := func(start, end uint64, mode procmaps.Mode, inode uint64, name string) space.Row {
		return space.Row{Mapping: procmaps.Mapping{
			Range: span(start, end), Mode: mode, Inode: inode, Name: name, Dev: procmaps.Device{Major: 8, Minor: uint32(inode)},
		}}
	}
	rows := []space.Row{
		row(0x400000, 0x500000, rx, 11, "/usr/bin/evil\x1b[2J\u009b\xff"),
		row(base, base+0x10000, rw, 0, ""),
		row(base+0x20000, base+0x24000, procmaps.Read, 12, "/tmp/gone (deleted)"),
	}
	for i := range rows {
		if rows[i].Inode == 0 {
			rows[i].Dev = procmaps.Device{}
		}
	}
	tree.Reread(space.Read{Range: space.All, Rows: rows, Began: 1e9, Op: space.OpSeed})
	tree.SetComplete(true)
	start := tree.Packed()
	anon := [6]uint64{0, 0x8000, 3, 0x22}
	calls := []space.Call{
		{Op: space.OpMmap, Time: 2e9, Args: anon, Ret: int64(base + 0x10000)},
		{Op: space.OpMunmap, Time: 3e9, Args: [6]uint64{base, 0x1000}},
		{Op: space.OpMprotect, Time: 4e9, Args: [6]uint64{base + 0x4000, 0x1000, 1}},
		{Op: space.OpMunmap, Time: 4.5e9, Args: [6]uint64{base + 0x20000, 0x4000}},
	}
	for i := range calls {
		if eff := tree.Apply(&calls[i]); eff.Violations > 0 {
			t.Fatalf("call %d: %v", i, eff.Reason)
		}
	}
	return &tracer.Report{
		Ordering: "section", NotKept: 3,
		Stats: tracer.Stats{
			Counts: tracer.Counts{Calls: 4, Failed: 1, Forks: 5, Execs: 6, Exits: 7, Processes: 8, Drift: 17, Violations: 18, Unverified: 20, Unaudited: 21, Coarsened: 20},
			Figures: tracer.Figures{
				Others: 9, Sections: 10, Missed: 11, Late: 12, Rereads: 13, Audits: 14, AuditsUnfinished: 15, Lost: 16, Newest: 5e9,
			},
		},
		Spaces: []tracer.SpaceReport{{
			Process: tracer.Process{PID: 100, Comm: "ev\x1bil\n", Exited: true, Status: 9},
			Start:   start, Began: 1e9, Picture: tracer.Picture{Resyncs: 1, ResyncedAt: 5e9},
			Unverified: tracer.NotVerified{Bytes: 8 << 10, For: 3 * time.Second},
		}},
		Picture: tracer.Picture{Why: "its mappings cannot be read: line \"\x1b[2J\""},
	}, tree
}

func TestTableAndSummary(t *testing.T) {
	t.Parallel()
	r, tree := report(t)
	var text bytes.Buffer
	for _, paths := range []bool{false, true} {
		if err := WriteTable(&text, &r.Spaces[0], tree, clock, TableOptions{Paths: paths, All: paths}); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteSummary(&text, r, 19, clock); err != nil {
		t.Fatal(err)
	}
	r.Ordering, r.NotKept, r.Picture = "time", 0, tracer.Picture{}
	if err := WriteSummary(&text, r, 0, clock); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", text.String())
	checkPrintable(t, text.String())
}

// TestATableOfWhatHasNotChangedIsALine has a tree that is as it was at first.
func TestATableOfWhatHasNotChangedIsALine(t *testing.T) {
	t.Parallel()
	r, tree := report(t)
	sp := r.Spaces[0]
	for _, tt := range []struct {
		start space.Packed
		o     TableOptions
		lines int
		last  string
	}{
		{tree.Packed(), TableOptions{Brief: true}, 2, "4 rows, 1.1 MiB in all, are as at first: --all lists them"},
		{tree.Packed(), TableOptions{Brief: true, All: true}, 8, "total kB             1116        -"},
		{tree.Packed(), TableOptions{}, 5, "4 rows are as at first: --all lists them"},
		{sp.Start, TableOptions{Brief: true}, 10, "1 row is as at first: --all lists them"},
	} {
		var text bytes.Buffer
		sp.Start = tt.start
		if err := WriteTable(&text, &sp, tree, clock, tt.o); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
		if len(lines) != tt.lines || lines[len(lines)-1] != tt.last {
			t.Errorf("with %+v: want %d lines, the last %q:\n%s", tt.o, tt.lines, tt.last, text.String())
		}
	}
}

func TestTableAndSummaryAsJSON(t *testing.T) {
	t.Parallel()
	r, tree := report(t)
	var b bytes.Buffer
	enc := json.NewEncoder(table.JSONWriter(&b))
	if err := enc.Encode(Table(&r.Spaces[0], tree, clock.Time(5e9))); err != nil {
		t.Fatal(err)
	}
	if err := enc.Encode(Summary(r, 19, clock.Time(5e9))); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.json", b.String())
	checkPrintable(t, b.String())
}

// TestTableSumsUp checks that the rows of a table make its totals.
func TestTableSumsUp(t *testing.T) {
	t.Parallel()
	r, tree := report(t)
	o := Table(&r.Spaces[0], tree, time.Time{})
	var size uint64
	var delta int64
	for _, m := range append(o.Regions, o.Gone...) {
		delta += m.Delta
	}
	for _, m := range o.Regions {
		size += m.Size
	}
	if size != o.Size || delta != o.Delta {
		t.Errorf("the rows make %d and %+d, the totals are %d and %+d", size, delta, o.Size, o.Delta)
	}
}
