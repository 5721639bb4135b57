package growth

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

var watchLengths = []int{10, 20, 30, 60, 600}

// TestNoInnocentIsCalledALeakAndLeaksAreFound prints how the labels fall for
// each kind of program; with -v. MAPTRACE_LONG=1 runs ten times as many, among
// which chance has its say: one random walk in some thousands looks like a leak.
func TestNoInnocentIsCalledALeakAndLeaksAreFound(t *testing.T) {
	t.Parallel()
	seeds, allowed := 20, 0
	if os.Getenv("MAPTRACE_LONG") != "" {
		seeds, allowed = 200, 6
	}
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-40s %5s |", "", "ticks")
	for l := Leaks; l <= Leaks; l-- {
		fmt.Fprintf(&table, " %8s", l)
	}
	table.WriteByte('\n')
	innocents, accused := 0, 0
	leaks, found := map[bool]int{}, map[bool]int{}
	for _, s := range shapes {
		for _, n := range watchLengths {
			var labels [Leaks + 1]int
			for seed := range seeds {
				p := newProgram(uint64(seed), n)
				s.run(p)
				f := p.w.Findings()[0]
				labels[f.Label]++
				switch {
				case s.leaks:
					leaks[n >= max(s.from, 30)]++
					if f.Label == Leaks {
						found[n >= max(s.from, 30)]++
					}
				case f.Label == Leaks:
					accused++
					t.Logf("%s, %d ticks, seed %d: %s: %+v", s.name, n, seed, f.Label, f.Reason)
				}
				if !s.leaks {
					innocents++
				}
			}
			fmt.Fprintf(&table, "%-40s %5d |", s.name, n)
			for l := Leaks; l <= Leaks; l-- {
				if labels[l] > 0 {
					fmt.Fprintf(&table, " %8d", labels[l])
				} else {
					fmt.Fprintf(&table, " %8s", ".")
				}
			}
			table.WriteByte('\n')
		}
	}
	t.Log(table.String())
	t.Logf("innocents: %d runs, %d called leaks", innocents, accused)
	t.Logf("leaks of 30 ticks and more: %d runs, %d found (%.2f %%); shorter: %d of %d",
		leaks[true], found[true], 100*float64(found[true])/float64(leaks[true]), found[false], leaks[false])
	if accused > allowed {
		t.Errorf("%d innocents are called leaks", accused)
	}
	if share := float64(found[true]) / float64(leaks[true]); share < 0.99 {
		t.Errorf("only %.2f %% of the leaks were found", 100*share)
	}
}
