package render

import (
	"encoding/json"
	"io"
	"time"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/latency"
	"github.com/maptrace/maptrace/tracer/stack"
)

// The objects of lat --json. Times are in ns.

type histObject struct {
	Count   uint64         `json:"count"`
	Total   uint64         `json:"total_ns"`
	Mean    uint64         `json:"mean_ns"`
	P50     uint64         `json:"p50_ns"`
	P90     uint64         `json:"p90_ns"`
	P99     uint64         `json:"p99_ns"`
	P999    uint64         `json:"p99_9_ns"`
	Max     uint64         `json:"max_ns"`
	Octaves []octaveObject `json:"histogram"`
}

// octaveObject counts what took From or more and less than To; the last of a
// histogram also what took longer.
type octaveObject struct {
	From  uint64 `json:"from_ns"`
	To    uint64 `json:"to_ns"`
	Count uint64 `json:"count"`
}

func histOf(h *latency.Hist) *histObject {
	o := &histObject{
		Count: h.N, Total: h.Sum, Mean: h.Mean(), Max: h.Max, Octaves: []octaveObject{},
		P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99), P999: h.Quantile(0.999),
	}
	for _, oct := range h.Octaves() {
		o.Octaves = append(o.Octaves, octaveObject{oct.From, oct.To, oct.N})
	}
	return o
}

// latencyObject is one operation.
type latencyObject struct {
	Event     string      `json:"event"` // "latency"
	Operation string      `json:"operation"`
	Call      bool        `json:"call"` // false: holds of the lock outside of mapping calls
	Failed    uint64      `json:"failed"`
	Slow      uint64      `json:"slow"`
	Duration  *histObject `json:"duration,omitempty"` // of calls
	Wait      *histObject `json:"wait"`
	Hold      *histObject `json:"hold"`
	WriteHold uint64      `json:"write_hold_ns"`
	Longest   uint64      `json:"longest_hold_ns"`
}

// siteObject is one function's calls of one operation: estimates.
type siteObject struct {
	Event     string   `json:"event"` // "site"
	Operation string   `json:"operation"`
	Site      string   `json:"site"`
	Sampled   uint64   `json:"sampled"`
	Calls     uint64   `json:"calls"`
	Total     uint64   `json:"total_ns"`
	P50       uint64   `json:"p50_ns"`
	P99       uint64   `json:"p99_ns"`
	Max       uint64   `json:"max_ns"` // of the sampled
	Wait      uint64   `json:"wait_ns"`
	Hold      uint64   `json:"hold_ns"`
	Stack     []string `json:"stack"` // of the longest
	StackEnd  string   `json:"stack_end,omitempty"`
}

// callObject is one of the longest calls.
type callObject struct {
	Event     string    `json:"event"` // "call"
	Time      time.Time `json:"time"`
	PID       int       `json:"pid"`
	NSPID     int       `json:"ns_pid,omitempty"`
	TID       int       `json:"tid"`
	Operation string    `json:"operation"`
	Size      *uint64   `json:"size,omitempty"` // bytes
	Errno     string    `json:"errno,omitempty"`
	Duration  uint64    `json:"duration_ns"`
	Wait      uint64    `json:"wait_ns"`
	Hold      uint64    `json:"hold_ns"`
	WriteHold uint64    `json:"write_hold_ns"`
	Longest   uint64    `json:"longest_hold_ns"`
	Locks     uint32    `json:"locks"`
	Stack     []string  `json:"stack"`
	StackEnd  string    `json:"stack_end,omitempty"`
}

// latencySummary is the end.
type latencySummary struct {
	Event     string    `json:"event"` // "summary"
	Time      time.Time `json:"time"`
	Measured  float64   `json:"measured_s"`
	Processes int       `json:"processes"`
	Calls     uint64    `json:"calls"`
	SlowLimit uint64    `json:"slow_limit_ns"`
	Slow      uint64    `json:"slow"`
	Sent      uint64    `json:"sampled"`
	// Rest are the sites that have no object, NoSite what no site is known of.
	Rest       sumObject `json:"other_sites"`
	NoSite     sumObject `json:"no_site"`
	Dropped    uint64    `json:"dropped"`
	Unstacked  uint64    `json:"unstacked"`
	Unmeasured uint64    `json:"unmeasured"`
	Picture    string    `json:"picture"`
}

