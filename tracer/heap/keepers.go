package heap

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/maptrace/maptrace/tracer/growth"
)

// Place is a function on a stack.
type Place struct {
	Function string // tells it from all others
	At       uint64 // tells where in it the stack leads through it
	Serves   bool   // it is there to hand out memory on behalf of others
	// Cut is no function: it stands for the callers of one whose stack is not whole.
	Cut bool
}

// Keeper is what a function allocates and keeps of a group.
type Keeper struct {
	Function string // as of its [Place]

	Site  uint32  // the one that keeps the most
	Depth int     // of the function on that stack: its index
	Share float64 // of what all keep, 0 to 1

	Samples, Alive int
	// Times is in how many windows those that are there were allocated, as far as is known.
	Times     int
	Survival  float64 // the part of what it allocates that stays
	Allocated float64 // bytes a second
	Kept      float64 // bytes a second, with an interval of 95 %
	Low, High float64

	// Pools says that it keeps large blocks: it may hand them out in pieces, and then it is
	// not known who keeps those.
	Pools bool
	// Unsure says that one of its callers may keep all of it.
	Unsure bool
	// Dies says that what it makes still dies when it is old: it may be a cache that gives
	// back all of it in the end.
	Dies bool
	// Replaces says that as many blocks may be freed of what was there before as it seems to
	// keep: it may be a cache. It is told of the first.
	Replaces bool
	// First says that it comes first among calls that had a pause before them, and were too
	// many to be seen all: it was seen more often than who comes late among them.
	First bool

	classes map[uint8]bool // of its blocks that are there; 0 is one that is not known
	each    float64        // bytes of one of these
	known   estimate
}

// Source is what a result is by.
type Source uint8

// The sources.
const (
	ByBlocks  Source = iota // a sample of blocks
	ByProfile               // the profile that the runtime of a Go program keeps
)

func (s Source) String() string {
	if s == ByProfile {
		return "go profile"
	}
	return "sampled blocks"
}

// Result is who keeps a group.
type Result struct {
	Source  Source
	Assumed bool     // ByProfile: how many bytes a sample stands for is likely, but not known
	Keepers []Keeper // who keeps the most first; those that keep nothing are left out
	// Samples are all of the group, and Alive those of them that are there.
	Samples, Alive int
	Watched        time.Duration
	Seen           float64 // the part of that in which allocations were seen; 0 of a profile
	// Kept is what all keep a second, with its interval, and Growth what the group grows by.
	Kept, Low, High float64
	Growth          float64
	// Beyond says that what all seem to keep is far more than that: what is known of them is
	// wrong.
	Beyond bool
	// Confidence is that the first keeper keeps more than any other.
	Confidence float64
	// Sites are all that have samples, by their numbers.
	Sites []SiteEstimate
}

// SiteEstimate is what a site has allocated of a group in the whole watch, bytes, and what
// of that stays: as large a part as its function keeps.
type SiteEstimate struct {
	Site            uint32
	Allocated, Kept float64
}

// Short tells whether what is kept explains too little of the growth, even at the most.
func (r *Result) Short() bool { return r.Source == ByBlocks && r.High < floor*r.Growth }

// Enough is how many samples of a group are enough to tell who keeps it, mostly.
const Enough = 50

// Poor tells whether the sample says next to nothing: it is small, though not as there is little
// to see, and explains too little of the growth.
func (r *Result) Poor() bool {
	const most = 0.5
	return r.Samples < Enough && r.Seen < most && r.Short()
}

// Explained is how much of the growth the keepers explain, from 0 on.
func (r *Result) Explained() float64 {
	if r.Growth <= 0 {
		return 0
	}
	return r.Kept / r.Growth
}

const (
	// shortest is for how long a heap must have been sampled before anything is said.
	shortest = 3 * time.Second
	// horizon is the age, as a part of the watch, by which what is to die has died.
	horizon = 0.8
	// young is the age, as a part of the watch, below which a sample that is there says
	// little; it is no more than mostYoung.
	young     = 0.25
	mostYoung = 5 * time.Second
	// recent is the part of the watch whose allocations are what counts: what has been
	// filled by then does not grow any more.
	recent = 0.5
	// slack is how much larger than what the blocks take a heap may get by them, or
	// smaller: pages are counted, and there are gaps.
	slack = 1.25
	// settles is the part of what is half as old as the horizon that gets there, at least, if
	// what dies of it has died by then.
	settles = 0.85
	// floor is the part of the growth that all keepers explain, at least, if it is known what
	// grows. What is not blocks (pages, gaps) is less than they.
	floor = 0.5
	// draws are how many samples of what is possible are taken.
	draws = 1000
)

