package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/testdata/leaks"
)

// TestGrowNamesWhoKeepsAGoHeapByItsOwnProfile watches servers in Go, of which those that
// leak are to be named who keeps the heap, and one without a leak nobody. Where the program
// has no profile that is said.
func TestGrowNamesWhoKeepsAGoHeapByItsOwnProfile(t *testing.T) {
	t.Parallel()
	needBPF(t)
	dir := t.TempDir()
	var group []*suspect
	add := func(c leaks.Case, rate int) *suspect {
		if err := c.Missing(); err != nil {
			t.Skip(err)
		}
		argv := leaks.Args(c.Build(t, dir), 10*time.Minute, rate)
		s := &suspect{Case: c, Program: leaks.Start(t, dir, argv), name: filepath.Base(argv[0])}
		group = append(group, s)
		return s
	}
	slow, fast := add(leaks.GoServer("sessions"), 1<<20), add(leaks.GoServer("sessions"), 3<<20)
	none := add(leaks.GoServer("none"), 1<<20)
	var without *suspect
	for _, c := range leaks.Cases() {
		if c.Name == "go heap" {
			without = add(c, 1<<20)
		}
	}
	named := func(s *suspect) bool {
		f := &s.found[0]
		return f.Blamed != "" && f.Confidence >= 0.95 && f.Heap != nil && f.Heap.Source == "go profile" && s.unsampled == ""
	}
	// On a busy machine readings come late: then it takes longer.
	for length := 30 * time.Second; ; length *= 2 {
		if err := watchSuspects(t, group, length, 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if named(slow) && named(fast) || length > 2*time.Minute {
			break
		}
		t.Logf("%s are too short", length)
	}
	for _, s := range []*suspect{slow, fast} {
		if f := &s.found[0]; !named(s) || !s.guilty(f) {
			t.Errorf("a leak: %s; by %+v, %q", f.Sentence, f.Heap, s.unsampled)
		}
		t.Log(s.found[0].Sentence)
	}
	for i := range none.found {
		if f := &none.found[i]; f.Blamed != "" && f.Shared {
			t.Errorf("without a leak: %s; by %+v", f.Sentence, f.Heap)
		}
	}
	if f := &without.found[0]; f.Heap != nil || !strings.Contains(without.unsampled, "MemProfile is not linked in") {
		t.Errorf("without a profile: %q, %+v", without.unsampled, f.Heap)
	}
}
