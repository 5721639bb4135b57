package growth

import (
	"math"
	"slices"
	"sort"
	"time"
)

// The bounds between the labels. The synthetic series of the tests say what
// each of them costs in leaks missed and innocents accused.
const (
	// minPoints: below, no order of the values is significant.
	minPoints = 5
	// giveBack is the share of its growth that a leak may fall by.
	giveBack = 0.1
	// driftZ: how sure a drift must be. A random walk is as sure once in 4,000.
	// The smoothing of single points hides some of the scatter.
	// Few troughs in ascending order need less.
	driftZ, smoothDriftZ, fewDriftZ = 3.5, 5, 2.8
	// minChanges in one direction are as rare. With fewer points than that,
	// nothing is called a leak.
	minChanges = 12
	// minSteps of growth in steps; minTroughs of growth under a sawtooth, of
	// which chance puts fewer than 1 % in ascending order.
	minSteps, minTroughs = 3, 5
	// flatShare is the part of the growth below which the last third is flat.
	flatShare = 0.1
	// slowAlways and slowSure are the rate of the last third over that of the
	// first: below the one growth slows down, below the other if it is sure.
	slowAlways, slowSure = 0.35, 0.7
	// fadeZ is how sure, in standard errors.
	fadeZ = 1.7
	// shortSeries is the number of points below which nothing is sure.
	shortSeries = 20
	// maxGap is the longest pause of a leak, as a part of the time.
	maxGap = 0.45
	// coarseBlocks is the number of blocks in which directed is the part of all
	// movement that must be growth.
	coarseBlocks, directed = 12, 0.6
	// swing is the part of the range that a fall of a sawtooth has at least.
	swing = 0.3
	// minCycle is the mean length of a tooth in points: less is noise.
	minCycle = 4
	// minBirths is at how many moments something must have been mapped, and all
	// still be there, for that to be more than chance.
	minBirths = 12
	// maxSpikes is the share of single points that may stand out.
	maxSpikes = 0.2
	// aliveShare is what must still be there of what was mapped.
	aliveShare = 0.9
	// settledShare is the share of the old survivors over that of the younger.
	settledShare = 0.9
)

// series is one measure of a group in the part of the watch that is judged.
// Times are in seconds from its beginning.
type series struct {
	t, low, high []float64
	least        float64 // growth that counts
	confidence   float64
	// alive says that what was mapped during this time explains the growth,
	// came at many moments, and that nothing of it was unmapped.
	alive bool
}

// verdict is what one measure says.
type verdict struct {
	label    Label
	growth   float64
	trend    trend
	monotone float64
	fell     float64 // the deepest fall below an earlier height
	replaced bool    // by mappings that take the place of smaller ones
	troughs  bool    // the label rests on the troughs of a sawtooth
	notes    []Note  // what else there is to say of it
}

// add adds a note. The notes may be those of another verdict, too.
func (v *verdict) add(n Note) { v.notes = append(slices.Clip(v.notes), n) }

// judge labels a series by its shape alone.
func (s *series) judge() verdict {
	n := len(s.low)
	if n == 0 {
		return verdict{}
	}
	y := median3(s.low)
	first, last := ends(y)
	v := verdict{growth: last - first, fell: drawdown(s.low, s.high), monotone: monotone(y)}
	span := slices.Max(median3(s.high)) - slices.Min(y)
	if span < s.least {
		return v
	}
	if n < minPoints {
		v.notes = []Note{{Kind: TooShort, Count: n}}
		return v
	}
	v.trend = trendOf(s.t, s.low, s.confidence)
	sure := (1 - s.confidence) / 2
	up := v.growth >= s.least && v.trend.s > 0 && v.trend.p < sure
	p := progressOf(s.t, y, s.low, v.growth)
	p.alive = s.alive
	if up {
		miss := p.miss(v.trend)
		switch {
		case miss.Kind != 0:
		case drawdown(y, y) > giveBack*v.growth:
			miss = Note{Kind: GaveBack, Size: drawdown(y, y)}
		case p.spikes() > maxSpikes:
			miss = Note{Kind: Restless}
		}
		if miss.Kind == 0 {
			v.label = Leaks
			if p.inFewSteps() {
				v.add(Note{Kind: InSteps, Count: len(p.steps)})
			}
			return v
		}
		v.notes = []Note{miss}
	}
	if s.teeth(&v, y, span) {
		return v
	}
	_, coarse := blocks(s.t, y, coarseBlocks)
	higher := v.growth >= s.least && v.growth >= span/2 && v.growth >= directed*movement(coarse)
	never := higher && v.growth >= 0.9*movement(s.low) // fell
	switch flat := p.thirds[2] < flatShare*v.growth; {
	case higher && p.once():
		v.label = Plateau
		v.notes = []Note{{Kind: Once, Time: inSeconds(p.length() - p.steps[0].at)}}
	case (up || higher) && flat:
		v.label = Plateau
		v.notes = []Note{{Kind: Stopped, Time: inSeconds(p.length() - p.reached)}}
	case never && len(p.steps) > 0 && len(p.steps) < minSteps && !up:
		v.label = Grows
		v.notes = []Note{{Kind: FewSteps, Count: len(p.steps)}}
	case up && v.trend.low > 0, never:
		v.label = Grows
		if miss := p.miss(v.trend); !up && miss.Kind != 0 {
			v.notes = []Note{miss}
		}
	case higher && n < 3*minPoints:
		v.notes = []Note{{Kind: TooShortThis}}
	case higher:
		v.notes = []Note{{Kind: PerhapsChance}}
	default:
		v.notes = nil
	}
	return v
}

