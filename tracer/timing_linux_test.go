//go:build amd64 || arm64

package tracer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/tracer/latency"
)

// timedRun is a run of testdata/workload/timed.c: what the program measured, and
// what the kernel side did.
type timedRun struct {
	maps, unmaps []uint64 // ns, as the program has them
	idle         []uint64 // what a call takes that does nothing
	second       int      // of all maps, those of the second thread
	ops          map[string]*Latency
	timings      []Event
	counters     TimingCounters
}

func runTimed(t *testing.T, mode string, n int, opts bpf.LatencyOptions) *timedRun {
	t.Helper()
	// In a ring that is new, one record of forty touches a page that is new too,
	// which the program's clock sees. No events are wanted here: a small one does.
	l := openLive(t, LiveOptions{RingBytes: 4 * os.Getpagesize(), Latency: &opts})
	cmd := exec.CommandContext(t.Context(), bpftest.BuildC(t, workloads, "timed"), mode, strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	hear(t, r, "ready\n")
	if _, err = l.Trace(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	run := &timedRun{ops: make(map[string]*Latency)}
	if _, err = in.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- run.read(r, n) }()
	for running := true; running; {
		select {
		case err = <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		case <-time.After(5 * time.Millisecond):
		}
		run.drain(t, l)
	}
	if err = l.Detach(); err != nil {
		t.Fatal(err)
	}
	run.drain(t, l)
	if err = errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	ops, err := l.Latencies()
	if err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		run.ops[ops[i].Name] = &ops[i]
	}
	for _, name := range []string{"mmap", "munmap"} {
		if run.ops[name] == nil {
			t.Fatalf("no %s was measured: %v", name, ops)
		}
	}
	if run.counters, err = l.TimingCounters(); err != nil {
		t.Fatal(err)
	}
	return run
}

func hear(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); err != nil || got != want {
		t.Fatalf("the program said %q, %v, want %q", got, err, want)
	}
}

// drain reads what was sent.
func (run *timedRun) drain(t *testing.T, l *Live) {
	t.Helper()
	var ev Event
	for {
		err := l.Next(&ev)
		if errors.Is(err, ErrIdle) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == KindTiming {
			run.timings = append(run.timings, ev)
		}
	}
}

// read reads what the program says at its end.
func (run *timedRun) read(r *bufio.Reader, n int) error {
	if line, err := r.ReadString('\n'); err != nil || line != "done\n" {
		return errors.Join(err, errors.New("the program said "+strconv.Quote(line)))
	}
	number := func() (n uint64, err error) {
		return n, binary.Read(r, binary.NativeEndian, &n)
	}
	maps, err1 := number()
	unmaps, err2 := number()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if maps > 1<<22 || unmaps > 1<<22 {
		return errors.New("the program has lost count")
	}
	run.maps, run.unmaps = make([]uint64, maps), make([]uint64, unmaps)
	err1 = binary.Read(r, binary.NativeEndian, run.maps)
	err2 = binary.Read(r, binary.NativeEndian, run.unmaps)
	second, err := number()
	run.second, run.idle = int(second), make([]uint64, n)
	return errors.Join(err1, err2, err, binary.Read(r, binary.NativeEndian, run.idle))
}

// TestEveryCallIsCountedOnce has a program make known numbers of calls.
func TestEveryCallIsCountedOnce(t *testing.T) {
	const n = 7919
	run := runTimed(t, "calls", n, bpf.LatencyOptions{Rate: fewStacks})
	mmap, munmap := run.ops["mmap"], run.ops["munmap"]
	if mmap.Duration.N != 2*n || mmap.Failed != 0 {
		t.Errorf("mmap: %d, %d failed, want %d and 0", mmap.Duration.N, mmap.Failed, 2*n)
	}
	if munmap.Duration.N != 3*n || munmap.Failed != n {
		t.Errorf("munmap: %d, %d failed, want %d and %d", munmap.Duration.N, munmap.Failed, 3*n, n)
	}
	// Each takes the lock, even munmap of nothing.
	if mmap.Hold.N != 2*n || mmap.Wait.N != 2*n || munmap.Hold.N != 3*n || munmap.Wait.N != 3*n {
		t.Errorf("%d and %d calls held the lock, %d and %d waited", mmap.Hold.N, munmap.Hold.N, mmap.Wait.N, munmap.Wait.N)
	}
	if mmap.WriteHold == 0 || mmap.WriteHold > mmap.Hold.Sum || munmap.WriteHold == 0 || munmap.WriteHold >= munmap.Hold.Sum {
		t.Errorf("held for writing: %d of %d by mmap, %d of %d by munmap, which downgrades",
			mmap.WriteHold, mmap.Hold.Sum, munmap.WriteHold, munmap.Hold.Sum)
	}
	for name, op := range run.ops {
		// Of shared memory we look at the VMA ourselves, which takes the lock.
		if !op.Call && op.Hold.N >= n {
			t.Errorf("%s: %d holds", name, op.Hold.N)
		}
		checkSums(t, op)
	}
	run.checkAgrees(t, "mmap", run.maps)
	run.checkAgrees(t, "munmap", run.unmaps)
	run.checkTimings(t, bpf.DefaultSlow)
	if run.counters != (TimingCounters{}) {
		t.Errorf("counters %+v", run.counters)
	}
}

