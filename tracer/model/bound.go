package model

import (
	"cmp"
	"maps"
	"slices"

	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/space"
)

// How the memory of trees is bounded.
//
// A tree needs a cell for each region, of which the kernel allows so many
// (vm.max_map_count), to each of any number of processes. Where all together have too many
// rows, whole address spaces are given up, the largest first: nothing is known of their
// mappings any more, and that is said of them.
//
// What a tree has beyond, it has for the origins of single calls, and for what is so new
// that older calls may still come. Of the first there is a share, as of all else that is
// kept of a node: who has too much is coarsened. The second goes with the horizon, which
// the source moves (Prune). If too much has come since, it is moved here: to where the last
// such turn was, so that whatever comes late has at least a whole turn of calls to do so.
// What comes later than that is in doubt, and is read.
//
// All follows from the operations, so a replay does the same.

// usualMemory is Options.Memory where nothing is said, in bytes.
const usualMemory = 32 << 20

// usualRows is Options.Rows where nothing is said.
const usualRows = 1 << 20

// unkept is why nothing is known of an address space that was given up.
const unkept = "its mappings are not kept: memory budget reached"

// bound is the state of that.
type bound struct {
	kept  *budget.Share // of cells beyond one for each region
	most  int           // new cells that make a turn
	fresh int           // cells since their trees were compacted last, of all trees
	turn  uint64        // when the last turn was

	rows     int // of all trees, as of when each was compacted last
	mostRows int
}

func newBound(memory, rows int) bound {
	if memory == 0 {
		memory = usualMemory
	}
	// The new ones of two turns are there at most.
	return bound{
		kept: budget.New(memory / 2), most: max(1, memory/4/space.CellBytes), mostRows: cmp.Or(rows, usualRows),
	}
}

// grown counts the cells that an operation has added to a tree, and makes a turn if they
// have become too many.
func (m *Model) grown(sp *Space, at uint64) {
	n := max(0, sp.tree.Cells()-sp.compacted)
	m.bound.fresh += n - sp.fresh
	if sp.fresh = n; m.bound.fresh >= m.bound.most {
		m.turn(at)
	}
}

// turn moves the horizon of all trees to where the last turn was, and coarsens those that
// have too much.
func (m *Model) turn(at uint64) {
	for _, id := range slices.Sorted(maps.Keys(m.spaces)) {
		sp := m.spaces[id]
		if sp.tree == nil {
			continue
		}
		if sp.state == known { // else a seed is to come, which must not be older
			sp.tree.Prune(m.bound.turn)
		}
		m.compacted(sp, at)
	}
	m.bound.turn = at
}

// compacted notes that a tree has been made as small as it can be without loss, and
// coarsens it if that is not enough. If all have too many rows, some are given up.
func (m *Model) compacted(sp *Space, at uint64) {
	sp.memory.Hold(sp.tree.Spare() * space.CellBytes)
	if excess := sp.memory.Excess(); excess > 0 {
		spare := sp.tree.Spare() - (excess+space.CellBytes-1)/space.CellBytes
		if sp.tree.Coarsen(max(0, spare)) && !sp.coarse {
			sp.coarse = true
			m.counts.Coarsened++
		}
		sp.memory.Hold(sp.tree.Spare() * space.CellBytes)
	}
	m.bound.fresh -= sp.fresh
	sp.compacted, sp.fresh = sp.tree.Cells(), 0
	m.countRows(sp, sp.compacted-sp.tree.Spare())
	for m.bound.rows > m.bound.mostRows {
		m.giveUp(m.largest(), at)
	}
}

// countRows notes how many rows a tree has.
func (m *Model) countRows(sp *Space, rows int) {
	m.bound.rows += rows - sp.rows
	sp.rows = rows
}

// largest is the address space to give up next: of those that nobody lives in, as long as
// one has more than an equal part, else of all. Of equals it is the one that came last.
func (m *Model) largest() *Space {
	part := m.bound.mostRows / len(m.spaces)
	rest := func(sp *Space) int {
		if len(sp.procs) == 0 && sp.rows > part {
			return 1
		}
		return 0
	}
	var most *Space
	for _, sp := range m.spaces {
		if most == nil || cmp.Or(cmp.Compare(rest(sp), rest(most)), cmp.Compare(sp.rows, most.rows), cmp.Compare(sp.id, most.id)) > 0 {
			most = sp
		}
	}
	return most
}

// giveUp keeps nothing of what an address space holds any more.
func (m *Model) giveUp(sp *Space, at uint64) {
	sp.tree, sp.start = m.newTree(Layout{}), space.Packed{}
	sp.unkept, sp.unverified = true, nil
	sp.picture.Why = unkept // whatever else: it is why the table is empty
	sp.memory.Hold(0)
	m.bound.fresh -= sp.fresh
	sp.compacted, sp.fresh = 0, 0
	m.countRows(sp, 0)
	m.counts.Unkept++
	if sp.state != waiting {
		m.tellUnkept(sp, at)
	}
}

func (m *Model) tellUnkept(sp *Space, at uint64) {
	c := Change{Kind: KindUnkept, Time: at, Space: sp.id}
	if sp.owner != nil {
		c.TGID = sp.owner.PID
	}
	m.tell(sp, &c)
}

// setTree gives an address space a tree, whose cells it needs.
func (m *Model) setTree(sp *Space, tree *space.Space, at uint64) {
	sp.tree, sp.unkept = tree, false
	m.compacted(sp, at)
}

// mixBlames is what origins of a tree have in common.
func mixBlames(a, b uint64) uint64 { return uint64(Blame(a).Mix(Blame(b))) }