// Fewest are how many samples that stay a name takes, and in how many windows they were
// allocated: what is made at the same time is mostly freed at the same time, too, as a
// configuration that is read again now and then.
const Fewest = 5

// Keepers estimates who keeps a group that grows by so many bytes a second, with the
// interval of that. Touches are of a sample of its page faults. InUse is nil if what is in use
// is not known. Path gives the functions of a site, innermost first.
func (b *Book) Keepers(key growth.Key, rate growth.Rate, touches []Touch, inUse InUse, path func(site uint32) []Place) (r Result) {
	r.Watched, r.Growth = b.Watched(), rate.PerSecond
	e := estimator{book: b, key: key, now: b.now, watched: r.Watched}
	every := b.ordered()
	all := e.own(every)
	r.Samples, r.Alive = len(all), alive(all)
	if r.Watched < shortest || len(all) == 0 {
		return r
	}
	of := make(map[uint32][]*block)
	for _, s := range every {
		of[s.Site] = append(of[s.Site], s)
	}
	e.work, e.reaches, e.crowds = b.worked(), b.reaches(), b.crowds(every)
	r.Seen = b.probedSince(0).Seconds() / r.Watched.Seconds()
	e.recent()
	survival := make(map[uint32]float64)
	for _, f := range part(e.tallies(every), path) {
		var blocks []*block
		for s := range f.depth {
			blocks = append(blocks, of[s]...)
		}
		slices.SortFunc(blocks, func(a, b *block) int { return cmp.Compare(a.ID, b.ID) })
		k := e.keeper(f, blocks)
		if k.Alive > 0 {
			r.Keepers = append(r.Keepers, k)
		}
		for site := range f.depth {
			survival[site] = k.Survival
		}
	}
	e.strangers = b.strangers(key, touches, path)
	// As far as blocks are what grows, and not of strangers, somebody of them keeps them.
	scale := r.judge(rate, scalingOf(e.work), floor*(1-e.strangers), inUse, func(_ *rand.Rand, grown, sum float64) float64 {
		return min(max(grown/slack-sum, 0), e.strangers*grown)
	})
	r.Sites = e.sites(all, survival, scale)
	return r
}

// tallies are how the samples of each site fare, in the order of the sites: of all groups, to
// tell functions apart, and what is kept of one. What a function frees may be in another
// group than what it keeps: freed memory is used again, and does not grow.
func (e *estimator) tallies(every []*block) (out []tally) {
	of := make(map[uint32]*tally)
	for _, s := range every {
		t := of[s.Site]
		if t == nil {
			t = &tally{site: s.Site}
			of[s.Site] = t
		}
		decided := e.decided(s)
		if decided {
			t.decided++
			if s.ended == 0 {
				t.alive++
			}
		}
		if s.Key != e.key {
			continue
		}
		if s.ended == 0 {
			t.there++
			t.bytes += float64(s.Bytes)
		}
		if decided {
			stands := s.Weight * float64(s.Bytes)
			t.weight += stands
			if s.ended == 0 {
				t.kept += stands
			}
		}
	}
	for _, site := range slices.Sorted(maps.Keys(of)) {
		out = append(out, *of[site])
	}
	return out
}

// estimator estimates what single functions keep.
type estimator struct {
	book   *Book
	key    growth.Key // of the group that it is about
	now    uint64
	work   work
	from   uint64        // what was allocated since then counts
	probed time.Duration // for how long allocations were seen since then
	slower float64       // how many times as much is done in a time in which they are not seen
	// strangers is the part of the page faults that functions have of which there are no
	// samples, at most.
	strangers float64
	watched   time.Duration
	reaches   []uint64         // see Book.reaches
	crowds    map[int][]*block // see Book.crowds
}

// reach is until when it was surely seen whether a sample is freed.
func (e *estimator) reach(s *block) uint64 {
	i := e.book.windowOf(s.At)
	if i == len(e.reaches) {
		return s.At
	}
	return max(e.reaches[i], s.At)
}

