package order

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// adopt makes a space whose state is to be read from /proc.
func (t *Tracer) adopt(task Task) *addressSpace {
	sp := t.newSpace(task.Space)
	t.lay(sp, model.Layout{StartBrk: task.StartBrk, Brk: task.Brk, Stack: task.StartStack})
	sp.state = seeding
	if task.HasSection {
		sp.q.start(task.Section)
	}
	t.busy[sp] = true
	return sp
}

// lay makes a space's tree, which is empty.
func (t *Tracer) lay(sp *addressSpace, l model.Layout) {
	t.note(sp, 0, l)
	sp.Space = t.model.Space(sp.id)
}

func (t *Tracer) newSpace(id uint64) *addressSpace {
	sp := &addressSpace{id: id, announced: make(map[uint32]uint64), overdue: make(map[uint32]bool), audits: audits{explained: t.figures.Skipped}, stored: t.stored.Join()}
	sp.q.free = &t.free
	sp.deliver = func(ev *Event, late bool) { t.deliver(sp, ev, late) }
	t.spaces[id] = sp
	return sp
}

// join puts a process into an address space.
func (t *Tracer) join(pid int, sp *addressSpace, j model.Join) {
	j.Numbered = sp.q.numbered
	t.emit(&model.Operation{Space: sp.id, TGID: pid, TID: pid, Body: j})
	sp.Space = t.model.Space(sp.id)
}

// settle puts a process that a listing has into an address space.
func (t *Tracer) settle(task *Task, sp *addressSpace) {
	t.join(task.PID, sp, model.Join{Inner: task.Inner, Comm: task.Comm, StartTime: task.StartTime})
}

// forked makes the child known as soon as the event arrives, since the child's
// own may be next; its tree comes with fork, in the parent's order.
func (t *Tracer) forked(ev *Event) {
	if ev.ChildSpace == 0 {
		return
	}
	if t.model.Process(ev.Child) != nil {
		return // seen by a listing after a loss
	}
	sp := t.spaces[ev.ChildSpace]
	if sp == nil {
		sp = t.newSpace(ev.ChildSpace)
		sp.stale, sp.lostAt = t.losesSince(ev.Time)
		if parent := t.spaces[ev.Space]; parent != nil && parent.q.numbered {
			sp.q.start(ev.First)
		}
	}
	j := model.Join{Inner: ev.Inner, Parent: ev.TGID, StartTime: ev.StartTime}
	if p := t.model.Process(ev.TGID); p != nil {
		j.Comm = p.Comm
	}
	t.join(ev.Child, sp, j)
}

// fork gives the child its parent's tree, as of the fork.
func (t *Tracer) fork(parent *addressSpace, ev *Event, late bool) {
	t.by(ev, model.Fork{Child: ev.Child, Inner: ev.Inner, ChildSpace: ev.ChildSpace, Site: t.maker(parent, ev)})
	if ev.ChildSpace == 0 || ev.ChildSpace == parent.id {
		return
	}
	sp := t.spaces[ev.ChildSpace]
	if sp == nil || sp.state != waiting {
		return
	}
	// When it was forked is not known of who is polled: its first look is its start.
	if polled := ev.Flags&model.Polled != 0; polled || !parent.Kept() || parent.state == unreadable {
		t.lay(sp, model.Layout{})
		if !polled || ev.Flags&Incomplete != 0 {
			sp.state, t.busy[sp] = seeding, true
		}
		return
	}
	doubts := t.note(sp, ev.Time, model.Clone{Parent: parent.id}).Doubts
	parent.forks = append(parent.forks, forkStamp{sp.id, ev.Time})
	if doubts {
		t.want(sp, lookReason{op: space.OpReread})
	}
	// A child that holds another number of pages lacks something that nobody told of. One
	// whose parent's section is another's was not copied when it seems.
	if late || parent.stale || sp.stale || ev.Flags&Stamped == 0 || ev.Pages != 0 && sp.Tree().Pages() != ev.Pages {
		t.doubt(sp, space.All, ev.Time, lookReason{op: space.OpReread})
	}
	for _, f := range parent.found {
		t.doubt(sp, f.Range, ev.Time, lookReason{op: space.OpReread})
	}
	t.begin(sp, ev.Time, known)
}

// exec gives a process a new address space, whose mappings follow.
func (t *Tracer) exec(ev *Event) {
	sp := t.spaces[ev.Space]
	if sp == nil {
		sp = t.newSpace(ev.Space)
	}
	sp.stale, sp.lostAt = t.losesSince(ev.Time)
	// A process found amid its exec has the new space already.
	if ev.Flags&HasSection != 0 {
		sp.q.start(ev.First)
	}
	sp.state = waiting
	sp.backlog, sp.rows, sp.held = backlog{}, nil, held{}
	t.crowded(sp)
	if ev.Flags&Incomplete != 0 || sp.stale {
		sp.state, t.busy[sp] = seeding, true // rows may not follow
	}
	t.by(ev, model.Exec{
		Layout: model.Layout{StartBrk: ev.StartBrk, Brk: ev.Brk, Stack: ev.StartStack}, Comm: ev.Comm, Numbered: sp.q.numbered,
	})
	sp.Space = t.model.Space(sp.id)
}

