// Package tracer keeps the region trees of traced processes from the events of
// a Source, and tells what changes.
//
// The order of things, which everything here rests on: the programs are
// attached, then a process is made known to them, then its mappings are read
// once, stamped with the time before the read. Whatever changes meanwhile
// arrives as an event with a later commit stamp and wins; what is older than
// the read is in it already. One goroutine, the caller of [Tracer.Run], owns
// all trees; another reads /proc for it, and nobody else touches anything.
package tracer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// ErrIdle is returned by a Source that has no event now.
var ErrIdle = errors.New("no event now")

// Options say what a Tracer does. The zero value is usable.
type Options struct {
	// OnChange is called for everything that happened, from within Run. What it
	// is given is valid until it returns.
	OnChange func(*Change)
	// OnIdle is called, from within Run, whenever everything that has arrived
	// was handled: the moment to write out what was buffered.
	OnIdle func() error
	// Verify is how often each tree is compared with /proc; 0 means never.
	Verify time.Duration
	// PageSize in bytes; 0 means 4096.
	PageSize uint64
	// Polling is set if the Source looks at /proc this often, which every report
	// then says.
	Polling time.Duration
	// Gate is a row that every new image has though no VMA holds it; empty
	// where there is none.
	Gate space.Row
	// KeepExited is how many address spaces of exited processes are kept for
	// the final report; the oldest go first. 0 means 64.
	KeepExited int
	// Sites makes sites of the stacks that come with events; nil makes none.
	Sites Sites
	// Log receives what is of use for finding faults; nil discards it.
	Log *slog.Logger
}

// Sites makes numbers of stacks, for the origins of what is mapped.
type Sites interface {
	// Site returns the number of the place in the program that a stack leads to,
	// not 0. The tree is the address space of the process, as it was before the
	// call that the stack belongs to. It is called from within Run.
	Site(pid int, tree *space.Space, s *stack.Sample) uint32
}

// Stratum is a set of calls that are alike as far as that is known without their
// stacks: they come from the same place by the hashes of the kernel side, and their
// stacks were sent with the same probability. So of the calls of a stratum those with a
// stack are a random sample, whatever became of what they made. Zero is the stratum of
// calls whose stacks were not asked for.
type Stratum uint32

// asked tells a stratum from none, and anyOf one from what stands for several: all else
// in them may be 0.
const (
	asked Stratum = 1 << 31
	anyOf Stratum = 1 << 30
)

// MakeStratum returns the stratum of calls from a place, by the hashes of its return
// addresses and of its depth, with the chance 2^-chance.
//
// Preconditions: chance < 32.
func MakeStratum(path uint16, depth, chance uint8) Stratum {
	return asked | Stratum(chance)<<24 | Stratum(depth)<<16 | Stratum(path)
}

// Path stands for all strata with the same return addresses, whatever their depth and
// chance. It is no stratum itself.
func (s Stratum) Path() Stratum { return s&(asked|1<<16-1) | anyOf }

// Weight is for how many calls of the stratum one with a stack stands on average.
func (s Stratum) Weight() uint64 { return 1 << (s >> 24 & 31) }

// Blame is what an origin's site holds: the number of a site and the stratum of the
// call. Zero is no site.
type Blame uint64

// MakeBlame returns that of a call; the site is 0 if its stack is not there.
func MakeBlame(site uint32, of Stratum) Blame { return Blame(of)<<32 | Blame(site) }

// Missing tells whether it is that of a call without the stack it should have.
func (b Blame) Missing() bool { return b.Site() == 0 && b.Stratum() != 0 }

// Site is the number that Sites gave.
func (b Blame) Site() uint32 { return uint32(b) }

// Stratum is the stratum of the call.
func (b Blame) Stratum() Stratum { return Stratum(b >> 32) }

