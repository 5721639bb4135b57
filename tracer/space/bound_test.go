package space

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// The kernel's count of pages shows what a call only pretends, or a tree is wrong about.
func TestACallThatChangesAnotherNumberOfPagesIsImpossible(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		call *Call
		want Violation
	}{
		{"munmap of what is there", counted(munmap(0x10, 0x14, 20), -4), 0},
		{"munmap over a hole", counted(munmap(0x12, 0x24, 20), -6), 0},
		{"munmap that did nothing", counted(munmap(0x10, 0x14, 20), 0), Miscounted},
		{"munmap of another size", counted(munmap(0x10, 0x14, 20), -5), Miscounted},
		{"mmap", counted(anonMmap(0x30, 0x32, 20), 2), 0},
		{"mmap of more, as of huge pages", counted(anonMmap(0x30, 0x32, 20), 512), Miscounted},
		{"mprotect in the place of an unmapping", counted(&Call{Op: OpMprotect, Time: 20, Args: [6]uint64{0x10 * page, page, 1}}, -1), Miscounted},
		{"what is not counted", munmap(0x10, 0x14, 20), 0},
		{"what is older than something that was read", counted(munmap(0x10, 0x14, 5), 0), 0},
	} {
		s := New(Options{})
		seed(s, 10, procmaps.Mapping{Range: pages(0x10, 0x14), Mode: 3}, procmaps.Mapping{Range: pages(0x20, 0x28), Mode: 3})
		s.SetComplete(true)
		if eff := s.Apply(c.call); eff.Reason != c.want {
			t.Errorf("%s: %d violations, %v; want %v", c.name, eff.Violations, eff.Reason, c.want)
		}
	}
}

func counted(c *Call, pages int64) *Call {
	c.Pages, c.Counted = pages, true
	return c
}

// No count is compared where the tree itself is not sure.
func TestDoubtExcusesACount(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.SetComplete(true)
	s.Apply(anonMmap(0x10, 0x14, 10))
	s.Doubt(pages(0x12, 0x13), 15)
	if eff := s.Apply(counted(munmap(0x10, 0x14, 20), -3)); eff.Violations != 0 {
		t.Errorf("%d violations, %v", eff.Violations, eff.Reason)
	}
}

// What was seen of a mapping prevails over the arguments of its call.
func TestAMappingIsWhatWasFoundThere(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	file := File{Dev: procmaps.Device{Major: 8}, Inode: 7, Class: ClassRegular, Name: "/f"}
	s.Apply(&Call{
		Op: OpMmap, Time: 10, Ret: 0x10 * page, Exec: true, Args: [6]uint64{0, page, 1, mapShared}, File: file,
		Found: true, Mode: procmaps.Read | procmaps.Shared, Flags: DontFork,
	})
	e, _ := s.At(0x10 * page)
	if e.Mode != procmaps.Read|procmaps.Shared || e.Flags != DontFork || e.Name != "/f" || s.Doubtful() {
		t.Errorf("got %+v, doubts %v", e, s.Doubts())
	}
	if child, doubts := s.Clone(20); len(doubts) != 0 || child.Totals().Mapped != 0 {
		t.Errorf("a child has %d bytes of it, doubts %v", child.Totals().Mapped, doubts)
	}
	// What was not found is to be read, here and in a child.
	s.Apply(&Call{Op: OpMmap, Time: 30, Ret: 0x20 * page, Args: [6]uint64{0, page, 1, mapShared}, Unsure: true})
	if d := cmp.Diff([]procmaps.Range{pages(0x20, 0x21)}, s.Doubts()); d != "" {
		t.Errorf("doubts (-want +got):\n%s", d)
	}
	s.Reread(Read{Range: pages(0x20, 0x21), Began: 40, Rows: []Row{{Mapping: procmaps.Mapping{
		Range: pages(0x20, 0x21), Mode: procmaps.Read | procmaps.Shared, Dev: file.Dev, Inode: file.Inode, Name: "/f",
	}}}})
	if _, doubts := s.Clone(50); !slices.Contains(doubts, pages(0x20, 0x21)) || s.Doubtful() {
		t.Errorf("doubts %v, in a child %v", s.Doubts(), doubts)
	}
}

