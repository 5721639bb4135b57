package keeper

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
)

const (
	page  = 4 << 10
	start = 0x10000000
	ms    = uint64(time.Millisecond)
	sec   = uint64(time.Second)
)

// heap is memory from start on, of which each page is there once it was written to.
type heap struct {
	t       *testing.T
	now     uint64
	threads []int
	listed  int             // how often they were
	there   map[uint64]bool // pages
	points  []*point
	keeper  *Keeper
	lose    bool  // records
	refuse  error // of Watch
	births  uint64

	rate, switches, switched uint64 // of threads, a second
	onWatch                  func()
}

type point struct {
	h      *heap
	tid    int
	addr   uint64
	left   int
	writes uint64
	closed bool
}

func newHeap(t *testing.T) *heap {
	t.Helper()
	h := &heap{t: t, now: sec, threads: []int{1}, there: make(map[uint64]bool)}
	t.Cleanup(func() {
		if err := h.keeper.Close(); err != nil {
			t.Error(err)
		}
		for _, p := range h.points {
			if !p.closed {
				t.Errorf("%#x is still watched in thread %d", p.addr, p.tid)
			}
		}
	})
	return h
}

func (h *heap) Now() uint64             { return h.now }
func (h *heap) Births() (uint64, error) { return h.births, nil }

func (h *heap) Switches() (uint64, error) {
	h.switches += h.rate * (h.now - h.switched) / sec
	h.switched = h.now
	return h.switches, nil
}

func (h *heap) Threads() ([]int, error) { h.listed++; return h.threads, nil }

func (h *heap) Watch(tid int, addr uint64, most int) (Point, error) {
	if h.onWatch != nil {
		h.onWatch()
	}
	if h.refuse != nil {
		return nil, h.refuse
	}
	if !slices.Contains(h.threads, tid) {
		return nil, ErrEnded
	}
	if addr%wordBytes != 0 {
		h.t.Errorf("%#x is no word", addr)
	}
	p := &point{h: h, tid: tid, addr: addr, left: most}
	h.points = append(h.points, p)
	return p, nil
}

func (h *heap) Count(ranges []procmaps.Range, out []procmaps.Resident) error {
	for i, r := range ranges {
		if r.Len() != page {
			h.t.Errorf("counted: %v", r)
		}
		if h.there[r.Start] {
			out[i].Bytes = page
		}
	}
	return nil
}

func (p *point) Writes() (uint64, error) { return p.writes, nil }

func (p *point) Close() error {
	if p.closed {
		p.h.t.Errorf("%#x was closed twice", p.addr)
	}
	p.closed = true
	return nil
}

// write writes to a range, as a thread at a site does.
func (h *heap) write(tid int, site uint32, r procmaps.Range) {
	for at := r.Start &^ (page - 1); at < r.End; at += page {
		h.there[at] = true
	}
	for _, p := range h.points {
		if !p.closed && p.tid == tid && p.left > 0 && r.Start < p.addr+8 && p.addr < r.End {
			p.left--
			p.writes++
			if !h.lose {
				h.keeper.Wrote(p.addr, site, h.now)
			}
		}
	}
}

var whole = procmaps.Range{Start: start, End: start + 1<<30}

func extent(r procmaps.Range) *space.Extent { return &space.Extent{Range: r, Name: "a heap"} }

func always(uint64) bool { return true }

// pages are n pages, the first the i-th of the heap.
func pages(i, n int) procmaps.Range {
	return procmaps.Range{Start: start + uint64(i)*page, End: start + uint64(i+n)*page}
}

