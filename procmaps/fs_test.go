package procmaps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fixture(t *testing.T, pid int) *Process {
	t.Helper()
	root, err := NewFS(filepath.Join("testdata", "proc"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := root.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestFixtureRoot(t *testing.T) {
	root, err := NewFS(filepath.Join("testdata", "proc"))
	if err != nil {
		t.Fatal(err)
	}
	pids, err := root.Pids()
	if want := []int{101, 102, 103, 104, 105, 106}; err != nil || !slices.Equal(pids, want) {
		t.Errorf("Pids() = %v, %v; want %v", pids, err, want)
	}
	if _, err := root.Process(999); !errors.Is(err, ErrGone) {
		t.Errorf("a process that is not there: %v, want %v", err, ErrGone)
	}
	if Default().Root() != "/proc" {
		t.Errorf("the default root is %q", Default().Root())
	}
	if _, err := NewFS(filepath.Join("testdata", "proc", "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
	if _, err := NewFS("fs_test.go"); err == nil {
		t.Error("a file is accepted as a root")
	}
}

func TestFixtureProcess(t *testing.T) {
	p := fixture(t, 103)
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	kinds := map[Kind]int{}
	for i := range maps {
		if smaps.Rows[i].Mapping != maps[i] {
			t.Errorf("smaps has %+v, maps %+v", smaps.Rows[i].Mapping, maps[i])
		}
		kinds[maps[i].Kind()]++
		if n := maps[i].Name; strings.Contains(n, "/odd/") {
			names = append(names, strings.TrimPrefix(n, "/tmp/odd/"))
		}
	}
	odd := []string{
		"gone (deleted)", "tab\there", "été", "bad\xff\x9b", "esc\x1b[31mred",
		"e (deleted)", `c\012lit`, `new\012line`, "two  spaces ",
	}
	if diff := cmp.Diff(names, odd); diff != "" {
		t.Errorf("names (-got +want):\n%s", diff)
	}
	want := map[Kind]int{KindAnon: 5, KindFile: 15, KindHeap: 1, KindStack: 1, KindShm: 4, KindSpecial: 4}
	if diff := cmp.Diff(kinds, want); diff != "" {
		t.Errorf("kinds (-got +want):\n%s", diff)
	}
	st, err := p.Stat()
	if err != nil || st.Comm != "a) (odd\nname" {
		t.Errorf("Stat() = %+v, %v", st, err)
	}
	if comm, err := p.Comm(); err != nil || comm != "a) (odd\nname" {
		t.Errorf("Comm() = %q, %v", comm, err)
	}
	if s, err := p.Status(); err != nil || s.Name != "a) (odd\nname" || s.Tgid != 103 {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	if args, err := p.Cmdline(); err != nil || string(args) != "/usr/bin/python3\x00/tmp/odd.py\x00an arg\x00\x00" {
		t.Errorf("Cmdline() = %q, %v", args, err)
	}
	if tids, err := p.Threads(); err != nil || !slices.Equal(tids, []int{103}) {
		t.Errorf("Threads() = %v, %v", tids, err)
	}
	if r, err := p.Rollup(); err != nil || r.Name != "[rollup]" {
		t.Errorf("Rollup() = %v, %v", r, err)
	}
	if _, err := p.Exe(); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrGone) {
		t.Errorf("a file that the fixture lacks: %v, want %v", err, fs.ErrNotExist)
	}
}

func TestMalformedFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "7"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"maps", "smaps", "smaps_rollup", "stat", "status", "cgroup"} {
		if err := os.WriteFile(filepath.Join(dir, "7", name), []byte("what?\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := root.Process(7)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for name, read := range map[string]func() error{
		"maps":         func() error { _, err := p.Maps(); return err },
		"smaps":        func() error { _, err := p.Smaps(); return err },
		"smaps_rollup": func() error { _, err := p.Rollup(); return err },
		"stat":         func() error { _, err := p.Stat(); return err },
		"status":       func() error { _, err := p.Status(); return err },
		"cgroup":       func() error { _, err := p.Cgroup(); return err },
	} {
		err := read()
		if want := filepath.Join(dir, "7", name); !errors.Is(err, ErrParse) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want a parse error that names %s", name, err, want)
		}
	}
}
