package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/space"
)

// piece is an extent whose pages are being counted.
type piece struct {
	stake
	mode  procmaps.Mode
	first bool // of its region
}

// Ranges appends the address ranges whose resident pages [Book.Observe] wants to
// know, ascending and disjoint, to dst: one for each extent of tree. Threads tell
// thread stacks from other memory; they may be nil.
func (b *Book) Ranges(dst []procmaps.Range, tree *space.Space, threads []procmaps.Thread) []procmaps.Range {
	b.regions = tree.Regions(b.regions[:0])
	purposes := procmaps.Infer(mappings(b.regions), threads)
	b.pieces = b.pieces[:0]
	at, last := 0, -1
	for e := range tree.Extents(space.All) {
		if e.Kind == procmaps.KindSpecial {
			continue
		}
		_, s := b.stake(&e)
		dst = append(dst, e.Range)
		for at < len(b.regions) && b.regions[at].End <= e.Start {
			at++
		}
		// One arena that looks like something else, merged with a stack below it, does
		// not make the others so.
		if at < len(purposes) && e.Kind == procmaps.KindAnon && !s.partless && b.looks[s.key].role != procmaps.RoleArena {
			b.looks[s.key] = look{purposes[at].Role, e.Name}
		}
		b.pieces = append(b.pieces, piece{s, e.Mode, at != last})
		last = at
	}
	return dst
}

// Observe books what is mapped and resident at a moment (CLOCK_MONOTONIC, ns).
// The ranges are those of the last call of Ranges, and resident is what was found
// in each, in bytes.
func (b *Book) Observe(at uint64, ranges []procmaps.Range, resident []uint64) {
	held := make(map[stake]growth.Holding)
	for i, r := range ranges {
		p := &b.pieces[i]
		h := growth.Holding{Resident: resident[i]}
		if usable(p.mode) {
			h.Mapped = r.Len()
		}
		if p.mode&procmaps.Write != 0 {
			h.Writable = h.Mapped
		}
		if p.first {
			h.Mappings = 1
		}
		held[p.stake] = plus(held[p.stake], h)
	}
	holdings, shared := b.shareOut(held)
	if b.watch.Ticks() == 0 {
		for _, p := range b.made {
			p.First = p.Now
		}
	}
	b.watch.Observe(b.since(at), holdings, shared)
	b.tidy()
}

// shareOut gives the parts what they hold and their shares in the flows, and returns
// both for each group.
func (b *Book) shareOut(held map[stake]growth.Holding) (map[growth.Key]growth.Holding, map[growth.Key]growth.Flow) {
	shares, born := b.flows.shareOut()
	for k, f := range b.past {
		shares[k] = shares[k].Plus(f)
	}
	b.shares = shares
	shared := make(map[growth.Key]growth.Flow)
	for k, f := range shares {
		shared[k.key] = shared[k.key].Plus(f)
		b.part(k.key, k.site)
	}
	for _, p := range b.made {
		p.Now = growth.Holding{}
	}
	holdings := make(map[growth.Key]growth.Holding)
	for k, h := range shareHoldings(held, born) {
		holdings[k.key] = plus(holdings[k.key], h)
		b.part(k.key, k.site).Now = h
	}
	return holdings, shared
}

func plus(a, b growth.Holding) growth.Holding {
	return growth.Holding{
		Mapped: a.Mapped + b.Mapped, Writable: a.Writable + b.Writable,
		Resident: a.Resident + b.Resident, Mappings: a.Mappings + b.Mappings,
	}
}

// Ticks is how often Observe was called.
func (b *Book) Ticks() int { return b.watch.Ticks() }

// Watched is the time from the opening of the book to a moment.
func (b *Book) Watched(now uint64) time.Duration { return b.since(now) }

// Role is what anonymous memory of a group was last seen to be for, 0 if that
// is not known.
func (b *Book) Role(k growth.Key) procmaps.Role { return b.looks[k].role }

// Label is the name that the program was last seen to have given a group's
// memory, as maps prints it, and empty if it has none. It is not escaped.
func (b *Book) Label(k growth.Key) string { return b.looks[k].name }

// Findings gives the verdicts, worst first, each with the sites behind it.
func (b *Book) Findings() []Finding {
	parts := make(map[growth.Key][]Part)
	for k, p := range b.made {
		whole := *p
		whole.Flow = p.Plus(b.shares[k])
		parts[k.key] = append(parts[k.key], whole)
	}
	touched := make(map[growth.Key][]Share)
	for k, n := range b.touched {
		touched[k.key] = append(touched[k.key], Share{k.site, float64(n) / float64(b.faults[k.key])})
	}
	kept := b.keepers()
	found := b.watch.Findings()
	out := make([]Finding, len(found))
	for i, f := range found {
		k := kept[f.Key]
		out[i] = Finding{
			Finding: f, Parts: parts[f.Key], Touched: touched[f.Key], Faults: b.faults[f.Key],
			Kept: k.shares, Words: k.words, Effective: k.effective(), Shared: b.shared(f.Key),
		}
		slices.SortFunc(out[i].Parts, func(x, y Part) int {
			return cmp.Or(cmp.Compare(y.grown(), x.grown()), cmp.Compare(x.Site, y.Site))
		})
		sortShares(out[i].Touched)
		sortShares(out[i].Kept)
	}
	return out
}

