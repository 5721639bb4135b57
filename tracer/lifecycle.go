package tracer

import (
	"slices"

	"github.com/maptrace/maptrace/tracer/space"
)

// adopt makes a space whose state is to be read from /proc.
func (t *Tracer) adopt(task Task) *addressSpace {
	sp := t.newSpace(task.Space)
	sp.waiting, sp.seeding = true, true
	sp.tree = t.newTree(task.StartBrk, task.Brk, task.StartStack)
	if task.HasSection {
		sp.q.start(task.Section)
	}
	t.busy[sp] = true
	return sp
}

func (t *Tracer) newTree(startBrk, brk, stack uint64) *space.Space {
	tree := space.New(space.Options{PageSize: t.opts.PageSize, Reports: t.opts.OnChange != nil})
	tree.SetBrk(startBrk, brk)
	tree.SetStack(stack)
	return tree
}

func (t *Tracer) newSpace(id uint64) *addressSpace {
	sp := &addressSpace{id: id, announced: make(map[uint32]uint64), explained: t.stats.Skipped}
	sp.deliver = func(ev *Event, late bool) { t.deliver(sp, ev, late) }
	t.spaces[id] = sp
	return sp
}

// join puts a process into an address space.
func (t *Tracer) join(pid, inner, parent int, comm string, start uint64, sp *addressSpace) {
	p := &Process{PID: pid, Parent: parent, Comm: comm, StartTime: start, Space: sp.id}
	if inner != pid {
		p.Inner = inner
	}
	t.procs[pid] = p
	t.alive++
	t.stats.Processes++
	sp.settle(p)
}

// settle gives an address space an inhabitant.
func (sp *addressSpace) settle(p *Process) {
	if len(sp.procs) == 0 {
		sp.owner = p
	}
	sp.procs = append(sp.procs, p)
}

// leave takes a process out of its address space.
func (t *Tracer) leave(p *Process) {
	sp := t.spaces[p.Space]
	if sp == nil {
		return
	}
	sp.procs = slices.DeleteFunc(sp.procs, func(o *Process) bool { return o == p })
	if sp.owner == p && len(sp.procs) > 0 {
		sp.owner = sp.procs[0]
	}
}

// forked makes the child known as soon as the event arrives, since the child's
// own may be next; its tree comes with fork, in the parent's order.
func (t *Tracer) forked(ev *Event) {
	if ev.ChildSpace == 0 {
		return
	}
	if p := t.procs[ev.Child]; p != nil && !p.Exited {
		return // seen by a listing after a loss
	}
	sp := t.spaces[ev.ChildSpace]
	if sp == nil {
		sp = t.newSpace(ev.ChildSpace)
		sp.waiting = true
		if parent := t.spaces[ev.Space]; parent != nil && parent.q.numbered {
			sp.q.start(ev.First)
		}
	}
	comm := ""
	if p := t.procs[ev.TGID]; p != nil {
		comm = p.Comm
	}
	t.join(ev.Child, ev.Inner, ev.TGID, comm, ev.StartTime, sp)
}

// fork gives the child its parent's tree, as of the fork.
func (t *Tracer) fork(parent *addressSpace, ev *Event, late bool) {
	t.stats.Forks++
	t.tell(parent, &Change{Event: ev})
	if ev.ChildSpace == 0 || ev.ChildSpace == parent.id {
		return
	}
	sp := t.spaces[ev.ChildSpace]
	if sp == nil || !sp.waiting || sp.seeding {
		return
	}
	if ev.Flags&Polled != 0 {
		// When it was forked is not known: its first look is its start.
		sp.tree = t.newTree(0, 0, 0)
		if ev.Flags&Incomplete != 0 {
			sp.seeding, t.busy[sp] = true, true
		}
		return
	}
	tree, doubts := parent.tree.Clone(ev.Time)
	sp.tree, sp.growsDown = tree, parent.growsDown
	parent.forks = append(parent.forks, forkStamp{sp.id, ev.Time})
	if len(doubts) > 0 {
		t.want(sp, lookReason{op: space.OpReread})
	}
	if late || parent.stale {
		t.doubt(sp, space.All, ev.Time, lookReason{op: space.OpReread})
	}
	t.begin(sp, ev.Time)
}

