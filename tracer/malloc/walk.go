package malloc

import (
	"encoding/binary"

	"github.com/maptrace/maptrace/procmaps"
)

// What a chunk's word of size has beside it, and what chunks are like.
const (
	prevInUse  = 1
	isMapped   = 2
	nonMain    = 4
	sizeMask   = ^uint64(7)
	chunkAlign = 16
	leastChunk = 32
	// fenceSize is the size of what is put where memory ends that does not go on.
	fenceSize = 16
	// header are the two words at the start of a chunk, and links the two behind them,
	// which are a free chunk's.
	header = 16
	links  = 16
	// lent is what a chunk that is in use has of the one behind it.
	lent = 8
	// freeHead is sizeof(struct malloc_chunk): what malloc_trim leaves of a free chunk.
	freeHead = 48
	// mostFast is the largest size of a chunk in a fast bin.
	mostFast = leastChunk + chunkAlign*(fastLists-1)
)

const (
	leastWindow = 4 << 10
	firstWindow = 64 << 10
	mostWindow  = 1 << 20

	// again is how often a piece is read again whose chunks do not fit each other.
	again = 3
	// mostSearch is how far chunks are searched for behind such a piece, mostSearched how
	// far in all, and chained how many must follow each other there.
	mostSearch   = 4 << 20
	mostSearched = 64 << 20
	chained      = 16
	// mostResyncs is after how many of such pieces a heap is given up.
	mostResyncs = 256

	// mostRanges is about how many ranges of pages are counted at once.
	mostRanges = 4096
	// mostGrown is how much the heap by brk may have grown since the mappings were read.
	mostGrown = 1 << 36
)

// ending is how a walk ends.
type ending int

const (
	goesOn   ending = iota
	atTop           // at the top of the arena
	atFence         // at what is put where memory ends that does not go on
	atLimit         // where memory ends
	broken          // at what is no chunk, with none behind
	cut             // by the budget
	unmapped        // at what cannot be read
)

// walker goes over the chunks of one heap.
type walker struct {
	s     *survey
	a     *arena
	h     *heap
	lists *fastChunks
	// strict says that nothing is passed over.
	strict bool

	limit uint64 // where all chunks end
	top   uint64 // the chunk that ends there, if it is in this heap; else 0
	buf   []byte // a window of memory
	base  uint64 // where that is; 0 for none
	size  uint64 // how large the next one is

	position
	saved  position // where the window began
	failed int      // how often that was read again

	ranges []procmaps.Range // whole pages that are free
	trim   []bool           // of each, whether malloc_trim gives it back
	err    error            // of counting pages
}

// position is where a walk is and what it has found: all that is put back when a piece is
// read again.
type position struct {
	at      uint64 // the chunk whose header is next
	prev    uint64 // the size of the one before it, which is not yet counted; 0 for none
	looks   bool   // that one looks as if it were in a fast bin
	run     uint64 // where free chunks that follow each other began; 0 for none
	fast    int    // how many of the sorted fast chunks are behind
	found   Arena
	noted   int // how many ranges are
	claims  int // how many candidates are
	resyncs int
}

// walk goes over the chunks of a heap from where the last walk of it came to. A strict
// one ends where chunks do not follow each other.
func (s *survey) walk(a *arena, h *heap, lists *fastChunks, strict bool) (*walker, ending) {
	w := &walker{s: s, a: a, h: h, lists: lists, size: firstWindow, strict: strict, buf: s.buf[:0]}
	w.at = h.walked
	w.claims = len(s.candidates)
	w.saved = w.position
	end := goesOn
	for end == goesOn {
		end = w.step()
	}
	if end == cut || end == unmapped {
		// It is not known whether the last one is free.
		w.at -= w.prev
		w.prev = 0
	}
	w.count()
	s.buf = w.buf
	h.walked = w.at
	w.found.Walked = w.found.sum()
	return w, end
}

// sum is what has been found.
func (a *Arena) sum() uint64 {
	return a.InUse.Bytes + a.Bins.Bytes + a.Fast.Bytes + a.Tcache.Bytes + a.Top + a.Overhead + a.Skipped
}