// Change is one thing that happened, as told to Options.OnChange.
type Change struct {
	*Event
	Process *Process
	// Effect is what a KindCall did to the tree.
	Effect *space.Effect
	// Site is the site of a KindFault or KindWrite, and of a KindCall or KindTiming
	// that has one.
	Site uint32
	// At is what is mapped where a KindFault touched, the zero Extent if nothing
	// is known to be.
	At space.Extent
	// Start is what is mapped at a KindBegin.
	Start *space.Snapshot
	// Found is what a look at /proc showed that no call had told of: growth of
	// the stack, mappings made by the kernel, repairs after a loss. Found are
	// changes of KindReread.
	Found []space.Change
	// Drift is where the tree differed from /proc, of KindDrift.
	Drift []space.Drift
}

// What the loop itself tells, beside what a Source gives.
const (
	KindReread     Kind = 64 + iota // a look at /proc found something
	KindDrift                       // an audit found a difference
	KindBegin                       // a process' mappings are known: its start
	KindSuppressed                  // a call was given a result that says success, and was not executed
)

const (
	pollBusy  = 5 * time.Millisecond  // between two reads of a ring in use
	pollIdle  = 40 * time.Millisecond // and of one that nothing comes from
	patience  = 50 * uint64(time.Millisecond)
	settle    = uint64(time.Second)           // how long a hole, or without numbers a difference, may stay
	reorder   = 10 * uint64(time.Millisecond) // how long unnumbered events wait for older ones
	remember  = 5 * uint64(time.Second)       // how long holes in the tree keep their stamps
	auditWait = 2 * uint64(time.Second)       // how long an audit waits for calls under way
	batch     = 1 << 12                       // events handled before anything else gets a turn
)

// Tracer is the loop and what it owns.
type Tracer struct {
	opts  Options
	src   Source
	world World
	log   *slog.Logger

	spaces map[uint64]*addressSpace
	procs  map[int]*Process
	busy   map[*addressSpace]bool // those that idle must look after
	kept   []*addressSpace        // gone ones, oldest first
	paths  map[fileID]path
	// Processes that a listing did not have, and when: their ends are on the way, or lost.
	missing map[int]uint64

	timer     *time.Timer
	looks     chan lookRequest
	looked    chan lookResult
	underway  int
	stopLooks func()

	// What is told of a call, kept here so that none is made for each.
	effect space.Effect
	change Change

	stats      Stats
	dropped    Picture // the worst of what is not kept
	notKept    int
	nextVerify uint64
	nextPrune  uint64
	stopAt     uint64 // what happens later is not our concern; 0 while running
	alive      int
}

// addressSpace is one tree and the queue before it.
type addressSpace struct {
	id      uint64
	tree    *space.Space
	q       queue
	deliver func(*Event, bool)
	procs   []*Process // those that live in it
	owner   *Process   // the first of them, or when none lives the last

	waiting bool     // its first state is not known yet
	backlog []*Event // what arrived meanwhile
	rows    []space.Row
	seeding bool // its first state is read from /proc
	start   space.Snapshot
	began   uint64

	blocked   uint64            // since when the queue has been blocked; 0 if it is not
	announced map[uint32]uint64 // calls that have committed and are yet to come: when, by section
	looking   bool
	parked    []lookResult
	held      held   // what came in its turn since the look was asked for
	stale     bool   // events were lost
	skips     bool   // programs were skipped since: what the queue finds lost makes it stale
	known     uint64 // how much the queue had found lost when that was looked at
	explained uint64 // how much had been skipped when an audit found nothing, or what it found was put down to that
	lostAt    uint64 // when that was known last
	reason    lookReason
	gone      bool

	state      Picture
	violations uint64
	drift      uint64
	late       uint64

	replaced   bool        // by exec: its figures count, its table is of no use
	completeAt uint64      // the section from which on the tree is known to hold everything; 0 if it does
	blockedAt  uint64      // q.next when it was found blocked
	forks      []forkStamp // the latest
	growsDown  bool        // there is memory that grows as the stack does
	failed     int         // looks in a row that found nobody
	unreadable bool        // nobody is left to be asked, or who is refuses
	auditDue   bool        // it is to be audited as soon as nothing is in doubt

	// Without numbers: since when each audit has found a difference.
	suspects map[difference]uint64
}

