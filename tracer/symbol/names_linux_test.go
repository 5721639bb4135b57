package symbol

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var kinds = []struct {
	name   string
	source string
	flags  []string
}{
	{"C position independent", "calls.c", []string{"-O2", "-g", "-fPIE", "-pie"}},
	{"C at fixed addresses", "calls.c", []string{"-O2", "-g", "-no-pie"}},
	{"C static", "calls.c", []string{"-O2", "-g", "-static"}},
	{"C of DWARF 4", "calls.c", []string{"-O2", "-gdwarf-4"}},
	{"C of DWARF 3", "calls.c", []string{"-O1", "-gdwarf-3", "-gstrict-dwarf"}},
	{"C of DWARF 2", "calls.c", []string{"-O1", "-gdwarf-2", "-gstrict-dwarf"}},
	{"C compressed", "calls.c", []string{"-O2", "-gz"}},
	{"C with functions in sections", "calls.c", []string{"-O2", "-g", "-ffunction-sections", "-Wl,--gc-sections"}},
	{"C++", "shapes.cc", []string{"-O2", "-g"}},
	{"C++ not optimized", "shapes.cc", []string{"-O0", "-gdwarf-4"}},
	{"C++ optimized as a whole", "shapes.cc", []string{"-O2", "-g", "-flto"}},
}

func TestNamesAndLinesAreThoseOfNmAndAddr2line(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			prog := compile(t, k.source, append(k.flags, "-g")...)
			m, all := open(t, prog), nm(t, prog)
			checkNames(t, m, all, all, FromSymtab)
			some := all
			if k.name == "C static" { // the rest is the C library's
				some = slices.DeleteFunc(slices.Clone(all), func(s nmSymbol) bool {
					return s.name != "local" && s.name != "outer" && s.name != "main"
				})
			}
			if share := checkLines(t, m, prog, all, addresses(some, 3, 20000)); share < 0.98 {
				t.Errorf("only %.1f %% of the lines agree", 100*share)
			}
		})
	}
}

// A function is declared on the line that has its name, also where it is inlined.
func TestFunctionsStartWhereTheSourceDeclaresThem(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "shapes.cc"))
	if err != nil {
		t.Fatal(err)
	}
	source := strings.Split(string(text), "\n")
	for _, dwarf := range []string{"-gdwarf-5", "-gdwarf-4"} {
		prog := compile(t, "shapes.cc", "-O2", dwarf)
		m := open(t, prog)
		seen := map[string]bool{"grow": false, "hidden": false, "operator[]": false, "Table": false}
		for _, addr := range addresses(nm(t, prog), 3, 20000) {
			for _, l := range m.Lines(addr, nil) {
				name := l.Function[strings.LastIndex(l.Function, ":")+1:]
				if _, ours := seen[name]; !ours || !strings.HasPrefix(l.Linkage, "_ZN6shapes") {
					continue
				}
				seen[name] = true
				if l.Start < 1 || l.Start > len(source) || !strings.Contains(source[l.Start-1], name+"(") {
					t.Errorf("%s (%s) starts at line %d", l.Function, l.Linkage, l.Start)
				}
			}
		}
		for name, found := range seen {
			if !found {
				t.Errorf("%s: %s is not seen", dwarf, name)
			}
		}
	}
}

// The largest programs at hand, with and without a full symbol table.
func TestRealProgramsAreNamedAsByNm(t *testing.T) {
	t.Parallel()
	need(t, "nm")
	files, err := filepath.Glob("/usr/lib/jvm/*/lib/server/libjvm.so")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "/usr/bin/node", "/lib/x86_64-linux-gnu/libstdc++.so.6", "/lib/x86_64-linux-gnu/libc.so.6")
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			m := open(t, file)
			if m.head.section(".symtab") != nil {
				all := nm(t, file)
				checkNames(t, m, inCode(m, slices.Clone(all)), all, FromSymtab)
			} else {
				all := nm(t, file, "-D")
				checkNames(t, m, inCode(m, slices.Clone(all)), all, FromDynsym)
			}
		})
	}
}

// The C library has a debug file where the distribution's package of it is
// installed: of compressed sections, and units that share entries.
func TestLinesOfTheCLibraryAreThoseOfAddr2line(t *testing.T) {
	t.Parallel()
	const file = "/lib/x86_64-linux-gnu/libc.so.6"
	if _, err := os.Stat(file); err != nil {
		t.Skip(err)
	}
	need(t, "addr2line", "nm")
	m := open(t, file)
	if d := m.debugFile(); d == nil {
		t.Skip("needs the debug file of the C library")
	}
	all := nm(t, m.debugFile().file.Name())
	some := slices.DeleteFunc(slices.Clone(all), func(s nmSymbol) bool { return s.start%64 != 0 })
	if share := checkLines(t, m, file, all, addresses(some, 9, 3000)); share < 0.95 {
		t.Errorf("only %.1f %% agree", 100*share)
	}
}

