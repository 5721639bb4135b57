package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestChildrenByTheHundredHoldNothingOpen has a shell run many short programs: what
// grow has open for them is closed when they end.
func TestChildrenByTheHundredHoldNothingOpen(t *testing.T) {
	needBPF(t)
	const children = 400
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done; sleep 0.3", children)
	p := launch(t, exec.Command(binary(t), "grow", "--interval", "50ms", "--", "sh", "-c", script))
	most, fds := 0, fmt.Sprintf("/proc/%d/fd", p.Process.Pid)
	for running := true; running; {
		select {
		case <-p.done:
			running = false
		case <-time.After(10 * time.Millisecond):
			if open, err := os.ReadDir(fds); err == nil {
				most = max(most, len(open))
			}
		}
	}
	r := succeed(t, p.result())
	if most == 0 || most > children/2 {
		t.Errorf("%d files were open at once while %d children came and went", most, children)
	}
	if !strings.Contains(r.out, "(sh)") || strings.Contains(r.out, "(true)") {
		t.Errorf("reported:\n%s", r.out)
	}
}
