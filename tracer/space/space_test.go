package space

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/maptrace/maptrace/procmaps"
)

func pages(lo, hi uint64) procmaps.Range {
	return procmaps.Range{Start: lo * page, End: hi * page}
}

func anonMmap(lo, hi, time uint64) *Call {
	return &Call{
		Op: OpMmap, Time: time, TID: 5, Site: time * 100, Ret: int64(lo * page),
		Args: [6]uint64{0, (hi - lo) * page, 3, mapAnonymous | 2},
	}
}

func munmap(lo, hi, time uint64) *Call {
	return &Call{Op: OpMunmap, Time: time, Args: [6]uint64{lo * page, (hi - lo) * page}}
}

func seed(s *Space, at uint64, rows ...procmaps.Mapping) {
	rd := Read{Range: All, Began: at, Op: OpSeed}
	for _, m := range rows {
		rd.Rows = append(rd.Rows, Row{Mapping: m})
	}
	s.Reread(rd)
}

// The rows of a small program, as the kernel prints them.
func program() []procmaps.Mapping {
	dev := procmaps.Device{Major: 8, Minor: 1}
	rw := procmaps.Read | procmaps.Write
	return []procmaps.Mapping{
		{Range: pages(0x400, 0x402), Mode: procmaps.Read | procmaps.Exec, Dev: dev, Inode: 9, Name: "/bin/a b"},
		{Range: pages(0x402, 0x403), Mode: rw, Offset: 2 * page, Dev: dev, Inode: 9, Name: "/bin/a b"},
		{Range: pages(0x403, 0x404), Mode: rw},
		{Range: pages(0x500, 0x521), Mode: rw, Name: "[heap]"},
		{Range: pages(0x700, 0x710), Mode: rw, Name: "[anon:pool]"},
		{Range: pages(0x710, 0x711), Mode: rw | procmaps.Shared, Dev: procmaps.Device{Minor: 1}, Inode: 4, Name: "/dev/zero (deleted)"},
		{Range: pages(0x711, 0x712), Mode: rw | procmaps.Shared, Dev: procmaps.Device{Minor: 1}, Inode: 4, Name: "/SYSV00000000 (deleted)"},
		{Range: pages(0x800, 0x821), Mode: rw, Name: "[stack]"},
		{Range: pages(0x900, 0x904), Mode: procmaps.Read, Name: "[vvar]"},
		{Range: pages(0x904, 0x906), Mode: procmaps.Read | procmaps.Exec, Name: "[vdso]"},
		{Range: procmaps.Range{Start: 0xffffffffff600000, End: 0xffffffffff601000}, Mode: procmaps.Exec, Name: "[vsyscall]"},
	}
}

func TestSeedGivesBackTheRowsItWasMadeOf(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	seed(s, 10, program()...)
	var rows []procmaps.Mapping
	var kinds []string
	for _, r := range s.Regions(nil) {
		rows = append(rows, r.Mapping)
		kinds = append(kinds, r.Kind.String())
	}
	if d := cmp.Diff(program(), rows); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
	want := []string{"file", "file", "anon", "heap", "anon", "shm", "shm", "stack", "special", "special", "special"}
	if d := cmp.Diff(want, kinds); d != "" {
		t.Errorf("kinds (-want +got):\n%s", d)
	}
	if drift, _ := s.Verify(program(), All, math.MaxUint64); len(drift) != 0 {
		t.Errorf("drift %+v", drift)
	}
	// Some ways of reading do not show the vsyscall page.
	rows = program()[:len(program())-1]
	if drift, _ := s.Verify(rows, All, math.MaxUint64); len(drift) != 0 {
		t.Errorf("drift without vsyscall %+v", drift)
	}
	if rd := s.Reread(Read{Range: All, Began: 20, Rows: rowsOf(rows)}); len(rd) != 0 {
		t.Errorf("a read without vsyscall changed %+v", rd)
	}
}

func rowsOf(ms []procmaps.Mapping) []Row {
	rows := make([]Row, len(ms))
	for i := range ms {
		rows[i].Mapping = ms[i]
	}
	return rows
}

