package growth

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/maptrace/maptrace/tracer/budget"
)

// Options of a Watch. The zero value gives the defaults.
type Options struct {
	// Warmup is not judged. By default it is a tenth of the watch, at least
	// two ticks. A group that appears later has a warm-up of its own.
	Warmup     time.Duration
	Confidence float64 // of intervals and tests for trends, default 0.95
	// MinGrowth is the least growth in bytes that is told from nothing, default
	// 256 KiB; MinShare is the same as a share of what the group holds,
	// default 0.001. The greater of both counts. MinMappings is the least
	// growth of the number of mappings, default 64.
	MinGrowth   uint64
	MinShare    float64
	MinMappings int
	// MaxPoints is how many moments are kept of each group, default 512. Those in a
	// row at which it holds the same take 120 bytes together. When there are more
	// they are joined in pairs.
	MaxPoints int
	// MaxGroups is how many groups are kept, default 2,000. Beyond it, those
	// that hold nothing make room, and then what has no place counts as Other.
	MaxGroups int
	// Share is the memory that this and other watches have together; nil for as much
	// as the above take. What is given up where it is not enough, see [Watch.Shrink].
	Share *budget.Share
}

func (o Options) withDefaults() Options {
	if o.Confidence <= 0 || o.Confidence >= 1 {
		o.Confidence = 0.95
	}
	if o.MinGrowth == 0 {
		o.MinGrowth = 256 << 10
	}
	if o.MinShare <= 0 {
		o.MinShare = 0.001
	}
	if o.MinMappings <= 0 {
		o.MinMappings = 64
	}
	if o.MaxPoints <= 0 {
		o.MaxPoints = 512
	}
	o.MaxPoints = max(o.MaxPoints&^1, 16)
	if o.MaxGroups <= 0 {
		o.MaxGroups = 2000
	}
	return o
}

// span is what a group held between two moments.
type span struct{ low, high Holding }

func (s *span) add(h Holding) {
	s.low, s.high = s.low.merge(h, lower), s.high.merge(h, higher)
}

func (s *span) join(o span) {
	s.low, s.high = s.low.merge(o.low, lower), s.high.merge(o.high, higher)
}

// cohort is what was mapped between two moments.
type cohort struct {
	born, alive uint64
}

func (c *cohort) add(o cohort) {
	c.born += o.born
	c.alive += o.alive
}

// run is points in a row at which a group held the same.
type run struct {
	span
	n int
}

// history is what is kept of a group.
type history struct {
	runs              []run    // their points are those of Watch.times
	cohorts           []cohort // one a point, and one for what came since; shorter if nothing came late
	first, last, peak Holding

	own    Flow // what is known to be of the group
	shared Flow // its share, as of the last tick, in what may be of several
	active int  // the tick at which it last held or got something
}

// group is a history with a span for each point, as it is judged.
type group struct {
	*history
	spans []span
}

// flow is all that was mapped and unmapped of a group.
func (g *history) flow() Flow { return g.own.Plus(g.shared) }

// Watch collects what groups hold over time. Make one with [NewWatch].
type Watch struct {
	opts   Options
	times  []time.Duration // of the points; the last may stand for less than stride ticks
	stride int             // ticks in a point
	fill   int             // ticks in the last point
	ticks  int

	groups  map[Key]*history
	other   *history // nil until needed
	evicted int      // groups that Other has swallowed
	outside int      // most groups without a place of their own at one tick

	// What is kept at most; less than the options say once there was too little
	// memory.
	maxPoints, maxGroups int
	memory               *budget.Holder
	patience             int // no less can be kept until this tick
	spans                []span
}

// NewWatch returns a watch that has seen nothing. Close it if it has a share of memory.
func NewWatch(opts Options) *Watch {
	opts = opts.withDefaults()
	return &Watch{
		opts: opts, stride: 1, groups: make(map[Key]*history),
		maxPoints: opts.MaxPoints, maxGroups: opts.MaxGroups, memory: opts.Share.Join(),
	}
}

// Close gives back the watch's share of memory.
func (w *Watch) Close() { w.memory.Leave() }

// Ticks returns the number of observations.
func (w *Watch) Ticks() int { return w.ticks }

// Crowd tells how many groups lost their own place to the group Other, because they
// held nothing or memory was short, and how many at most held something without one at one
// observation.
func (w *Watch) Crowd() (evicted, outside int) { return w.evicted, w.outside }

// Has tells whether a group has its own place; else its figures are with Other's.
func (w *Watch) Has(k Key) bool { return w.groups[k] != nil }

// group returns the group of a key, a new one if there is a place.
func (w *Watch) group(k Key) *history {
	if k.What == Other {
		return w.others()
	}
	if g := w.groups[k]; g != nil {
		return g
	}
	if len(w.groups) >= w.maxGroups {
		return w.others()
	}
	g := w.newGroup()
	w.groups[k] = g
	return g
}