// exec gives a process a new address space, whose mappings follow.
func (t *Tracer) exec(ev *Event) {
	t.stats.Execs++
	p := t.procs[ev.TGID]
	if p == nil || p.Exited {
		p = &Process{PID: ev.TGID, Comm: ev.Comm}
		t.procs[ev.TGID] = p
		t.alive++
		t.stats.Processes++
	} else {
		if old := t.spaces[p.Space]; old != nil && old.id != ev.Space && len(old.procs) == 1 {
			old.replaced = true
		}
		t.leave(p)
	}
	sp := t.spaces[ev.Space]
	if sp == nil {
		sp = t.newSpace(ev.Space)
	}
	// A process found amid its exec has the new space already.
	sp.tree = t.newTree(ev.StartBrk, ev.Brk, ev.StartStack)
	if ev.Flags&HasSection != 0 {
		sp.q.start(ev.First)
	}
	sp.waiting, sp.seeding = true, false
	sp.backlog, sp.rows, sp.held = nil, nil, held{}
	p.Comm, p.Space = ev.Comm, sp.id
	p.Generation++
	sp.settle(p)
	if ev.Flags&Incomplete != 0 {
		sp.seeding = true
		t.busy[sp] = true
	}
	t.tell(sp, &Change{Event: ev})
}

// imaged makes the tree of a new image from the rows that were sent.
func (t *Tracer) imaged(sp *addressSpace, ev *Event) {
	rows := sp.rows
	sp.rows = nil
	if len(rows) == 0 || sp.stale {
		sp.seeding = true
		t.busy[sp] = true
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
		if full := t.path(sp, fileID{m.Dev, m.Inode}, m.Name, m.Start); full != "" {
			m.Name = full
		}
	}
	t.seed(sp, &Look{Rows: rows, At: ev.Time, Until: ev.Time})
}

// seed makes a tree of what was read, and lets in what waited for it.
func (t *Tracer) seed(sp *addressSpace, look *Look) {
	sp.seeding = false
	rows := look.Rows
	for i := range rows {
		if rows[i].Flags&space.GrowsDown != 0 && rows[i].Name != "[stack]" && !sp.tree.IsStack(rows[i].Range) {
			sp.growsDown = true
		}
	}
	sp.tree.Reread(space.Read{Range: space.All, Rows: rows, Began: look.At, Ended: look.Until, Op: space.OpSeed})
	if look.HasSection && sp.q.numbered {
		// The read may have seen what a section under way had done, and whose
		// stamp is yet to come.
		sp.completeAt = sp.q.section(&Event{Section: look.Section})
	}
	sp.complete()
	t.begin(sp, look.At)
}

// complete says that the tree holds everything, once it does.
func (sp *addressSpace) complete() {
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
	sp.tree.SetComplete(true)
}

// begin lets in what waited for a space's first state.
func (t *Tracer) begin(sp *addressSpace, at uint64) {
	sp.waiting = false
	sp.began = at
	sp.start = sp.tree.Snapshot()
	t.tell(sp, &Change{Event: &Event{Kind: KindBegin, Time: at, Space: sp.id}, Start: &sp.start})
	backlog := sp.backlog
	sp.backlog = nil
	for _, ev := range backlog {
		t.enter(sp, ev)
	}
}

// exit notes the end of a process.
func (t *Tracer) exit(sp *addressSpace, ev *Event) {
	p := t.procs[ev.TGID]
	if p == nil || p.Exited {
		return
	}
	p.Exited, p.Status, p.NoStatus = true, ev.Status, ev.Flags&NoStatus != 0
	t.alive--
	t.stats.Exits++
	if sp != nil {
		t.tell(sp, &Change{Event: ev})
	}
	t.leave(p)
	delete(t.procs, p.PID)
	if t.world != nil {
		t.world.Forget(p.PID)
	}
	if sp != nil && len(sp.procs) == 0 {
		if sp.tree != nil && sp.tree.Doubtful() {
			sp.state.approximate(unread)
		}
		t.retire(sp)
	}
}

// retire keeps an address space that nobody lives in for the report.
func (t *Tracer) retire(sp *addressSpace) {
	if slices.Contains(t.kept, sp) {
		return
	}
	delete(t.busy, sp)
	t.kept = append(t.kept, sp)
	if len(t.kept) <= t.opts.KeepExited {
		return
	}
	old := t.kept[0]
	t.kept = t.kept[1:]
	t.stats.fold(old)
	t.dropped.worsen(old.state)
	t.notKept++
	delete(t.spaces, old.id)
}

