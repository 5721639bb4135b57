package attribution

import (
	"cmp"
	"maps"
	"slices"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/model"
)

// How memory is shared out that was made by calls without a stack.
//
// What is there of it is counted as all else is, but not who made it. What is known of
// it is what it is for, and the stratum of its call: of the calls of one stratum those
// with a stack are a random sample, so of what they have made and what is still there
// each site has the same part, about, with a stack and without. Only the bytes without
// a stack are shared out, each once: what is printed never exceeds what was counted,
// and the parts sum to the whole.
//
// Where single calls had to be given up for want of memory (see package model) it is the
// same with what neighbouring calls have made: it may be of any site of their stratum or,
// if that was not one, of any that has made memory of its kind.

// pool is memory that may be of any site that has made memory of its kind in its
// stratum.
type pool struct {
	kind    growth.Key // without a site
	stratum model.Stratum
}

// stake is what one part has of a pool; without a part, what is to be shared out.
type stake struct {
	pool
	part
	partless bool
}

// kindOf is the key of a group without its site: what can be known of memory whose
// maker is not.
func kindOf(k growth.Key) growth.Key {
	if k.What == growth.Pool {
		return growth.Key{What: growth.Anon} // which heap it is follows from the site
	}
	k.Site = 0
	return k
}

// tally is how much each part has of each pool, and of all pools of one path.
type tally struct {
	parts map[pool]map[part]float64
	total map[pool]float64                // of a path, with and without a stack
	rest  map[growth.Key]map[part]float64 // see beyond
}

func newTally() *tally {
	return &tally{parts: make(map[pool]map[part]float64), total: make(map[pool]float64)}
}

func (t *tally) add(s stake, n uint64) {
	if n == 0 || s.stratum == 0 {
		return
	}
	t.total[s.path()] += float64(n)
	if s.partless {
		return
	}
	t.put(s.pool, s.part, float64(n))
	// The strata of a path may have had different chances.
	stands := float64(n) * float64(s.stratum.Weight())
	t.put(s.path(), s.part, stands)
	t.put(pool{s.kind, model.Mixed}, s.part, stands)
}

func (t *tally) put(p pool, of part, n float64) {
	parts := t.parts[p]
	if parts == nil {
		parts = make(map[part]float64)
		t.parts[p] = parts
	}
	parts[of] += n
}

// beyond is for how much each part stands on paths that nobody is known to have a part
// in. Where calls come by ever other paths, most of these are not among those of which
// a stack was taken. What has a stack stands for its weight: that is what its own path
// has without one, and then what others have.
func (t *tally) beyond(kind growth.Key) map[part]float64 {
	if t.rest == nil {
		t.rest = make(map[growth.Key]map[part]float64)
		for _, p := range slices.SortedFunc(maps.Keys(t.total), comparePools) {
			if p.stratum == model.Mixed {
				continue // no path
			}
			var stands float64
			for _, n := range t.parts[p] {
				stands += n // whole numbers: their order does not matter
			}
			if stands <= t.total[p] {
				continue
			}
			if t.rest[p.kind] == nil {
				t.rest[p.kind] = make(map[part]float64)
			}
			for of, n := range t.parts[p] {
				t.rest[p.kind][of] += n * (1 - t.total[p]/stands)
			}
		}
	}
	return t.rest[kind]
}

// path is all pools of the same kind and path.
func (p pool) path() pool { return pool{p.kind, p.stratum.Path()} }

// sharing shares out one measure of memory without a stack, by tallies of those that have
// one. What it cannot share out by their pool or path is left in rest.
type sharing struct {
	by   []*tally
	give func(part, uint64)
	rest map[growth.Key]uint64
}

func newSharing(give func(part, uint64), by ...*tally) *sharing {
	return &sharing{by: by, give: give, rest: make(map[growth.Key]uint64)}
}

// add gives n of a pool to parts, in proportion to what they have by the first of the
// tallies that knows any: in the pool itself, or else on its path.
func (s *sharing) add(n uint64, p pool) {
	if n == 0 {
		return
	}
	for _, t := range s.by {
		for _, p := range [...]pool{p, p.path()} {
			if parts := t.parts[p]; len(parts) > 0 {
				divide(n, parts, s.give)
				return
			}
		}
	}
	s.rest[p.kind] += n
}

// end gives the rest to parts for what they stand beyond their own paths. What nobody is
// known to have a part in goes to its kind, without a site. Nothing is left over.
func (s *sharing) end() {
	for kind, n := range s.rest {
		var parts map[part]float64
		for _, t := range s.by {
			if parts = t.beyond(kind); len(parts) > 0 {
				break
			}
		}
		if len(parts) == 0 {
			parts = map[part]float64{{kind, 0}: 1}
		}
		divide(n, parts, s.give)
	}
}

