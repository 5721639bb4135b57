package order

import "slices"

// held are the events of a space that wait while its mappings are read. The answer
// comes milliseconds after the look. Were they handled meanwhile, calls that copy or
// move what is in doubt would carry the doubt on, with a stamp later than the read:
// where that happens faster than one can read, no read would ever settle it. And an
// audit would compare the little that has not changed since. So the tree is left as
// it was at the end of the look until that is used.
type held struct {
	on     bool
	after  uint64 // what took effect until then need not wait
	events []heldEvent
	next   int // what is before is let in
	bytes  int // of all events
}

type heldEvent struct {
	Event
	late bool
}

// holds tells whether an event has to wait.
func (h *held) holds(ev *Event, late bool) bool {
	return h.on && (len(h.events) > h.next || !late && ev.Time > h.after)
}

func (h *held) add(ev *Event, late bool) {
	h.events = append(h.events, heldEvent{*ev, late})
	h.bytes += ev.bytes()
}

// anyLate tells whether an event waits that took effect before others which did not.
func (h *held) anyLate() bool {
	return slices.ContainsFunc(h.events[h.next:], func(ev heldEvent) bool { return ev.late })
}

// flush handles everything that has come: no more will.
func (t *Tracer) flush(sp *addressSpace) {
	if sp.q.blocked() && (t.learn() || sp.stale) {
		sp.q.excuseAll() // what does not come may be lost
	}
	sp.q.flush(t.now(), sp.deliver)
	t.letIn(sp)
}

// letIn handles all that was held, and holds no more.
func (t *Tracer) letIn(sp *addressSpace) {
	t.letInUntil(sp, ^uint64(0))
	sp.held.on, sp.held.bytes = false, 0
	const few = 1 << 10
	if sp.held.next = 0; cap(sp.held.events) > few {
		sp.held.events = nil
	} else {
		clear(sp.held.events) // what they refer to
		sp.held.events = sp.held.events[:0]
	}
	t.crowded(sp)
}

// letInSeen handles what a look may have shown. An unmapping that has downgraded the
// lock shows before it gets its stamp; its section tells.
func (t *Tracer) letInSeen(sp *addressSpace, l *Look) {
	if !sp.q.numbered || !l.HasSection {
		t.letIn(sp)
		return
	}
	t.letInUntil(sp, sp.seenUntil(l))
}

// seenUntil is until when the events that are held took effect before the end of a look.
func (sp *addressSpace) seenUntil(l *Look) uint64 {
	until := l.Until
	for i := sp.held.next; i < len(sp.held.events); i++ {
		ev := &sp.held.events[i]
		if ev.Flags&HasSection != 0 && int32((ev.Section-l.Section)<<1) < 0 {
			until = max(until, ev.Time)
		}
	}
	return until
}

// letInUntil handles what was held and took effect until a time.
func (t *Tracer) letInUntil(sp *addressSpace, until uint64) {
	for t.letInNext(sp, until) {
	}
}

// letInNext handles the next of these, if there is one. What has no place in the order,
// and came when it came, keeps nothing that follows.
func (t *Tracer) letInNext(sp *addressSpace, until uint64) bool {
	h := &sp.held
	if h.next == len(h.events) {
		return false
	}
	ev := &h.events[h.next]
	if ev.Time > until && !ev.late && ev.Flags&sp.q.placed() != 0 {
		return false
	}
	t.handle(sp, &ev.Event, ev.late)
	h.next++
	return true
}
