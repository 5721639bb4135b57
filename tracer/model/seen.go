package model

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// seen takes everything that polling has found. What it shows otherwise than the tree is
// told as the changes that must have been made, one each.
func (m *Model) seen(sp *Space, op *Operation, b *Seen) {
	named := parts{heapOf(sp.tree), rowOf(b.Rows, "[heap]"), rowOf(b.Rows, "[stack]")}
	found := sp.tree.Reread(space.Read{Range: space.All, Rows: b.Rows, Began: b.Began, Ended: b.Ended, Op: space.OpReread})
	for i := range found {
		f := &found[i]
		named.name(f)
		what := seenAs(f)
		m.counts.Polled++
		m.counts.byOp[what&31][0]++
		m.found(sp, op, what, -1, found[i:i+1])
	}
}

// heapOf is where the heap is, the zero Range if there is none.
func heapOf(tree *space.Space) (heap procmaps.Range) {
	for e := range tree.Extents(space.All) {
		if e.Kind != procmaps.KindHeap {
			continue
		}
		if heap.Empty() {
			heap.Start = e.Start
		}
		heap.End = e.End
	}
	return heap
}

// rowOf is where a name was seen.
func rowOf(rows []space.Row, name string) procmaps.Range {
	for i := range rows {
		if rows[i].Name == name {
			return rows[i].Range
		}
	}
	return procmaps.Range{}
}

// parts are what is anonymous in pieces and has a name as a whole.
type parts struct{ wasHeap, heap, stack procmaps.Range }

// name gives a piece of the heap or the stack its name.
func (p *parts) name(f *space.Change) {
	at := f.Range.Start
	if f.Was.Kind == procmaps.KindAnon && p.wasHeap.Contains(at) {
		f.Was.Kind, f.Was.Name = procmaps.KindHeap, "[heap]"
	}
	switch {
	case f.Now.Kind != procmaps.KindAnon:
	case p.heap.Contains(at):
		f.Now.Kind, f.Now.Name = procmaps.KindHeap, "[heap]"
	case p.stack.Contains(at):
		f.Now.Kind, f.Now.Name = procmaps.KindStack, "[stack]"
	}
}

// seenAs is the call that a change looks like. What mremap has moved is not told
// from what was unmapped here and mapped there.
func seenAs(f *space.Change) space.Op {
	was, now := &f.Was, &f.Now
	switch {
	case was.Kind == 0 && now.Kind == procmaps.KindHeap, now.Kind == 0 && was.Kind == procmaps.KindHeap:
		return space.OpBrk
	case was.Kind == 0 && now.Kind == procmaps.KindStack:
		return space.OpStack
	case was.Kind == 0:
		return space.OpMmap
	case now.Kind == 0:
		return space.OpMunmap
	case was.File != now.File || was.File != 0 && was.Offset-was.Start != now.Offset-now.Start:
		return space.OpMmap
	case was.Mode != now.Mode:
		return space.OpMprotect
	case was.File == 0 && was.Kind != procmaps.KindSpecial && now.Kind != procmaps.KindSpecial:
		return space.OpSetVMA
	}
	return space.OpMmap
}
