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
	Site uint32 // 0 in the first reading: it is not known who it is until it changes
	Size uint64 // of an object, bytes
	// Allocs and Frees are sampled objects, since the program began. An object that was
	// sampled when it was allocated is counted when it is freed.
	Allocs, Frees uint64
}

// GoHeap is what the memory is called that Go's runtime takes to hand it out.
const GoHeap = "Go heap"

// Profile has readings of the profile that a runtime keeps of the heap of one address space.
//
// What is live is known of two moments, and so what a function keeps is the difference.
// Three things are not known:
//
//   - The runtime samples one in so many bytes, so there is an interval.
//   - What has grown may be about to be flat, as a cache that fills: only the second half of
//     the time counts, and no more than what was kept of the whole.
//   - What is allocated while garbage is marked counts as live, even if it is garbage at once.
//     Of who allocates much that is much, and more the longer the marking of a growing heap
//     takes: as much as may have been is taken off.
//
// A function that is named keeps more than any other, and than what the memory grows by
// beyond what the profile has (stacks are not in it, and what is dead and not collected).
//
// A Profile has one owner.
type Profile struct {
	// Assumed says that the rate is likely, but not known. What of the others is kept by
	// whom does not depend on it much, how many bytes that are does.
	Assumed bool

	rate     float64           // bytes
	records  map[uint64]Record // as of the last reading
	readings []reading
	spacing  uint64 // of readings, at least, in ns
}

// reading is what has changed since the one before.
type reading struct {
	at          uint64
	collections uint64
	changed     map[uint64]counts
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

// Read takes a reading: the records that have changed since the one before, how many bytes
// there are for one that is sampled, and how many collections there were so far, 0 if that is
// not known.
func (p *Profile) Read(at uint64, rate int64, collections uint64, changed []Record) {
	p.rate = float64(rate)
	r := reading{at, collections, make(map[uint64]counts, len(changed))}
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
			kept[n-1].at, kept[n-1].collections = r.at, r.collections
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
		if r.Site != 0 && r.Allocs > r.Frees {
			use(r.Site)
		}
	}
}

// Scale is how many objects of a size one stands for that is sampled at a rate, bytes: one
// over the probability that it is sampled. To the digit as scaleHeapSample in
// runtime/pprof/protomem.go has it.
func Scale(size uint64, rate float64) float64 {
	if rate <= 1 {
		return 1
	}
	return 1 / (1 - math.Exp(-float64(size)/rate))
}

// weight is how many bytes a sampled object stands for.
func (p *Profile) weight(size uint64) float64 { return float64(size) * Scale(size, p.rate) }

// change is a record with what it was before.
type change struct {
	Record
	first, from counts // as of the first reading, and where the period begins
}

// period is the time that counts.
type period struct {
	all         []change // in the order of their IDs
	length      time.Duration
	collections float64 // at least
}

func (p *Profile) period() (w period) {
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
		w.all = append(w.all, change{p.records[id], p.readings[0].changed[id], from[id]})
	}
	w.length = time.Duration(last - p.readings[begin].at)
	if was, is := p.readings[begin].collections, p.readings[n-1].collections; was != 0 && is > was {
		w.collections = float64(is - was)
		return w
	}
	for _, r := range p.readings[begin+1:] {
		if len(r.changed) > 0 {
			w.collections++
		}
	}
	w.collections = max(w.collections, 1)
	return w
}

// floating is how many of so many objects may have been allocated while garbage was marked
// for the last time: a collection begins when 0.7 of what may be allocated until its end has
// been (runtime/mgcpacer.go: minTriggerRatioDistance), and may end late.
func (w *period) floating(allocated float64) float64 {
	const most = 0.5
	return most * allocated / w.collections
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// came and went are the objects that are live at the end of the period, and not at its
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
	floating   float64 // of those that came, bytes
	whole      float64 // what it keeps of the whole time, bytes
	seconds    float64 // of the period
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
	return max(min(p.came.draw(r)-p.went.draw(r)-p.floating, p.whole), 0) / p.seconds
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
	r.Source, r.Growth, r.Assumed = ByProfile, rate.PerSecond, p.Assumed
	if len(p.readings) == 0 {
		return r
	}
	r.Watched = time.Duration(p.readings[len(p.readings)-1].at - p.readings[0].at)
	if r.Watched < shortest {
		return r
	}
	w := p.period()
	tallies, of := p.tallies(&w)
	for _, f := range part(tallies, path) {
		k := p.keeper(f, of, &w)
		r.Samples += k.Samples
		r.Alive += k.Alive
		if k.Alive > 0 && k.Kept > 0 {
			r.Keepers = append(r.Keepers, k)
		}
	}
	r.judge(rate, scaling{least: 1, most: 1}, 0, nil, func(rnd *rand.Rand, grown, sum float64) float64 {
		notSampled := rnd.ExpFloat64() * max(p.rate, 1) / w.length.Seconds()
		return max(grown/(headroom*slack)-sum, notSampled)
	})
	return r
}

// tallies are how the objects of each site fare that were allocated in the period, in the
// order of the sites, and their records, if anything was allocated or freed at all.
func (p *Profile) tallies(w *period) (out []tally, of map[uint32][]*change) {
	of = make(map[uint32][]*change)
	sum := 0.0
	for i := range w.all {
		c := &w.all[i]
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
		t.alive -= w.floating(t.decided)
		t.decided = math.Round(t.decided * thin)
		t.alive = math.Round(min(max(t.alive*thin, 0), t.decided))
		out = append(out, t)
	}
	return out, of
}

func (p *Profile) keeper(f *function, of map[uint32][]*change, w *period) Keeper {
	d := &profiled{seconds: w.length.Seconds()}
	// Large objects of Go are what they are made as: few hand them out in pieces.
	k := Keeper{Function: f.name, Unsure: f.unsure, known: d}
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
	k.Samples, k.Alive = int(samples), int(max(alive-w.floating(samples), 0))
	k.Times = k.Alive // when each was allocated is not known
	d.floating = w.floating(allocated)
	k.Allocated = allocated / d.seconds
	k.Kept = max(min(d.came.bytes-d.went.bytes-d.floating, d.whole), 0) / d.seconds
	k.Survival = k.Kept / max(k.Allocated, math.SmallestNonzeroFloat64)
	return k
}
