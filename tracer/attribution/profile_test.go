package attribution

import (
	"slices"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// gophers are names of a Go program: sites from 1000 on make its heap larger.
type gophers struct{ names }

func (gophers) Pool(site uint32) string {
	if site >= 1000 {
		return heap.GoHeap
	}
	return ""
}

// goAt is where it is, in pages.
const goAt = 0x10000

// runGo has the heap of a Go program grow by a megabyte a second for a minute, with a reading of
// its profile every five seconds, if it has one.
func runGo(profile bool) *run {
	r := newRun()
	r.attr = New(gophers{}, r.now, r.tree.Regions(nil), budget.Node{})
	for i := range uint64(60) {
		r.mmap(pages(goAt+256*i, goAt+256*(i+1)), rw, 1000)
		r.look()
		if n := i / 5; profile && i%5 == 0 {
			r.attr.Profile(r.now, event.GoHeap{Rate: 1, Collections: 10 * (n + 1), Records: []heap.Record{
				{ID: 1, Site: 10, Size: page, Allocs: 600 * n},                                 // which keeps it
				{ID: 2, Site: 20, Size: page, Allocs: 60_000 * n, Frees: 60_000*n - min(n, 1)}, // which does not
			}})
		}
	}
	return r
}

func TestWhoKeepsAGoHeapIsNamedByItsProfile(t *testing.T) {
	t.Parallel()
	r := runGo(true)
	f := r.finding(t, goPool)
	n := namer{Names: gophers{}, settle: time.Second, known: make(map[uint32]stack.Name)}
	named := n.finding(r.attr, &f, growth.Readings{})
	if f.Heap == nil || f.Heap.Source != heap.ByProfile || named.Blamed().Full != "f10" || named.Confidence() < Sure {
		t.Errorf("%q is blamed, with %v, by %+v", named.Blamed().Full, named.Confidence(), f.Heap)
	}
	for _, e := range r.attr.Evidence() {
		if e.Key != goPool && e.Heap != nil {
			t.Errorf("%+v is by the profile as well, and does not grow: %+v", e.Key, e.Heap)
		}
	}
	e, ok := r.tree.At(goAt * page)
	if !ok || !r.attr.Sampled(&e) {
		t.Error("words of it are watched")
	}
}

// What the profile explains is the growth of all of the heap, also where one group of it is
// asked for.
func TestAProfileIsComparedWithAllGroupsOfAGoHeap(t *testing.T) {
	t.Parallel()
	a := runGo(true).attr
	all := a.findings()
	pool := all[slices.IndexFunc(all, func(f growth.Finding) bool { return f.Key == goPool })]
	before := pool
	before.Key = growth.Key{What: growth.Anon, Name: "[anon: Go: heap]"}
	both := []growth.Finding{pool, before}
	e := a.evidence(both, both[:1])
	if want := 2 * pool.Slope; len(e) != 1 || e[0].Heap == nil || e[0].Heap.Growth != want {
		t.Errorf("%d findings, the first by %+v; want one, by a growth of %.0f", len(e), e[0].Heap, want)
	}
}

func TestWithoutAProfileWordsOfAGoHeapAreWatched(t *testing.T) {
	t.Parallel()
	r := runGo(false)
	e, ok := r.tree.At(goAt * page)
	if f := r.finding(t, goPool); f.Heap != nil || !ok || r.attr.Sampled(&e) {
		t.Errorf("by %+v", f.Heap)
	}
}

func TestMemoryFromBeforeIsGosWhereItsHeapIs(t *testing.T) {
	t.Parallel()
	a := runGo(true).attr
	for name, want := range map[string]bool{
		"[anon: Go: heap]":             true,
		"[anon: Go: heap reservation]": true,
		"[anon: glibc: malloc]":        false,
		"f000000-10001000":             true,
		"12000000-15000000":            true, // in part
		"14000000-15000000":            false,
		"7f0000000000-7f0000400000":    false,
		"10000000":                     false,
		"":                             false,
	} {
		key := growth.Key{What: growth.Anon, Name: name}
		if got := a.profiled(key); got != want {
			t.Errorf("%q: %t", name, got)
		}
		key.Site = 7 // somebody made it
		if a.profiled(key) {
			t.Errorf("%q of somebody is Go's heap", name)
		}
	}
	if a.profiled(growth.Key{What: growth.Heap}) {
		t.Error("malloc's heap is Go's")
	}
}

func TestPlacesOfAGoHeapAreBounded(t *testing.T) {
	t.Parallel()
	a := runGo(false).attr
	before, arenas := a.bytes(), len(a.goArenas)
	a.noteGo(procmaps.Range{Start: 1 << 40, End: 1 << 47})
	if n := len(a.goArenas); n != mostGoArenas || a.bytes()-before < 16*(n-arenas) {
		t.Errorf("%d arenas are noted, and count as %d bytes more; want %d arenas at most", n, a.bytes()-before, mostGoArenas)
	}
	if !a.goBefore("10000000-10001000") {
		t.Error("those that were there before are forgotten")
	}
}

func TestSitesOfAProfileAreInUse(t *testing.T) {
	t.Parallel()
	u := used{sites: make(map[uint32]bool)}
	r := newRun()
	r.attr = New(u, r.now, r.tree.Regions(nil), budget.Node{})
	r.attr.Profile(r.now, event.GoHeap{Rate: 1, Records: []heap.Record{{ID: 1, Size: 8, Allocs: 3}}})
	r.attr.Profile(r.now+1, event.GoHeap{Rate: 1, Records: []heap.Record{{ID: 2, Site: 50, Size: 8, Allocs: 3}, {ID: 3, Site: 60, Size: 8, Allocs: 3, Frees: 3}}})
	clear(u.sites)
	r.look()
	var got []uint32
	for s := range u.sites {
		got = append(got, s)
	}
	if !slices.Equal(got, []uint32{50}) {
		t.Errorf("%v are in use", got)
	}
}
