package sample

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/goheap"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Who keeps the heap of a Go program is found by the profile that its runtime keeps: it is
// read now and then, and what has changed is told.

const (
	// profileEvery is the time between two readings, at least. Each is as of a garbage
	// collection, and to be compared with the others; profileSoon is it before there was one.
	profileEvery = 5 * time.Second
	profileSoon  = time.Second
	// mostMixed is how many readings in a row are passed over as they are of two collections:
	// a program that collects all the time may have no others.
	mostMixed = 3
	// mostBuckets bounds a profile: who sends it all to be compared keeps the others waiting.
	mostBuckets = 1 << 16
)

// profileWatch is a Go program whose profile is read.
type profileWatch struct {
	run    *Sampler
	t      *target
	module *symbol.Module
	bias   uint64
	due    uint64
	busy   bool // a worker reads it, and what is below is the worker's
	over   bool // it is not read any more
	mixed  int  // readings in a row that were passed over

	heap *goHeap           // nil until it was opened
	told map[uint64]counts // by record; nil before the first reading
}

// counts are the sampled objects of a record.
type counts struct{ allocs, frees uint64 }

// watchProfile begins to read the profile of a process, if it is a Go program.
func (s *Sampler) watchProfile(t *target) {
	if t.asked {
		return
	}
	tree := s.opts.Trees(t.space)
	if tree == nil {
		return
	}
	t.asked = true
	if m, bias, ok := s.opts.GoProgram(t.pid, tree); ok {
		t.profile = &profileWatch{run: s, t: t, module: m, bias: bias}
		t.profile.read()
	}
}

// lookAtProfiles reads those whose time has come.
func (s *Sampler) lookAtProfiles(now uint64) {
	for _, t := range s.spaces {
		if p := t.profile; p != nil && now >= p.due {
			p.read()
		}
	}
}

// closeProfile stops reading the profile of a process.
func (s *Sampler) closeProfile(t *target) {
	if p := t.profile; p != nil {
		t.profile, p.over = nil, true
		p.close()
	}
}

// close closes what is open, unless a worker has it: then that is done when it comes back.
func (p *profileWatch) close() {
	if p.busy || p.heap == nil {
		return
	}
	if err := p.heap.Close(); err != nil {
		p.run.opts.Log.Warn("stop reading a heap profile", "pid", p.t.pid, "error", err)
	}
	p.heap = nil
}

// read has a worker read it: it may wait for the process' mmap lock.
func (p *profileWatch) read() {
	if p.busy || p.over {
		return
	}
	p.busy = true
	p.run.ask(func() func() {
		began := threadTime()
		profile, err := p.readNow()
		took := threadTime() - began
		return func() {
			p.busy = false
			p.run.effort.Heaps.ProfileNs += uint64(took)
			if !p.over {
				p.tell(profile, err, took)
			}
			if p.over {
				p.close()
			}
		}
	})
}

func (p *profileWatch) readNow() (_ *goheap.Profile, err error) {
	if p.heap == nil {
		if p.heap, err = openGoHeap(p.t.pid, p.module, p.bias); err != nil {
			return nil, err
		}
		p.heap.limits.Buckets = mostBuckets
	}
	return p.heap.Read(context.Background())
}

// tell tells what was read.
func (p *profileWatch) tell(profile *goheap.Profile, err error, took time.Duration) {
	s := p.run
	now := s.kernel.Now()
	p.due = p.after(profileEvery, took)
	if err == nil && profile.Rate < 1 {
		err = goheap.ErrOff // what there is of records is of the time before
	}
	switch {
	case errors.Is(err, procmaps.ErrGone):
		p.over = true // as will be told
		return
	case errors.Is(err, goheap.ErrAbsent): // there is nothing in it yet
		return
	case errors.Is(err, await.ErrStalled) && p.told != nil:
		p.due = p.after(profileSoon, took)
		return // the CPUs are busy, say: the next reading makes up for it
	case err != nil:
		// What is no profile now may be one later: it was read while it changed.
		p.over = !slices.ContainsFunc([]error{goheap.ErrOff, goheap.ErrImplausible, await.ErrStalled}, func(e error) bool { return errors.Is(err, e) })
		for _, plain := range []error{errNoGoHeap, goheap.ErrOff} {
			if errors.Is(err, plain) {
				err = plain // which says it all
			}
		}
		p.t.profileWhy = err.Error()
		s.tellUnsampled(p.t)
		return
	}
	p.t.profileWhy = ""
	s.tellUnsampled(p.t)
	s.effort.Heaps.Profiles++
	if mixed := profile.Mixed && p.mixed < mostMixed; profile.Uncollected || mixed {
		p.mixed++
		p.due = p.after(profileSoon, took)
		return // it counts garbage as live, or some records are newer
	}
	p.mixed = 0
	if body, ok := p.changed(profile); ok {
		s.emit(p.t, now, body)
	}
}

// after is when to read it again: a time from now, or later as the budget has it.
func (p *profileWatch) after(least, took time.Duration) uint64 {
	return p.run.kernel.Now() + max(uint64(least), uint64(float64(took)/p.run.opts.HeapBudget))
}

// changed are the records that are not as they were told. Those of the first reading have
// no sites: of what does not change after it nobody asks who it is.
func (p *profileWatch) changed(profile *goheap.Profile) (event.GoHeap, bool) {
	tree := p.run.opts.Trees(p.t.space)
	if tree == nil {
		return event.GoHeap{}, false
	}
	first := p.told == nil
	if first {
		p.told = make(map[uint64]counts, len(profile.Records))
	}
	out := event.GoHeap{Rate: profile.Rate, Assumed: profile.Assumed, Collections: uint64(profile.Collections)}
	for i := range profile.Records {
		r := &profile.Records[i]
		now := counts{uint64(r.AllocObjects), uint64(r.FreeObjects)}
		if p.told[r.Bucket] == now {
			continue
		}
		p.told[r.Bucket] = now
		rec := heap.Record{ID: r.Bucket, Size: uint64(r.Size), Allocs: now.allocs, Frees: now.frees}
		if !first {
			rec.Site = p.run.opts.Walked(p.t.pid, tree, r.Stack)
		}
		out.Records = append(out.Records, rec)
	}
	return out, true
}
