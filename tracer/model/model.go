package model

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// Options of a Model.
type Options struct {
	// OnChange is told of everything that happens, from within Apply; nil for nobody.
	OnChange func(*Change)
	// PageSize in bytes; 0 means 4096.
	PageSize uint64
	// MovesMany and Shm are those of [space.Options].
	MovesMany bool
	Shm       procmaps.Device
	// Polling is set if what is applied comes of looks at /proc this often.
	Polling time.Duration
	// Verify is set if address spaces are audited.
	Verify bool
	// KeepExited is how many address spaces are kept for the report though nobody lives
	// in them; the oldest go first. 0 means 64.
	KeepExited int
	// Memory is how many bytes the trees may take beyond a cell for each region, of all
	// address spaces together. 0 means 32 MiB.
	Memory int
	// Rows is how many regions the trees may have, all together: beyond, address spaces
	// are given up. 0 means 1,048,576.
	Rows int
}

// Model is the state of all traced processes. Make one with [New].
type Model struct {
	opts   Options
	spaces map[uint64]*Space
	procs  map[int]*Process // those that live
	kept   []*Space         // those that nobody lives in, oldest first
	last   *Space           // that of the operation before

	compared bool // something, by an audit

	counts    Counts
	figures   Figures
	bound     bound
	dropped   Picture // the worst of what is not kept
	notKept   int
	forgotten []uint64

	// What is told of a call, kept here so that none is made for each.
	effect space.Effect
	change Change
}

// Feedback is what an operation did that whoever keeps the order must know of.
type Feedback struct {
	// Effect is that of a Call that was applied, nil of all else. It is valid until the
	// next operation.
	Effect *space.Effect
	// Doubts: parts of a Clone are in doubt.
	Doubts bool
	// Forgotten are address spaces that are not kept any more, valid likewise.
	Forgotten []uint64
}

// New returns a Model of nothing.
func New(opts Options) *Model {
	if opts.KeepExited == 0 {
		opts.KeepExited = 64
	}
	return &Model{
		opts: opts, spaces: make(map[uint64]*Space), procs: make(map[int]*Process), bound: newBound(opts.Memory, opts.Rows),
	}
}

// Space is an address space that is known or kept, nil if it is neither.
func (m *Model) Space(id uint64) *Space {
	if m.last == nil || m.last.id != id {
		m.last = m.spaces[id]
	}
	return m.last
}

// Process is a process that lives, nil if it does not.
func (m *Model) Process(pid int) *Process { return m.procs[pid] }

// Processes are those that live.
func (m *Model) Processes() iter.Seq[*Process] { return maps.Values(m.procs) }

// Alive is how many processes live.
func (m *Model) Alive() int { return len(m.procs) }

// Tree is an address space as it is now, nil if it is not known (yet). It is the
// model's own: valid until the next operation.
func (m *Model) Tree(id uint64) *space.Space {
	if sp := m.spaces[id]; sp != nil && sp.state != waiting {
		return sp.tree
	}
	return nil
}