// own are those of some samples that are of the group.
func (e *estimator) own(blocks []*block) []*block {
	return slices.DeleteFunc(slices.Clone(blocks), func(s *block) bool { return s.Key != e.key })
}

// alive is how many of some samples are there.
func alive(blocks []*block) (n int) {
	for _, s := range blocks {
		if s.ended == 0 {
			n++
		}
	}
	return n
}

// recent finds the part of the watch whose allocations count.
func (e *estimator) recent() {
	all := e.book.windows
	e.from = e.book.now - uint64(recent*float64(e.watched))
	e.from = min(e.from, all[len(all)-1].From)
	e.probed = e.book.probedSince(e.from)
	e.slower = e.work.times / e.work.least
}

// scaling is how many times as large all rates may be as their best estimates: it is the same
// for all, so that it does not tell who keeps more.
type scaling struct {
	pieces float64 // of how many independent pieces the estimate is the mean; 0 if it is exact
	// It is no less than the one, and hardly more than the other.
	least, most float64
}

func scalingOf(w work) scaling {
	s := scaling{pieces: w.pieces, least: 1, most: 1}
	if s.pieces > 0 {
		r := rand.New(rand.NewPCG(1, 0))
		drawn := make([]float64, draws)
		for i := range drawn {
			drawn[i] = gamma(r, s.pieces) / s.pieces
		}
		low, high := interval(drawn)
		// What comes late in a window is seen less often than it is done, by as much as the
		// program is slower there.
		s.least, s.most = max(low, w.least/w.times), max(high, w.times/w.least)
	}
	return s
}

func (s *scaling) draw(r *rand.Rand) float64 {
	if s.pieces == 0 {
		return 1
	}
	return max(gamma(r, s.pieces)/s.pieces, s.least)
}

// fit makes one as small as it must be for the sum of what all keep not to be more than what a
// heap has grown by, and as large as it must be for it not to be less than they must keep of
// that, if it may be that small, or large.
func (s *scaling) fit(scale, sum, grown, theirs float64) float64 {
	switch {
	case sum*scale > slack*grown:
		return min(scale, max(s.least, grown/sum))
	case sum*scale < theirs*grown:
		return max(scale, min(s.most, theirs*grown/max(sum, math.SmallestNonzeroFloat64)))
	}
	return scale
}

// decided tells whether a sample says something of what becomes of its like.
func (e *estimator) decided(s *block) bool {
	return s.ended != 0 || time.Duration(e.now-min(s.At, e.now)) >= min(time.Duration(young*float64(e.watched)), mostYoung)
}

// estimate is what is known of a keeper.
type estimate interface {
	// keeps draws what may be kept, bytes a second.
	keeps(r *rand.Rand) float64
}

// draw is what is known of a keeper by sampled blocks.
type draw struct {
	rate   float64 // bytes a second
	times  float64 // in how many windows there was something; 0 if everything was seen
	stays  float64 // the part that survives
	late   float64 // the part of what is half as old as the horizon that gets there
	counts float64 // samples that this rests on
	blind  float64 // the part of those that are there of which contents say nothing
	deaths float64 // frees that were seen, of what had outlived the time in which all are
	found  float64 // ends that were found out later, as a part of what has ended
	seen   float64 // the chance that a free after that time was seen
}

// strata are what is known of several kinds of blocks of one keeper.
type strata []*draw

func (all strata) keeps(r *rand.Rand) (sum float64) {
	for _, d := range all {
		sum += d.keeps(r)
	}
	return sum
}

// kind is what blocks of one function are told apart by: it may free what it has made at one
// place and keep what it has made at another, or by their sizes.
type kind struct {
	site  uint32
	bytes uint64
}

// ofKind are how many samples a kind must have to be judged by itself.
const ofKind = 12

// kinds are the samples of a function by their kinds. Those of few samples are together.
func kinds(blocks []*block) (out [][]*block) {
	of := make(map[kind][]*block)
	for _, s := range blocks {
		of[kind{s.Site, s.Bytes}] = append(of[kind{s.Site, s.Bytes}], s)
	}
	var rest []*block
	for _, s := range blocks { // in order
		k := kind{s.Site, s.Bytes}
		if all := of[k]; len(all) >= ofKind {
			out = append(out, all)
			of[k] = nil
		} else if all != nil {
			rest = append(rest, s)
		}
	}
	if len(rest) > 0 {
		out = append(out, rest)
	}
	return out
}

