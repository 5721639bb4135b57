package order

import (
	"container/heap"
	"slices"

	"github.com/maptrace/maptrace/tracer/model"
)

// queue puts the events of one address space into the order in which they took
// effect. Threads leave the kernel in another order than they held the mmap
// lock, so an event may arrive after one that it preceded.
//
// Where the kernel numbers the lock's write sections, the queue knows which
// event is next and holds back what is later; an event that does not come within
// the owner's patience leaves a hole, which is remembered: if its event comes
// after all it is late but known, if not it is a change that was missed. Without
// numbers events wait a fixed time, in the order of their commit times.
type queue struct {
	numbered bool
	next     uint64 // the section expected next; of a numbered queue
	optional uint64 // one section that may have been reported before we looked

	waiting eventHeap
	bytes   int                   // of these
	free    *freeEvents           // nil for none
	holes   []hole                // in ascending order, disjoint
	claims  map[uint64]model.Kind // sections passed by something else than their owner

	last uint64 // commit time of the newest event delivered; of an unnumbered queue

	excused uint64 // sections before this one may have been lost with their records
	over    bool   // all may have been, and there are no more

	passed uint64 // sections passed, holes included
	missed uint64 // of these, those that are holes now
	lost   uint64 // of these, those that were lost and known to be
}

// hole is a run of sections [from, to) whose events did not come in time.
type hole struct {
	from, to uint64
	since    uint64 // CLOCK_MONOTONIC, ns: when the queue gave up waiting
	settled  bool   // the state was re-read since
}

// section widens a section number to 64 bits. The kernel's counter wraps after
// 2^31 sections, two hours of a busy program; it is taken to be near next.
func (q *queue) section(ev *Event) uint64 {
	d := int32((ev.Section-uint32(q.next))<<1) >> 1
	return q.next + uint64(int64(d))
}

// start begins a numbered queue at a section.
func (q *queue) start(section uint32) {
	q.numbered = true
	// A bias keeps sections before the first from wrapping below zero.
	q.next = 1<<32 + uint64(section)
	q.optional = q.next - 1
}

// push takes an event and delivers what is due: the event, and what it lets
// follow. ev is copied if it has to wait. late is true for an event that is
// older than one delivered before.
func (q *queue) push(ev *Event, deliver func(ev *Event, late bool)) {
	if !q.numbered {
		if ev.Flags&Stamped == 0 {
			deliver(ev, false) // changed nothing, or cannot be placed
			return
		}
		q.hold(ev, ev.Time)
		return
	}
	if ev.Flags&HasSection == 0 {
		deliver(ev, false)
		return
	}
	switch s := q.section(ev); {
	case s == q.next:
		q.pass(s, ev)
		deliver(ev, false)
		q.release(deliver)
	case s > q.next:
		q.hold(ev, s)
	default:
		q.straggler(s, ev, deliver)
	}
}

// placed is the flag of events that have a place in the order.
func (q *queue) placed() model.Flags {
	if q.numbered {
		return HasSection
	}
	return Stamped
}

// pass moves over a section that ev reports.
func (q *queue) pass(s uint64, ev *Event) {
	q.next = s + 1
	q.passed++
	if claims(ev.Kind) {
		q.claim(s, ev.Kind)
	}
}

func (q *queue) claim(s uint64, k model.Kind) {
	if q.claims == nil {
		q.claims = make(map[uint64]model.Kind)
	}
	q.claims[s] = k
	const kept = 1 << 16 // sections: an owner is no later than that
	if len(q.claims) > 2*kept {
		for old := range q.claims {
			if old+kept < q.next {
				delete(q.claims, old)
			}
		}
	}
}

// straggler delivers an event whose section was passed before.
func (q *queue) straggler(s uint64, ev *Event, deliver func(*Event, bool)) {
	if k, ok := q.claims[s]; ok {
		if claims(ev.Kind) {
			return // a second thread saw the same section
		}
		delete(q.claims, s)
		ev.Claimed = k
		deliver(ev, k != KindAnnounce)
		return
	}
	if !q.fill(s) && s != q.optional && claims(ev.Kind) {
		return // its owner was here before
	}
	deliver(ev, s != q.optional)
}

// fill takes a section out of the holes and tells whether it was in one.
func (q *queue) fill(s uint64) bool {
	for i, h := range q.holes {
		if s < h.from || s >= h.to {
			continue
		}
		q.missed--
		left, right := h, h
		left.to, right.from = s, s+1
		rest := append([]hole(nil), q.holes[i+1:]...)
		q.holes = q.holes[:i]
		for _, p := range [2]hole{left, right} {
			if p.from < p.to {
				q.holes = append(q.holes, p)
			}
		}
		q.holes = append(q.holes, rest...)
		return true
	}
	return false
}

// hold keeps a copy of ev until its turn.
func (q *queue) hold(ev *Event, key uint64) {
	c := q.free.take()
	*c = *ev
	c.key = key
	q.bytes += c.bytes()
	heap.Push(&q.waiting, c)
}

func (q *queue) pop() *Event {
	ev, _ := heap.Pop(&q.waiting).(*Event)
	q.bytes -= ev.bytes()
	return ev
}

// release delivers what waited for a section that has now passed.
func (q *queue) release(deliver func(*Event, bool)) {
	for len(q.waiting) > 0 && q.waiting[0].key <= q.next {
		ev := q.pop()
		if s := ev.key; s == q.next {
			q.pass(s, ev)
			deliver(ev, false)
		} else {
			// Two events of one section: a claim and its owner.
			q.straggler(s, ev, deliver)
		}
		q.free.give(ev)
	}
}