// TestAHeapOfSeveralRows reads one again that is not of one mode, whole and in part.
func TestAHeapOfSeveralRows(t *testing.T) {
	t.Parallel()
	rw := procmaps.Read | procmaps.Write
	heap := []procmaps.Mapping{
		{Range: pages(0x500, 0x502), Mode: rw, Name: "[heap]"},
		{Range: pages(0x502, 0x503), Mode: procmaps.Read, Name: "[heap]"},
		{Range: pages(0x503, 0x504), Mode: rw, Name: "[heap]"},
		{Range: pages(0x505, 0x508), Mode: rw | procmaps.Exec, Name: "[heap]"},
	}
	shrunk := slices.Clone(heap[:2])
	shrunk = append(shrunk, procmaps.Mapping{Range: pages(0x503, 0x504), Mode: rw})
	for _, tt := range []struct {
		name string
		brk  bool // where the break is, is known from the start
		read Read
		want []procmaps.Mapping
	}{
		{"the seed alone", false, Read{}, heap},
		{"the seed, with a break that is known", true, Read{}, heap},
		{"all is read again", true, Read{Range: All, Rows: rowsOf(heap)}, heap},
		{"the first is read again", true, Read{Range: pages(0x500, 0x502), Rows: rowsOf(heap)}, heap},
		{"one in the middle is read again", true, Read{Range: pages(0x502, 0x503), Rows: rowsOf(heap)}, heap},
		{"the last is read again", true, Read{Range: pages(0x505, 0x508), Rows: rowsOf(heap)}, heap},
		{"the break was moved down", true, Read{Range: All, Rows: rowsOf(shrunk)}, shrunk},
	} {
		s := New(Options{})
		if tt.brk {
			s.SetBrk(0x500*page, 0x508*page)
		}
		seed(s, 10, heap...)
		if tt.read.Range != (procmaps.Range{}) {
			tt.read.Began = 20
			s.Reread(tt.read)
		}
		var got []procmaps.Mapping
		for _, r := range s.Regions(nil) {
			got = append(got, r.Mapping)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestHeapAndStackNamesAreDerived(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.SetBrk(0x500*page, 0x502*page)
	s.SetStack(0x9ff*page + 8)
	s.Apply(anonMmap(0x500, 0x502, 10))
	grows := anonMmap(0x9f0, 0xa00, 11)
	grows.Args[3] |= mapGrowsDown
	s.Apply(grows)
	s.Apply(&Call{Op: OpBrk, Time: 12, OldBrk: 0x502 * page, Ret: 0x504 * page})
	s.Apply(&Call{Op: OpSetVMA, Time: 13, Name: "x", Args: [6]uint64{0, 0, 0x500 * page, page}})
	s.Apply(anonMmap(0x504, 0x505, 14)) // merges with the heap, as in the kernel
	var got []string
	for _, r := range s.Regions(nil) {
		got = append(got, pagesText(r.Range)+" "+r.Name+" "+r.Kind.String())
	}
	want := []string{
		"500-501 [heap] heap", "501-505 [heap] heap", "9f0-a00 [stack] stack",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if e, ok := s.Stack(); !ok || e.Range != pages(0x9f0, 0xa00) {
		t.Errorf("stack: got %v, %v", e.Range, ok)
	}
	// The kernel shows no name where it shows [heap], and may merge otherwise.
	rw := procmaps.Read | procmaps.Write
	rows := []procmaps.Mapping{
		{Range: pages(0x500, 0x504), Mode: rw, Name: "[heap]"},
		{Range: pages(0x504, 0x505), Mode: rw},
		{Range: pages(0x9f0, 0xa00), Mode: rw},
	}
	if drift, _ := s.Verify(rows, All, math.MaxUint64); len(drift) != 0 {
		t.Errorf("drift %+v", drift)
	}
}

// The kernel shows the heap in rows of its own beside what an image brings along, and perhaps
// as one with what calls have made.
func TestWhereTheHeapBeginsAndEnds(t *testing.T) {
	t.Parallel()
	rw := procmaps.Read | procmaps.Write
	bss := procmaps.Mapping{Range: pages(0x4f0, 0x500), Mode: rw}
	heap := procmaps.Mapping{Range: pages(0x500, 0x502), Mode: rw, Name: "[heap]"}
	above := procmaps.Mapping{Range: pages(0x502, 0x504), Mode: rw}
	mprotect := func(lo, hi uint64) *Call {
		return &Call{Op: OpMprotect, Time: 20, Args: [6]uint64{lo * page, (hi - lo) * page, 3}}
	}
	for _, tt := range []struct {
		name     string
		rows     []procmaps.Mapping
		from, to uint64 // start_brk and brk, in pages
		call     *Call
		want     []string
		unclear  bool
	}{
		{"alone", []procmaps.Mapping{heap}, 0x500, 0x502, nil, []string{"500-502 [heap]"}, false},
		{"beside bss", []procmaps.Mapping{bss, heap}, 0x500, 0x502, nil, []string{"4f0-500 ", "500-502 [heap]"}, false},
		{"beside what was there", []procmaps.Mapping{heap, above}, 0x500, 0x502, nil, []string{"500-502 [heap]", "502-504 "}, false},
		{"a call maps above it", []procmaps.Mapping{heap}, 0x500, 0x502, anonMmap(0x502, 0x504, 20), []string{"500-504 [heap]"}, true},
		{"a call maps below it", []procmaps.Mapping{heap}, 0x500, 0x502, anonMmap(0x4f0, 0x500, 20), []string{"4f0-502 [heap]"}, true},
		{"a call maps elsewhere", []procmaps.Mapping{heap}, 0x500, 0x502, anonMmap(0x510, 0x512, 20), []string{"500-502 [heap]", "510-512 "}, false},
		{"a call has set the mode of bss", []procmaps.Mapping{bss, heap}, 0x500, 0x502, mprotect(0x4f0, 0x500), []string{"4f0-502 [heap]"}, true},
		{"it grows", []procmaps.Mapping{bss, heap}, 0x500, 0x502, &Call{Op: OpBrk, Time: 20, OldBrk: 0x502 * page, Ret: 0x504 * page}, []string{"4f0-500 ", "500-504 [heap]"}, false},
		{"a page of it is locked", []procmaps.Mapping{bss, heap}, 0x500, 0x502, &Call{Op: OpMlock, Time: 20, Args: [6]uint64{0x500 * page, page}}, []string{"4f0-500 ", "500-502 [heap]"}, false},
		{"a page is, of what reaches beyond", []procmaps.Mapping{{Range: pages(0x4f0, 0x510), Mode: rw}}, 0x500, 0x500, &Call{Op: OpMlock, Time: 20, Args: [6]uint64{0x508 * page, page}}, []string{"4f0-510 [heap]"}, true},
		{"it has no page yet, amid what was there", []procmaps.Mapping{{Range: pages(0x4f0, 0x510), Mode: rw}}, 0x500, 0x500, nil, []string{"4f0-510 [heap]"}, false},
	} {
		s := New(Options{})
		s.SetBrk(tt.from*page, tt.to*page)
		seed(s, 10, tt.rows...)
		if tt.call != nil {
			s.Apply(tt.call)
		}
		var got []string
		for _, r := range s.Regions(nil) {
			got = append(got, pagesText(r.Range)+" "+r.Name)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
		if got := s.HeapUnclear(); got != tt.unclear {
			t.Errorf("%s: unclear is %t", tt.name, got)
		}
	}
}

// The same of the stack, of which the kernel makes all by itself.
func TestMemoryBesideTheStackIsUnclear(t *testing.T) {
	t.Parallel()
	grows := func(lo, hi uint64) *Call {
		c := anonMmap(lo, hi, 20)
		c.Args[3] |= mapGrowsDown
		return c
	}
	for _, tt := range []struct {
		name string
		call *Call
		want bool
	}{
		{"nothing", nil, false},
		{"memory like it below", grows(0x7c, 0x80), true},
		{"memory like it above", grows(0x90, 0x94), true},
		{"memory like it elsewhere", grows(0x60, 0x64), false},
		{"memory that does not grow", anonMmap(0x7c, 0x80, 20), false},
		{"a part of it is set to the mode that it has", &Call{Op: OpMprotect, Time: 20, Args: [6]uint64{0x84 * page, page, 3}}, false},
		{"a page is locked", &Call{Op: OpMlock, Time: 20, Args: [6]uint64{0x84 * page, page}}, true},
		{"all of it is", &Call{Op: OpMlock, Time: 20, Args: [6]uint64{0x7f * page, 0x20 * page}}, false},
		{"something else is", &Call{Op: OpMlock, Time: 20, Args: [6]uint64{0x10 * page, page}}, false},
		{"a page is not to be dumped", &Call{Op: OpMadvise, Time: 20, Args: [6]uint64{0x84 * page, page, 16}}, true},
		{"a page is given back", &Call{Op: OpMadvise, Time: 20, Args: [6]uint64{0x84 * page, page, 4}}, false},
		{"all of it is mapped anew", grows(0x80, 0x90), false},
		{"a part of it is", grows(0x82, 0x84), true},
	} {
		s := New(Options{})
		s.SetStack(0x8f*page + 8)
		s.Reread(Read{Range: All, Began: 10, Op: OpSeed, Rows: []Row{{
			Mapping: procmaps.Mapping{Range: pages(0x80, 0x90), Mode: 3, Name: "[stack]"}, Flags: GrowsDown, Known: GrowsDown,
		}}})
		if tt.call != nil {
			if tt.call.Op == OpMmap {
				tt.call.Args[3] |= mapFixed
			}
			s.Apply(tt.call)
		}
		if got := s.StackUnclear(); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestOriginAndCountFollowTheMemory(t *testing.T) {
	t.Parallel()
	s := New(Options{Reports: true})
	s.Apply(anonMmap(0x10, 0x20, 10))
	s.Apply(&Call{Op: OpMprotect, Time: 11, Args: [6]uint64{0x10 * page, page, 1}})
	s.Apply(&Call{Op: OpMremap, TID: 6, Time: 12, Ret: 0x40 * page, Args: [6]uint64{0x18 * page, 8 * page, 10 * page, 1}})
	fixed := anonMmap(0x10, 0x11, 13)
	fixed.Args[3] |= mapFixed
	e := s.Apply(fixed)
	if want := (Origin{Op: OpMmap, TID: 5, Time: 13, Site: 1300}); e.Now.Origin != want || e.Now.Ops != 3 {
		t.Errorf("effect: got %+v of %d operations, want %+v of 3", e.Now.Origin, e.Now.Ops, want)
	}
	if len(e.Displaced) != 1 || e.Displaced[0].Origin.Time != 10 || e.Displaced[0].Mode != procmaps.Read {
		t.Errorf("displaced %+v, want the page protected before", e.Displaced)
	}
	got := map[procmaps.Range]Origin{}
	for x := range s.Extents(All) {
		got[x.Range] = x.Origin
	}
	first := Origin{Op: OpMmap, TID: 5, Time: 10, Site: 1000}
	want := map[procmaps.Range]Origin{
		pages(0x10, 0x11): {Op: OpMmap, TID: 5, Time: 13, Site: 1300},
		pages(0x11, 0x18): first,
		pages(0x40, 0x48): first, // moved
		pages(0x48, 0x4a): {Op: OpMremap, TID: 6, Time: 12},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A heap is reserved as a whole and allowed to be written step by step: the
// steps have sites of their own. Who allows what was allowed before has made nothing.
func TestWhoAllowsWritingFirstIsBlamed(t *testing.T) {
	t.Parallel()
	const none, r, rw = 0, 1, 3
	calls := []*Call{anonMmap(0x10, 0x20, 10), anonMmap(0x20, 0x24, 15)}
	calls[0].Args[2] = none
	for _, c := range []struct{ lo, hi, at, prot uint64 }{
		{0x10, 0x16, 20, rw},
		{0x16, 0x18, 30, rw},
		{0x11, 0x12, 40, rw}, // again
		{0x12, 0x16, 40, r},
		{0x13, 0x14, 50, rw}, // again, after a while
		{0x14, 0x15, 50, none},
		{0x14, 0x15, 60, rw}, // anew
		{0x18, 0x19, 60, r},
		{0x18, 0x19, 70, rw}, // what could only be read
		{0x20, 0x21, 70, rw}, // what its maker could write
		{0x21, 0x22, 70, r},
		{0x21, 0x22, 80, rw},
		{0x22, 0x23, 80, none},
		{0x22, 0x23, 90, rw},
	} {
		calls = append(calls, &Call{
			Op: OpMprotect, Time: c.at, Site: c.at * 100,
			Args: [6]uint64{c.lo * page, (c.hi - c.lo) * page, c.prot},
		})
	}
	want := map[uint64][2]uint64{
		0x10: {20, 2000},
		0x11: {20, 2000},
		0x12: {10, 1000}, // nobody may write it
		0x13: {20, 2000},
		0x14: {60, 6000},
		0x15: {10, 1000},
		0x16: {30, 3000},
		0x17: {30, 3000},
		0x18: {70, 7000},
		0x19: {10, 1000},
		0x20: {15, 1500},
		0x21: {15, 1500},
		0x22: {90, 9000},
		0x23: {15, 1500},
	}
	s := New(Options{Reports: true})
	for _, c := range calls {
		e := s.Apply(c)
		for i := range e.Displaced {
			// What is displaced tells what has taken its place.
			d := &e.Displaced[i]
			now, _ := s.At(d.Start)
			if got := d.Protected(procmaps.Mode(c.Args[2]), Grant{c.Time, c.Site}); got.Granted != now.Granted || got.Mode != now.Mode {
				t.Errorf("%s: told %+v %v, is %+v %v", c.text(), got.Granted, got.Mode, now.Granted, now.Mode)
			}
		}
	}
	// A look that agrees leaves the blame where it is.
	s.Reread(Read{Range: pages(0x10, 0x12), Began: 100, Rows: rowsOf([]procmaps.Mapping{
		{Range: pages(0x10, 0x12), Mode: procmaps.Read | procmaps.Write},
	})})
	got := make(map[uint64][2]uint64)
	for at := range want {
		e, _ := s.At(at * page)
		when, site := e.Blame()
		got[at] = [2]uint64{when, site}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReadKeepsTheOriginOfWhatAgrees(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x14, 10))
	rw := procmaps.Read | procmaps.Write
	changes := s.Reread(Read{
		Range: pages(0x8, 0x20), Began: 20, Ended: 22, Op: OpStack, TID: 9,
		Rows: rowsOf([]procmaps.Mapping{{Range: pages(0xe, 0x12), Mode: rw}, {Range: pages(0x12, 0x14), Mode: procmaps.Read}}),
	})
	if len(changes) != 2 || changes[0].Range != pages(0xe, 0x10) || changes[0].Was != (Extent{}) ||
		changes[1].Range != pages(0x12, 0x14) || changes[1].Was.Mode != rw || changes[1].Now.Mode != procmaps.Read {
		t.Errorf("changes %+v", changes)
	}
	for e := range s.Extents(All) {
		want := Origin{Op: OpMmap, TID: 5, Time: 10, Site: 1000}
		if e.Start == 0xe*page {
			want = Origin{Op: OpStack, TID: 9, Time: 20}
		}
		if e.Origin != want {
			t.Errorf("%v: origin %+v, want %+v", e.Range, e.Origin, want)
		}
	}
}

func TestUnknownIdentityIsAdoptedFromARead(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	c := anonMmap(0x10, 0x14, 10)
	c.Args[3] = mapAnonymous | mapShared
	s.Apply(c)
	row := procmaps.Mapping{
		Range: pages(0x10, 0x14), Mode: procmaps.Read | procmaps.Write | procmaps.Shared,
		Dev: procmaps.Device{Minor: 1}, Inode: 77, Name: "/dev/zero (deleted)",
	}
	if changes := s.Reread(Read{Range: pages(0x10, 0x14), Began: 20, Rows: rowsOf([]procmaps.Mapping{row})}); len(changes) != 0 {
		t.Errorf("changes %+v", changes)
	}
	e, _ := s.At(0x10 * page)
	if f := s.File(e.File); f.Inode != 77 || e.Origin.Op != OpMmap {
		t.Errorf("got %+v, origin %+v", f, e.Origin)
	}
}

func TestPathReplacesBasename(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	c := anonMmap(0x10, 0x14, 10)
	c.Args[3] = 2
	c.File = File{Dev: procmaps.Device{Major: 8}, Inode: 3, Name: "libc.so"}
	s.Apply(c)
	row := procmaps.Mapping{
		Range: pages(0x10, 0x14), Mode: procmaps.Read | procmaps.Write,
		Dev: c.File.Dev, Inode: 3, Name: "/lib/libc.so",
	}
	if drift, _ := s.Verify([]procmaps.Mapping{row}, All, math.MaxUint64); len(drift) != 0 {
		t.Errorf("drift %+v", drift)
	}
	s.Reread(Read{Range: All, Began: 20, Rows: rowsOf([]procmaps.Mapping{row})})
	s.Apply(&Call{Op: OpMmap, Time: 30, Ret: 0x20 * page, Args: [6]uint64{0, page, 1, 2}, File: c.File})
	for e := range s.Extents(All) {
		if e.Name != "/lib/libc.so" {
			t.Errorf("%v is called %q", e.Range, e.Name)
		}
	}
}

func TestForkDoubtsWhatDriversDecideAndWhatIsNewer(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.SetComplete(true)
	seed(s, 10, procmaps.Mapping{Range: pages(0x10, 0x12), Dev: procmaps.Device{Minor: 5}, Inode: 1, Name: "/dev/dri/card0"})
	s.Apply(anonMmap(0x20, 0x22, 20))
	s.Apply(anonMmap(0x30, 0x32, 40))
	child, doubts := s.Clone(30)
	if d := cmp.Diff([]procmaps.Range{pages(0x10, 0x12), pages(0x30, 0x32)}, doubts); d != "" {
		t.Errorf("doubts (-want +got):\n%s", d)
	}
	e, ok := child.At(0x20 * page)
	if !ok || e.Flags != Inherited || e.Origin.Time != 20 || !child.complete {
		t.Errorf("got %+v", e)
	}
	// Parent and child go their own ways.
	child.Apply(munmap(0x20, 0x22, 50))
	if _, ok := s.At(0x20 * page); !ok {
		t.Error("the child's munmap reached the parent")
	}
	if e := s.Apply(anonMmap(0x50, 0x51, 25)); !e.Late {
		t.Error("a call older than the fork is not reported as late")
	}
	child.Doubt(pages(0x50, 0x51), 30)
	child.Doubt(procmaps.Range{}, 30)
	if !child.Doubtful() || !slices.Contains(child.Doubts(), pages(0x50, 0x51)) {
		t.Errorf("doubts %v, want one of the late call", child.Doubts())
	}
}

func TestPruneForgetsAndJoinsAgain(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x20, 10))
	for i := range uint64(8) {
		s.Apply(&Call{Op: OpMprotect, Time: 20 + i, Args: [6]uint64{(0x10 + 2*i) * page, page, 1}})
		s.Apply(&Call{Op: OpMprotect, Time: 30 + i, Args: [6]uint64{(0x10 + 2*i) * page, page, 3}})
	}
	s.Apply(munmap(0x30, 0x40, 50))
	if got := s.Totals(); got.Extents != 16 || got.Holes != 1 {
		t.Fatalf("before: %+v", got)
	}
	s.Prune(50)
	if got := s.Totals(); got.Extents != 1 || got.Holes != 1 {
		t.Errorf("up to the munmap: %+v, want one extent and the hole", got)
	}
	s.Prune(51)
	if got := s.Totals(); got.Extents != 1 || got.Holes != 0 {
		t.Errorf("after the munmap: %+v", got)
	}
	e := s.Apply(munmap(0x12, 0x14, 40))
	if e.Changed || !e.Late || !slices.Equal(e.Doubts, []procmaps.Range{pages(0x12, 0x14)}) {
		t.Errorf("a call older than the horizon: %+v, want its range in doubt", e)
	}
	s.Reread(Read{Range: pages(0x12, 0x14), Began: 45})
	if got := s.Totals().Extents; got != 1 {
		t.Errorf("a read older than the horizon was used: %d extents", got)
	}
	s.Reread(Read{Range: pages(0x12, 0x14), Began: 60})
	if got := s.Totals().Extents; got != 2 || len(s.Doubts()) != 0 {
		t.Errorf("%d extents and doubts %v after the read", got, s.Doubts())
	}
}

func TestPruneFreesFilesAndNames(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for i := range uint64(5000) {
		c := anonMmap(0x10, 0x11, 10*i+10)
		c.Args[3], c.File = 1, File{Dev: procmaps.Device{Minor: 9}, Inode: i + 1, Name: "/f"}
		s.Apply(c)
		s.Apply(&Call{Op: OpSetVMA, Time: 10*i + 11, Name: string(rune('a' + i%26)), Args: [6]uint64{0, 0, 0x20 * page, page}})
		s.Apply(munmap(0x10, 0x11, 10*i+12))
		if i%100 == 0 {
			s.Prune(10*i + 10)
		}
	}
	if n := len(s.tab.files); n > 2*minSweep {
		t.Errorf("the table has %d files for one that is mapped", n)
	}
	if err := s.checkInvariants(); err != nil {
		t.Error(err)
	}
}

func TestManyDoubtsBecomeOne(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for i := range uint64(3 * maxDoubts) {
		s.Doubt(pages(0x10+4*i, 0x11+4*i), 10+i)
	}
	if n := len(s.Doubts()); n > maxDoubts {
		t.Errorf("%d doubts are open", n)
	}
	s.Reread(Read{Range: pages(0x100, 0x101), Began: 10_000})
	covered := func(r procmaps.Range) bool {
		return slices.ContainsFunc(s.Doubts(), func(d procmaps.Range) bool { return d.Covers(r) })
	}
	if !covered(pages(0x10, 0x11)) || covered(pages(0x100, 0x101)) {
		t.Errorf("doubts %v after a read of one page", s.Doubts())
	}
	s.Reread(Read{Range: All, Began: 10_001})
	if d := s.Doubts(); len(d) != 0 {
		t.Errorf("doubts %v after a read of everything", d)
	}
}

func TestViolationsAreNotCountedWhereTheTreeIsNotTrusted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		prep func(*Space)
		want int
	}{
		{"a complete tree is trusted", func(*Space) {}, 1},
		{"an incomplete tree is not", func(s *Space) { s.SetComplete(false) }, 0},
		{"nor what a read may have seen later", func(s *Space) {
			s.Reread(Read{Range: pages(0x80, 0x81), Began: 20, Ended: 35})
		}, 0},
		{"nor a range in doubt", func(s *Space) {
			s.Doubt(pages(0x10, 0x11), 20)
		}, 0},
		{"nor one with something newer", func(s *Space) { s.Apply(munmap(0x11, 0x12, 40)) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{})
			s.SetComplete(true)
			s.Apply(anonMmap(0x10, 0x14, 10))
			tc.prep(s)
			if e := s.Apply(anonMmap(0x10, 0x14, 30)); e.Violations != tc.want {
				t.Errorf("%d violations, want %d", e.Violations, tc.want)
			}
		})
	}
}

func TestDiffTellsNewAndGoneMemory(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	file := func(lo, hi, time uint64) *Call {
		c := anonMmap(lo, hi, time)
		c.Args[3], c.Args[5] = 2, 7*page
		c.File = File{Dev: procmaps.Device{Minor: 9}, Inode: 1, Name: "/f"}
		return c
	}
	s.Apply(file(0x10, 0x20, 10))
	s.Apply(anonMmap(0x30, 0x34, 11))
	s.Apply(anonMmap(0x40, 0x41, 12))
	old := s.Snapshot()
	s.Apply(munmap(0x12, 0x14, 20))
	s.Apply(munmap(0x1e, 0x20, 21))
	s.Apply(anonMmap(0x34, 0x38, 22))
	s.Apply(munmap(0x40, 0x41, 23))
	s.Apply(anonMmap(0x50, 0x51, 24))
	now := s.Snapshot()
	d := Diff(old, now)
	got := map[procmaps.Range]uint64{}
	for i, r := range now.Regions {
		got[r.Range] = d.New[i] / page
	}
	want := map[procmaps.Range]uint64{
		pages(0x10, 0x12): 0, pages(0x14, 0x1e): 0, pages(0x30, 0x38): 4, pages(0x50, 0x51): 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	var gone []string
	for _, r := range d.Gone {
		gone = append(gone, pagesText(r.Range)+" "+pagesText(procmaps.Range{Start: r.Offset}))
	}
	if diff := cmp.Diff([]string{"12-14 9-0", "1e-20 15-0", "40-41 0-0"}, gone); diff != "" {
		t.Errorf("gone (-want +got):\n%s", diff)
	}
	// The earlier snapshot is still what it was.
	if len(old.Regions) != 3 || old.Totals.Mapped != 21*page {
		t.Errorf("old snapshot changed: %+v", old)
	}
}

func TestExtentsYieldsWhatOverlapsAndStopsWhenTold(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for i := range uint64(200) {
		s.Apply(anonMmap(0x10+2*i, 0x11+2*i, 10+i))
	}
	var got []procmaps.Range
	for e := range s.Extents(pages(0x13, 0x19)) {
		got = append(got, e.Range)
	}
	want := []procmaps.Range{pages(0x14, 0x15), pages(0x16, 0x17), pages(0x18, 0x19)}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	n := 0
	for range s.Extents(All) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("yielded %d after a break at 3", n)
	}
}

func TestWordsOfOperations(t *testing.T) {
	t.Parallel()
	for o := OpMmap; o <= OpReread; o++ {
		if o.String() == "" || o.String()[0] == 'o' && o.String() != "other" {
			t.Errorf("operation %d is called %q", o, o)
		}
	}
	for _, tc := range []struct{ got, want string }{
		{OpReread.String(), "re-read"},
		{Op(200).String(), "op(200)"},
		{SubMunlock.String(), "munlock"},
		{Sub(0).String(), ""},
		{Moved.String(), "moved"},
		{OverlapsLive.String(), "result overlaps live memory"},
		{FileOf.String(), "file"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestReadDoesNotUndoWhatIsNewer(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(&Call{Op: OpMadvise, Time: 30, Args: [6]uint64{0x10 * page, page, madvDontFork}})
	s.Apply(&Call{Op: OpMadvise, Time: 31, Args: [6]uint64{0x10 * page, page, madvWipeOnFork}})
	s.Apply(&Call{Op: OpSetVMA, Time: 32, Name: "n", Args: [6]uint64{0, 0, 0x10 * page, page}})
	s.Apply(&Call{Op: OpMprotect, Time: 33, Args: [6]uint64{0x10 * page, page, 5}})
	row := procmaps.Mapping{Range: pages(0x10, 0x11), Mode: procmaps.Read}
	s.Reread(Read{Range: All, Began: 20, Rows: rowsOf([]procmaps.Mapping{row})})
	e, _ := s.At(0x10 * page)
	if e.Flags != DontFork|WipeOnFork || e.Name != "[anon:n]" || e.Mode != procmaps.Read|procmaps.Exec {
		t.Errorf("got %+v", e)
	}
}

func TestReadSettlesOnlyOlderDoubts(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Doubt(pages(0x10, 0x14), 20)
	s.Reread(Read{Range: All, Began: 20})
	if got := s.Doubts(); !slices.Equal(got, []procmaps.Range{pages(0x10, 0x14)}) {
		t.Errorf("after a read that began before: %v", got)
	}
	s.Reread(Read{Range: pages(0x11, 0x12), Began: 21})
	want := []procmaps.Range{pages(0x10, 0x11), pages(0x12, 0x14)}
	if d := cmp.Diff(want, s.Doubts()); d != "" {
		t.Errorf("after a read of a part (-want +got):\n%s", d)
	}
}

func TestReadThatChangesTheSourceOfACopyDoubtsTheCopy(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x14, 10))
	s.Apply(&Call{
		Op: OpMremap, Time: 30, Ret: 0x20 * page,
		Args: [6]uint64{0x10 * page, 4 * page, 4 * page, 1 | mremapDontUnmap},
	})
	row := procmaps.Mapping{Range: pages(0x10, 0x14), Mode: procmaps.Read}
	s.Reread(Read{Range: pages(0x10, 0x14), Began: 20, Rows: rowsOf([]procmaps.Mapping{row})})
	if d := cmp.Diff([]procmaps.Range{pages(0x20, 0x24)}, s.Doubts()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestWhatBrkGivesBackIsToldAsHeap(t *testing.T) {
	t.Parallel()
	s := New(Options{Reports: true})
	s.SetBrk(0x10*page, 0x10*page)
	brk := func(from, to, time uint64) Effect {
		return s.Apply(&Call{Op: OpBrk, Time: time, OldBrk: from * page, Ret: int64(to * page)})
	}
	brk(0x10, 0x20, 10)
	for i, to := range []uint64{0x18, 0x10} { // a part of it, and all
		e := brk([]uint64{0x20, 0x18}[i], to, 20+uint64(i))
		if len(e.Displaced) != 1 || e.Displaced[0].Kind != procmaps.KindHeap || e.Displaced[0].Len() != 8*page {
			t.Errorf("down to %#x: %+v", to, e.Displaced)
		}
	}
}

func TestACopyWhoseSourceStaysHasTheOriginOfItsCall(t *testing.T) {
	t.Parallel()
	s := New(Options{Reports: true})
	s.Apply(anonMmap(0x10, 0x14, 10))
	s.Apply(&Call{
		Op: OpMremap, Time: 30, TID: 6, Site: 77, Ret: 0x20 * page,
		Args: [6]uint64{0x10 * page, 4 * page, 4 * page, 1 | mremapDontUnmap},
	})
	was, _ := s.At(0x10 * page)
	e, _ := s.At(0x20 * page)
	if want := (Origin{Op: OpMremap, TID: 6, Time: 30, Site: 77}); e.Origin != want || was.Origin.Op != OpMmap {
		t.Errorf("the copy has %+v, the source %+v", e.Origin, was.Origin)
	}
}

func TestAPermissionGivenAgainIsNotTold(t *testing.T) {
	t.Parallel()
	s := New(Options{Reports: true})
	s.Apply(anonMmap(0x10, 0x14, 10))
	e := s.Apply(&Call{Op: OpMprotect, Time: 20, Site: 55, Args: [6]uint64{0x10 * page, 4 * page, 3}})
	if len(e.Displaced) != 0 || e.Changed {
		t.Errorf("%+v", e)
	}
	if _, site := e.Now.Blame(); site != 1000 {
		t.Errorf("it is blamed on %d", site)
	}
}

func TestPruneLeavesNewerStampsAlone(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x14, 50))
	s.Apply(munmap(0x20, 0x24, 51))
	s.Prune(30)
	s.Apply(munmap(0x10, 0x14, 40))
	s.Apply(anonMmap(0x20, 0x24, 41))
	if got := s.Totals(); got.Extents != 1 || got.Mapped != 4*page {
		t.Errorf("older calls won over newer ones: %+v", got)
	}
}

// A chain of copies that all overlap has more paths than anyone can follow.
func TestStragglerBeforeManyCopiesTakesNoTime(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x20, 10))
	for i := range uint64(2000) {
		from, to := 0x10+(i%2)*0x20, 0x30-(i%2)*0x20
		s.Apply(&Call{
			Op: OpMremap, Time: 100 + i, Ret: int64(to * page),
			Args: [6]uint64{from * page, 16 * page, 16 * page, 3, to * page},
		})
	}
	e := s.Apply(&Call{Op: OpMprotect, Time: 20, Args: [6]uint64{0x10 * page, page, 1}})
	if !slices.Contains(e.Doubts, pages(0x10, 0x20)) {
		t.Errorf("doubts %v, want where the memory is now", e.Doubts)
	}
}

func TestChunksAreJoinedWhenTheyEmpty(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for i := range uint64(4096) {
		s.Apply(anonMmap(2*i+1, 2*i+2, 10+i))
	}
	// Nine unmappings of ten mappings each leave a hole and a mapping.
	for i := range uint64(409) {
		s.Apply(munmap(20*i+2, 20*i+20, 5000+i))
	}
	if err := s.checkInvariants(); err != nil {
		t.Fatal(err)
	}
	if cells, chunks := s.list.cells, len(s.list.chunks); chunks > cells/10 {
		t.Errorf("%d cells lie in %d chunks", cells, chunks)
	}
}

func TestARefusedForkAdviceIsDoubtedInTheChild(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(&Call{Op: OpMmap, Time: 10, Ret: 0x10000, Args: [6]uint64{0, 0x8000, 3, 0x22}})
	s.Apply(&Call{Op: OpMadvise, Time: 20, Ret: -22, Args: [6]uint64{0x12000, 0x2000, madvDontFork}})
	if s.Doubtful() {
		t.Errorf("doubts %v: what is mapped here is known", s.Doubts())
	}
	child, doubts := s.Clone(30)
	if want := (procmaps.Range{Start: 0x12000, End: 0x14000}); len(doubts) != 1 || doubts[0] != want || !child.Doubtful() {
		t.Errorf("doubts in the child %v, want %v", doubts, want)
	}
}

// Two reads of maps may overlap, and a shmdt be applied between them.
func TestAPieceThatOnlyAnOlderReadShowsIsDoubtedAfterItsShmdt(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(&Call{
		Op: OpShmat, Time: 10, Ret: 0x10 * page, VMA: pages(0x10, 0x16),
		File: File{Dev: procmaps.Device{Minor: 1}, Inode: 1},
	})
	// It came to the end after the shmdt.
	s.Reread(Read{Range: pages(0x14, 0x16), Began: 15, Ended: 35})
	s.Apply(&Call{Op: OpShmdt, Time: 30, Args: [6]uint64{0x10 * page}})
	row := procmaps.Mapping{
		Range: pages(0x14, 0x16), Mode: procmaps.Read | procmaps.Write | procmaps.Shared,
		Offset: 4 * page, Dev: procmaps.Device{Minor: 1}, Inode: 1, Name: "/SYSV00000000 (deleted)",
	}
	s.Reread(Read{Range: row.Range, Began: 20, Ended: 25, Rows: rowsOf([]procmaps.Mapping{row})})
	want := []procmaps.Range{pages(0x10, 0x14), pages(0x14, 0x16)}
	if d := cmp.Diff(want, s.Doubts()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestADoubtAmongThePiecesOfASegmentOutlivesItsShmdt(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(&Call{
		Op: OpShmat, Time: 10, Ret: 0x10 * page, VMA: pages(0x10, 0x16),
		File: File{Dev: procmaps.Device{Minor: 1}, Inode: 1},
	})
	s.Doubt(pages(0x12, 0x14), 20)
	s.Apply(&Call{Op: OpShmdt, Time: 30, Args: [6]uint64{0x10 * page}})
	// What is there instead of the piece has stayed, but that was before the shmdt.
	row := procmaps.Mapping{Range: pages(0x12, 0x14), Mode: procmaps.Read}
	s.Reread(Read{Range: row.Range, Began: 25, Rows: rowsOf([]procmaps.Mapping{row})})
	if d := cmp.Diff([]procmaps.Range{pages(0x10, 0x16)}, s.Doubts()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAShmdtWhosePiecesMayBeInDoubtIsNoViolation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		doubt procmaps.Range
		want  int
	}{
		{"above the address", pages(0x30, 0x31), 0},
		{"below it", pages(0x8, 0x9), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{})
			s.SetComplete(true)
			s.Doubt(tc.doubt, 20)
			if e := s.Apply(&Call{Op: OpShmdt, Time: 30, Args: [6]uint64{0x10 * page}}); e.Violations != tc.want {
				t.Errorf("%d violations, want %d", e.Violations, tc.want)
			}
		})
	}
}

func TestARefusedForkAdviceFollowsItsMemory(t *testing.T) {
	t.Parallel()
	advice := Call{Op: OpMadvise, Time: 20, Ret: -22, Args: [6]uint64{0x12 * page, 2 * page, madvDontFork}}
	move := Call{
		Op: OpMremap, Time: 30, Ret: 0x20 * page,
		Args: [6]uint64{0x10 * page, 4 * page, 4 * page, 3, 0x20 * page},
	}
	for _, tc := range []struct {
		name  string
		calls []Call
	}{
		{"in order", []Call{advice, move}},
		{"when it arrives late", []Call{move, advice}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{})
			s.Apply(anonMmap(0x10, 0x14, 10))
			for i := range tc.calls {
				s.Apply(&tc.calls[i])
			}
			_, doubts := s.Clone(40)
			if d := cmp.Diff([]procmaps.Range{pages(0x12, 0x14), pages(0x20, 0x24)}, doubts); d != "" {
				t.Errorf("doubts in the child (-want +got):\n%s", d)
			}
		})
	}
}

// What is written all the time hides nothing but itself: each register is compared, or not,
// by its own stamp.
func TestARegisterExcusesOnlyWhatItCovers(t *testing.T) {
	t.Parallel()
	r := pages(0x10, 0x14)
	file := File{Dev: procmaps.Device{Major: 8}, Inode: 7, Name: "/lib/a", Class: ClassRegular}
	ofFile := &Call{Op: OpMmap, Time: 10, Ret: int64(r.Start), Args: [6]uint64{0, r.Len(), 1, 2, 3, 0}, File: file}
	at := func(c *Call, now uint64) *Call { c.Time = now; return c }
	call := func(op Op, args ...uint64) *Call {
		c := &Call{Op: op}
		copy(c.Args[:], args)
		return c
	}
	same := procmaps.Mapping{Range: r, Mode: procmaps.Read, Dev: file.Dev, Inode: 7, Name: "/lib/a"}
	anon := procmaps.Mapping{Range: r, Mode: procmaps.Read | procmaps.Write}
	changed := func(m procmaps.Mapping, change func(*procmaps.Mapping)) []procmaps.Mapping {
		change(&m)
		return []procmaps.Mapping{m}
	}
	otherFile := changed(same, func(m *procmaps.Mapping) { m.Inode = 8 })
	otherMode := changed(same, func(m *procmaps.Mapping) { m.Mode = procmaps.Exec })
	shared := changed(same, func(m *procmaps.Mapping) { m.Mode |= procmaps.Shared })
	moved := changed(same, func(m *procmaps.Mapping) { m.Offset = page })
	named := changed(anon, func(m *procmaps.Mapping) { m.Name = "[anon:b]" })
	protect := call(OpMprotect, r.Start, r.Len(), 1)
	fork, dofork := call(OpMadvise, r.Start, r.Len(), madvDontFork), call(OpMadvise, r.Start, r.Len(), madvDoFork)
	name := &Call{Op: OpSetVMA, Name: "a", Args: [6]uint64{0, 0, r.Start, r.Len()}}
	for _, c := range []struct {
		name       string
		first      *Call // before the read
		during     *Call
		rows       []procmaps.Mapping
		drift      What
		unverified bool
	}{
		{"a newer mode and the same row", ofFile, protect, []procmaps.Mapping{same}, 0, false},
		{"a newer mode and another file", ofFile, protect, otherFile, FileOf, false},
		{"a newer mode and shared memory", ofFile, protect, shared, SharedOf, false},
		{"a newer mode and another offset", ofFile, protect, moved, OffsetOf, false},
		{"a newer mode and no mapping", ofFile, protect, nil, Extra, false},
		{"a newer mode and another one", ofFile, protect, otherMode, 0, true},
		{"a newer advice and another mode", ofFile, dofork, otherMode, ModeOf, false},
		{"a newer advice and no mapping", ofFile, fork, nil, Extra, false},
		{"a newer advice where nothing is", nil, dofork, []procmaps.Mapping{anon}, Missing, false},
		{"a newer mode where nothing is", nil, protect, []procmaps.Mapping{anon}, Missing, false},
		{"a newer name and another one", anonMmap(0x10, 0x14, 10), name, named, 0, true},
		{"a newer name and another mode", anonMmap(0x10, 0x14, 10), name, otherMode[:0], Extra, false},
		{"a newer mapping and another file", nil, ofFile, otherFile, 0, true},
		{"a newer mapping and none", nil, ofFile, nil, 0, true},
		{"a mapping that is gone meanwhile", ofFile, munmap(0x10, 0x14, 0), []procmaps.Mapping{same}, 0, true},
	} {
		s := New(Options{})
		if c.first != nil {
			s.Apply(at(c.first, 10))
		}
		s.Apply(at(c.during, 30))
		drift, unverified := s.Verify(c.rows, All, 20)
		var got What
		if len(drift) > 0 {
			got = drift[0].What
		}
		want := []procmaps.Range(nil)
		if c.unverified {
			want = []procmaps.Range{r}
		}
		if got != c.drift || len(drift) > 1 || !slices.Equal(unverified, want) {
			t.Errorf("%s: drift %+v, unverified %v; want %q and %v", c.name, drift, unverified, c.drift, want)
		}
	}
}

func TestAnAuditOfARangeStaysWithinIt(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x14, 10))
	s.Apply(anonMmap(0x20, 0x24, 10))
	row := procmaps.Mapping{Range: pages(0x22, 0x30), Mode: procmaps.Read | procmaps.Write}
	drift, unverified := s.Verify([]procmaps.Mapping{row}, pages(0x21, 0x26), math.MaxUint64)
	var got []string
	for _, d := range drift {
		got = append(got, d.What.String()+" "+pagesText(d.Range))
	}
	if d := cmp.Diff([]string{"extra 21-22", "missing 24-26"}, got); d != "" || len(unverified) > 0 {
		t.Errorf("unverified %v (-want +got):\n%s", unverified, d)
	}
}

