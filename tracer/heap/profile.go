package heap

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/maptrace/maptrace/tracer/growth"
)

// Record is what a profile that a runtime keeps of its heap has of objects of one size that
// were allocated on one stack.
type Record struct {
	ID   uint64 // the same in all readings of the profile
	Site uint32
	Size uint64 // of an object, bytes
	// Allocs and Frees are sampled objects, since the program began. An object that was
	// sampled when it was allocated is counted when it is freed.
	Allocs, Frees uint64
}

// Profile has readings of the profile that a runtime keeps of the heap of one address space.
//
// What is live is known of two moments, and so what a function keeps is the difference. Two
// things are not known. The runtime samples one in so many bytes, so there is an interval.
// And what has grown may be what is about to be flat, as a cache that fills: only the second
// half of the time counts, and no more than what was kept of the whole. A function that is
// named keeps more than any other, and than what the memory grows by beyond what the profile
// has (stacks are not in it, and what is dead and not collected).
//
// A Profile has one owner.
type Profile struct {
	rate     float64           // bytes
	records  map[uint64]Record // as of the last reading
	readings []reading
	spacing  uint64 // of readings, at least, in ns
}

// reading is what has changed since the one before.
type reading struct {
	at      uint64
	changed map[uint64]counts
}

// counts are sampled objects.
type counts struct{ allocs, frees uint64 }

func (c counts) live() float64 { return float64(c.allocs - min(c.frees, c.allocs)) }

// mostReadings bounds what is remembered; beyond, neighbours are joined.
const mostReadings = 16

// NewProfile returns one without readings.
func NewProfile() *Profile { return &Profile{records: make(map[uint64]Record)} }

// Len is how many counts are kept.
func (p *Profile) Len() int {
	n := len(p.records)
	for i := range p.readings {
		n += len(p.readings[i].changed)
	}
	return n
}

// Known tells whether there are two readings, so that something can be said.
func (p *Profile) Known() bool { return len(p.readings) > 1 }

// Read takes a reading: the records that have changed since the one before, and how many
// bytes there are for one that is sampled.
func (p *Profile) Read(at uint64, rate int64, changed []Record) {
	p.rate = float64(rate)
	r := reading{at, make(map[uint64]counts, len(changed))}
	for _, c := range changed {
		if c.Size == 0 {
			continue
		}
		p.records[c.ID] = c
		r.changed[c.ID] = counts{c.Allocs, c.Frees}
	}
	p.readings = append(p.readings, r)
	p.join()
	if n := len(p.readings); n > mostReadings {
		p.spacing = (at - p.readings[0].at) / (mostReadings / 2)
		p.join()
	}
}

// join joins readings that are nearer to each other than they are kept, but for the first.
func (p *Profile) join() {
	kept := p.readings[:1]
	for _, r := range p.readings[1:] {
		if n := len(kept); n > 1 && r.at-kept[n-2].at < p.spacing {
			maps.Copy(kept[n-1].changed, r.changed)
			kept[n-1].at = r.at
			continue
		}
		kept = append(kept, r)
	}
	clear(p.readings[len(kept):])
	p.readings = kept
}

// Sites calls use with the site of each record of which something is live.
func (p *Profile) Sites(use func(site uint32)) {
	for _, r := range p.records {
		if r.Allocs > r.Frees {
			use(r.Site)
		}
	}
}

// weight is how many bytes a sampled object stands for: what it takes divided by the
// probability that it is sampled (runtime/mprof.go, and scaleHeapSample in runtime/pprof).
func (p *Profile) weight(size uint64) float64 {
	if p.rate <= 1 {
		return float64(size)
	}
	return float64(size) / -math.Expm1(-float64(size)/p.rate)
}

// change is a record with what it was before.
type change struct {
	Record
	first, from counts // as of the first reading, and where the window begins
}

// window returns the records as of the last reading, with what they were before, in the
// order of their IDs, and how long it is.
func (p *Profile) window() (all []change, length time.Duration) {
	n := len(p.readings)
	first, last := p.readings[0].at, p.readings[n-1].at
	middle := first + uint64(recent*float64(last-first))
	begin := 0
	for i := range p.readings[:n-1] {
		if distance(p.readings[i].at, middle) < distance(p.readings[begin].at, middle) {
			begin = i
		}
	}
	from := make(map[uint64]counts)
	for _, r := range p.readings[:begin+1] {
		maps.Copy(from, r.changed)
	}
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		all = append(all, change{p.records[id], p.readings[0].changed[id], from[id]})
	}
	return all, time.Duration(last - p.readings[begin].at)
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// came and went are the objects that are live at the end of the window, and not at its
// beginning, and the other way round, at most: of an object that has both come and gone
// nothing is seen.
func (c *change) came() float64 {
	return min(float64(c.Allocs-min(c.from.allocs, c.Allocs)), c.now().live())
}

func (c *change) went() float64 {
	return min(float64(c.Frees-min(c.from.frees, c.Frees)), c.from.live())
}