// imaged makes the tree of a new image from the rows that were sent.
func (t *Tracer) imaged(sp *addressSpace, ev *Event) {
	rows := sp.rows
	sp.rows = nil
	if sp.state != waiting {
		return // that it has a new image was lost; it is read
	}
	if len(rows) == 0 || int64(len(rows)) != ev.Pages || sp.stale {
		sp.state, t.busy[sp] = seeding, true
		return
	}
	if !t.opts.Gate.Empty() {
		rows = append(rows, t.opts.Gate)
	}
	for i := range rows {
		m := &rows[i].Mapping
		if m.Inode == 0 || m.Name == "" || m.Name[0] == '/' {
			continue
		}
		if full := t.path(sp, procmaps.FileID{Dev: m.Dev, Inode: m.Inode}, m.Name, m.Start); full != "" {
			m.Name = full
		}
	}
	t.seed(sp, &Look{Rows: rows, At: ev.Time, Until: ev.Time})
}

// seed makes a tree of what was read, and lets in what waited for it.
func (t *Tracer) seed(sp *addressSpace, look *Look) {
	sp.sees(look)
	t.note(sp, look.At, model.Seed{Rows: look.Rows, Ended: look.Until})
	if sp.stale && sp.lostAt >= look.At {
		// It need not have seen what was lost. Its end may be among what waits for it.
		t.doubt(sp, space.All, sp.lostAt, lookReason{op: space.OpReread})
	}
	if look.HasSection && sp.q.numbered {
		// The read may have seen what a section under way had done, and whose
		// stamp is yet to come.
		sp.completeAt = sp.q.section(&Event{Section: look.Section})
	}
	t.complete(sp)
	t.begin(sp, look.At, known)
}

// complete says that the tree holds everything, once it does.
func (t *Tracer) complete(sp *addressSpace) {
	if sp.completeAt > sp.q.next {
		return
	}
	if sp.completeAt != 0 {
		for section := range sp.announced {
			if int32((section-uint32(sp.completeAt))<<1) < 0 {
				return // passed, but what it did is yet to come
			}
		}
	}
	sp.completeAt = 0
	t.note(sp, 0, model.Complete(true))
}

// begin lets in what waited for a space's first state.
func (t *Tracer) begin(sp *addressSpace, at uint64, as state) {
	if sp.Tree() == nil { // what would have brought it never came
		t.lay(sp, model.Layout{})
	}
	sp.state = as
	t.note(sp, at, model.Begin{})
	waited := sp.backlog.events
	sp.backlog = backlog{}
	for i, ev := range waited {
		waited[i] = nil
		if t.spaces[sp.id] == sp {
			t.enter(sp, ev)
		} else { // it came to its end with one of them, and is not kept
			t.stray(ev)
		}
	}
	if t.world != nil && t.opts.Verify > 0 {
		t.auditSoon(sp) // it may not live as long as the next audit of all is away
	}
}

// exit notes the end of a process.
func (t *Tracer) exit(ev *Event) {
	p := t.model.Process(ev.TGID)
	if p == nil {
		return
	}
	sp := t.spaces[ev.Space]
	if sp == nil && t.spaces[p.Space] != nil { // it is not known that it had another image
		sp, ev.Space = t.spaces[p.Space], p.Space
		sp.endedAt, sp.whole = ev.Time, false
	}
	forgotten := t.by(ev, model.Exit{Status: ev.Status}).Forgotten
	if t.world != nil {
		t.world.Forget(ev.TGID)
	}
	if sp != nil && sp.Inhabitants() == 0 {
		t.rest(sp)
	}
	t.forget(forgotten)
}

// bury handles the end of an address space.
func (t *Tracer) bury(sp *addressSpace, ev *Event) {
	sp.state, sp.endedAt = gone, max(sp.endedAt, ev.Time)
	t.rest(sp)
	t.forget(t.by(ev, model.Gone{}).Forgotten)
}

// rest has nothing more done for an address space. What was read of it nobody uses.
func (t *Tracer) rest(sp *addressSpace) {
	delete(t.busy, sp)
	if sp.parked != nil {
		sp.parked.place.leave()
		sp.parked = nil
	}
}

// forget drops the address spaces that the model has dropped; their figures count.
func (t *Tracer) forget(ids []uint64) {
	for _, id := range ids {
		if sp := t.spaces[id]; sp != nil {
			sp.q.count(&t.figures)
			t.rest(sp)
			sp.stored.Leave()
			delete(t.spaces, id)
		}
	}
}
