package sample

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
)

// RSS tells by how much the resident memory of processes has grown, by a look at their
// beginnings and one at the end: a sampler for those who count nothing else. It reads statm
// of each, which takes no lock. It is for the session's goroutine.
type RSS struct {
	fs    procmaps.FS
	now   func() uint64
	emit  func(*event.Record)
	first map[int]begunRSS
	begun int // processes that have begun
}

type begunRSS struct {
	space, bytes uint64
}

// mostRSS is of how many processes it is told: of those that were there first, so that
// nothing is read for each of a storm.
const mostRSS = 256

// NewRSS returns a sampler whose records, stamped by now, go to emit.
func NewRSS(fs procmaps.FS, now func() uint64, emit func(*event.Record)) *RSS {
	return &RSS{fs: fs, now: now, emit: emit, first: make(map[int]begunRSS)}
}

// Change implements [tracer.Sampler].
func (r *RSS) Change(c *tracer.Change) {
	switch c.Kind {
	case tracer.KindBegin:
		if r.begun++; c.Process == nil || r.begun > mostRSS {
			return
		}
		pid := c.Process.PID
		if n, err := r.fs.RSS(pid); err == nil { // else it has ended
			r.first[pid] = begunRSS{c.Space, n}
		}
	case tracer.KindExit, tracer.KindExec: // another may have its number, or it another image
		delete(r.first, c.TGID)
	}
}

// Idle implements [tracer.Sampler].
func (*RSS) Idle() {}

// Finish implements [tracer.Sampler].
func (r *RSS) Finish() {
	for pid, f := range r.first {
		if n, err := r.fs.RSS(pid); err == nil && n > 0 {
			r.emit(&event.Record{At: r.now(), Space: f.space, PID: pid, Body: event.RSS{First: f.bytes, Last: n}})
		}
	}
}
