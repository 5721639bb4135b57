package growth

import (
	"slices"
	"time"
)

// leastReserved is the least growth of address space without access that is told from
// nothing, in bytes: runtimes reserve gigabytes at once, and all have 128 TiB.
const leastReserved = 16 << 30

// maxSeries is the most points in Finding.Series.
const maxSeries = 60

// window returns the points of a group that are judged: those after the
// warm-up, which begins when the group appears.
func (w *Watch) window(g *group) (from int) {
	n := len(w.times)
	seen := slices.IndexFunc(g.spans, func(s span) bool { return s.high != Holding{} })
	if seen < 0 {
		return n
	}
	seen = max(seen-1, 0)
	begin := w.times[seen]
	until, ticks := begin+w.opts.Warmup, 0
	if w.opts.Warmup <= 0 {
		until, ticks = begin+(w.times[n-1]-begin)/10, 2
	}
	from = seen + (ticks+w.stride-1)/w.stride
	for from < n && w.times[from] < until {
		from++
	}
	return from
}

// judge gives the verdict on one group.
func (w *Watch) judge(k Key, g *group) Finding {
	f := Finding{
		Key: k, First: g.first, Last: g.last, Peak: g.peak, Flow: g.flow(),
		Monotone: 1,
	}
	f.Series = w.curve(g)
	n := len(w.times)
	if n == 0 {
		f.Reason = []Note{{Kind: Unobserved}}
		return f
	}
	from := min(w.window(g), n-1)
	f.From, f.To = w.times[from], w.times[n-1]
	w.survival(g, from, &f)

	var v [measures]verdict
	for m := range Measure(measures) {
		v[m] = w.measure(g, from, m, v[:m], &f)
		f.Rates[m] = Rate{v[m].trend.slope, v[m].trend.low, v[m].trend.high}
		w.restrain(&v[m], m, g, &f)
	}
	bound(v[:], &f)
	m := choose(v[:])
	f.Measure, f.Label = m, v[m].label
	f.Growth, f.Monotone = v[m].growth, v[m].monotone
	f.Slope, f.SlopeLow, f.SlopeHigh = v[m].trend.slope, v[m].trend.low, v[m].trend.high
	churns := f.Born >= max(w.opts.MinGrowth, f.Peak.Mapped/10) && f.Died >= f.Born/2
	if churns && (f.Label == Steady || f.Label == Plateau && float64(f.Born) > 3*f.Growth) {
		f.Label = Churns
	}
	f.Score = w.score(&f)
	f.Reason = w.reason(&f, v[:])
	return f
}

// curve returns the points of a group, as many as a line of text can show.
func (w *Watch) curve(g *group) []Point {
	size := (len(g.spans) + maxSeries - 1) / maxSeries
	if size == 0 {
		return nil
	}
	points := make([]Point, 0, (len(g.spans)+size-1)/size)
	for i := 0; i < len(g.spans); i += size {
		end := min(i+size, len(g.spans))
		s := g.spans[i]
		for _, o := range g.spans[i+1 : end] {
			s.join(o)
		}
		points = append(points, Point{At: w.times[end-1], Low: s.low, High: s.high})
	}
	return points
}

// measure judges one measure of a group; before are the verdicts on the
// measures before it.
func (w *Watch) measure(g *group, from int, m Measure, before []verdict, f *Finding) verdict {
	n := len(w.times) - from
	s := series{
		t: make([]float64, n), low: make([]float64, n), high: make([]float64, n),
		confidence: w.opts.Confidence,
	}
	same := m > 0
	for i, p := range g.spans[from:] {
		s.t[i] = (w.times[from+i] - w.times[from]).Seconds()
		s.low[i], s.high[i] = p.low.Of(m), p.high.Of(m)
		same = same && s.low[i] == p.low.Of(m-1) && s.high[i] == p.high.Of(m-1)
	}
	if same {
		return before[m-1] // anonymous memory is all writable, and mostly touched
	}
	s.least = max(float64(w.opts.MinGrowth), w.opts.MinShare*slices.Min(s.low))
	switch m {
	case Mappings:
		s.least = float64(w.opts.MinMappings)
	case Reserved:
		s.least = max(leastReserved, s.least)
	}
	growth := s.high[n-1] - s.low[0]
	s.alive = m.OfMemory() && f.AliveShare >= 0.99 && float64(f.AliveOf) >= growth/2 && w.births(g, from) >= minBirths
	return s.judge()
}