// TestWhoKeepsIsNotWhoAllocatesTheMost has a heap whose end two innocents use again
// and again, and touch first; a third takes a page of it each time, and keeps it.
func TestWhoKeepsIsNotWhoAllocatesTheMost(t *testing.T) {
	const churn, queue, leak = 1, 2, 3
	h := newHeap(t)
	h.keeper = New(h, Options{Settle: time.Second})
	k := h.keeper
	kept := make(map[event.Outcome]int)
	for i := range 3000 {
		h.now += 20 * ms
		if at := pages(i, 4).End - page; !h.there[at] {
			defer func() { h.there[at] = true }()
			k.Touched(extent(whole), whole, at, h.now)
		}
		h.write(1, churn, pages(i, 4))
		h.write(2, queue, pages(i, 3))
		h.write(1, leak, pages(i, 1))
		for _, w := range k.Look(h.now, always) {
			kept[event.Outcome{First: w.First, Site: w.Site}]++
		}
		if i == 1000 {
			h.threads = []int{1, 2} // which has written nothing yet that is seen
		}
	}
	want := event.Outcome{First: churn, Site: leak}
	if kept[want] < 50 || len(kept) > 1 {
		t.Errorf("outcomes: %v; %+v", kept, k.Stats())
	}
	if st := k.Stats(); st.Stayed != uint64(kept[want]) || st.Missed != 0 || st.Watched != st.Stayed+st.Rewritten+st.Returned+st.Unwritten {
		t.Errorf("stats: %+v", st)
	}
}

// TestTheRareAreFollowedAsWell has a heap whose end one touches a hundred times as
// often as another, which alone keeps what it takes.
func TestTheRareAreFollowedAsWell(t *testing.T) {
	const churn, leak = 1, 2
	h := newHeap(t)
	h.keeper = New(h, Options{Settle: time.Second})
	k := h.keeper
	kept := make(map[event.Outcome]int)
	for i := range 4000 {
		h.now += 20 * ms
		k.Touched(extent(whole), whole, pages(i, 1).Start, h.now)
		if i%16 == 0 {
			h.write(1, leak, pages(i+1, 1))
		} else {
			h.write(1, churn, pages(i+1, 1))
		}
		for j := max(0, i-100); j < i; j += 10 { // what it took before
			if j%16 != 0 {
				h.write(1, churn, pages(j+1, 1))
			}
		}
		for _, f := range k.Look(h.now, always) {
			kept[event.Outcome{First: f.First, Site: f.Site}]++
		}
	}
	stayed, churned := kept[event.Outcome{First: leak, Site: leak}], kept[event.Outcome{First: churn}]
	if stayed < 10 || churned > 3*stayed || k.Stats().Passed == 0 {
		t.Errorf("outcomes: %v; %+v", kept, k.Stats())
	}
}

// TestNobodyIsWaitedForInVain has a heap that one keeps all of that it takes, beside
// another of whose words none comes to be known, or who stops after a while.
func TestNobodyIsWaitedForInVain(t *testing.T) {
	const other, leak = 1, 2
	for _, tt := range []struct {
		name  string
		until int // the other takes memory
		often int // as the other writes to it
		least int // words of the leak that are to be known
	}{
		{"missed", 4000, 20, 20},
		{"gone", 400, 1, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHeap(t)
			h.keeper = New(h, Options{Settle: time.Second})
			k := h.keeper
			stayed := 0
			for i := range 4000 {
				h.now += 20 * ms
				k.Touched(extent(whole), whole, pages(i, 1).Start, h.now)
				if i < tt.until && i%4 != 0 {
					for range tt.often {
						h.write(1, other, pages(i+1, 1))
					}
				} else {
					h.write(1, leak, pages(i+1, 1))
				}
				for _, f := range k.Look(h.now, always) {
					if f.Site == leak {
						stayed++
					}
				}
			}
			if stayed < tt.least {
				t.Errorf("%d words of the leak are known; %+v", stayed, k.Stats())
			}
		})
	}
}

