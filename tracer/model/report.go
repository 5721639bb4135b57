package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/maptrace/maptrace/tracer/space"
)

// Picture says how far a tree can be trusted.
type Picture struct {
	Why        string // it is only approximate; "" if it is not
	ResyncedAt uint64 // it was wrong and was read again, at that time last; 0 if never
	Resyncs    int
	Missed     bool // a section nobody reported was found, and not read again yet
}

// unread is why a tree that was in doubt when its last process ended is not exact.
const unread = "gone before its last changes could be read"

// unsettled is why the tree of a living process is not exact while it is in doubt.
const unsettled = "its latest changes are not read yet"

// NothingVerified is why nothing is exact where audits were asked for, and none has been
// completed.
const NothingVerified = "not verified: nothing was compared with /proc"

// Unseen is why a picture kept by polling this often is never exact.
func Unseen(every time.Duration) string {
	return "polling every " + every.String() + ": changes between two looks are not seen"
}

func (p *Picture) approximate(why string) {
	if p.Why == "" {
		p.Why = why
	}
}

func (p *Picture) missed() { p.Missed = true }

func (p *Picture) resynced(at uint64) {
	p.ResyncedAt, p.Missed = at, false
	p.Resyncs++
}

// String is "exact", "resynced" or "approximate: why".
func (p Picture) String() string {
	switch {
	case p.Why != "":
		return "approximate: " + p.Why
	case p.Missed:
		return "approximate: a change was missed"
	case p.Resyncs > 0:
		return "resynced"
	}
	return "exact"
}

// Stats count what was seen.
type Stats struct {
	Figures
	Counts
}

// Figures are counted before the operations are in order.
type Figures struct {
	Records uint64 // everything a Source gave
	Newest  uint64 // commit time of the newest of them
	Lost    uint64 // records the ring had no room for, or that were too many to wait for a space's mappings
	Skipped uint64 // runs of our programs that the kernel left out, for whatever process
	Strays  uint64 // events of address spaces that are not known (any more)

	Sections   uint64 // write sections of the mmap locks
	Missed     uint64 // of these, those nobody reported
	LostOwners uint64 // of these, those whose report was lost
	Others     uint64 // of these, those no decoded call owns
	Late       uint64 // events applied after a later one

	Unsampled        uint64 // calls that made memory larger and whose stack is not there
	Audits           uint64 // comparisons with /proc
	AuditsUnfinished uint64 // those given up because calls were under way
	Rereads          uint64 // reads of mappings that events did not tell of
	Looks            uint64 // times that a polling Source has looked at everything
}

// Counts are what the operations themselves show.
type Counts struct {
	Calls  uint64
	Failed uint64 // of the calls, those that returned an error
	// Suppressed are further calls, which were given a result without being executed.
	Suppressed uint64
	Forks      uint64
	Execs      uint64
	Exits      uint64
	Processes  uint64
	Violations uint64 // events that cannot have happened to the tree as it was
	Drift      uint64 // differences that audits found
	Unverified uint64 // address spaces of which audits could not compare something for long
	Unaudited  uint64 // those that nothing was compared of: they ended too soon, or began too late
	Faults     uint64 // page faults whose stack is known
	Coarsened  uint64 // address spaces where single calls were given up, as they were too many
	Unkept     uint64 // address spaces that were given up, as all have too many rows
	Polled     uint64 // changes that looks of a polling Source found

	byOp [32][16]uint64
}

func (s *Counts) count(c *space.Call) {
	s.Calls++
	if c.Failed() {
		s.Failed++
	}
	s.byOp[c.Op&31][c.Sub&15]++
}

// fold adds what only an address space knows.
func (s *Counts) fold(sp *Space, verify bool) {
	s.Violations += sp.violations
	s.Drift += sp.drift
	switch {
	case len(sp.unverified) > 0:
		s.Unverified++
	case verify && !sp.audited && sp.tree != nil:
		s.Unaudited++
	}
}

// OpCount is how often one call was made.
type OpCount struct {
	Name string
	N    uint64
}

