package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/testdata/heaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// sampledHeap watches a program, which must live, and returns what was found of the memory
// that grows the most, and what sampling has cost.
func sampledHeap(t *testing.T, adjust func(*exec.Cmd)) (worst render.FindingObject, cost render.HeapsObject) {
	t.Helper()
	needBPF(t)
	needRoot(t)
	h := startHelperWith(t, "", adjust)
	r := maptrace(t, "grow", "--for", "20s", "-o", "json", "-p", h.pid())
	if err := h.in.Close(); err != nil {
		t.Fatal(err)
	}
	if lived := h.result(); lived.code != 0 {
		t.Errorf("the program: %+v", lived)
	}
	found := false
	for line := range strings.Lines(r.out) {
		var kind struct{ Event string }
		var err error
		switch err = json.Unmarshal([]byte(line), &kind); {
		case err != nil:
		case kind.Event == "finding" && !found:
			found = true
			err = json.Unmarshal([]byte(line), &worst)
		case kind.Event == "summary":
			var summary struct{ Heaps render.HeapsObject }
			err = json.Unmarshal([]byte(line), &summary)
			cost = summary.Heaps
		}
		if err != nil {
			t.Fatalf("%v: %s%s", err, line, r.stderr)
		}
	}
	t.Logf("%s; %+v", worst.Sentence, worst.Heap)
	return worst, cost
}

// TestGrowTellsWhichPartOfItsBlocksAFunctionKeeps watches a server that frees four of five
// sessions at once: they are no better known by their contents than the one that it forgets.
// It has the machine to itself: the fewer blocks are sampled, the less is known of how many stay.
//
//nolint:paralleltest // see above
func TestGrowTellsWhichPartOfItsBlocksAFunctionKeeps(t *testing.T) {
	path := bpftest.BuildC(t, "../../testdata/workload", "sessions")
	worst, _ := sampledHeap(t, func(cmd *exec.Cmd) { cmd.Path, cmd.Args = path, []string{path} })
	if worst.Heap == nil || len(worst.Heap.Functions) == 0 {
		t.Fatalf("nothing is known of who keeps it: %+v", worst)
	}
	k := &worst.Heap.Functions[0]
	if !strings.HasPrefix(k.By, "new_session ") || math.Abs(k.Survival-0.2) > 0.1 {
		t.Errorf("%s keeps %.2f of what it allocates, want new_session and 0.2", k.By, k.Survival)
	}
	if worst.Blamed != "" && !strings.HasPrefix(worst.Blamed, "new_session ") {
		t.Errorf("%s is blamed", worst.Blamed)
	}
}

// TestAnAllocatorWhoseOperatorThrowsIsSampled watches a program that lives by exceptions of
// jemalloc's operator new.
func TestAnAllocatorWhoseOperatorThrowsIsSampled(t *testing.T) {
	t.Parallel()
	gxx := tool.Need(t, "g++")
	lib, err := heaps.LibraryPath(t.Context(), "libjemalloc.so.2")
	if err != nil {
		bpftest.Skip(t, "it %v", err)
	}
	path := filepath.Join(t.TempDir(), "throws")
	if err = tool.Make(t.Context(), path, gxx, "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, "../../testdata/workload/throws.cc"); err != nil {
		t.Fatal(err)
	}
	worst, cost := sampledHeap(t, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args, cmd.Env = path, []string{path}, append(os.Environ(), "LD_PRELOAD="+lib)
	})
	if cost.Blocks == 0 {
		t.Errorf("no blocks were sampled: %+v", cost)
	}
	if worst.Blamed != "" && !strings.HasPrefix(worst.Blamed, "open_session") {
		t.Errorf("%s is blamed", worst.Blamed)
	}
}
