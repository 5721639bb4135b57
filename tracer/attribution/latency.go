package attribution

import (
	"cmp"
	"slices"
	"time"

	"github.com/maptrace/maptrace/tracer/latency"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Latencies are what is to be said of how long calls took. Names are as the program has
// them.
type Latencies struct {
	Measured  time.Duration
	Processes int
	Slow      time.Duration // what a slow call takes at least
	Ops       []model.Latency
	// Sites are the functions that made the calls, by what their calls took, the
	// most first; Rest are those that are not listed, and NoSite is what is left of
	// all calls.
	Sites  []TimedSite
	Rest   SiteSum
	NoSite SiteSum
	// Worst are the longest calls, the longest first.
	Worst []TimedCall
	// Sent is how many calls were sampled: all figures of sites rest on them.
	Sent     uint64
	Missing  model.TimingCounters
	Accuracy string // how far the trees that stacks were walked with can be trusted
}

// TimedSite is what one function's calls of one operation took, estimated from
// those of them that were sampled.
type TimedSite struct {
	Op       string
	Function stack.Name
	Stack    Stack        // of the longest of its calls
	Duration latency.Hist // its maximum is that of the sampled calls
	Wait     uint64       // ns
	Hold     uint64
	Sampled  uint64 // calls that all this is estimated from
}

// SiteSum is what calls took together, in ns.
type SiteSum struct {
	Sites int
	latency.Sums
}

// Add adds a site's calls.
func (s *SiteSum) Add(t *TimedSite) {
	s.Sites++
	s.Sums = s.Plus(latency.Sums{Calls: t.Duration.N, Duration: t.Duration.Sum, Wait: t.Wait, Hold: t.Hold})
}

// TimedCall is one call.
type TimedCall struct {
	*model.Timing
	Time     uint64 // when it began
	PID, TID int
	NSPID    int // the process' number in its own pid namespace, where that is another
	Call     space.Call
	Stack    Stack
}

// Calls is how many calls there were, and how many of them were slow.
func (l *Latencies) Calls() (calls, slow uint64) {
	for i := range l.Ops {
		if l.Ops[i].Call {
			calls += l.Ops[i].Duration.N
			slow += l.Ops[i].Slow
		}
	}
	return calls, slow
}

// Timings attributes the time that calls take to the functions that make them. It takes
// changes of KindTiming.
type Timings struct {
	names   Names
	top     int
	sent    uint64
	worst   []timedCall // the longest so far, the longest first
	bySite  map[siteKey]*timedSite
	classes map[classKey]*latency.Class
}

// timedCall is a call with its stack yet to be named.
type timedCall struct {
	TimedCall
	site uint32
}

// siteKey is an operation of a function.
type siteKey struct {
	op    string
	group uint32
}

// timedSite is what is added up for it.
type timedSite struct {
	TimedSite
	site    uint32 // of its longest call
	longest uint64 // what that took, ns
	parts   map[*latency.Class]*latency.Part
}

// classKey is an operation's calls, the slow ones or the others.
type classKey struct {
	op   string
	slow bool
}

// maxTimedSites bounds the functions that are told apart: a program may make as
// many as it likes.
const maxTimedSites = 10_000

// NewTimings returns a Timings that keeps so many of the longest calls, and lists so
// many sites.
func NewTimings(names Names, top int) *Timings {
	return &Timings{names: names, top: top, bySite: make(map[siteKey]*timedSite), classes: make(map[classKey]*latency.Class)}
}

// Change takes what the tracer tells.
func (m *Timings) Change(c *model.Change) {
	if c.Kind != model.KindTiming {
		return
	}
	if m.sent++; m.sent%useEvery == 0 {
		m.use()
	}
	if c.Timing.Slow {
		m.rank(c)
	}
	class := m.class(c.Timing)
	var part *latency.Part
	if s := m.siteOf(c); s != nil {
		part = s.parts[class]
		if part == nil {
			part = new(latency.Part)
			s.parts[class] = part
		}
	}
	class.Add(part, c.Timing.Sums(), c.Timing.Weight, c.Timing.Skipped)
}

// useEvery is after how many sampled calls those that are listed are said to be in use:
// fewer than make what is kept of stacks change.
const useEvery = 4096

// use has the stacks kept that results show: of the longest calls, and of each site.
func (m *Timings) use() {
	for i := range m.worst {
		m.names.Use(m.worst[i].site)
	}
	for _, s := range m.bySite {
		m.names.Use(s.site)
	}
}

// class is the calls of which a random sample was sent: those of the same operation, as
// slow or not.
func (m *Timings) class(t *model.Timing) *latency.Class {
	key := classKey{t.Name, t.Slow}
	c := m.classes[key]
	if c == nil {
		c = new(latency.Class)
		m.classes[key] = c
	}
	return c
}

// siteOf is the site of a call, nil if it is not known, or there are too many.
func (m *Timings) siteOf(c *model.Change) *timedSite {
	if c.Site == 0 {
		return nil
	}
	key := siteKey{c.Timing.Name, m.names.Group(c.Site)}
	s := m.bySite[key]
	if s == nil {
		if len(m.bySite) >= maxTimedSites {
			return nil
		}
		s = &timedSite{TimedSite: TimedSite{Op: key.op}, parts: make(map[*latency.Class]*latency.Part)}
		m.bySite[key] = s
	}
	if c.Timing.Duration >= s.longest {
		s.site, s.longest = c.Site, c.Timing.Duration
	}
	s.Sampled++
	return s
}

// estimate makes a site's figures of its sampled calls and its share in the others.
func (s *timedSite) estimate() {
	for class, part := range s.parts {
		sums := class.Share(part)
		s.Duration.AddShare(part, sums.Calls, sums.Duration)
		s.Wait += sums.Wait
		s.Hold += sums.Hold
	}
}

// rank keeps a call if it is among the longest.
func (m *Timings) rank(c *model.Change) {
	at, _ := slices.BinarySearchFunc(m.worst, c.Timing.Duration, func(w timedCall, d uint64) int {
		return cmp.Compare(d, w.Duration)
	})
	if at >= m.top {
		return
	}
	call := TimedCall{Timing: c.Timing, Time: c.Time, PID: c.TGID, TID: c.TID, Call: *c.Call}
	if c.Process != nil {
		call.NSPID = c.Process.Inner
	}
	m.worst = slices.Insert(m.worst, at, timedCall{call, c.Site})
	m.worst = m.worst[:min(len(m.worst), m.top)]
}

// Longest is what a call must take, in ns, to be among the longest: 0 while there are not
// as many as are kept.
func (m *Timings) Longest() uint64 {
	if n := len(m.worst); n == m.top {
		return m.worst[n-1].Duration
	}
	return 0
}

// Counted are the results without what was sampled: those of a moment amid.
func Counted(ops []model.Latency) Latencies {
	slices.SortStableFunc(ops, func(a, b model.Latency) int {
		return cmp.Or(cmp.Compare(b.Duration.Sum, a.Duration.Sum), cmp.Compare(b.Hold.Sum, a.Hold.Sum))
	})
	return Latencies{Ops: ops}
}

// Results puts everything in order, and gives it its names. Ops are what all calls took,
// as counted. Call it once.
func (m *Timings) Results(ops []model.Latency) Latencies {
	l := Counted(ops)
	l.Sent = m.sent
	all := make([]*timedSite, 0, len(m.bySite))
	for _, s := range m.bySite {
		s.estimate()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *timedSite) int {
		return cmp.Or(cmp.Compare(b.Duration.Sum, a.Duration.Sum), cmp.Compare(a.site, b.site), cmp.Compare(a.Op, b.Op))
	})
	var known SiteSum
	for i, s := range all {
		known.Add(&s.TimedSite)
		if i >= m.top {
			l.Rest.Add(&s.TimedSite)
			continue
		}
		s.Stack, s.Function = m.stack(s.site), cmp.Or(m.names.Function(s.site), stack.Plain(UnknownPlace))
		l.Sites = append(l.Sites, s.TimedSite)
	}
	l.NoSite.Sums = unknown(l.Ops, known.Sums)
	for i := range m.worst {
		c := &m.worst[i]
		c.Stack = m.stack(c.site)
		l.Worst = append(l.Worst, c.TimedCall)
	}
	return l
}

// stack names a stack.
func (m *Timings) stack(site uint32) (s Stack) {
	if site != 0 {
		s.Frames, s.End = m.names.StackNames(site)
	}
	return s
}

// unknown is what all calls took beyond those whose sites are known.
func unknown(ops []model.Latency, known latency.Sums) latency.Sums {
	var all latency.Sums
	for i := range ops {
		if o := &ops[i]; o.Call {
			all = all.Plus(latency.Sums{Calls: o.Duration.N, Duration: o.Duration.Sum, Wait: o.Wait.Sum, Hold: o.Hold.Sum})
		}
	}
	return latency.Sums{
		Calls: all.Calls - known.Calls, Duration: all.Duration - known.Duration,
		Wait: all.Wait - known.Wait, Hold: all.Hold - known.Hold,
	}
}
