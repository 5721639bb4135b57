package malloc

import (
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	// mostFastChunks is how many chunks of fast bins are found by their lists. A heap has
	// more when a lot was freed without a large block being freed or asked for.
	mostFastChunks = 1 << 20
	// mostCandidates is how many blocks are kept that may be caches of threads, and
	// mostCachedChunks how many chunks of those are found.
	mostCandidates   = 1 << 16
	mostCachedChunks = 1 << 20

	// A cache has so many lists, and before their heads a number of two bytes for each;
	// since 2.42 there are more, for large blocks.
	smallCaches = 64
	allCaches   = 76
	mostCache   = 0x320 + lent
)

// fastChunks are the chunks in the fast bins of an arena.
type fastChunks struct {
	addrs []uint64 // ascending
	// byLook says that the lists were not followed to their ends: a chunk is taken to be
	// in one if its first word is a masked link to where chunks of the arena are.
	byLook bool
	lo, hi uint64
}

// has reports whether a chunk is one of them. Questions are asked in ascending order,
// from where next was at the one before.
func (f *fastChunks) has(next *int, at uint64) bool {
	for *next < len(f.addrs) && f.addrs[*next] < at {
		*next++
	}
	return *next < len(f.addrs) && f.addrs[*next] == at
}

// unmask is the link that a word at an address is, where links are masked.
func unmask(at, word uint64) uint64 { return word ^ at>>12 }

// looks reports whether the first word of a block is a masked link.
func (f *fastChunks) looks(chunk, word uint64) bool {
	to := unmask(chunk+header, word)
	return to == 0 || to%chunkAlign == 0 && to >= f.lo && to < f.hi
}

// fastOf follows the lists of an arena's fast bins.
func (s *survey) fastOf(a *arena) *fastChunks {
	f := &fastChunks{lo: ^uint64(0)}
	for _, h := range a.heaps {
		f.lo, f.hi = min(f.lo, h.start), max(f.hi, h.end)
	}
	if a.front != frontFast {
		return f
	}
	s.mem.forget()
	whole := true
	for i := range uint64(fastLists) {
		head, ok := s.mem.word(a.State + fastListsAt + 8*i)
		if !ok || head == 0 {
			continue
		}
		size := leastChunk + chunkAlign*i
		n := len(f.addrs)
		ended := s.follow(f, head, size, true)
		if ended {
			a.masked = true
		} else if !a.masked {
			// Before 2.32 links are as they are; what was followed wrongly was not far.
			masked := f.addrs
			f.addrs = f.addrs[:n:n]
			if ended = s.follow(f, head, size, false); !ended && len(masked)-n > len(f.addrs)-n {
				f.addrs, a.masked = masked, true
			}
		}
		whole = whole && ended
	}
	if !whole && a.masked {
		f.byLook, a.Estimated, f.addrs = true, true, nil
	} else if !whole {
		a.because("its lists of fast bins were too long to follow, or changed too fast")
	}
	slices.Sort(f.addrs)
	f.addrs = slices.Compact(f.addrs)
	return f
}

// follow follows a list of chunks of one size, and reports whether it came to the end.
func (s *survey) follow(f *fastChunks, at, size uint64, masked bool) bool {
	for ; at != 0; s.mem.over() {
		word, ok := s.mem.word(at + 8)
		if !ok || at%chunkAlign != 0 || word&sizeMask != size || len(f.addrs) == mostFastChunks {
			return false
		}
		f.addrs = append(f.addrs, at)
		next, ok := s.mem.word(at + header)
		if !ok {
			return false
		}
		if masked {
			next = unmask(at+header, next)
		}
		at = next
	}
	return true
}

// candidate is a block that may be the cache of a thread.
type candidate struct {
	addr  uint64 // of the block, not of its chunk
	lists uint64
}

// cacheLists is how many lists a cache has that is in a chunk of a size, 0 for none. A
// chunk may be larger than it needs to be by what is too small for another. 2.43 adds
// the header to the size twice.
func cacheLists(size uint64) uint64 {
	switch size {
	case 0x290, 0x2a0:
		return smallCaches
	case 0x300, 0x310, 0x320:
		return allCaches
	}
	return 0
}