func (c *change) allocated() float64 { return float64(c.Allocs - min(c.from.allocs, c.Allocs)) }

func (c *change) now() counts { return counts{c.Allocs, c.Frees} }

// profiled is what is known of a keeper by a profile.
type profiled struct {
	came, went amount
	whole      float64 // what it keeps of the whole time, bytes
	seconds    float64 // of the window
}

// amount is a number of bytes, by a sample.
type amount struct {
	bytes    float64
	variance float64 // of it
}

func (a *amount) add(objects, weight float64) {
	a.bytes += objects * weight
	a.variance += objects * weight * weight
}

// draw draws what it may be.
func (a *amount) draw(r *rand.Rand) float64 {
	if a.bytes == 0 {
		return 0
	}
	one := a.variance / a.bytes
	return one * gamma(r, a.bytes/one+prior)
}

// keeps implements estimate.
func (p *profiled) keeps(r *rand.Rand) float64 {
	return max(min(p.came.draw(r)-p.went.draw(r), p.whole), 0) / p.seconds
}

const (
	// headroom is how much larger a heap may get than what is live in it, of as much: by
	// default Go collects garbage when the heap has doubled (GOGC=100).
	headroom = 2
	// mostCompared bounds the samples by which functions are compared: the test takes time
	// for each.
	mostCompared = 1 << 14
)

// Keepers estimates who keeps memory of the runtime's that grows by so many bytes a second,
// with the interval of that. Path gives the functions of a site, innermost first.
func (p *Profile) Keepers(rate growth.Rate, path func(site uint32) []Place) (r Result) {
	r.Source, r.Growth = ByProfile, rate.PerSecond
	if len(p.readings) == 0 {
		return r
	}
	r.Watched = time.Duration(p.readings[len(p.readings)-1].at - p.readings[0].at)
	if r.Watched < shortest {
		return r
	}
	all, length := p.window()
	tallies, of := p.tallies(all)
	for _, f := range part(tallies, path) {
		k := p.keeper(f, of, length)
		r.Samples += k.Samples
		r.Alive += k.Alive
		if k.Alive > 0 && k.Kept > 0 {
			r.Keepers = append(r.Keepers, k)
		}
	}
	exact := func(*rand.Rand) float64 { return 1 }
	r.judge(rate, exact, func(rnd *rand.Rand, grown, sum float64) float64 {
		notSampled := rnd.ExpFloat64() * max(p.rate, 1) / length.Seconds()
		return max(grown/(headroom*slack)-sum, notSampled)
	})
	return r
}

// tallies are how the objects of each site fare that were allocated in the window, in the
// order of the sites, and their records, if anything was allocated or freed at all.
func (p *Profile) tallies(all []change) (out []tally, of map[uint32][]*change) {
	of = make(map[uint32][]*change)
	sum := 0.0
	for i := range all {
		c := &all[i]
		if c.now() != c.first {
			of[c.Site] = append(of[c.Site], c)
			sum += c.allocated()
		}
	}
	thin := min(1, mostCompared/max(sum, 1))
	for _, site := range slices.Sorted(maps.Keys(of)) {
		t := tally{site: site}
		for _, c := range of[site] {
			t.decided += c.allocated()
			t.alive += c.came() - c.went()
			live := c.came() * p.weight(c.Size)
			t.there += live / float64(c.Size)
			t.bytes += live
		}
		t.decided = math.Round(t.decided * thin)
		t.alive = math.Round(min(max(t.alive*thin, 0), t.decided))
		out = append(out, t)
	}
	return out, of
}

func (p *Profile) keeper(f *function, of map[uint32][]*change, length time.Duration) Keeper {
	d := &profiled{seconds: length.Seconds()}
	k := Keeper{function: f.name, Pools: f.pools, known: d}
	best, allocated, samples, alive := -1.0, 0.0, 0.0, 0.0
	for _, site := range slices.Sorted(maps.Keys(f.depth)) {
		kept := 0.0
		for _, c := range of[site] {
			weight := p.weight(c.Size)
			d.came.add(c.came(), weight)
			d.went.add(c.went(), weight)
			d.whole += (c.now().live() - c.first.live()) * weight
			kept += (c.came() - c.went()) * weight
			allocated += c.allocated() * weight
			samples += c.allocated()
			alive += c.came() - c.went()
		}
		if kept > best {
			best, k.Site = kept, site
		}
	}
	k.Depth = f.depth[k.Site]
	k.Samples, k.Alive = int(samples), int(max(alive, 0))
	k.Allocated = allocated / d.seconds
	k.Kept = max(min(d.came.bytes-d.went.bytes, d.whole), 0) / d.seconds
	k.Survival = k.Kept / max(k.Allocated, math.SmallestNonzeroFloat64)
	rnd := rand.New(rand.NewPCG(1, 0)) // the same samples give the same answer
	drawn := make([]float64, draws)
	for i := range drawn {
		drawn[i] = d.keeps(rnd)
	}
	k.Low, k.High = interval(drawn)
	return k
}