// inCode leaves out the constants in the code, which nm lists as if they were
// functions, and all but some thousand others.
func inCode(m *Module, symbols []nmSymbol) []nmSymbol {
	data := map[uint64]bool{}
	for _, read := range []func() ([]elf.Symbol, error){m.head.file.Symbols, m.head.file.DynamicSymbols} {
		all, err := read()
		if err != nil {
			continue // it has the other
		}
		for _, s := range all {
			if elf.ST_TYPE(s.Info) == elf.STT_OBJECT {
				data[s.Value] = true
			}
		}
	}
	const enough = 5000
	i, step := 0, len(symbols)/enough+1
	return slices.DeleteFunc(symbols, func(s nmSymbol) bool {
		i++
		return data[s.start] || !covered(m.head.code, s.start) || i%step != 0
	})
}

func TestAssemblyWithoutSizesIsNamedUpToTheNextSymbol(t *testing.T) {
	t.Parallel()
	prog := compile(t, "calls.c", "-O2", "-no-pie")
	m := open(t, prog)
	var after uint64
	for _, s := range nm(t, prog) {
		if s.name == "after" {
			after = s.start
		}
	}
	fn, ok := m.Function(after - 1)
	if want := (Function{Name: "bare", Linkage: "bare", Start: after - 3, Size: 3, From: FromSymtab}); !ok || fn != want {
		t.Errorf("Function(after-1) = %+v, %v; want %+v", fn, ok, want)
	}
	if fn, ok := m.Function(after); !ok || fn.Name != "after" || fn.Size != 1 {
		t.Errorf("Function(after) = %+v, %v", fn, ok)
	}
}

func TestStrippedProgramsNameWhatTheyImportAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{
		{"-O2", "-fcf-protection=full"},
		{"-O2", "-fcf-protection=none"},
		{"-O2", "-fcf-protection=full", "-Wl,-z,lazy"},
		{"-O2", "-fcf-protection=none", "-Wl,-z,lazy", "-no-pie"},
	} {
		prog := compile(t, "calls.c", flags...)
		all := nm(t, prog)
		run(t, "", "strip", prog)
		m := open(t, prog)
		for _, s := range all {
			if fn, ok := m.Function(s.start); ok && s.name != "main" {
				t.Errorf("%q: Function(%s) = %+v in a stripped program", flags, s.name, fn)
			}
		}
		got := map[string]bool{}
		for _, stub := range callTargets(t, "objdump", prog) {
			fn, ok := m.Function(stub.addr)
			if !ok || fn.From != FromPLT || fn.Name != stub.name {
				t.Errorf("%q: Function(%#x) = %+v, %v; objdump says %s", flags, stub.addr, fn, ok, stub.name)
			}
			got[stub.name] = true
		}
		if !got["malloc@plt"] || !got["printf@plt"] && !got["__printf_chk@plt"] {
			t.Errorf("%q: objdump lists no call of malloc and printf, only %v", flags, got)
		}
	}
}

func TestProgramsForARM64AreNamed(t *testing.T) {
	t.Parallel()
	const tools = "aarch64-linux-gnu-"
	need(t, tools+"gcc", tools+"objdump", "nm")
	for _, protection := range []string{"none", "standard"} {
		prog := filepath.Join(t.TempDir(), "prog")
		run(t, "", tools+"gcc", "-O2", "-g", "-mbranch-protection="+protection, "-o", prog, filepath.Join("testdata", "calls.c"))
		m, all := open(t, prog), nm(t, prog)
		checkNames(t, m, all, all, FromSymtab)
		stubs := callTargets(t, tools+"objdump", prog)
		for _, s := range stubs {
			if fn, ok := m.Function(s.addr); !ok || fn.Name != s.name || fn.From != FromPLT {
				t.Errorf("%s: Function(%#x) = %+v, %v; objdump says %s", protection, s.addr, fn, ok, s.name)
			}
		}
		if len(stubs) < 4 {
			t.Errorf("%s: only %d stubs", protection, len(stubs))
		}
		for _, s := range all {
			if s.name == "local" {
				if l := m.Lines(s.start, nil); len(l) == 0 || l[len(l)-1].Function != "local" || l[0].Line == 0 {
					t.Errorf("%s: Lines(local) = %+v", protection, l)
				}
			}
		}
	}
}