// forkStamp is when a child got its copy of a tree.
type forkStamp struct{ child, at uint64 }

// lookReason says why a tree must be read again, and what its changes are called.
type lookReason struct {
	op  space.Op
	tid uint32
	nr  int16
}

type fileID struct {
	dev   procmaps.Device
	inode uint64
}

type path struct {
	name  string
	tries int
}

// New returns a Tracer. World is nil for a recording.
func New(src Source, world World, opts Options) *Tracer {
	if opts.PageSize == 0 {
		opts.PageSize = 4096
	}
	if opts.KeepExited == 0 {
		opts.KeepExited = 64
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tracer{
		opts: opts, src: src, world: world, log: opts.Log,
		spaces: make(map[uint64]*addressSpace), procs: make(map[int]*Process),
		busy: make(map[*addressSpace]bool), paths: make(map[fileID]path), missing: make(map[int]uint64),
		timer: time.NewTimer(0),
	}
	if world != nil {
		t.startLooking()
	}
	return t
}

func (t *Tracer) now() uint64 {
	if t.world == nil {
		return t.stats.Newest
	}
	return t.world.Now()
}

// Add begins with processes that are traced and were there before. Their
// mappings are read while the loop runs; with now set they are read at once,
// which is for a process that stands still.
func (t *Tracer) Add(tasks []Task, now bool) error {
	for _, task := range tasks {
		if p := t.procs[task.PID]; p != nil && !p.Exited {
			continue
		}
		sp := t.spaces[task.Space]
		if sp == nil {
			sp = t.adopt(task)
		}
		t.join(task.PID, task.Inner, 0, task.Comm, task.StartTime, sp)
		if !now {
			continue
		}
		look, err := t.world.Look(task.PID, space.All, true)
		if err != nil {
			return err
		}
		t.seed(sp, &look)
	}
	return nil
}

// Run handles events until every traced process is gone, the Source ends or
// ctx is done; then it finishes: what is in doubt is read a last time, the
// trees are audited if Options.Verify asks for it, and detach is called (unless
// nil) before the last events are read. Errors of Options.OnIdle end it at once.
func (t *Tracer) Run(ctx context.Context, detach func() error) error {
	err := t.loop(ctx)
	if err == nil && t.world != nil {
		err = t.finish()
	}
	if detach != nil {
		err = errors.Join(err, detach())
	}
	if t.stopLooks != nil {
		t.stopLooks()
	}
	if err != nil {
		return err
	}
	if _, err := t.drain(0); notEOF(err) != nil {
		return err
	}
	for _, sp := range t.spaces {
		t.flush(sp)
	}
	return t.told()
}

// notEOF takes the end of a Source for what it is.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (t *Tracer) told() error {
	if t.opts.OnIdle == nil {
		return nil
	}
	return t.opts.OnIdle()
}

// loop is the ordinary running.
func (t *Tracer) loop(ctx context.Context) error {
	wait := pollBusy
	for {
		n, err := t.drain(batch)
		if err != nil {
			return notEOF(err)
		}
		if n < batch {
			if err := t.told(); err != nil {
				return err
			}
		}
		over := ctx.Err() != nil || t.world != nil && t.alive == 0
		switch {
		case over:
			return nil
		case n == batch || t.world == nil:
			continue
		case n > 0 || len(t.busy) > 0 || t.underway > 0:
			wait = pollBusy
		default:
			wait = min(wait*2, pollIdle)
			if p, ok := t.src.(paced); ok {
				wait = p.Due()
			}
		}
		t.pause(ctx, wait)
	}
}

// pause waits, at most until ctx is done.
func (t *Tracer) pause(ctx context.Context, d time.Duration) {
	t.timer.Reset(d)
	select {
	case <-ctx.Done():
	case <-t.timer.C:
	}
}

