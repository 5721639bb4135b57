package symbol

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const goProgram = `package main

import (
	"fmt"
	"os"
	"strings"
)

type stack[T any] struct{ all []T }

func (s *stack[T]) push(v T) { s.all = append(s.all, v) }

func inlined(n int) int { return n*n + len(os.Args) }

//go:noinline
func grow(n int) int {
	var s stack[string]
	for i := range n {
		s.push(strings.Repeat("x", inlined(i)))
	}
	return len(s.all) + inlined(n)
}

func main() { fmt.Println(grow(len(os.Args))) }
`

const cProgram = `package main

// static int twice(int n) { return 2 * n; }
import "C"

import "fmt"

func main() { fmt.Println(C.twice(4)) }
`

// buildGo builds a program with the Go compiler.
func buildGo(tb testing.TB, source string, env []string, flags ...string) string {
	tb.Helper()
	need(tb, "go")
	dir := tb.TempDir()
	for name, text := range map[string]string{"main.go": source, "go.mod": "module prog\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			tb.Fatal(err)
		}
	}
	out := filepath.Join(dir, "prog")
	argv := append([]string{"env", "-C", dir}, env...)
	argv = append(argv, "go", "build", "-o", out)
	run(tb, "", append(append(argv, flags...), ".")...)
	return out
}

// goFunctions lists the functions as go tool nm does.
func goFunctions(t *testing.T, file string) []nmSymbol {
	t.Helper()
	var all []nmSymbol
	for line := range strings.Lines(run(t, "", "go", "tool", "nm", "-size", "-sort", "address", file)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "T" && f[2] != "t" {
			continue
		}
		start, err1 := strconv.ParseUint(f[0], 16, 64)
		size, err2 := strconv.ParseUint(f[1], 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("go tool nm: %q", line)
		}
		if size > 0 {
			all = append(all, nmSymbol{start, size, strings.Join(f[3:], " ")})
		}
	}
	return all
}

// withoutTypes drops what only one of two tables has: the types of a generic
// function, which are [...] in Go's own, and the calling convention.
func withoutTypes(name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".abi0"), ".abiinternal")
	name = strings.ReplaceAll(name, "·", ".") // as the linker has it
	for {
		i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
		if i < 0 || j < i {
			return name
		}
		name = name[:i] + name[j+1:]
	}
}

func TestStrippedGoProgramsAreNamedAsByGoToolNm(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name, source string
		env, flags   []string
	}{
		{"static", goProgram, []string{"CGO_ENABLED=0"}, nil},
		{"position independent", goProgram, []string{"CGO_ENABLED=0"}, []string{"-buildmode=pie"}},
		{"with C code first", cProgram, []string{"CGO_ENABLED=1"}, []string{"-ldflags=-linkmode=external"}},
		{"with C code first, position independent", cProgram, []string{"CGO_ENABLED=1"}, []string{"-buildmode=pie"}},
		{"with C code first, and the ELF header in its segment", cProgram, []string{"CGO_ENABLED=1"}, []string{"-buildmode=pie", "-ldflags=-extldflags=-Wl,-z,noseparate-code"}},
		{"for arm64", goProgram, []string{"CGO_ENABLED=0", "GOARCH=arm64"}, nil},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if k.source == cProgram {
				need(t, "gcc")
			}
			need(t, "objcopy")
			prog := buildGo(t, k.source, k.env, k.flags...)
			all := goFunctions(t, prog)
			stripped := filepath.Join(t.TempDir(), "stripped")
			if k.name == "for arm64" {
				stripped = buildGo(t, k.source, k.env, append(k.flags, "-ldflags=-s -w")...)
			} else {
				run(t, "", "strip", "-o", stripped, prog)
			}
			checkGo(t, open(t, stripped), all)
			t.Run("without section headers", func(t *testing.T) {
				b, err := os.ReadFile(stripped)
				if err != nil {
					t.Fatal(err)
				}
				checkGo(t, read(t, withoutHeaders(b), Options{}), all)
			})
			t.Run("with empty places for the dynamic linker to fill", func(t *testing.T) {
				b, n := withoutPlaces(t, stripped)
				if n == 0 && slices.Contains(k.flags, "-buildmode=pie") {
					t.Error("there are none")
				}
				checkGo(t, read(t, b, Options{}), all)
				checkGo(t, read(t, withoutHeaders(b), Options{}), all)
			})
		})
	}
}

