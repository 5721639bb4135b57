// Package order puts the events of a Source into the order in which they took effect,
// and keeps the region trees of package model by them.
//
// The order of things, which everything here rests on: the programs are
// attached, then a process is made known to them, then its mappings are read
// once, stamped with the time before the read. Whatever changes meanwhile
// arrives as an event with a later commit stamp and wins; what is older than
// the read is in it already. One goroutine, the caller of [Tracer.Run], owns
// everything; others read mappings for it, and nobody else touches anything.
//
// What is a matter of the moment ends here: queues, sections, losses, doubts, re-reads,
// audits. What goes on to the model is final.
package order

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Options say what a Tracer does. The zero value is usable.
type Options struct {
	// OnChange is called for everything that happened, from within Run. What it
	// is given is valid until it returns.
	OnChange func(*model.Change)
	// OnIdle is called, from within Run, whenever everything that has arrived
	// was handled: the moment to write out what was buffered.
	OnIdle func() error
	// Verify is how often each tree is compared with /proc; 0 means never.
	Verify time.Duration
	// PageSize in bytes; 0 means 4096.
	PageSize uint64
	// MovesMany and Shm are those of [space.Options].
	MovesMany bool
	Shm       procmaps.Device
	// Polling is set if the Source looks at /proc this often, which every report
	// then says.
	Polling time.Duration
	// Gate is a row that every new image has though no VMA holds it; empty
	// where there is none.
	Gate space.Row
	// KeepExited is how many address spaces of exited processes are kept for
	// the final report; the oldest go first. 0 means 64.
	KeepExited int
	// Memory is that of [model.Options].
	Memory int
	// Rows is that of [model.Options].
	Rows int
	// Sites makes sites of the stacks that come with events; nil makes none.
	Sites Sites
	// Calls bounds the waiting for what processes can delay; nil sets no bounds.
	Calls *await.Calls
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

// Tracer is the loop that keeps the order, and the model that it drives.
type Tracer struct {
	opts  Options
	src   Source
	world World
	log   *slog.Logger
	model *model.Model
	tap   func(*model.Operation)

	spaces map[uint64]*addressSpace
	busy   map[*addressSpace]bool // those that idle must look after
	paths  map[procmaps.FileID]path
	// Processes that a listing did not have, and when: their ends are on the way, or lost.
	missing map[int]uint64
	lostAt  uint64 // when a loss was known last, 0 for never
	wholeAt uint64 // until when it is known that none was lost but those
	// Unlisted says that there are processes that no listing after a loss has shown.
	unlisted bool

	// The memory of events that wait, and of those that have waited.
	stored          *budget.Share
	mostStoredOfOne int
	free            freeEvents

	timer *time.Timer
	looks *looks // nil where nothing is read, or not any more

	// The operation of a call, kept here so that none is made for each.
	op   model.Operation
	call model.Call

	figures    model.Figures // but for what the queues count
	nextVerify uint64
	nextPrune  uint64
	stopAt     uint64 // what happens later is not our concern; 0 while running
}

type path struct {
	name  string
	tries int
}

// New returns a Tracer. World is nil where there is none.
func New(src Source, world World, opts Options) *Tracer {
	if opts.PageSize == 0 {
		opts.PageSize = 4096
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tracer{
		opts: opts, src: src, world: world, log: opts.Log,
		spaces: make(map[uint64]*addressSpace),
		busy:   make(map[*addressSpace]bool), paths: make(map[procmaps.FileID]path), missing: make(map[int]uint64),
		timer: time.NewTimer(0), stored: budget.New(mostStored), mostStoredOfOne: mostStoredOfOne,
	}
	t.model = model.New(t.ModelOptions())
	if world != nil {
		t.looks = newLooks()
	}
	return t
}

// Tap has a function given every operation before it is applied, and the figures before
// each Options.OnIdle; an operation is valid until it returns. It is for before Run.
func (t *Tracer) Tap(tap func(*model.Operation)) { t.tap = tap }

// ModelOptions are those of the model that it drives: what a model of the same operations
// needs.
func (t *Tracer) ModelOptions() model.Options {
	return model.Options{
		OnChange: t.opts.OnChange, PageSize: t.opts.PageSize, MovesMany: t.opts.MovesMany, Shm: t.opts.Shm,
		Polling: t.opts.Polling, KeepExited: t.opts.KeepExited, Verify: t.opts.Verify > 0, Memory: t.opts.Memory, Rows: t.opts.Rows,
	}
}

func (t *Tracer) now() uint64 {
	if t.world == nil {
		return t.figures.Newest
	}
	return t.world.Now()
}

// Add begins with processes that are traced and were there before. Their
// mappings are read while the loop runs; with now set they are read at once,
// which is for a process that stands still.
func (t *Tracer) Add(tasks []Task, now bool) error {
	for _, task := range tasks {
		if t.model.Process(task.PID) != nil {
			continue
		}
		sp := t.spaces[task.Space]
		if sp == nil {
			sp = t.adopt(task)
		}
		t.settle(&task, sp)
		if !now {
			continue
		}
		look, err := await.Do(t.opts.Calls, task.PID, func() (Look, error) { return t.world.Look(task.PID, space.All, true, (*place)(nil).take) }, nil)
		if errors.Is(err, await.ErrStalled) {
			continue // it is read like the others, while it waits
		}
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
	t.stopLooking()
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

// told has everybody do what is to be done when all that has arrived was told.
func (t *Tracer) told() error {
	if t.tap != nil {
		t.emit(&model.Operation{Body: t.Stats().Figures})
	}
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
		over := ctx.Err() != nil || t.world != nil && t.model.Alive() == 0
		switch {
		case over:
			return nil
		case n == batch || t.world == nil:
			continue
		case n > 0 || len(t.busy) > 0 || t.looks.underway() > 0:
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
			t.wholeAt = began
			t.idle(began)
			return n, nil
		}
		if err != nil {
			return n, err
		}
		t.arrive(&ev)
	}
	t.idle(t.figures.Newest) // a flood must not keep anything from its turn
	return limit, nil
}

// arrive takes one event from the Source.
func (t *Tracer) arrive(ev *Event) {
	if t.stopAt != 0 && ev.Time > t.stopAt && ev.Kind != model.KindLost && ev.Kind != KindSkipped && ev.Flags&model.Polled == 0 {
		return // after the end
	}
	t.figures.Records++
	if ev.Kind == model.KindLost || ev.Kind == KindSkipped {
		t.lose(ev) // its time is when that was seen: older ones may be still to be read
		return
	}
	t.figures.Newest = max(t.figures.Newest, ev.Time)
	switch ev.Kind {
	case model.KindExec:
		t.exec(ev)
		return
	case model.KindFault, model.KindWrite, model.KindMade:
		t.touched(ev)
		return
	case KindLook:
		t.polled(ev)
		return
	case model.KindTiming:
		if sp := t.spaces[ev.Space]; sp == nil || !sp.waits() {
			t.timed(ev)
			return
		}
	case model.KindFork:
		t.forked(ev)
	}
	sp := t.spaces[ev.Space]
	if sp == nil {
		t.stray(ev)
		return
	}
	if sp.waits() && ev.Kind != KindRow && ev.Kind != KindSeeded {
		t.wait(sp, ev)
		return
	}
	t.enter(sp, ev)
}

// stray handles an event of an address space that is not known: what told of it was lost, which
// is known, or it is gone, and this a late mlock, or an exit.
func (t *Tracer) stray(ev *Event) {
	t.figures.Strays++
	if ev.Kind == model.KindExit {
		t.exit(ev)
	}
}

// enter gives an event of a known state to the queue.
func (t *Tracer) enter(sp *addressSpace, ev *Event) {
	switch ev.Kind {
	case KindRow:
		sp.rows = append(sp.rows, ev.Row)
	case KindSeeded:
		t.imaged(sp, ev)
	case model.KindTiming:
		t.timed(ev) // it waited for the state
	case model.KindExit:
		// Every thread is past its last call; whoever shares the space is not.
		if sp.Inhabitants() <= 1 {
			t.flush(sp)
			if ev.Flags&HasSection != 0 && sp.q.shortOf(ev.Section) && (t.learn() || sp.stale) {
				sp.q.excuse(ev.Section)
			}
			if ev.Flags&HasSection != 0 && sp.q.end(ev.Section, t.now()) {
				t.note(sp, ev.Time, model.Missed{}) // and nobody is left to be asked
			}
			sp.endedAt, sp.whole = ev.Time, ev.Flags&HasSection != 0 && sp.q.numbered
		}
		t.exit(ev)
	case KindGone:
		t.flush(sp)
		t.bury(sp, ev)
	default:
		sp.q.push(ev, sp.deliver)
		t.hurry(sp)
		if sp.q.blocked() {
			t.busy[sp] = true
		}
		if sp.completeAt != 0 {
			t.complete(sp)
		}
	}
}

// deliver takes an event in its turn.
func (t *Tracer) deliver(sp *addressSpace, ev *Event, late bool) {
	if !sp.held.holds(ev, late) {
		t.handle(sp, ev, late)
		return
	}
	if sp.held.add(ev, late); t.crowded(sp) {
		t.letIn(sp)
	}
}

// emit hands an operation on to the model.
func (t *Tracer) emit(op *model.Operation) model.Feedback {
	if t.tap != nil {
		t.tap(op)
	}
	return t.model.Apply(op)
}

// note hands on what is about an address space, and was not done by anybody.
func (t *Tracer) note(sp *addressSpace, at uint64, b model.Body) model.Feedback {
	return t.emit(&model.Operation{Time: at, Space: sp.id, Body: b})
}

// by hands on what an event reports.
func (t *Tracer) by(ev *Event, b model.Body) model.Feedback {
	return t.emit(&model.Operation{
		Time: ev.Time, Space: ev.Space, TGID: ev.TGID, TID: ev.TID, Flags: ev.Flags & told, Body: b,
	})
}

// Known tells whether the mappings of a process are known. It is for OnChange
// and OnIdle.
func (t *Tracer) Known(pid int) bool {
	p := t.model.Process(pid)
	if p == nil {
		return false
	}
	sp := t.spaces[p.Space]
	return sp != nil && !sp.waits()
}

// Tree is an address space as it is now, nil if it is not known (yet). It is the
// model's own: it must not be used when the Tracer has gone on.
func (t *Tracer) Tree(id uint64) *space.Space { return t.model.Tree(id) }

// Stats are the figures so far.
func (t *Tracer) Stats() model.Stats {
	s := t.model.Stats()
	s.Figures = t.figures
	for _, sp := range t.spaces {
		sp.q.count(&s.Figures)
	}
	return s
}

// Report is everything that is known.
func (t *Tracer) Report() model.Report {
	r := t.model.Report()
	r.Stats = t.Stats()
	return r
}