// ByOp lists the calls made, the most frequent first.
func (s *Counts) ByOp() []OpCount {
	var out []OpCount
	for op := range s.byOp {
		for sub, n := range s.byOp[op] {
			if n > 0 {
				out = append(out, OpCount{CallName(space.Op(op), space.Sub(sub)), n})
			}
		}
	}
	slices.SortFunc(out, func(a, b OpCount) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// CallName is the word for a call in output.
func CallName(op space.Op, sub space.Sub) string {
	if s := sub.String(); s != "" {
		return s
	}
	return op.String()
}

// SpaceReport is the state of one address space.
type SpaceReport struct {
	Process Process      // the first that lives in it, or did
	Shared  int          // how many processes live in it
	Start   space.Packed // what it was when tracing it began
	Began   uint64       // when that was, CLOCK_MONOTONIC in ns
	Picture Picture
	// Unverified is what no audit has compared, though several have tried.
	Unverified NotVerified
}

// NotVerified is memory that could not be compared with /proc.
type NotVerified struct {
	Bytes uint64
	For   time.Duration // that of what could not be for the longest time
}

// String is a clause of a sentence.
func (u NotVerified) String() string {
	return fmt.Sprintf("%dK could not be compared with /proc for %s", u.Bytes>>10, u.For.Round(100*time.Millisecond))
}

// Report is everything that is known at a moment, but for the trees: see [Model.Tree].
type Report struct {
	Stats    Stats
	Spaces   []SpaceReport // in the order in which they came to be
	Ordering string        // what orders the events: "section", "time", "polling"
	Polling  time.Duration // how often was looked, where that is all; else 0
	Picture  Picture       // the worst of the spaces'
	NotKept  int           // spaces of exited processes that are counted only
}

// Stats are the figures so far.
func (m *Model) Stats() Stats {
	s := Stats{Figures: m.figures, Counts: m.counts}
	for _, sp := range m.spaces {
		s.fold(sp, m.opts.Verify)
	}
	return s
}

// Report makes a report. It changes nothing.
func (m *Model) Report() Report {
	r := Report{Stats: m.Stats(), Ordering: m.ordering(), Polling: m.opts.Polling, NotKept: m.notKept}
	for _, id := range slices.Sorted(maps.Keys(m.spaces)) {
		sp := m.spaces[id]
		// Of an image that its last process has left for another nothing is told.
		if sp.tree == nil || sp.owner == nil || sp.state != known || sp.owner.Space != sp.id {
			continue
		}
		picture := sp.pictured()
		if len(sp.procs) > 0 && sp.tree.Doubtful() {
			picture.approximate(unsettled)
		}
		r.Picture.worsen(picture) // what is of one says more than what all have that are polled
		if r.Polling > 0 {
			picture.approximate(Unseen(r.Polling))
		}
		r.Spaces = append(r.Spaces, SpaceReport{
			Process: *sp.owner, Shared: len(sp.procs), Start: sp.start, Began: sp.began, Picture: picture,
			Unverified: sp.notVerified(),
		})
	}
	r.Picture.worsen(m.dropped)
	if r.Polling > 0 {
		r.Picture.approximate(Unseen(r.Polling))
	}
	if m.opts.Verify && !m.compared {
		r.Picture.approximate(NothingVerified)
	}
	return r
}

// pictured is how far the tree can be trusted, audits included.
func (sp *Space) pictured() Picture {
	p := sp.picture
	if len(sp.unverified) > 0 {
		p.approximate("not verified: " + sp.notVerified().String())
	}
	if sp.tree != nil && sp.tree.Aliased() {
		p.approximate(aliased)
	}
	if sp.tree != nil && sp.tree.HeapUnclear() {
		p.approximate(unclearHeap)
	}
	if sp.tree != nil && sp.tree.StackUnclear() {
		p.approximate(unclearStack)
	}
	return p
}

// aliased says that of some rows it is not known which name their file has.
const aliased = "a file is mapped that has several names: rows may show another of them"

// unclearHeap and unclearStack say that of some memory it is not known what it is called.
const (
	unclearHeap  = "memory is mapped beside the heap that may be shown as a part of it"
	unclearStack = "of memory in the stack or beside it, it is not known whether it is called so"
)

// ordering is what orders the events.
func (m *Model) ordering() string {
	if m.opts.Polling > 0 {
		return "polling"
	}
	for _, sp := range m.spaces {
		if !sp.numbered {
			return "time"
		}
	}
	return "section"
}

// worsen takes over what is worse in o.
func (p *Picture) worsen(o Picture) {
	if o.Why != "" {
		p.approximate(o.Why)
	}
	p.Missed = p.Missed || o.Missed
	p.Resyncs += o.Resyncs
	p.ResyncedAt = max(p.ResyncedAt, o.ResyncedAt)
}

// Line is the state of the picture for people, with the time of the last
// re-read as told by clock.
func (p Picture) Line(clock func(uint64) string) string {
	s := p.String()
	if p.Why == "" && !p.Missed && p.Resyncs > 0 {
		s = fmt.Sprintf("resynced at %s", clock(p.ResyncedAt))
	}
	return s
}
