package heap

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// Which function of a stack is named.
//
// What all blocks of a heap come through (malloc's wrappers, pools, makers of nodes) has no
// say in who keeps: it allocates what is kept as well as what is freed. So from the
// innermost function outwards, one is passed over as long as its callers differ in what
// they keep, or theirs do. The first whose callers do not differ is who decides: it keeps
// all of it, or as large a part whoever calls it. What is there to hand out memory is
// passed over by its name, where nobody differs.

// function is one that is named, with the samples that go to it.
type function struct {
	name   string
	blocks []*block
	depth  map[uint32]int     // of the function on the stack of each site
	sites  map[uint32]*weight // of the samples of each
	// pools says that it keeps large blocks: it may hand them out in pieces, so that others
	// keep them.
	pools bool
	// unsure says that one of its callers may keep all of it, and others nothing.
	unsure bool
}

// node is a function called by the ones above it, as far as stacks have it in common.
type node struct {
	place    Place
	depth    int
	blocks   []*block
	children map[string]*node // its callers
	alive    float64          // samples that say something, and are there
	decided  float64          // those that say something
	differs  bool             // its callers, or theirs, differ
}

// part gives each sample to a function.
func part(all []*block, path func(uint32) []Place, decided func(*block) bool) []*function {
	root := &node{depth: -1}
	paths := make(map[uint32][]Place)
	for _, s := range all {
		p, ok := paths[s.Site]
		if !ok {
			p = path(s.Site)
			paths[s.Site] = p
		}
		root.add(s, p, decided(s))
	}
	root.compare()
	named := make(map[string]*function)
	root.name(named)
	out := make([]*function, 0, len(named))
	for _, name := range slices.Sorted(maps.Keys(named)) {
		out = append(out, named[name])
	}
	return join(out, paths, decided)
}

// What one function keeps may be made by several: a session, its name, its buffer. So those
// that keep are joined under the innermost function that has called them, as long as that
// adds to what is kept, and little to what is not. One that everything in the heap is made
// for (main, an event loop) is none of them.
const (
	adds   = 1.2  // times as much must be kept by more
	dilute = 0.75 // times the part that is kept there must be
)

// join joins functions, those first that keep the most.
func join(all []*function, paths map[uint32][]Place, decided func(*block) bool) []*function {
	for tries := len(all); tries > 0; tries-- {
		slices.SortStableFunc(all, func(a, b *function) int {
			return cmp.Or(cmp.Compare(b.weigh(decided).kept, a.weigh(decided).kept), cmp.Compare(a.name, b.name))
		})
		joined := false
		for _, f := range all {
			if caller := f.caller(all, paths, decided); caller != "" {
				all, joined = under(all, caller, paths), true
				break
			}
		}
		if !joined {
			break
		}
	}
	for _, f := range all {
		slices.SortFunc(f.blocks, func(a, b *block) int { return cmp.Compare(a.ID, b.ID) })
	}
	return all
}

// weight is how many bytes of samples say something, and how many of these are there.
type weight struct{ all, kept float64 }

func (w *weight) add(o *weight) {
	w.all += o.all
	w.kept += o.kept
}

// weigh is the weight of all samples of a function, and notes that of each site.
func (f *function) weigh(decided func(*block) bool) (sum weight) {
	if f.sites == nil {
		f.sites = make(map[uint32]*weight)
		for _, s := range f.blocks {
			w := f.sites[s.Site]
			if w == nil {
				w = new(weight)
				f.sites[s.Site] = w
			}
			if !decided(s) {
				continue
			}
			bytes := s.Weight * float64(s.Bytes)
			if w.all += bytes; s.ended == 0 {
				w.kept += bytes
			}
		}
	}
	for _, site := range slices.Sorted(maps.Keys(f.sites)) {
		sum.add(f.sites[site])
	}
	return sum
}

// caller is the function under which this one is to be joined with others, "" for none.
func (f *function) caller(all []*function, paths map[uint32][]Place, decided func(*block) bool) (best string) {
	own := f.weigh(decided)
	if own.kept == 0 {
		return ""
	}
	most := own.kept
	var site uint32 // on whose stack it keeps the most
	for _, id := range slices.Sorted(maps.Keys(f.sites)) {
		if site == 0 || f.sites[id].kept > f.sites[site].kept {
			site = id
		}
	}
	path := paths[site]
	for _, p := range path[min(f.depth[site]+1, len(path)):] {
		var w weight
		beside := false // there are samples that it has no part in
		for _, o := range all {
			o.weigh(decided)
			for _, id := range slices.Sorted(maps.Keys(o.sites)) {
				if o.calledBy(id, p.Function, paths) < 0 {
					beside = beside || o.sites[id].all > 0
					continue
				}
				w.add(o.sites[id])
			}
		}
		if !beside || p.Serves {
			continue
		}
		if w.kept >= adds*most && w.kept*own.all >= dilute*own.kept*w.all {
			best, most = p.Function, w.kept
		}
	}
	return best
}