// With READ_IMPLIES_EXEC the kernel makes what can be read executable, but not what is of a
// mount without exec.
func TestImpliedExecOfFilesIsRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		call Call
		want []procmaps.Range
	}{
		{"mprotect of a file", Call{Op: OpMprotect, Args: [6]uint64{0x10 * page, page, 1}}, []procmaps.Range{pages(0x10, 0x11)}},
		{"mprotect of memory", Call{Op: OpMprotect, Args: [6]uint64{0x20 * page, page, 1}}, nil},
		{"remap_file_pages", Call{Op: OpRemapFilePages, Args: [6]uint64{0x10 * page, page, 0, 3}}, []procmaps.Range{pages(0x10, 0x11)}},
	} {
		s := New(Options{})
		seed(s, 10,
			procmaps.Mapping{Range: pages(0x10, 0x12), Mode: 1 | procmaps.Shared, Dev: procmaps.Device{Major: 8}, Inode: 7, Name: "/f"},
			procmaps.Mapping{Range: pages(0x20, 0x22), Mode: 1})
		c.call.Time, c.call.Exec = 20, true
		s.Apply(&c.call)
		if d := cmp.Diff(c.want, s.Doubts(), equateEmpty); d != "" {
			t.Errorf("%s: doubts (-want +got):\n%s", c.name, d)
		}
	}
}

var equateEmpty = cmp.Transformer("empty", func(r []procmaps.Range) []procmaps.Range { return slices.Concat(r) })

// A name given by prctl is what is seen of it: user memory may have another by then.
func TestANameIsDoubtedWhereItWasNotSeen(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x20, 10))
	s.Apply(&Call{
		Op: OpSetVMA, Time: 20, Name: "seen", Args: [6]uint64{0, 0, 0x12 * page, 6 * page},
		Found: true, VMA: pages(0x11, 0x15),
	})
	if d := cmp.Diff([]procmaps.Range{pages(0x15, 0x18)}, s.Doubts()); d != "" {
		t.Errorf("doubts (-want +got):\n%s", d)
	}
}

// Something has grown by so many pages, says the kernel, and not what.
func TestTheStackIsKnownToHaveGrownIfNothingElseCan(t *testing.T) {
	t.Parallel()
	row := func(lo, hi uint64, flags, known Flags) Row {
		return Row{Mapping: procmaps.Mapping{Range: pages(lo, hi), Mode: 3}, Flags: flags, Known: known}
	}
	gate := Row{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0xffffffffff600000, End: 0xffffffffff601000}, Name: "[vsyscall]"}}
	for _, c := range []struct {
		name string
		rows []Row
		call *Call
		want bool
	}{
		{name: "one stack", want: true},
		{"two pieces of it that touch", nil, &Call{Op: OpMprotect, Args: [6]uint64{0x85 * page, page, 1}}, true},
		{"a hole in it", nil, munmap(0x85, 0x86, 0), false},
		{"a copy of a page of it", nil, &Call{Op: OpMremap, Ret: 0x40 * page, Args: [6]uint64{0x80 * page, page, page, 7, 0x40 * page}}, false},
		{"another that grows", []Row{row(0x20, 0x21, GrowsDown, GrowsDown)}, nil, false},
		{"one of which that is not known", []Row{row(0x20, 0x21, 0, 0)}, nil, false},
		{"one of which it is known that it does not", []Row{row(0x20, 0x21, 0, GrowsDown)}, nil, true},
		{"its start is not in it any more", nil, munmap(0x8f, 0x90, 0), false},
	} {
		s := New(Options{})
		s.SetStack(0x8f*page + 8)
		s.Reread(Read{Range: All, Began: 10, Op: OpSeed, Rows: slices.Concat(c.rows, []Row{row(0x80, 0x90, GrowsDown, GrowsDown), gate})})
		if c.call != nil {
			c.call.Time = 20
			s.Apply(c.call)
		}
		if e, ok := s.Stack(); ok != c.want || ok && e.Start != 0x80*page {
			t.Errorf("%s: got %v, %t", c.name, e.Range, ok)
		}
	}
}

// A child is read if its parent may have taken advices that nobody saw, until all that may
// have taken them is gone.
func TestAdviceThatNobodySawIsDoubtedInTheChild(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.Apply(anonMmap(0x10, 0x12, 10))
	if _, doubts := s.Clone(15); len(doubts) != 0 {
		t.Errorf("before: doubts %v", doubts)
	}
	s.Undecoded(20)
	s.Apply(anonMmap(0x20, 0x22, 25))
	s.Undecoded(30) // the second may have taken it only now
	if _, doubts := s.Clone(40); !slices.Contains(doubts, All) || s.Doubtful() {
		t.Errorf("after: doubts %v, here %v", doubts, s.Doubts())
	}
	s.Apply(munmap(0x10, 0x12, 50))
	s.Prune(60)
	if _, doubts := s.Clone(70); !slices.Contains(doubts, All) {
		t.Errorf("of what came in between: doubts %v", doubts)
	}
	// process_madvise may name many ranges.
	s = New(Options{})
	s.Apply(anonMmap(0x10, 0x12, 10))
	s.Apply(&Call{Op: OpMadvise, Sub: SubProcessMadvise, Time: 20, Ret: 4096, Args: [6]uint64{0x10 * page, page, madvDontFork}})
	if _, doubts := s.Clone(30); !slices.Contains(doubts, All) {
		t.Errorf("process_madvise: doubts %v", doubts)
	}
}