// divide gives each part its share of n, rounded so that they add up to n.
func divide(n uint64, parts map[part]float64, give func(part, uint64)) {
	order := slices.SortedFunc(maps.Keys(parts), compareParts)
	var sum, seen float64
	for _, p := range order {
		sum += parts[p]
	}
	var given uint64
	for i, p := range order {
		seen += parts[p]
		upTo := min(max(uint64(float64(n)*(seen/sum)), given), n)
		if i == len(order)-1 {
			upTo = n
		}
		if upTo > given {
			give(p, upTo-given)
		}
		given = upTo
	}
}

func compareParts(a, b part) int {
	return cmp.Or(a.key.Compare(b.key), cmp.Compare(a.site, b.site))
}

func comparePools(a, b pool) int {
	return cmp.Or(a.kind.Compare(b.kind), cmp.Compare(a.stratum, b.stratum))
}

// flows are what was mapped and unmapped since the beginning, of parts and pools.
type flows map[stake]*growth.Flow

func (f flows) of(s stake) *growth.Flow {
	all := f[s]
	if all == nil {
		all = new(growth.Flow)
		f[s] = all
	}
	return all
}

// shareOut shares out what was mapped and unmapped without a stack.
func (f flows) shareOut() (shared map[part]growth.Flow, born *tally) {
	born = newTally()
	died, bornCount, diedCount := newTally(), newTally(), newTally()
	for s, n := range f {
		born.add(s, n.Born)
		died.add(s, n.Died)
		bornCount.add(s, n.BornCount)
		diedCount.add(s, n.DiedCount)
	}
	shared = make(map[part]growth.Flow)
	to := func(count func(*growth.Flow) *uint64) func(part, uint64) {
		return func(p part, n uint64) {
			all := shared[p]
			*count(&all) += n
			shared[p] = all
		}
	}
	births := newSharing(to(func(f *growth.Flow) *uint64 { return &f.Born }), born)
	deaths := newSharing(to(func(f *growth.Flow) *uint64 { return &f.Died }), died, born)
	birthCount := newSharing(to(func(f *growth.Flow) *uint64 { return &f.BornCount }), bornCount)
	deathCount := newSharing(to(func(f *growth.Flow) *uint64 { return &f.DiedCount }), diedCount, bornCount)
	for s, n := range f {
		if s.partless {
			births.add(n.Born, s.pool)
			deaths.add(n.Died, s.pool)
			birthCount.add(n.BornCount, s.pool)
			deathCount.add(n.DiedCount, s.pool)
		}
	}
	for _, s := range [...]*sharing{births, deaths, birthCount, deathCount} {
		s.end()
	}
	return shared, born
}

// shareHoldings gives each part what it holds, known and shared out. Born is what the
// sites have ever made: it decides where none of them is known to hold anything now.
func shareHoldings(held map[stake]growth.Holding, born *tally) map[part]growth.Holding {
	mapped, writable, reserved, resident, mappings := newTally(), newTally(), newTally(), newTally(), newTally()
	all := make(map[part]growth.Holding)
	for s, h := range held {
		if !s.partless {
			all[s.part] = all[s.part].Plus(h)
		}
		mapped.add(s, h.Mapped)
		writable.add(s, h.Writable)
		reserved.add(s, h.Reserved)
		resident.add(s, h.Resident)
		mappings.add(s, uint64(h.Mappings))
	}
	to := func(add func(*growth.Holding, uint64)) func(part, uint64) {
		return func(p part, n uint64) {
			h := all[p]
			add(&h, n)
			all[p] = h
		}
	}
	sharings := [...]*sharing{
		newSharing(to(func(h *growth.Holding, n uint64) { h.Mapped += n }), mapped, born),
		newSharing(to(func(h *growth.Holding, n uint64) { h.Writable += n }), writable, mapped, born),
		newSharing(to(func(h *growth.Holding, n uint64) { h.Reserved += n }), reserved, mapped, born),
		newSharing(to(func(h *growth.Holding, n uint64) { h.Resident += n }), resident, mapped, born),
		newSharing(to(func(h *growth.Holding, n uint64) { h.Mappings += int(n) }), mappings, mapped, born),
	}
	for s, h := range held {
		if s.partless {
			for i, n := range [...]uint64{h.Mapped, h.Writable, h.Reserved, h.Resident, uint64(h.Mappings)} {
				sharings[i].add(n, s.pool)
			}
		}
	}
	for _, s := range sharings {
		s.end()
	}
	return all
}
