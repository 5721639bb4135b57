package sample

import (
	"os"
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
