package attribution

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/growth"
)

// How memory is shared out that was made by calls without a stack.
//
// What is there of it is counted as all else is, but not who made it. What is known of
// it is what it is for, and the stratum of its call: of the calls of one stratum those
// with a stack are a random sample, so of what they have made and what is still there
// each site has the same part, about, with a stack and without. Only the bytes without
// a stack are shared out, each once: what is printed never exceeds what was counted,
// and the parts sum to the whole.

// pool is memory that may be of any site that has made memory of its kind in its
// stratum.
type pool struct {
	kind    growth.Key // without a site
	stratum tracer.Stratum
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
type tally map[pool]map[part]float64

func (t tally) add(s stake, n uint64) {
	if n == 0 {
		return
	}
	t.put(s.pool, s.part, float64(n))
	// The strata of a path may have had different chances.
	t.put(s.path(), s.part, float64(n)*float64(s.stratum.Weight()))
}

func (t tally) put(p pool, of part, n float64) {
	parts := t[p]
	if parts == nil {
		parts = make(map[part]float64)
		t[p] = parts
	}
	parts[of] += n
}

// path is all pools of the same kind and path.
func (p pool) path() pool { return pool{p.kind, p.stratum.Path()} }

// shareOut gives n of a pool to parts, in proportion to what they have by the first of
// the tallies that knows any: in the pool itself, or else on its path. What nobody is
// known to have a part in goes to its kind, without a site. Nothing is left over.
func shareOut(n uint64, p pool, give func(part, uint64), by ...tally) {
	if n == 0 {
		return
	}
	for _, t := range by {
		for _, p := range [...]pool{p, p.path()} {
			if parts := t[p]; len(parts) > 0 {
				divide(n, parts, give)
				return
			}
		}
	}
	give(part{p.kind, 0}, n)
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
	return cmp.Or(cmp.Compare(a.key.What, b.key.What), strings.Compare(a.key.Name, b.key.Name),
		cmp.Compare(a.key.Site, b.key.Site), cmp.Compare(a.site, b.site))
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
func (f flows) shareOut() (shared map[part]growth.Flow, born tally) {
	born = make(tally)
	died, bornCount, diedCount := make(tally), make(tally), make(tally)
	for s, n := range f {
		if !s.partless {
			born.add(s, n.Born)
			died.add(s, n.Died)
			bornCount.add(s, n.BornCount)
			diedCount.add(s, n.DiedCount)
		}
	}
	shared = make(map[part]growth.Flow)
	to := func(count func(*growth.Flow) *uint64) func(part, uint64) {
		return func(p part, n uint64) {
			all := shared[p]
			*count(&all) += n
			shared[p] = all
		}
	}
	for s, n := range f {
		if s.partless {
			shareOut(n.Born, s.pool, to(func(f *growth.Flow) *uint64 { return &f.Born }), born)
			shareOut(n.Died, s.pool, to(func(f *growth.Flow) *uint64 { return &f.Died }), died, born)
			shareOut(n.BornCount, s.pool, to(func(f *growth.Flow) *uint64 { return &f.BornCount }), bornCount)
			shareOut(n.DiedCount, s.pool, to(func(f *growth.Flow) *uint64 { return &f.DiedCount }), diedCount, bornCount)
		}
	}
	return shared, born
}

// shareHoldings gives each part what it holds, known and shared out. Born is what the
// sites have ever made: it decides where none of them is known to hold anything now.
func shareHoldings(held map[stake]growth.Holding, born tally) map[part]growth.Holding {
	mapped, writable, resident, mappings := make(tally), make(tally), make(tally), make(tally)
	all := make(map[part]growth.Holding)
	for s, h := range held {
		if s.partless {
			continue
		}
		all[s.part] = plus(all[s.part], h)
		if s.stratum != 0 {
			mapped.add(s, h.Mapped)
			writable.add(s, h.Writable)
			resident.add(s, h.Resident)
			mappings.add(s, uint64(h.Mappings))
		}
	}
	for s, h := range held {
		if !s.partless {
			continue
		}
		give := func(add func(*growth.Holding, uint64)) func(part, uint64) {
			return func(p part, n uint64) {
				held := all[p]
				add(&held, n)
				all[p] = held
			}
		}
		shareOut(h.Mapped, s.pool, give(func(h *growth.Holding, n uint64) { h.Mapped += n }), mapped, born)
		shareOut(h.Writable, s.pool, give(func(h *growth.Holding, n uint64) { h.Writable += n }), writable, mapped, born)
		shareOut(h.Resident, s.pool, give(func(h *growth.Holding, n uint64) { h.Resident += n }), resident, mapped, born)
		shareOut(uint64(h.Mappings), s.pool, give(func(h *growth.Holding, n uint64) { h.Mappings += int(n) }), mappings, mapped, born)
	}
	return all
}