// drain handles what the Source has, up to limit events (0: no limit), and
// whatever is due when it has no more. It returns how many there were.
func (t *Tracer) drain(limit int) (int, error) {
	began := t.now()
	var ev Event
	for n := 0; limit == 0 || n < limit; n++ {
		err := t.src.Next(&ev)
		if errors.Is(err, ErrIdle) {
			t.idle(began)
			return n, nil
		}
		if err != nil {
			return n, err
		}
		t.arrive(&ev)
	}
	t.idle(0) // a flood must not keep anything from its turn
	return limit, nil
}

// arrive takes one event from the Source.
func (t *Tracer) arrive(ev *Event) {
	if t.stopAt != 0 && ev.Time > t.stopAt && ev.Kind != KindLost && ev.Kind != KindSkipped && ev.Flags&Polled == 0 {
		return // after the end
	}
	t.stats.Records++
	t.stats.Newest = max(t.stats.Newest, ev.Time)
	switch ev.Kind {
	case KindLost, KindSkipped:
		t.lose(ev)
		return
	case KindExec:
		t.exec(ev)
		return
	case KindFault, KindWrite:
		t.touched(ev)
		return
	case KindLook:
		t.polled(ev)
		return
	case KindTiming:
		if sp := t.spaces[ev.Space]; sp == nil || !sp.waiting {
			t.timed(ev)
			return
		}
	case KindFork:
		t.forked(ev)
	}
	sp := t.spaces[ev.Space]
	if sp == nil {
		// The event that told of the space was lost, which is known, or the space
		// is gone: a late mlock, an exit.
		t.stats.Strays++
		if ev.Kind == KindExit {
			t.exit(nil, ev)
		}
		return
	}
	if sp.waiting && ev.Kind != KindRow && ev.Kind != KindSeeded {
		c := *ev
		sp.backlog = append(sp.backlog, &c)
		return
	}
	t.enter(sp, ev)
}

// enter gives an event of a known state to the queue.
func (t *Tracer) enter(sp *addressSpace, ev *Event) {
	switch ev.Kind {
	case KindRow:
		sp.rows = append(sp.rows, ev.Row)
	case KindSeeded:
		t.imaged(sp, ev)
	case KindTiming:
		t.timed(ev) // it waited for the state
	case KindExit:
		// Every thread is past its last call; whoever shares the space is not.
		if len(sp.procs) <= 1 {
			t.flush(sp)
			if ev.Flags&HasSection != 0 && sp.q.end(ev.Section, t.now()) {
				sp.state.missed() // and nobody is left to be asked
			}
		}
		t.exit(sp, ev)
	case KindGone:
		t.flush(sp)
		t.bury(sp)
	default:
		sp.q.push(ev, sp.deliver)
		if sp.q.blocked() {
			t.busy[sp] = true
		}
		if sp.completeAt != 0 {
			sp.complete()
		}
	}
}

// deliver takes an event in its turn.
func (t *Tracer) deliver(sp *addressSpace, ev *Event, late bool) {
	if !sp.held.holds(ev, late) {
		t.handle(sp, ev, late)
		return
	}
	if sp.held.add(ev, late); sp.held.full() {
		t.letIn(sp)
	}
}

// handle handles an event.
func (t *Tracer) handle(sp *addressSpace, ev *Event, late bool) {
	if late {
		sp.late++
	}
	switch ev.Kind {
	case KindCall:
		t.call(sp, ev, late)
	case KindFork:
		t.fork(sp, ev, late)
	case KindAnnounce:
		// Without numbers nothing tells when the call itself has come, and where
		// records were lost it may be among them.
		if sp.q.numbered && sp.q.section(ev) >= sp.q.excused {
			sp.announced[ev.Section] = ev.Time
		}
	case KindOther:
		t.stats.Others++
		sp.tree.SetUserfault() // for all that is known
		t.doubt(sp, space.All, ev.Time, lookReason{space.OpOther, uint32(ev.TID), ev.NR})
	case KindStack:
		t.stats.Others++
		t.stack(sp, ev)
	}
}

