package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/latency"
	"github.com/maptrace/maptrace/tracer/site"
)

// latOptions are the flags of lat.
type latOptions struct {
	attachOptions
	slow   time.Duration
	top    int
	frames int
}

func newLat(s streams) *cobra.Command {
	var o latOptions
	cmd := &cobra.Command{
		Use:   "lat [flags] {-p PID | --comm NAME | --cgroup PATH | --container NAME | -- CMD [ARG…]}",
		Short: "Measure how long mapping calls take, and the mmap lock",
		Long: `lat measures for a while (or until ^C, or until the command ends) how long the
mapping calls of the traced processes take, how long they wait for the mmap lock
and how long they hold it. It prints percentiles and histograms by operation,
which code the time goes to, and the longest calls with their stacks.

Every call is counted, in the kernel: numbers, totals and maxima are exact, and
percentiles are at most 6.25 % off. Which code makes the calls is estimated: of
each operation 250 calls a second are sent with their stacks, and as many of those
that --slow calls slow; where there are more, a random sample. The
longest are always sent. A call's duration includes what measuring it takes,
less than a microsecond.

Operations in parentheses are no mapping calls: holds of the lock by page faults,
of which since Linux 6.4 mostly the first in a new mapping takes it; by other system
calls of the process; by its end; and from outside ("remote"): by readers of
/proc/PID/smaps, by the kernel's own threads, and by maptrace itself when it begins. Of clone, only what
copies the address space is measured, as fork.`,
		Example: `  maptrace lat -p 1234
  maptrace lat --for 1m --slow 1ms --top 20 --comm postgres
  maptrace lat -o json -- ./server --port 80`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.command(cmd, args); err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			return o.printing(s, func(out io.Writer) error { return runLat(cmd.Context(), s, &o, out) })
		},
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&o.duration, "for", 10*time.Second, "measure for this long; 0, and a command, for as long as it runs")
	f.DurationVar(&o.slow, "slow", bpf.DefaultSlow, "what a slow call takes at least")
	f.IntVar(&o.top, "top", 10, "show this many of the longest calls, and of the sites")
	f.IntVar(&o.frames, "frames", 16, "print this many frames of a stack; 0 for all")
	return cmd
}

// check finds what is wrong with the flags before anything is done.
func (o *latOptions) check() error {
	if err := o.attachOptions.check(); err != nil {
		return err
	}
	switch {
	case o.slow <= 0:
		return usagef("--slow %s: want a time", o.slow)
	case o.top < 1:
		return usagef("--top %d: want at least 1", o.top)
	case o.frames < 0:
		return usagef("--frames cannot be negative")
	}
	return nil
}

// runLat measures, and prints what there is.
func runLat(ctx context.Context, s streams, o *latOptions, out io.Writer) (err error) {
	m := &meter{o: o, sites: site.New(site.Options{}), bySite: make(map[siteKey]*timedSite), classes: make(map[classKey]*latency.Class)}
	defer func() { err = errors.Join(err, m.sites.Close()) }()
	opts := tracer.Options{OnChange: m.change, OnIdle: m.idle, Sites: m.sites, KeepExited: 512}
	kernel := tracer.LiveOptions{Latency: &bpf.LatencyOptions{Slow: o.slow}}
	if m.attached, err = attach(s, &o.attachOptions, kernel, &opts); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	m.began = time.Now()
	return m.run(ctx, func() error { return m.end(out) })
}

// meter is one run of lat.
type meter struct {
	*attached
	o     *latOptions
	sites *site.Sites
	began time.Time

	sent   uint64
	worst  []timedCall // the longest so far, the longest first
	raised uint64      // from how long on a call is always told
	bySite map[siteKey]*timedSite

	classes map[classKey]*latency.Class
}

// timedCall is a call with its stack yet to be named.
type timedCall struct {
	render.TimedCall
	site uint32
}

// siteKey is an operation of a function.
type siteKey struct {
	op    string
	group uint32
}

