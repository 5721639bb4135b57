package attribution

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/maptrace/maptrace/tracer/growth"
)

// Who keeps a heap that many share.
//
// Who makes such a heap larger, and who touches a page of it first, is mostly who
// allocates the most, whether that stays or not. What does tell is which words stay, and
// who wrote those last. The words are few, so a name is only given where they leave no
// more than one chance in twenty that another keeps as much.
//
// The words are a stratified sample: about equal numbers of each of those that touch
// memory first (a stratum), whose page faults say how much of the memory is theirs. Of a
// stratum two things are unknown: which part of it stays (a Beta distribution over the
// words that stayed and those that did not, after a uniform prior), and with whom (a
// Dirichlet distribution over the last writers, and one word of somebody who was not seen
// yet). A stratum none of whose words is decided may stay as a whole, with somebody not
// seen. All who were not seen count as one. The confidence is the posterior probability
// that one keeps more than each of the others.

// Sure is the confidence from which on a keeper is named.
const Sure = 0.95

// draws are how many samples of the posterior are taken: at Sure, the confidence is known
// to half a percent.
const draws = 2000

// stratum is what became of the words that one group of sites was the first to write to.
type stratum struct {
	weight float64           // page faults of the group
	gone   uint64            // words that did not stay
	stayed map[uint32]uint64 // words that did, by the last writer
	by     []writes          // the same by candidates
}

// unseen is the candidate of whom nothing was seen.
const unseen = -1

// writes are the words that a candidate, a group of sites, wrote last.
type writes struct {
	candidate int
	words     uint64
}

// retention is what watched words say of who keeps what stays of a group.
type retention struct {
	shares     []Share // of the last writers, by site
	stayed     uint64  // words
	moved      uint64  // of them, by a garbage collector
	decided    uint64  // words of which it is known what became of them
	confidence float64 // of shared memory, that the function with the greatest share keeps more than any other
}

// strata are what became of the words of each group.
func (a *Attribution) strata() map[growth.Key][]stratum {
	faults := make(map[part]uint64)
	for k, n := range a.touched {
		faults[part{k.key, a.sites.Group(k.site)}] += n
	}
	strata := make(map[growth.Key][]stratum)
	var last part
	// In one order: sums of fractions depend on it, and so do draws.
	for _, o := range slices.SortedFunc(maps.Keys(a.outcomes), compareOutcomes) {
		of := part{o.key, o.first}
		all := strata[o.key]
		if len(all) == 0 || of != last {
			all = append(all, stratum{weight: float64(1 + faults[of]), stayed: make(map[uint32]uint64)})
			strata[o.key], last = all, of
		}
		s := &all[len(all)-1]
		if n := a.outcomes[o]; o.site == 0 {
			s.gone += n
		} else {
			s.stayed[o.site] += n
		}
	}
	return strata
}

func compareOutcomes(a, b outcome) int {
	return cmp.Or(a.key.Compare(b.key), cmp.Compare(a.first, b.first), cmp.Compare(a.site, b.site))
}

// retention estimates who keeps what stays of one group. Of memory that is not shared
// nobody is named for it, and the draws, which take milliseconds, are left out.
func (a *Attribution) retention(key growth.Key, strata []stratum) (r retention) {
	masses, unknown := make(map[uint32]float64), float64(a.faults[key])
	var sum float64
	for i := range strata {
		s := &strata[i]
		unknown -= s.weight
		words := s.gone
		for _, n := range s.stayed {
			words += n
		}
		r.decided += words
		for _, site := range slices.Sorted(maps.Keys(s.stayed)) {
			n := s.stayed[site]
			r.stayed += n
			if a.sites.Moves(site) {
				r.moved += n
			}
			mass := s.weight * float64(n) / float64(words)
			masses[site] += mass
			sum += mass
		}
	}
	for _, site := range slices.Sorted(maps.Keys(masses)) {
		r.shares = append(r.shares, Share{site, masses[site] / sum})
	}
	sortShares(r.shares)
	if !a.shared(key) {
		return r
	}
	if first, candidates := a.candidates(r.shares); first != unseen {
		for i := range strata {
			strata[i].assign(candidates)
		}
		r.confidence = confidence(strata, max(unknown, 0), first)
	}
	return r
}

// candidates numbers the functions that may keep memory, and says which has the greatest
// share, unseen if none has any.
func (a *Attribution) candidates(shares []Share) (first int, of map[uint32]int) {
	numbers, of := make(map[uint32]int), make(map[uint32]int)
	var sums []float64
	for _, s := range shares {
		if a.sites.Moves(s.Site) {
			of[s.Site] = unseen
			continue
		}
		group := a.sites.Group(s.Site)
		if _, ok := numbers[group]; !ok {
			numbers[group] = len(sums)
			sums = append(sums, 0)
		}
		of[s.Site] = numbers[group]
		sums[of[s.Site]] += s.Share
	}
	first = unseen
	for i, sum := range sums {
		if first == unseen || sum > sums[first] {
			first = i
		}
	}
	return first, of
}

// assign counts the words that stayed by candidates.
func (s *stratum) assign(of map[uint32]int) {
	words := make(map[int]uint64)
	for site, n := range s.stayed {
		words[of[site]] += n
	}
	for _, c := range slices.Sorted(maps.Keys(words)) {
		s.by = append(s.by, writes{c, words[c]})
	}
}

// confidence is the probability that a candidate keeps more than any other, or whoever was
// not seen; unknown is the weight of the strata none of whose words is decided.
func confidence(strata []stratum, unknown float64, first int) float64 {
	most := first
	for i := range strata {
		for _, c := range strata[i].by {
			most = max(most, c.candidate)
		}
	}
	masses, others := make([]float64, most+2), most+1
	r := rand.New(rand.NewPCG(1, 0)) // the same evidence gives the same answer
	wins := 0
	for range draws {
		clear(masses)
		masses[others] = unknown * r.Float64()
		for i := range strata {
			strata[i].draw(r, masses)
		}
		mine := masses[first]
		masses[first] = 0
		if mine > slices.Max(masses) {
			wins++
		}
	}
	return float64(wins) / (draws + 1) // it is never certain
}

// draw adds to the masses of the candidates, and of all others, the last, what they may
// keep of a stratum.
func (s *stratum) draw(r *rand.Rand, masses []float64) {
	const uniform = 1 // the prior
	others := len(masses) - 1
	parts := make([]float64, 0, 8)
	var stayed uint64
	var sum float64
	other := gamma(r, uniform)
	for _, c := range s.by {
		p := gamma(r, float64(c.words))
		parts = append(parts, p)
		sum += p
		stayed += c.words
	}
	sum += other
	stays, gone := gamma(r, float64(stayed)+uniform), gamma(r, float64(s.gone)+uniform)
	mass := s.weight * stays / (stays + gone)
	for i, c := range s.by {
		at := c.candidate
		if at == unseen {
			at = others
		}
		masses[at] += mass * parts[i] / sum
	}
	masses[others] += mass * other / sum
}

// gamma draws from the gamma distribution of a shape of 1 and more (Marsaglia and Tsang).
func gamma(r *rand.Rand, shape float64) float64 {
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