// ends returns the heights at the beginning and at the end: of a series that
// falls, the medians of a few points.
func ends(y []float64) (first, last float64) {
	n, w := len(y), 1
	if drawdown(y, y) > 0 {
		w = min(max(n/15, 1), 5)
	}
	return median(y[:w]), median(y[n-w:])
}

// drawdown is the deepest that low falls below an earlier high.
func drawdown(low, high []float64) float64 {
	peak, deepest := math.Inf(-1), 0.0
	for i := range low {
		deepest = max(deepest, peak-low[i])
		peak = max(peak, high[i])
	}
	return deepest
}

// monotone is the share of all movement that was upwards; 1 if there is none.
func monotone(y []float64) float64 {
	var up, down float64
	for i := 1; i < len(y); i++ {
		up += max(0, y[i]-y[i-1])
		down += max(0, y[i-1]-y[i])
	}
	if up+down == 0 {
		return 1
	}
	return up / (up + down)
}

// step is a rise between two pauses.
type step struct{ at, until, size float64 }

// progress is how a series came by its growth.
type progress struct {
	t, y    []float64 // smoothed
	raw     []float64 // not smoothed
	alive   bool      // all that was mapped is still there, see series
	few     bool      // these are troughs
	growth  float64
	thirds  [3]float64 // growth in each third of the time
	began   float64    // when the first twentieth of the growth was there
	reached float64    // when all but a twentieth of the growth was there
	pause   float64    // the longest time without growth before that
	steps   []step     // the rises, if most of the time there is none
	falls   bool       // there are falls between the steps
}

func progressOf(t, y, raw []float64, growth float64) *progress {
	p := &progress{t: t, y: y, raw: raw, growth: growth}
	for i := range p.thirds {
		p.thirds[i] = p.level(float64(i+1)/3) - p.level(float64(i)/3)
	}
	// The time of each twentieth of the growth; noise is less.
	level, last := 1, t[0]
	base, _ := ends(y)
	for i := range y {
		for ; level < 20 && y[i]-base >= growth*float64(level)/20; level++ {
			p.pause = max(p.pause, t[i]-last)
			last, p.reached = t[i], t[i]-t[0]
			if level == 1 {
				p.began = p.reached
			}
		}
	}
	p.findSteps()
	return p
}

// level is the height after a part of the time, from 0 to 1.
func (p *progress) level(part float64) float64 {
	at := p.t[0] + part*p.length()
	i := sort.SearchFloat64s(p.t, at)
	switch {
	case i == 0:
		return p.y[0]
	case i == len(p.t):
		return p.y[i-1]
	}
	return p.y[i-1] + (p.y[i]-p.y[i-1])*(at-p.t[i-1])/(p.t[i]-p.t[i-1])
}

func (p *progress) length() float64 { return p.t[len(p.t)-1] - p.t[0] }

// findSteps fills in the steps, if at least half of the time nothing happens.
func (p *progress) findSteps() {
	largest := 0.0
	for i := 1; i < len(p.raw); i++ {
		largest = max(largest, p.raw[i]-p.raw[i-1])
	}
	var steps []step
	pauses, rising := 0, false
	for i := 1; i < len(p.raw); i++ {
		switch d := p.raw[i] - p.raw[i-1]; {
		case math.Abs(d) <= largest/20:
			pauses++
			rising = false
		case d < 0:
			p.falls, rising = true, false
		case rising:
			steps[len(steps)-1].size += d
			steps[len(steps)-1].until = p.t[i] - p.t[0]
		default:
			steps, rising = append(steps, step{p.t[i] - p.t[0], p.t[i] - p.t[0], d}), true
		}
	}
	if 2*pauses >= len(p.raw)-1 {
		p.steps = steps
	}
}

