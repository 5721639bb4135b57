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
// they keep, or theirs do. The first whose callers do not differ is named: it keeps all of
// it, or as large a part whoever calls it. What is there to hand out memory is passed over
// by its name, where nobody differs.
//
// One function that calls it at several places may differ from place to place. It is who
// decides then, if all stays of some and nothing of others. If of one a part stays, what is
// called may free the rest itself, so that either may decide: nobody is named.

// tally is how the samples of one site fare.
type tally struct {
	site uint32
	// Of all groups.
	decided float64 // samples that say something of what becomes of their like
	alive   float64 // those of them that are there
	// Of the group that it is about.
	there  float64 // all that are there
	bytes  float64 // of those
	weight float64 // the bytes that those stand for that say something
	kept   float64 // and those of them that are there
}

func (t *tally) add(o tally) {
	t.decided += o.decided
	t.alive += o.alive
	t.there += o.there
	t.bytes += o.bytes
	t.weight += o.weight
	t.kept += o.kept
}

// function is one that is named, with the sites whose samples go to it.
type function struct {
	name  string
	depth map[uint32]int // of the function on the stack of each site
	// pools says that it keeps large blocks: it may hand them out in pieces, so that others
	// keep them.
	pools bool
	// unsure says that one of its callers may keep all of it, and others nothing.
	unsure bool
}

// Fate is how what one site has made fares.
type Fate struct {
	Site        uint32
	Made, There float64 // how many
	Bytes       float64 // of those that are there
}

// Maker is a function, and what of what it has made is there.
type Maker struct {
	Site   uint32 // the one of which the most is there
	Depth  int    // of the function on that stack: its index
	Bytes  float64
	Unsure bool // one of its callers may have made all of it
}