type target struct {
	addr uint64
	name string
}

// callTargets lists the stubs as objdump labels them: "0000000000001030 <malloc@plt>:".
func callTargets(t *testing.T, objdump, file string) []target {
	t.Helper()
	need(t, objdump)
	var all []target
	for line := range strings.Lines(run(t, "", objdump, "-d", file)) {
		addr, name, ok := strings.Cut(strings.TrimSpace(line), " <")
		name, isLabel := strings.CutSuffix(name, ">:")
		if !ok || !isLabel || !strings.HasSuffix(name, "@plt") {
			continue
		}
		n, err := strconv.ParseUint(addr, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, target{n, name})
	}
	return all
}

func TestDebugFilesAreFoundByBuildIDAndByLink(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name  string
		flags []string
		dir   string
	}{
		{"beside", []string{"-Wl,--build-id"}, "."},
		{"in .debug", []string{"-Wl,--build-id"}, ".debug"},
		{"beside, by its checksum", []string{"-Wl,--build-id=none"}, "."},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			prog, debug := split(t, k.dir, k.flags...)
			m := open(t, prog)
			all := nm(t, debug)
			all = slices.DeleteFunc(all, func(s nmSymbol) bool { return s.name != "local" && s.name != "outer" })
			checkNames(t, m, all, all, FromDebug)
			if share := checkLines(t, m, debug, all, addresses(all, 1, 1000)); share < 0.98 {
				t.Errorf("only %.1f %% of the lines agree", 100*share)
			}
		})
	}
}

// split compiles a program and moves its debug information into a file of its own.
func split(t *testing.T, dir string, flags ...string) (prog, debug string) {
	t.Helper()
	prog = compile(t, "calls.c", append([]string{"-O2", "-g"}, flags...)...)
	dir = filepath.Join(filepath.Dir(prog), dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	debug = filepath.Join(dir, "prog.debug")
	run(t, "", "objcopy", "--only-keep-debug", prog, debug)
	run(t, "", "strip", prog)
	run(t, "", "objcopy", "--add-gnu-debuglink="+debug, prog)
	return prog, debug
}

// withMini strips a program and puts the symbols that are lost into it as Fedora's
// packages have them.
func withMini(t *testing.T, prog string) {
	t.Helper()
	need(t, "xz")
	exported := make(map[string]bool)
	for _, s := range nm(t, prog, "-D") {
		exported[s.name] = true
	}
	var lost strings.Builder
	for _, s := range nm(t, prog) {
		if !exported[s.name] {
			lost.WriteString(s.name + "\n")
		}
	}
	dir := t.TempDir()
	list, mini := filepath.Join(dir, "list"), filepath.Join(dir, "mini")
	if err := os.WriteFile(list, []byte(lost.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "objcopy", "--only-keep-debug", prog, mini+".debug")
	run(t, "", "objcopy", "-S", "--remove-section", ".comment", "--keep-symbols="+list, mini+".debug", mini)
	run(t, "", "xz", mini)
	run(t, "", "strip", prog)
	run(t, "", "objcopy", "--add-section", ".gnu_debugdata="+mini+".xz", prog)
}

func TestCompressedSymbolsInAStrippedFileAreRead(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"-rdynamic"}, {"-no-pie"}, {"-fPIC", "-shared"}} {
		prog := compile(t, "calls.c", append(flags, "-O2")...)
		all := nm(t, prog)
		exported := nm(t, prog, "-D")
		withMini(t, prog)
		m := open(t, prog)
		lost := slices.DeleteFunc(slices.Clone(all), func(s nmSymbol) bool {
			return slices.ContainsFunc(exported, func(e nmSymbol) bool { return e.start == s.start })
		})
		checkNames(t, m, lost, all, FromMini)
		if len(exported) > 0 {
			checkNames(t, m, exported, all, FromDynsym)
		}
		if err := m.Refused(); err != nil {
			t.Errorf("Refused: %v", err)
		}
	}
}

func TestXZOfTheToolIsDecompressed(t *testing.T) {
	t.Parallel()
	need(t, "xz")
	file := filepath.Join(t.TempDir(), "data")
	want := mixed(300 << 10)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"-0"}, {"-9e"}, {"-T2"}, {"--block-size=20000"}, {"--check=crc32"}, {"--check=sha256"}, {"--check=none"}} {
		out := run(t, "", append(append([]string{"xz", "-c"}, flags...), file)...)
		if got, err := unxz([]byte(out), 1<<20, free); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes, %v", flags, len(got), err)
		}
	}
	if out := run(t, "", "xz", "-c", "--x86", "--lzma2", file); len(out) > 0 {
		if got, err := unxz([]byte(out), 1<<20, free); err == nil {
			t.Errorf("with a filter that is not known: %d bytes", len(got))
		}
	}
}

