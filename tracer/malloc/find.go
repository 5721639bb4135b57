package malloc

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// Where fields of malloc_state are, in words from its field top, which all versions
// agree about. What is before top differs: without fast bins it is the lock and the
// flags, with them it is also have_fastchunks and ten lists.
const (
	stateTop     = 0
	stateBins    = 2
	stateNext    = 258
	stateSystem  = 261
	stateWords   = 263
	bins         = 127
	frontFast    = 96
	frontNoFast  = 8
	fastLists    = 10
	fastListsAt  = 16
	nonContigBit = 2

	// Sizes of heap_info, which is at the start of each heap of a thread's arena: 2.31 to
	// 2.34, and since.
	heapInfoOld = 32
	heapInfo    = 48

	// leastHeap and mostHeap bound what heaps of threads' arenas are aligned to: four
	// pages of the size that the tunable glibc.malloc.hugetlb has them made of, and
	// usualHeap without it.
	leastHeap = 1 << 20
	usualHeap = 64 << 20
	mostHeap  = 4 << 30

	mostArenas = 1 << 14
	mostHeaps  = 1 << 16
	// mostData is how much of writable data is searched for main arenas.
	mostData = 64 << 20
)

// survey is one reading of a process.
type survey struct {
	rows   []procmaps.Mapping
	opts   Options
	mem    *reader
	mains  int
	params []Amount // what each malloc counts of blocks with mappings of their own
	why    string   // what could not be found
	brk    *arena   // the one that [heap] belongs to

	candidates []candidate // of caches of threads
	blind      bool        // there were more than are kept

	buf      []byte // of windows
	searched uint64 // how far chunks were searched for
}

// arena is an arena that is being read.
type arena struct {
	Arena
	front       uint64 // where top is in malloc_state
	info        uint64 // size of heap_info
	base        uint64 // of the main arena: where the first chunk is, 0 if not known
	flags       uint64
	top         uint64
	heaps       []heap
	systemAfter uint64
	resyncs     int
	masked      bool // links of lists are masked
}

// heap is one piece of an arena's memory.
type heap struct {
	start  uint64 // the first chunk
	end    uint64 // where all chunks end, that of top included
	info   uint64 // heap_info, 0 in the main arena
	brk    bool   // it grows by brk
	walked uint64 // how far a walk came
}

// ofLibc reports whether a mapping is of a C library.
func ofLibc(m *procmaps.Mapping) bool {
	name := procmaps.ShortName(m.Name)
	return strings.HasPrefix(name, "libc.so") || strings.HasPrefix(name, "libc-")
}

// find finds all arenas: the main one of each malloc, and those in its ring.
func (s *survey) find() []arena {
	const data = procmaps.Read | procmaps.Write
	var all []arena
	left := uint64(mostData)
	// A program that is linked statically has malloc in its own data. No other is searched
	// for it: pages that are read become its own, if it had not yet touched them.
	libc := slices.ContainsFunc(s.rows, func(m procmaps.Mapping) bool { return ofLibc(&m) })
	for i := range s.rows {
		m := &s.rows[i]
		if !strings.HasPrefix(m.Name, "/") || m.Mode&data != data || m.Mode&procmaps.Shared != 0 || ofLibc(m) != libc || m.Len() > left {
			continue
		}
		left -= m.Len()
		all = append(all, s.mainIn(m.Range)...)
	}
	if len(all) > 0 {
		return all
	}
	// The main arena may never have been used.
	for i := range s.rows {
		if m := &s.rows[i]; m.Name == "" && m.Start%usualHeap == 0 && m.Mode&data == data {
			if all = s.ringOf(m.Start); len(all) > 0 {
				return all
			}
		}
	}
	return nil
}