// TestFatesOfAWord has one word each time.
func TestFatesOfAWord(t *testing.T) {
	const site = 7
	for _, tt := range []struct {
		name string
		do   func(h *heap, i int) // every 100 ms, as often as it takes
		want event.Words
		kept bool
	}{
		{"left alone", func(h *heap, i int) {
			if i == 2 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Stayed: 1}, true},
		{"by two, one after the other", func(h *heap, i int) {
			if i == 2 || i == 5 {
				h.write(1, site-uint32(5-i), pages(1, 64))
			}
		}, event.Words{Stayed: 1}, true},
		{"again and again", func(h *heap, _ int) { h.write(1, site, pages(1, 64)) }, event.Words{Rewritten: 1}, false},
		{"in a tight loop", func(h *heap, _ int) {
			for range 1000 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Rewritten: 1}, false},
		{"in a tight loop that ends", func(h *heap, i int) {
			for range 1000 {
				if i < 4 {
					h.write(1, site, pages(1, 64))
				}
			}
		}, event.Words{Missed: 1}, false},
		{"in a tight loop, and once more", func(h *heap, i int) {
			for range 1000 {
				if i < 4 {
					h.write(1, 1, pages(1, 64))
				}
			}
			if i == 12 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Stayed: 1}, true},
		{"not at all", func(*heap, int) {}, event.Words{Unwritten: 1}, false},
		{"given back", func(h *heap, i int) {
			if i == 2 {
				h.write(1, site, pages(1, 64))
			}
			if i == 5 {
				clear(h.there)
			}
		}, event.Words{Returned: 1}, false},
		{"by a thread that came later", func(h *heap, i int) {
			if h.threads = []int{1, 2}; i == 8 {
				h.write(2, site, pages(1, 64))
			}
		}, event.Words{Stayed: 1}, true},
		{"by a thread that ended", func(h *heap, i int) {
			if i == 2 {
				h.write(1, site, pages(1, 64))
				h.threads = []int{2}
			}
		}, event.Words{Stayed: 1}, true},
		{"without a record", func(h *heap, i int) {
			if h.lose = i >= 5; i == 2 || i == 5 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Missed: 1}, false},
		{"with no record at all", func(h *heap, i int) {
			if h.lose = true; i == 2 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Missed: 1}, false},
		{"before it was watched, by a record that comes late", func(h *heap, i int) {
			if i == 2 {
				h.keeper.Wrote(h.keeper.words[0].addr, 1, sec-1)
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Stayed: 1}, true},
		{"before a thread begins", func(h *heap, i int) {
			if i == 2 {
				h.write(1, site, pages(1, 64))
			}
			if i == 5 {
				h.births++
			}
		}, event.Words{Missed: 1}, false},
		{"after a thread began", func(h *heap, i int) {
			if i == 2 {
				h.births++
			}
			if i == 5 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Stayed: 1}, true},
		{"again after a thread began", func(h *heap, i int) {
			if i == 2 || i == 8 {
				h.write(1, site, pages(1, 64))
			}
			if i == 5 {
				h.births++
			}
		}, event.Words{Stayed: 1}, true},
		{"while threads begin all the time", func(h *heap, i int) {
			if h.births++; i == 5 {
				h.write(1, site, pages(1, 64))
			}
		}, event.Words{Missed: 1}, false},
		{"by a record that comes late", func(h *heap, i int) {
			if i == 3 {
				h.write(1, site, pages(1, 64))
				w := h.keeper.words[0]
				h.points[0].writes++
				h.keeper.Wrote(w.addr, 1, h.now-50*ms)
			}
		}, event.Words{Stayed: 1}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHeap(t)
			h.keeper = New(h, Options{Settle: time.Second, Words: 1})
			h.write(1, 1, pages(0, 1))
			h.keeper.Touched(extent(whole), whole, start+1000, h.now)
			var kept []event.Outcome
			for i := 0; len(h.keeper.words) > 0 && i < 1000; i++ {
				tt.do(h, i)
				kept = append(kept, h.keeper.Look(h.now, always)...)
				h.now += 100 * ms
			}
			tt.want.Watched = 1
			if diff := cmp.Diff(tt.want, h.keeper.Stats()); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
			if told := tt.want.Stayed+tt.want.Rewritten+tt.want.Returned > 0; told != (len(kept) == 1) {
				t.Errorf("outcomes: %+v", kept)
			}
			for _, f := range kept {
				if f.First == 0 || tt.kept != (f.Site == site) || !tt.kept && f.Site != 0 || f.In != *extent(whole) {
					t.Errorf("fate: %+v", f)
				}
			}
		})
	}
}