// timedSite is what is added up for it.
type timedSite struct {
	render.TimedSite
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

// change takes what the tracer tells. It is called from within the loop.
func (m *meter) change(c *tracer.Change) {
	switch c.Kind {
	case tracer.KindExit:
		delete(m.unread, c.TGID)
	case tracer.KindTiming:
		m.timed(c)
	}
}

// timed takes one call.
func (m *meter) timed(c *tracer.Change) {
	m.sent++
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

// class is the calls of which a random sample was sent: those of the same operation, as
// slow or not.
func (m *meter) class(t *tracer.Timing) *latency.Class {
	key := classKey{t.Name, t.Slow}
	c := m.classes[key]
	if c == nil {
		c = new(latency.Class)
		m.classes[key] = c
	}
	return c
}

// siteOf is the site of a call, nil if it is not known, or there are too many.
func (m *meter) siteOf(c *tracer.Change) *timedSite {
	if c.Site == 0 {
		return nil
	}
	key := siteKey{c.Timing.Name, m.sites.Group(c.Site)}
	s := m.bySite[key]
	if s == nil {
		if len(m.bySite) >= maxTimedSites {
			return nil
		}
		s = &timedSite{TimedSite: render.TimedSite{Op: key.op}, parts: make(map[*latency.Class]*latency.Part)}
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
func (m *meter) rank(c *tracer.Change) {
	at, _ := slices.BinarySearchFunc(m.worst, c.Timing.Duration, func(w timedCall, d uint64) int {
		return cmp.Compare(d, w.Duration)
	})
	if at >= m.o.top {
		return
	}
	call := render.TimedCall{Timing: c.Timing, Time: c.Time, PID: c.TGID, TID: c.TID, Call: c.Call}
	if c.Process != nil {
		call.NSPID = c.Process.Inner
	}
	m.worst = slices.Insert(m.worst, at, timedCall{call, c.Site})
	m.worst = m.worst[:min(len(m.worst), m.o.top)]
}

// idle raises what is always told, now that as many longer ones are known.
func (m *meter) idle() error {
	if n := len(m.worst); n == m.o.top && m.worst[n-1].Duration > m.raised {
		m.raised = m.worst[n-1].Duration
		if err := m.live.RaiseWorst(m.raised); err != nil {
			return err
		}
	}
	return m.tellReady()
}

// end prints what was measured.
func (m *meter) end(out io.Writer) error {
	l := render.Latencies{
		Measured: time.Since(m.began), Slow: m.o.slow, Sent: m.sent,
	}
	var err error
	if l.Ops, err = m.live.Latencies(); err != nil {
		return err
	}
	slices.SortStableFunc(l.Ops, func(a, b tracer.Latency) int {
		return cmp.Or(cmp.Compare(b.Duration.Sum, a.Duration.Sum), cmp.Compare(b.Hold.Sum, a.Hold.Sum))
	})
	if l.Missing, err = m.live.TimingCounters(); err != nil {
		return err
	}
	report := m.tr.Report()
	l.Processes, l.Picture = int(report.Stats.Processes), report.Picture.String()
	m.name(&l)
	w := bufio.NewWriterSize(out, 64<<10)
	if m.o.output == "json" {
		err = render.WriteLatenciesJSON(w, &l, m.clock, time.Now())
	} else {
		err = render.WriteLatencies(w, &l, m.clock, m.o.frames)
	}
	return errors.Join(err, w.Flush())
}

// name puts the sites in order, and gives what is shown its names.
func (m *meter) name(l *render.Latencies) {
	all := make([]*timedSite, 0, len(m.bySite))
	for _, s := range m.bySite {
		s.estimate()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *timedSite) int {
		return cmp.Or(cmp.Compare(b.Duration.Sum, a.Duration.Sum), cmp.Compare(a.site, b.site), cmp.Compare(a.Op, b.Op))
	})
	var known render.SiteSum
	for i, s := range all {
		known.Add(&s.TimedSite)
		if i >= m.o.top {
			l.Rest.Add(&s.TimedSite)
			continue
		}
		s.Stack, s.Function = m.stack(s.site), "an unknown place"
		if line, ok := m.sites.Blamed(s.site); ok {
			s.Function = line.String()
		}
		l.Sites = append(l.Sites, s.TimedSite)
	}
	l.NoSite = unknown(l.Ops, &known)
	for i := range m.worst {
		c := &m.worst[i]
		c.Stack = m.stack(c.site)
		l.Worst = append(l.Worst, c.TimedCall)
	}
}

// unknown is what all calls took beyond those whose sites are known: the calls
// after the last of their kind that was told, and those without a stack.
func unknown(ops []tracer.Latency, known *render.SiteSum) render.SiteSum {
	var all render.SiteSum
	for i := range ops {
		if o := &ops[i]; o.Call {
			all.Calls += o.Duration.N
			all.Duration += o.Duration.Sum
			all.Wait += o.Wait.Sum
			all.Hold += o.Hold.Sum
		}
	}
	return render.SiteSum{
		Calls: all.Calls - known.Calls, Duration: all.Duration - known.Duration,
		Wait: all.Wait - known.Wait, Hold: all.Hold - known.Hold,
	}
}

// stack names a stack.
func (m *meter) stack(id uint32) render.Stack {
	if id == 0 {
		return render.Stack{}
	}
	var s render.Stack
	s.Frames, s.End = namedStack(m.sites, id)
	return s
}