// bury handles the end of an address space.
func (t *Tracer) bury(sp *addressSpace) {
	sp.gone = true
	delete(t.busy, sp)
	switch {
	case len(sp.procs) > 0:
	case sp.replaced:
		t.stats.fold(sp)
		t.dropped.worsen(sp.state)
		delete(t.spaces, sp.id)
	default:
		t.retire(sp)
	}
}

// lose handles a loss: every tree may be wrong, and processes may have come
// and gone unseen. If programs were skipped it need not have been ours that was lost:
// where the kernel numbers the sections, they tell.
func (t *Tracer) lose(ev *Event) {
	skipped := ev.Kind == KindSkipped
	if skipped {
		t.stats.Skipped += ev.Lost
		for _, sp := range t.spaces {
			sp.q.explain()
		}
		if t.stopAt != 0 {
			return // what the processes have done since is not looked at
		}
	} else {
		t.stats.Lost += ev.Lost
		t.tell(nil, &Change{Event: ev})
	}
	if t.world == nil {
		for _, sp := range t.spaces {
			sp.state.approximate("events were lost")
		}
		return
	}
	tasks, err := t.world.Tasks()
	if err != nil {
		t.log.Error("list processes after a loss", "error", err)
	}
	living := make(map[int]bool)
	for _, task := range tasks {
		living[task.PID] = true
		t.relist(task)
	}
	for pid, p := range t.procs {
		if _, known := t.missing[pid]; !known && !p.Exited && !living[pid] && err == nil {
			t.missing[pid] = t.now()
		}
	}
	for _, sp := range t.spaces {
		if sp.skips = skipped && sp.q.numbered; !sp.skips {
			t.staleSince(sp, ev.Time)
			continue
		}
		sp.lostAt, t.busy[sp] = ev.Time, true
	}
	for _, task := range tasks {
		if sp := t.spaces[task.Space]; sp != nil && task.HasSection {
			sp.q.excuse(task.Section)
		}
	}
}

// explore marks a tree as wrong if programs were skipped, and sections are lost by that.
func (t *Tracer) explore(sp *addressSpace, now uint64) {
	if sp.skips && sp.q.lost > sp.known {
		t.staleSince(sp, now)
	}
	sp.known = sp.q.lost
}

// unmiss gives up on the processes that a listing had not, and whose end nobody has told
// of since. began is a time from which on nothing older was still to be read.
func (t *Tracer) unmiss(began uint64) {
	for pid, at := range t.missing {
		p := t.procs[pid]
		switch {
		case p == nil || p.Exited:
			delete(t.missing, pid)
		case began > at+patience:
			delete(t.missing, pid)
			t.vanish(p, at)
		}
	}
}

// relist takes over what a listing says of one process.
func (t *Tracer) relist(task Task) {
	p := t.procs[task.PID]
	if p != nil && !p.Exited && p.Space == task.Space {
		return
	}
	sp := t.spaces[task.Space]
	if sp == nil {
		sp = t.adopt(task)
	}
	if p == nil || p.Exited {
		t.join(task.PID, task.Inner, 0, task.Comm, task.StartTime, sp)
		return
	}
	t.leave(p)
	p.Space, p.Comm = task.Space, task.Comm
	p.Generation++
	sp.settle(p)
}

// vanish notes the end of a process whose last event was lost.
func (t *Tracer) vanish(p *Process, at uint64) {
	sp := t.spaces[p.Space]
	if sp != nil {
		sp.state.approximate("events were lost and the process is gone")
	}
	t.exit(sp, &Event{Kind: KindExit, Time: at, TGID: p.PID, TID: p.PID, Space: p.Space})
}

// staleSince marks a tree as wrong from a moment on.
func (t *Tracer) staleSince(sp *addressSpace, at uint64) {
	if sp.gone || len(sp.procs) == 0 {
		return
	}
	sp.stale, sp.lostAt = true, at
	clear(sp.announced) // the calls themselves may be among what was lost
	if sp.waiting {
		// Its first state, or the fork that would bring it, may be what was lost.
		if sp.tree == nil {
			sp.tree = t.newTree(0, 0, 0)
		}
		sp.seeding = true
		t.busy[sp] = true
		return
	}
	t.doubt(sp, space.All, at, lookReason{op: space.OpReread})
}