// keeper is what a function keeps of the group, by all of its samples: what becomes of a
// block does not depend on which group it is in, but groups are not as old as each other.
func (e *estimator) keeper(f *function, blocks []*block) Keeper {
	own := e.own(blocks)
	k := Keeper{Samples: len(own), Alive: alive(own), Function: f.name, Pools: f.pools, Unsure: f.unsure}
	if k.Alive == 0 {
		return k
	}
	sites, times := make(map[uint32]float64), make(map[int]bool)
	var bytes, n float64
	k.classes = make(map[uint8]bool)
	for _, s := range own {
		if s.ended == 0 {
			stands := e.book.stands(s)
			sites[s.Site] += stands
			times[e.book.windowOf(s.At)] = true
			bytes, n = bytes+stands, n+stands/float64(s.Bytes)
			k.classes[s.Class] = true
		}
	}
	k.Times, k.each, k.First = len(times), bytes/n, e.first(own)
	_, late, _ := e.survival(blocks)
	k.Dies = late < settles
	best := -1.0
	for _, s := range own { // in order
		if at := sites[s.Site]; s.ended == 0 && at > best {
			best, k.Site = at, s.Site
		}
	}
	k.Depth = f.depth[k.Site]
	var known strata
	unseen := false
	for _, some := range kinds(blocks) {
		d := e.draw(some)
		known = append(known, d)
		k.Allocated += d.rate
		k.Kept += d.rate * d.stays
		unseen = unseen || d.seen < 1
	}
	k.known = known
	if unseen { // deaths may not have been seen
		r := rand.New(rand.NewPCG(1, 0)) // the same samples give the same answer
		var sum float64
		for range draws {
			sum += known.keeps(r)
		}
		k.Kept = min(sum/draws, k.Kept)
	}
	if k.Allocated > 0 {
		k.Survival = k.Kept / k.Allocated
	} else {
		k.Survival, _, _ = e.survival(blocks)
	}
	return k
}

// draw is what is known by some blocks.
func (e *estimator) draw(blocks []*block) *draw {
	d := new(draw)
	var bytes, seen float64
	there, old := float64(alive(blocks)), 0.0 // old are those of which it is known whether they are
	exact := true
	times := make(map[int]bool)
	for _, s := range blocks {
		switch {
		case s.ended == 0 && !e.decided(s):
		case s.ended == 0:
			old++
			if s.Blind {
				d.blind++
			}
		case s.seen && s.ended > e.reach(s):
			d.deaths++
		case !s.seen:
			d.found++
		}
		// That of the window that goes on is not known yet: it is little of a life.
		const little = 0.02
		reach := e.reach(s)
		after, age := float64(e.now-min(reach, e.now)), float64(e.now-min(s.At, e.now))
		if after > little*age {
			seen += min(float64(e.book.seenSince(reach))/after, 1)
		} else {
			seen++
		}
		if s.Key != e.key {
			continue
		}
		if s.At >= e.from {
			bytes += e.book.stands(s)
		}
		exact = exact && s.Weight == 1
		times[e.book.windowOf(s.At)] = true
	}
	n := float64(len(blocks))
	d.seen, d.found = seen/n, d.found/max(n-there, 1)
	if d.blind /= max(old, 1); old == 0 {
		d.blind = 1
	}
	d.rate = e.slower * bytes / e.probed.Seconds()
	if !exact || e.work.pieces > 0 {
		d.times = float64(len(times))
	}
	d.stays, d.late, d.counts = e.survival(blocks)
	return d
}

// sites estimates what each site has allocated and keeps, with the part that survives.
func (e *estimator) sites(all []*block, survival map[uint32]float64, scale float64) (out []SiteEstimate) {
	bytes := make(map[uint32]float64)
	for _, s := range all {
		bytes[s.Site] += e.book.stands(s)
	}
	for _, site := range slices.Sorted(maps.Keys(bytes)) {
		allocated := scale * e.work.times * bytes[site]
		out = append(out, SiteEstimate{site, allocated, allocated * survival[site]})
	}
	return out
}

// interval is that of 95 % of draws, which it sorts.
func interval(drawn []float64) (low, high float64) {
	const tail = 0.025
	slices.Sort(drawn)
	return drawn[int(tail*draws)], drawn[int((1-tail)*draws)]
}

