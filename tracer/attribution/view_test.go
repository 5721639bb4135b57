package attribution

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/space"
)

// grows has a process observed so often, whose memory is larger each time.
func grows(g *Growth, pid, ticks int) {
	for i := range ticks {
		at := uint64(time.Second) * uint64(i+1)
		end := uint64(oldAt + 1024*(i+1))
		tree := space.New(space.Options{PageSize: page})
		tree.Reread(space.Read{Range: space.All, Began: at, Op: space.OpSeed, Rows: []space.Row{
			{Mapping: procmaps.Mapping{Range: pages(oldAt, end), Mode: rw}},
		}})
		g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Tree: tree, Body: event.Counting{}})
		g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Tree: tree, Body: event.Resident{{Bytes: (end - oldAt) * page}}})
	}
}

func TestAViewIsMadeWhereOneIsAskedForAndNotTooOften(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	g.Publish(1e9)
	if v := g.View(); v != nil {
		t.Errorf("nobody has asked for %+v", v)
	}
	var at []uint64
	for now := uint64(1e9); now < 2e9; now += 10e6 {
		g.Publish(now)
		if v := g.View(); v != nil && (len(at) == 0 || v.At != at[len(at)-1]) {
			at = append(at, v.At)
		}
	}
	if len(at) != 10 || at[1]-at[0] != viewEvery {
		t.Errorf("views in a second: %v", at)
	}
}

func TestAViewHasTheWorstProcessFirst(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	for pid := 1; pid <= 3; pid++ {
		process(g, pid, 1)
	}
	observed(g, 1, 30)
	grows(g, 2, 30)
	g.View()
	g.Publish(40e9)
	v := g.View()
	type row struct {
		PID, Ticks int
		Label      string
	}
	var got []row
	for _, p := range v.Processes {
		r := row{p.PID, p.Ticks, "none"}
		if worst := p.Worst(); worst != nil {
			r.Label = worst.Label.String()
		}
		got = append(got, r)
	}
	// The third was never observed.
	if d := cmp.Diff([]row{{2, 30, growth.Leaks.String()}, {1, 30, "none"}}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if v.Watched != 40*time.Second-1 {
		t.Errorf("%+v", v)
	}
}

func TestAViewTellsWhatGrewAndWhatIsCharged(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	for i, anon := range []uint64{100, 200, 300} {
		g.Record(&event.Record{At: uint64(i+1) * 1e9, Space: 1, PID: 1, Body: event.Account{Comm: "server", Anon: anon, PageTables: 7}})
	}
	grows(g, 1, 30)
	g.View()
	g.Publish(40e9)
	p := g.View().Processes[0]
	if want := (Charges{Anon: 100, PageTables: 7}); p.First != want {
		t.Errorf("charged at first: %+v, want %+v", p.First, want)
	}
	if want := (Charges{Anon: 300, PageTables: 7}); p.Last != want {
		t.Errorf("charged at last: %+v, want %+v", p.Last, want)
	}
	if p.Name != "server" || len(p.Findings) == 0 || p.Worst() != &p.Findings[0] || (&ProcessView{}).Worst() != nil {
		t.Errorf("%+v", p)
	}
}

func TestFewOfManyFindingsAreTold(t *testing.T) {
	t.Parallel()
	labels := func(all ...growth.Label) (out []growth.Finding) {
		for _, l := range all {
			out = append(out, growth.Finding{Label: l})
		}
		return out
	}
	const steady, churns, plateau, grows, leaks = growth.Steady, growth.Churns, growth.Plateau, growth.Grows, growth.Leaks
	for _, tt := range []struct {
		all  []growth.Finding
		want int
	}{
		{nil, 0},
		{labels(steady, steady), 1},
		{labels(churns, steady), 1},
		{labels(leaks, grows, plateau, churns, steady), 3},
		{labels(leaks, leaks, leaks, leaks, leaks, leaks, leaks), viewFindings},
	} {
		if got := worthTelling(tt.all); got != tt.want {
			t.Errorf("%d of %d, want %d", got, len(tt.all), tt.want)
		}
	}
}

func TestAllProcessesOfANodeAreJudgedInTurn(t *testing.T) {
	t.Parallel()
	const processes = 5 * viewMost / 2
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	for pid := range processes {
		process(g, pid, 1)
		grows(g, pid, 3)
	}
	var judged []int
	for i := range uint64(4) {
		g.View()
		g.Publish(10e9 + i*viewEvery)
		judged = append(judged, len(g.View().Processes))
	}
	if d := cmp.Diff([]int{viewMost, 2 * viewMost, processes, processes}, judged); d != "" {
		t.Errorf("processes in views (-want +got):\n%s", d)
	}
}

// Run with -race, it says that readers need no lock.
func TestViewsAreReadWhileTheOwnerGoesOn(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			said := make(map[*View]string)
			for {
				if v := g.View(); v != nil {
					text := fmt.Sprintf("%+v", *v)
					if before, ok := said[v]; ok && before != text {
						t.Errorf("a view was %q, and is %q", before, text)
					}
					said[v] = text
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 50 {
		process(g, 1, 1)
		grows(g, 1, 3+i%10)
		g.View()
		g.Publish(uint64(i+1) * viewEvery)
	}
	close(stop)
	readers.Wait()
}
