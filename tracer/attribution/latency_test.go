package attribution

import (
	"slices"
	"testing"

	"github.com/maptrace/maptrace/tracer/latency"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// TestWhatWasPassedOverIsSharedOut gives two sites' calls, of which some stand for
// others.
func TestWhatWasPassedOverIsSharedOut(t *testing.T) {
	t.Parallel()
	m := NewTimings(names{}, 3)
	call := func(site uint32, duration, weight uint64, passed latency.Sums) {
		m.Change(&model.Change{Site: site, Kind: model.KindTiming, Timing: &model.Timing{
			Name: "mmap", Duration: duration, Wait: 10, Hold: 20, Weight: weight, Skipped: passed,
		}})
	}
	call(5, 9000, 1, latency.Sums{})
	call(5, 3000, 4, latency.Sums{Calls: 7, Duration: 14_000, Wait: 100, Hold: 200})
	call(6, 1000, 4, latency.Sums{Calls: 1, Duration: 2000})
	call(0, 4000, 4, latency.Sums{Calls: 4, Duration: 8000}) // its stack was lost
	l := m.Results(nil)
	if len(l.Sites) != 2 || m.sent != 4 {
		t.Fatalf("%d sites of %d calls", len(l.Sites), m.sent)
	}
	// Of the twelve that were passed over each third of the sampled ones has a third;
	// of what they took, 24,000 ns, as much as it took itself.
	a, b := &l.Sites[0], &l.Sites[1]
	if a.Duration.N != 2+3 || a.Duration.Sum != 12_000+8999 || a.Duration.Max != 9000 || a.Wait != 20+33 || a.Hold != 40+66 || a.Sampled != 2 {
		t.Errorf("%+v", a)
	}
	if b.Duration.N != 1+3 || b.Duration.Sum != 1000+2999 || b.Duration.Quantile(0.5) < 900 || b.Duration.Quantile(0.5) > 1100 {
		t.Errorf("%+v", b)
	}
}

// TestTheLongestCallsAreKept gives calls in an order that nothing foresees.
func TestTheLongestCallsAreKept(t *testing.T) {
	t.Parallel()
	m := NewTimings(names{}, 3)
	for _, d := range []uint64{5, 1, 9, 9, 3, 7, 2} {
		m.rank(&model.Change{Timing: &model.Timing{Duration: d}, Call: &space.Call{Op: space.OpMmap}})
	}
	var got []uint64
	for _, w := range m.worst {
		got = append(got, w.Duration)
	}
	if !slices.Equal(got, []uint64{9, 9, 7}) {
		t.Errorf("got %v, want 9 9 7", got)
	}
}
