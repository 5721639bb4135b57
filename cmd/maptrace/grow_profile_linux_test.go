package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// The sources of a program whose memory is mapped by two libraries, and which ends
// with a copy of its maps.
var profiled = map[string]string{
	"named.cc": `#include <string.h>
#include <sys/mman.h>
namespace pool {
struct Heap { __attribute__((noinline)) void *grow(unsigned long n); };

void *Heap::grow(unsigned long n)
{
	void *p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, n);
	return p;
}
}
extern "C" __attribute__((noinline)) void *grow_named(void) { pool::Heap h; return (char *)h.grow(101 << 12) + 1; }
`,
	"hidden.c": `#include <string.h>
#include <sys/mman.h>
static __attribute__((noinline)) char *keep_hidden(unsigned long n)
{
	char *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memset(p, 1, n);
}
__attribute__((noinline)) void *grow_hidden(void) { return keep_hidden(103 << 12) + 1; }
`,
	"main.c": `#include <stdio.h>
#include <unistd.h>
void *grow_named(void), *grow_hidden(void);
int main(int argc, char **argv)
{
	for (int i = 0; i < 23; i++) {
		if (!grow_named() || !grow_hidden())
			return 1;
		usleep(50000);
	}
	FILE *in = fopen("/proc/self/maps", "r"), *out = fopen(argv[argc - 1], "w");
	if (!in || !out)
		return 1;
	for (int c; (c = getc(in)) != EOF;)
		putc(c, out);
	return fclose(out);
}
`,
}

// compileProfiled makes the program in a directory: libnamed.so has symbols, those of
// libhidden.so are in full/libhidden.so.
func compileProfiled(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"gcc", "g++", "strip"} {
		tool.Need(t, name)
	}
	for name, text := range profiled {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	lib := "-O1 -g -shared -fPIC -Wl,--build-id "
	for _, line := range []string{
		"g++ " + lib + "-o libnamed.so named.cc",
		"gcc " + lib + "-o full/libhidden.so hidden.c",
		"strip -o libhidden.so full/libhidden.so",
		"gcc -O1 -g -o prog main.c -L. -lnamed -lhidden -Wl,-rpath," + dir,
	} {
		argv := strings.Fields(line)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, text)
		}
	}
}

func TestAProfileCanBeSymbolizedLater(t *testing.T) {
	t.Parallel()
	needBPF(t)
	dir := t.TempDir()
	compileProfiled(t, dir)
	file, copied := filepath.Join(dir, "profile.pb.gz"), filepath.Join(dir, "maps")
	succeed(t, maptrace(t, "grow", "--interval", "100ms", "--pprof", file, "--", filepath.Join(dir, "prog"), copied))
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f) // it checks that all that is referred to is there
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := procmaps.ParseMaps(text, copied)
	if err != nil {
		t.Fatal(err)
	}
	if p.DurationNanos != 0 || p.TimeNanos == 0 || p.PeriodType == nil || p.Period == 0 {
		t.Errorf("duration %d, time %d, period %v of %v", p.DurationNanos, p.TimeNanos, p.Period, p.PeriodType)
	}
	if main := filepath.Join(dir, "prog"); p.Mapping[0].File != main {
		t.Errorf("the first mapping is of %q, want the main binary, %q", p.Mapping[0].File, main)
	}
	for _, m := range p.Mapping {
		is := func(r procmaps.Mapping) bool {
			return r.Name == m.File && r.Start == m.Start && r.End == m.Limit && r.Offset == m.Offset
		}
		if !slices.ContainsFunc(rows, is) {
			t.Errorf("mapping %+v is not in\n%s", m, text)
		}
	}
	type where struct{ symbol, line string }
	functions := map[string]where{}
	unnamed := map[string]int{}
	for _, l := range p.Location {
		if l.Address < l.Mapping.Start || l.Address >= l.Mapping.Limit {
			t.Errorf("location %#x is not in its mapping, %+v", l.Address, l.Mapping)
		}
		if len(l.Line) == 0 {
			unnamed[filepath.Base(l.Mapping.File)]++
			if l.Mapping.HasFunctions || l.Mapping.BuildID == "" {
				t.Errorf("nobody will look for the name of %#x in %+v", l.Address, l.Mapping)
			}
			if name := symbolAt(t, l, filepath.Join(dir, "full", filepath.Base(l.Mapping.File))); name != "keep_hidden" {
				t.Errorf("%#x of %+v is %q, want keep_hidden", l.Address, l.Mapping, name)
			}
		}
		for _, line := range l.Line {
			if strings.Contains(line.Function.Name, "+0x") {
				t.Errorf("the name %q is invented", line.Function.Name)
			}
			functions[line.Function.Name] = where{line.Function.SystemName, fmt.Sprint(line.Function.StartLine)}
		}
	}
	want := map[string]where{
		"pool::Heap::grow": {"_ZN4pool4Heap4growEm", "6"}, "grow_named": {"grow_named", "13"},
		"grow_hidden": {"grow_hidden", "0"}, "main": {"main", "4"},
	}
	for name := range functions {
		if _, ok := want[name]; !ok {
			delete(functions, name)
		}
	}
	if diff := cmp.Diff(functions, want, cmp.AllowUnexported(where{})); diff != "" {
		t.Errorf("functions (-got +want):\n%s", diff)
	}
	if unnamed["libhidden.so"] != 1 || unnamed["libnamed.so"]+unnamed["prog"] != 0 {
		t.Errorf("locations without a name: %v, want one of libhidden.so", unnamed)
	}

	out, err := exec.Command("go", "tool", "pprof", "-top", file).Output()
	if err != nil || !strings.HasPrefix(string(out), "File: prog\n") {
		t.Errorf("pprof: %v\n%s", err, out)
	}
}

// symbolAt finds the name of a location as those do who have only the profile and the
// file with the symbols.
func symbolAt(t *testing.T, l *profile.Location, file string) string {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	offset := l.Address - l.Mapping.Start + l.Mapping.Offset
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || offset < p.Off || offset >= p.Off+p.Filesz {
			continue
		}
		addr := p.Vaddr + offset - p.Off
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Value <= addr && addr < s.Value+s.Size {
				return s.Name
			}
		}
	}
	return ""
}
