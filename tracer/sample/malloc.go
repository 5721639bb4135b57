//go:build linux

package sample

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/internal/regular"
	"github.com/maptrace/maptrace/tracer/malloc"
)

// What glibc's malloc holds is read from outside (package malloc) from when memory that
// many share is first seen to be touched, again and again, and at the end.

const (
	// mallocBudget is the part of one CPU that reading one process may take, beyond
	// mallocFree, which is for the first readings: a short watch needs some, too.
	mallocBudget = 0.002
	mallocFree   = 250 * time.Millisecond
	// readPrice is how many times as much CPU time as the worker's a reading takes: the
	// memory is read by another process, and copied twice.
	readPrice = 2
	// From one reading to the next it is an eighth of the time since the first, so that
	// short watches have some and long ones not too many, within these bounds.
	mallocSpread                  = 8
	leastMallocGap, mostMallocGap = time.Second, 10 * time.Second
	// mallocSlice is how much CPU time is used at once, and mallocRest how long is rested
	// then: the mmap lock of the process is held for reading again and again.
	mallocSlice, mallocRest = 5 * time.Millisecond, 20 * time.Millisecond
	// mallocEnd is how long the last readings may take together.
	mallocEnd = 300 * time.Millisecond
	// mallocTries is how often malloc is looked for.
	mallocTries = 4
	// mostMallocs is how many processes are read.
	mostMallocs = 16
)

// mallocWatch is a process of which is read what its malloc holds.
type mallocWatch struct {
	run   *Sampler
	t     *target
	began uint64        // when it was read first
	due   uint64        // when it is to be read next
	took  time.Duration // the last reading, without the rests
	spent time.Duration // CPU time of all readings
	tries int           // that have found nothing since one that has
	busy  bool          // a worker reads
	over  bool          // it is not read any more
	// Of the worker.
	mem       *regular.File
	residency *procmaps.Residency
}

// mallocTouched is told of a page fault in memory that many share.
func (s *Sampler) mallocTouched(t *target) {
	if t.malloc != nil || s.mallocs >= mostMallocs {
		return
	}
	s.mallocs++
	t.malloc = &mallocWatch{run: s, t: t, began: s.kernel.Now()}
}

// closeMalloc reads a process no more.
func (s *Sampler) closeMalloc(t *target) {
	m := t.malloc
	if m == nil {
		return
	}
	t.malloc = nil
	if !m.over {
		s.mallocs--
	}
	if !m.busy {
		m.close()
	}
}

// lookAtMallocs has those read whose time has come.
func (s *Sampler) lookAtMallocs(now uint64) {
	if s.mallocs == 0 {
		return
	}
	for _, t := range s.spaces {
		if m := t.malloc; m != nil && !m.busy && !m.over && now >= m.due {
			m.send()
		}
	}
}

// lastOfMallocs has them read a last time, as far as there is time.
func (s *Sampler) lastOfMallocs() {
	left := mallocEnd
	for _, t := range s.spaces {
		if m := t.malloc; m != nil && !m.busy && !m.over && m.took <= left {
			left -= m.took
			m.send()
		}
	}
}

// send has a worker read it.
func (m *mallocWatch) send() {
	m.busy = true
	s := m.run
	s.ask(func() func() {
		began := threadTime()
		found, took, err := m.read()
		spent := readPrice * (threadTime() - began)
		at := s.kernel.Now()
		return func() {
			m.busy = false
			s.effort.Readings++
			s.effort.ReadingNs += uint64(spent)
			if m.t.malloc != m {
				m.close()
				return
			}
			m.took = took
			m.spent += spent
			m.due = m.next(at)
			if err == nil {
				m.tries = 0
				s.emit(m.t, at, mallocRecord(found))
			} else if m.tries++; m.tries >= mallocTries {
				m.over = true // it has another allocator, or may not be read
				s.mallocs--   // another process may be
				m.close()
			}
		}
	})
}

// next is when it is to be read again after a reading at a time.
func (m *mallocWatch) next(at uint64) uint64 {
	due := at + min(max((at-m.began)/mallocSpread, uint64(leastMallocGap)), uint64(mostMallocGap))
	return max(due, m.began+uint64(float64(max(m.spent-mallocFree, 0))/mallocBudget))
}

// close closes what it is read by.
func (m *mallocWatch) close() {
	var errs [2]error
	if m.mem != nil {
		errs[0] = m.mem.Close()
	}
	if m.residency != nil {
		errs[1] = m.residency.Close()
	}
	m.mem, m.residency = nil, nil
	if err := errors.Join(errs[:]...); err != nil {
		m.run.opts.Log.Warn("stop reading what malloc holds", "pid", m.t.pid, "error", err)
	}
}

// read reads what malloc holds, and tells how long that took without the rests.
func (m *mallocWatch) read() (found *malloc.Heap, took time.Duration, err error) {
	began, rested := time.Now(), time.Duration(0)
	defer func() { took = time.Since(began) - rested }()
	p, err := m.run.opts.FS.Process(m.t.pid)
	if err != nil {
		return nil, 0, err
	}
	defer p.Close()
	if m.mem == nil {
		if m.mem, _, err = regular.Open("", fmt.Sprintf("/proc/%d/mem", m.t.pid), 0); err != nil {
			return nil, 0, err
		}
	}
	if m.residency == nil {
		if m.residency, err = p.OpenResidency(); err != nil {
			return nil, 0, err
		}
	}
	rows, err := p.Maps()
	if err != nil {
		return nil, 0, err
	}
	var ended time.Time // when the end was seen to have come
	slice := threadTime()
	stop := func() bool {
		select {
		case <-m.run.over:
			if ended.IsZero() {
				ended = time.Now()
			}
			return time.Since(ended) > mallocEnd
		default:
		}
		if readPrice*(threadTime()-slice) < mallocSlice {
			return false
		}
		rest := time.Now()
		select {
		case <-m.run.over:
		case <-time.After(mallocRest):
		}
		rested += time.Since(rest)
		slice = threadTime()
		return false
	}
	found, err = malloc.Read(fileMemory{m.mem}, rows, malloc.Options{Stop: stop, Page: uint64(os.Getpagesize()), Count: m.residency.Count})
	return found, 0, err
}

// fileMemory is memory as a file.
type fileMemory struct{ *regular.File }

// ReadAt implements malloc.Memory.
func (m fileMemory) ReadAt(p []byte, addr uint64) (int, error) { return m.File.ReadAt(p, int64(addr)) }

// mallocRecord is what is told of a reading.
func mallocRecord(h *malloc.Heap) event.Malloc {
	out := event.Malloc{Mapped: h.Mapped.Bytes, Complete: h.Complete, Why: h.Why}
	out.Sizes = make([]uint64, malloc.Classes)
	for i := range h.Arenas {
		a := &h.Arenas[i]
		for class, n := range a.Sizes {
			out.Sizes[class] += n
		}
		doubt := a.Skipped + max(a.System, a.Walked) - min(a.System, a.Walked)
		if a.Estimated {
			doubt += a.Fast.Bytes
		}
		out.Arenas = append(out.Arenas, event.Arena{
			State: a.State, Main: a.Main, InUse: a.InUse.Bytes, Doubt: doubt, Free: a.Free(), Top: a.Top,
			Resident: a.Resident, Trimmable: a.ResidentTrim,
		})
	}
	return out
}
