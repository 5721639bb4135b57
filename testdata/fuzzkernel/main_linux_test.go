package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer"
)

// TestTablesOfRandomPrograms runs programs for some seconds; make fuzz-kernel does so
// for an hour. A failure names the seed, and the program that it left.
func TestTablesOfRandomPrograms(t *testing.T) {
	binary := build(t)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-maptrace", binary, "-sources", ".", "-for", "20s"}, &out); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
}

// TestProgramsThatFailedOnce runs those again and again of which maptrace was wrong.
func TestProgramsThatFailedOnce(t *testing.T) {
	binary := build(t)
	const runs = "20"
	for name, program := range map[string]string{
		// Fork locks each VMA, and the look at what a call has mapped passed over it.
		"a mapping is made just before a fork": "threads 2 root 0 settle 50000\n0 fork s 2\n1 mmap s 0x21005000 0x8000 4 0x12 101 0x4000\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "program")
			if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := run(t.Context(), []string{"-maptrace", binary, "-sources", ".", "-program", file, "-runs", runs}, &out); err != nil {
				t.Error(err)
			}
			t.Log(out.String())
		})
	}
}

// build builds maptrace, if this machine lets it trace.
func build(t *testing.T) string {
	t.Helper()
	l, err := tracer.OpenLive(tracer.LiveOptions{})
	if err != nil {
		bpftest.SkipIfRefused(t, err)
		t.Fatal(err)
	}
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	tool.Need(t, "gcc")
	if os.Geteuid() != 0 {
		bpftest.Skip(t, "the programs begin as root")
	}
	binary := filepath.Join(t.TempDir(), "maptrace")
	if out, failed := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/maptrace").CombinedOutput(); failed != nil {
		t.Fatalf("go build: %v\n%s", failed, out)
	}
	return binary
}