func TestABombInAFileIsReportedAndNotRead(t *testing.T) {
	t.Parallel()
	need(t, "xz")
	prog := compile(t, "calls.c", "-O2")
	all := nm(t, prog)
	bomb := filepath.Join(t.TempDir(), "bomb")
	f, err := os.Create(bomb)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(maxMini+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, "", "xz", "-0", bomb)
	run(t, "", "strip", prog)
	run(t, "", "objcopy", "--add-section", ".gnu_debugdata="+bomb+".xz", prog)
	m := open(t, prog)
	for _, s := range all {
		if fn, ok := m.Function(s.start); ok && fn.From == FromMini {
			t.Errorf("Function(%s) = %+v", s.name, fn)
		}
	}
	if err := m.Refused(); !errors.Is(err, ErrTooLarge) || err.Error() != ".gnu_debugdata: too large" {
		t.Errorf("Refused: %v", err)
	}
}

func TestDebugFileOfAnotherProgramIsRefused(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"-Wl,--build-id", "-Wl,--build-id=none"} {
		prog, debug := split(t, ".", id)
		_, other := split(t, ".", id, "-DOTHER", "-O1")
		run(t, "", "cp", other, debug)
		all := nm(t, debug)
		m := open(t, prog)
		for _, s := range all {
			if fn, ok := m.Function(s.start); ok && fn.From == FromDebug {
				t.Errorf("with %s: Function(%s) = %+v from another program's debug file", id, s.name, fn)
			}
		}
	}
}

func TestLinesOf64BitDWARFAreThoseOf32Bit(t *testing.T) {
	t.Parallel()
	narrow, wide := compile(t, "calls.c", "-O2", "-g"), compile(t, "calls.c", "-O2", "-g", "-gdwarf64")
	a, b := open(t, narrow), open(t, wide)
	addrs := addresses(nm(t, narrow), 1, 10000)
	inlined := 0
	for _, addr := range addrs {
		want, got := a.Lines(addr, nil), b.Lines(addr, nil)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Lines(%#x) (-32 +64):\n%s", addr, diff)
		}
		if len(got) > 1 {
			inlined++
		}
	}
	if inlined < 50 {
		t.Errorf("%d of %d addresses are inlined", inlined, len(addrs))
	}
}

func TestRustIsDemangled(t *testing.T) {
	t.Parallel()
	need(t, "rustc", "nm")
	dir := t.TempDir()
	source := filepath.Join(dir, "prog.rs")
	const text = `
mod cache { pub struct Shelf<T> { pub all: Vec<T> }
  impl<T: Clone> Shelf<T> { #[inline(never)] pub fn leak(&mut self, v: T) -> usize { self.all.push(v.clone()); self.all.len() }
    #[inline(never)] pub fn _leak(&mut self, v: T) -> usize { self.all.push(v.clone()); self.all.len() + 1 } } }
fn main() { let mut s = cache::Shelf { all: vec![] }; for i in 0..std::env::args().count() { println!("{} {}", s.leak(i), s._leak(i)); } }
`
	if err := os.WriteFile(source, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, mangling := range []string{"legacy", "v0"} {
		prog := filepath.Join(dir, mangling)
		run(t, "", "env", "RUSTC_BOOTSTRAP=1", "rustc", "-Z", "unstable-options", "-g", "-O", "-C", "codegen-units=1", "-C", "symbol-mangling-version="+mangling, "-o", prog, source)
		m := open(t, prog)
		found := make(map[string]bool)
		for _, s := range nm(t, prog) {
			if strings.Contains(s.name, "Shelf") && strings.Contains(s.name, "leak") {
				fn, ok := m.Function(s.start)
				name := fn.Name[strings.LastIndexByte(fn.Name, ':')+1:]
				found[name] = true
				lines := m.Lines(s.start+s.size-1, nil)
				if !ok || fn.Linkage != s.name || !strings.Contains(fn.Name, "cache::Shelf<") || strings.Contains(fn.Name, "17h") ||
					len(lines) == 0 || lines[len(lines)-1].Function != fn.Name {
					t.Errorf("%s: %s is %q, at %+v", mangling, s.name, fn.Name, lines)
				}
			}
		}
		if diff := cmp.Diff(map[string]bool{"leak": true, "_leak": true}, found); diff != "" {
			t.Errorf("%s: functions differ (-want +got):\n%s", mangling, diff)
		}
	}
}
