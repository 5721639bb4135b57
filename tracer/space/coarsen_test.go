package space

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/maptrace/maptrace/procmaps"
)

// sited gives calls sites: a few, so that neighbours have the same and others.
func sited(calls []*Call, sites uint64) []*Call {
	for _, c := range calls {
		c.Site = 1 + c.Time/10%sites
	}
	return calls
}

// rowsOfTree are the regions without what is known of single calls.
func rowsOfTree(s *Space) []Region {
	all := s.Regions(nil)
	for i := range all {
		all[i].Extents, all[i].Ops = 0, 0
	}
	return all
}

// registers are those of all memory, with their stamps.
func registers(s *Space) string {
	var b strings.Builder
	var last cell
	flush := func() {
		if last.end > 0 {
			fmt.Fprintf(&b, "%s %+v\n", pagesText(last.rng()), last)
		}
	}
	for p := s.list.begin(); s.list.has(p); p = s.list.next(p) {
		c := *s.list.cell(p)
		c.op, c.tid, c.born, c.site, c.grantAt, c.grantSite, c.ops, c.extents = 0, 0, 0, 0, 0, 0, 0, 0
		if c.flag &^= Inherited; continues(&last, &c) {
			last.end = c.end
			continue
		}
		flush()
		last = c
	}
	flush()
	return b.String()
}

// mergedExtents are where several extents have become one.
func mergedExtents(s *Space) (all []procmaps.Range) {
	for p := s.list.begin(); s.list.has(p); p = s.list.next(p) {
		if c := s.list.cell(p); c.extents > 1 {
			all = append(all, c.rng())
		}
	}
	return all
}

// heldBy is how many bytes each site has to answer for.
func heldBy(s *Space) map[uint64]uint64 {
	held := make(map[uint64]uint64)
	for e := range s.Extents(All) {
		_, site := e.Blame()
		held[site] += e.Len()
	}
	return held
}

// lostBy is how many bytes of each site a call has taken away.
func lostBy(e *Effect) map[string]uint64 {
	lost := make(map[string]uint64)
	for i := range e.Displaced {
		d := &e.Displaced[i]
		_, site := d.Blame()
		lost[fmt.Sprint(d.How, site, d.Mode, d.Kind)] += d.Len()
	}
	return lost
}

func TestACoarsenedTreeHasTheSameRegistersAndBytesBySite(t *testing.T) {
	t.Parallel()
	coarser := 0
	forSeeds(t, 32, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, []uint64{24, 64, 300}[r.IntN(3)], true)
		how := []coarseness{similarAge, sameSites}[r.IntN(2)]
		plain, coarse := New(Options{Reports: true}), New(Options{Reports: true})
		calls, _ := k.history(400)
		for i, c := range sited(calls, 1+r.Uint64N(3)) {
			merged := mergedExtents(coarse)
			a, b := plain.Apply(c), coarse.Apply(c)
			if d := cmp.Diff(lostBy(&a), lostBy(&b)); d != "" {
				t.Fatalf("%s took away (-plain +coarse):\n%s%s", c.text(), d, listing(calls[:i+1]))
			}
			if c.Op == OpShmdt && slices.ContainsFunc(b.Displaced, func(d Displaced) bool { return slices.ContainsFunc(merged, d.Overlaps) }) {
				// Extents that became one may have been of two attachments, so what it took
				// away is read.
				for _, d := range b.Displaced {
					if !slices.ContainsFunc(b.Doubts, func(r procmaps.Range) bool { return r.Covers(d.Range) }) {
						t.Fatalf("%s took %s away without a doubt\n%s", c.text(), pagesText(d.Range), listing(calls[:i+1]))
					}
				}
				b.Doubts, coarse.open = a.Doubts, slices.Clone(plain.open) // as read
			}
			a.Displaced, b.Displaced, a.Now, b.Now = nil, nil, Extent{}, Extent{}
			if d := cmp.Diff(a, b, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%s had another effect (-plain +coarse):\n%s%s", c.text(), d, listing(calls[:i+1]))
			}
			if r.IntN(10) != 0 {
				continue
			}
			before := c.Time - r.Uint64N(100)%c.Time
			plain.Prune(before)
			coarse.Prune(before)
			plain.compact(exact)
			coarse.compact(how)
			if coarse.Cells() < plain.Cells() {
				coarser++
			}
			if err := coarse.checkInvariants(); err != nil {
				t.Fatalf("after %s: %v\n%s", c.text(), err, listing(calls[:i+1]))
			}
			if d := cmp.Diff(rowsOfTree(plain), rowsOfTree(coarse)); d != "" {
				t.Fatalf("after %s the regions are (-plain +coarse):\n%s%s", c.text(), d, listing(calls[:i+1]))
			}
			if d := cmp.Diff(registers(plain), registers(coarse)); d != "" {
				t.Fatalf("after %s the registers are (-plain +coarse):\n%s%s", c.text(), d, listing(calls[:i+1]))
			}
			if d := cmp.Diff(heldBy(plain), heldBy(coarse)); d != "" {
				t.Fatalf("after %s the sites hold (-plain +coarse):\n%s%s", c.text(), d, listing(calls[:i+1]))
			}
		}
	})
	t.Cleanup(func() {
		if coarser == 0 && !t.Failed() {
			t.Error("no tree was coarser than the other")
		}
	})
}