func sortShares(all []Share) {
	slices.SortFunc(all, func(x, y Share) int {
		return cmp.Or(cmp.Compare(y.Share, x.Share), cmp.Compare(x.Site, y.Site))
	})
}

// keeping is an estimate of who keeps what stays of a group.
type keeping struct {
	shares       []Share
	words        uint64
	sum, squares float64 // of the weights of the words
}

// effective is how many words of equal weight would tell as much (Kish's effective
// sample size).
func (k *keeping) effective() float64 {
	if k.words == 0 {
		return 0
	}
	return k.sum * k.sum / k.squares
}

// keepers estimates the sites' parts in what stays of each group. The words are a
// sample of about equal numbers from each of those that touch memory first: each stands
// for a part of what that one touches.
func (b *Book) keepers() map[growth.Key]keeping {
	faults, sizes := make(map[touch]uint64), make(map[touch]uint64)
	for k, n := range b.touched {
		faults[touch{k.key, b.sites.Group(k.site)}] += n
	}
	for f, n := range b.fates {
		sizes[touch{f.key, f.first}] += n
	}
	masses, all := make(map[touch]float64), make(map[growth.Key]keeping)
	for f, n := range b.fates {
		if f.site == 0 {
			continue
		}
		of := touch{f.key, f.first}
		weight := float64(1+faults[of]) / float64(sizes[of])
		masses[touch{f.key, f.site}] += weight * float64(n)
		k := all[f.key]
		k.words += n
		k.sum += weight * float64(n)
		k.squares += weight * weight * float64(n)
		all[f.key] = k
	}
	for of, mass := range masses {
		k := all[of.key]
		k.shares = append(k.shares, Share{of.site, mass / k.sum})
		all[of.key] = k
	}
	return all
}

// grown is how many bytes more a site holds than at the first look.
func (p *Part) grown() int64 { return int64(p.Now.Mapped) - int64(p.First.Mapped) }

// maxParts bounds the parts that are kept of what is gone, and the touchers; maxStakes
// the flows by which is shared out what has no stack.
const (
	maxParts  = 8192
	maxStakes = 4 * maxParts
)

// tidy bounds what a long watch of ever new places leaves behind. It loses who
// made what is gone, no bytes.
func (b *Book) tidy() {
	moved := make(map[part]part)
	if evicted, outside := b.watch.Crowd(); evicted+outside > 0 {
		for k := range b.made {
			b.fold(k, part{b.own(k.key), k.site}, moved)
		}
		b.foldTouches()
		for k := range b.looks {
			if b.own(k) != k {
				delete(b.looks, k)
			}
		}
	}
	if len(b.made) > maxParts {
		for k, p := range b.made {
			if p.Now == (growth.Holding{}) {
				b.fold(k, part{k.key, 0}, moved)
			}
		}
	}
	b.moveFlows(moved)
	if len(b.flows) > maxStakes {
		b.past, b.flows = b.shares, make(flows)
	}
	b.forgetTouchers()
}

// foldTouches counts the faults and words of groups without a place of their own with
// Other.
func (b *Book) foldTouches() {
	for k, n := range b.touched {
		if to := b.own(k.key); to != k.key {
			delete(b.touched, k)
			b.touched[touch{to, k.site}] += n
		}
	}
	for k, n := range b.faults {
		if to := b.own(k); to != k {
			delete(b.faults, k)
			b.faults[to] += n
		}
	}
	for f, n := range b.fates {
		if to := b.own(f.key); to != f.key {
			delete(b.fates, f)
			b.fates[fate{to, f.first, f.site}] += n
		}
	}
}

// own is the group that a group's figures are told with: itself, or Other.
func (b *Book) own(k growth.Key) growth.Key {
	if b.watch.Has(k) {
		return k
	}
	return growth.Key{}
}

// moveFlows lets what parts have had go with them.
func (b *Book) moveFlows(moved map[part]part) {
	if len(moved) == 0 {
		return
	}
	for from, to := range moved {
		for next, again := moved[to]; again; next, again = moved[to] {
			to = next
		}
		moved[from] = to
	}
	for s, f := range b.flows {
		if to, ok := moved[s.part]; ok && !s.partless {
			delete(b.flows, s)
			s.part = to
			all := b.flows.of(s)
			*all = all.Plus(*f)
		}
	}
	for _, shares := range [...]map[part]growth.Flow{b.shares, b.past} {
		for k, f := range shares {
			if to, ok := moved[k]; ok {
				delete(shares, k)
				shares[to] = shares[to].Plus(f)
			}
		}
	}
}

// fold adds one part to another, and notes that.
func (b *Book) fold(from, to part, moved map[part]part) {
	if from == to {
		return
	}
	moved[from] = to
	p, o := b.made[from], b.part(to.key, to.site)
	o.Flow = o.Plus(p.Flow)
	o.First, o.Now = plus(o.First, p.First), plus(o.Now, p.Now)
	delete(b.made, from)
}

// forgetTouchers makes one of those that touched the least, if there are too many.
func (b *Book) forgetTouchers() {
	if len(b.touched) <= maxParts {
		return
	}
	all := make([]touch, 0, len(b.touched))
	for k := range b.touched {
		all = append(all, k)
	}
	slices.SortFunc(all, func(x, y touch) int { return cmp.Compare(b.touched[x], b.touched[y]) })
	for _, k := range all[:len(all)/2] {
		if k.site == 0 {
			continue
		}
		b.touched[touch{k.key, 0}] += b.touched[k]
		delete(b.touched, k)
	}
}
