package main

import (
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
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

// TestAWatchEndsWhenALeakIsCertain lets grow choose for how long to watch.
func TestAWatchEndsWhenALeakIsCertain(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := launch(t, exec.Command(binary(t), leakyCommand, "--duration", "100s"))
	began := time.Now()
	r := succeed(t, maptrace(t, "grow", strconv.Itoa(h.Process.Pid)))
	// On a busy machine it is not as certain as early: then it ends by itself after a minute.
	const most = 70 * time.Second
	if took := time.Since(began); took > most {
		t.Errorf("it took %v", took)
	}
	if !strings.HasPrefix(r.out, "LEAK ") {
		t.Errorf("not first that it leaks:\n%s", r.out)
	}
	if err := h.Process.Kill(); err != nil {
		t.Error(err)
	}
}

func TestLooksAreAsOftenAsTheWatchNeedsThem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    growOptions
		want time.Duration
	}{
		{growOptions{attachOptions: attachOptions{duration: time.Minute}, auto: true}, 250 * time.Millisecond},
		{growOptions{}, 250 * time.Millisecond}, // a command
		{growOptions{attachOptions: attachOptions{duration: time.Second}}, 100 * time.Millisecond},
		{growOptions{attachOptions: attachOptions{duration: 30 * time.Second}}, 500 * time.Millisecond},
		{growOptions{attachOptions: attachOptions{duration: time.Hour}}, time.Second},
	} {
		if got := tt.o.pace(); got != tt.want {
			t.Errorf("watched for %v, auto %t: looks each %v, want %v", tt.o.duration, tt.o.auto, got, tt.want)
		}
	}
}
