package render

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/space"
)

// The tables of --csv. Their columns have the names that the members of --json have, and the
// same units; new ones come behind the others.

// textCSV is a column of text, which is not known where it is empty.
func textCSV[R any](key string, value func(r R) string) table.Column[R] {
	return table.Column[R]{Key: key, Value: func(r R) table.Value {
		if s := value(r); s != "" {
			return table.Text(s)
		}
		return table.Value{}
	}}
}

func uintCSV[R any](key string, value func(r R) uint64) table.Column[R] {
	return table.Column[R]{Key: key, Value: func(r R) table.Value { return table.Uint(value(r)) }}
}

func intCSV[R any](key string, value func(r R) int64) table.Column[R] {
	return table.Column[R]{Key: key, Value: func(r R) table.Value { return table.Int(value(r)) }}
}

func timeCSV(at time.Time) string { return at.Format(time.RFC3339Nano) }

// hexCSV is an address; nothing for 0.
func hexCSV(n uint64) string {
	if n == 0 {
		return ""
	}
	return "0x" + strconv.FormatUint(n, 16)
}

// EventsCSV writes changes.
type EventsCSV []table.Column[*Event]

// NewEventsCSV has the columns of changes.
func NewEventsCSV(clock Clock) EventsCSV {
	return EventsCSV{
		textCSV("time", func(e *Event) string { return timeCSV(clock.Time(e.Time)) }),
		textCSV("event", func(e *Event) string { return e.Op }),
		uintCSV("pid", func(e *Event) uint64 { return uint64(e.PID) }),
		uintCSV("tid", func(e *Event) uint64 { return uint64(e.TID) }),
		textCSV("address", func(e *Event) string { return hexCSV(e.Range.Start) }),
		uintCSV("size", func(e *Event) uint64 { return e.Range.Len() }),
		intCSV("delta", func(e *Event) int64 { return e.Delta }),
		textCSV("mode", func(e *Event) string {
			if !e.Mapped {
				return ""
			}
			return e.Now.Mode.String()
		}),
		textCSV("kind", func(e *Event) string {
			if k := e.Kind(); k != 0 {
				return k.String()
			}
			return ""
		}),
		textCSV("mapping", (*Event).Name),
		textCSV("errno", func(e *Event) string {
			if e.Errno == 0 {
				return ""
			}
			return errnoName(e.Errno)
		}),
		textCSV("detail", func(e *Event) string { return e.Detail }),
		textCSV("stack", func(e *Event) string { return strings.Join(e.Stack, ";") }),
	}
}

// AppendHeader appends the names of the columns.
func (c EventsCSV) AppendHeader(dst []byte) []byte { return table.AppendCSVHeader(dst, c) }

// Append appends the line of a change.
func (c EventsCSV) Append(dst []byte, e *Event) []byte { return table.AppendCSV(dst, c, e) }

// regionRow is a row of the table of a process.
type regionRow struct {
	RegionObject
	of   *TableObject
	gone bool
}

// WriteTablesCSV writes the tables of processes, with what is gone from them.
func WriteTablesCSV(w io.Writer, spaces []tracer.SpaceReport, tree func(id uint64) *space.Space, now time.Time) error {
	columns := []table.Column[regionRow]{
		uintCSV("pid", func(r regionRow) uint64 { return uint64(r.of.PID) }),
		textCSV("comm", func(r regionRow) string { return string(r.of.Comm) }),
		textCSV("picture", func(r regionRow) string { return r.of.Picture }),
		textCSV("address", func(r regionRow) string { return hexCSV(uint64(r.Address)) }),
		uintCSV("size", func(r regionRow) uint64 {
			if r.gone {
				return 0
			}
			return r.Size
		}),
		intCSV("delta", func(r regionRow) int64 { return r.Delta }),
		uintCSV("ops", func(r regionRow) uint64 { return r.Ops }),
		textCSV("mode", func(r regionRow) string { return r.Mode }),
		textCSV("kind", func(r regionRow) string { return r.Kind }),
		textCSV("mapping", func(r regionRow) string { return string(r.Mapping) }),
	}
	b := table.AppendCSVHeader(nil, columns)
	for i := range spaces {
		t := Table(&spaces[i], tree(spaces[i].Process.Space), now)
		for _, r := range t.Regions {
			b = table.AppendCSV(b, columns, regionRow{r, &t, false})
		}
		for _, r := range t.Gone {
			b = table.AppendCSV(b, columns, regionRow{r, &t, true})
		}
	}
	_, err := w.Write(b)
	return err
}