// TestMemoryThatIsUnmappedIsGivenBack is the fate that the tree tells of.
func TestMemoryThatIsUnmappedIsGivenBack(t *testing.T) {
	h := newHeap(t)
	h.keeper = New(h, Options{Words: 1})
	h.keeper.Touched(extent(whole), whole, start, h.now)
	h.write(1, 7, pages(1, 64))
	got := h.keeper.Look(h.now, func(addr uint64) bool { return !whole.Contains(addr) })
	if len(got) != 1 || got[0].First != 7 || got[0].Site != 0 || got[0].In != *extent(whole) {
		t.Errorf("outcomes: %+v", got)
	}
	if want := (event.Words{Watched: 1, Returned: 1}); h.keeper.Stats() != want {
		t.Errorf("stats: %+v", h.keeper.Stats())
	}
}

// TestOnlyUntouchedWordsAreWatched chooses words: of pages that are not there, one a
// page, within the mapping, as many as there may be.
func TestOnlyUntouchedWordsAreWatched(t *testing.T) {
	const huge = 2 << 20 / page
	for _, tt := range []struct {
		name  string
		there procmaps.Range
		in    procmaps.Range
		from  procmaps.Range // where the words must be
		want  int
	}{
		{"the next pages", pages(0, 1), whole, pages(1, 128+4), 4},
		{"behind others", pages(0, 40), whole, pages(40, 128+4), 4},
		{"all there", pages(0, 4*huge), whole, procmaps.Range{}, 0},
		{"behind a huge page", pages(0, huge), whole, pages(huge, 128+4), 4},
		{"at the end", pages(0, 1), pages(0, 3), pages(1, 2), 2},
		{"the last page", pages(0, 1), pages(0, 1), procmaps.Range{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(50) {
				h := newHeap(t)
				h.keeper = New(h, Options{Seed: seed})
				h.write(1, 1, tt.there)
				for range 20 {
					h.now += 100 * ms
					h.keeper.Touched(extent(tt.in), tt.in, start+500, h.now)
				}
				seen := make(map[uint64]bool)
				for _, w := range h.keeper.words {
					if !tt.from.Contains(w.addr) || w.addr%8 != 0 || seen[w.addr/page] {
						t.Errorf("watched: %#x", w.addr)
					}
					seen[w.addr/page] = true
				}
				if len(seen) != tt.want || h.keeper.Err() != nil {
					t.Errorf("%d words are watched, want %d; %v", len(seen), tt.want, h.keeper.Err())
				}
			}
		})
	}
}

// TestAPageTouchedMeanwhileIsNotTrusted has the page touched while the word is armed.
func TestAPageTouchedMeanwhileIsNotTrusted(t *testing.T) {
	h := newHeap(t)
	h.keeper = New(h, Options{})
	in := pages(0, 100)
	h.onWatch = func() { h.write(1, 1, in) }
	h.keeper.Touched(extent(in), in, start, h.now)
	if len(h.keeper.words) != 0 || h.keeper.Err() != nil || len(h.points) != 4 {
		t.Errorf("%d words are watched, %v", len(h.keeper.words), h.keeper.Err())
	}
}

// TestThreadsAreListedOnceALook has four words, and threads that come.
func TestThreadsAreListedOnceALook(t *testing.T) {
	h := newHeap(t)
	h.keeper = New(h, Options{})
	h.keeper.Touched(extent(whole), whole, start, h.now)
	for i := 1; i <= 3; i++ {
		h.threads = append(h.threads, 1+i)
		h.now += sec
		h.keeper.Look(h.now, always)
		if words := len(h.keeper.words); words != 4 || len(h.points) != words*(1+i) || h.listed != 1+i {
			t.Errorf("%d words are watched by %d points; threads were listed %d times", words, len(h.points), h.listed)
		}
	}
}

