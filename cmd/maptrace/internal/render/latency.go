package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/latency"
	"github.com/maptrace/maptrace/tracer/space"
)

// latencies are the report's sections.
type latencies struct{ *attribution.Latencies }

// callSize is the length of the range that a call was about, where it names one.
func callSize(c *attribution.TimedCall) (uint64, bool) {
	switch {
	case c.Call.Op == space.OpMremap:
		return c.Call.Args[2], true
	case c.Call.Op == 0, c.Call.Op == space.OpBrk, c.Call.Op == space.OpShmat, c.Call.Op == space.OpShmdt,
		c.Call.Sub == space.SubProcessMadvise, c.Call.Sub == space.SubMlockall, c.Call.Sub == space.SubMunlockall:
		return 0, false
	}
	return asked(&c.Call).Len(), true
}

// quantiles are those that are printed.
var quantiles = [...]float64{0.5, 0.9, 0.99, 0.999}

// WriteLatencies writes tables, histograms and the longest calls, with so many
// frames of their stacks; 0 for all.
func WriteLatencies(w io.Writer, all *attribution.Latencies, clock Clock, frames int) error {
	l := latencies{all}
	b := l.appendTables(nil)
	for i := range l.Ops {
		if o := &l.Ops[i]; max(o.Duration.N, o.Hold.N) >= worthHistogram {
			b = appendHistograms(b, o)
		}
	}
	b = l.appendSites(b)
	b = l.appendWorst(b, clock, frames)
	b = l.appendMissing(b)
	_, err := w.Write(b)
	return err
}

// LatencyTables are the lines of the tables of what was counted, without what was sampled.
func LatencyTables(all *attribution.Latencies) []string {
	return strings.Split(strings.TrimSuffix(string(latencies{all}.appendTables(nil)), "\n"), "\n")
}

// appendTables appends how many calls there were, and the tables of how long they took and
// of the lock.
func (l latencies) appendTables(b []byte) []byte {
	calls, slow := l.Calls()
	b = fmt.Appendf(b, "%s of %s in %.1f s, %d of them took %s or more\n",
		units.Count(calls, "mapping call"), units.Count(uint64(l.Processes), "process"), l.Measured.Seconds(), slow, units.Nanos(uint64(l.Slow)))
	if calls > 0 {
		b = append(b, "\nDuration of the calls\n"...)
		b = appendRowHead(b, "FAILED")
		for i := range l.Ops {
			if o := &l.Ops[i]; o.Call {
				b = appendRow(b, o.Name, strconv.FormatUint(o.Failed, 10), &o.Duration)
			}
		}
	}
	return l.appendLock(b)
}

// worthHistogram is how many there must be for a histogram.
const worthHistogram = 10

// appendLock appends the tables of what was waited for and held.
func (l latencies) appendLock(b []byte) []byte {
	waited := false
	for i := range l.Ops {
		waited = waited || l.Ops[i].Wait.N > 0
	}
	if !waited {
		return append(b, "\nThe mmap lock was taken by nobody.\n"...)
	}
	b = append(b, "\nWaiting for the mmap lock\n"...)
	b = appendRowHead(b, "")
	for i := range l.Ops {
		if o := &l.Ops[i]; o.Wait.N > 0 {
			b = appendRow(b, o.Name, "", &o.Wait)
		}
	}
	b = append(b, "\nHolding it; WRITE is the time that it was held for writing\n"...)
	b = appendRowHead(b, "WRITE")
	for i := range l.Ops {
		if o := &l.Ops[i]; o.Hold.N > 0 {
			b = appendRow(b, o.Name, units.Nanos(o.WriteHold), &o.Hold)
		}
	}
	return b
}

func appendRowHead(b []byte, extra string) []byte {
	return fmt.Appendf(b, "%-15s %9s %6s %6s %6s %6s %6s %6s %6s\n",
		"OPERATION", "COUNT", extra, "TOTAL", "P50", "P90", "P99", "P99.9", "MAX")
}

func appendRow(b []byte, name, extra string, h *latency.Hist) []byte {
	b = fmt.Appendf(b, "%-15s %9d %6s %6s", name, h.N, extra, units.Nanos(h.Sum))
	for _, q := range quantiles {
		b = fmt.Appendf(b, " %6s", units.Nanos(h.Quantile(q)))
	}
	return fmt.Appendf(b, " %6s\n", units.Nanos(h.Max))
}

// barWidth is the length of the longest bar.
const barWidth = 10

