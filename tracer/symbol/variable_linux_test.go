package symbol

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// marked is a value that nothing else in a program has.
const marked = 0x1234567890abcdef

const variablesProgram = `package main

import (
	"fmt"
	"os"
)

var (
	first    = 0x1234567890abcdef
	second   = 0x1234567890abcdef
	third    []*int
	constant = &[...]int{0x1234567890abcdef, 2}
)

func inlined(n int) int { return n * n }

//go:noinline
func called(n int) int { return inlined(n) + first + second + len(third) + constant[n] }

func main() {
	if len(os.Args) > 9 {
		first, second, third = 1, 2, append(third, &first)
	}
	fmt.Println(called(len(os.Args) - 1))
}
`

// goVariables lists the variables as go tool nm does.
func goVariables(t *testing.T, file string) map[string]uint64 {
	t.Helper()
	all := make(map[string]uint64)
	for line := range strings.Lines(run(t, "", "go", "tool", "nm", file)) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.ContainsAny(f[1], "BbDd") {
			continue
		}
		addr, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			t.Fatalf("go tool nm: %q", line)
		}
		all[f[2]] = addr
	}
	return all
}

func TestVariablesAreWhereGoToolNmSays(t *testing.T) {
	t.Parallel()
	need(t, "go", "objcopy", "gcc")
	for _, c := range []struct {
		name  string
		env   []string
		flags []string
	}{
		{"static", []string{"CGO_ENABLED=0"}, nil},
		{"position independent", []string{"CGO_ENABLED=0"}, []string{"-buildmode=pie"}},
		{"by C's linker", []string{"CGO_ENABLED=1"}, []string{"-ldflags=-linkmode=external"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			prog := buildGo(t, variablesProgram, c.env, c.flags...)
			all := goVariables(t, prog)
			names := []string{"main.first", "main.third", "runtime.mheap_", "runtime.buildVersion"}
			want := make(map[string]uint64)
			for _, name := range names {
				if want[name] = all[name]; want[name] == 0 {
					t.Fatalf("go tool nm does not know %s", name)
				}
			}
			asked := append(names, "main.fourth", "ain.first", "main.firs", "main.called")
			if d := cmp.Diff(want, open(t, prog).Variables(asked...)); d != "" {
				t.Errorf("(-nm +got):\n%s", d)
			}

			stripped := filepath.Join(t.TempDir(), "stripped")
			run(t, "", "strip", "-o", stripped, prog)
			if got := open(t, stripped).Variables(asked...); len(got) > 0 {
				t.Errorf("stripped, it has %v", got)
			}
			debug := filepath.Join(t.TempDir(), "debug")
			run(t, "", "objcopy", "--only-keep-debug", prog, debug)
			linked := filepath.Join(filepath.Dir(debug), "linked")
			run(t, "", "objcopy", "--strip-all", "--add-gnu-debuglink="+debug, prog, linked)
			m := open(t, linked)
			if d := cmp.Diff(want, m.Variables(asked...)); d != "" {
				t.Errorf("with a debug file (-nm +got):\n%s", d)
			}

			data, image := m.Data()
			for name, addr := range want {
				in := slices.ContainsFunc(data, func(r procmaps.Range) bool { return r.Contains(addr) })
				if !in || !image.Contains(addr) {
					t.Errorf("%s at %#x is neither in %v nor in %v", name, addr, data, image)
				}
			}
			marks := []uint64{all["main.first"], all["main.second"]}
			got := m.Initialized(marked, 10)
			// What has a pointer to it is a variable, too.
			got = slices.DeleteFunc(got, func(addr uint64) bool { return !slices.Contains(marks, addr) })
			slices.Sort(marks)
			slices.Sort(got)
			if d := cmp.Diff(marks, got); d != "" {
				t.Errorf("words with the value (-want +got):\n%s", d)
			}
			if got := m.Initialized(marked, 1); len(got) != 1 {
				t.Errorf("the first word with the value: %#x", got)
			}
			for name, has := range map[string]bool{"main.called": true, "main.inlined": true, "runtime.main": true, "main.calle": false, "ain.called": false} {
				if got := m.HasGoFunction(name); got != has {
					t.Errorf("it has %q: %t", name, got)
				}
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if len(m.Variables(names...))+len(m.Initialized(marked, 1)) > 0 || m.HasGoFunction("main.called") {
				t.Error("closed, it has variables or functions")
			}
		})
	}
}

// What the dynamic linker protects is no variable, though it is in the same segment: the
// size of a type.
func TestProtectedWordsAreNoVariables(t *testing.T) {
	t.Parallel()
	need(t, "go")
	const program = `package main

import "fmt"

type large [0x12345678]byte

func main() { fmt.Printf("%T", (*large)(nil)) }
`
	m := open(t, buildGo(t, program, []string{"CGO_ENABLED=0"}, "-buildmode=pie"))
	if got := m.Initialized(0x12345678, 10); len(got) > 0 {
		t.Errorf("found at %#x", got)
	}
	all := 0
	for range m.head.scanSegments(elf.PF_W, func(word []byte) bool { return m.head.order.Uint64(word) == 0x12345678 }) {
		all++
	}
	if all == 0 {
		t.Error("the value is not in the segment")
	}
}
