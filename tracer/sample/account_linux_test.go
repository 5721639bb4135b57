package sample

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

func TestWhatIsHeldIsToldByName(t *testing.T) {
	t.Parallel()
	tree := space.New(space.Options{PageSize: 4096})
	shared := procmaps.Mapping{
		Range: procmaps.Range{Start: 1 << 20, End: 2 << 20}, Mode: procmaps.Read | procmaps.Write | procmaps.Shared, Inode: 3, Name: "/memfd:ring (deleted)",
	}
	tree.Reread(space.Read{Range: space.All, Op: space.OpSeed, Began: 1, Rows: []space.Row{{Mapping: shared}}})
	memfd := func(inode uint64) procmaps.HeldID {
		return procmaps.HeldID{Kind: procmaps.HeldMemfd, Inode: inode}
	}
	file := func(inode uint64) procmaps.HeldID { return procmaps.HeldID{Inode: inode} }
	segment := func(id uint64) procmaps.HeldID {
		return procmaps.HeldID{Kind: procmaps.HeldSegment, Inode: id}
	}
	r := accountRead{
		files: []procmaps.Held{
			{Path: "/memfd:frame-1 (deleted)", HeldID: memfd(1), Bytes: 10},
			{Path: "/memfd:frame-22 (deleted)", HeldID: memfd(2), Bytes: 20},
			{Path: "/memfd:ring (deleted)", HeldID: memfd(3), Bytes: 3 << 20},    // a part of it is mapped
			{Path: "/memfd:whole (deleted)", HeldID: memfd(3), Bytes: 1<<20 - 1}, // all of it is
			{Path: "/dev/shm/log-7", HeldID: file(4), Bytes: 40},
			{Path: "/dev/shm/log-8 (deleted)", HeldID: file(5), Bytes: 50},
			{Path: procmaps.RingPath, HeldID: procmaps.HeldID{Kind: procmaps.HeldRing, Inode: 6}, Bytes: 60},
		},
		segments: []procmaps.Segment{{ID: 8, Resident: 30}, {ID: 9, Resident: 35, Swapped: 5}},
	}
	want := []event.Held{
		{Name: "/dev/shm/log-7", Linked: true, Files: []event.HeldFile{{HeldID: file(4), Bytes: 40}}},
		{Name: "/dev/shm/log-8", Files: []event.HeldFile{{HeldID: file(5), Bytes: 50}}},
		{Name: "/memfd:frame-*", Files: []event.HeldFile{{HeldID: memfd(1), Bytes: 10}, {HeldID: memfd(2), Bytes: 20}}},
		{Name: "/memfd:ring", Files: []event.HeldFile{{HeldID: memfd(3), Bytes: 2 << 20}}},
		{Name: procmaps.RingPath, Files: []event.HeldFile{{HeldID: procmaps.HeldID{Kind: procmaps.HeldRing, Inode: 6}, Bytes: 60}}},
		{Name: event.SystemV, Files: []event.HeldFile{{HeldID: segment(8), Bytes: 30}, {HeldID: segment(9), Bytes: 40}}},
	}
	if d := cmp.Diff(want, r.held(tree)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.files = r.files[:0]
	for i := range 2 * mostHeld {
		r.files = append(r.files, procmaps.Held{Path: "/memfd:" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Bytes: uint64(i + 1)})
	}
	if got := r.held(nil); len(got) != mostHeld || got[len(got)-1].Bytes() < mostHeld {
		t.Errorf("%d names, the least with %d bytes", len(got), got[len(got)-1].Bytes())
	}
}

// procFiles writes what a process of a made-up /proc is charged for.
type procFiles struct {
	t      *testing.T
	dir    string
	fs     procmaps.FS
	tables int // kB of page tables
}

func (f *procFiles) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// stat writes the page faults and the RSS, in kB.
func (f *procFiles) stat(faults, rss int) {
	f.t.Helper()
	f.write("stat", "5 (a) S 1 5 5 0 -1 0 "+strconv.Itoa(faults)+" 0 0 0 0 0 0 0 20 0 1 0 100 4096 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
	f.write("status", "Name:\ta\nPid:\t5\nVmSize:\t9 kB\nVmRSS:\t"+strconv.Itoa(rss)+" kB\nVmPTE:\t"+strconv.Itoa(f.tables)+" kB\nVmSwap:\t8 kB\n")
}

// TestSumsAreTakenWhereTheyMayTellOfCopies reads the figures of a process again and again, and
// wants its pages summed up after page faults that made nothing resident.
func TestSumsAreTakenWhereTheyMayTellOfCopies(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fs, err := procmaps.NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	f := &procFiles{t: t, dir: filepath.Join(root, "5"), fs: fs, tables: 44}
	if err = os.Mkdir(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rollup := func(shared int) {
		f.write("smaps_rollup", "00400000-7fff0000 ---p 00000000 00:00 0                          [rollup]\nRss: 900 kB\nShared_Clean: 1 kB\nShared_Dirty: "+
			strconv.Itoa(shared)+" kB\nPrivate_Clean: 20 kB\nPrivate_Dirty: 300 kB\n")
	}
	f.write("maps", "00400000-00401000 rw-p 00000000 00:00 0\n")
	p, err := fs.Process(5)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var a account
	faults, rss := 1000, 900
	// read has so many page faults more, of which some made a page resident.
	read := func(more, made int, fork bool) bool {
		t.Helper()
		a.sumDue = time.Time{}
		faults, rss = faults+more, rss+4*made
		f.stat(faults, rss)
		r := a.read(fs, p, new(segments), fork, 1)
		if r == nil || r.PageTables != 44<<10 || r.Swapped != 8<<10 || r.Resident != uint64(rss)<<10 || r.Faults != uint64(faults) {
			t.Fatalf("%+v", r)
		}
		if r.Summed && (r.Private != 320<<10 || r.SumResident != 900<<10) {
			t.Errorf("%+v", r.Account)
		}
		return r.Summed
	}
	rollup(400)
	for i, c := range []struct {
		more, made int
		fork, want bool
	}{
		{0, 0, false, true},        // at the beginning
		{2000, 2000, false, false}, // all touched for the first time
		{100, 100, false, true},    // what is more by now may have been given back again
		{50, 0, false, false},
		{50, 0, false, true}, // a hundred by now
		{63, 0, false, false},
		{1, 0, false, true},
		{0, 0, true, true}, // so that what is shared is known
	} {
		if got := read(c.more, c.made, c.fork); got != c.want {
			t.Errorf("reading %d: a sum %v, want %v", i, got, c.want)
		}
	}
	// Where nothing is shared there is nothing to be copied.
	rollup(0)
	sums := 0
	for range 200 {
		if read(100, 0, false) {
			sums++
		}
	}
	if sums < 5 || sums > 15 {
		t.Errorf("%d sums in 200 readings, though nothing is shared", sums)
	}
	rollup(400)
	if !read(0, 0, true) || !read(100, 0, false) {
		t.Error("no sums after a fork")
	}
	// A sum has its price.
	faults += 100
	f.stat(faults, rss)
	a.sumDue = time.Now().Add(time.Hour)
	if r := a.read(fs, p, new(segments), false, 1); r == nil || r.Summed {
		t.Errorf("%+v, before its time", r)
	}
	// Nor is there one of a process with many page tables, however little is resident.
	a.sumDue, f.tables = time.Time{}, mostTables>>10+1
	f.stat(faults, rss)
	if r := a.read(fs, p, new(segments), true, 1); r == nil || r.Summed {
		t.Errorf("%+v, with many page tables", r)
	}
	a, f.tables = account{}, tablesAtOnce>>10+1
	f.stat(faults, rss)
	if r := a.read(fs, p, new(segments), false, 1); r == nil || r.Summed {
		t.Errorf("%+v, at once, with many page tables", r)
	}
}

func TestAForkIsNoted(t *testing.T) {
	t.Parallel()
	var a account
	a.change(&tracer.Change{Kind: model.KindCall})
	if a.fork {
		t.Error("a call is none")
	}
	a.change(&tracer.Change{Kind: tracer.KindFork})
	if !a.fork {
		t.Error("it is not")
	}
}