// Apply applies an operation, and tells what came of it. An operation that needs a
// tree does nothing where there is none.
func (m *Model) Apply(op *Operation) Feedback {
	switch b := op.Body.(type) {
	case *Call:
		if sp := m.tree(op); sp != nil {
			return Feedback{Effect: m.call(sp, op, b)}
		}
	case Layout:
		m.setTree(m.make(op.Space), m.newTree(b), op.Time)
	case Join:
		m.join(op, &b)
	case Exec:
		m.exec(op, &b)
	case Fork:
		m.counts.Forks++
		c := changeOf(KindFork, op)
		c.Child, c.Inner, c.ChildSpace, c.Site = b.Child, b.Inner, b.ChildSpace, b.Site
		m.tell(m.Space(op.Space), &c)
	case Exit:
		return m.exit(op, &b)
	case Gone:
		return m.gone(op)
	case Figures:
		m.figures = b
	case Lost:
		c := changeOf(KindLost, op)
		c.Lost = uint64(b)
		m.tell(m.Space(op.Space), &c)
	case Timed:
		m.change = changeOf(KindTiming, op)
		m.change.Call, m.change.Timing, m.change.Site = b.Call, b.Timing, b.Site
		m.tell(m.Space(op.Space), &m.change)
	case Approximate:
		if sp := m.Space(op.Space); sp != nil {
			sp.picture.approximate(string(b))
		}
	case Audit:
		if sp := m.Space(op.Space); sp != nil && sp.tree != nil {
			sp.audited, m.compared = sp.audited || b.Compared, m.compared || b.Compared
			sp.unverified, sp.auditedAt = b.Unverified, op.Time
		}
	case Violations:
		if sp := m.Space(op.Space); sp != nil {
			sp.violations += uint64(b)
		}
	case Missed:
		if sp := m.Space(op.Space); sp != nil {
			sp.picture.missed()
		}
	case Resynced:
		if sp := m.Space(op.Space); sp != nil {
			sp.picture.resynced(op.Time)
		}
	case Clone:
		if parent := m.spaces[b.Parent]; parent != nil && parent.tree != nil && !parent.unkept {
			tree, doubts := parent.tree.Clone(op.Time)
			m.setTree(m.make(op.Space), tree, op.Time)
			return Feedback{Doubts: len(doubts) > 0}
		}
	default:
		if sp := m.tree(op); sp != nil {
			if sp.unkept {
				m.applyUnkept(sp, op)
			} else {
				m.applyTree(sp, op)
			}
		}
	}
	return Feedback{}
}

// applyUnkept applies what is still of use to an address space that was given up.
func (m *Model) applyUnkept(sp *Space, op *Operation) {
	if _, is := op.Body.(Begin); is {
		m.begin(sp, op)
		m.tellUnkept(sp, op.Time)
	}
}

// begin notes that what is mapped is known.
func (m *Model) begin(sp *Space, op *Operation) {
	sp.begin(op.Time)
	c := changeOf(KindBegin, op)
	c.Start = &sp.start
	m.tell(sp, &c)
}

// applyTree applies what needs a tree, calls aside.
func (m *Model) applyTree(sp *Space, op *Operation) {
	switch b := op.Body.(type) {
	case Seed:
		sp.tree.Reread(space.Read{Range: space.All, Rows: b.Rows, Began: op.Time, Ended: b.Ended, Op: space.OpSeed})
		m.compacted(sp, op.Time)
	case Complete:
		sp.tree.SetComplete(bool(b))
	case Begin:
		m.begin(sp, op)
	case Stack:
		m.stack(sp, op, &b)
	case Reread:
		m.reread(sp, op, &b)
	case Seen:
		m.seen(sp, op, &b)
	case Doubt:
		sp.tree.Doubt(procmaps.Range(b), op.Time)
	case Undecoded:
		sp.tree.Undecoded(op.Time)
	case SetLayout:
		sp.tree.SetLayout(op.Time, b.StartBrk, b.Brk, b.Stack)
	case Prune:
		sp.tree.Prune(op.Time)
		m.compacted(sp, op.Time)
	case Drift:
		sp.drift += uint64(len(b))
		c := changeOf(KindDrift, op)
		c.Drift = b
		m.tell(sp, &c)
	case Fault:
		m.fault(sp, op, &b)
	case Write:
		m.change = changeOf(KindWrite, op)
		m.change.Addr, m.change.Site = b.Addr, b.Site
		m.tell(sp, &m.change)
	case Made:
		m.change = changeOf(KindMade, op)
		m.change.Made, m.change.Site = b.HeldID, b.Site
		m.tell(sp, &m.change)
	}
	m.grown(sp, op.Time)
}

// tree is the address space of an operation that needs its tree.
func (m *Model) tree(op *Operation) *Space {
	if sp := m.Space(op.Space); sp != nil && sp.tree != nil {
		return sp
	}
	return nil
}

// make returns an address space, made if it is not there.
func (m *Model) make(id uint64) *Space {
	sp := m.Space(id)
	if sp == nil {
		sp = &Space{id: id, memory: m.bound.kept.Join()}
		m.spaces[id], m.last = sp, sp
	}
	return sp
}