func TestARefusedForkAdviceIsForgottenWithItsMemory(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x14, 10))
	s.Apply(&Call{Op: OpMadvise, Time: 20, Ret: -22, Args: [6]uint64{0x10 * page, 4 * page, madvDontFork}})
	s.Prune(25)
	if _, doubts := s.Clone(26); !slices.Equal(doubts, []procmaps.Range{pages(0x10, 0x14)}) {
		t.Errorf("with the memory there, a child's doubts are %v", doubts)
	}
	s.Apply(munmap(0x10, 0x14, 30))
	at := uint64(30)
	for i := range uint64(200) {
		to := 0x20 + 8*i
		s.Apply(anonMmap(0x10, 0x14, at+1))
		s.Apply(&Call{Op: OpMremap, Time: at + 2, Ret: int64(to * page), Args: [6]uint64{0x10 * page, 4 * page, 4 * page, 3, to * page}})
		s.Apply(munmap(to, to+4, at+3))
		s.Prune(at)
		at += 10
	}
	if _, doubts := s.Clone(at); len(doubts) != 0 {
		t.Errorf("without it, they are %v", doubts)
	}
}

// A mapping that cannot be split stops an mprotect with the errno of a bad argument, and what is
// below it has changed by then.
func TestAnMprotectIsStoppedByWhatCannotBeSplit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		class Class
		prot  uint64
		want  []procmaps.Range
	}{
		{ClassRegular, 0, nil},
		{ClassMemfd, 0, nil},
		{ClassDevice, 0, []procmaps.Range{pages(0x10, 0x12)}},
		{ClassAnonInode, 0, []procmaps.Range{pages(0x10, 0x12)}},
		{ClassHugeTLB, 1, []procmaps.Range{pages(0x10, 0x12)}},
	} {
		s := New(Options{})
		s.Apply(anonMmap(0x10, 0x11, 10))
		s.Apply(&Call{
			Op: OpMmap, Time: 20, Ret: 0x11 * page, File: File{Dev: procmaps.Device{Minor: 1}, Inode: 5, Class: tc.class},
			Args: [6]uint64{0x11 * page, 5 * page, 1, mapFixed | mapShared, 9},
		})
		s.Apply(&Call{Op: OpMprotect, Time: 30, Ret: -errnoInvalid, Args: [6]uint64{0x10 * page, 2 * page, tc.prot}})
		if d := cmp.Diff(tc.want, s.Doubts(), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("class %d: doubts (-want +got):\n%s", tc.class, d)
		}
	}
}

