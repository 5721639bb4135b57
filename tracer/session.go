package tracer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// Engine is a source of events about living processes, and their world: the kernel side
// ([Live]) or polling ([Poll]).
type Engine interface {
	Source
	World
	// Info says what it can do.
	Info() Info
	// Trace begins to trace processes and returns those of all traced ones that have an
	// address space.
	Trace(pids ...int) ([]Task, error)
	// Untracked is how many address spaces and processes there was no room for.
	Untracked() (uint64, error)
	// Detach stops the events; those already sent can still be read.
	Detach() error
	Close() error
}

// Info says what an Engine gives, and what else it can be asked for.
type Info struct {
	// Polling is how often it looks at /proc, if that is all it does; else 0.
	Polling time.Duration
	// Gate is a row that every new image has though no VMA holds it; empty where there
	// is none.
	Gate space.Row
	// MovesMany says that the kernel is known to move several mappings with one mremap.
	MovesMany bool
	// Shm is the device of the kernel's own mount of shared memory; zero if not known.
	Shm procmaps.Device
	// Memory is what the kernel keeps for it, in bytes.
	Memory uint64
	// Sampling is what samplers ask it for, Latency what calls took; nil if it was not
	// opened for that.
	Sampling Sampling
	Latency  Latencies
}

// Latencies tell how long calls took.
type Latencies interface {
	Latencies() ([]Latency, error)
	TimingCounters() (TimingCounters, error)
	// RaiseWorst has every call told that takes at least ns, whatever the budget.
	RaiseWorst(ns uint64) error
}

// Sink takes what a session tells, in order. Its methods are called by the goroutine that
// runs the session, and what they are given is valid until they return.
type Sink interface {
	Change(*Change)
	Record(*event.Record)
	// Idle is called whenever everything that has arrived was handled: the moment to
	// write out what was buffered. An error ends the session.
	Idle() error
}

// Sampler looks at the world beside the events of a session, and emits what it finds.
type Sampler interface {
	// Change and Idle are called as those of a Sink are, after them.
	Change(*Change)
	Idle()
	// Finish has a last look at everything that lives, before the session ends.
	Finish()
}

// Session is one run of the engine: processes, whose changes and records go to sinks. One
// goroutine uses it, the one that calls Run.
type Session struct {
	base
	state
	engine   Engine       // nil in a replay, and
	tr       *Tracer      // so is this
	model    *model.Model // of a replay, else nil
	rec      *Recording   // what is played, or is recorded to; else nil
	now      uint64
	log      *slog.Logger
	calls    *await.Calls // nil for no bounds
	sinks    []Sink
	samplers []Sampler
	tasks    []Task

	onReady func() error
	unread  map[int]bool // processes whose mappings must be known before it is ready
	ready   bool
	members members
}

// base is what an engine and a recording have in common.
type base interface {
	// Info says what it can do.
	Info() Info
	// Untracked is how many address spaces and processes there was no room for.
	Untracked() (uint64, error)
	// Close frees it.
	Close() error
}

// state is what a session knows.
type state interface {
	// Tree is an address space as it is now, nil if it is not known. It is the session's
	// own: valid until the call that it was asked in returns.
	Tree(id uint64) *space.Space
	// Report is everything that is known, but for the trees.
	Report() Report
	// Stats are the figures so far.
	Stats() Stats
}

// NewSession makes a session of an engine, which it closes. Nothing is traced yet. The
// hooks of opts, and what the engine's Info says, are the session's to set.
func NewSession(engine Engine, opts Options) *Session {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Session{base: engine, engine: engine, now: engine.Now(), log: opts.Log, calls: opts.Calls}
	info := engine.Info()
	opts.Gate, opts.MovesMany, opts.Shm, opts.Polling = info.Gate, info.MovesMany, info.Shm, info.Polling
	opts.OnChange, opts.OnIdle = s.change, s.idle
	s.tr = New(engine, engine, opts)
	s.state = s.tr
	return s
}

// Now is the clock of everything that the session tells: CLOCK_MONOTONIC, ns. It stands
// still while something is told, and until Run is called: it is as of when all that had
// arrived was last handled.
func (s *Session) Now() uint64 { return s.now }

// Record has all that Run will tell recorded too.
func (s *Session) Record(r *Recording) { s.rec = r }

// Trace chooses the processes to begin with; it may be called again until Run is, with
// more. Without an error there is at least one. More tells which others belong to those
// traced, as children born meanwhile do; it is asked until there are none.
func (s *Session) Trace(pids []int, more func(pids []int) ([]int, error)) error {
	defer func() { s.now = s.engine.Now() }()
	for {
		tasks, err := s.engine.Trace(pids...)
		if err != nil {
			return err
		}
		if len(tasks) == 0 {
			return fmt.Errorf("process %d: %w", pids[0], procmaps.ErrGone)
		}
		s.tasks = tasks
		if more == nil {
			return nil
		}
		all, err := more(pids)
		if err != nil {
			return err
		}
		if len(all) == len(pids) {
			return nil
		}
		pids = all
	}
}