func (m *Model) newTree(l Layout) *space.Space {
	tree := space.New(space.Options{
		PageSize: m.opts.PageSize, MovesMany: m.opts.MovesMany, Shm: m.opts.Shm, Reports: m.opts.OnChange != nil, Mix: mixBlames,
	})
	tree.SetBrk(l.StartBrk, l.Brk)
	tree.SetStack(l.Stack)
	return tree
}

// changeOf begins the change that comes of an operation.
func changeOf(kind Kind, op *Operation) Change {
	return Change{Kind: kind, Flags: op.Flags, TGID: op.TGID, TID: op.TID, Time: op.Time, Space: op.Space}
}

// tell reports a change.
func (m *Model) tell(sp *Space, c *Change) {
	if m.opts.OnChange == nil {
		return
	}
	if sp != nil {
		if c.Process = m.procs[c.TGID]; c.Process == nil {
			c.Process = sp.owner
		}
	}
	m.opts.OnChange(c)
}

// join puts a process into an address space.
func (m *Model) join(op *Operation, b *Join) {
	sp := m.make(op.Space)
	sp.numbered = sp.numbered || b.Numbered
	p := m.procs[op.TGID]
	if p == nil {
		p = m.born(op.TGID)
		p.Parent, p.StartTime = b.Parent, b.StartTime
		if b.Inner != op.TGID {
			p.Inner = b.Inner
		}
	} else {
		m.leave(p)
		p.Generation++
	}
	p.Comm = b.Comm
	m.settle(sp, p)
}

func (m *Model) born(pid int) *Process {
	p := &Process{PID: pid}
	m.procs[pid] = p
	m.counts.Processes++
	return p
}

// settle gives an address space an inhabitant. One that nobody lived in is not among those
// that may be forgotten any more.
func (m *Model) settle(sp *Space, p *Process) {
	if len(sp.procs) == 0 {
		sp.owner, sp.first = p, p
		m.unkeep(sp)
	}
	sp.procs = append(sp.procs, p)
	p.Space = sp.id
}

// unkeep takes an address space out of those kept for the report.
func (m *Model) unkeep(sp *Space) {
	m.kept = slices.DeleteFunc(m.kept, func(o *Space) bool { return o == sp })
}

// leave takes a process out of its address space.
func (m *Model) leave(p *Process) {
	sp := m.spaces[p.Space]
	if sp == nil {
		return
	}
	sp.procs = slices.DeleteFunc(sp.procs, func(o *Process) bool { return o == p })
	switch {
	case len(sp.procs) == 0 && sp.first.Space == sp.id:
		sp.owner = sp.first
	case sp.owner == p && len(sp.procs) > 0:
		sp.owner = sp.procs[0]
	}
}

// exec gives a process a new address space, whose mappings follow.
func (m *Model) exec(op *Operation, b *Exec) {
	m.counts.Execs++
	p := m.procs[op.TGID]
	if p == nil {
		p = m.born(op.TGID)
	} else {
		if old := m.spaces[p.Space]; old != nil && old.id != op.Space && len(old.procs) == 1 && old.first == p {
			old.state = replaced
		}
		m.leave(p)
	}
	// A process found amid its exec has the new space already.
	sp := m.make(op.Space)
	sp.numbered = sp.numbered || b.Numbered
	m.setTree(sp, m.newTree(b.Layout), op.Time)
	sp.wait()
	p.Comm = b.Comm
	p.Generation++
	m.settle(sp, p)
	c := changeOf(KindExec, op)
	c.Comm = b.Comm
	m.tell(sp, &c)
}

// exit ends a process.
func (m *Model) exit(op *Operation, b *Exit) Feedback {
	p := m.procs[op.TGID]
	if p == nil {
		return Feedback{}
	}
	p.Exited, p.Status, p.NoStatus = true, b.Status, op.Flags&NoStatus != 0
	m.counts.Exits++
	sp := m.Space(op.Space)
	if sp != nil {
		c := changeOf(KindExit, op)
		m.tell(sp, &c)
	}
	m.leave(p)
	delete(m.procs, p.PID)
	if sp == nil || len(sp.procs) > 0 {
		return Feedback{}
	}
	sp.close()
	return m.retire(sp)
}

