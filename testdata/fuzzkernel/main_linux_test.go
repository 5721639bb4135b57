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
	var out bytes.Buffer
	if err = run(t.Context(), []string{"-maptrace", binary, "-sources", ".", "-for", "20s"}, &out); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
}