// births is the number of points in which something was mapped.
func (w *Watch) births(g *group, from int) int {
	n := 0
	for i := from + 1; i < len(g.cohorts); i++ {
		if g.cohorts[i].born > 0 {
			n++
		}
	}
	return n
}

// survival fills in what became of the bytes mapped during the watch.
func (w *Watch) survival(g *group, from int, f *Finding) {
	n := len(w.times)
	late := f.To - (f.To-w.times[0])/10
	var alive uint64
	for i, c := range g.cohorts {
		if i > from && i < n-1 && w.times[i] <= late {
			f.AliveOf += c.born
			alive += c.alive
		}
	}
	if f.AliveOf > 0 {
		f.AliveShare = float64(alive) / float64(f.AliveOf)
	}
	var all, older uint64
	for _, c := range g.cohorts {
		all += c.alive
	}
	for i, c := range g.cohorts {
		if older += c.alive; c.alive > 0 && older >= (all+1)/2 {
			f.MedianAge = f.To - w.middle(i)
			break
		}
	}
}

// middle is the mean time of what is counted in a point.
func (w *Watch) middle(i int) time.Duration {
	switch {
	case i >= len(w.times):
		return w.times[len(w.times)-1]
	case i == 0:
		return w.times[0]
	default:
		return (w.times[i-1] + w.times[i]) / 2
	}
}

// restrain takes a verdict back that something else than the shape speaks
// against.
func (w *Watch) restrain(v *verdict, m Measure, g *group, f *Finding) {
	if v.label != Leaks {
		return
	}
	dies := f.AliveOf > 0 && f.AliveShare < aliveShare
	// A vector that is copied to a larger block each time holds as many
	// mappings as ever: its old blocks have died, nothing of what they held has.
	// (The kernel may make one mapping of many small blocks, too.)
	whole := f.BornCount > 0 && f.Born/f.BornCount > g.last.Mapped/8
	v.replaced = m != Reserved && dies && whole && g.last.Mappings <= max(g.first.Mappings, 1)
	var against Note
	switch {
	case f.To-f.From < (f.To-w.times[0])/2:
		against = Note{Kind: Young, Time: f.To - f.From}
	case m == Reserved: // what is known to be unmapped had access
	case f.What == PageTables:
		against = Note{Kind: WithMappings}
	case f.What == Copied:
		against = Note{Kind: AfterFork}
	case f.What == Written:
		against = Note{Kind: OfFiles}
	case f.What == Tmpfs:
		against = Note{Kind: HasName}
	case f.What == File && m == Resident && g.peak.Writable == 0:
		against = Note{Kind: Droppable}
	case v.replaced:
		v.add(Note{Kind: Replaces})
	case dies && w.settled(g, f):
		v.add(Note{Kind: Settled})
	case dies && !v.troughs && (m == Mappings || float64(f.AliveOf) > giveBack*v.growth):
		against = Note{Kind: MostUnmapped}
		if f.AliveShare >= 0.5 {
			against = Note{Kind: SomeUnmapped}
		}
	}
	if against.Kind != 0 {
		v.label = Grows
		v.add(against)
	}
}

// bound takes the verdict back that shared memory, a file, or stacks of threads leak where what is
// mapped of it stays as large: pages of it are touched for the first time, and there are no more
// than that.
func bound(v []verdict, f *Finding) {
	r := &v[Resident]
	switch f.What {
	case File, Shm, Memfd, ThreadStack:
		if r.label == Leaks && inside(v) {
			r.label = Grows
			r.add(Note{Kind: Bounded, Size: f.Last.left()})
		}
	}
}