// PR_SET_MM_MAP moves the heap without a change of what is mapped.
func TestALayoutThatIsSetNamesTheHeap(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.SetBrk(0x10*page, 0x12*page)
	s.Apply(anonMmap(0x10, 0x12, 10))
	s.SetLayout(20, 0x40*page, 0x40*page, 0)
	s.Apply(&Call{Op: OpBrk, Time: 30, OldBrk: 0x40 * page, Ret: 0x42 * page})
	var got []string
	for _, r := range s.Regions(nil) {
		got = append(got, pagesText(r.Range)+" "+r.Kind.String())
	}
	if d := cmp.Diff([]string{"10-12 anon", "40-42 heap"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s.Pages() != 4 {
		t.Errorf("%d pages", s.Pages())
	}
}

// What a file is called says nothing of what it is, unless only the kernel gives names there.
func TestAFileIsNoSegmentBecauseItIsCalledSo(t *testing.T) {
	t.Parallel()
	shm := procmaps.Device{Minor: 1}
	row := func(lo uint64, dev procmaps.Device, offset uint64, name string) procmaps.Mapping {
		return procmaps.Mapping{
			Range: pages(lo, lo+1), Mode: procmaps.Read | procmaps.Shared, Dev: dev, Inode: lo, Offset: offset, Name: name,
		}
	}
	other := procmaps.Device{Major: 8}
	s := New(Options{Shm: shm})
	seed(s, 5,
		row(0x11, other, page, "/SYSV00000000 (deleted)"), row(0x12, shm, 2*page, "/SYSV00000000 (deleted)"),
		row(0x20, other, 0, "/dev/zero (deleted)"), row(0x30, shm, 0, "/dev/zero (deleted)"))
	var got []string
	for _, r := range s.Regions(nil) {
		got = append(got, pagesText(r.Range)+" "+r.Kind.String())
	}
	if d := cmp.Diff([]string{"11-12 file", "12-13 shm", "20-21 file", "30-31 shm"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	s.Apply(&Call{Op: OpShmdt, Time: 20, Args: [6]uint64{0x10 * page}})
	if _, ok := s.At(0x11 * page); !ok {
		t.Error("shmdt took the file")
	}
	if _, ok := s.At(0x12 * page); ok {
		t.Error("shmdt left the segment")
	}
}

// One that was there before is one mapping, and is known to go.
func TestASegmentThatWasReadIsDetached(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	seed(s, 5, procmaps.Mapping{
		Range: pages(0x10, 0x18), Mode: procmaps.Read | procmaps.Shared, Dev: procmaps.Device{Minor: 1}, Inode: 5, Name: "/SYSV00000000 (deleted)",
	})
	s.SetComplete(true)
	eff := s.Apply(counted(&Call{Op: OpShmdt, Time: 40, Args: [6]uint64{0x10 * page}}, -8))
	if s.Doubtful() || eff.Violations > 0 || s.Totals().Mapped != 0 {
		t.Errorf("doubts %v, %d violations, %d bytes are left", s.Doubts(), eff.Violations, s.Totals().Mapped)
	}
}

// A segment may be attached twice, and pieces of one be moved among those of the other: which
// of them shmdt takes away, the tree does not know; the less so if all became one extent.
func TestPiecesOfTwoAttachmentsAreDoubted(t *testing.T) {
	t.Parallel()
	segment := File{Dev: procmaps.Device{Minor: 1}, Inode: 5}
	for _, coarse := range []bool{false, true} {
		s := New(Options{})
		s.SetComplete(true)
		for i, at := range []uint64{0x10, 0x40} {
			s.Apply(&Call{Op: OpShmat, Time: uint64(10 + i), Ret: int64(at * page), VMA: pages(at, at+8), File: segment})
		}
		s.Apply(munmap(0x14, 0x18, 20))
		s.Apply(&Call{Op: OpMremap, Time: 30, Ret: 0x14 * page, Args: [6]uint64{0x44 * page, 4 * page, 4 * page, 3, 0x14 * page}})
		if coarse {
			s.Prune(35)
			if s.Coarsen(0); s.Cells() != 2 {
				t.Fatalf("%d extents, want what is in a row to become one", s.Cells())
			}
		}
		eff := s.Apply(counted(&Call{Op: OpShmdt, Time: 40, Args: [6]uint64{0x10 * page}}, -4))
		if d := cmp.Diff([]procmaps.Range{pages(0x10, 0x18)}, s.Doubts()); d != "" || eff.Violations > 0 {
			t.Errorf("coarse %t: %d violations, doubts (-want +got):\n%s", coarse, eff.Violations, d)
		}
	}
}
