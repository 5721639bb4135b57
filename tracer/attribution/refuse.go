package attribution

import (
	"cmp"
	"maps"
	"slices"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Calls that make no memory, and are told for what else they do: those that were refused some,
// and those that split mappings. Each is counted; who has made them is told by a sample of
// their stacks.

// Refused are calls of one kind that were refused memory (ENOMEM).
type Refused struct {
	Op    space.Op
	Calls uint64
	Bytes uint64 // the least that was asked for and not given; 0 if that is not known
	// Limits are those that such a call has reached, as far as the last reading of them tells:
	// more than one if it may be any of them, none if it is another.
	Limits []growth.Limit
	By     stack.Name // the function that has asked for nearly all of them; no name if there is none
	Asked  []Stack    // the stacks of most
}

// rare is what is known of such calls.
type rare struct {
	refused map[space.Op]*refusals
	splits  map[part]uint64 // by the group that was split; an estimate
}

type refusals struct {
	calls, bytes uint64
	sites        map[uint32]uint64 // calls, an estimate
}

// mostSites are counted of refusals, and of splits.
const mostSites = 256

const enomem = 12

// asked is how many bytes more a call has asked for, and whether it was refused.
func asked(c *space.Call) (bytes uint64, refused bool) {
	more := func(now, before uint64) uint64 { return max(now, before) - before }
	switch c.Op {
	case space.OpBrk:
		return more(c.Args[0], uint64(max(c.Ret, 0))), c.Args[0] > uint64(max(c.Ret, 0))
	case space.OpMremap:
		bytes = more(c.Args[2], c.Args[1])
	case space.OpMmap, space.OpMlock:
		bytes = c.Args[1]
	}
	return bytes, c.Ret == -enomem
}

// call books what a call does beside making memory.
func (r *rare) call(c *model.Change, key func(*space.Extent) (growth.Key, model.Blame)) {
	weight := uint64(1)
	if c.Site != 0 {
		weight = model.Blame(c.Call.Site).Stratum().Weight()
	}
	if bytes, refused := asked(c.Call); refused {
		r.refuse(c, bytes, weight)
		return
	}
	if c.Site == 0 || c.Call.Failed() {
		return
	}
	var of *space.Extent
	switch c.Call.Op {
	case space.OpMunmap:
		if len(c.Effect.Displaced) == 0 {
			return
		}
		of = &c.Effect.Displaced[0].Extent
	case space.OpMprotect, space.OpMadvise, space.OpMlock:
		of = &c.Effect.Now
	default:
		return
	}
	if k, blame := key(of); of.Kind != 0 && !blame.Missing() {
		if r.splits == nil {
			r.splits = make(map[part]uint64)
		}
		if p := (part{k, c.Site}); r.splits[p] > 0 || len(r.splits) < mostSites {
			r.splits[p] += weight
		}
	}
}

func (r *rare) refuse(c *model.Change, bytes, weight uint64) {
	if r.refused == nil {
		r.refused = make(map[space.Op]*refusals)
	}
	of := r.refused[c.Call.Op]
	if of == nil {
		of = &refusals{bytes: bytes, sites: make(map[uint32]uint64)}
		r.refused[c.Call.Op] = of
	}
	of.calls++
	of.bytes = min(of.bytes, bytes)
	if c.Site != 0 && (of.sites[c.Site] > 0 || len(of.sites) < mostSites) {
		of.sites[c.Site] += weight
	}
}

// sites calls use with all that are counted.
func (r *rare) sites(use func(site uint32)) {
	for _, of := range r.refused {
		for site := range of.sites {
			use(site)
		}
	}
	for p := range r.splits {
		use(p.site)
	}
}

// reached are the limits that a call may have reached which asked for so much more.
func reached(op space.Op, bytes uint64, rs growth.Readings) (out []growth.Limit) {
	if len(rs) == 0 {
		return nil
	}
	for _, l := range rs[len(rs)-1].Limits {
		need := bytes
		switch l.Name {
		case growth.MaxMapCount:
			const split = 2 // mappings more than there were, at most
			need = split
		case growth.RlimitMemlock:
			if op != space.OpMlock {
				continue // it is another error
			}
		case growth.RlimitAS, growth.Overcommit:
		case growth.RlimitData:
			if op == space.OpMlock {
				continue
			}
		default:
			continue // a cgroup's limit refuses no call
		}
		if need > 0 && l.Used+need > l.Max {
			out = append(out, l)
		}
	}
	return out
}

// refused names what was refused, the most frequent first.
func (n *namer) refused(r *rare, rs growth.Readings) (out []Refused) {
	for _, op := range slices.Sorted(maps.Keys(r.refused)) {
		of := r.refused[op]
		e := Refused{Op: op, Calls: of.calls, Bytes: of.bytes, Limits: reached(op, of.bytes, rs)}
		switch op {
		case space.OpMmap, space.OpBrk, space.OpMremap, space.OpShmat:
		default:
			// Of others it is the errno of a gap, too.
			if len(e.Limits) == 0 {
				continue
			}
		}
		e.Asked, e.By = n.callers(of.sites)
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Refused) int { return cmp.Compare(b.Calls, a.Calls) })
	return out
}

// callers are the stacks of most of so many calls of sites, and the function that has made
// nearly all, no name if there is none.
func (n *namer) callers(sites map[uint32]uint64) (most []Stack, by stack.Name) {
	const many = 3
	var all uint64
	groups := make(map[uint32]uint64)
	for site, calls := range sites {
		all += calls
		groups[n.Group(site)] += calls
	}
	for _, site := range slices.SortedFunc(maps.Keys(sites), func(a, b uint32) int {
		return cmp.Or(cmp.Compare(sites[b], sites[a]), cmp.Compare(a, b))
	}) {
		if by == nobody && float64(groups[n.Group(site)]) >= Sure*float64(all) && n.asks(site) {
			by = n.function(site)
		}
		if len(most) < many {
			s := Stack{By: n.Function(site), Group: n.Group(site), Share: float64(sites[site]) / float64(all)}
			s.Frames, s.End = n.StackNames(site)
			most = append(most, s)
		}
	}
	return most, by
}

// asks tells whether a function is known on a site's stack that is not there to call the kernel
// for others: stacks may be cut in vfork or posix_spawn.
func (n *namer) asks(site uint32) bool {
	return slices.ContainsFunc(n.Path(site), func(p heap.Place) bool { return !p.Serves && !p.Cut })
}

// split says who splits the mappings of a group whose number grows.
func (n *namer) split(r *rare, f *Finding) {
	if f.Measure != growth.Mappings || f.Label < growth.Grows {
		return
	}
	sites := make(map[uint32]uint64)
	var all uint64
	for p, calls := range r.splits {
		if p.key == f.Key {
			sites[p.site] += calls
			all += calls
		}
	}
	const most, made = 0.5, 2 // of the mappings, which a call makes at most
	if made*float64(all) < most*f.Growth || float64(f.BornCount) > most*f.Growth {
		return // by others, or by mapping more
	}
	f.Split, f.SplitBy = n.callers(sites)
}
