// Package bpftest helps tests that need the real kernel.
package bpftest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/maptrace/maptrace/testdata/tool"
)

// required is the environment variable that turns skips into failures: where it
// is set, the machine is known to be able to run everything.
const required = "MAPTRACE_REQUIRE_BPF"

// Skip skips the test, or fails it where nothing may be skipped.
func Skip(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv(required) != "" {
		tb.Fatalf("must not be skipped ("+required+" is set): "+format, args...)
	}
	tb.Skipf(format, args...)
}

// SkipIfRefused skips the test if err says that we may not, or that the kernel
// cannot.
func SkipIfRefused(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		Skip(tb, "%v", err)
	}
}

// Long skips the test unless long ones were asked for.
func Long(tb testing.TB) {
	tb.Helper()
	if os.Getenv("MAPTRACE_LONG") == "" {
		tb.Skip("takes minutes: set MAPTRACE_LONG=1")
	}
}

var built struct {
	sync.Mutex
	paths map[string]string
	dir   string
}

// BuildC compiles one of the C workloads with gcc, once a test binary, and
// returns the program's path. dir is that of the sources.
func BuildC(tb testing.TB, dir, name string) string {
	tb.Helper()
	built.Lock()
	defer built.Unlock()
	if p := built.paths[name]; p != "" {
		return p
	}
	gcc, err := tool.Path("gcc")
	if err != nil {
		Skip(tb, "%v", err)
	}
	if built.dir == "" {
		//nolint:usetesting // it outlives the test that builds it
		if built.dir, err = os.MkdirTemp("", "maptrace-workload-"); err != nil {
			tb.Fatal(err)
		}
		built.paths = make(map[string]string)
	}
	out := filepath.Join(built.dir, name)
	cmd := exec.Command(gcc, "-O2", "-pthread", "-Wall", "-Wextra", "-Werror",
		filepath.Join(dir, name+".c"), "-o", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %v\n%s", cmd.Args, err, text)
	}
	built.paths[name] = out
	return out
}

// Clean removes what BuildC built. TestMain calls it.
func Clean() {
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a temporary directory
		built.dir = ""
	}
}