// WriteFindingsCSV writes what was found of groups of processes, whose number is 0, and of
// processes.
func WriteFindingsCSV(w io.Writer, groups []attribution.Group, results []Growth, now time.Time) error {
	type row = *FindingObject
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	columns := []table.Column[row]{
		uintCSV("pid", func(f row) uint64 { return uint64(f.PID) }),
		textCSV("comm", func(f row) string { return string(f.Comm) }),
		textCSV("verdict", func(f row) string { return f.Verdict }),
		textCSV("kind", func(f row) string { return f.Kind }),
		textCSV("subject", func(f row) string { return string(f.Subject) }),
		textCSV("measure", func(f row) string { return f.Measure }),
		textCSV("growth", func(f row) string { return number(f.Growth) }),
		textCSV("slope", func(f row) string { return number(f.Slope) }),
		textCSV("slope_low", func(f row) string { return number(f.SlopeLow) }),
		textCSV("slope_high", func(f row) string { return number(f.SlopeTop) }),
		uintCSV("resident", func(f row) uint64 { return f.Resident }),
		uintCSV("mapped", func(f row) uint64 { return f.Mapped }),
		textCSV("alive_share", func(f row) string {
			if f.Alive == nil {
				return ""
			}
			return number(*f.Alive)
		}),
		textCSV("blamed", func(f row) string { return f.Blamed }),
		textCSV("confidence", func(f row) string {
			if f.Blamed == "" {
				return ""
			}
			return number(f.Confidence)
		}),
		textCSV("sentence", func(f row) string { return f.Sentence }),
	}
	b := table.AppendCSVHeader(nil, columns)
	add := func(of *Growth, found []attribution.Finding) {
		for i := range found {
			o := findingObject(of, &found[i], now)
			b = table.AppendCSV(b, columns, &o)
		}
	}
	for i := range groups {
		add(&Growth{}, groups[i].Findings)
	}
	for i := range results {
		add(&results[i], results[i].Findings)
	}
	_, err := w.Write(b)
	return err
}

// latencyRow is what an operation takes of one kind of time.
type latencyRow struct {
	*tracer.Latency
	what string
	hist *histObject
}

// WriteLatenciesCSV writes the times of operations, a line for each kind of time.
func WriteLatenciesCSV(w io.Writer, l *attribution.Latencies) error {
	columns := []table.Column[latencyRow]{
		textCSV("operation", func(r latencyRow) string { return r.Name }),
		textCSV("time", func(r latencyRow) string { return r.what }),
		uintCSV("count", func(r latencyRow) uint64 { return r.hist.Count }),
		uintCSV("failed", func(r latencyRow) uint64 { return r.Failed }),
		uintCSV("total_ns", func(r latencyRow) uint64 { return r.hist.Total }),
		uintCSV("mean_ns", func(r latencyRow) uint64 { return r.hist.Mean }),
		uintCSV("p50_ns", func(r latencyRow) uint64 { return r.hist.P50 }),
		uintCSV("p90_ns", func(r latencyRow) uint64 { return r.hist.P90 }),
		uintCSV("p99_ns", func(r latencyRow) uint64 { return r.hist.P99 }),
		uintCSV("p99_9_ns", func(r latencyRow) uint64 { return r.hist.P999 }),
		uintCSV("max_ns", func(r latencyRow) uint64 { return r.hist.Max }),
	}
	b := table.AppendCSVHeader(nil, columns)
	for i := range l.Ops {
		o := &l.Ops[i]
		if o.Call {
			b = table.AppendCSV(b, columns, latencyRow{o, "duration", histOf(&o.Duration)})
		}
		b = table.AppendCSV(b, columns, latencyRow{o, "wait", histOf(&o.Wait)})
		b = table.AppendCSV(b, columns, latencyRow{o, "hold", histOf(&o.Hold)})
	}
	_, err := w.Write(b)
	return err
}
