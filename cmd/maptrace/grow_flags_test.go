package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
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
	r := succeed(t, maptrace(t, "grow", "--json", strconv.Itoa(h.Process.Pid)))
	var watch render.WatchObject
	var worst render.FindingObject
	dec := json.NewDecoder(strings.NewReader(r.out))
	if err := errors.Join(dec.Decode(&watch), dec.Decode(&worst)); err != nil {
		t.Fatalf("%v:\n%s", err, r.out)
	}
	const least, most = 20, 59 // seconds
	if watch.Seconds < least || watch.Seconds > most || worst.Verdict != "leaks" {
		t.Errorf("after %.0f s: %s", watch.Seconds, worst.Sentence)
	}
	if err := h.Process.Kill(); err != nil {
		t.Error(err)
	}
}

// TestTheEndOfATraceSaysWhatHasGrown has memory become resident.
func TestTheEndOfATraceSaysWhatHasGrown(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := launch(t, exec.Command(binary(t), leakyCommand, "--duration", "100s"))
	pid := strconv.Itoa(h.Process.Pid)
	r := succeed(t, maptrace(t, "trace", "--summary-only", "--for", "3s", pid))
	want := regexp.MustCompile(`\nThe resident memory of process ` + pid + ` grew by \d+\.\d MiB: maptrace grow ` + pid + `\n$`)
	if !want.MatchString(r.out) || !strings.Contains(r.out, " as at first: --all lists them\n") {
		t.Errorf("its last line, or that of the table, is another:\n%s", r.out)
	}
	if all := succeed(t, maptrace(t, "trace", "--summary-only", "--all", "--for", "1s", pid)); strings.Contains(all.out, "as at first") {
		t.Errorf("--all leaves rows out:\n%s", all.out)
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