// freeEvents are some that were delivered, whose memory is used again.
type freeEvents struct{ events []*Event }

func (f *freeEvents) take() *Event {
	if f == nil || len(f.events) == 0 {
		return new(Event)
	}
	last := len(f.events) - 1
	ev := f.events[last]
	f.events = f.events[:last]
	return ev
}

func (f *freeEvents) give(ev *Event) {
	const enough = 1 << 10
	if f != nil && len(f.events) < enough {
		ev.Sample, ev.Look, ev.Timing = nil, nil, nil
		f.events = append(f.events, ev)
	}
}

// gap tells whether events wait for one that is not known to be lost.
func (q *queue) gap() bool {
	return q.numbered && !q.short() && len(q.waiting) > 0 && q.waiting[0].key > q.next
}

// blocked tells whether events wait for one that has not come.
func (q *queue) blocked() bool { return len(q.waiting) > 0 }

// short tells whether sections before an excuse are still to come, though no event
// waits for them. Those that were lost never will.
func (q *queue) short() bool { return q.numbered && q.excused > q.next }

// oldest is the commit time of the event that waits for the shortest gap.
func (q *queue) oldest() uint64 { return q.waiting[0].Time }

// advance gives up on what did not come. A numbered queue skips what is excused,
// or else the first gap, and delivers what follows it, up to the next gap; now
// stamps the hole. An unnumbered one delivers everything with a commit time up
// to horizon.
func (q *queue) advance(now, horizon uint64, deliver func(*Event, bool)) {
	if !q.numbered {
		for len(q.waiting) > 0 && q.waiting[0].key <= horizon {
			ev := q.pop()
			late := ev.Time < q.last
			q.last = max(q.last, ev.Time)
			deliver(ev, late)
			q.free.give(ev)
		}
		return
	}
	// A ring that is full loses every other record: patience with each gap that this
	// leaves would be minutes.
	for q.short() {
		to := q.excused
		if len(q.waiting) > 0 {
			to = min(to, q.waiting[0].key)
		}
		q.lose(to)
		q.release(deliver)
		if q.next > to && !q.short() {
			return // what is missing next is another gap
		}
	}
	if len(q.waiting) > 0 {
		if to := q.waiting[0].key; to > q.next {
			q.hole(to, now)
		}
	}
	q.release(deliver)
}

// flush delivers everything: no more events will come.
func (q *queue) flush(now uint64, deliver func(*Event, bool)) {
	for q.blocked() {
		q.advance(now, ^uint64(0), deliver)
	}
}

// excuse says that records were lost before a section: holes up to it are
// counted as lost, not as missed.
func (q *queue) excuse(section uint32) {
	if !q.numbered {
		return
	}
	q.excused = max(q.excused, q.section(&Event{Section: section}))
	q.explain()
}

// excuseAll says that records were lost, and that nothing can change the space any more.
func (q *queue) excuseAll() {
	q.over = true
	q.explain()
}

// explain says that records are known to be lost: what is missed is missed by that.
func (q *queue) explain() {
	q.lost += q.missed
	q.missed, q.holes = 0, nil
}

// end says that there are no sections but those before one: what has not come by now
// is missed. It tells whether anything is.
func (q *queue) end(section uint32, now uint64) bool {
	if !q.numbered {
		return false
	}
	to := q.section(&Event{Section: section})
	if known := min(to, q.excused); known > q.next {
		q.lose(known)
	}
	if to > q.next {
		q.hole(to, now)
	}
	return q.missed > 0
}

// shortOf tells whether any section before one is missing and not known to be lost.
func (q *queue) shortOf(section uint32) bool {
	return q.numbered && (q.missed > 0 || q.section(&Event{Section: section}) > max(q.next, q.excused))
}

// hole gives up on the sections up to one.
func (q *queue) hole(to, now uint64) {
	if q.over {
		q.lose(to)
		return
	}
	q.passed += to - q.next
	q.holes = append(q.holes, hole{from: q.next, to: to, since: now})
	q.missed += to - q.next
	q.next = to
}

// lose passes the sections up to one, which are lost.
func (q *queue) lose(to uint64) {
	q.passed += to - q.next
	q.lost += to - q.next
	q.next = to
}

// overdue tells whether there is a hole older than before that no re-read has answered.
func (q *queue) overdue(before uint64) bool {
	return slices.ContainsFunc(q.holes, func(h hole) bool { return !h.settled && h.since <= before })
}

// unsettled tells whether a hole older than before has not been answered by a
// re-read, and forgets about it: the caller re-reads.
func (q *queue) unsettled(before uint64) bool {
	found := false
	for i := range q.holes {
		if h := &q.holes[i]; !h.settled && h.since <= before {
			h.settled, found = true, true
		}
	}
	return found
}

// open tells whether there is a hole that no re-read has answered.
func (q *queue) open() bool { return len(q.holes) > 0 && !q.holes[len(q.holes)-1].settled }

// count adds what the queue has counted.
func (q *queue) count(f *model.Figures) {
	f.Sections += q.passed
	f.Missed += q.missed
	f.LostOwners += q.lost
}

// eventHeap orders events by key; container/heap's interface.
type eventHeap []*Event

func (h eventHeap) Len() int           { return len(h) }
func (h eventHeap) Less(i, j int) bool { return h[i].key < h[j].key }
func (h eventHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is called by container/heap only.
func (h *eventHeap) Push(x any) {
	ev, _ := x.(*Event)
	*h = append(*h, ev)
}

// Pop is called by container/heap only.
func (h *eventHeap) Pop() any {
	old := *h
	ev := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return ev
}