// mainIn finds the main arena in a range of data, with its ring and its parameters.
func (s *survey) mainIn(g procmaps.Range) []arena {
	data := make([]byte, g.Len())
	data = data[:s.mem.read(data, g.Start)]
	word := func(at uint64) uint64 { return binary.LittleEndian.Uint64(data[at:]) }
	const last = 8*stateBins + 16*(bins-1)
	for at := uint64(0); at+8*stateWords <= uint64(len(data)); at += 8 {
		self := g.Start + at
		if word(at+last) != self+last-16 || word(at+last+8) != self+last-16 {
			continue
		}
		for _, front := range []uint64{frontFast, frontNoFast} {
			if ring := s.ring(self-front, front); len(ring) > 0 {
				s.mains++
				if base, mapped, ok := s.parameters(data); ok {
					s.params = append(s.params, mapped)
					ring[0].base = base
				}
				return ring
			}
		}
	}
	return nil
}

// ringOf finds the ring of a thread's arena by the start of one of its heaps.
func (s *survey) ringOf(info uint64) []arena {
	state, ok := s.mem.word(info)
	if !ok || state-info != heapInfoOld && state-info != heapInfo {
		return nil
	}
	for _, front := range []uint64{frontFast, frontNoFast} {
		ring := s.ring(state, front)
		main := slices.IndexFunc(ring, func(a arena) bool { return a.Main })
		if main < 0 {
			continue
		}
		s.mains++
		for _, m := range s.rows {
			if !m.Contains(ring[main].State) || m.Len() > mostData {
				continue
			}
			data := make([]byte, m.Len())
			if _, mapped, ok := s.parameters(data[:s.mem.read(data, m.Start)]); ok {
				s.params = append(s.params, mapped)
			}
		}
		return ring
	}
	return nil
}

// ring follows the arenas from one on, until it is there again. None are returned if
// some is no arena.
func (s *survey) ring(first, front uint64) (all []arena) {
	state := first
	for len(all) < mostArenas {
		a, next, ok := s.state(state, front)
		if !ok {
			return nil
		}
		all = append(all, a)
		if next == first {
			return all
		}
		state = next
	}
	return nil
}

// state reads a malloc_state.
func (s *survey) state(addr, front uint64) (a arena, next uint64, ok bool) {
	var w [stateWords]uint64
	var flags uint64
	if flags, ok = s.mem.word(addr); !ok || !s.mem.fill(w[:], addr+front) {
		return a, 0, false
	}
	a.State, a.front, a.flags = addr, front, flags>>32
	a.top, a.System = w[stateTop], w[stateSystem]
	for _, info := range []uint64{heapInfoOld, heapInfo} {
		if to, ok := s.mem.word(addr - info); ok && to == addr && (addr-info)%leastHeap == 0 {
			a.info = info
		}
	}
	a.Main = a.info == 0
	last := addr + front + 16*(bins-1)
	unused := w[stateTop] == 0 && a.System == 0
	if end := w[stateBins+2*(bins-1):]; !unused && (end[0] != last || end[1] != last) {
		return a, 0, false
	}
	for _, link := range w[stateBins : stateBins+2*bins] {
		if !unused && (link == 0 || link%8 != 0) {
			return a, 0, false
		}
	}
	next = w[stateNext]
	return a, next, next != 0 && next%8 == 0
}

// layouts says where fields of malloc_par are, from its field mmapped_mem: before 2.35,
// since, and in 2.43.
var layouts = [...]struct{ counts, arenaTest, topPad uint64 }{
	{16, 32, 48},
	{20, 56, 72},
	{20, 64, 80},
}

// parameters finds malloc_par in the data that the main arena is in: where the heap by
// brk begins, and how much the blocks with mappings of their own have.
func (s *survey) parameters(data []byte) (base uint64, mapped Amount, ok bool) {
	word := func(at uint64) uint64 { return binary.LittleEndian.Uint64(data[at:]) }
	half := func(at uint64) uint64 { return uint64(binary.LittleEndian.Uint32(data[at:])) }
	const before, after = 88, 48
	best := 0
	for at := uint64(before); at+after <= uint64(len(data)); at += 8 {
		now, most, sbrk := word(at), word(at+8), word(at+16)
		if now%s.opts.Page != 0 || most%s.opts.Page != 0 || now > most {
			continue
		}
		for _, l := range layouts {
			blocks, allowed, mostBlocks := half(at-l.counts), half(at-l.counts+4), half(at-l.counts+8)
			if blocks > mostBlocks || (blocks == 0) != (now == 0) || (most == 0) != (mostBlocks == 0) || now/s.opts.Page < blocks {
				continue
			}
			// All of these may be set otherwise, and hardly all at once.
			sure := 0
			for _, is := range []bool{
				allowed == 65536,
				word(at-l.arenaTest) == 8,
				word(at-l.topPad) == 128<<10,
				word(at+24) == 64,   // tcache_bins
				word(at+32) == 1032, // tcache_max_bytes
				word(at+40) == 7 || word(at+40) == 16,
			} {
				if is {
					sure++
				}
			}
			if sure >= 4 && sure > best {
				best, base, mapped, ok = sure, sbrk, Amount{now, blocks}, true
			}
		}
	}
	return base, mapped, ok
}

