//go:build amd64 || arm64

package tracer

import (
	"errors"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/tracer/latency"
)

// Names of what is measured beside the calls that have one.
var latencyNames = map[bpf.Op]struct {
	name string
	call bool
}{
	bpf.OpFork:   {"fork", true},
	bpf.OpFault:  {"(fault)", false},
	bpf.OpOther:  {"(other calls)", false},
	bpf.OpExit:   {"(exit)", false},
	bpf.OpRemote: {"(remote)", false},
}

// latencyName is the word for an operation of latencies.
func latencyName(op bpf.Op) (name string, call bool) {
	if n, ok := latencyNames[op]; ok {
		return n.name, n.call
	}
	if int(op) < len(calls) {
		return CallName(calls[op].op, calls[op].sub), true
	}
	return "", false
}

// readTimings reads calls that were timed, as many as may wait, to be told when
// the events that were sent before them are. A stack is sent before the timing
// that names it.
func (l *Live) readTimings() error {
	st := l.stacks
	var t bpf.Timing
	for len(st.next) < maxFaults {
		err := l.hooks.NextTiming(&t)
		if errors.Is(err, bpf.ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		ev := l.convertTiming(&t)
		if t.Stack != 0 {
			if ev.Sample, err = st.claim(t.Stack); err != nil {
				return err
			}
		}
		st.next = append(st.next, ev)
	}
	return nil // the rest is for the next look
}

func (l *Live) convertTiming(t *bpf.Timing) Event {
	name, _ := latencyName(t.Op)
	ev := Event{
		Kind: KindTiming, Time: t.Time, Space: t.Space, TGID: int(t.TGID), TID: int(t.TID),
		Timing: &Timing{
			Duration: t.Duration, Wait: t.Wait, Hold: t.Hold, WriteHold: t.WriteHold, Longest: t.Longest,
			Locks: t.Locks, Slow: t.Slow, Name: name, Weight: 1 << t.Chance,
			Skipped: latency.Sums(t.Skipped),
		},
	}
	ev.Call.Args, ev.Call.Ret, ev.Call.TID, ev.Call.Time = t.Args, t.Ret, t.TID, t.Time
	if int(t.Op) < len(calls) {
		ev.Call.Op, ev.Call.Sub = calls[t.Op].op, calls[t.Op].sub
	}
	return ev
}

// RaiseWorst has every call told that takes at least ns, whatever the budget.
func (l *Live) RaiseWorst(ns uint64) error { return l.hooks.RaiseWorst(ns) }

// Latencies reads how long everything took so far, by operation.
func (l *Live) Latencies() ([]Latency, error) {
	raw, err := l.hooks.Latencies()
	if err != nil {
		return nil, err
	}
	out := make([]Latency, 0, len(raw))
	for i := range raw {
		r := &raw[i]
		name, call := latencyName(r.Op)
		out = append(out, Latency{
			Name: name, Call: call, Failed: r.Failed, Slow: r.Slow, WriteHold: r.WriteHold, Longest: r.Longest,
			Duration: hist(&r.Duration), Wait: hist(&r.Wait), Hold: hist(&r.Hold),
		})
	}
	return out, nil
}

func hist(t *bpf.Tally) latency.Hist { return latency.Of(t.Sum, t.Max, t.Count[:]) }

// TimingCounters reads them.
func (l *Live) TimingCounters() (TimingCounters, error) {
	c, err := l.hooks.Counters()
	return TimingCounters{Dropped: c.TimingDropped, Unstacked: c.StackDropped + c.StackBusy, Unmeasured: c.NoTiming}, err
}
