package attribution

import (
	"maps"
	"slices"

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

// fates are how what each site has made fares, of all that was made: those are there of which
// the bytes are known.
func (m *makers[K]) fates(there map[K]uint64) (out []heap.Fate) {
	of := make(map[uint32]*heap.Fate)
	for site, made := range m.made {
		of[site] = &heap.Fate{Site: site, Made: made}
	}
	for k, bytes := range there {
		if f := of[m.of[k]]; f != nil {
			f.There++
			f.Bytes += float64(bytes)
		}
	}
	for _, site := range slices.Sorted(maps.Keys(of)) {
		out = append(out, *of[site])
	}
	return out
}

// maker is the function that has made nearly all of what is there, if that is known of nearly
// all of what it grew by; nil if not. Sums of bytes are whole numbers: their order is no matter.
func maker(fates []heap.Fate, grown float64, path func(uint32) []heap.Place) *heap.Maker {
	all := heap.Makers(fates, path)
	if len(all) == 0 || all[0].Unsure {
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
