//go:build linux

package sample

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"

	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// What glibc's allocator writes tells most of its blocks that were freed from those that
// were not (malloc/malloc.c; 2.26 and later):
//
//	chunk   size of the one before, if that is free
//	+8      size of this one, and flags: PREV_INUSE, IS_MMAPPED, NON_MAIN_ARENA
//	+16     the block; once it is freed, the next one in its list, and
//	+24     the one before, or, of those in a thread's cache, a key
//
// A block is there if its size, its chunk's flag in the next one, and its first words are
// what they were when it was known to be there; else its place may have been given to
// another. It is gone if the size is another, the next chunk says so, or
// its second word is the key.
//
// Other allocators have their own ways. What a free changes is learned from those that are
// seen (freeTraces): the word before a block, as musl does, or the first one of it, by which
// tcmalloc and mimalloc link what is free. Where it is always the same word, a block is there
// if that word and its contents are what they were. Where it is none, contents tell nothing.
const (
	prevInUse  = 1
	isMmapped  = 2
	chunkFlags = 7
	leastChunk = 32
	chunkAlign = 16
)

// chunkOf is the size of the chunk of a block that size bytes were asked for, if the word
// before it is that of one.
func chunkOf(size, header uint64) (chunk uint64, ok bool) {
	const head, page = 8, 4096
	want := max((size+head+chunkAlign-1)&^(chunkAlign-1), leastChunk)
	chunk = header &^ chunkFlags
	slack := uint64(chunkAlign) // what is left of a larger one is too small for itself
	if header&isMmapped != 0 {
		slack += page
	}
	return chunk, chunk >= want && chunk <= want+slack
}

// freeMarks learns what glibc writes into the second word of blocks in a thread's cache: a
// number drawn by chance, or, before 2.34, the address of the cache, which begins a heap.
// Blocks in other lists have there the address of another: that may still be there when the
// block is given out again.
type freeMarks map[uint64]int // how often each was seen

// sureMark is how often it must be seen; mostMarks how many are counted.
const (
	sureMark  = 4
	mostMarks = 1024
)

// learn takes what the second word of a block became when it was freed.
func (m *freeMarks) learn(word uint64) {
	const canonical, page, first = 1 << 47, 4096, 0x10
	if word < canonical && word%page != first {
		return
	}
	if *m == nil || len(*m) >= mostMarks {
		*m = make(freeMarks)
	}
	(*m)[word]++
}

// marks tells whether a word marks a freed block.
func (m freeMarks) marks(word uint64) bool { return m[word] >= sureMark }

// sign is by what the contents of a block tell that it is there.
type sign uint8

const (
	noSign   sign = iota // nothing
	byChunk              // glibc's chunks
	byBefore             // the word before it, and its own
	byFirst              // its first word, if its owner has written that, and all of its own
)

// freeTraces learns which words of blocks a free changes, by the number of bits of their size.
type freeTraces struct{ before, first [65]trace }

// trace is how many of some frees have changed a word.
type trace struct{ frees, changed int }

func (t *trace) learn(changed bool) {
	t.frees++
	if changed {
		t.changed++
	}
}

// learn takes what the free of a block has changed. A first word that its owner has not
// written is what the free before has left in it, and may be the same again.
func (t *freeTraces) learn(b *sampledBlock, mark *tracer.HeapBlock) {
	n := bits.Len64(b.size)
	t.before[n].learn(mark.Changed&tracer.ChangedBefore != 0)
	if mark.First != b.first {
		t.first[n].learn(mark.Changed&tracer.ChangedFirst != 0)
	}
}

// sign is by what it is known that a block of a size is there. Small blocks are freed alike,
// whatever their sizes; so a size that no other is freed of is known, too.
func (t *freeTraces) sign(size uint64) sign {
	const small = 13 // bits: up to 8 KiB
	from, to := 0, small
	if n := bits.Len64(size); n > small {
		from, to = n, n
	}
	switch {
	case always(t.before[from : to+1]):
		return byBefore
	case always(t.first[from : to+1]):
		return byFirst
	}
	return noSign
}

// always tells whether frees change a word, of all sizes.
func always(all []trace) bool {
	const (
		enough, some  = 64, 8
		least, nearly = 0.97, 0.85 // nearly is of some
	)
	var sum trace
	for _, t := range all {
		sum.frees += t.frees
		sum.changed += t.changed
		if t.frees >= some && float64(t.changed) < nearly*float64(t.frees) {
			return false
		}
	}
	return sum.frees >= enough && float64(sum.changed) >= least*float64(sum.frees)
}

// twins are the contents of samples: of those that there have been before it does not tell
// whether a block is still the same.
type twins struct {
	seed maphash.Seed
	seen map[uint64]bool
}

// mostTwins is how many are remembered.
const mostTwins = 1 << 14

// has tells whether a block of a size had the same contents before, and remembers them.
func (t *twins) has(size uint64, words []uint64) bool {
	if t.seen == nil || len(t.seen) >= mostTwins {
		t.seed, t.seen = maphash.MakeSeed(), make(map[uint64]bool)
	}
	var h maphash.Hash
	h.SetSeed(t.seed)
	maphash.WriteComparable(&h, size)
	for _, w := range words {
		maphash.WriteComparable(&h, w)
	}
	sum := h.Sum64()
	known := t.seen[sum]
	t.seen[sum] = true
	return known
}