// What is applied late, and what is older than a horizon that was moved because there was
// too much, are wrong only where they are in doubt; reads heal that.
func TestACoarsenedTreeIsWrongOnlyWithinDoubt(t *testing.T) {
	t.Parallel()
	forSeeds(t, 150, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, 24+r.Uint64N(40), r.IntN(2) == 0)
		calls, _ := k.history(10 + r.IntN(150))
		order := jittered(r, calls)
		s := New(Options{Reports: r.IntN(2) == 0})
		for _, c := range sited(order, 2) {
			s.Apply(c)
			if r.IntN(8) == 0 {
				s.Prune(s.newest - min(s.newest, r.Uint64N(40)))
				s.Coarsen(r.IntN(8))
			}
			if err := s.checkInvariants(); err != nil {
				t.Fatalf("after %s: %v\n%s", c.text(), err, listing(order))
			}
		}
		for _, u := range s.unadvised { // which matters to children only
			k.o.flagless = append(k.o.flagless, u.Range)
		}
		if d := k.o.diff(s, s.Doubts()); d != "" {
			t.Fatalf("wrong outside of doubt %v:\n%scommit order:\n%sapplied:\n%s", s.Doubts(), d, listing(calls), listing(order))
		}
		for _, doubt := range s.Doubts() {
			s.Reread(Read{Range: doubt, Rows: k.o.rows(doubt), Began: k.time + 5})
		}
		if d := k.o.diff(s, nil); d != "" || len(s.Doubts()) != 0 {
			t.Fatalf("after reading the doubts again, %v left:\n%s", s.Doubts(), d)
		}
	})
}

func TestHowManyCellsARowTakesIsNotTheProgramsChoice(t *testing.T) {
	t.Parallel()
	const n = 10_000
	at := func(i uint64) uint64 { return (0x1000 + i) * page }
	mapped := func(site func(uint64) uint64) func(s *Space, i uint64) {
		return func(s *Space, i uint64) {
			s.Apply(&Call{
				Op: OpMmap, Time: 10 + 4*i, TID: uint32(i), Site: site(i), Ret: int64(at(i)),
				Args: [6]uint64{at(i), page, 3, mapAnonymous | mapFixed | 2, 0, 0},
			})
		}
	}
	same := func(uint64) uint64 { return 7 }
	for _, tc := range []struct {
		name string
		call func(s *Space, i uint64)
		want Extent // of all
	}{
		{"one site", mapped(same), Extent{Origin: Origin{Op: OpMmap, Time: 10, Site: 7}, Ops: n}},
		{"two sites in turn", mapped(func(i uint64) uint64 { return 7 + i%2 }), Extent{Origin: Origin{Op: OpMmap, Time: 10, Site: 99}, Ops: n}},
		{"every call another site", mapped(func(i uint64) uint64 { return i }), Extent{Origin: Origin{Op: OpMmap, Time: 10, Site: 99}, Ops: n}},
		{"from the top", func(s *Space, i uint64) { mapped(same)(s, n-1-i) }, Extent{Origin: Origin{Op: OpMmap, Time: 10, Site: 7}, Ops: n}},
		{"pages that are allowed to be written one by one", func(s *Space, i uint64) {
			if i == 0 {
				s.Apply(&Call{Op: OpMmap, Time: 5, Site: 5, Ret: int64(at(0)), Args: [6]uint64{0, n * page, 0, mapAnonymous | 2}})
			}
			s.Apply(&Call{Op: OpMprotect, Time: 10 + i, Site: 7, Args: [6]uint64{at(i), page, 3}})
		}, Extent{Origin: Origin{Op: OpMmap, Time: 5, Site: 5}, Granted: Grant{Time: 10, Site: 7}, Ops: 2 * n}},
		{"an mremap and an mmap in turn", func(s *Space, i uint64) {
			if mapped(same)(s, i); i%2 == 0 {
				from := at(n + 1)
				s.Apply(&Call{Op: OpMmap, Time: 11 + 4*i, Site: 7, Ret: int64(from), Args: [6]uint64{from, page, 3, mapAnonymous | mapFixed | 2}})
				s.Apply(&Call{Op: OpMremap, Time: 12 + 4*i, Site: 7, Ret: int64(at(i)), Args: [6]uint64{from, page, page, 3 | mremapDontUnmap, at(i)}})
				s.Apply(munmap(0x1000+n+1, 0x1000+n+2, 13+4*i))
			}
		}, Extent{Origin: Origin{Op: OpReread, Time: 12, Site: 7}, Ops: n + n/2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{Mix: func(uint64, uint64) uint64 { return 99 }})
			for i := range uint64(n) {
				tc.call(s, i)
			}
			s.Prune(10_000_000)
			if s.Totals().Extents != n || s.Spare() != n-1 {
				t.Fatalf("%d cells, %d to spare", s.Cells(), s.Spare())
			}
			if !s.Coarsen(3) {
				t.Error("nothing was lost")
			}
			if s.Spare() > 3 {
				t.Errorf("%d cells, %d to spare", s.Cells(), s.Spare())
			}
			var ops, calls uint32
			for e := range s.Extents(All) {
				ops, calls = ops+e.Ops, calls+e.Calls
			}
			if calls != n || ops != tc.want.Ops {
				t.Errorf("%d operations in %d extents, want %d in %d", ops, calls, tc.want.Ops, n)
			}
			got, _ := s.At(at(0))
			if got.Origin.TID = 0; got.Origin != tc.want.Origin || got.Granted != tc.want.Granted {
				t.Errorf("got %+v %+v, want %+v %+v", got.Origin, got.Granted, tc.want.Origin, tc.want.Granted)
			}
		})
	}
}