// PIDs are the processes to begin with.
func (s *Session) PIDs() []int {
	if s.engine == nil {
		return s.rec.pids
	}
	pids := make([]int, len(s.tasks))
	for i := range s.tasks {
		pids[i] = s.tasks[i].PID
	}
	return pids
}

// RunOptions say what a run does.
type RunOptions struct {
	// Sinks take what is told. Samplers are told after them.
	Sinks    []Sink
	Samplers []Sampler
	// Standing says that the processes stand still: their mappings are read at once.
	Standing bool
	// Ready is called once, as soon as the mappings of all processes that were there at
	// the beginning are known; nil for nothing.
	Ready func() error
	// Members lists the processes of the groups that are traced, to begin with those
	// that have entered them by another way than by fork; nil if there are none. It is
	// called once a second, on a goroutine of its own.
	Members func() ([]int, error)
}

// Run hands on what happens until every traced process is gone, the engine has no more,
// or ctx is done; then what is in doubt is read a last time, and samplers have their last
// look. The session may be asked for its report after it, and must be closed.
func (s *Session) Run(ctx context.Context, o RunOptions) error {
	if s.engine == nil {
		return s.play(o.Sinks)
	}
	s.sinks, s.samplers, s.onReady = o.Sinks, o.Samplers, o.Ready
	s.rec.begin(s)
	s.unread = make(map[int]bool)
	for _, task := range s.tasks {
		s.unread[task.PID] = true
	}
	if err := s.tr.Add(s.tasks, o.Standing); err != nil {
		return err
	}
	if err := s.checkReady(); err != nil {
		return err
	}
	// From then on nothing that a process can delay is waited for for long.
	defer context.AfterFunc(ctx, s.calls.End)()
	if o.Members != nil {
		defer s.members.start(s.calls, o.Members)()
	}
	if err := s.tr.Run(ctx, s.engine.Detach); err != nil {
		return err
	}
	for _, sampler := range s.samplers {
		sampler.Finish()
	}
	s.tick()
	s.rec.finish(s)
	return nil
}

// tick sets the clock.
func (s *Session) tick() {
	s.now = s.engine.Now()
	s.rec.Tick(s.now)
}

// Emit tells the sinks of a record. It is for samplers, from within Run.
func (s *Session) Emit(r *event.Record) {
	s.rec.Emit(r)
	s.tellRecord(r)
}

func (s *Session) tellRecord(r *event.Record) {
	for _, sink := range s.sinks {
		sink.Record(r)
	}
}

// change hands on a change.
func (s *Session) change(c *Change) {
	if c.Kind == KindExit {
		delete(s.unread, c.TGID)
	}
	for _, sink := range s.sinks {
		sink.Change(c)
	}
	for _, sampler := range s.samplers {
		sampler.Change(c)
	}
}

// idle has everybody do what is due.
func (s *Session) idle() error {
	s.tick()
	if err := s.checkReady(); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		// Those that are traced already are, all the same.
		s.log.Error("look for processes that enter", "error", err)
	}
	for _, sampler := range s.samplers {
		sampler.Idle()
	}
	s.rec.Idle()
	return s.idleSinks()
}

func (s *Session) idleSinks() error {
	for _, sink := range s.sinks {
		if err := sink.Idle(); err != nil {
			return err
		}
	}
	return nil
}

// checkReady tells once that the mappings of all processes are known.
func (s *Session) checkReady() error {
	if s.ready {
		return nil
	}
	for pid := range s.unread {
		if !s.tr.Known(pid) {
			return nil
		}
		delete(s.unread, pid)
	}
	if s.onReady != nil {
		if err := s.onReady(); err != nil {
			return err
		}
	}
	s.ready = true
	return nil
}

// Ready tells whether what is to be done once the mappings of all processes to begin with
// are known has been done.
func (s *Session) Ready() bool { return s.ready }

// enter begins to trace the processes that have entered the groups.
func (s *Session) enter() error {
	pids, err := s.members.take()
	if err != nil {
		return err
	}
	fresh := pids[:0]
	for _, pid := range pids {
		if !s.tr.Known(pid) {
			fresh = append(fresh, pid)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	tasks, err := s.engine.Trace(fresh...)
	if err != nil {
		return err
	}
	return s.tr.Add(tasks, false)
}

// members are listed beside the loop.
type members struct{ found chan listing }

type listing struct {
	pids []int
	err  error
}

// start lists once a second, until what it returns is called.
func (m *members) start(calls *await.Calls, list func() ([]int, error)) (stop func()) {
	const every = time.Second
	m.found = make(chan listing) // one that nobody has taken is not of use any more
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			var l listing
			l.pids, l.err = list()
			select {
			case <-over:
				return
			case m.found <- l:
			}
		}
	}()
	return func() {
		close(over)
		await.Receive(calls, done) // a listing reads of processes
	}
}

// take returns the newest listing, nothing if there is none.
func (m *members) take() ([]int, error) {
	select {
	case l := <-m.found:
		return l.pids, l.err
	default:
		return nil, nil
	}
}