// inside tells whether what is resident grows in mappings that stay as large.
func inside(v []verdict) bool { return v[Mapped].growth <= v[Resident].growth/10 }

// settled says whether a part of what is mapped dies early and the rest never:
// of the bytes from the first third of the judged time as large a share is alive
// as of those from the second. What is freed sooner or later has a smaller one.
func (w *Watch) settled(g *group, f *Finding) bool {
	var born, alive [2]float64
	for i, c := range g.cohorts {
		if i >= len(w.times) || w.times[i] <= f.From {
			continue
		}
		if third := int(3 * (w.times[i] - f.From) / (f.To - f.From)); third < 2 {
			born[third] += float64(c.born)
			alive[third] += float64(c.alive)
		}
	}
	return alive[0] > 0 && alive[1] > 0 && alive[0]*born[1] >= settledShare*alive[1]*born[0]
}

// choose returns the measure with the worst label. Among several, resident
// memory is what is paid for, unless it is next to nothing beside the others.
func choose(v []verdict) Measure {
	worst := Resident
	for m := range Measure(len(v)) {
		switch {
		case v[m].label > v[worst].label:
			worst = m
		case v[m].label == v[worst].label && m.OfMemory() && v[m].label >= Grows && v[m].growth > 10*v[worst].growth:
			worst = m
		}
	}
	return worst
}

// score ranks findings of one label.
func (w *Watch) score(f *Finding) float64 {
	length := (f.To - w.times[0]).Seconds()
	switch {
	case f.Label == Churns && length > 0:
		return float64(f.Born) / length
	case !f.Measure.OfMemory():
		return max(0, f.Rates[Mapped].PerSecond)
	default:
		return max(0, f.Slope)
	}
}

// swapped is how much more is swapped out at the end of a watch than at its beginning.
func swapped(f *Finding) float64 { return float64(f.Last.Swapped) - float64(f.First.Swapped) }

// reason lists what the verdict rests on, the most important first.
func (w *Watch) reason(f *Finding, v []verdict) []Note {
	m := f.Measure
	said := v[m]
	grew := Note{Kind: Grew, Size: said.growth, Time: f.To - f.From}
	switch {
	case f.Label == Churns:
		return []Note{{Kind: Churned}}
	case f.Label == Sawtooth:
		return append(slices.Clip(said.notes), Note{Kind: LowsStay})
	case f.Label == Steady && len(said.notes) > 0 && said.growth > 0:
		return append([]Note{grew}, said.notes...)
	case f.Label == Steady && len(said.notes) > 0:
		return said.notes
	case f.Label == Steady && said.growth <= -float64(w.opts.MinGrowth):
		return []Note{{Kind: Shrank, Size: -said.growth, Time: f.To - f.From}}
	case f.Label == Steady && said.fell >= float64(w.opts.MinGrowth):
		return []Note{{Kind: Wavered, Size: said.fell}}
	case f.Label == Steady:
		return []Note{{Kind: DidNotGrow}}
	}
	r := []Note{grew}
	if f.AliveOf > 0 && f.Label >= Grows && !said.replaced && m != Reserved {
		r = append(r, Note{Kind: StillAlive})
	}
	if f.Label >= Grows && !said.troughs && said.fell == 0 {
		r = append(r, Note{Kind: NeverShrank})
	}
	r = append(r, said.notes...)
	if out := swapped(f); m == Resident && out >= said.growth/10 {
		r = append(r, Note{Kind: SwappedOut, Size: min(out, said.growth)})
	}
	switch resident := v[Resident].growth; {
	case m == Resident && !f.What.Charged() && inside(v) && f.Label >= Grows:
		r = append(r, Note{Kind: InsideMappings})
	case (m == Mapped || m == Writable) && resident < said.growth/2:
		r = append(r, Note{Kind: ResidentLess, Size: max(0, resident)})
	}
	return r
}
