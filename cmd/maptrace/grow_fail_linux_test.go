package main

import (
	"fmt"
	"os/exec"
	"testing"
)

func TestLimitsAreJudgedWhateverTheCommandEndsWith(t *testing.T) {
	t.Parallel()
	needBPF(t)
	leak := fmt.Sprintf("%s %s --duration 3s; exit ", binary(t), leakyCommand)
	for _, tt := range []struct {
		name    string
		rule    string
		every   string // which is how long what was not looked at may take to end
		command string
		code    exitCode
		stderr  string
	}{
		{"a leak, and success", "leaks", "50ms", leak + "0", exitGrowth, "LEAK "},
		{"a leak, and a failure", "leaks", "50ms", leak + "3", exitGrowth, "LEAK "},
		{"all memory, and success", "growth > 1MiB/min", "50ms", leak + "0", exitGrowth, "growth > 1MiB/min: "},
		{"all memory below the limit", "growth > 10GiB/min", "50ms", leak + "0", exitOK, ""},
		{"no leak, and a failure", "file growth > 1GiB/s", "50ms", leak + "3", 3, ""},
		{"nothing that was looked at", "leaks", "1m", "exit 0", exitUnsupported, "--fail-on cannot be judged: no process was there for long enough"},
		{"nothing that was looked at, and a failure", "leaks", "1m", "exit 3", exitUnsupported, "--fail-on cannot be judged: no process was there for long enough"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := launch(t, exec.Command(binary(t), "grow", "--interval", tt.every, "--top", "1", "--fail-on", tt.rule, "--", "sh", "-c", tt.command)).result()
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d; it printed:\n%s", r.code, tt.code, r.out)
			}
			if tt.stderr == "" {
				if r.stderr != "" {
					t.Errorf("standard error: %q", r.stderr)
				}
				return
			}
			checkOneLine(t, r.stderr, tt.stderr)
		})
	}
}
