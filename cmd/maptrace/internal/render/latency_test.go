package render

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/latency"
	"github.com/maptrace/maptrace/tracer/space"
)

// spread is a histogram of n times, each an eighth longer than the one before.
func spread(from uint64, n int) (h latency.Hist) {
	for range n {
		h.Add(from, 1, from)
		from += from / 8
	}
	return h
}

// someLatencies are of two operations and of page faults, with two sites.
func someLatencies() *attribution.Latencies {
	alloc := attribution.Stack{Frames: named("mmap64 (libc.so.6)", "grow\x1b[2J (pool.c:88)", "main (server.c:12)", "_start (server)")}
	return &attribution.Latencies{
		Measured: 2500 * time.Millisecond, Processes: 2, Slow: 100 * time.Microsecond,
		Ops: []tracer.Latency{
			{
				Name: "mmap", Call: true, Failed: 3, Slow: 7,
				Duration: spread(1200, 60), Wait: spread(90, 60), Hold: spread(700, 60), WriteHold: 20_000, Longest: 660_000,
			},
			{Name: "munmap", Call: true, Duration: spread(2000, 4), Wait: spread(100, 4), Hold: spread(1000, 4), WriteHold: 400, Longest: 1500},
			{Name: "(fault)", Wait: spread(50, 12), Hold: spread(400, 12), Longest: 1400},
		},
		Sites: []attribution.TimedSite{
			{Op: "mmap", Function: alloc.Frames[1], Stack: alloc, Duration: spread(1200, 50), Wait: 5000, Hold: 300_000, Sampled: 40},
			{Op: "munmap", Function: name("libc.so.6+0x96f98"), Duration: spread(2000, 4), Wait: 450, Hold: 4600, Sampled: 4},
		},
		Rest:   attribution.SiteSum{Sites: 2, Sums: latency.Sums{Calls: 8, Duration: 90_000, Wait: 10, Hold: 20}},
		NoSite: attribution.SiteSum{Sums: latency.Sums{Calls: 2, Duration: 2_000_000, Wait: 10, Hold: 20}},
		Worst: []attribution.TimedCall{
			{
				Timing: &tracer.Timing{Duration: 1_253_000, Wait: 90_000, Hold: 660_000, WriteHold: 2000, Longest: 660_000, Locks: 2, Slow: true, Name: "mmap"},
				Time:   1_000_000, PID: 12, TID: 13, Stack: alloc,
				Call: space.Call{Op: space.OpMmap, Ret: 0x7f0000000000, Args: [6]uint64{0, 1 << 20, 3, 0x22, ^uint64(0), 0}},
			},
			{
				Timing: &tracer.Timing{Duration: 1_113_000, Name: "mmap", Slow: true},
				Time:   2_000_000, PID: 12, TID: 12, Stack: alloc,
				Call: space.Call{Op: space.OpMmap, Ret: -12, Args: [6]uint64{0, 1 << 40, 3, 0x22, ^uint64(0), 0}},
			},
			{
				Timing: &tracer.Timing{Duration: 913_000, Name: "fork", Slow: true},
				Time:   3_000_000, PID: 12, TID: 12, Call: space.Call{Ret: 99},
			},
		},
		Sent: 44, Missing: tracer.TimingCounters{Dropped: 2, Unmeasured: 1}, Accuracy: "approximate: events were lost",
	}
}

// midday is the time of day of stamp 0.
var midday = NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), 0)

func TestLatenciesAsText(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := WriteLatencies(&b, someLatencies(), midday, 3); err != nil {
		t.Fatal(err)
	}
	golden(t, "latency.txt", b.String())
	for line := range strings.Lines(b.String()) {
		if len(line) > 97 {
			t.Errorf("%d characters: %q", len(line), line)
		}
	}
}

func TestLatenciesAsJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := WriteLatenciesJSON(&b, someLatencies(), midday, time.Date(2026, 7, 1, 12, 0, 3, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	golden(t, "latency.json", b.String())
	for line := range strings.Lines(b.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestWhereNothingWasCalledThatIsSaid(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := attribution.Latencies{Measured: time.Second, Processes: 1, Slow: time.Millisecond, Accuracy: "exact"}
	if err := WriteLatencies(&b, &l, midday, 0); err != nil {
		t.Fatal(err)
	}
	const want = "0 mapping calls of 1 process in 1.0 s, 0 of them took 1.00ms or more\n\nThe mmap lock was taken by nobody.\n"
	if !strings.HasPrefix(b.String(), want) {
		t.Errorf("got\n%s", b.String())
	}
}
