package space

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
)

// yard is a part of this process' own address space, where the kernel itself puts nothing
// (it begins at the top), and the tree of it.
type yard struct {
	t    *testing.T
	r    *rand.Rand
	ps   uint64
	at   procmaps.Range
	tree *Space
	maps *procmaps.Process
	log  []string
	now  uint64
	// How many calls have succeeded, and how many of these over a gap.
	calls, gaps map[string]int
}

const yardPages = 48

// page is an address in the yard.
func (y *yard) page(n uint64) uint64 { return y.at.Start + n*y.ps }

// some returns a range, which may be mapped or not, or in part.
func (y *yard) some() (addr, n uint64) {
	from := y.r.Uint64N(yardPages)
	to := from + 1 + y.r.Uint64N(min(12, yardPages-from))
	return y.page(from), (to - from) * y.ps
}

// rows are what the kernel has there.
func (y *yard) rows() []procmaps.Mapping {
	y.t.Helper()
	rows, err := y.maps.Query(y.at)
	if err != nil {
		y.t.Fatal(err)
	}
	return rows
}

func bytesOf(rows []procmaps.Mapping, in procmaps.Range) (n uint64) {
	for _, m := range rows {
		if m.Overlaps(in) {
			n += m.Intersect(in).Len()
		}
	}
	return n
}

// do makes one call and applies it to the tree.
func (y *yard) do(name string, op Op, nr uintptr, args ...uint64) {
	y.t.Helper()
	c := Call{Op: op, TID: 1}
	copy(c.Args[:], args)
	before := y.rows()
	over := procmaps.Range{Start: args[0], End: args[0] + args[1]}
	ret, _, errno := unix.Syscall6(nr, uintptr(c.Args[0]), uintptr(c.Args[1]), uintptr(c.Args[2]),
		uintptr(c.Args[3]), uintptr(c.Args[4]), uintptr(c.Args[5]))
	y.now += 10
	c.Time, c.Ret = y.now, int64(ret)
	if errno != 0 {
		c.Ret = -int64(errno)
	}
	y.log = append(y.log, fmt.Sprintf("%s %#x = %d", name, args, c.Ret))
	after := y.rows()
	c.Pages = (int64(bytesOf(after, y.at)) - int64(bytesOf(before, y.at))) / int64(y.ps)
	if errno != 0 && c.Pages == 0 && op != OpMprotect {
		return // it has changed nothing that maps shows
	}
	if errno == 0 {
		y.calls[name]++
		if bytesOf(before, over) < over.Len() {
			y.gaps[name]++
		}
	}
	e := y.tree.Apply(&c)
	if e.Violations != 0 {
		y.t.Fatalf("the kernel did what is held to be impossible: %v\n%s", e.Reason, y.text())
	}
	if len(e.Doubts) > 0 {
		y.read(after) // as the tracer would
	}
	if drift, _ := y.tree.Verify(after, y.at, ^uint64(0)); len(drift) > 0 {
		y.t.Fatalf("%v %s: tree %+v, kernel %+v\n%s", drift[0].Range, drift[0].What, drift[0].Tree, drift[0].Row, y.text())
	}
	if err := y.tree.checkInvariants(); err != nil {
		y.t.Fatalf("%v\n%s", err, y.text())
	}
}

func (y *yard) text() string { return strings.Join(y.log[max(0, len(y.log)-30):], "\n") }

func (y *yard) read(rows []procmaps.Mapping) {
	y.now += 10
	rd := Read{Range: y.at, Began: y.now, Op: OpSeed}
	for _, m := range rows {
		rd.Rows = append(rd.Rows, Row{Mapping: m})
	}
	y.tree.Reread(rd)
	y.now += 10
}

// step makes a call at random.
func (y *yard) step() {
	const private, shared = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, unix.MAP_SHARED | unix.MAP_ANONYMOUS
	addr, n := y.some()
	to, m := y.some()
	prot := []uint64{unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE, unix.PROT_NONE}[y.r.IntN(3)]
	anon := []uint64{private, private, shared}[y.r.IntN(3)]
	remap := func(name string, newLen uint64, flags ...uint64) {
		args := []uint64{addr, n, newLen, 0, to}
		for _, f := range flags {
			args[3] |= f
		}
		y.do(name, OpMremap, unix.SYS_MREMAP, args...)
	}
	switch y.r.IntN(16) {
	case 0, 1, 2, 3:
		y.do("mmap", OpMmap, unix.SYS_MMAP, addr, n, prot, anon|unix.MAP_FIXED, ^uint64(0), 0)
	case 4:
		y.do("mmap of what is free", OpMmap, unix.SYS_MMAP, addr, n, prot, anon|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
	case 5, 6:
		y.do("munmap", OpMunmap, unix.SYS_MUNMAP, addr, n)
	case 7, 8:
		y.do("mprotect", OpMprotect, unix.SYS_MPROTECT, addr, n, prot)
	case 9:
		advice := []uint64{unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_DONTNEED}[y.r.IntN(3)]
		y.do("madvise", OpMadvise, unix.SYS_MADVISE, addr, n, advice)
	case 10, 11:
		remap("mremap to less", y.ps*(1+y.r.Uint64N(n/y.ps)))
	case 12:
		remap("mremap in place", m)
	case 13:
		remap("mremap to less, moved", min(m, n), unix.MREMAP_MAYMOVE, unix.MREMAP_FIXED)
	case 14:
		remap("mremap of equal lengths, moved", n, unix.MREMAP_MAYMOVE, unix.MREMAP_FIXED)
	case 15:
		remap("mremap to any, moved", m, unix.MREMAP_MAYMOVE, unix.MREMAP_FIXED)
	}
}

// TestWhatTheKernelDoesOverGapsIsNoViolation makes calls at random over ranges with and
// without gaps. Which of them are legal is the running kernel's affair.
func TestWhatTheKernelDoesOverGapsIsNoViolation(t *testing.T) {
	maps, err := procmaps.Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	calls, gaps := make(map[string]int), make(map[string]int)
	forSeeds(t, 12, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		y := &yard{t: t, r: r, ps: uint64(os.Getpagesize()), maps: maps, now: 10, calls: calls, gaps: gaps}
		y.at = procmaps.Range{Start: 0x20000000, End: 0x20000000 + yardPages*y.ps}
		y.tree = New(Options{PageSize: y.ps})
		if rows := y.rows(); len(rows) > 0 {
			t.Skipf("something is mapped there: %v", rows)
		}
		y.tree.SetComplete(true)
		defer func() {
			if err := unmap(y.at); err != nil {
				t.Error(err)
			}
		}()
		for range 300 {
			y.step()
		}
	})
	for _, name := range []string{"munmap", "mremap to less", "mremap to less, moved"} {
		if gaps[name] == 0 && !t.Failed() {
			t.Errorf("%s: never legal over a gap, of %d calls", name, calls[name])
		}
	}
	names := make([]string, 0, len(calls))
	for name := range calls {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Logf("%-32s %5d succeeded, %5d over a gap", name, calls[name], gaps[name])
	}
}

func unmap(r procmaps.Range) error {
	if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, uintptr(r.Start), uintptr(r.Len()), 0); errno != 0 {
		return errno
	}
	return nil
}