// gone ends an address space.
func (m *Model) gone(op *Operation) Feedback {
	sp := m.Space(op.Space)
	switch {
	case sp == nil:
		return Feedback{}
	case len(sp.procs) == 0 && sp.state == replaced:
		return m.forget(sp)
	}
	sp.close()
	if len(sp.procs) > 0 {
		return Feedback{}
	}
	return m.retire(sp)
}

// retire keeps an address space that nobody lives in for the report.
func (m *Model) retire(sp *Space) Feedback {
	if slices.Contains(m.kept, sp) {
		return Feedback{}
	}
	m.kept = append(m.kept, sp)
	if len(m.kept) <= m.opts.KeepExited {
		return Feedback{}
	}
	m.notKept++
	return m.forget(m.kept[0])
}

// forget drops an address space; its figures count.
func (m *Model) forget(sp *Space) Feedback {
	m.unkeep(sp)
	m.counts.fold(sp, m.opts.Verify)
	m.dropped.worsen(sp.pictured())
	sp.memory.Leave()
	m.bound.fresh -= sp.fresh
	m.countRows(sp, 0)
	delete(m.spaces, sp.id)
	m.last = nil
	m.forgotten = append(m.forgotten[:0], sp.id)
	return Feedback{Forgotten: m.forgotten}
}

// call counts a call, applies it, and tells of it.
func (m *Model) call(sp *Space, op *Operation, b *Call) *space.Effect {
	if b.Fate == Suppressed {
		m.counts.Suppressed++
		if op.Time >= sp.began {
			m.change = changeOf(KindSuppressed, op)
			m.change.Call = b.Call
			m.tell(sp, &m.change)
		}
		return nil
	}
	m.counts.count(b.Call)
	if b.Fate == Counted || sp.unkept {
		return nil
	}
	eff := &m.effect
	if b.Fate == Applied {
		*eff = sp.tree.Apply(b.Call)
	} else {
		*eff = space.Effect{}
	}
	if op.Time >= sp.began && m.opts.OnChange != nil { // else it is part of the state that was found
		m.change = changeOf(KindCall, op)
		m.change.Call, m.change.Effect, m.change.Site = b.Call, eff, b.Site
		m.tell(sp, &m.change)
	}
	m.grown(sp, op.Time)
	return eff
}

// stack lets the main thread's stack grow.
func (m *Model) stack(sp *Space, op *Operation, b *Stack) {
	found := sp.tree.Reread(space.Read{
		Range: b.Range, Began: op.Time, Op: space.OpStack, TID: uint32(op.TID),
		Rows: []space.Row{{
			Mapping: procmaps.Mapping{Range: b.Range, Mode: b.Mode},
			Flags:   space.GrowsDown, Known: space.GrowsDown,
		}},
	})
	for i := range found {
		// By itself the piece is as anonymous as any.
		found[i].Now.Kind, found[i].Now.Name = procmaps.KindStack, "[stack]"
	}
	m.found(sp, op, space.OpStack, b.NR, found)
}

// reread takes what a read has found.
func (m *Model) reread(sp *Space, op *Operation, b *Reread) {
	found := sp.tree.Reread(space.Read{
		Range: b.Range, Rows: b.Rows, Began: op.Time, Ended: b.Ended, Op: b.Op, TID: uint32(op.TID),
	})
	m.found(sp, op, b.Op, b.NR, found)
}

// found tells of what a read has found, if that is anything.
func (m *Model) found(sp *Space, op *Operation, what space.Op, nr int16, found []space.Change) {
	if len(found) == 0 {
		return
	}
	c := changeOf(KindReread, op)
	c.NR, c.Found = nr, found
	c.Call = &space.Call{Op: what, Time: op.Time, TID: uint32(op.TID)}
	m.tell(sp, &c)
}

// fault tells of a page fault. Its place in the order does not matter.
func (m *Model) fault(sp *Space, op *Operation, b *Fault) {
	m.counts.Faults++
	m.change = changeOf(KindFault, op)
	m.change.Addr, m.change.Weight, m.change.Site = b.Addr, b.Weight, b.Site
	// Addresses are used again: what is there now may not have been touched.
	if at, ok := sp.tree.At(b.Addr); ok && at.Since <= op.Time {
		m.change.At = at
	}
	m.tell(sp, &m.change)
}
