package attribution

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
)

// View is what was found up to a moment. Nobody changes it once it is published, so
// that it can be read without a lock.
type View struct {
	At        uint64        // CLOCK_MONOTONIC, ns
	Watched   time.Duration // for how long the process that was there first has been watched
	Processes []ProcessView // the worst first
}

// ProcessView is what was found of one address space.
type ProcessView struct {
	PID     int
	NSPID   int    // in the process' own pid namespace, where it is another
	Name    string // see [Process.Name]
	Space   uint64
	Exited  bool
	Watched time.Duration
	Ticks   int // how often it had been observed when it was judged
	// Findings are the worst of what was found, the worst first: those that grew, and one
	// that did not if there are none; at most viewFindings.
	Findings []Finding
	// First and Last are what the kernel charged it for at first and at last; zero if that
	// was not read.
	First, Last Charges
}

// Charges are what a process is charged for, in bytes.
type Charges struct{ Anon, File, Shmem, Swapped, PageTables, Hugetlb uint64 }

// ChargesOf are the kernel's figures without what they come with.
func ChargesOf(a *event.Account) Charges {
	return Charges{Anon: a.Anon, File: a.File, Shmem: a.Shmem, Swapped: a.Swapped, PageTables: a.PageTables, Hugetlb: a.Hugetlb}
}

// Worst is the worst finding there is, nil if there is none.
func (p *ProcessView) Worst() *Finding {
	if len(p.Findings) == 0 {
		return nil
	}
	return &p.Findings[0]
}

// views hand what the owner of a Growth knows to others.
type views struct {
	newest atomic.Pointer[View]
	asked  atomic.Bool
	made   uint64 // when the newest was
}

// verdict is what an address space was last judged to be, for views.
type verdict struct {
	found []Finding
	ticks int // as of which observation; 0 for none
	turn  int // of whose judging it was
}

const (
	// viewEvery is the least time between two views.
	viewEvery = uint64(100 * time.Millisecond)
	// viewMost is how many processes are judged anew for one view: the others' verdicts
	// are those of an earlier one. To judge all of a node takes longer than to observe it.
	viewMost = 16
	// viewFindings is how many findings of a process are told: the evidence for one costs
	// more than all verdicts.
	viewFindings = 6
)

// View returns the newest view, nil if there is none yet, and asks for another. Any
// goroutine may call it, at any time.
func (g *Growth) View() *View {
	g.views.asked.Store(true)
	return g.views.newest.Load()
}

// Publish makes a view, if anybody has asked for one since the last, but not more than
// ten times a second.
func (g *Growth) Publish(now uint64) {
	v := &g.views
	if v.made != 0 && now-v.made < viewEvery || !v.asked.Swap(false) {
		return
	}
	v.made = now
	g.judge()
	view := &View{At: now, Processes: make([]ProcessView, 0, len(g.spaces))}
	for id, w := range g.spaces {
		view.Watched = max(view.Watched, w.watchedTo(now))
		if w.seen.ticks == 0 {
			continue
		}
		view.Processes = append(view.Processes, ProcessView{
			PID: w.pid, NSPID: w.nspid, Name: cmp.Or(w.title, w.comm), Space: id, Exited: w.exited, Watched: w.watchedTo(now),
			Ticks: w.seen.ticks, Findings: w.seen.found, First: ChargesOf(&w.charges.first), Last: ChargesOf(&w.charges.last),
		})
	}
	slices.SortFunc(view.Processes, func(a, b ProcessView) int {
		return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Space, b.Space))
	})
	v.newest.Store(view)
}

// judge judges the processes anew that were observed since, those first that were not for
// the longest.
func (g *Growth) judge() {
	var due []uint64
	for id, w := range g.spaces {
		if w.seen.ticks != w.Ticks() {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(g.spaces[a].seen.turn, g.spaces[b].seen.turn), cmp.Compare(a, b))
	})
	for _, id := range due[:min(len(due), viewMost)] {
		w := g.spaces[id]
		g.turn++
		w.seen = verdict{ticks: w.Ticks(), turn: g.turn}
		all := w.findings()
		for _, e := range w.evidence(all, all[:worthTelling(all)]) {
			w.seen.found = append(w.seen.found, g.namer.finding(w.Attribution, &e, w.limits))
		}
	}
}

// worthTelling is how many of all findings a view has.
func worthTelling(all []growth.Finding) int {
	n := min(len(all), 1)
	for n < min(len(all), viewFindings) && all[n].Label >= growth.Plateau {
		n++
	}
	return n
}

func (p *ProcessView) rank() float64 {
	if w := p.Worst(); w != nil {
		return rank(&w.Finding)
	}
	return 0
}
