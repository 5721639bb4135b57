package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/maptrace/maptrace/testdata/tool"
)

// bpfCall is a line of strace of a call that loads, or waits for, what pmap must do
// without.
var bpfCall = regexp.MustCompile(`(?m)^.*\b(bpf|perf_event_open)\(.*$`)

// strace runs the program and returns its calls of the kinds that bpfCall finds, and
// how it ended.
func strace(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if raced {
		t.Skip("it runs the program, which is built without the race detector")
	}
	path := tool.Need(t, "strace")
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(path, append([]string{"-f", "-e", "trace=bpf,perf_event_open,execve", "-o", log, binary(t)}, args...)...)
	out, ended := cmd.CombinedOutput()
	calls, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`\bexecve\(.*= 0\n`).Match(calls) {
		t.Skipf("strace cannot trace here:\n%s\n%s", calls, out)
	}
	return string(calls), ended
}

func TestTablesLoadNoBPF(t *testing.T) {
	t.Parallel()
	if calls, _ := strace(t, "doctor"); !bpfCall.MatchString(calls) {
		t.Fatalf("strace does not even show what doctor does:\n%s", calls)
	}
	pid := strconv.Itoa(os.Getpid())
	for _, args := range [][]string{
		{"pmap", pid},
		{"-x", pid},
		{"pmap", "-XX", pid},
		{"pmap", "--json", pid},
		{"pmap", "--watch", "0.05", "--count", "2", pid},
		{"pmap", "--help"},
	} {
		calls, err := strace(t, args...)
		if err != nil {
			t.Errorf("maptrace %q: %v", args, err)
		}
		if call := bpfCall.FindString(calls); call != "" {
			t.Errorf("maptrace %q calls %s", args, call)
		}
	}
}
