package tracer

import (
	"errors"
	"maps"
	"slices"

	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/model"
)

// Recording is what a session has told its sinks, kept in memory: the ordered operations,
// the samplers' records, and the clock. Played to sinks by the session of [Replay] it gives
// what it gave to those of the session it is of, in the same order, and the same answers
// to what they ask the session. It is for one goroutine. [Session.Record] begins one anew,
// whatever it was; [NewRecording] begins one by hand.
//
// Sites are numbers in it: the names are with whoever has made them.
type Recording struct {
	opts    model.Options
	pids    []int
	info    Info // Sampling is nil
	began   uint64
	entries []entry
	end     ending
}

// entry is one thing of a recording, at its place in the order.
type entry interface{ entry() }

type (
	// operation was applied to the model.
	operation struct{ model.Operation }
	// sampled was found by a sampler.
	sampled struct{ event.Record }
	// clock is what Session.Now is from here on.
	clock uint64
	// idle: all that had arrived was handled.
	idle struct{}
)

func (operation) entry() {}
func (sampled) entry()   {}
func (clock) entry()     {}
func (idle) entry()      {}

// ending is what an engine is asked for at the end.
type ending struct {
	untracked uint64
	latencies []Latency
	counters  TimingCounters
	err       error
}

// NewRecording returns an empty recording of a session that begins at a time. Of the
// options OnChange is not used.
func NewRecording(opts model.Options, began uint64) *Recording {
	opts.OnChange = nil
	return &Recording{opts: opts, began: began}
}

// Apply adds a copy of an operation.
func (r *Recording) Apply(op *model.Operation) { r.add(operation{op.Clone()}) }

// Emit adds a copy of a sampler's record.
func (r *Recording) Emit(rec *event.Record) {
	if r != nil {
		r.add(sampled{cloneRecord(rec)})
	}
}

// Tick says that the time is now.
func (r *Recording) Tick(now uint64) { r.add(clock(now)) }

// Idle says that all that had arrived was handled.
func (r *Recording) Idle() { r.add(idle{}) }

// add appends an entry; to no recording, nothing.
func (r *Recording) add(e entry) {
	if r != nil {
		r.entries = append(r.entries, e)
	}
}

// begin notes what a session begins with.
func (r *Recording) begin(s *Session) {
	if r == nil {
		return
	}
	info := s.engine.Info()
	*r = *NewRecording(s.tr.ModelOptions(), s.now)
	r.pids, r.info = s.PIDs(), info
	r.info.Sampling, r.info.Memory = nil, 0
	s.tr.Tap(r.Apply)
}

// finish asks the engine for what there is at the end.
func (r *Recording) finish(s *Session) {
	if r == nil {
		return
	}
	var errs [3]error
	r.end.untracked, errs[0] = s.engine.Untracked()
	if l := r.info.Latency; l != nil {
		r.end.latencies, errs[1] = l.Latencies()
		r.end.counters, errs[2] = l.TimingCounters()
		r.info.Latency = &r.end
	}
	r.end.err = errors.Join(errs[:]...)
}

// Latencies implements Latencies.
func (e *ending) Latencies() ([]Latency, error) { return slices.Clone(e.latencies), e.err }

// TimingCounters implements Latencies.
func (e *ending) TimingCounters() (TimingCounters, error) { return e.counters, e.err }

// RaiseWorst implements Latencies. What was told is told.
func (e *ending) RaiseWorst(uint64) error { return nil }

// player is the engine of a replay.
type player struct{ *Recording }

func (p player) Info() Info                 { return p.info }
func (p player) Untracked() (uint64, error) { return p.end.untracked, p.end.err }
func (p player) Close() error               { return nil }

// Replay returns a session that plays a recording to the sinks of its Run. Samplers have
// no part in it, and nobody is told that it is ready. It may be played several times,
// each by a session of its own.
func Replay(r *Recording) *Session {
	s := &Session{base: player{r}, rec: r, now: r.began, ready: true}
	opts := r.opts
	opts.OnChange = s.change
	s.model = model.New(opts)
	s.state = s.model
	return s
}

// play runs a replay. It goes on to the end: what was recorded has happened.
func (s *Session) play(sinks []Sink) error {
	s.sinks = sinks
	for _, e := range s.rec.entries {
		switch e := e.(type) {
		case operation:
			s.model.Apply(&e.Operation)
		case sampled:
			r := cloneRecord(&e.Record)
			if r.Space != 0 {
				r.Tree = s.Tree(r.Space)
			}
			s.tellRecord(&r)
		case clock:
			s.now = uint64(e)
		case idle:
			if err := s.idleSinks(); err != nil {
				return err
			}
		}
	}
	return nil
}

// cloneRecord returns a copy that shares nothing, without the tree.
func cloneRecord(r *event.Record) event.Record {
	c := *r
	c.Tree = nil
	switch b := r.Body.(type) {
	case event.Threads:
		c.Body = slices.Clone(b)
	case event.Resident:
		c.Body = slices.Clone(b)
	case event.Account:
		b.Held = slices.Clone(b.Held)
		for i := range b.Held {
			b.Held[i].Files = slices.Clone(b.Held[i].Files)
		}
		c.Body = b
	case event.Group:
		b.Files = slices.Clone(b.Files)
		c.Body = b
	case event.Malloc:
		b.Arenas = slices.Clone(b.Arenas)
		c.Body = b
	case event.GoHeap:
		b.Records = slices.Clone(b.Records)
		c.Body = b
	case event.Effort:
		b.Missing, b.Whole = maps.Clone(b.Missing), maps.Clone(b.Whole)
		c.Body = b
	}
	return c
}
