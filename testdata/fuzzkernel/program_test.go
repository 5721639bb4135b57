//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestASeedMakesOneProgram(t *testing.T) {
	t.Parallel()
	first := generate(1, nil).String()
	if d := cmp.Diff(first, generate(1, nil).String()); d != "" {
		t.Error(d)
	}
	if first == generate(2, nil).String() {
		t.Error("two seeds make the same program")
	}
}

// TestEveryKindIsMade has each kind of call in one of a few programs, and in none that
// is made without it.
func TestEveryKindIsMade(t *testing.T) {
	t.Parallel()
	marks := map[string]string{
		"file": " 100 ", "special": " 105 ", "shm": " shmat ", "stack": " deep ", "brk": " sbrk ", "setmm": " setmm ", "lock": " mlock2 ",
		"seal": " mseal ", "name": " name ", "remap": " remap_file_pages ", "personality": " personality ", "fork": " fork ", "share": " share ",
		"exec": " exec ", "seccomp": " deny-mremap ", "signal": " raise", "storm": " storm-munmap ", "race": " race ", "ptrace": " traced ",
		"uprobe": " probe", "uffd": " uffd ", "vdso": " vdso ", "busy": " busy ", "leave": " leave", "int80": " i 0x", "x32": " x 0x",
		"uring": "madvise u", "process_madvise": "madvise p", "advice": "madvise s",
	}
	shared := map[string]string{"brk": "setmm,seccomp", "file": "race,remap", "advice": "seccomp,storm,fork"} // who makes such calls, too
	for _, kind := range kinds() {
		mark := marks[kind]
		if mark == "" {
			t.Errorf("there is no mark of %q", kind)
			continue
		}
		with, without := 0, 0
		for seed := range uint64(400) {
			if strings.Contains(generate(seed, nil).String(), mark) {
				with++
			}
			if strings.Contains(generate(seed, append(strings.Split(shared[kind], ","), kind)).String(), mark) {
				without++
			}
		}
		if with == 0 || without > 0 {
			t.Errorf("%s: in %d of 400 programs, in %d of those without", kind, with, without)
		}
	}
}

func TestAProgramIsReadBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		want := generate(seed, nil).String()
		p, err := readProgram(strings.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, p.String()); d != "" {
			t.Errorf("seed %d (-want +got):\n%s", seed, d)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "another first line": "0 munmap s 0 4096\n", "no list": "threads 1 root 0 settle 0\nmunmap s 0 4096\n", "no call": "threads 1 root 0 settle 0\n0\n",
	} {
		if p, err := readProgram(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %v", name, p)
		}
	}
}

func FuzzReadProgram(f *testing.F) {
	f.Add(generate(1, nil).String())
	f.Add("threads 1 root 0 settle 0\n0 munmap s 0 4096\r\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := readProgram(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := readProgram(strings.NewReader(p.String()))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p.String(), again.String()); d != "" {
			t.Error(d)
		}
	})
}
