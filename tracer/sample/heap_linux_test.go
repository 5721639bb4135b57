package sample

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/heap"
)

// seldom is a kernel in which a process allocates so seldom that its allocator may be
// probed all the time.
type seldom struct {
	tracer.Heaps
	start time.Time
}

func (s seldom) now() uint64                                  { return uint64(time.Since(s.start)) + 1 }
func (seldom) HeapCalls(uint64) (c tracer.HeapCalls, _ error) { return c, nil }
func (seldom) HeapPrice() (p tracer.HeapPrice, _ error)       { return p, nil }
func (seldom) CloseAllocs() error                             { return nil }
func (seldom) Close() error                                   { return nil }

func (s seldom) ProbeHeap(int, []heap.Allocator, []string, uint32) (tracer.HeapProbes, error) {
	return s, nil
}

// slow is a kernel that takes the breakpoints away at once, and is long about the rest.
type slow struct {
	seldom
	frees *atomic.Uint64
	gone  *atomic.Uint64 // when the breakpoints went
}

const closing = 50 * time.Millisecond

func (s slow) HeapPrice() (tracer.HeapPrice, error) {
	return tracer.HeapPrice{Emulated: 10 * time.Microsecond}, nil
}

func (s slow) HeapCalls(uint64) (tracer.HeapCalls, error) {
	const each = 20
	if s.gone.Load() == 0 {
		s.frees.Add(each)
	}
	return tracer.HeapCalls{Frees: s.frees.Load()}, nil
}

func (s slow) Close() error {
	s.gone.CompareAndSwap(0, s.now())
	time.Sleep(closing)
	return nil
}

func (s slow) ProbeHeap(int, []heap.Allocator, []string, uint32) (tracer.HeapProbes, error) {
	return s, nil
}

// TestFreesAreSeenAsLongAsThereAreBreakpoints has the kernel be long about taking probes off.
func TestFreesAreSeenAsLongAsThereAreBreakpoints(t *testing.T) {
	t.Parallel()
	kernel := slow{seldom{start: time.Now()}, new(atomic.Uint64), new(atomic.Uint64)}
	p := &prober{
		kernel: kernel, now: kernel.now, fs: procmaps.Default(), pid: os.Getpid(), budget: 0.01,
		over: make(chan struct{}), done: make(chan struct{}),
	}
	all := []heap.Allocator{{Points: []heap.Point{{Function: heap.Free}}}}
	p.probed = all
	if _, err := p.burst(1, all, firstBurst); err != nil {
		t.Fatal(err)
	}
	windows, _ := p.take()
	if len(windows) != 1 {
		t.Fatalf("%d windows", len(windows))
	}
	late := time.Duration(int64(windows[0].Until - kernel.gone.Load()))
	if ended := time.Duration(kernel.now() - kernel.gone.Load()); late > closing/2 || ended < closing {
		t.Errorf("frees count as seen until %v after the breakpoints went, of %v", late, ended)
	}
}

// TestTheTimeOfABurstThatHasNoEndCounts stops in the middle of one.
func TestTheTimeOfABurstThatHasNoEndCounts(t *testing.T) {
	t.Parallel()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := procmaps.ParseMaps(maps, "/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	kernel := seldom{start: time.Now()}
	p := &prober{
		kernel: kernel, now: kernel.now, fs: procmaps.Default(), pid: os.Getpid(), budget: 0.01,
		over: make(chan struct{}), done: make(chan struct{}),
	}
	p.use([]heap.Allocator{{Mapping: rows[0]}})
	go p.run()
	const first, some = 1, 2
	for n := 0; n < first+some; time.Sleep(time.Millisecond) {
		windows, why := p.take()
		if why != "" {
			t.Fatal(why)
		}
		n += len(windows)
	}
	p.stop()
	var spent event.Heaps
	p.addTo(&spent)
	if spent.Bursts < first+some || spent.ProbedNs == 0 || spent.WatchedNs < spent.ProbedNs {
		t.Errorf("%d windows, probed for %d of %d ns", spent.Bursts, spent.ProbedNs, spent.WatchedNs)
	}
}