// The kernel rounds the length up to the pages of the file, which may be of any size.
func TestAFailedMmapThatFreedMoreThanAHugePageIsDoubtedUpToTheEnd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		pageSize uint64
		freed    uint64 // bytes
		want     []procmaps.Range
	}{
		{"what was named", 4096, 4096, nil},
		{"a huge page of the default size", 4096, 2 << 20, nil},
		{"a huge page of the default size, of pages of 64 KiB", 64 << 10, 512 << 20, nil},
		{"more", 4096, 1 << 30, []procmaps.Range{{Start: 1 << 30, End: 1<<30 + 4096}, {Start: 1<<30 + 4096, End: kernelHalf}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{PageSize: tc.pageSize})
			s.Apply(&Call{Op: OpMmap, Time: 10, Ret: 1 << 30, Args: [6]uint64{0, 1 << 30, 3, mapAnonymous | 2}})
			s.Apply(&Call{
				Op: OpMmap, Time: 20, Ret: -errnoNoMemory, Pages: -int64(tc.freed / tc.pageSize),
				Args: [6]uint64{1 << 30, tc.pageSize, 3, mapFixed | mapShared, 9},
			})
			if d := cmp.Diff(tc.want, s.Doubts(), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("doubts (-want +got):\n%s", d)
			}
			want := 1<<30 - tc.freed
			if tc.want != nil {
				want = 1 << 30
			}
			if got := s.Totals().Mapped; got != want {
				t.Errorf("%d bytes are mapped, want %d", got, want)
			}
		})
	}
}