// call applies one call to the tree.
func (t *Tracer) call(sp *addressSpace, ev *Event, late bool) {
	// One that was under way when records were lost, and was taken for one of them: a
	// read may have seen what it did, though its stamp is later.
	expected := !late || ev.Time < sp.lostAt || !sp.q.numbered || sp.q.section(ev) >= sp.q.excused
	if ev.Claimed != 0 {
		if ev.Claimed == KindAnnounce {
			_, known := sp.announced[ev.Section]
			expected = expected && known
			delete(sp.announced, ev.Section)
		} else {
			t.stats.Others--
		}
	}
	if t.unlocked(sp, ev) {
		return
	}
	t.stats.count(ev)
	c := &ev.Call
	if (ev.Flags&Stamped == 0 || !expected) && movesMemory(c) {
		// It had committed before we looked, or its stamp had no place, or it was
		// given up. When it took effect is not known, so what it did is read.
		t.doubt(sp, callRange(c), ev.Time, lookReason{op: space.OpReread})
		return
	}
	const mapGrowsDown = 0x100
	if c.Op == space.OpMmap && c.Args[3]&mapGrowsDown != 0 {
		sp.growsDown = true
	}
	t.name(sp, ev)
	site := t.site(sp, ev)
	eff := &t.effect
	if changes(sp, ev) {
		*eff = sp.tree.Apply(c)
	} else {
		*eff = space.Effect{}
	}
	if eff.Violations > 0 {
		sp.violations += uint64(eff.Violations)
		t.log.Warn("impossible event", "reason", eff.Reason, "space", sp.id, "op", c.Op,
			"range", eff.Range, "from", eff.From, "args", c.Args, "section", ev.Section, "tid", ev.TID)
		if t.world != nil {
			t.doubt(sp, space.All, ev.Time, lookReason{op: space.OpReread})
		}
	}
	if len(eff.Doubts) > 0 {
		t.want(sp, lookReason{op: space.OpReread})
	}
	if eff.Late {
		t.doubtChildren(sp, c, eff)
	}
	if c.Time < sp.began {
		return // it is part of the state that was found
	}
	t.change = Change{Event: ev, Effect: eff, Site: site}
	t.tell(sp, &t.change)
}

// site finds the site of a call, which becomes the origin of what it makes.
func (t *Tracer) site(sp *addressSpace, ev *Event) uint32 {
	switch {
	case t.opts.Sites == nil:
		return 0
	case ev.Sample != nil:
		site := t.opts.Sites.Site(ev.TGID, sp.tree, ev.Sample)
		ev.Call.Site = uint64(MakeBlame(site, ev.Stratum))
		return site
	case ev.Flags&Unsampled != 0:
		ev.Call.Site = uint64(MakeBlame(0, ev.Stratum))
		t.stats.Unsampled++
	}
	return 0
}

// touched finds the site of a page fault or a write. Its place in the order does not
// matter.
func (t *Tracer) touched(ev *Event) {
	sp := t.spaces[ev.Space]
	if sp == nil || sp.waiting || t.opts.Sites == nil {
		return
	}
	t.change = Change{Event: ev, Site: t.opts.Sites.Site(ev.TGID, sp.tree, ev.Sample)}
	if ev.Kind == KindFault {
		t.stats.Faults++
		// Addresses are used again: what is there now may not have been touched.
		if at, ok := sp.tree.At(ev.Addr); ok && at.Since <= ev.Time {
			t.change.At = at
		}
	}
	t.tell(sp, &t.change)
}

// doubtChildren makes sure of children that were forked before a late call was
// known of, and after it took effect.
func (t *Tracer) doubtChildren(sp *addressSpace, c *space.Call, eff *space.Effect) {
	for _, f := range sp.forks {
		child := t.spaces[f.child]
		if c.Time >= f.at || child == nil || child.waiting {
			continue
		}
		for _, r := range [2]procmaps.Range{eff.Range, eff.From} {
			t.doubt(child, r, f.at, lookReason{op: space.OpReread})
		}
	}
}

