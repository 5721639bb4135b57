package resident

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

const (
	page  = 4 << 10
	piece = 2 << 20
)

// memory is an address space whose pages are there or not.
type memory struct {
	t      *testing.T
	set    *Set
	ranges []procmaps.Range
	pages  map[uint64]bool
}

func newMemory(t *testing.T, ranges ...procmaps.Range) *memory {
	t.Helper()
	return &memory{t: t, set: New(piece), ranges: ranges, pages: make(map[uint64]bool)}
}

func (m *memory) touch(addr uint64) {
	m.pages[addr&^(page-1)] = true
	m.set.Touch(addr &^ (piece - 1))
}

// rss is what is resident of a range.
func (m *memory) rss(r procmaps.Range) (bytes uint64) {
	for p := range m.pages {
		if r.Contains(p) {
			bytes += page
		}
	}
	return bytes
}

// look takes one, and returns how many bytes of address space were counted and
// whether the sum was right as far as the set can tell.
func (m *memory) look() (counted uint64, agreed bool) {
	m.t.Helper()
	all := procmaps.Range{End: 1 << 47}
	before := m.rss(all)
	todo := m.set.Plan(nil, m.ranges)
	if !slices.IsSortedFunc(todo, func(a, b procmaps.Range) int {
		if a.End <= b.Start {
			return -1
		}
		return 1
	}) {
		m.t.Fatalf("what is to be counted does not ascend: %v", todo)
	}
	found := make([]procmaps.Resident, len(todo))
	for i, r := range todo {
		found[i].Bytes = m.rss(r)
		counted += r.Len()
	}
	m.set.Counted(found)
	if counted%(2*page) == 0 {
		m.set.Release(0) // which changes nothing
	}
	return counted, m.set.Check(before, m.rss(all), 0)
}

// mustBeRight compares each range.
func (m *memory) mustBeRight() {
	m.t.Helper()
	got := m.set.Totals(nil)
	if len(got) != len(m.ranges) {
		m.t.Fatalf("%d totals of %d ranges", len(got), len(m.ranges))
	}
	for i, r := range m.ranges {
		if want := m.rss(r); got[i].Bytes != want {
			m.t.Fatalf("%v has %d bytes, and %d were counted", r, want, got[i].Bytes)
		}
	}
}

func span(from, to uint64) procmaps.Range { return procmaps.Range{Start: from * page, End: to * page} }

// TestOnlyWhatChangedIsCounted has a program touch, give back, map and unmap at
// random, and wants each look to be right though it counts little.
func TestOnlyWhatChangedIsCounted(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		m := newMemory(t)
		at := uint64(1000)
		for range 40 {
			n := 1 + rng.Uint64N(3000)
			m.ranges = append(m.ranges, span(at, at+n))
			at += n + rng.Uint64N(600)
			for range 20 {
				r := m.ranges[len(m.ranges)-1]
				m.touch(r.Start + rng.Uint64N(r.Len()))
			}
		}
		m.look()
		m.look() // what was touched is counted twice
		var counted, mapped uint64
		for step := range 100 {
			i := rng.IntN(len(m.ranges))
			r := m.ranges[i]
			cut := r.Start + rng.Uint64N(r.Len())&^(page-1)
			switch rng.IntN(6) {
			case 0: // MADV_DONTNEED, and a part of munmap
				for p := range m.pages {
					if p >= cut && p < r.End {
						delete(m.pages, p)
					}
				}
				m.set.change(procmaps.Range{Start: cut, End: r.End})
				if cut > r.Start && rng.IntN(2) == 0 {
					m.ranges[i].End = cut
				}
			case 1: // two extents where one was
				if cut > r.Start {
					m.ranges[i].End = cut
					m.ranges = slices.Insert(m.ranges, i+1, procmaps.Range{Start: cut, End: r.End})
				}
			case 2: // it grows
				end := r.End + page
				if i+1 < len(m.ranges) && m.ranges[i+1].Start < end {
					break
				}
				m.set.change(procmaps.Range{Start: r.End, End: end})
				m.ranges[i].End = end
				m.touch(r.End)
			default:
				m.touch(cut)
			}
			n, agreed := m.look()
			m.mustBeRight()
			if !agreed {
				t.Fatalf("seed %d, step %d: the sum is taken for wrong", seed, step)
			}
			counted += n
			for _, r := range m.ranges {
				mapped += r.Len()
			}
		}
		if counted > mapped/6 {
			t.Errorf("seed %d: %d of %d bytes were counted again", seed, counted, mapped)
		}
	}
}

func TestAPageThatComesAfterItsFaultIsCounted(t *testing.T) {
	m := newMemory(t, span(0, 2048))
	m.look()
	m.set.Touch(0)
	m.look()
	m.pages[page] = true // the fault took as long
	m.look()
	m.mustBeRight()
}

// What nobody tells of is found when the sum is no longer the RSS, and what leaves
// that alone when its turn comes.
func TestWhatNobodyTellsOfIsFound(t *testing.T) {
	m := newMemory(t, span(0, 4096), span(8192, 12288))
	for p := range uint64(1000) {
		m.pages[p*page] = true
	}
	m.look()
	m.look()
	for p := range uint64(500) {
		delete(m.pages, p*page)
	}
	if _, agreed := m.look(); agreed {
		t.Error("half of the memory has gone, and nothing is said to be wrong")
	}
	if _, agreed := m.look(); !agreed {
		t.Error("all was counted, and something is said to be wrong")
	}
	m.mustBeRight()
	for p := uint64(500); p < 505; p++ {
		delete(m.pages, p*page)
		m.pages[(p+9000)*page] = true
	}
	for range sweepLooks {
		m.look()
	}
	m.mustBeRight()
}