// calledBy is the depth at which a function is on the stack of a site, at or above what is
// named; -1 if it is not.
func (f *function) calledBy(site uint32, name string, paths map[uint32][]Place) int {
	path, from := paths[site], f.depth[site]
	for i := max(from, 0); i < len(path); i++ {
		if path[i].Function == name {
			return i
		}
	}
	return -1
}

// under makes the samples that a function has called for its own.
func under(all []*function, name string, paths map[uint32][]Place) (out []*function) {
	to := &function{name: name, depth: make(map[uint32]int)}
	for _, f := range all {
		rest := &function{name: f.name, depth: f.depth, pools: f.pools, unsure: f.unsure}
		for _, s := range f.blocks {
			at := f.calledBy(s.Site, name, paths)
			if at < 0 {
				rest.blocks = append(rest.blocks, s)
				continue
			}
			to.blocks = append(to.blocks, s)
			to.depth[s.Site] = at
			to.pools = to.pools || f.pools
		}
		if len(rest.blocks) > 0 {
			out = append(out, rest)
		}
	}
	return append(out, to)
}

func (n *node) add(s *block, path []Place, decided bool) {
	for {
		n.blocks = append(n.blocks, s)
		if decided {
			n.decided++
			if s.ended == 0 {
				n.alive++
			}
		}
		if len(path) == 0 {
			return
		}
		next := n.children[path[0].Function]
		if next == nil {
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			next = &node{place: path[0], depth: n.depth + 1}
			n.children[path[0].Function] = next
		}
		n, path = next, path[1:]
	}
}

// sure is how improbable a difference must be to be one.
const sure = 0.01

// compare notes where callers differ.
func (n *node) compare() {
	for _, c := range n.children {
		c.compare()
		n.differs = n.differs || c.differs
	}
	if len(n.children) < 2 || n.differs {
		return
	}
	for _, c := range n.children {
		// One of many would differ by chance.
		if differ(c.alive, c.decided, n.alive-c.alive, n.decided-c.decided) < sure/float64(len(n.children)) {
			n.differs = true
			return
		}
	}
}

// name gives the samples of a node to functions.
func (n *node) name(named map[string]*function) {
	if n.depth >= 0 && !n.differs && !n.place.Serves || len(n.children) == 0 {
		n.give(named, n.blocks)
		return
	}
	rest := make(map[*block]bool, len(n.blocks))
	for _, s := range n.blocks {
		rest[s] = true
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		for _, s := range c.blocks {
			delete(rest, s)
		}
		c.name(named)
	}
	var ends []*block // of stacks that go no further
	for _, s := range n.blocks {
		if rest[s] {
			ends = append(ends, s)
		}
	}
	if len(ends) > 0 {
		n.give(named, ends)
	}
}

// pieces is the size from which on a block may be handed out in pieces, bytes.
const pieces = 4096

// pools tells whether a function keeps large blocks.
func (n *node) pools() bool {
	var bytes, alive uint64
	for _, s := range n.blocks {
		if s.ended == 0 {
			bytes += s.Bytes
			alive++
		}
	}
	return alive > 0 && bytes/alive >= pieces
}

// unsure tells whether all that is kept is of one of the callers, as far as is known, and
// there are others: too few samples to tell whether they differ.
func (n *node) unsure() bool {
	for len(n.children) == 1 {
		for _, c := range n.children {
			n = c
		}
	}
	keep, others := 0, 0
	for _, c := range n.children {
		switch {
		case c.alive > 0:
			keep++
		case c.decided > 0:
			others++
		}
	}
	return keep == 1 && others > 0
}

func (n *node) give(named map[string]*function, blocks []*block) {
	f := named[n.place.Function]
	if f == nil {
		f = &function{name: n.place.Function, depth: make(map[uint32]int)}
		named[n.place.Function] = f
	}
	f.blocks = append(f.blocks, blocks...)
	f.pools = f.pools || n.pools()
	f.unsure = f.unsure || n.unsure()
	for _, s := range blocks {
		f.depth[s.Site] = n.depth
	}
}

// differ is the probability that two parts, a of n and b of m, differ as much or more by
// chance (Fisher's exact test).
func differ(a, n, b, m float64) float64 {
	if n == 0 || m == 0 {
		return 1
	}
	hits := a + b
	at := func(x float64) float64 { // its logarithm
		return choose(n, x) + choose(m, hits-x) - choose(n+m, hits)
	}
	here := at(a)
	const rounding = 1e-7
	p := 0.0
	for x := max(0, hits-m); x <= min(n, hits); x++ {
		if l := at(x); l <= here+rounding {
			p += math.Exp(l)
		}
	}
	return p
}

// choose is the logarithm of the number of ways to choose k of n.
func choose(n, k float64) float64 {
	lg := func(x float64) float64 { v, _ := math.Lgamma(x + 1); return v }
	return lg(n) - lg(k) - lg(n-k)
}
