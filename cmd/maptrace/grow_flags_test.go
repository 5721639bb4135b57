package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestWithoutPageFaultsNothingIsAskedForThatTheyBegin has the kernel prepared for blocks and
// words only where something shows whose to take.
func TestWithoutPageFaultsNothingIsAskedForThatTheyBegin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		o             growOptions
		blocks, words bool
		told          bool
	}{
		{"everything", growOptions{faultRate: 200, heapBudget: 1, watchpoints: 4}, true, true, false},
		{"no blocks", growOptions{faultRate: 200, watchpoints: 4}, false, true, false},
		{"no words", growOptions{faultRate: 200, heapBudget: 1}, true, false, false},
		{"no page faults", growOptions{heapBudget: 1, watchpoints: 4}, false, false, true},
		{"no page faults, and no words", growOptions{heapBudget: 1}, false, false, true},
		{"none of them", growOptions{}, false, false, false},
	} {
		var stderr bytes.Buffer
		tt.o.withoutFaults(&stderr)
		s := tt.o.stacks()
		if (s.BlockRate > 0) != tt.blocks || s.Writes != tt.words || s.FaultRate != tt.o.faultRate {
			t.Errorf("%s: %+v", tt.name, *s)
		}
		if (tt.o.heapBudget > 0) != tt.blocks || (tt.o.watchpoints > 0) != tt.words {
			t.Errorf("%s: of the sampler it is asked %g %% and %d words", tt.name, tt.o.heapBudget, tt.o.watchpoints)
		}
		if got := stderr.String(); strings.Contains(got, "--fault-rate 0") != tt.told || !tt.told && got != "" {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