// changes tells whether a call may have changed anything: one that failed and did
// not take the lock for writing has not.
func changes(sp *addressSpace, ev *Event) bool {
	if ev.Call.Ret >= 0 || ev.Call.Ret < -4095 {
		return true
	}
	if sp.q.numbered {
		return ev.Flags&HasSection != 0
	}
	return ev.Flags&Stamped != 0
}

// movesMemory tells whether a call that succeeded has changed what is mapped.
func movesMemory(c *space.Call) bool {
	if c.Failed() {
		return false
	}
	switch c.Op {
	case space.OpMadvise, space.OpMlock, space.OpMbind:
		return false
	}
	return true
}

// callRange is where a call without a stamp may have changed something.
func callRange(c *space.Call) procmaps.Range {
	switch c.Op {
	case space.OpMmap:
		return procmaps.Range{Start: uint64(c.Ret), End: uint64(c.Ret) + c.Args[1]}
	case space.OpMunmap, space.OpMprotect:
		return procmaps.Range{Start: c.Args[0], End: c.Args[0] + c.Args[1]}
	}
	return space.All
}

// doubt marks a range as unknown since a stamp, to be read again.
func (t *Tracer) doubt(sp *addressSpace, r procmaps.Range, at uint64, why lookReason) {
	if r.Empty() {
		return
	}
	sp.tree.Doubt(r, at)
	t.want(sp, why)
}

// want asks for a look at what is in doubt.
func (t *Tracer) want(sp *addressSpace, why lookReason) {
	if sp.reason.op == 0 || why.op == space.OpReread || sp.reason.op == space.OpStack {
		sp.reason = why
	}
	t.busy[sp] = true
}

// stack lets the stack of the main thread grow. If the program has made others
// with MAP_GROWSDOWN nobody knows which it was, and all is read again.
func (t *Tracer) stack(sp *addressSpace, ev *Event) {
	e, ok := sp.tree.Stack()
	size := uint64(ev.Pages) * t.opts.PageSize
	if !ok || sp.growsDown || ev.Pages <= 0 || size >= e.Start {
		t.doubt(sp, space.All, ev.Time, lookReason{space.OpStack, uint32(ev.TID), ev.NR})
		return
	}
	grown := procmaps.Range{Start: e.Start - size, End: e.Start}
	found := sp.tree.Reread(space.Read{
		Range: grown, Began: ev.Time, Op: space.OpStack, TID: uint32(ev.TID),
		Rows: []space.Row{{
			Mapping: procmaps.Mapping{Range: grown, Mode: e.Mode},
			Flags:   space.GrowsDown, Known: space.GrowsDown,
		}},
	})
	if len(found) == 0 {
		return // a read has seen it
	}
	for i := range found {
		// By itself the piece is as anonymous as any.
		found[i].Now.Kind, found[i].Now.Name = procmaps.KindStack, "[stack]"
	}
	tgid, tid := ev.TGID, ev.TID
	if ev.Flags&Remote != 0 && sp.owner != nil {
		// A reader of /proc saw it before any thread of the process let go of the
		// lock again: which of them it was is not known.
		tgid, tid = sp.owner.PID, 0
	}
	t.tell(sp, &Change{
		Event: &Event{
			Kind: KindReread, Time: ev.Time, Space: sp.id, TGID: tgid, TID: tid, NR: ev.NR,
			Call: space.Call{Op: space.OpStack, Time: ev.Time, TID: uint32(tid)},
		},
		Found: found,
	})
}

// tell reports a change.
func (t *Tracer) tell(sp *addressSpace, c *Change) {
	if t.opts.OnChange == nil {
		return
	}
	if c.Process == nil && sp != nil {
		if c.Process = t.procs[c.TGID]; c.Process == nil {
			c.Process = sp.owner
		}
	}
	t.opts.OnChange(c)
}

// Known tells whether the mappings of a process are known. It is for OnChange
// and OnIdle.
func (t *Tracer) Known(pid int) bool {
	p := t.procs[pid]
	if p == nil {
		return false
	}
	sp := t.spaces[p.Space]
	return sp != nil && !sp.waiting
}