// estimateOf is their mean, and the interval, which may lie beside the mean of a few that are
// far from the others.
func estimateOf(drawn []float64) (mean, low, high float64) {
	for _, x := range drawn {
		mean += x / draws
	}
	low, high = interval(drawn)
	return mean, min(low, mean), max(high, mean)
}

// life is how old a sample got, or is, and what it stands for.
type life struct {
	age   time.Duration
	died  bool
	bytes float64
}

// outlive calls f with the lives that end, in the order of their ages, and the part of what
// is there at that age that outlives it (Kaplan and Meier: what is there has at least its
// age).
func outlive(lives []life, f func(i int, part float64)) {
	slices.SortStableFunc(lives, func(a, b life) int { return cmp.Compare(a.age, b.age) })
	var risk float64
	for i := range lives {
		risk += lives[i].bytes
	}
	for i := range lives {
		if l := &lives[i]; l.died && risk > 0 {
			f(i, max(1-l.bytes/risk, 0))
		}
		risk -= lives[i].bytes
	}
}

// early tells of blocks that were there at an age, up to which all frees were seen, which
// part is there later on: the bursts end, and what was made just before that dies unseen. It
// is known from those that were made before; as far as half of all were followed.
func (e *estimator) early(blocks []*block) (part func(age time.Duration) float64) {
	lives := make([]life, len(blocks))
	for i, s := range blocks {
		died := s.ended != 0 && s.ended <= e.reach(s)
		end := e.reach(s)
		if died {
			end = s.ended
		}
		lives[i] = life{time.Duration(end - min(s.At, end)), died, e.book.stands(s)}
	}
	spans := make([]time.Duration, len(blocks))
	for i, s := range blocks {
		spans[i] = time.Duration(e.reach(s) - s.At)
	}
	slices.Sort(spans)
	until := spans[len(spans)/2]
	var ages []time.Duration
	var survive []float64 // that age and more; until is the last
	stays := 1.0
	outlive(lives, func(i int, part float64) {
		if lives[i].age <= until {
			stays *= part
			ages, survive = append(ages, lives[i].age), append(survive, stays)
		}
	})
	return func(age time.Duration) float64 {
		i, _ := slices.BinarySearch(ages, age+1) // those that end by then
		before := 1.0
		if i > 0 {
			before = survive[i-1]
		}
		if before == 0 {
			return 0
		}
		return stays / before
	}
}

// survival is the part of what was allocated, in bytes, that stays, and on how many samples
// that rests: what is there at the horizon, less what dies until it is twice as old, if as
// much does as from half its age on, which is late. A cache that gives back whatever it likes
// keeps nothing in the end.
func (e *estimator) survival(blocks []*block) (stays, late, counts float64) {
	lives := make([]life, 0, len(blocks))
	later := e.early(blocks)
	var oldest uint64
	for _, s := range blocks {
		end, stands := cmp.Or(s.ended, e.now), e.book.stands(s)
		if !e.decided(s) {
			end = e.reach(s) // it may have died since, and not have been looked at
		}
		if s.ended == 0 && s.Blind { // it need not be
			age := time.Duration(e.reach(s) - s.At)
			dead := stands * (1 - later(age))
			lives = append(lives, life{age, true, dead})
			stands -= dead
		}
		lives = append(lives, life{time.Duration(end - min(s.At, end)), s.ended != 0, stands})
		oldest = max(oldest, e.now-min(s.At, e.now))
		if e.decided(s) {
			counts++
		}
	}
	until := time.Duration(min(horizon*float64(e.watched), float64(oldest)))
	stays, late = 1, 1
	outlive(lives, func(i int, part float64) {
		if l := &lives[i]; l.age <= until {
			stays *= part
			if l.age > until/2 {
				late *= part
			}
		}
	})
	return stays * late * late, late, counts
}

