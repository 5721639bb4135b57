package space

import (
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// chunkCap is the number of cells in a chunk: small enough that moving half a
// chunk costs less than the search, large enough that the index stays short.
const chunkCap = 64

type chunk struct {
	n int
	c [chunkCap]cell
}

// list is a sorted list of cells in chunks, with an index of the address each
// chunk starts at. No chunk is empty. Emptied chunks are kept for reuse.
type list struct {
	chunks []*chunk
	first  []uint64
	free   []*chunk
	cells  int
	alive  int // cells that are extents
}

// pos is a position in a list. It is valid until the next insertion or removal.
type pos struct{ ci, i int }

func (l *list) end() pos          { return pos{ci: len(l.chunks)} }
func (l *list) has(p pos) bool    { return p.ci < len(l.chunks) }
func (l *list) cell(p pos) *cell  { return &l.chunks[p.ci].c[p.i] }
func (l *list) begin() pos        { return pos{} }
func (l *list) endOf(ci int) bool { return ci == len(l.chunks)-1 }

func (l *list) next(p pos) pos {
	if p.i++; p.i >= l.chunks[p.ci].n {
		p.ci, p.i = p.ci+1, 0
	}
	return p
}

func (l *list) prev(p pos) (pos, bool) {
	if p.i > 0 {
		return pos{p.ci, p.i - 1}, true
	}
	if p.ci == 0 {
		return pos{}, false
	}
	return pos{p.ci - 1, l.chunks[p.ci-1].n - 1}, true
}

// find returns the position of the first cell that ends above addr.
func (l *list) find(addr uint64) pos {
	lo, hi := 0, len(l.first)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); l.first[m] <= addr {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == 0 {
		return l.begin()
	}
	ci := lo - 1
	ch := l.chunks[ci]
	lo, hi = 0, ch.n
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); ch.c[m].end <= addr {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == ch.n {
		return pos{ci + 1, 0}
	}
	return pos{ci, lo}
}

func (l *list) newChunk() *chunk {
	if n := len(l.free); n > 0 {
		ch := l.free[n-1]
		l.free = l.free[:n-1]
		ch.n = 0
		return ch
	}
	return new(chunk)
}

func (l *list) insertChunk(ci int, ch *chunk) {
	l.chunks = slices.Insert(l.chunks, ci, ch)
	l.first = slices.Insert(l.first, ci, ch.c[0].start)
}

func (l *list) removeChunk(ci int) {
	l.free = append(l.free, l.chunks[ci])
	l.chunks = slices.Delete(l.chunks, ci, ci+1)
	l.first = slices.Delete(l.first, ci, ci+1)
}

// insert puts c before p and returns its position.
func (l *list) insert(p pos, c *cell) pos {
	l.cells++
	if c.alive() {
		l.alive++
	}
	// At the start of a chunk the cell may as well go to the end of the one
	// before, which is how the end position is handled too.
	if p.i == 0 && p.ci > 0 && (!l.has(p) || l.chunks[p.ci-1].n < chunkCap) {
		p = pos{p.ci - 1, l.chunks[p.ci-1].n}
	}
	if !l.has(p) {
		ch := l.newChunk()
		ch.n, ch.c[0] = 1, *c
		l.insertChunk(p.ci, ch)
		return pos{p.ci, 0}
	}
	ch := l.chunks[p.ci]
	if ch.n == chunkCap {
		right := l.newChunk()
		if p.i == chunkCap && l.endOf(p.ci) {
			// Appending in order, as a seed does, leaves full chunks behind.
			right.n, right.c[0] = 1, *c
			l.insertChunk(p.ci+1, right)
			return pos{p.ci + 1, 0}
		}
		const half = chunkCap / 2
		right.n = copy(right.c[:], ch.c[half:])
		ch.n = half
		l.insertChunk(p.ci+1, right)
		if p.i > half {
			p.ci, p.i, ch = p.ci+1, p.i-half, right
		}
	}
	copy(ch.c[p.i+1:ch.n+1], ch.c[p.i:ch.n])
	ch.c[p.i] = *c
	ch.n++
	if p.i == 0 {
		l.first[p.ci] = c.start
	}
	return p
}

// remove takes n cells away, beginning at p. Positions before p stay valid
// until tidy is called.
func (l *list) remove(p pos, n int) {
	l.cells -= n
	for n > 0 {
		ch := l.chunks[p.ci]
		k := min(n, ch.n-p.i)
		for i := p.i; i < p.i+k; i++ {
			if ch.c[i].alive() {
				l.alive--
			}
		}
		copy(ch.c[p.i:], ch.c[p.i+k:ch.n])
		ch.n -= k
		n -= k
		switch {
		case ch.n == 0:
			l.removeChunk(p.ci)
		case p.i == 0:
			l.first[p.ci] = ch.c[0].start
			p = pos{p.ci + 1, 0}
		default:
			p = pos{p.ci + 1, 0}
		}
	}
}

// tidy joins chunk ci with a neighbour when both are sparse.
func (l *list) tidy(ci int) {
	if ci >= len(l.chunks) || l.chunks[ci].n > chunkCap/4 {
		return
	}
	for _, left := range [2]int{ci - 1, ci} {
		if left < 0 || left+1 >= len(l.chunks) {
			continue
		}
		a, b := l.chunks[left], l.chunks[left+1]
		if a.n+b.n <= chunkCap*3/4 {
			a.n += copy(a.c[a.n:], b.c[:b.n])
			l.removeChunk(left + 1)
			return
		}
	}
}

// split makes sure that a cell boundary lies at addr, and reports whether it
// had to cut a cell.
func (l *list) split(addr uint64) bool {
	p := l.find(addr)
	if !l.has(p) || l.cell(p).start >= addr {
		return false
	}
	left := l.cell(p)
	right := *left
	right.clip(procmaps.Range{Start: addr, End: left.end})
	left.clip(procmaps.Range{Start: left.start, End: addr})
	l.insert(pos{p.ci, p.i + 1}, &right)
	return true
}

// coalesce joins the cells in and around [start, end] that continue each other.
func (l *list) coalesce(start, end uint64) {
	p := l.find(start)
	if q, ok := l.prev(p); ok {
		p = q
	}
	from := p.ci
	for l.has(p) {
		q := l.next(p)
		if !l.has(q) || l.cell(q).start > end {
			break
		}
		a, b := l.cell(p), l.cell(q)
		if !mergeable(a, b) {
			p = q
			continue
		}
		a.join(b)
		l.remove(q, 1)
	}
	// From the far end, since joining chunks moves those behind.
	for ci := min(p.ci, len(l.chunks)-1); ci >= from; ci-- {
		l.tidy(ci)
	}
}