func TestACallOlderThanTheHorizonPutsInDoubtAllThatItMayHaveChanged(t *testing.T) {
	t.Parallel()
	everything := procmaps.Range{End: kernelHalf}
	move := &Call{Op: OpMremap, Time: 30, Ret: 0x20 * page, Args: [6]uint64{0x10 * page, 2 * page, 2 * page, 3, 0x20 * page}}
	for _, tc := range []struct {
		name  string
		newer *Call // than the horizon, which is 25, or older
		late  *Call
		want  []procmaps.Range
	}{
		{"a segment may have any length", nil, &Call{Op: OpShmdt, Time: 20, Args: [6]uint64{0x10 * page}}, []procmaps.Range{{Start: 0x10 * page, End: kernelHalf}}},
		{"a mapping that grows down may have begun anywhere below", nil, &Call{
			Op: OpMprotect, Time: 20, Args: [6]uint64{0x10 * page, page, 1 | protGrowsDown},
		}, []procmaps.Range{{End: 0x11 * page}}},
		{"a newer mremap has taken it along", move, anonMmap(0x10, 0x12, 20), []procmaps.Range{pages(0x10, 0x12), pages(0x20, 0x22)}},
		{"one that is forgotten may have taken it anywhere", &Call{
			Op: OpMremap, Time: 22, Ret: move.Ret, Args: move.Args,
		}, anonMmap(0x10, 0x12, 20), []procmaps.Range{everything}},
		{"what had failed half-way, too", &Call{
			Op: OpMremap, Time: 22, Ret: move.Ret, Args: move.Args,
		}, &Call{Op: OpMprotect, Time: 20, Ret: -errnoNoMemory, Args: [6]uint64{0x10 * page, 2 * page, 1}}, []procmaps.Range{everything}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{})
			s.Apply(anonMmap(0x10, 0x12, 10))
			if tc.newer != nil {
				s.Apply(tc.newer)
			}
			s.Prune(25)
			if e := s.Apply(tc.late); !slices.Equal(e.Doubts, tc.want) || !slices.Equal(s.Doubts(), tc.want) {
				t.Errorf("doubts %v, open %v; want %v", e.Doubts, s.Doubts(), tc.want)
			}
		})
	}
}

func TestAChildForkedBeforeTheHorizonIsInDoubt(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x14, 10))
	s.Apply(anonMmap(0x20, 0x24, 30))
	s.Prune(40)
	child, doubts := s.Clone(20)
	want := []procmaps.Range{{End: kernelHalf}}
	if !slices.Equal(doubts, want) || !slices.Equal(child.Doubts(), want) {
		t.Errorf("doubts %v", doubts)
	}
}