// keeps implements estimate.
func (d *draw) keeps(r *rand.Rand) float64 {
	rate := d.rate
	if d.times > 0 {
		rate *= gamma(r, d.times+prior) / (d.times + prior)
	}
	alive, dead := d.stays*d.counts, (1-d.stays)*d.counts
	if d.seen < 1 {
		// Of those whose free was not seen some look alive: others have the same contents.
		same := beta(r, 1, sameness)
		alike := min(dead*d.found*same/(1-same), alive*(1-d.blind))
		alive, dead = alive-alike, dead+alike
	}
	if d.blind > 0 && d.seen < 1 {
		// Deaths that were not seen: as many as the seen ones allow.
		unseen := gamma(r, d.deaths+1)/max(d.seen, 1e-6) - d.deaths
		unseen = min(max(unseen, 0), alive*d.blind)
		alive, dead = alive-unseen, dead+unseen
	}
	// How much more of it dies than by then is not known, if some still does.
	return rate * beta(r, alive+prior, dead+prior) * math.Pow(d.late, further*r.ExpFloat64())
}

// further is for how many halves of the horizon more what still dies may go on to do so, on
// average.
const further = 4

// sameness is how many blocks that have ended, and look it, there are for one that looks
// alive since another has its place and contents, about: twenty to one.
const sameness = 20

// prior is of the distributions of parts and rates (Jeffreys).
const prior = 0.5

// judge orders the keepers, and says how sure the first of them is, what each and all keep, and
// how many times as large all estimates are best taken as they were. Theirs is the part of the
// growth that they keep, at least, if it is known what grows. InUse bounds what the first keeps;
// nil if it is not known. Unseen draws what somebody else may keep of what grows by so much, of
// which they keep a sum.
func (r *Result) judge(rate growth.Rate, scale scaling, theirs float64, inUse InUse, unseen func(r *rand.Rand, grown, sum float64) float64) float64 {
	if len(r.Keepers) == 0 {
		return 1
	}
	slices.SortFunc(r.Keepers, func(x, y Keeper) int {
		return cmp.Or(cmp.Compare(y.Kept, x.Kept), cmp.Compare(x.Function, y.Function))
	})
	for i := range r.Keepers {
		r.Kept += r.Keepers[i].Kept
	}
	best := scale.fit(1, r.Kept, rate.PerSecond, theirs)
	keeps := make([][]float64, len(r.Keepers))
	for i := range r.Keepers {
		k := &r.Keepers[i]
		k.Allocated *= best
		keeps[i] = make([]float64, draws)
	}
	rnd := rand.New(rand.NewPCG(1, 0))
	deviation := (rate.High - rate.Low) / 4
	sums := make([]float64, draws)
	wins, replaced := 0, 0
	most := inUse.most(&r.Keepers[0])
	for n := range draws {
		grown := max(rate.PerSecond+deviation*rnd.NormFloat64(), 0)
		var sum, first, others float64
		for i := range r.Keepers {
			keeps[i][n] = r.Keepers[i].known.keeps(rnd)
			sum += keeps[i][n]
		}
		scale := scale.fit(scale.draw(rnd), sum, grown, theirs)
		sum *= scale
		for i := range r.Keepers {
			keeps[i][n] *= scale
			if i == 0 {
				first = keeps[i][n]
			} else {
				others = max(others, keeps[i][n])
			}
		}
		sums[n] = sum
		freed := max(first-most, 0) // of others
		if freed > first/2 {
			replaced++
		}
		excess := max(sum-slack*grown, freed, 0)
		if first-excess > max(others, unseen(rnd, grown, sum-freed)) {
			wins++
		}
	}
	r.Kept, r.Low, r.High = estimateOf(sums)
	for i := range r.Keepers {
		k := &r.Keepers[i]
		k.Kept, k.Low, k.High = estimateOf(keeps[i])
		k.Share = k.Kept / math.Max(r.Kept, math.SmallestNonzeroFloat64)
	}
	const absurd = 1.5
	r.Beyond = r.Kept > absurd*rate.High
	r.Keepers[0].Replaces = replaced > draws/2
	if k := &r.Keepers[0]; !r.Beyond && !k.First && min(k.Alive, k.Times) >= Fewest && !k.Pools && !k.Unsure && !k.Dies && !k.Replaces && !r.Short() {
		r.Confidence = float64(wins) / (draws + 1) // it is never certain
	}
	return best
}

func byTime(x, y *block) int { return cmp.Or(cmp.Compare(x.At, y.At), cmp.Compare(x.ID, y.ID)) }

