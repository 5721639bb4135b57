package malloc

import "encoding/binary"

const (
	// cachePage is what single words are read by, and cachePages how many of those are
	// kept.
	cachePage  = 4096
	cachePages = 1024
	// askEvery is after how many words out of the cache Stop is asked, and mostWords how
	// many there may be: a second or two of following lists.
	askEvery  = 1 << 16
	mostWords = 1 << 28
)

// reader reads memory within a budget.
type reader struct {
	mem   Memory
	left  uint64 // how much may be read
	done  uint64 // how much was
	stop  func() bool
	ended bool // a budget is used up, or Stop has said so
	words int  // that were taken out of the cache

	cache [cachePages]*cached
}

// cached is a page, or as much of it as there is.
type cached struct {
	addr uint64
	n    int // 0 for none
	data [cachePage]byte
}

func newReader(mem Memory, o Options) *reader {
	return &reader{mem: mem, left: o.Bytes, stop: o.Stop}
}

// over reports whether no more is to be read.
func (r *reader) over() bool {
	if !r.ended && (r.left == 0 || r.words >= mostWords || r.stop != nil && r.stop()) {
		r.ended = true
	}
	return r.ended
}

// read reads what is at addr, as much as there is.
func (r *reader) read(p []byte, addr uint64) int {
	if r.over() {
		return 0
	}
	if uint64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, _ := r.mem.ReadAt(p, addr) // less is all that an error says
	n = min(max(n, 0), len(p))
	r.left -= uint64(n)
	r.done += uint64(n)
	return n
}

// forget drops what single words were read of.
func (r *reader) forget() {
	for _, c := range r.cache {
		if c != nil {
			c.n = 0
		}
	}
}

// word is the word at an address that is a multiple of 8.
func (r *reader) word(addr uint64) (uint64, bool) {
	if r.words++; r.words%askEvery == 0 {
		r.over()
	}
	if addr%8 != 0 || r.ended {
		return 0, false
	}
	page := addr &^ (cachePage - 1)
	c := r.cache[page/cachePage%cachePages]
	if c == nil {
		c = new(cached)
		r.cache[page/cachePage%cachePages] = c
	}
	if c.n == 0 || c.addr != page {
		c.addr, c.n = page, r.read(c.data[:], page)
	}
	at := int(addr - page)
	if at+8 > c.n {
		return 0, false
	}
	return binary.LittleEndian.Uint64(c.data[at:]), true
}

// fill reads words into dst, all or none.
func (r *reader) fill(dst []uint64, addr uint64) bool {
	for i := range dst {
		var ok bool
		if dst[i], ok = r.word(addr + 8*uint64(i)); !ok {
			return false
		}
	}
	return true
}
