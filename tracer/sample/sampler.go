//go:build linux

// Package sample looks at the world beside the events: at which pages of traced
// processes are resident, who keeps the memory of heaps that many share, and which
// limits are near. What it finds it gives as records (package event).
//
// What takes long is done on goroutines of the sampler's own, each process at its own
// pace. The other methods of a [Sampler] are for the goroutine that runs the tracer.
package sample

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Options of a Sampler.
type Options struct {
	FS procmaps.FS
	// Emit takes the records. Trees gives the address space of a number as it is now,
	// nil if it is not known.
	Emit  func(*event.Record)
	Trees func(space uint64) *space.Space
	// Interval is how often a process is looked at. Budget is the share of the time
	// that counting its pages may take, from 0 to 1: beyond, it is looked at less often.
	Interval time.Duration
	Budget   float64
	// Faults says that the kernel tells where page faults were. Else all pages are
	// counted each time.
	Faults bool
	// Watchpoints is how many words of a process are watched at once, 0 for none;
	// Settle for how long one must be left alone to count.
	Watchpoints int
	Settle      time.Duration
	// HeapBudget is the share of one CPU that sampling the blocks of a process' heap may
	// take from it, from 0 to 1; 0 leaves its allocator alone. Site gives a number to the
	// stack of who has called it, and Allocators finds the functions of it.
	HeapBudget float64
	Site       func(pid int, tree *space.Space, s *stack.Sample) uint32
	Allocators func(pid int, tree *space.Space) []heap.Allocator
	// Of the heap of a Go program, within the same budget, the profile is read that it
	// keeps itself. GoProgram finds the file with its runtime, and its bias, false if there
	// is none, and Walked gives a number to one of its stacks.
	GoProgram func(pid int, tree *space.Space) (m *symbol.Module, bias uint64, ok bool)
	Walked    func(pid int, tree *space.Space, pcs []uint64) uint32
	// Doubtful tells whether it is doubtful who keeps memory that a site touches, and
	// Reach which memory an extent is part of and will grow into. Group returns a
	// number that sites of one function share.
	Doubtful func(space uint64, e *space.Extent, site uint32) bool
	Reach    func(space uint64, e *space.Extent) procmaps.Range
	Group    func(site uint32) uint32
	// Sampled tells whether who keeps the memory of an extent is known by sampled blocks,
	// so that none of its words are watched.
	Sampled func(space uint64, e *space.Extent) bool
	// Groups are cgroups to be watched.
	Groups []Group
	Log    *slog.Logger
	// Calls bounds the waiting for what processes can delay; nil sets no bounds.
	Calls *await.Calls
}

// round is how often processes are looked for whose time has come: what the kernel tells
// of faults is read once for all of them.
const round = uint64(50 * time.Millisecond)

// Sampler samples all traced processes. Make one with [New].
type Sampler struct {
	opts    Options
	kernel  tracer.Sampling
	workers *workers
	spaces  map[uint64]*target
	living  map[int]*target // by process: its present image
	next    uint64          // the next round
	slack   uint64          // by how much the RSS of a process may be wrong, in bytes
	touches []tracer.Touch
	ranges  []procmaps.Range // scratch, of a plan
	untold  uint64           // faults that touches did not tell of, so far
	effort  event.Effort
	points  int       // threads that watch a word, of all processes
	words   uint64    // when to look at words again
	sampled int       // processes whose heaps are sampled
	ending  []*prober // of those that are not any more, whose probes are being taken off
	groups  groups
	begun   []*target // whose accounts were begun, and whose pages are to be counted
	// segments is of the workers.
	segments segments
	mallocs  int           // processes of which is read what their malloc holds
	over     chan struct{} // closed by end
	end      func()        // says that nothing rests any more
	told     tracer.HeapBlock
}

// target is one address space.
type target struct {
	space   uint64
	pid     int
	account account
	pages   *pageCount // nil until it is opened, and if it cannot be
	words   *wordWatch // nil if none of its words are watched
	heap    *heapWatch // nil if it is not sampled

	malloc *mallocWatch // nil if what its malloc holds is not read

	due   uint64 // when it is to be looked at next
	limit uint64 // when its limits are to be read next
	// busy: a worker has it. gone: it has ended, or another target took its place.
	busy, gone bool
	moved      bool          // its mappings have changed since they were planned to be counted
	begun      *accountBegin // of the account that is being read
	unwatched  bool          // its words cannot be watched at all
	told       string        // why none of them are watched, as was told last
	unsampled  bool          // its heap cannot be sampled at all, or was

	profile *profileWatch // nil if it is no Go program, or that was not asked
	asked   bool          // whether it is one

	// Why its heap is not sampled: by us, by its own profile, and as was told last.
	heapWhy, profileWhy, toldUnsampled string
}

