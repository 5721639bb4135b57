package attribution

import (
	"maps"
	"math"
	"slices"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
)

// makers tells who has made things that may stay: files, processes.
type makers[K comparable] struct {
	of   map[K]uint32       // the site that has made one
	made map[uint32]float64 // how many a site has made, gone or not
}

// mostMade is of how many things it is kept who has made them, and mostMakers how many sites
// may have.
const (
	mostMade   = 1 << 16
	mostMakers = 4096
)

// note notes who has made something, the first time that is told.
func (m *makers[K]) note(k K, site uint32) {
	if m.of == nil {
		m.of, m.made = make(map[K]uint32), make(map[uint32]float64)
	}
	if _, known := m.of[k]; known || site == 0 || m.full() {
		return
	}
	m.of[k] = site
	if m.made[site] > 0 || len(m.made) < mostMakers {
		m.made[site]++
	}
}

// gone forgets one that is no more.
func (m *makers[K]) gone(k K) { delete(m.of, k) }

// full tells whether there is no room for others.
func (m *makers[K]) full() bool { return len(m.of) >= mostMade }

// keep forgets all but those that are there.
func (m *makers[K]) keep(there map[K]uint64) {
	maps.DeleteFunc(m.of, func(k K, _ uint32) bool { _, is := there[k]; return !is })
}

// stock is how much there was at a time of what each site has made, in bytes; of site 0 what
// nobody was seen to make.
type stock struct {
	at uint64 // CLOCK_MONOTONIC, ns
	by map[uint32]uint64
}

// course is what there was of one group: every stride-th look, the oldest first, and the last.
type course struct {
	looks        []stock
	last         stock
	seen, stride int
}

// stocks are the courses of groups.
type stocks map[growth.Key]*course

// mostStocks looks are kept of a group, and mostStockKeys groups.
const (
	mostStocks    = 16
	mostStockKeys = 256
)

// look notes what there is of each group now, of what each site has made.
func (s *stocks) look(at uint64, now map[growth.Key]map[uint32]uint64) {
	if *s == nil {
		*s = make(stocks)
	}
	for k := range now {
		if (*s)[k] == nil && len(*s) < mostStockKeys {
			(*s)[k] = &course{stride: 1}
		}
	}
	for k, c := range *s {
		c.add(stock{at, now[k]}) // nothing if there is none any more
	}
}

func (c *course) add(now stock) {
	c.last = now
	if c.seen%c.stride == 0 {
		c.looks = append(c.looks, now)
	}
	c.seen++
	if len(c.looks) < mostStocks {
		return
	}
	for i := range mostStocks / 2 {
		c.looks[i] = c.looks[2*i]
	}
	clear(c.looks[mostStocks/2:])
	c.looks = c.looks[:mostStocks/2]
	c.stride *= 2
}

// entries is how many numbers are kept.
func (s stocks) entries() (n int) {
	for _, c := range s {
		n += 1 + len(c.last.by)
		for i := range c.looks {
			n += 1 + len(c.looks[i].by)
		}
	}
	return n
}

// gains are by how much what each site has made has grown since about the middle of a time, and
// all of it; what turns over, and is as much as ever, does not grow. By then what was there
// before the watch has mostly gone, of which nobody knows who has made it.
func (s stocks) gains(k growth.Key, from, to uint64) (by map[uint32]float64, all float64) {
	c := s[k]
	if c == nil {
		return nil, 0
	}
	far := func(st *stock) uint64 { m := from/2 + to/2; return max(st.at, m) - min(st.at, m) }
	first := &c.looks[0]
	for i := range c.looks {
		if far(&c.looks[i]) < far(first) {
			first = &c.looks[i]
		}
	}
	by = make(map[uint32]float64)
	for site, bytes := range c.last.by {
		by[site] += float64(bytes)
		all += float64(bytes)
	}
	for site, bytes := range first.by {
		by[site] -= float64(bytes)
		all -= float64(bytes)
	}
	return by, all
}

// fates are how what each site has made fares: how many of so many are there, and by how much
// they have grown.
func (m *makers[K]) fates(there map[K]uint64, gains map[uint32]float64) (out []heap.Fate) {
	of := make(map[uint32]*heap.Fate)
	for site, made := range m.made {
		of[site] = &heap.Fate{Site: site, Made: made, Bytes: max(gains[site], 0)}
	}
	for k := range there {
		if f := of[m.of[k]]; f != nil {
			f.There++
		}
	}
	for _, site := range slices.Sorted(maps.Keys(of)) {
		out = append(out, *of[site])
	}
	return out
}

// maker is the function that has made nearly all of what it grew by, nil if that is not known.
// What nobody was seen to make must not have become much more, nor less: it may be what
// somebody makes again and again. Sums of bytes are whole numbers: their order is no matter.
func maker(fates []heap.Fate, unknown, grown float64, path func(uint32) []heap.Place) *heap.Maker {
	all := heap.Makers(fates, path)
	if len(all) == 0 || all[0].Unsure || grown <= 0 || math.Abs(unknown) > (1-Sure)*grown {
		return nil
	}
	var sum float64
	for i := range all {
		sum += all[i].Bytes
	}
	if all[0].Bytes < Sure*sum || sum < Sure*grown {
		return nil
	}
	return &all[0]
}
