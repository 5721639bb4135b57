package attribution

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/space"
)

// piece is an extent whose pages are being counted.
type piece struct {
	bytes uint64
	stake uint32 // its place in Attribution.stakes: there are few, and many pieces
	mode  procmaps.Mode
	first bool // of its region
}

// Plan notes which extents there are while their resident pages are being counted: all
// but those of the kernel, in address order.
func (a *Attribution) Plan(tree *space.Space) {
	regions := tree.Regions(make([]space.Region, 0, tree.Totals().Extents))
	a.narrow = narrow(regions)
	purposes := procmaps.Infer(mappings(regions), nil, nil)
	a.pieces, a.stakes = slices.Grow(a.pieces[:0], tree.Totals().Extents), a.stakes[:0]
	places := make(map[stake]uint32)
	at, last := 0, -1
	for e := range tree.Extents(space.All) {
		if e.Kind == procmaps.KindSpecial {
			continue
		}
		_, s := a.stake(&e)
		for at < len(regions) && regions[at].End <= e.Start {
			at++
		}
		// One arena that looks like something else, merged with a stack below it, does
		// not make the others so.
		if at < len(purposes) && e.Kind == procmaps.KindAnon && !s.partless && a.appearances[s.key].role != procmaps.RoleArena {
			a.appearances[s.key] = appearance{purposes[at].Role, e.Name}
		}
		place, ok := places[s]
		if !ok {
			place = uint32(len(a.stakes))
			places[s] = place
			a.stakes = append(a.stakes, s)
		}
		a.pieces = append(a.pieces, piece{e.Len(), place, e.Mode, at != last})
		last = at
	}
}

// Observe takes what was mapped and resident at a moment (CLOCK_MONOTONIC, ns):
// resident is what was found in each of the extents of the last Plan. It is ignored if it
// is not of those.
func (a *Attribution) Observe(at uint64, resident []procmaps.Resident) {
	if len(resident) != len(a.pieces) {
		return
	}
	sums := make([]growth.Holding, len(a.stakes))
	for i := range a.pieces {
		p := &a.pieces[i]
		r := &resident[i]
		h := growth.Holding{Resident: r.Bytes, Swapped: r.SwapBytes, Huge: r.HugeBytes}
		if usable(p.mode) {
			h.Mapped = p.bytes
		} else {
			h.Reserved = p.bytes
		}
		if p.mode&procmaps.Write != 0 {
			h.Writable = h.Mapped
		}
		if p.first {
			h.Mappings = 1
		}
		sums[p.stake] = sums[p.stake].Plus(h)
	}
	held := make(map[stake]growth.Holding, len(sums))
	for i, s := range a.stakes {
		held[s] = sums[i]
	}
	holdings, shared := a.shareOut(held)
	a.charges.hold(holdings)
	a.start = nil
	if a.watch.Ticks() == 0 {
		for _, p := range a.made {
			p.First = p.Now
		}
	}
	a.watch.Observe(a.since(at), holdings, shared)
	a.tidy(usual)
	a.use()
	a.shrink()
}

// use has the stacks kept that findings show: those of what is there, and of who keeps it.
func (a *Attribution) use() {
	for k, p := range a.made {
		if p.Now != (growth.Holding{}) {
			a.sites.Use(k.site)
		}
	}
	for o := range a.outcomes {
		a.sites.Use(o.site)
	}
	a.rare.sites(a.sites.Use)
	a.charges.sites(a.sites.Use)
	if a.heap != nil {
		a.heap.Sites(a.sites.Use)
	}
	if a.profile != nil {
		a.profile.Sites(a.sites.Use)
	}
}

// shareOut gives the parts what they hold and their shares in the flows, and returns
// both for each group.
func (a *Attribution) shareOut(held map[stake]growth.Holding) (map[growth.Key]growth.Holding, map[growth.Key]growth.Flow) {
	shares, born := a.flows.shareOut()
	for k, f := range a.past {
		shares[k] = shares[k].Plus(f)
	}
	a.shares = shares
	shared := make(map[growth.Key]growth.Flow)
	for k, f := range shares {
		shared[k.key] = shared[k.key].Plus(f)
		a.part(k.key, k.site)
	}
	for _, p := range a.made {
		p.Now = growth.Holding{}
	}
	holdings := make(map[growth.Key]growth.Holding)
	for k, h := range shareHoldings(held, born) {
		holdings[k.key] = holdings[k.key].Plus(h)
		a.part(k.key, k.site).Now = h
	}
	return holdings, shared
}

// Ticks is how often Observe was called.
func (a *Attribution) Ticks() int { return a.watch.Ticks() }

// Evidence gives the verdicts, worst first, each with the sites behind it.
func (a *Attribution) Evidence() []Evidence {
	all := a.findings()
	return a.evidence(all, all)
}