// step goes on by a chunk, a window or a piece that cannot be read.
func (w *walker) step() ending {
	if w.base == 0 || w.at+header > w.base+uint64(len(w.buf)) {
		if end := w.fill(header); end != goesOn {
			return end
		}
	}
	switch {
	case w.top != 0 && w.at >= w.top, w.at >= w.limit:
		return w.end()
	}
	b := w.buf[w.at-w.base:]
	word := binary.LittleEndian.Uint64(b[8:])
	size, free := word&sizeMask, word&prevInUse == 0
	if w.prev != 0 && free && binary.LittleEndian.Uint64(b) != w.prev || !w.mayBe(w.at, word) {
		return w.mend()
	}
	if size < leastChunk {
		w.finish(free)
		w.close(w.at)
		return atFence
	}
	if w.top != 0 && w.at+size > w.top {
		// What was before the top was freed meanwhile, and is the top now.
		w.top = w.at
		return goesOn
	}
	need := uint64(0)
	switch {
	case cacheLists(size) != 0:
		need = size + lent
	case w.lists.byLook && size <= mostFast:
		need = header + links
	}
	if need > uint64(len(b)) && w.base != w.at {
		return w.fill(need)
	}
	w.finish(free)
	w.looks = false
	if need != 0 && need <= uint64(len(b)) {
		if cacheLists(size) != 0 {
			w.claim(b[:need])
		} else {
			w.looks = w.lists.looks(w.at, binary.LittleEndian.Uint64(b[header:]))
		}
	}
	w.prev = size
	w.at += size
	return goesOn
}

// mayBe reports whether a word may be the size of a chunk at an address, or of what is
// put at the end of memory.
func (w *walker) mayBe(at, word uint64) bool {
	size := word & sizeMask
	switch {
	case word&isMapped != 0, w.a.Main && word&nonMain != 0, size%chunkAlign != 0, size > w.limit-at:
		return false
	case size < leastChunk:
		return size == fenceSize || size == 0 && w.top == 0 && w.limit-at <= leastChunk
	}
	return w.top == 0 || at+size <= w.top || at+size == w.limit
}

// end ends the walk at the top, or where the heap ends.
func (w *walker) end() ending {
	w.finish(false)
	if w.top == 0 {
		w.close(w.at)
		return atLimit
	}
	if w.at < w.limit {
		w.found.Top += w.limit - w.at
		// Free chunks before it would become a part of it.
		if w.run == 0 {
			w.run = w.at
		}
		w.at = w.limit
	}
	if w.run != 0 {
		w.noteTop(w.run)
		w.run = 0
	}
	return atTop
}

// finish counts the chunk before the one that is next.
func (w *walker) finish(free bool) {
	if w.prev == 0 {
		return
	}
	at, size := w.at-w.prev, w.prev
	w.prev = 0
	fast := false
	if !free && size <= mostFast {
		if w.lists.byLook {
			fast = w.looks
		} else {
			fast = w.lists.has(&w.fast, at)
		}
	}
	switch {
	case free:
		w.found.Bins.add(size)
	case fast:
		w.found.Fast.add(size)
	default:
		w.found.InUse.add(size)
		w.found.Sizes[ClassOf(size)]++
		w.close(at)
		return
	}
	if w.run == 0 {
		w.run = at
	}
}

// close ends a run of free chunks.
func (w *walker) close(at uint64) {
	if w.run == 0 {
		return
	}
	page := w.s.opts.Page
	// So malloc_trim computes what is to be given back.
	start, end := (w.run+freeHead+page-1)&^(page-1), at&^(page-1)
	w.run = 0
	if end > start {
		w.note(procmaps.Range{Start: start, End: end}, true)
	}
}

// noteTop notes what of the top is whole pages, and free chunks before it.
func (w *walker) noteTop(from uint64) {
	page := w.s.opts.Page
	end := w.limit &^ (page - 1)
	start := (from + freeHead + page - 1) &^ (page - 1)
	if w.h.brk {
		// It is given back by brk, and a little more of it is left.
		start = (from + leastChunk + page) &^ (page - 1)
	}
	if end > start {
		w.note(procmaps.Range{Start: start, End: end}, w.h.brk)
	}
}

// note notes pages that are free.
func (w *walker) note(g procmaps.Range, trim bool) {
	if trim {
		w.found.Trimmable += g.Len()
	}
	w.ranges = append(w.ranges[:w.noted], g)
	w.trim = append(w.trim[:w.noted], trim)
	w.noted++
}

// count counts what is resident of the pages that were noted.
func (w *walker) count() {
	ranges := w.ranges[:w.noted]
	w.noted = 0
	if len(ranges) == 0 || w.s.opts.Count == nil || w.err != nil {
		return
	}
	out := make([]procmaps.Resident, len(ranges))
	if w.err = w.s.opts.Count(ranges, out); w.err != nil {
		return
	}
	for i := range out {
		if w.trim[i] {
			w.found.ResidentTrim += out[i].Bytes
		} else {
			w.found.ResidentTop += out[i].Bytes
		}
	}
}

