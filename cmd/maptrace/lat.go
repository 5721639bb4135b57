package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/site"
)

// latOptions are the flags of lat.
type latOptions struct {
	attachOptions
	memoryOptions
	slow   time.Duration
	top    int
	frames int
}

func newLat(s streams) *cobra.Command {
	var o latOptions
	cmd := &cobra.Command{
		Use:   "lat [flags] {PID… | --comm NAME | -- CMD [ARG…]}",
		Short: "Measure how long mapping calls take, and the mmap lock",
		Long: `lat measures for a while (or until ^C, or until the command ends) how long the
mapping calls of the traced processes take, how long they wait for the mmap lock
and how long they hold it. It prints percentiles and histograms by operation,
which code the time goes to, and the longest calls with their stacks.

Every call is counted, in the kernel: numbers, totals and maxima are exact, and
percentiles are at most 6.25 % off. Which code makes the calls is estimated: of
each operation 250 calls a second are sent with their stacks, and as many of
those that --slow calls slow; where there are more, a random sample. The longest
are always sent. A call's duration includes what measuring it takes, less than a
microsecond.

Operations in parentheses are no mapping calls: holds of the lock by page
faults, of which since Linux 6.4 mostly the first in a new mapping takes it; by
other system calls of the process; by its end; and from outside ("remote"): by
readers of /proc/PID/smaps, by the kernel's own threads, and by maptrace itself
when it begins. Of clone, only what copies the address space is measured, as
fork.

More: "maptrace help latency", "maptrace help stacks", "maptrace help targets".`,
		Example: `  maptrace lat 1234
  maptrace lat --for 1m --slow 1ms --top 20 --comm postgres
  maptrace lat --json -- ./server --port 80`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.arguments(cmd, args); err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			return o.printing(s, func(out io.Writer) error { return runLat(cmd.Context(), s, &o, out) })
		},
	}
	o.attachOptions.addFlags(cmd)
	o.memoryOptions.addFlags(cmd, "single calls, stacks and the names of their code")
	f := cmd.Flags()
	addSpanFlag(cmd, span(&o.duration, 10*time.Second), "measure for this `TIME`; 0, and a command, for as long as it runs")
	f.Var(span(&o.slow, tracer.DefaultSlow), "slow", "a call is slow that takes this `TIME` or more")
	f.IntVar(&o.top, "top", 10, "show `N` of the longest calls, and of the sites")
	f.IntVar(&o.frames, "frames", 16, "print `N` frames of a stack; 0 for all")
	group(cmd, groupWhat, "slow")
	group(cmd, groupOutput, "top", "frames")
	addTargetCompletion(cmd)
	return cmd
}

// check finds what is wrong with the flags before anything is done.
func (o *latOptions) check() error {
	if err := cmp.Or(o.attachOptions.check(), o.memoryOptions.check()); err != nil {
		return err
	}
	switch {
	case o.slow <= 0:
		return usagef("--slow 0: want a time, as 100us")
	case o.top < 1:
		return usagef("--top %d: want at least 1", o.top)
	case o.frames < 0:
		return usagef("--frames %d: want a number of frames, or 0 for all", o.frames)
	}
	return nil
}

// runLat measures, and prints what there is.
func runLat(ctx context.Context, s streams, o *latOptions, out io.Writer) (err error) {
	memory := budget.OfTrace(o.bytes())
	sites := site.New(site.Options{MaxBytes: memory.Stacks, MaxFileBytes: int(o.bytes()), Calls: o.calls})
	defer func() { err = errors.Join(err, sites.Close()) }()
	seen, s := o.openLive(s, true)
	defer seen.close()
	m := &meter{o: o, live: seen, Timings: attribution.NewTimings(sites, o.top)}
	opts := tracer.Options{KeepExited: 512, Memory: memory.Extents, Rows: memory.Rows}
	kernel := tracer.LiveOptions{Latency: &tracer.LatencyOptions{Slow: o.slow}}
	if m.attached, err = attach(s, &o.attachOptions, kernel, opts, sites); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	m.began = m.Now()
	return m.run(ctx, tracer.RunOptions{Sinks: []tracer.Sink{m}}, func() error { return m.end(out) })
}

// meter is one run of lat: a sink.
type meter struct {
	*attached
	*attribution.Timings
	o      *latOptions
	live   *liveView
	began  uint64
	raised uint64 // from how long on a call is always told
}

// Record implements tracer.Sink: nothing is sampled.
func (m *meter) Record(*event.Record) {}

// Idle implements tracer.Sink: it raises what is always told, now that as many longer
// ones are known.
func (m *meter) Idle() error {
	if longest := m.Longest(); longest > m.raised {
		m.raised = longest
		if err := m.Info().Latency.RaiseWorst(longest); err != nil {
			return err
		}
	}
	if !m.live.isDue(m.Now()) {
		return nil
	}
	return m.show()
}

// show shows what was counted so far.
func (m *meter) show() error {
	ops, err := m.Info().Latency.Latencies()
	if err != nil {
		return err
	}
	l := attribution.Counted(ops)
	l.Measured, l.Slow, l.Processes = time.Duration(m.Now()-m.began), m.o.slow, len(m.PIDs())
	head := tui.Head{Command: "maptrace lat", About: m.about(), Time: elapsed(l.Measured, m.o.duration), Foot: "^C for the answer so far"}
	if m.live.screen {
		m.live.Show(&tui.Tables{Head: head, Rows: render.LatencyTables(&l)})
		return nil
	}
	calls, slow := l.Calls()
	m.live.Show(&tui.Status{
		Text: fmt.Sprintf("%s, %s: %s, %d slow", head.About, head.Time, units.Count(calls, "mapping call"), slow), Foot: head.Foot,
	})
	return nil
}

// end prints what was measured.
func (m *meter) end(out io.Writer) error {
	m.live.close()
	now := m.Now()
	ops, err := m.Info().Latency.Latencies()
	if err != nil {
		return err
	}
	l := m.Results(ops)
	l.Measured, l.Slow = time.Duration(now-m.began), m.o.slow
	if l.Missing, err = m.Info().Latency.TimingCounters(); err != nil {
		return err
	}
	report := m.Report()
	l.Processes, l.Accuracy = int(report.Stats.Processes), report.Picture.String()
	w := bufio.NewWriterSize(out, 64<<10)
	switch m.o.output {
	case jsonForm:
		err = render.WriteLatenciesJSON(w, &l, m.clock, m.clock.Time(now))
	case csvForm:
		err = render.WriteLatenciesCSV(w, &l)
	default:
		err = render.WriteLatencies(w, &l, m.clock, m.o.frames)
	}
	return errors.Join(err, w.Flush())
}