// TestRefusals has a target that refuses.
func TestRefusals(t *testing.T) {
	denied := errors.New("no")
	for _, tt := range []struct {
		refuse error
		words  int // watched before
		want   error
		more   bool // goes on when it is not refused any more
	}{
		{fmt.Errorf("a thread: %w", ErrBusy), 0, ErrBusy, false},
		{fmt.Errorf("a thread: %w", ErrBusy), 2, nil, false},
		{fmt.Errorf("a thread: %w", ErrEnded), 0, nil, true},
		{fmt.Errorf("a process: %w", procmaps.ErrGone), 0, nil, true},
		{denied, 1, denied, false},
	} {
		h := newHeap(t)
		h.keeper = New(h, Options{})
		touch := func(in procmaps.Range) {
			h.now += 100 * ms
			h.keeper.Touched(extent(in), in, start, h.now)
		}
		touch(pages(0, 1+tt.words))
		h.refuse = tt.refuse
		touch(whole)
		if len(h.keeper.words) != tt.words || !errors.Is(h.keeper.Err(), tt.want) {
			t.Errorf("%v: %d words, %v", tt.refuse, len(h.keeper.words), h.keeper.Err())
		}
		h.refuse = nil
		touch(whole)
		if more := len(h.keeper.words) > tt.words; more != tt.more {
			t.Errorf("%v: %d words afterwards", tt.refuse, len(h.keeper.words))
		}
	}
	h := newHeap(t)
	h.keeper = New(h, Options{Threads: 3})
	h.threads = []int{1, 2, 3, 4}
	h.keeper.Touched(extent(whole), whole, start, h.now)
	if h.keeper.Err() == nil || len(h.points) != 0 {
		t.Errorf("of too many threads %d are watched, %v", len(h.points), h.keeper.Err())
	}
}

// TestATargetThatRefusesLater refuses while words are watched already.
func TestATargetThatRefusesLater(t *testing.T) {
	h := newHeap(t)
	h.keeper = New(h, Options{Words: 1})
	h.keeper.Touched(extent(whole), whole, start, h.now)
	h.threads = []int{1, 2}
	h.refuse = errors.New("too many open files")
	h.now += sec
	h.keeper.Look(h.now, always)
	if want := (event.Words{Watched: 1, Missed: 1}); h.keeper.Stats() != want || h.keeper.Err() == nil {
		t.Errorf("stats: %+v, %v", h.keeper.Stats(), h.keeper.Err())
	}
}

// TestWhatIsRefusedIsTriedAgain has another user of the debug registers, for a while.
func TestWhatIsRefusedIsTriedAgain(t *testing.T) {
	for _, words := range []int{0, 2} {
		h := newHeap(t)
		h.keeper = New(h, Options{Settle: time.Hour})
		touch := func(in procmaps.Range) int {
			h.now += 100 * ms
			h.keeper.Touched(extent(in), in, start, h.now)
			return len(h.keeper.words)
		}
		touch(pages(0, 1+words))
		h.refuse = ErrBusy
		touch(whole)
		h.refuse = nil
		if n := touch(whole); n != words || (h.keeper.Err() == nil) != (words > 0) {
			t.Errorf("right after a refusal %d words are watched, want %d; %v", n, words, h.keeper.Err())
		}
		h.now += uint64(resting)
		if n := touch(whole); n != DefaultWords || h.keeper.Err() != nil {
			t.Errorf("later, %d words are watched, %v", n, h.keeper.Err())
		}
	}
}

// TestThreadsThatSwitchOftenAreLeftAlone has a target that does so for a time.
func TestThreadsThatSwitchOftenAreLeftAlone(t *testing.T) {
	h := newHeap(t)
	h.keeper = New(h, Options{Settle: time.Hour})
	seconds := func(n int) int {
		for range 4 * n {
			h.now += sec / 4
			h.keeper.Touched(extent(whole), whole, start, h.now)
			h.keeper.Look(h.now, always)
		}
		return len(h.keeper.words)
	}
	h.rate = mostSwitches / 2
	if n := seconds(10); n != DefaultWords || h.keeper.Err() != nil {
		t.Errorf("%d words are watched at %d switches a second, %v", n, h.rate, h.keeper.Err())
	}
	h.rate = 3 * mostSwitches
	if n := seconds(3); n != 0 || h.keeper.Err() == nil {
		t.Errorf("%d words are watched at %d switches a second, %v", n, h.rate, h.keeper.Err())
	}
	h.rate = 0
	if n := seconds(10); n != 0 {
		t.Errorf("%d words are watched soon after", n)
	}
	if n := seconds(30); n != DefaultWords || h.keeper.Err() != nil {
		t.Errorf("%d words are watched when it is over, %v", n, h.keeper.Err())
	}
}
