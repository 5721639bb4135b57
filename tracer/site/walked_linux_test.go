package site

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// treeOf is the address space of a process.
func treeOf(t *testing.T, pid int) *space.Space {
	t.Helper()
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	tree := space.New(space.Options{PageSize: uint64(os.Getpagesize())})
	read := space.Read{Range: space.All, Op: space.OpSeed, Began: 1}
	for _, m := range rows {
		read.Rows = append(read.Rows, space.Row{Mapping: m})
	}
	tree.Reread(read)
	return tree
}

// walked runs testdata/walked, and returns the stack that it prints.
func walked(t *testing.T, flags ...string) (pid int, pcs []uint64) {
	t.Helper()
	tool.Need(t, "go")
	bin := filepath.Join(t.TempDir(), "walked")
	build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", bin}, append(flags, "./testdata/walked")...)...)
	build.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(line) {
		var pc uint64
		if _, err := fmt.Sscan(word, &pc); err != nil {
			t.Fatal(err)
		}
		pcs = append(pcs, pc)
	}
	return cmd.Process.Pid, pcs
}

// TestAStackThatGoHasWalkedHasInlinedFunctionsOnce checks stacks whose inlined functions
// have addresses of their own. Where there is no debug information, each has the name of
// the function that it is a part of.
func TestAStackThatGoHasWalkedHasInlinedFunctionsOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flags       []string
		stack, path string
	}{
		"with debug information": {
			nil,
			"main.write strings.Map main.inner main.middle main.outer main.main runtime.main runtime.goexit",
			"main.write main.inner main.middle main.outer main.main",
		},
		"without": {
			[]string{"-ldflags=-s -w"},
			"main.write strings.Map main.outer main.outer main.outer main.main runtime.main runtime.goexit",
			"main.write main.outer main.outer main.outer main.main",
		},
		"position independent": {
			[]string{"-buildmode=pie"},
			"main.write strings.Map main.inner main.middle main.outer main.main runtime.main runtime.goexit",
			"main.write main.inner main.middle main.outer main.main",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pid, pcs := walked(t, tt.flags...)
			tree := treeOf(t, pid)
			s := New(Options{})
			defer s.Close()
			id := s.Walked(pid, tree, pcs)
			var got, path []string
			lines, end := s.Stack(id)
			for _, l := range lines {
				got = append(got, strings.TrimSuffix(l.Function, ".abi0"))
			}
			if d := cmp.Diff(strings.Fields(tt.stack), got); d != "" || end != stack.EndRoot {
				t.Errorf("it ends with %v; (-want +got):\n%s", end, d)
			}
			for _, p := range s.Path(id) {
				if !p.Serves {
					path = append(path, p.Function[strings.IndexByte(p.Function, 0)+1:])
				}
			}
			if d := cmp.Diff(strings.Fields(tt.path), path); d != "" {
				t.Errorf("the path (-want +got):\n%s", d)
			}
			if again := s.Walked(pid, tree, pcs); again != id {
				t.Errorf("the same stack is %d, then %d", id, again)
			}
			if st := s.Stats(); st.Stacks != 0 || st.Sites != 1 {
				t.Errorf("%d stacks were walked, there are %d sites", st.Stacks, st.Sites)
			}
			m, bias, ok := s.GoProgram(pid, tree)
			if !ok {
				t.Fatal("its program is not found")
			}
			if fn, _ := m.Function(pcs[0] - 1 - bias); fn.Name != "main.write" {
				t.Errorf("its program has %q at the innermost place", fn.Name)
			}
		})
	}
}

func TestAStackThatIsTooDeepIsCut(t *testing.T) {
	t.Parallel()
	pid, pcs := walked(t)
	s := New(Options{Depth: 2})
	defer s.Close()
	if lines, end := s.Stack(s.Walked(pid, treeOf(t, pid), pcs)); len(lines) != 2 || end != stack.EndDepth {
		t.Errorf("%d lines, %v", len(lines), end)
	}
}

func TestAProcessWithoutGoHasNoGoProgram(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	if _, _, ok := s.GoProgram(os.Getpid(), space.New(space.Options{})); ok {
		t.Error("one was found where nothing is mapped")
	}
}