// fill reads a window that begins with the next header and has so much at least, unless
// memory ends before.
func (w *walker) fill(need uint64) ending {
	switch {
	case w.base == 0:
	case w.at > w.base+uint64(len(w.buf))+w.size:
		w.size = leastWindow
	default:
		w.size = min(2*w.size, mostWindow)
	}
	if w.at != w.saved.at {
		if w.noted >= mostRanges {
			w.count()
		}
		w.saved, w.failed = w.position, 0
	}
	w.bounds()
	n := max(w.size-w.at%leastWindow, need)
	// What lies in the top was never written to, for the most part.
	until := w.limit
	if w.top != 0 {
		until = w.top + header
	}
	n = min(n, max(until, w.at+header)-w.at)
	if uint64(cap(w.buf)) < n {
		w.buf = make([]byte, min(2*n, mostWindow+mostCache))
	}
	w.base = w.at
	w.buf = w.buf[:n]
	w.buf = w.buf[:w.s.mem.read(w.buf, w.base)]
	switch {
	case w.s.mem.ended:
		return cut
	case len(w.buf) < header && w.at < w.limit && (w.top == 0 || w.at < w.top):
		return unmapped
	}
	return goesOn
}

// bounds looks up where the heap ends now, and where its top is.
func (w *walker) bounds() {
	h, a := w.h, w.a
	var b [8]byte
	word := func(at uint64) uint64 {
		if w.s.mem.read(b[:], at) < len(b) {
			return 0
		}
		return binary.LittleEndian.Uint64(b[:])
	}
	top := word(a.State + a.front)
	if top%chunkAlign != 0 {
		top = 0
	}
	if h.info != 0 {
		if size := word(h.info + 2*8); size >= a.info && size <= mostHeap {
			h.end = h.info + size
		}
	} else if top >= h.start && w.s.holds(h, top) {
		if size := word(top+8) & sizeMask; size != 0 && size < mostGrown {
			h.end = top + size
		}
	}
	w.limit, w.top = h.end, 0
	if top >= h.start && top < h.end {
		w.top = top
	}
}

// holds reports whether an address of the main arena is in a heap of it, which may have
// grown since the mappings were read.
func (s *survey) holds(h *heap, addr uint64) bool {
	if addr < h.end {
		return true
	}
	if !h.brk || addr-h.end >= mostGrown {
		return false
	}
	for i := range s.rows {
		if s.rows[i].Contains(addr) {
			return false
		}
	}
	return true
}

// mend goes on where chunks do not fit each other: from the start of the window, for
// what was read was of several moments; or, when that has not helped, where chunks follow
// each other again.
func (w *walker) mend() ending {
	if w.failed++; w.failed <= again {
		w.position = w.saved
		w.s.candidates = w.s.candidates[:w.claims]
		w.base, w.size = 0, max(w.size/2, leastWindow)
		return goesOn
	}
	from := w.at - w.prev
	w.prev = 0
	w.close(from)
	w.at = from
	if w.resyncs++; w.resyncs > mostResyncs || w.strict {
		return broken
	}
	at, ok := w.search(from + chunkAlign)
	switch {
	case w.s.mem.ended:
		return cut
	case !ok:
		return broken
	}
	w.found.Skipped += at - from
	w.at, w.base = at, 0
	return goesOn
}

// search finds chunks that follow each other.
func (w *walker) search(from uint64) (uint64, bool) {
	w.s.mem.forget()
	end := w.limit
	if w.top != 0 {
		end = min(end, w.top)
	}
	for at := from; at < min(from+mostSearch, end) && w.s.searched < mostSearched; at += chunkAlign {
		if w.s.searched += chunkAlign; w.s.mem.ended {
			return 0, false
		}
		if w.chain(at) {
			return at, true
		}
	}
	return end, w.top != 0 && end == w.top && end <= from+mostSearch
}

// chain reports whether chunks follow each other from an address on.
func (w *walker) chain(at uint64) bool {
	prev := uint64(0)
	for range chained {
		if at == w.top || at == w.limit {
			return prev != 0
		}
		word, ok := w.s.mem.word(at + 8)
		if !ok || !w.mayBe(at, word) {
			return false
		}
		if prev != 0 && word&prevInUse == 0 {
			if foot, ok := w.s.mem.word(at); !ok || foot != prev {
				return false
			}
		}
		size := word & sizeMask
		if size < leastChunk {
			return prev != 0
		}
		prev = size
		at += size
	}
	return true
}