// New starts a sampler. Close it.
func New(kernel tracer.Sampling, opts Options) *Sampler {
	over := make(chan struct{})
	return &Sampler{
		opts: opts, kernel: kernel, workers: startWorkers(), spaces: make(map[uint64]*target), living: make(map[int]*target),
		slack: rssSlack(onlineCPUs()), effort: event.Effort{Whole: make(map[string]uint64)},
		groups: groups{all: opts.Groups}, over: over, end: sync.OnceFunc(func() { close(over) }),
	}
}

// Close ends the workers and frees everything, but for what those use who are still at
// something when it is not waited for any more: that they keep.
func (s *Sampler) Close() {
	s.end()
	s.endHeaps()
	for _, t := range s.spaces {
		s.drop(t)
	}
	s.ended(true)
	s.workers.stop()
	s.collect(true) // what they were at is closed; those that are gone tell nothing
}

func (s *Sampler) emit(t *target, at uint64, b event.Body) {
	s.opts.Emit(&event.Record{At: at, Space: t.space, PID: t.pid, Tree: s.opts.Trees(t.space), Body: b})
}

// Change takes what the tracer tells.
func (s *Sampler) Change(c *tracer.Change) {
	t := s.spaces[c.Space]
	switch {
	case c.Kind == tracer.KindBegin:
		if c.Process != nil {
			s.begin(c)
		}
	case c.Kind == tracer.KindLost && c.Space == 0:
		s.forget(wholeMissed) // the call that took pages away may be among them
	case t == nil:
	case c.Kind == tracer.KindLost:
		if t.pages != nil {
			t.pages.forget(wholeMissed)
		}
	case c.Kind == tracer.KindUnkept:
		s.emit(t, c.Time, event.Uncounted("its mappings are not kept: memory budget reached"))
		s.drop(t)
	case c.Kind == tracer.KindExit:
		if t.pid == c.TGID {
			s.drop(t)
		}
	case c.Kind == tracer.KindWrite:
		if t.words != nil {
			t.words.keeper.Wrote(c.Addr, c.Site, c.Time)
		}
	default:
		t.account.change(c)
		t.moved = t.moved || c.Kind == tracer.KindCall || c.Kind == tracer.KindReread
		if c.Kind == tracer.KindCall && c.Call.Sub == space.SubProcessMadvise {
			s.forget(wholeAdvice) // it may be about any process
		}
		if t.pages != nil {
			t.pages.change(c)
		}
		if c.Kind == tracer.KindFault {
			s.touched(t, c)
		}
	}
}

// begin begins with a process whose mappings are known now.
func (s *Sampler) begin(c *tracer.Change) {
	t := &target{space: c.Space, pid: c.Process.PID}
	// A process that was found amid its exec begins twice; the image before is gone.
	for _, old := range []*target{s.spaces[t.space], s.living[t.pid]} {
		if old != nil && !old.gone {
			s.drop(old)
		}
	}
	s.spaces[t.space], s.living[t.pid] = t, t
	s.send(t, s.openJob(t))
}

// drop gives back what a target holds. If a worker has it, that is done when it comes back.
func (s *Sampler) drop(t *target) {
	t.gone = true
	if s.spaces[t.space] == t {
		delete(s.spaces, t.space)
	}
	if s.living[t.pid] == t {
		delete(s.living, t.pid)
	}
	s.closeWords(t)
	s.closeHeap(t)
	s.closeMalloc(t)
	s.closeProfile(t)
	if !t.busy {
		s.closed(s.closePages(t))
	}
}

func (s *Sampler) closed(err error) {
	if err != nil {
		s.opts.Log.Warn("stop counting resident pages", "error", err)
	}
}

// forget has everything of all processes counted at the next look.
func (s *Sampler) forget(why string) {
	for _, t := range s.spaces {
		if t.pages != nil {
			t.pages.forget(why)
		}
	}
}

// Idle looks at the processes whose time has come. It is to be called whenever
// everything that has arrived was handled.
func (s *Sampler) Idle() {
	s.collect(false)
	s.workers.relieve()
	now := s.kernel.Now()
	s.lookAtWords(now)
	s.lookAtHeaps(now)
	s.lookAtMallocs(now)
	s.lookAtProfiles(now)
	s.lookAtGroups(now)
	if now < s.next {
		return
	}
	s.next = now + min(round, uint64(s.opts.Interval)/2)
	fresh := false
	for _, t := range s.spaces {
		if t.busy || t.pages == nil || now < t.due {
			continue
		}
		if now >= t.account.due {
			s.beginAccount(t)
			continue
		}
		if !fresh {
			s.takeTouches()
			fresh = true
		}
		s.count(t, now, nil)
	}
}