// As long as there is room nothing is lost, and then what was made at about the same time
// becomes one first.
func TestNoMoreIsLostThanHasToBe(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	times := []uint64{10, 20, 30, 700_000, 700_010, 700_020}
	for i, at := range times {
		s.Apply(anonMmap(0x10+uint64(i), 0x11+uint64(i), at))
		s.list.cell(s.list.find((0x10 + uint64(i)) * page)).site = 7
	}
	s.Prune(800_000)
	for _, tc := range []struct {
		spare int
		lost  bool
		want  []uint64 // when the extents were made
	}{
		{5, false, times},
		{4, true, []uint64{10, 700_000}},
		{1, false, []uint64{10, 700_000}},
		{0, true, []uint64{10}},
	} {
		if lost := s.Coarsen(tc.spare); lost != tc.lost {
			t.Errorf("%d to spare: lost something: %v", tc.spare, lost)
		}
		var got []uint64
		for e := range s.Extents(All) {
			got = append(got, e.Origin.Time)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%d to spare: made at %v, want %v", tc.spare, got, tc.want)
		}
	}
	if e, _ := s.At(0x10 * page); e.Calls != 6 || e.Ops != 6 {
		t.Errorf("%d operations in %d extents", e.Ops, e.Calls)
	}
	s.Apply(munmap(0x12, 0x14, 900_000))
	for _, at := range []uint64{0x10, 0x15} {
		if e, _ := s.At(at * page); e.Calls != 2 || e.Ops != 2 || e.Len() != 2*page {
			t.Errorf("of what was cut: %+v", e)
		}
	}
}

// A failed mprotect stops at a mapping that refuses: of what became one it may be any part.
func TestWhatBecameOneMayBeSeveralMappings(t *testing.T) {
	t.Parallel()
	for _, coarse := range []bool{false, true} {
		s := New(Options{})
		for i := range uint64(4) {
			s.Apply(&Call{
				Op: OpMmap, Time: 10 + i, Ret: int64((0x10 + i) * page), File: File{Dev: procmaps.Device{Minor: 1}, Inode: 5, Class: ClassDevice},
				Args: [6]uint64{0, page, 1, mapShared, 3, i * page},
			})
		}
		s.Prune(50)
		if coarse {
			s.Coarsen(0)
		}
		e := s.Apply(&Call{Op: OpMprotect, Time: 60, Ret: -errnoAccess, Args: [6]uint64{0x10 * page, 4 * page, 3}})
		if d := cmp.Diff([]procmaps.Range{pages(0x10, 0x13)}, e.Doubts); d != "" {
			t.Errorf("coarse %v: doubts (-want +got):\n%s", coarse, d)
		}
	}
}