// fewStacks keeps what it takes to send a stack out of percentiles: the program's
// own clock sees it, ours does not.
const fewStacks = 4

// checkSums checks that the parts of an operation do not exceed the whole.
func checkSums(t *testing.T, op *Latency) {
	t.Helper()
	if op.Call && op.Wait.Sum+op.Hold.Sum > op.Duration.Sum {
		t.Errorf("%s: waited %d and held %d in %d ns", op.Name, op.Wait.Sum, op.Hold.Sum, op.Duration.Sum)
	}
	if op.Longest > op.Hold.Max || op.WriteHold > op.Hold.Sum {
		t.Errorf("%s: longest hold %d, most of a call %d; %d for writing of %d", op.Name, op.Longest, op.Hold.Max, op.WriteHold, op.Hold.Sum)
	}
}

// outside is what the program's own clock may see beyond ours, in ns, and beyond
// what it sees of a call that does nothing: the programs that tell of the call.
const outside = 2000

// checkAgrees compares with what the program itself measured. A call's time by
// our clock lies within that by its own, so no percentile of ours is above. And if
// a share s of calls takes longer by our clock, a share s of those that do nothing
// takes longer than those do, and a share s longer to be told of, then no more than
// 3s takes longer than all three together.
func (run *timedRun) checkAgrees(t *testing.T, name string, own []uint64) {
	t.Helper()
	h := &run.ops[name].Duration
	slices.Sort(own)
	slices.Sort(run.idle)
	var sum uint64
	for _, ns := range own {
		sum += ns
	}
	most := own[len(own)-1]
	t.Logf("%-6s ours: %d, sum %v, max %v", name, h.N, time.Duration(h.Sum), time.Duration(h.Max))
	t.Logf("%-6s its:  %d, sum %v, max %v", name, len(own), time.Duration(sum), time.Duration(most))
	if h.N != uint64(len(own)) || h.Sum > sum || h.Max > most {
		t.Errorf("%s: %d in %d ns, at most %d; the program has %d in %d, at most %d", name, h.N, h.Sum, h.Max, len(own), sum, most)
	}
	for _, q := range []float64{.5, .9, .99} {
		const off = 0.0625
		s := min(.05, 1-q)
		ours, beyond := h.Quantile(q), rank(run.idle, 1-s)
		low, high := rank(own, q-2*s), rank(own, q)
		t.Logf("%-6s p%v: %v; its p%v: %v, p%v: %v, doing nothing %v", name, 100*q, time.Duration(ours),
			100*(q-2*s), time.Duration(low), 100*q, time.Duration(high), time.Duration(beyond))
		if float64(ours) > float64(high)*(1+off) || float64(ours)*(1+off)+float64(beyond)+outside < float64(low) {
			t.Errorf("%s: p%v is %v, the program has %v to %v, of which up to %v are not ours", name, 100*q, ours, low, high, beyond)
		}
	}
}

// rank is the nearest-rank percentile of sorted values.
func rank(sorted []uint64, q float64) uint64 {
	i := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(i, 1), len(sorted))-1]
}

// checkTimings checks that the calls that were told stand for no more than there
// were, that the longest is among them, and that they have stacks.
func (run *timedRun) checkTimings(t *testing.T, slow time.Duration) {
	t.Helper()
	stands, took, longest := make(map[string]uint64), make(map[string]uint64), make(map[string]uint64)
	for i := range run.timings {
		ev := &run.timings[i]
		tm := ev.Timing
		if ev.Sample == nil || len(ev.Sample.Stack) == 0 {
			t.Errorf("%s at %d has no stack", tm.Name, ev.Time)
		}
		if tm.Weight == 0 {
			t.Errorf("%s at %d has no weight", tm.Name, ev.Time)
		}
		stands[tm.Name] += 1 + tm.Skipped.Calls
		took[tm.Name] += tm.Duration + tm.Skipped.Duration
		longest[tm.Name] = max(longest[tm.Name], tm.Duration)
	}
	t.Logf("%d calls were told", len(run.timings))
	for name, op := range run.ops {
		d := &op.Duration
		if !op.Call {
			continue
		}
		if stands[name] == 0 || stands[name] > d.N || took[name] > d.Sum || took[name] == 0 {
			t.Errorf("%s: those told stand for %d of %d calls, %d of %d ns", name, stands[name], d.N, took[name], d.Sum)
		}
		if d.Max >= uint64(slow) && longest[name] != d.Max {
			t.Errorf("%s: the longest told is %d, the longest is %d", name, longest[name], d.Max)
		}
	}
}