// What is too little to count everything at once for is found when it stays.
func TestALittleThatNobodyTellsOfIsFoundSoon(t *testing.T) {
	m := newMemory(t, span(0, 409600))
	for p := range uint64(1000) {
		m.pages[p*page] = true
	}
	m.look()
	m.look()
	for p := range uint64(5) {
		m.pages[(300000+p)*page] = true
	}
	for look := range doubtLooks {
		if _, agreed := m.look(); agreed != (look < doubtLooks-1) {
			t.Errorf("look %d: agreed is %v", look, agreed)
		}
	}
	m.look()
	m.mustBeRight()
}

// The kernel's RSS may count otherwise.
func TestADifferenceThatStaysIsNone(t *testing.T) {
	m := newMemory(t, span(0, 4096))
	m.pages[page*5000] = true // in none of the ranges
	for range 200 {
		m.pages[page*(9000+uint64(len(m.pages)))] = true
	}
	m.touch(page)
	m.look()
	for range 5 {
		if counted, agreed := m.look(); !agreed || counted == 4096*page {
			t.Fatalf("%d bytes counted, agreed %v", counted, agreed)
		}
	}
	m.set.Forget()
	if counted, _ := m.look(); counted != 4096*page {
		t.Errorf("%d bytes counted after all was to be forgotten", counted)
	}
}

func TestALookThatFailedIsTakenAgain(t *testing.T) {
	m := newMemory(t, span(0, 4096))
	m.set.Plan(nil, m.ranges)
	m.pages[page] = true
	if counted, _ := m.look(); counted != 4096*page {
		t.Errorf("%d bytes counted, want all: the last count gave nothing", counted)
	}
	m.mustBeRight()
}

func TestWhereNothingHappensFewLooksAreTaken(t *testing.T) {
	m := newMemory(t, span(0, 60*512))
	m.touch(page)
	m.look()
	if m.set.Rest() {
		t.Error("it rests though a page may have come late")
	}
	m.look()
	var looks int
	var counted uint64
	for range sweepLooks {
		if !m.set.Rest() {
			n, _ := m.look()
			looks++
			counted += n
		}
	}
	if looks != sweepLooks/quietLooks || counted != m.ranges[0].Len() {
		t.Errorf("%d looks in %d, which counted %d of %d bytes", looks, sweepLooks, counted, m.ranges[0].Len())
	}
	m.set.change(span(3, 4))
	if m.set.Rest() {
		t.Error("it rests though something has changed")
	}
}

func TestAReservationIsFewParts(t *testing.T) {
	whole := procmaps.Range{Start: 1 << 40, End: 1<<46 + page}
	s := New(piece)
	if n := len(s.Plan(nil, []procmaps.Range{whole})); n > mostParts+1 {
		t.Errorf("%d parts", n)
	}
	top := procmaps.Range{Start: ^uint64(0) - 3*page + 1, End: ^uint64(0) - page + 1}
	if got := New(piece).Plan(nil, []procmaps.Range{top}); !slices.Equal(got, []procmaps.Range{top}) {
		t.Errorf("the end of the address space is cut into %v", got)
	}
}

func TestManyScatteredChangesAreAll(t *testing.T) {
	m := newMemory(t, span(0, 4096))
	m.look()
	for i := range uint64(mostChanges) {
		m.set.change(span(1<<20+3*i, 1<<20+3*i+1))
	}
	if counted, _ := m.look(); counted != 4096*page {
		t.Errorf("%d bytes counted: where so much changed it is not worth knowing where", counted)
	}
}

// Where nothing happens looks are left out, and the sum is still compared.
func TestWhatIsTakenFromAProcessAtRestIsFound(t *testing.T) {
	m := newMemory(t, span(0, 4096))
	for p := range uint64(1000) {
		m.pages[p*page] = true
	}
	m.look()
	m.look()
	all := m.ranges[0]
	if !m.set.Rest() || !m.set.Check(m.rss(all), m.rss(all), 0) {
		t.Fatal("it does not rest")
	}
	clear(m.pages)
	if !m.set.Rest() || m.set.Check(0, 0, 0) {
		t.Error("all of the memory has gone, and nothing is said to be wrong")
	}
	if m.set.Rest() {
		t.Error("it rests though something is wrong")
	}
	m.look()
	m.mustBeRight()
}

func BenchmarkPlan(b *testing.B) {
	var ranges []procmaps.Range
	for i := range uint64(10000) {
		ranges = append(ranges, span(i*300, i*300+210))
	}
	s := New(piece)
	todo := s.Plan(nil, ranges)
	s.Counted(make([]procmaps.Resident, len(todo)))
	b.ReportAllocs()
	for b.Loop() {
		s.change(span(5000, 5001))
		todo = s.Plan(todo[:0], ranges)
		s.Counted(make([]procmaps.Resident, len(todo)))
	}
}
