package order

import (
	"unsafe"

	"github.com/maptrace/maptrace/tracer/model"
)

// How the events that wait are bounded.
//
// Events of a space wait for its first state (backlog), for older ones (queue), and while its
// mappings are read (held). How many come meanwhile is the program's choice, and each may
// bring a copy of its stack. So there is a share of memory for those of all spaces, as there
// is of all else that is kept; who has more than an equal part of it when it is full, or more
// than one space may have at all, gives up something:
//
//	backlog  all of it: a loss of that one space, which is read (again) for it. Before that,
//	         stacks: the calls count, without who made them
//	queue    the waiting: what does not come is taken for missing, as after the usual time
//	held     the waiting: the read may settle less, and there is another

const (
	mostStored      = 48 << 20 // bytes, of all spaces
	mostStoredOfOne = mostStored / 2
)

// bytes is what an event takes that waits.
func (ev *Event) bytes() int {
	n := int(unsafe.Sizeof(*ev))
	if ev.Sample != nil {
		n += int(unsafe.Sizeof(*ev.Sample)) + cap(ev.Sample.Stack) + int(unsafe.Sizeof(uint64(0)))*cap(ev.Sample.Chain)
	}
	return n
}

// crowded notes how much waits of a space, and reports whether that is too much.
func (t *Tracer) crowded(sp *addressSpace) bool {
	n := sp.backlog.bytes + sp.q.bytes + sp.held.bytes
	if n != sp.stores {
		sp.stores = n
		sp.stored.Hold(n)
	}
	return n > t.mostStoredOfOne || n > 0 && sp.stored.Excess() > 0
}

// backlog is what arrived of a space before its first state was known.
type backlog struct {
	events []*Event
	bytes  int
}

func (b *backlog) add(ev *Event) {
	c := *ev
	b.events = append(b.events, &c)
	b.bytes += c.bytes()
}

// wait keeps an event until the first state of its space is known.
func (t *Tracer) wait(sp *addressSpace, ev *Event) {
	sp.backlog.add(ev)
	if !t.crowded(sp) {
		return
	}
	if sp.backlog.forgetStacks(); t.crowded(sp) {
		t.overflow(sp)
	}
}

// forgetStacks gives up the stacks that were copied.
func (b *backlog) forgetStacks() {
	b.bytes = 0
	for _, ev := range b.events {
		if ev.Sample != nil {
			ev.Sample = nil
			if ev.Kind == model.KindCall {
				ev.Flags |= model.Unsampled
			}
		}
		b.bytes += ev.bytes()
	}
}

// overflow drops the backlog of a space, which is a loss. What ends is kept: nothing else
// tells of that, and each process ends once.
func (t *Tracer) overflow(sp *addressSpace) {
	dropped := sp.backlog.events
	sp.backlog = backlog{}
	var lost, at uint64
	var last *Event // of the sections
	for _, ev := range dropped {
		if ev.Kind == model.KindExit || ev.Kind == KindGone {
			sp.backlog.add(ev)
			continue
		}
		lost++
		at = max(at, ev.Time)
		if ev.Flags&HasSection != 0 && (last == nil || sp.q.section(ev) > sp.q.section(last)) {
			last = ev
		}
		if child := t.spaces[ev.ChildSpace]; ev.Kind == model.KindFork && child != nil && child != sp && child.state == waiting {
			t.bereave(child, at)
		}
	}
	t.crowded(sp)
	if lost == 0 {
		return
	}
	t.figures.Lost += lost
	t.note(sp, at, model.Lost(lost))
	if last != nil && sp.q.numbered && sp.q.section(last) >= sp.q.excused {
		sp.q.excuse(last.Section + 1)
	}
	t.bereave(sp, at)
}

// bereave has a space read of which events were lost before its first state was known.
func (t *Tracer) bereave(sp *addressSpace, at uint64) {
	if t.world == nil {
		t.note(sp, at, model.Approximate("events were lost"))
		return
	}
	t.staleSince(sp, at)
}
