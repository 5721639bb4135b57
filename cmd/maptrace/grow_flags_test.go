package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestUsageOfGrow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args string
		want string // in the one line on standard error
	}{
		{"no target", "grow", "say what to trace"},
		{"a process and a command", "grow -p 1 -- true", "say what to trace"},
		{"an unknown form", "grow -p 1 -o xml", `output "xml": want text or json`},
		{"looks too close together", "grow -p 1 --interval 9ms", "want at least 10ms"},
		{"no time between looks", "grow -p 1 --interval 0s", "want at least 10ms"},
		{"too few looks", "grow -p 1 --for 2s --interval 1s", "at least three times"},
		{"a negative time", "grow -p 1 --for -5s", "cannot be negative"},
		{"a negative number of groups", "grow -p 1 --top -1", "cannot be negative"},
		{"a negative number of frames", "grow -p 1 --frames -1", "cannot be negative"},
		{"too large a stack", "grow -p 1 --stack-size 65K", "want 512 to 64K"},
		{"too small a stack", "grow -p 1 --stack-size 511", "want 512 to 64K"},
		{"no stacks", "grow -p 1 --stack-rate 0", "must be at least 1"},
		{"a negative rate of faults", "grow -p 1 --fault-rate -1", "cannot be negative"},
		{"more stacks than can be read", "grow -p 1 --stack-rate 2000000000", "want at most"},
		{"more faults than can be read", "grow -p 1 --fault-rate 1000001", "want at most"},
		{"too little memory", "grow -p 1 --memory 15M", "want at least 16M"},
		{"more memory than there can be", "grow -p 1 --memory 9999999T", "want at least 16M"},
		{"too little memory for lat", "lat -p 1 --memory 1", "want at least 16M"},
		{"too little memory for trace", "trace --stack -p 1 --memory 16777215", "want at least 16M"},
		{"no budget", "grow -p 1 --smaps-budget 0", "want a percentage"},
		{"too much of a budget", "grow -p 1 --smaps-budget 101", "want a percentage"},
		{"a budget that is no number", "grow -p 1 --smaps-budget NaN", "want a percentage"},
		{"a rule that is none", "grow -p 1 --fail-on often", "not understood"},
		{"one bad rule of two", "grow -p 1 --fail-on leaks --fail-on slab", "not understood"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, strings.Fields(tt.args)...)
			if got.code != exitUsage || got.out != "" {
				t.Errorf("exit code %d, want %d; output %q", got.code, exitUsage, got.out)
			}
			checkOneLine(t, got.stderr, tt.want)
		})
	}
}

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