// evidence adds to some of all verdicts the sites behind them.
func (a *Attribution) evidence(all, found []growth.Finding) []Evidence {
	parts := make(map[growth.Key][]Part)
	for k, p := range a.made {
		whole := *p
		whole.Flow = p.Plus(a.shares[k])
		parts[k.key] = append(parts[k.key], whole)
	}
	touches := make(map[growth.Key][]heap.Touch)
	for k, n := range a.touched {
		touches[k.key] = append(touches[k.key], heap.Touch{Site: k.site, Faults: n})
	}
	strata := a.strata()
	byProfile := a.byProfile(all)
	out := make([]Evidence, len(found))
	for i, f := range found {
		k := a.retention(f.Key, strata[f.Key])
		out[i] = Evidence{
			Finding: f, Parts: parts[f.Key], TouchedBy: touchedBy(touches[f.Key], a.faults[f.Key]), Faults: a.faults[f.Key],
			KeptBy: k.shares, Words: k.stayed, Moved: k.moved, Decided: k.decided, Separation: k.confidence, Shared: a.shared(f.Key),
		}
		if f.What.Charged() {
			a.charge(&out[i], all)
			continue
		}
		slices.SortFunc(out[i].Parts, func(x, y Part) int {
			return cmp.Or(cmp.Compare(y.grown(), x.grown()), cmp.Compare(x.Site, y.Site))
		})
		if a.profiled(f.Key) && (f.Key == goPool || f.Label >= growth.Grows) {
			out[i].Heap = byProfile
			continue
		}
		if out[i].Shared && a.heap != nil && a.heap.Count(f.Key) > 0 {
			r := a.heap.Keepers(f.Key, a.keptRate(&f), touches[f.Key], a.malloc.inUse(), a.sites.Path)
			out[i].Heap = &r
		}
	}
	return out
}

// profiled tells whether who keeps a group is known by the profile that a Go program keeps:
// of memory that its runtime took, or that it had before.
func (a *Attribution) profiled(k growth.Key) bool {
	if a.profile == nil || !a.profile.Known() {
		return false
	}
	if k == goPool {
		return true
	}
	switch k.What {
	case growth.Anon, growth.NamedAnon, growth.Reserve:
		return k.Site == 0 && a.goBefore(k.Name)
	}
	return false
}

const (
	// goArena is what Go's runtime reserves at once, aligned to as much.
	goArena = 64 << 20
	// mostGoArenas are noted: a terabyte of heap. A program may have what looks like one
	// anywhere.
	mostGoArenas = 1 << 14
)

// noteGo notes where Go's runtime has its heap.
func (a *Attribution) noteGo(r procmaps.Range) {
	for at := r.Start / goArena; at <= (r.End-1)/goArena && len(a.goArenas) < mostGoArenas; at++ {
		a.goArenas[at] = true
	}
}

// goBefore tells whether memory that was there before is Go's heap, by its name or its
// addresses: it has the name from Go 1.25 on, where the kernel keeps names, or is in an
// arena that grew later.
func (a *Attribution) goBefore(name string) bool {
	if strings.HasPrefix(name, "[anon: Go: heap") {
		return true
	}
	start, end, ok := addressesOf(name)
	if !ok {
		return false
	}
	for at := range a.goArenas {
		if start < (at+1)*goArena && at*goArena < end {
			return true
		}
	}
	return false
}

// byProfile says who keeps the heap of a Go program, all its groups together; nil if that is
// not known.
func (a *Attribution) byProfile(found []growth.Finding) *heap.Result {
	var rate growth.Rate
	n := 0
	for _, f := range found {
		if a.profiled(f.Key) && f.Measure.OfMemory() {
			rate = growth.Rate{PerSecond: rate.PerSecond + f.Slope, Low: rate.Low + f.SlopeLow, High: rate.High + f.SlopeHigh}
			n++
		}
	}
	if n == 0 {
		return nil
	}
	r := a.profile.Keepers(rate, a.sites.Path)
	return &r
}

// touchedBy are the sites' parts in so many page faults of a group, the largest first.
func touchedBy(touches []heap.Touch, faults uint64) (out []Share) {
	for _, t := range touches {
		out = append(out, Share{t.Site, float64(t.Faults) / float64(faults)})
	}
	sortShares(out)
	return out
}

func sortShares(all []Share) {
	slices.SortFunc(all, func(x, y Share) int {
		return cmp.Or(cmp.Compare(y.Share, x.Share), cmp.Compare(x.Site, y.Site))
	})
}

// grown is how many bytes more a site holds than at the first look.
func (p *Part) grown() int64 { return int64(p.Now.Mapped) - int64(p.First.Mapped) }

// bounds are how many parts are kept of what is gone, and how many who touch memory; and
// how many flows, by which is shared out what has no stack.
type bounds struct{ parts, stakes int }

// usual are the bounds; with few, everybody still knows most of who touches, and what.
var (
	usual = bounds{8192, 4 * 8192}
	few   = bounds{64, 4 * 64}
)