// contents is what a look found of a block.
type contents struct {
	id     uint64
	addr   uint64
	chunk  bool // it is a chunk of glibc
	gone   bool // its memory is not there
	header uint64
	words  [8]uint64
	next   uint64 // the word with the flags of the next chunk, if there is one
	linked bool   // next was read
}

// contain notes what is in a block that is surely there.
func (h *heapWatch) contain(b *sampledBlock, words [8]uint64) {
	known := min(int(b.size/8), len(words))
	if b.known == known && slices.Equal(b.words[:known], words[:known]) {
		return
	}
	b.words, b.known = words, known
	b.twin = h.twins.has(b.size, words[:known])
}

// look has a worker read the blocks that are waited for, and were allocated since a time.
func (h *heapWatch) look(since uint64) {
	h.busy = true
	var ask []contents
	for addr, all := range h.blocks {
		b := all[len(all)-1]
		if b.sign != noSign && b.at >= since {
			ask = append(ask, contents{id: b.id, addr: addr, chunk: b.sign == byChunk})
		}
	}
	pid, now := h.t.pid, h.run.kernel.Now
	h.run.ask(func() func() {
		began := threadTime()
		err := readBlocks(pid, ask)
		took, read := readPrice*(threadTime()-began), now()
		return func() {
			h.busy = false
			if h.t.heap != h {
				return
			}
			at := now()
			if after := at + uint64(float64(took)/h.run.opts.HeapBudget); since == 0 {
				h.due = max(at+uint64(blocksEvery), after)
			} else {
				h.due = max(h.due, after)
			}
			if err != nil { // what was not read tells nothing
				h.blindAll(at)
				return
			}
			for i := range ask {
				h.compare(&ask[i], read, at)
			}
		}
	})
}

// compare draws the conclusions of what was found of a block when it was read.
func (h *heapWatch) compare(c *contents, read, at uint64) {
	all := h.blocks[c.addr]
	if len(all) == 0 || all[len(all)-1].id != c.id {
		return // it has ended meanwhile, and another is there
	}
	b := all[len(all)-1]
	freed := c.gone || b.sign == byChunk &&
		(c.header&^chunkFlags != b.header&^chunkFlags || c.linked && c.next&prevInUse == 0 || h.marks.marks(c.words[1]))
	switch {
	case freed:
		for _, old := range all {
			h.end(old, at, false)
		}
		h.forget(c.addr)
	case h.prober.follows(b.at, read): // it would have been seen to be freed
		h.contain(b, c.words)
	case b.twin, b.sign == byFirst && b.words[0] == b.first:
		// Another may have taken its place unnoticed.
		for _, old := range all {
			h.blind(old, at)
		}
	case b.known == 0 || !slices.Equal(c.words[:b.known], b.words[:b.known]) || b.sign == byBefore && c.header != b.header:
		// It may have been freed, or its owner has written to it.
		for _, old := range all {
			h.blind(old, at)
		}
	}
}

// readBlocks reads what there is of blocks, many at once. An error says that not all could
// be read.
func readBlocks(pid int, all []contents) error {
	const many = 512
	for ; len(all) > 0; all = all[min(many, len(all)):] {
		some := make([]*contents, min(many, len(all)))
		for i := range some {
			some[i] = &all[i]
		}
		// A small block may end with the memory that it is in.
		gone, err := readWords(pid, some, len(contents{}.words))
		if err == nil && len(gone) > 0 {
			gone, err = readWords(pid, gone, leastWords)
		}
		if err != nil {
			return err
		}
		for _, c := range gone {
			c.gone = true
		}
		some = slices.DeleteFunc(some, func(c *contents) bool { return !c.chunk })
		if err = readNext(pid, some); err != nil {
			return err
		}
	}
	return nil
}

// leastWords is how many words the smallest block has.
const leastWords = 2

// readWords reads the headers of blocks, and so many of their words. Gone are those of which
// not all of that is there.
func readWords(pid int, some []*contents, words int) (gone []*contents, err error) {
	addrs := make([]uint64, len(some))
	for i, c := range some {
		addrs[i] = c.addr - 8
	}
	data, missing, err := regular.Memory(pid, addrs, 8+8*words)
	if err != nil {
		return nil, err
	}
	for i, c := range some {
		p := data[i*(8+8*words):]
		c.header = binary.NativeEndian.Uint64(p)
		for k := range words {
			c.words[k] = binary.NativeEndian.Uint64(p[8+8*k:])
		}
	}
	for _, i := range missing {
		gone = append(gone, some[i])
	}
	return gone, nil
}

// readNext reads what the chunks after those of blocks say.
func readNext(pid int, some []*contents) error {
	if len(some) == 0 {
		return nil
	}
	addrs := make([]uint64, len(some))
	for i, c := range some {
		addrs[i] = c.addr - 8 + c.header&^chunkFlags // where it has its size
	}
	data, missing, err := regular.Memory(pid, addrs, 8)
	if err != nil {
		return err
	}
	for i, c := range some {
		c.next = binary.NativeEndian.Uint64(data[8*i:])
		c.linked = !c.gone && c.header&isMmapped == 0
	}
	for _, i := range missing {
		some[i].linked = false
	}
	return nil
}