// sumObject is what the calls of several sites took together, in ns.
type sumObject struct {
	Sites    int    `json:"sites,omitempty"`
	Calls    uint64 `json:"calls"`
	Duration uint64 `json:"total_ns"`
	Wait     uint64 `json:"wait_ns"`
	Hold     uint64 `json:"hold_ns"`
}

func sumOf(s attribution.SiteSum) sumObject {
	return sumObject{s.Sites, s.Calls, s.Duration, s.Wait, s.Hold}
}

// WriteLatenciesJSON writes the same as objects, one a line: operations, sites,
// the longest calls, and the summary.
func WriteLatenciesJSON(w io.Writer, l *attribution.Latencies, clock Clock, now time.Time) error {
	enc := json.NewEncoder(table.JSONWriter(w))
	for i := range l.Ops {
		if err := enc.Encode(latencyOf(&l.Ops[i])); err != nil {
			return err
		}
	}
	for i := range l.Sites {
		if err := enc.Encode(siteOf(&l.Sites[i])); err != nil {
			return err
		}
	}
	for i := range l.Worst {
		if err := enc.Encode(callOf(&l.Worst[i], clock)); err != nil {
			return err
		}
	}
	calls, slow := l.Calls()
	return enc.Encode(latencySummary{
		Event: "summary", Time: now, Measured: l.Measured.Seconds(), Processes: l.Processes,
		Calls: calls, SlowLimit: uint64(l.Slow), Slow: slow, Sent: l.Sent, Dropped: l.Missing.Dropped,
		Rest: sumOf(l.Rest), NoSite: sumOf(l.NoSite),
		Unstacked: l.Missing.Unstacked, Unmeasured: l.Missing.Unmeasured, Picture: l.Accuracy,
	})
}

func latencyOf(o *tracer.Latency) latencyObject {
	obj := latencyObject{
		Event: "latency", Operation: o.Name, Call: o.Call, Failed: o.Failed, Slow: o.Slow,
		Wait: histOf(&o.Wait), Hold: histOf(&o.Hold), WriteHold: o.WriteHold, Longest: o.Longest,
	}
	if o.Call {
		obj.Duration = histOf(&o.Duration)
	}
	return obj
}

func siteOf(s *attribution.TimedSite) siteObject {
	return siteObject{
		Event: "site", Operation: s.Op, Site: s.Function.Full, Sampled: s.Sampled, Calls: s.Duration.N,
		Total: s.Duration.Sum, P50: s.Duration.Quantile(0.5), P99: s.Duration.Quantile(0.99), Max: s.Duration.Max,
		Wait: s.Wait, Hold: s.Hold, Stack: fullNames(s.Stack.Frames), StackEnd: s.Stack.End,
	}
}

func callOf(c *attribution.TimedCall, clock Clock) callObject {
	o := callObject{
		Event: "call", Time: clock.Time(c.Time), PID: c.PID, NSPID: c.NSPID, TID: c.TID, Operation: c.Name,
		Duration: c.Duration, Wait: c.Wait, Hold: c.Hold, WriteHold: c.WriteHold, Longest: c.Longest,
		Locks: c.Locks, Stack: fullNames(c.Stack.Frames), StackEnd: c.Stack.End,
	}
	if n, ok := callSize(c); ok {
		o.Size = &n
	}
	if e := errnoOf(&c.Call); e != 0 {
		o.Errno = errnoName(e)
	}
	return o
}

// fullNames are the names of a stack as programs read them: a list, if it is empty, for
// those who go through it.
func fullNames(frames []stack.Name) []string {
	out := make([]string, len(frames))
	for i, f := range frames {
		out[i] = f.Full
	}
	return out
}