// crowds are the samples, by their time, of each window that began in a pause and ended amid calls.
// It has seen the first calls after the pause, and would have seen them had it begun a bit earlier
// or later. Those that follow it has not: while calls are seen a program is slower.
func (b *Book) crowds(every []*block) map[int][]*block {
	const pause, fewest = 0.1, 10
	of := make(map[int][]*block)
	for _, s := range every {
		if b.inWindow(s.At) {
			i := b.windowOf(s.At)
			of[i] = append(of[i], s)
		}
	}
	for i, all := range of {
		slices.SortFunc(all, byTime)
		w := &b.windows[i]
		part := uint64(pause * float64(w.To-w.From))
		if len(all) < fewest || all[0].At < w.From+part || all[len(all)-1].At < w.To-part {
			delete(of, i)
		}
	}
	return of
}

// first tells whether a function mostly comes first in crowds, by its samples that are there. Of
// the calls of a crowd as many should come before one of its as after it, on average.
func (e *estimator) first(own []*block) bool {
	const early, sure, part = 0.3, 1.64, 0.5
	there := make(map[int][]*block) // by window
	for _, s := range own {
		if s.ended == 0 && e.book.inWindow(s.At) {
			i := e.book.windowOf(s.At)
			there[i] = append(there[i], s)
		}
	}
	var n, sum float64
	for _, i := range slices.Sorted(maps.Keys(there)) {
		if crowd := e.crowds[i]; crowd != nil {
			n++
			slices.SortFunc(there[i], byTime)
			sum += rank(there[i], crowd)
		}
	}
	return n > 0 && n >= part*float64(len(there)) && sum/n < min(early, 0.5-sure/math.Sqrt(12*n))
}

// rank is the part of a crowd that comes before some of it, on average. Both are in the order of
// their times.
func rank(some, crowd []*block) float64 {
	var before, all float64
	next := 0
	for _, o := range crowd {
		for ; next < len(some) && some[next].At <= o.At; next++ {
			before += all
		}
		all += o.Weight
	}
	return before / float64(len(some)) / all
}

// Touch is how many page faults of a group a site has.
type Touch struct {
	Site   uint32
	Faults uint64
}

// strangers is the part of page faults that functions have which no sample's stack leads
// through, of whatever group, at most: who keeps what makes a heap larger touches it, and so
// do others.
//
// Of faults whose stacks end within an allocator it is not known whose they are. But those in
// a window are of calls that were seen, and of these there are samples: where most are such,
// one that has none cannot have many of them.
func (b *Book) strangers(key growth.Key, touches []Touch, path func(site uint32) []Place) float64 {
	sites, known := make(map[uint32]bool), make(map[string]bool)
	for _, s := range b.blocks {
		if sites[s.Site] || !b.inWindow(s.At) { // that stands for nothing
			continue
		}
		sites[s.Site] = true
		for _, p := range path(s.Site) {
			known[p.Function] = true
		}
	}
	const few = 4 // faults that may have been others'
	var strange, sum, within float64
	for _, t := range touches {
		places := path(t.Site)
		own := slices.IndexFunc(places, func(p Place) bool { return !p.Serves })
		if own < 0 || places[own].Cut {
			within += float64(t.Faults)
			continue
		}
		sum += float64(t.Faults)
		if !known[places[own].Function] {
			strange += float64(t.Faults)
		}
	}
	if within > sum {
		return (strange + few + within*few/(b.faultsSeen(key, path)+few)) / (sum + within + few)
	}
	return (strange + few) / (sum + few)
}

// faultsSeen is how many page faults within allocators were in windows, as far as their calls
// are samples.
func (b *Book) faultsSeen(key growth.Key, path func(site uint32) []Place) (seen float64) {
	var samples, calls float64
	for _, s := range b.blocks {
		if b.inWindow(s.At) {
			samples++
			calls += s.Weight
		}
	}
	for _, f := range b.faults[key] {
		if !b.inWindow(f.at) {
			continue
		}
		if places := path(f.site); !slices.ContainsFunc(places, func(p Place) bool { return !p.Serves && !p.Cut }) {
			seen++
		}
	}
	return seen / cluster * samples / max(calls, 1)
}

// beta draws from the beta distribution.
func beta(r *rand.Rand, a, b float64) float64 {
	x, y := gamma(r, a), gamma(r, b)
	return x / (x + y)
}

// gamma draws from the gamma distribution (Marsaglia and Tsang).
func gamma(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(r, shape+1) * math.Pow(1-r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-r.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