// once says that there was one step and nothing else.
func (p *progress) once() bool {
	return len(p.steps) == 1 && !p.falls && p.steps[0].until-p.steps[0].at <= 0.05*p.length()
}

// inSteps says whether the steps alone prove growth: enough of them, spread
// over the time, and none back.
func (p *progress) inSteps() bool {
	if len(p.steps) < minSteps || p.falls {
		return false
	}
	last, shortest, longest := p.steps[0].at, math.Inf(1), 0.0
	for _, s := range p.steps {
		if s.until-s.at > 0.1*p.length() {
			return false
		}
	}
	for _, s := range p.steps[1:] {
		shortest, longest = min(shortest, s.at-last), max(longest, s.at-last)
		last = s.at
	}
	if len(p.steps) < 2*minSteps && longest > 2*shortest {
		return false // so few prove something only if they are regular
	}
	return max(longest, p.steps[0].at) <= maxGap*p.length()
}

// drifts says whether the mean change from point to point is further from 0
// than the scatter of the changes explains. It is the test that a random walk
// does not pass.
//
// Steps of equal size have no scatter, so there must be enough of them for
// their direction to be no chance. What was mapped and is all still there did
// not walk at random: nothing went.
func (p *progress) drifts() bool {
	if p.alive && drawdown(p.raw, p.raw) <= 0.01*p.growth {
		return true
	}
	if p.few {
		return drift(p.y, 2) > fewDriftZ
	}
	return drift(p.raw, minChanges) > driftZ || drift(p.y, minChanges) > smoothDriftZ
}

// drift is the mean change of a series over its error, as a value of the
// standard normal distribution; 0 if the changes are too few to tell.
func drift(y []float64, least int) float64 {
	n, changes := len(y)-1, 0
	if n < least {
		return 0
	}
	mean := (y[n] - y[0]) / float64(n)
	var sq float64
	for i := 1; i <= n; i++ {
		if y[i] != y[i-1] {
			changes++
		}
		d := y[i] - y[i-1] - mean
		sq += d * d
	}
	if changes < least || mean <= 0 {
		return 0
	}
	return normalOfStudent(mean*math.Sqrt(float64(n))/math.Sqrt(sq/float64(n-1)), n-1)
}

// miss says what speaks against a leak; its kind is 0 if nothing does.
func (p *progress) miss(tr trend) Note {
	first, last := p.thirds[0], p.thirds[2]
	steps := p.inSteps()
	rest := p.length() - p.reached
	switch {
	case p.once():
		return Note{Kind: OneStep}
	case last < flatShare*p.growth:
		return Note{Kind: Stopped, Time: inSeconds(rest)}
	case rest > max(0.12*p.length(), 1.6*p.pause):
		if p.reached < 0.05*p.length() { // it was as high at the beginning, for a moment
			return Note{Kind: Unsteady}
		}
		return Note{Kind: Stopped, Time: inSeconds(rest)}
	case first < 0.05*p.growth:
		return Note{Kind: Late, Time: inSeconds(p.length() - p.began)}
	case p.pause > maxGap*p.length():
		return Note{Kind: Bursts}
	case last < slowAlways*first || last < slowSure*first && p.slows():
		return Note{Kind: Slowing}
	case len(p.raw) < minChanges && !p.few:
		return Note{Kind: TooShortMore}
	case !steps && tr.low <= 0:
		return Note{Kind: Unsteady}
	case !steps && !p.drifts():
		if len(p.y) < 3*minPoints {
			return Note{Kind: TooShortMore}
		}
		return Note{Kind: Unsteady}
	}
	return Note{}
}

// inSeconds is a length of time from one in seconds.
func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// slows says whether the rate surely falls: of the growth in each of six parts
// of the time. In random order they do once in 36 times.
func (p *progress) slows() bool {
	const parts = 6
	if len(p.y) < shortSeries {
		return true // too short to say that it does not
	}
	var level [parts + 1]float64
	for i := range level {
		level[i] = p.level(float64(i) / parts)
	}
	s := 0
	for j := 1; j < parts; j++ {
		for i := range j {
			s += cmpFloat(level[j+1]-level[j], level[i+1]-level[i])
		}
	}
	return s <= -11 || p.fades()
}

// fades says whether the changes in the last third of the points are surely
// smaller than in the first.
func (p *progress) fades() bool {
	n := (len(p.raw) - 1) / 3
	first, firstVar := changes(p.raw[:n+1])
	last, lastVar := changes(p.raw[len(p.raw)-n-1:])
	return first-last > fadeZ*math.Sqrt((firstVar+lastVar)/float64(n))
}