// withoutPlaces is a program as linkers make it that write nothing where the dynamic
// linker will, and how many places that are.
func withoutPlaces(t *testing.T, file string) (b []byte, places int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Sections {
		if s.Type != relocationType || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		all, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		const entry, word = 24, 8
		for ; len(all) >= entry; all = all[entry:] {
			r := relocation{at: f.ByteOrder.Uint64(all), info: f.ByteOrder.Uint64(all[word:])}
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD && r.relative(f.Machine) && p.Vaddr <= r.at && r.at+word <= p.Vaddr+p.Filesz {
					clear(b[p.Off+r.at-p.Vaddr:][:word])
					places++
				}
			}
		}
	}
	return b, places
}

// checkGo compares functions with those of go tool nm.
func checkGo(t *testing.T, m *Module, all []nmSymbol) {
	t.Helper()
	if !m.IsGo() {
		t.Error("it is not seen to be Go")
	}
	right, wrong := 0, 0
	for _, s := range all {
		fn, ok := m.Function(s.start + s.size/2)
		switch {
		case ok && fn.From == FromGo && fn.Start == s.start && withoutTypes(fn.Name) == withoutTypes(s.name):
			right++
		case !strings.Contains(s.name, ".") || strings.HasSuffix(s.name, ".cold"): // of C, which Go's table does not know
			if ok && (fn.Name != s.name || fn.From != FromDynsym) {
				t.Errorf("Function(%s) = %+v", s.name, fn)
			}
		default:
			if wrong++; wrong < 10 {
				t.Logf("Function(%s) = %+v, %v; want start %#x", s.name, fn, ok, s.start)
			}
		}
	}
	t.Logf("%d right, %d others", right, wrong)
	if share := float64(right) / float64(right+wrong); share < 0.99 || right < 100 {
		t.Errorf("only %.1f %% agree", 100*share)
	}
}

const oldGoProgram = `package main

import (
	"fmt"
	"os"
	"strings"
)

type stack struct{ all []string }

func (s *stack) push(v string) { s.all = append(s.all, v) }

func main() {
	var s stack
	for i := range os.Args {
		s.push(strings.Repeat("x", i))
	}
	fmt.Println(s)
}
`

// The tables of these versions differ. Their toolchains are large: they are used where
// the module cache has them, and fetched with MAPTRACE_LONG=1.
func TestStrippedProgramsOfOldGoAreNamedAsByGoToolNm(t *testing.T) {
	t.Parallel()
	need(t, "go", "objcopy", "gcc")
	for _, v := range []struct {
		name  string
		table int
	}{
		{"go1.9.7", go12}, {"go1.12.17", go12}, {"go1.16.15", go116}, {"go1.17.13", go116}, {"go1.19.13", go118}, {"go1.22.12", go120},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			env := []string{"GOENV=off", "GOFLAGS=", "GOTOOLCHAIN=" + v.name, "GOPROXY=off"}
			if os.Getenv("MAPTRACE_LONG") == "1" {
				for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB"} {
					env = append(env, name+"="+strings.TrimSpace(run(t, "", "go", "env", name)))
				}
			}
			cmd := exec.Command("go", "env", "GOROOT")
			cmd.Env = append(os.Environ(), env...)
			out, err := cmd.Output()
			if err != nil {
				t.Skipf("needs the toolchain of %s: %v", v.name, err)
			}
			root := strings.TrimSpace(string(out))
			env = []string{
				"GOENV=off", "GOFLAGS=", "GO111MODULE=off", "GOTOOLCHAIN=local", "GOROOT=" + root,
				"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH"),
			}
			for _, k := range []struct{ name, source, cgo, mode string }{
				{"static", oldGoProgram, "0", "exe"},
				{"position independent, by C's linker", cProgram, "1", "pie"},
			} {
				t.Run(k.name, func(t *testing.T) {
					prog := buildGo(t, k.source, append(env, "CGO_ENABLED="+k.cgo), "-buildmode="+k.mode)
					stripped := filepath.Join(t.TempDir(), "stripped")
					run(t, "", "strip", "-o", stripped, prog)
					m := open(t, stripped)
					checkGo(t, m, goFunctions(t, prog))
					if got := m.goTable(); got == nil || got.version != v.table {
						t.Errorf("its table is %+v", got)
					}
				})
			}
		})
	}
}

