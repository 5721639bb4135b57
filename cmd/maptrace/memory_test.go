package main

import (
	"context"
	"errors"
	"math"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/maptrace/maptrace/procmaps"
)

func TestMemoryIsWatchedUntilTooLittleIsLeftForTheEnd(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name         string
		limit        uint64
		kernel, used uint64
		failing      bool
		want         string
	}{
		{name: "no limit", limit: procmaps.Unlimited, used: 1 << 40},
		{name: "enough", limit: 1024 * mib, kernel: 16 * mib, used: 800 * mib},
		{name: "near it", limit: 1024 * mib, kernel: 32 * mib, used: 900 * mib, want: "932.0 MiB are in use, and memory.max allows 1.0 GiB"},
		{name: "a small one", limit: 64 * mib, kernel: 16 * mib, used: 24 * mib, want: "40.0 MiB are in use"},
		{name: "less than the rings", limit: 8 * mib, kernel: 16 * mib, used: 1, want: "16.0 MiB are in use"},
		{name: "nothing known of us", limit: 1, failing: true},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*memoryEvery)
			defer cancel()
			var reason error
			memoryLimit{tt.limit, "memory.max"}.watch(ctx, tt.kernel, func() (uint64, error) {
				if tt.failing {
					return 0, errors.New("no /proc")
				}
				return tt.used, nil
			}, func(err error) { reason = err })
			if tt.want == "" && reason != nil || tt.want != "" && (reason == nil || !strings.Contains(reason.Error(), tt.want)) {
				t.Errorf("%s: stopped with %v, want %q", tt.name, reason, tt.want)
			}
		})
	}
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("the collector still has a limit of %d bytes", got)
	}
}

// TestForWantOfMemoryItEndsInOrder gives it less than it takes to run.
func TestForWantOfMemoryItEndsInOrder(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	cmd := exec.Command(binary(t), "trace", "--summary-only", "--duration", (bound / 2).String(), "-p", h.pid())
	cmd.Env = append(cmd.Environ(), "GOMEMLIMIT=20MiB")
	r := launch(t, cmd).result()
	if r.code != exitError { // and not that of the time being over
		t.Errorf("exit code %d", r.code)
	}
	checkOneLine(t, r.stderr, "memory limit reached")
	if !strings.Contains(r.out, "Address") || !strings.Contains(r.out, "lost 0") {
		t.Errorf("printed:\n%s", r.out)
	}
	h.unharmed()
}