// changes returns mean and variance of the changes from point to point.
func changes(y []float64) (mean, variance float64) {
	n := float64(len(y) - 1)
	mean = (y[len(y)-1] - y[0]) / n
	for i := 1; i < len(y); i++ {
		d := y[i] - y[i-1] - mean
		variance += d * d / n
	}
	return mean, variance
}

func cmpFloat(a, b float64) int {
	switch {
	case a > b:
		return 1
	case a < b:
		return -1
	}
	return 0
}

// spikes is the share of points that the smoothing took for mere moments.
func (p *progress) spikes() float64 {
	n := 0
	for i, v := range p.raw {
		if math.Abs(v-p.y[i]) > giveBack*p.growth {
			n++
		}
	}
	return float64(n) / float64(len(p.raw))
}

// inFewSteps says whether a leak came by its growth in steps that can be counted.
func (p *progress) inFewSteps() bool {
	return len(p.steps) > 0 && len(p.steps) < max(len(p.y)/4, minSteps)
}

// teeth judges a series that falls back again and again, and says whether it is
// one.
func (s *series) teeth(v *verdict, y []float64, span float64) bool {
	rest := make([]float64, len(y))
	for i := range y {
		rest[i] = y[i] - v.trend.slope*s.t[i]
	}
	if s.inside(v, span) {
		return true
	}
	lows, path := troughs(y, swing*(slices.Max(rest)-slices.Min(rest)))
	if len(lows) < 2 {
		return false
	}
	if float64(len(y))/float64(len(lows)) < minCycle || path < 0.35*movement(s.low) || noisy(s.low) {
		return false
	}
	v.troughs = true
	t, low := make([]float64, len(lows)), make([]float64, len(lows))
	for i, at := range lows {
		t[i], low[i] = s.t[at], y[at]
	}
	growth := low[len(low)-1] - low[0]
	v.notes = []Note{{Kind: FellBack, Count: len(lows), Size: v.fell}}
	v.label = Sawtooth
	tr := trendOf(t, low, s.confidence)
	if growth < s.least || tr.s <= 0 {
		return true
	}
	p := progressOf(t, low, low, growth)
	p.few = true
	if len(lows) >= minTroughs && tr.p < 0.01 && growth > giveBack*span &&
		drawdown(low, low) <= giveBack*growth && p.miss(tr).Kind == 0 {
		v.label, v.growth, v.trend = Leaks, growth, tr
		v.add(Note{Kind: LessEachTime})
		return true
	}
	if tr.p < (1-s.confidence)/2 && growth > giveBack*span {
		v.label, v.growth, v.trend = Grows, growth, tr
		v.add(Note{Kind: LowsRise})
	}
	return true
}

// noisy says whether a series looks as if its values were independent of each
// other: neighbours are not alike, and it rises as often as it falls.
func noisy(y []float64) bool {
	n := math.Sqrt(float64(len(y)))
	balance := 0
	for i := 1; i < len(y); i++ {
		balance += cmpFloat(y[i], y[i-1])
	}
	return autocorrelation(y, 1) < 2/n && math.Abs(float64(balance)) < 2*n
}

// inside finds a sawtooth whose teeth are shorter than what a point stands for.
func (s *series) inside(v *verdict, span float64) bool {
	depth := make([]float64, len(s.low))
	for i := range depth {
		depth[i] = s.high[i] - s.low[i]
	}
	if v.growth > span/2 || median(depth) < span/2 {
		return false
	}
	v.label = Sawtooth
	v.notes = []Note{{Kind: FallsBack, Size: v.fell}}
	return true
}

// movement is the sum of all changes, up and down.
func movement(y []float64) float64 {
	sum := 0.0
	for i := 1; i < len(y); i++ {
		sum += math.Abs(y[i] - y[i-1])
	}
	return sum
}

// troughs returns the indices of the lowest points between two heights that
// are higher by at least depth, and the length of the path from the first point
// over the heights and troughs to the last.
func troughs(y []float64, depth float64) (found []int, path float64) {
	pivots := []float64{y[0]}
	peak, low, falling := 0, 0, false
	for i := range y {
		switch {
		case falling && y[i] < y[low]:
			low = i
		case falling && y[i] >= y[low]+depth:
			found, pivots = append(found, low), append(pivots, y[low])
			falling, peak = false, i
		case !falling && y[i] > y[peak]:
			peak = i
		case !falling && y[i] <= y[peak]-depth:
			pivots = append(pivots, y[peak])
			falling, low = true, i
		}
	}
	return found, movement(append(pivots, y[len(y)-1]))
}
