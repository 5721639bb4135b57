package symbol

import (
	"debug/elf"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/bpf/bpftest"
)

// TestFunctionsAreFoundByTheirNames compares with what debug/elf has of the C library.
func TestFunctionsAreFoundByTheirNames(t *testing.T) {
	t.Parallel()
	var path string
	for _, p := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"} {
		if _, err := os.Stat(p); err == nil {
			path = p
		}
	}
	if path == "" {
		bpftest.Skip(t, "there is no C library where it is looked for")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadModule(f, info.Size(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"malloc", "free", "realloc", "alloc", "no such function"} // one is the end of others
	got := m.Named(want, false)
	file, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	syms, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, s := range syms {
		name, _, _ := strings.Cut(s.Name, "@")
		if !slices.Contains(want, name) || s.Section == elf.SHN_UNDEF {
			continue
		}
		found++
		for _, p := range file.Progs {
			if at := s.Value - p.Vaddr; p.Type == elf.PT_LOAD && at < p.Filesz && !slices.Contains(got, Named{name, at + p.Off, s.Size}) {
				t.Errorf("%s at %#x is not among %v", name, at+p.Off, got)
			}
		}
	}
	if found != 3 || len(got) != found {
		t.Errorf("found %v, want %d", got, found)
	}
	for _, n := range got {
		if code := m.Code(n.Offset, make([]byte, 16)); len(code) != 16 {
			t.Errorf("%s has %d bytes of code", n.Name, len(code))
		}
	}
}