// TestWaitingForTheLockIsMeasured has one thread map and unmap while another
// holds the lock, for tens of ms each time, to populate 256 MiB.
func TestWaitingForTheLockIsMeasured(t *testing.T) {
	const n = 503
	run := runTimed(t, "contend", n, bpf.LatencyOptions{Rate: fewStacks})
	mmap, munmap := run.ops["mmap"], run.ops["munmap"]
	want := n + run.second
	if mmap.Duration.N != uint64(want) || munmap.Duration.N != uint64(want+n) {
		t.Errorf("%d mmap, %d munmap, want %d and %d", mmap.Duration.N, munmap.Duration.N, want, want+n)
	}
	// The first thread's long calls are those that waited: nothing it does takes
	// long by itself.
	const long = uint64(time.Millisecond)
	first := append(slices.Clone(run.maps[:n]), run.unmaps[:2*n]...)
	var waited, all uint64
	for _, ns := range first {
		all += ns
		if ns >= long {
			waited += ns
		}
	}
	got := mmap.Wait.Sum + munmap.Wait.Sum
	t.Logf("waited %v by ours (longest %v); the first thread's calls above 1 ms took %v, all %v",
		time.Duration(got), time.Duration(max(mmap.Wait.Max, munmap.Wait.Max)), time.Duration(waited), time.Duration(all))
	if waited == 0 || max(mmap.Wait.Max, munmap.Wait.Max) < long || got < waited/2 || got > mmap.Duration.Sum+munmap.Duration.Sum {
		t.Errorf("waited %d ns, at most %d at once; the program's long calls took %d", got, mmap.Wait.Max, waited)
	}
	// Populating holds the lock longest, for reading.
	if mmap.Longest < long || mmap.WriteHold > mmap.Hold.Sum/2 {
		t.Errorf("mmap held the lock for %d ns at most, for writing %d of %d", mmap.Longest, mmap.WriteHold, mmap.Hold.Sum)
	}
	checkSums(t, mmap)
	checkSums(t, munmap)
	run.checkAgrees(t, "mmap", run.maps)
	run.checkAgrees(t, "munmap", run.unmaps)
	run.checkTimings(t, bpf.DefaultSlow)
}

// TestBeyondTheBudgetCallsStandForOthers asks for few calls: those that are told
// carry what the others took, and the slow ones that are longest are all told.
func TestBeyondTheBudgetCallsStandForOthers(t *testing.T) {
	const n, rate = 5003, 20
	run := runTimed(t, "calls", n, bpf.LatencyOptions{Rate: rate, Slow: time.Hour})
	var carried uint64
	for _, ev := range run.timings {
		carried += ev.Timing.Skipped.Calls
		if ev.Timing.Slow {
			t.Errorf("a call of %d ns is slow", ev.Timing.Duration)
		}
	}
	all := run.ops["mmap"].Duration.N + run.ops["munmap"].Duration.N
	if told := uint64(len(run.timings)); told == 0 || told > all/10 || carried == 0 || told+carried > all {
		t.Errorf("%d of %d calls were told, and stand for %d others", told, all, carried)
	}
	if run.ops["mmap"].Slow != 0 {
		t.Errorf("%d slow calls", run.ops["mmap"].Slow)
	}
	run.checkTimings(t, time.Hour)
}

func TestEveryOperationOfLatenciesHasAName(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bpf.Op)
	for op := bpf.OpMmap; op <= bpf.OpRemote; op++ {
		name, call := latencyName(op)
		measured := op <= bpf.OpFork || op == bpf.OpExit || op == bpf.OpOther || op == bpf.OpFault || op == bpf.OpRemote
		if (name != "") != measured || call != (op <= bpf.OpFork) {
			t.Errorf("operation %d: %q, call %v", op, name, call)
		}
		if other, ok := seen[name]; ok && name != "" {
			t.Errorf("%d and %d are both %q", op, other, name)
		}
		seen[name] = op
	}
}

func TestTheKernelSideFillsTheHistogram(t *testing.T) {
	t.Parallel()
	if bpf.LatencyBuckets != latency.Buckets {
		t.Errorf("%d buckets in the kernel, %d here", bpf.LatencyBuckets, latency.Buckets)
	}
}