// Makers gives what was made to functions, whose fates are all known: those first of which the
// most is there, and none of which nothing is.
func Makers(fates []Fate, path func(site uint32) []Place) (out []Maker) {
	var there, bytes float64
	for _, f := range fates {
		there += f.There
		bytes += f.Bytes
	}
	if there == 0 {
		return nil
	}
	all, of := make([]tally, 0, len(fates)), make(map[uint32]Fate, len(fates))
	for _, f := range fates {
		made := max(f.Made, f.There)
		all = append(all, tally{
			site: f.Site, decided: made, alive: f.There, there: f.There, bytes: f.Bytes,
			weight: f.Bytes + (made-f.There)*bytes/there, kept: f.Bytes,
		})
		of[f.Site] = f
	}
	for _, f := range part(all, path) {
		m := Maker{Unsure: f.unsure}
		for _, site := range slices.Sorted(maps.Keys(f.depth)) {
			if m.Site == 0 || of[site].Bytes > of[m.Site].Bytes {
				m.Site, m.Depth = site, f.depth[site]
			}
			m.Bytes += of[site].Bytes
		}
		places := path(m.Site)
		m.Unsure = m.Unsure || m.Depth >= len(places) || places[m.Depth].Serves || places[m.Depth].Cut
		if m.Bytes > 0 {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Maker) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out
}

// node is a function called by the ones above it, as far as stacks have it in common.
type node struct {
	place    Place
	depth    int
	tally                     // of all of its sites
	sites    []uint32         // of stacks that lead through it
	children map[string]*node // its callers
	calls    map[Place]*tally // what comes by each place that it is called at
	differs  bool             // its callers, or theirs, differ
	mixed    bool             // its calls differ, and not in that all or nothing stays
	cut      tally            // of the sites whose stacks are not whole
}

// part gives each site to a function. There is one tally of each.
func part(all []tally, path func(uint32) []Place) []*function {
	root := &node{depth: -1}
	p := parting{tallies: make(map[uint32]tally, len(all)), paths: make(map[uint32][]Place, len(all))}
	for _, t := range all {
		p.tallies[t.site], p.paths[t.site] = t, path(t.site)
		root.addSite(t, p.paths[t.site])
	}
	root.compare()
	named := make(map[string]*function)
	root.name(named)
	out := make([]*function, 0, len(named))
	for _, name := range slices.Sorted(maps.Keys(named)) {
		out = append(out, named[name])
	}
	return p.join(out)
}

// parting is what is known of sites while they are given to functions.
type parting struct {
	tallies map[uint32]tally
	paths   map[uint32][]Place
}

// of is the tally of all sites of a function.
func (p *parting) of(f *function) (sum tally) {
	for _, site := range slices.Sorted(maps.Keys(f.depth)) { // in order: they are fractions
		sum.add(p.tallies[site])
	}
	return sum
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
func (p *parting) join(all []*function) []*function {
	for tries := len(all); tries > 0; tries-- {
		kept := make(map[*function]float64, len(all))
		for _, f := range all {
			kept[f] = p.of(f).kept
		}
		slices.SortStableFunc(all, func(a, b *function) int {
			return cmp.Or(cmp.Compare(kept[b], kept[a]), cmp.Compare(a.name, b.name))
		})
		joined := false
		for _, f := range all {
			if caller := p.caller(f, all); caller != "" {
				all, joined = p.under(all, caller), true
				break
			}
		}
		if !joined {
			break
		}
	}
	return all
}

// caller is the function under which one is to be joined with others, "" for none.
func (p *parting) caller(f *function, all []*function) (best string) {
	own := p.of(f)
	if own.kept == 0 {
		return ""
	}
	most := own.kept
	var site uint32 // on whose stack it keeps the most
	for _, id := range slices.Sorted(maps.Keys(f.depth)) {
		if site == 0 || p.tallies[id].kept > p.tallies[site].kept {
			site = id
		}
	}
	path := p.paths[site]
	for _, place := range path[min(f.depth[site]+1, len(path)):] {
		var sum tally
		beside := false // there are samples that it has no part in
		for _, o := range all {
			for _, id := range slices.Sorted(maps.Keys(o.depth)) {
				if p.depthOf(place.Function, id, o.depth[id]) >= 0 {
					sum.add(p.tallies[id])
				} else {
					beside = beside || p.tallies[id].weight > 0
				}
			}
		}
		if beside && !place.Serves && !place.Cut && sum.kept >= adds*most && sum.kept*own.weight >= dilute*own.kept*sum.weight {
			best, most = place.Function, sum.kept
		}
	}
	return best
}

// depthOf is where a function is on the stack of a site, from a depth on; -1 if it is not.
func (p *parting) depthOf(name string, site uint32, from int) int {
	path := p.paths[site]
	for i := max(from, 0); i < len(path); i++ {
		if path[i].Function == name {
			return i
		}
	}
	return -1
}

// under gives the sites that a function has called to it.
func (p *parting) under(all []*function, name string) (out []*function) {
	to := &function{name: name, depth: make(map[uint32]int)}
	for _, f := range all {
		rest := &function{name: f.name, depth: make(map[uint32]int), pools: f.pools, unsure: f.unsure}
		for site, from := range f.depth {
			if at := p.depthOf(name, site, from); at >= 0 {
				to.depth[site] = at
				to.pools = to.pools || f.pools
			} else {
				rest.depth[site] = from
			}
		}
		if len(rest.depth) > 0 {
			out = append(out, rest)
		}
	}
	return append(out, to)
}

func (n *node) addSite(t tally, path []Place) {
	for {
		n.sites = append(n.sites, t.site)
		n.add(t)
		if len(path) == 0 {
			return
		}
		if path[len(path)-1].Cut {
			n.cut.add(t)
		}
		next := n.children[path[0].Function]
		if next == nil {
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			next = &node{place: path[0], depth: n.depth + 1}
			n.children[path[0].Function] = next
		}
		call := n.calls[path[0]]
		if call == nil {
			if n.calls == nil {
				n.calls = make(map[Place]*tally)
			}
			call = new(tally)
			n.calls[path[0]] = call
		}
		call.add(t)
		n, path = next, path[1:]
	}
}

// sure is how improbable a difference must be to be one.
const sure = 0.01

// compare notes where callers differ.
func (n *node) compare() {
	callers := make([]*tally, 0, len(n.children))
	for _, c := range n.children {
		c.compare()
		n.differs = n.differs || c.differs
		callers = append(callers, &c.tally)
	}
	n.differs = n.differs || n.differ(callers)
	if calls := slices.Collect(maps.Values(n.calls)); !n.differs && n.differ(calls) {
		n.mixed = slices.ContainsFunc(calls, (*tally).mixed)
		n.differs = !n.mixed
	}
}

// mixed tells whether there may be some that stay and some that do not.
func (t *tally) mixed() bool {
	// Of three more nothing is known: with none of n, fewer than 3/n are likely (95 %).
	const almost, more = 0.1, 3
	return t.decided > 0 && min(t.alive, t.decided-t.alive)+more >= almost*t.decided
}

// differ tells whether a part of the node's samples fares otherwise than the rest.
func (n *node) differ(parts []*tally) bool {
	return len(parts) > 1 && slices.ContainsFunc(parts, func(c *tally) bool {
		// One of many would differ by chance.
		return differ(c.alive, c.decided, n.alive-c.alive, n.decided-c.decided) < sure/float64(len(parts))
	})
}

// name gives the sites of a node to functions.
func (n *node) name(named map[string]*function) {
	if n.depth >= 0 && !n.differs && !n.place.Serves || len(n.children) == 0 {
		n.give(named, n.sites)
		return
	}
	rest := make(map[uint32]bool, len(n.sites))
	for _, s := range n.sites {
		rest[s] = true
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		for _, s := range c.sites {
			delete(rest, s)
		}
		c.name(named)
	}
	if len(rest) > 0 { // stacks that go no further
		n.give(named, slices.Collect(maps.Keys(rest)))
	}
}

// pieces is the size from which on a block may be handed out in pieces, bytes.
const pieces = 2 << 10

// pools tells whether a function keeps large blocks.
func (n *node) pools() bool { return n.there > 0 && n.bytes/n.there >= pieces }

// unsure tells whether one of the calls may decide: those of one function are mixed; or not
// all stays, and who calls is not known as the stacks are not whole; or all that is kept is of
// one, as far as is known, and there are others: too few samples to tell whether they differ.
func (n *node) unsure() bool {
	const many = 0.1
	if n.mixed || n.cut.mixed() && n.cut.decided > many*n.decided {
		return true
	}
	for len(n.calls) == 1 {
		for _, c := range n.children {
			n = c
		}
	}
	keep, others := 0, 0
	for _, c := range n.calls {
		switch {
		case c.alive > 0:
			keep++
		case c.decided > 0:
			others++
		}
	}
	return keep == 1 && others > 0
}

func (n *node) give(named map[string]*function, sites []uint32) {
	f := named[n.place.Function]
	if f == nil {
		f = &function{name: n.place.Function, depth: make(map[uint32]int)}
		named[n.place.Function] = f
	}
	f.pools = f.pools || n.pools()
	f.unsure = f.unsure || n.unsure()
	for _, s := range sites {
		f.depth[s] = n.depth
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