// beginAccount reads the account of a target a first time, before what it has mapped is looked
// at: what is counted then is between that and what is read with it. See countBegun.
func (s *Sampler) beginAccount(t *target) {
	fs := s.opts.FS
	s.send(t, func() func() {
		begun := beginOf(fs, t.pid)
		return func() {
			t.begun = &begun
			s.begun = append(s.begun, t)
		}
	})
}

// countBegun counts the resident pages of those whose accounts were begun: where page faults
// have been since is read once for all of them.
func (s *Sampler) countBegun() {
	s.takeTouches()
	now := s.kernel.Now()
	for _, t := range s.begun {
		if !t.gone && t.pages != nil {
			s.count(t, now, t.begun)
		}
	}
	s.begun = s.begun[:0]
}

// count begins to count the resident pages of a target, and to read its account if that was
// begun.
func (s *Sampler) count(t *target, now uint64, begun *accountBegin) {
	tree := s.opts.Trees(t.space)
	if tree == nil {
		return
	}
	if t.pages.plan(tree, &s.ranges, s.effort.Whole) {
		s.emit(t, now, event.Counting{})
	}
	t.moved = false
	limits := now >= t.limit
	if limits {
		t.limit = now + uint64(limitsEvery)
	}
	s.send(t, s.countJob(t, limits, begun))
}

// send gives a target to a worker. What run returns must do nothing more for one that is
// gone meanwhile than to leave it what is to be closed.
func (s *Sampler) send(t *target, run func() func()) {
	t.busy = true
	s.ask(func() func() {
		done := run()
		return func() {
			t.busy = false
			done()
			if t.gone {
				s.closed(s.closePages(t))
			}
		}
	})
}

// ask has a worker do what may take as long as a process likes, and does here what that
// returns.
func (s *Sampler) ask(run func() func()) {
	s.workers.send(func() func() {
		s.opts.Calls.Begin()
		defer s.opts.Calls.Finish()
		return run()
	})
}

// collect takes what the workers have done; all that they have to do, if wait is set, as
// far as that is waited for.
func (s *Sampler) collect(wait bool) {
	for {
		done, ok := s.workers.take(false, s.opts.Calls)
		if !ok && len(s.begun) > 0 {
			s.countBegun()
			continue
		}
		if !ok && wait {
			done, ok = s.workers.take(true, s.opts.Calls)
		}
		if !ok {
			return
		}
		done()
	}
}

// Finish counts everything a last time, waits for it, and tells what sampling has cost.
func (s *Sampler) Finish() {
	s.end()
	s.endHeaps()
	s.collect(true)
	s.forget(wholeEnd) // the figures of the end are of everything
	now := s.kernel.Now()
	s.groups.due, s.groups.filesDue = 0, 0
	s.lookAtGroups(now)
	for _, t := range s.spaces {
		if t.pages != nil && !t.busy {
			t.limit = 0
			s.beginAccount(t)
		}
		if t.profile != nil {
			t.profile.read()
		}
	}
	s.lastOfMallocs()
	s.collect(true)
	for _, t := range s.spaces {
		if t.busy && (t.pages == nil || !t.pages.observed) { // it was never counted
			s.emit(t, now, event.Uncounted(await.ErrStalled.Error()))
		}
	}
	for _, t := range s.spaces {
		if t.words != nil {
			s.effort.Words = s.effort.Words.Plus(t.words.keeper.Stats())
		}
		if t.pages != nil && !t.busy {
			t.pages.cost(&s.effort)
		}
	}
	s.lastOfHeaps()
	s.effort.Missing = make(map[string]uint64)
	if err := s.kernel.FaultsErr(); err != nil {
		s.effort.Unseen = err.Error()
	}
	if c, err := s.kernel.StackCounters(); err == nil {
		s.effort.Faults = c.Faults
		for why, n := range map[string]uint64{
			event.ByChance: c.Chance, "no room in the ring": c.Dropped, "the CPU was at another": c.Busy,
			"too many others waited": c.Unread,
		} {
			if n > 0 {
				s.effort.Missing[why] = n
			}
		}
	}
	s.opts.Emit(&event.Record{At: s.kernel.Now(), Body: s.effort})
}

// takeTouches takes over where page faults have been. If that is not known all is
// counted again.
func (s *Sampler) takeTouches() {
	if !s.opts.Faults || s.kernel.FaultsErr() != nil {
		s.forget(wholeUnseen)
		return
	}
	var err error
	s.touches, err = s.kernel.Touched(s.touches[:0])
	c, e := s.kernel.StackCounters()
	if err = errors.Join(err, e); err != nil {
		s.opts.Log.Warn("read where page faults were", "error", err)
	}
	if err != nil || c.Touches != s.untold {
		s.untold = c.Touches
		s.forget(wholeLost)
	}
	for _, touch := range s.touches {
		if t := s.spaces[touch.Space]; t != nil && t.pages != nil {
			t.pages.set.Touch(touch.Addr)
		}
	}
}