// go tool addr2line knows the functions and positions, and no inlined calls: of
// those it gives the position and the function whose code it is.
func TestGoPositionsAreThoseOfGoToolAddr2line(t *testing.T) {
	t.Parallel()
	prog := buildGo(t, goProgram, []string{"CGO_ENABLED=0"})
	need(t, "strip")
	bare := filepath.Join(t.TempDir(), "bare")
	run(t, "", "strip", "-o", bare, prog)
	all := goFunctions(t, prog)
	addrs := addresses(all, 17, 1<<20)
	var in strings.Builder
	for _, a := range addrs {
		in.WriteString("0x" + strconv.FormatUint(a, 16) + "\n")
	}
	out := strings.Split(strings.TrimSpace(run(t, in.String(), "go", "tool", "addr2line", prog)), "\n")
	if len(out) != 2*len(addrs) {
		t.Fatalf("%d lines for %d addresses", len(out), len(addrs))
	}
	full, stripped := open(t, prog), open(t, bare)
	wrongFull, wrongBare, started, inlined, total := 0, 0, 0, 0, 0
	for i, addr := range addrs {
		name := out[2*i]
		at := strings.LastIndexByte(out[2*i+1], ':')
		file, line := out[2*i+1][:at], out[2*i+1][at+1:]
		if name == "?" || line == "0" {
			continue
		}
		total++
		got := stripped.Lines(addr, nil)
		// Debug information has no line for what the compiler made up.
		if want := full.Lines(addr, nil); len(got) == 1 && len(want) > 0 && want[len(want)-1].Start > 0 {
			if started++; got[0].Start != want[len(want)-1].Start {
				t.Errorf("%s starts at %d; want %d", got[0].Function, got[0].Start, want[len(want)-1].Start)
			}
		}
		if len(got) != 1 || withoutTypes(got[0].Function) != withoutTypes(name) || got[0].File != file || strconv.Itoa(got[0].Line) != line {
			if wrongBare++; wrongBare < 5 {
				t.Logf("stripped: Lines(%#x) = %+v; want %s %s:%s", addr, got, name, file, line)
			}
		}
		got = full.Lines(addr, nil)
		if len(got) == 0 || withoutTypes(got[len(got)-1].Function) != withoutTypes(name) || got[0].File != file || strconv.Itoa(got[0].Line) != line {
			if wrongFull++; wrongFull < 5 {
				t.Logf("Lines(%#x) = %+v; want %s %s:%s", addr, got, name, file, line)
			}
		}
		if len(got) > 1 {
			inlined++
		}
	}
	t.Logf("%d addresses: %d differ with debug information, %d when stripped; %d in inlined calls", total, wrongFull, wrongBare, inlined)
	if total < 10000 || started < total/2 || wrongBare > total/100 || wrongFull > total/100 || inlined < total/20 {
		t.Error("too many differ, or too few were looked at")
	}
}
