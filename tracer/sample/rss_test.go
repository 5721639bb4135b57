package sample

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/model"
)

// TestResidentMemoryIsToldOfThoseThatStay has four processes: one grows, one ends, one has a new
// image, and one has gone before it was looked at.
func TestResidentMemoryIsToldOfThoseThatStay(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	resident := func(pid, pages int) {
		dir := filepath.Join(root, strconv.Itoa(pid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "statm"), fmt.Appendf(nil, "100 %d 1 1 0 1 0\n", pages), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := procmaps.NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []event.Record
	r := NewRSS(fs, func() uint64 { return 9 }, func(rec *event.Record) { got = append(got, *rec) })
	for pid := 1; pid <= 3; pid++ {
		resident(pid, 10)
	}
	for pid := 1; pid <= 4; pid++ {
		c := tracer.Change{}
		c.Kind, c.Space, c.Process = tracer.KindBegin, uint64(pid), &tracer.Process{PID: pid}
		r.Change(&c)
	}
	for pid, kind := range map[int]model.Kind{2: tracer.KindExit, 3: tracer.KindExec} {
		c := tracer.Change{}
		c.Kind, c.TGID = kind, pid
		r.Change(&c)
	}
	for pid := 1; pid <= 4; pid++ {
		resident(pid, 30)
	}
	r.Finish()
	page := uint64(os.Getpagesize())
	want := []event.Record{{At: 9, Space: 1, PID: 1, Body: event.RSS{First: 10 * page, Last: 30 * page}}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
