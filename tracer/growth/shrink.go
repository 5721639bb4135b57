package growth

import (
	"cmp"
	"slices"
	"unsafe"
)

// What is kept, however little memory there is: so many of the largest groups, and
// points enough to tell a leak from a step.
const (
	fewestGroups = 64
	fewestPoints = 32
)

// bytes is what a group takes, about: with its place in a map.
func (g *history) bytes() int {
	return 64 + int(unsafe.Sizeof(*g)) + cap(g.runs)*int(unsafe.Sizeof(run{})) + cap(g.cohorts)*int(unsafe.Sizeof(cohort{}))
}

// bytes is what the series of all groups take.
func (w *Watch) bytes() int {
	n := 8 * cap(w.times)
	w.each(func(g *history) { n += g.bytes() })
	return n
}

// Shrink gives up memory if the watch has more of its share than it may have: in this
// order, and no more of it than it takes,
//
//   - differences from tick to tick that are too small to be judged: an eighth of the
//     least growth that is told from nothing. Groups that are small or steady have
//     hardly any others;
//   - every second point, of all groups;
//   - the places of groups, the smallest first. They count as Other from then on.
//
// No bytes are lost that groups hold, or that were born or died. A watch shrinks by
// itself whenever it observes something.
func (w *Watch) Shrink() {
	w.memory.Hold(w.bytes())
	if w.memory.Excess() == 0 || w.ticks < w.patience {
		return
	}
	// More than is asked for, so that it is not asked for again soon.
	target := w.bytes() - w.memory.Excess()
	target -= target / 4
	w.each(w.smooth)
	for w.bytes() > target && len(w.times) > fewestPoints {
		w.thin()
		w.maxPoints = max(len(w.times)&^1, fewestPoints)
		w.each((*history).compact)
	}
	if n := w.bytes() - target; n > 0 {
		w.crowd(n)
	}
	w.memory.Hold(w.bytes())
	if w.memory.Excess() > 0 {
		const again = 16
		w.patience = w.ticks + again
	}
}

// hardly is as what part of the least growth that is told from nothing a change is none.
const hardly = 8

// smooth joins points in a row between which a group hardly changed.
func (w *Watch) smooth(g *history) {
	bytes := max(w.opts.MinGrowth, uint64(w.opts.MinShare*float64(g.peak.Mapped))) / hardly
	mappings := w.opts.MinMappings / hardly
	out := g.runs[:0]
	for _, r := range g.runs {
		if n := len(out); n > 0 {
			s := out[n-1].span
			if s.join(r.span); s.within(bytes, mappings) {
				out[n-1] = run{s, out[n-1].n + r.n}
				continue
			}
		}
		out = append(out, r)
	}
	g.runs = out
	g.compact()
}

// within tells whether a group changed by no more than that.
func (s *span) within(bytes uint64, mappings int) bool {
	return s.high.Mapped-s.low.Mapped <= bytes && s.high.Writable-s.low.Writable <= bytes && s.high.Reserved-s.low.Reserved <= leastReserved/hardly &&
		s.high.Resident-s.low.Resident <= bytes && s.high.Swapped-s.low.Swapped <= bytes && s.high.Huge-s.low.Huge <= bytes &&
		s.high.Mappings-s.low.Mappings <= mappings
}

// compact gives back memory that a group does not use.
func (g *history) compact() {
	g.runs, g.cohorts = slices.Clip(slices.Clone(g.runs)), slices.Clip(slices.Clone(g.cohorts))
}

// crowd gives up so many bytes by the places of groups.
func (w *Watch) crowd(bytes int) {
	keys := make([]Key, 0, len(w.groups))
	for k := range w.groups {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(w.groups[a].peak.Mapped, w.groups[b].peak.Mapped), a.Compare(b))
	})
	n := 0
	for n < len(keys)-fewestGroups && bytes > 0 {
		bytes -= w.groups[keys[n]].bytes()
		n++
	}
	if n > 0 {
		w.toOther(keys[:n])
		w.maxGroups = len(w.groups)
	}
}