func (w *Watch) others() *history {
	if w.other == nil {
		w.other = w.newGroup()
	}
	return w.other
}

func (w *Watch) newGroup() *history {
	g := &history{active: w.ticks}
	if n := len(w.times); n > 0 {
		g.runs = []run{{n: n}}
	}
	return g
}

// Born says that memory was mapped, at a time since the start of the watch.
// The order of calls between two observations does not matter, but for one: a
// piece is born before it dies. Births before the start, at below 0, are
// counted, but no survivors are looked for among them. Weight is for how many
// pieces this one stands where survivors are looked for: the inverse of the
// probability with which its group became known; 1 if all are known.
func (w *Watch) Born(k Key, at time.Duration, bytes, weight uint64) {
	i := w.point(at)
	g := w.group(k)
	g.active = w.ticks
	g.own.Born += bytes
	g.own.BornCount++
	if at < 0 {
		return
	}
	if i >= len(g.cohorts) {
		g.cohorts = append(g.cohorts, make([]cohort, i+1-len(g.cohorts))...)
	}
	g.cohorts[i].born += bytes * weight
	g.cohorts[i].alive += bytes * weight
}

// Died says that memory mapped at the time born was unmapped: a whole mapping
// or a piece of it. A mapping from before the watch has a born below 0. The weight is
// that of its birth.
func (w *Watch) Died(k Key, born time.Duration, bytes, weight uint64) {
	i := w.point(born)
	g := w.group(k)
	g.own.Died += bytes
	g.own.DiedCount++
	// A death of more than was born then is one of memory whose birth was
	// not told: it takes nothing from the other cohorts.
	if born >= 0 && i < len(g.cohorts) {
		g.cohorts[i].alive -= min(bytes*weight, g.cohorts[i].alive)
	}
}

// point returns the index of the point that a time belongs to: the first that
// is not before it, len(times) if all are.
func (w *Watch) point(at time.Duration) int {
	if n := len(w.times); n == 0 || at > w.times[n-1] {
		return n
	}
	i, _ := slices.BinarySearch(w.times, at)
	return i
}

// Observe says what the groups hold at a time since the start of the watch.
// Groups that are not in the map hold nothing. Shared is what the groups' shares are,
// since the start, in what was mapped and unmapped and is not known to be of one of
// them: Born and Died have not told of it. The maps are only read. An observation that
// is not later than the one before is ignored.
func (w *Watch) Observe(at time.Duration, holdings map[Key]Holding, shared map[Key]Flow) {
	if n := len(w.times); n > 0 && at <= w.times[n-1] {
		return
	}
	w.admit(holdings)
	grow := len(w.times) == 0 || w.fill == w.stride
	if grow && len(w.times) >= w.maxPoints {
		w.thin()
		grow = w.fill == w.stride // of an odd number the last is not full
	}
	if w.ticks++; grow {
		w.times, w.fill = append(w.times, at), 1
	} else {
		w.times[len(w.times)-1] = at
		w.fill++
	}
	var rest Holding
	for k, h := range holdings {
		if _, ok := w.groups[k]; !ok {
			rest = rest.merge(h, sum)
		}
	}
	for k, g := range w.groups {
		w.push(g, holdings[k], grow)
	}
	if w.other != nil {
		w.push(w.other, rest, grow)
	}
	w.share(shared)
	if len(w.groups) >= w.maxGroups {
		w.evict()
	}
	w.Shrink()
}

// share notes the groups' shares in what is not known to be of one of them.
func (w *Watch) share(shared map[Key]Flow) {
	w.each(func(g *history) { g.shared = Flow{} })
	for _, k := range slices.SortedFunc(maps.Keys(shared), Key.Compare) { // the first get the last places
		g := w.group(k)
		g.shared = g.shared.Plus(shared[k])
	}
}

// admit gives new groups their places, the largest first where places are few.
func (w *Watch) admit(holdings map[Key]Holding) {
	var strangers []Key
	for k := range holdings {
		if _, ok := w.groups[k]; !ok {
			strangers = append(strangers, k)
		}
	}
	slices.SortFunc(strangers, func(a, b Key) int {
		return cmp.Or(cmp.Compare(holdings[b].Mapped, holdings[a].Mapped), a.Compare(b))
	})
	outside := 0
	for _, k := range strangers {
		if w.group(k) == w.other && k.What != Other {
			outside++
		}
	}
	w.outside = max(w.outside, outside)
}

// push adds an observation to a group.
func (w *Watch) push(g *history, h Holding, grow bool) {
	if grow {
		g.append(span{h, h})
	} else {
		s := g.pop()
		s.add(h)
		g.append(s)
	}
	if n := len(w.times); len(g.cohorts) > n { // what came after the point's end, which has moved
		g.cohorts[n-1].add(g.cohorts[n])
		g.cohorts = g.cohorts[:n]
	}
	if w.ticks == 1 {
		g.first = h
	}
	g.last = h
	g.peak = g.peak.merge(h, higher)
	if h != (Holding{}) {
		g.active = w.ticks
	}
}