// claim keeps a chunk that may be the cache of a thread: every list is empty or begins
// with an address of a block. b is the chunk, and what it has of the next.
func (w *walker) claim(b []byte) {
	lists := cacheLists(uint64(len(b)) - lent)
	heads := b[header+2*lists:]
	some := false
	for i := range lists {
		head := binary.LittleEndian.Uint64(heads[8*i:])
		if head == 0 {
			continue
		}
		if head%chunkAlign != 0 || head < leastWindow || head>>56 != 0 {
			return
		}
		some = true
	}
	switch {
	case !some:
	case len(w.s.candidates) == mostCandidates:
		w.s.blind = true
	default:
		w.s.candidates = append(w.s.candidates, candidate{w.at + header, lists})
		w.claims = len(w.s.candidates)
	}
}

// cachedChunk is a block in the cache of a thread.
type cachedChunk struct {
	addr, size, key uint64
}

// cache follows the lists of what may be the cache of a thread. Each block in it has a
// key in its second word: before 2.34 the address of the cache, since one number for
// the whole process. None are returned if it is no cache.
func (s *survey) cache(c candidate) (all []cachedChunk) {
	for i := range c.lists {
		at, ok := s.mem.word(c.addr + 2*c.lists + 8*i)
		for first := true; ok && at != 0; first = false {
			var w [4]uint64 // the chunk's header, the link and the key
			if at%chunkAlign != 0 || !s.mem.fill(w[:], at-header) || len(all) == mostCachedChunks {
				break
			}
			size := w[1] & sizeMask
			if want := leastChunk + chunkAlign*i; i < smallCaches && size != want || size < leastChunk {
				// A list that changes may be left on the way; its head is of its size.
				if first {
					return nil
				}
				break
			}
			if w[3] == 0 || len(all) > 0 && w[3] != all[0].key {
				break
			}
			all = append(all, cachedChunk{at - header, size, w[3]})
			if w[3] == c.addr && s.plain(w[2], c.addr) {
				at = w[2]
			} else {
				at = unmask(at, w[2])
			}
		}
	}
	return all
}

// plain reports whether a link in a cache is not masked, as before 2.32: it is the end of
// a list, or leads to another block of the cache.
func (s *survey) plain(link, key uint64) bool {
	if link == 0 {
		return true
	}
	word, ok := s.mem.word(link + 8)
	return ok && link%chunkAlign == 0 && word == key
}

// caches finds the blocks in the caches of threads, which the walks took to be in use,
// and returns how many caches have some.
func (s *survey) caches(arenas []arena) (n int) {
	if len(s.candidates) == 0 {
		return 0
	}
	s.mem.forget()
	found := make([][]cachedChunk, len(s.candidates))
	keys := map[uint64]int{}
	total := 0
	for i, c := range s.candidates {
		if total >= mostCachedChunks {
			s.blind = true
			break
		}
		if found[i] = s.cache(c); len(found[i]) > 0 {
			keys[found[i][0].key]++
			total += len(found[i])
		}
	}
	key, most := uint64(0), 0
	for k, times := range keys {
		if times > most || times == most && k < key {
			key, most = k, times
		}
	}
	var all []cachedChunk
	for i, c := range s.candidates {
		if len(found[i]) > 0 && (found[i][0].key == key || found[i][0].key == c.addr) {
			n++
			all = append(all, found[i]...)
		}
	}
	// One that changed hands meanwhile may have been found twice.
	slices.SortFunc(all, func(x, y cachedChunk) int { return cmp.Compare(x.addr, y.addr) })
	move(arenas, slices.CompactFunc(all, func(x, y cachedChunk) bool { return x.addr == y.addr }))
	if s.blind {
		s.why = join(s.why, "not all caches of threads were found")
	}
	return n
}

// move counts blocks as in a cache that were counted as in use. They are in ascending
// order.
func move(arenas []arena, all []cachedChunk) {
	type piece struct {
		heap
		of *arena
	}
	var pieces []piece
	for i := range arenas {
		for _, h := range arenas[i].heaps {
			pieces = append(pieces, piece{h, &arenas[i]})
		}
	}
	slices.SortFunc(pieces, func(x, y piece) int { return cmp.Compare(x.start, y.start) })
	for _, b := range all {
		for len(pieces) > 0 && b.addr >= pieces[0].walked {
			pieces = pieces[1:]
		}
		if len(pieces) == 0 {
			return
		}
		if b.addr < pieces[0].start {
			continue
		}
		a := pieces[0].of
		from := &a.InUse
		if a.Estimated && a.masked && b.size <= mostFast {
			from = &a.Fast // it has the same look
		}
		if from.Bytes >= b.size && from.Blocks > 0 {
			from.Bytes -= b.size
			from.Blocks--
			if class := ClassOf(b.size); from == &a.InUse && a.Sizes[class] > 0 {
				a.Sizes[class]--
			}
			a.Tcache.add(b.size)
		}
	}
}