// prepare finds the pieces of memory that an arena has.
func (s *survey) prepare(a *arena) {
	a.systemAfter = a.System
	if a.System == 0 {
		return
	}
	if a.Main {
		s.prepareMain(a)
		return
	}
	a.masked = a.info == heapInfo // 2.35 and later; lists tell of the others
	own := a.State - a.info
	at, ok := s.heapOf(a, a.top)
	if !ok {
		a.Why = "the heap that its top is in was not found"
		at = own
	}
	seen := map[uint64]bool{}
	for !seen[at] && len(seen) < mostHeaps && at%leastHeap == 0 {
		seen[at] = true
		var w [4]uint64 // ar_ptr, prev, size, mprotect_size
		if !s.mem.fill(w[:], at) || w[0] != a.State || w[2] < a.info || w[2] > mostHeap {
			a.Why = "the chain of its heaps is broken"
			break
		}
		h := heap{info: at, start: at + a.info, end: at + w[2]}
		if at == own {
			h.start = a.firstChunk()
		}
		h.walked = h.start
		a.heaps = append(a.heaps, h)
		if at == own {
			break
		}
		at = w[1]
	}
	if len(a.heaps) > 0 && a.heaps[len(a.heaps)-1].info != own && a.Why == "" {
		a.Why = "the chain of its heaps is broken"
	}
	slices.SortFunc(a.heaps, func(x, y heap) int { return cmp.Compare(x.start, y.start) })
}

// firstChunk is where chunks begin in the heap that malloc_state is in.
func (a *arena) firstChunk() uint64 {
	return (a.State + a.front + 8*stateWords + 15) &^ 15
}

// heapOf finds the start of the heap of a thread's arena that a chunk is in.
func (s *survey) heapOf(a *arena, chunk uint64) (uint64, bool) {
	is := func(size uint64) (uint64, bool) {
		at := chunk &^ (size - 1)
		to, ok := s.mem.word(at)
		return at, ok && to == a.State
	}
	if at, ok := is(usualHeap); ok {
		return at, true
	}
	for size := uint64(leastHeap); size <= mostHeap; size *= 2 {
		if at, ok := is(size); ok {
			return at, true
		}
	}
	return 0, false
}

// prepareMain finds the heap by brk. What else a main arena has is looked for when that
// is known not to be all. Of several mallocs only the first uses brk.
func (s *survey) prepareMain(a *arena) {
	a.masked = a.front == frontNoFast
	for i := range s.rows {
		m := &s.rows[i]
		if m.Name != "[heap]" || s.brk != nil && s.brk != a {
			continue
		}
		// A heap whose pages differ in protection has several rows.
		if n := len(a.heaps); n > 0 && a.heaps[n-1].end == m.Start {
			a.heaps[n-1].end = m.End
			continue
		}
		if a.base != 0 && !m.Contains(a.base) {
			continue
		}
		s.brk = a
		// Somebody else may have moved the break before malloc did, by any number of bytes.
		from := m.Start
		if a.base != 0 {
			from = a.base
		}
		h := heap{start: (from + chunkAlign - 1) &^ (chunkAlign - 1), end: m.End, brk: true}
		a.own(h.start - from)
		h.walked = h.start
		a.heaps = append(a.heaps, h)
	}
}