// append adds a point.
func (g *history) append(s span) {
	if n := len(g.runs); n > 0 && g.runs[n-1].span == s {
		g.runs[n-1].n++
		return
	}
	g.runs = append(g.runs, run{s, 1})
}

// pop takes the last point away. There is one.
func (g *history) pop() span {
	last := &g.runs[len(g.runs)-1]
	s := last.span
	if last.n--; last.n == 0 {
		g.runs = g.runs[:len(g.runs)-1]
	}
	return s
}

// points are a group's, in memory that is used again: until the next call.
func (w *Watch) points(g *history) []span {
	w.spans = w.spans[:0]
	for _, r := range g.runs {
		for range r.n {
			w.spans = append(w.spans, r.span)
		}
	}
	return w.spans
}

// thin halves the number of points. The last one may have no other to be joined with.
func (w *Watch) thin() {
	n := len(w.times)
	for i := range n / 2 {
		w.times[i] = w.times[2*i+1]
	}
	if n%2 == 0 {
		w.fill += w.stride
	} else {
		w.times[n/2] = w.times[n-1]
	}
	w.times = w.times[:(n+1)/2]
	w.stride *= 2
	w.each(func(g *history) {
		spans := w.points(g)
		g.runs = g.runs[:0]
		for i := 0; i < n; i += 2 {
			s := spans[i]
			if i+1 < n {
				s.join(spans[i+1])
			}
			g.append(s)
		}
		for i, c := range g.cohorts {
			if i%2 == 0 {
				g.cohorts[i/2] = c
			} else {
				g.cohorts[i/2].add(c)
			}
		}
		g.cohorts = g.cohorts[:(len(g.cohorts)+1)/2]
	})
}

func (w *Watch) each(f func(*history)) {
	for _, g := range w.groups {
		f(g)
	}
	if w.other != nil {
		f(w.other)
	}
}

// evict makes room: up to a quarter of the places, from groups that hold
// nothing, those first that have been idle for longest.
func (w *Watch) evict() {
	var idle []Key
	for k, g := range w.groups {
		if g.active < w.ticks {
			idle = append(idle, k)
		}
	}
	slices.SortFunc(idle, func(a, b Key) int {
		return cmp.Or(cmp.Compare(w.groups[a].active, w.groups[b].active), a.Compare(b))
	})
	idle = idle[:min(len(idle), max(1, w.maxGroups/4))]
	w.toOther(idle)
}

// toOther lets groups lose their places.
func (w *Watch) toOther(keys []Key) {
	for _, k := range keys {
		w.swallow(w.others(), w.groups[k])
		delete(w.groups, k)
		w.evicted++
	}
}

// swallow adds all that a group was to the others.
func (w *Watch) swallow(o, g *history) {
	spans := w.points(o)
	at := 0
	for _, r := range g.runs {
		for range r.n {
			s := &spans[at]
			s.low, s.high = s.low.merge(r.low, sum), s.high.merge(r.high, sum)
			o.peak = o.peak.merge(s.high, higher)
			at++
		}
	}
	o.runs = o.runs[:0]
	for _, s := range spans {
		o.append(s)
	}
	o.first, o.last = o.first.merge(g.first, sum), o.last.merge(g.last, sum)
	if n := len(g.cohorts); n > len(o.cohorts) {
		o.cohorts = append(o.cohorts, make([]cohort, n-len(o.cohorts))...)
	}
	for i, c := range g.cohorts {
		o.cohorts[i].add(c)
	}
	o.own, o.shared = o.own.Plus(g.own), o.shared.Plus(g.shared)
}

// Findings judges all groups that held, got or lost anything, the worst first: by
// label, and by bytes a second among those with the same one. The Watch may be
// used on.
func (w *Watch) Findings() []Finding {
	found := make([]Finding, 0, len(w.groups)+1)
	for k, g := range w.groups {
		if g.peak != (Holding{}) || g.flow() != (Flow{}) {
			found = append(found, w.verdict(k, g))
		}
	}
	if w.other != nil {
		f := w.verdict(Key{}, w.other)
		f.Reason = append(f.Reason, Note{Kind: Together, Count: w.evicted, Other: w.outside})
		found = append(found, f)
	}
	Sort(found)
	return found
}

// Sort puts the worst first.
func Sort(found []Finding) {
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Label, a.Label), cmp.Compare(b.Score, a.Score), a.Compare(b.Key))
	})
}

// verdict judges a group.
func (w *Watch) verdict(k Key, g *history) Finding { return w.judge(k, &group{g, w.points(g)}) }