// appendHistograms appends the histograms of one operation side by side.
func appendHistograms(b []byte, o *tracer.Latency) []byte {
	hists := []struct {
		name string
		h    *latency.Hist
	}{{"duration", &o.Duration}, {"wait", &o.Wait}, {"hold", &o.Hold}}
	counts := make([]map[uint64]uint64, len(hists))
	most := make([]uint64, len(hists))
	from, to := ^uint64(0), uint64(0)
	for i, c := range hists {
		counts[i] = make(map[uint64]uint64)
		for _, oct := range c.h.Octaves() {
			counts[i][oct.From] = oct.N
			most[i] = max(most[i], oct.N)
			if oct.N > 0 {
				from, to = min(from, oct.From), max(to, oct.To)
			}
		}
	}
	b = append(b, '\n')
	line := fmt.Appendf(nil, "%-16s", o.Name)
	for i, c := range hists {
		if most[i] > 0 {
			line = fmt.Appendf(line, " %8s %-*s", "count", barWidth+1, c.name)
		}
	}
	b = endLine(append(b, line...))
	for at := from; at < to; at = max(at<<1, 2) {
		line = fmt.Appendf(line[:0], "%6s .. %6s", units.Nanos(at), units.Nanos(max(at<<1, 2)))
		for i := range hists {
			if most[i] == 0 {
				continue
			}
			n := counts[i][at]
			// Whatever there is shows.
			bar := int((n*barWidth + most[i] - 1) / most[i])
			line = fmt.Appendf(line, " %8d |%-*s", n, barWidth, strings.Repeat("@", bar))
		}
		b = endLine(append(b, line...))
	}
	return b
}

// appendSites appends the table of functions.
func (l latencies) appendSites(b []byte) []byte {
	if len(l.Sites) == 0 {
		return b
	}
	b = fmt.Appendf(b, "\nBy site, estimated from %d calls, a random sample where there were more\n", l.Sent)
	b = fmt.Appendf(b, "%9s %6s %6s %6s %6s %6s %6s %s\n", "CALLS", "TOTAL", "P50", "P99", "MAX", "WAIT", "HOLD", "OPERATION AND SITE")
	for i := range l.Sites {
		s := &l.Sites[i]
		b = fmt.Appendf(b, "%9d %6s %6s %6s %6s %6s %6s %s %s\n", s.Duration.N, units.Nanos(s.Duration.Sum),
			units.Nanos(s.Duration.Quantile(0.5)), units.Nanos(s.Duration.Quantile(0.99)), units.Nanos(s.Duration.Max),
			units.Nanos(s.Wait), units.Nanos(s.Hold), s.Op, table.Escape(s.Function.Short))
	}
	sum := func(s *attribution.SiteSum, what string) {
		if s.Calls > 0 {
			b = fmt.Appendf(b, "%9d %6s %6s %6s %6s %6s %6s %s\n", s.Calls, units.Nanos(s.Duration), "-", "-", "-",
				units.Nanos(s.Wait), units.Nanos(s.Hold), what)
		}
	}
	sum(&l.Rest, units.Count(uint64(l.Rest.Sites), "other site"))
	sum(&l.NoSite, "of which no stack tells")
	return b
}

// appendWorst appends the longest calls, and then their stacks, each once.
func (l latencies) appendWorst(b []byte, clock Clock, frames int) []byte {
	if len(l.Worst) == 0 {
		return b
	}
	b = append(b, "\nThe longest calls\n"...)
	b = fmt.Appendf(b, "%-15s %-13s %-11s %9s %8s %6s %6s %5s\n", "TIME", "PID/TID", "OPERATION", "SIZE", "DURATION", "WAIT", "HOLD", "STACK")
	numbers := make(map[string]int)
	var stacks []*attribution.Stack
	for i := range l.Worst {
		c := &l.Worst[i]
		size := "-"
		if n, ok := callSize(c); ok {
			size = strconv.FormatUint(n>>10, 10) + "K"
		}
		key := strings.Join(fullNames(c.Stack.Frames), "\n") + "\x00" + c.Stack.End
		if numbers[key] == 0 {
			stacks = append(stacks, &c.Stack)
			numbers[key] = len(stacks)
		}
		b = fmt.Appendf(b, "%s %-13s %-11s %9s %8s %6s %6s %5s", clock.Text(c.Time),
			string(appendIDs(nil, c.PID, c.NSPID, c.TID)), c.Name, size, units.Nanos(c.Duration), units.Nanos(c.Wait), units.Nanos(c.Hold),
			"#"+strconv.Itoa(numbers[key]))
		if e := errnoOf(&c.Call); e != 0 {
			b = append(b, " = "+errnoName(e)...)
		}
		b = append(b, '\n')
	}
	for i, s := range stacks {
		b = fmt.Appendf(b, "\n    #%d\n", i+1)
		if len(s.Frames) == 0 {
			b = append(b, "        (not known)\n"...)
			continue
		}
		b = appendFrames(b, s.Frames, s.End, frames, false)
	}
	return b
}

// appendMissing says what the figures lack, and how good they are.
func (l latencies) appendMissing(b []byte) []byte {
	b = append(b, "\nNumbers, totals and maxima are of every call; percentiles at most 6.25 % off.\n"...)
	for _, m := range []struct {
		n    uint64
		what string
	}{
		{l.Missing.Dropped, "calls were not reported one by one, by lack of room: the longest may be among them"},
		{l.Missing.Unstacked, "calls were reported without their stack, by lack of room"},
		{l.Missing.Unmeasured, "calls or holds of the lock were not measured, by lack of kernel memory"},
	} {
		if m.n > 0 {
			b = fmt.Appendf(b, "%d %s.\n", m.n, m.what)
		}
	}
	if l.Accuracy != "exact" {
		b = fmt.Appendf(b, "Stacks were walked with mappings whose accuracy is: %s.\n", table.Escape(l.Accuracy))
	}
	return b
}