// bytes is what is kept beside the watch, about.
func (a *Attribution) bytes() int {
	// A key, its value, and what a map is not full of.
	const mapped, mappedArena = 160, 24
	blocks := 0
	if a.heap != nil {
		blocks = a.heap.Len() + a.heap.Faults()
	}
	if a.profile != nil {
		blocks += a.profile.Len()
	}
	parts := blocks + len(a.made) + len(a.flows) + len(a.past) + len(a.shares) + len(a.touched) + len(a.faults) + len(a.outcomes) + len(a.appearances)
	return mapped*parts + a.charges.bytes() + a.files.bytes() + mappedArena*len(a.goArenas) + a.malloc.bytes() + cap(a.pieces)*int(unsafe.Sizeof(piece{})) + cap(a.stakes)*int(unsafe.Sizeof(stake{}))
}

// rest is told that there is nothing more to be observed.
func (a *Attribution) rest() {
	a.pieces, a.stakes, a.charges.tables.areas = nil, nil, nil
	a.shrink()
}

// shrink gives up memory if others of the node need it.
func (a *Attribution) shrink() {
	a.watch.Shrink()
	if a.memory.Hold(a.bytes()); a.memory.Excess() > 0 {
		a.tidy(few)
		a.charges.forget()
		a.memory.Hold(a.bytes())
	}
}

// tidy bounds what a long watch of ever new places leaves behind. It loses who
// made what is gone, no bytes.
func (a *Attribution) tidy(most bounds) {
	moved := make(map[part]part)
	if evicted, outside := a.watch.Crowd(); evicted+outside > 0 {
		for k := range a.made {
			a.fold(k, part{a.own(k.key), k.site}, moved)
		}
		a.foldTouches()
		for k := range a.appearances {
			if a.own(k) != k {
				delete(a.appearances, k)
			}
		}
	}
	if len(a.made) > most.parts {
		for k, p := range a.made {
			if p.Now == (growth.Holding{}) {
				a.fold(k, part{k.key, 0}, moved)
			}
		}
	}
	a.moveFlows(moved)
	if len(a.flows) > most.stakes {
		a.past, a.flows = a.shares, make(flows)
	}
	a.forgetTouchers(most.parts)
}

// foldTouches counts the faults and words of groups without a place of their own with
// Other.
func (a *Attribution) foldTouches() {
	for k, n := range a.touched {
		if to := a.own(k.key); to != k.key {
			delete(a.touched, k)
			a.touched[part{to, k.site}] += n
		}
	}
	for k, n := range a.faults {
		if to := a.own(k); to != k {
			delete(a.faults, k)
			a.faults[to] += n
		}
	}
	for f, n := range a.outcomes {
		if to := a.own(f.key); to != f.key {
			delete(a.outcomes, f)
			a.outcomes[outcome{to, f.first, f.site}] += n
		}
	}
	if a.heap != nil {
		a.heap.Fold(a.own)
	}
}

// own is the group that a group's figures are told with: itself, or Other.
func (a *Attribution) own(k growth.Key) growth.Key {
	if a.watch.Has(k) {
		return k
	}
	return growth.Key{}
}

// moveFlows lets what parts have had go with them.
func (a *Attribution) moveFlows(moved map[part]part) {
	if len(moved) == 0 {
		return
	}
	for from, to := range moved {
		for next, again := moved[to]; again; next, again = moved[to] {
			to = next
		}
		moved[from] = to
	}
	for s, f := range a.flows {
		if to, ok := moved[s.part]; ok && !s.partless {
			delete(a.flows, s)
			s.part = to
			all := a.flows.of(s)
			*all = all.Plus(*f)
		}
	}
	for _, shares := range [...]map[part]growth.Flow{a.shares, a.past} {
		for k, f := range shares {
			if to, ok := moved[k]; ok {
				delete(shares, k)
				shares[to] = shares[to].Plus(f)
			}
		}
	}
}

// fold adds one part to another, and notes that.
func (a *Attribution) fold(from, to part, moved map[part]part) {
	if from == to {
		return
	}
	moved[from] = to
	p, o := a.made[from], a.part(to.key, to.site)
	o.Flow = o.Plus(p.Flow)
	o.First, o.Now = o.First.Plus(p.First), o.Now.Plus(p.Now)
	delete(a.made, from)
}

// forgetTouchers makes one of those that touched the least, if there are too many.
func (a *Attribution) forgetTouchers(most int) {
	if len(a.touched) <= most {
		return
	}
	all := slices.SortedFunc(maps.Keys(a.touched), func(x, y part) int {
		return cmp.Or(cmp.Compare(a.touched[x], a.touched[y]), compareParts(x, y))
	})
	for _, k := range all[:len(all)/2] {
		if k.site == 0 {
			continue
		}
		a.touched[part{k.key, 0}] += a.touched[k]
		delete(a.touched, k)
	}
}

// narrow tells whether all mappings of the program's own are below 4 GiB, as those of a
// program of 32 bits are, and no stack of another.
func narrow(regions []space.Region) bool {
	const top = 1 << 32
	own := false
	for i := range regions {
		if r := &regions[i]; r.Kind != procmaps.KindSpecial {
			if own = true; r.End > top {
				return false
			}
		}
	}
	return own
}
