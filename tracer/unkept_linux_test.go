//go:build amd64 || arm64

package tracer

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf/bpftest"
)

// Where there is room for few rows, the address spaces that are given up say so, and the
// others are as right as ever, children of theirs as well.
func TestExactOrNotKept(t *testing.T) {
	program := bpftest.BuildC(t, workloads, "churn")
	r := newTraced(t, LiveOptions{}, 20*time.Millisecond)
	r.opts.Rows = 400
	c := r.command([]string{program, "-m", "all", "-t", "4", "-n", "8000", "-s", "3"}, nil, os.Stderr)
	rep := r.run(t.Context())
	if code, err := c.Wait(); err != nil || code != 0 {
		t.Fatalf("churn: exit status %d, %v", code, err)
	}
	s := rep.Stats
	if s.Lost+s.Missed+s.Violations+s.Drift+s.LostOwners > 0 || s.Unkept == 0 || s.Calls == 0 {
		t.Errorf("lost %d, missed %d, violations %d, drift %d, not kept %d, calls %d\n%s\n%s",
			s.Lost, s.Missed, s.Violations, s.Drift, s.Unkept, s.Calls, strings.Join(r.find, "\n"), r.log.String())
	}
	unkept := 0
	for _, sp := range rep.Spaces {
		n := r.tr.Tree(sp.Process.Space).Totals().Extents
		switch why := sp.Picture.Why; why {
		case "", "gone before its last changes could be read", "gone before its mappings could be read":
		case "its mappings are not kept: memory budget reached":
			if unkept++; n > 0 {
				t.Errorf("process %d is not kept, and has %d extents", sp.Process.PID, n)
			}
		default:
			t.Errorf("process %d: %s", sp.Process.PID, sp.Picture)
		}
	}
	if unkept == 0 || unkept == len(rep.Spaces) {
		t.Errorf("%d of %d address spaces are not kept, want some", unkept, len(rep.Spaces))
	}
}
