package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// command runs a command and returns what it prints.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestDistIsReproducible builds the last commit twice: in other directories, with
// another umask, time zone, locale and home, and the second time with an empty build
// cache, which would otherwise hide what depends on the directory.
func TestDistIsReproducible(t *testing.T) {
	if os.Getenv("MAPTRACE_DIST") == "" {
		t.Skip(`it takes minutes: "make check-dist"`)
	}
	nfpm := os.Getenv("NFPM")
	if nfpm == "" {
		t.Fatal("NFPM is not set: it is the command that makes packages")
	}
	top := strings.TrimSpace(command(t, ".", nil, "git", "rev-parse", "--show-toplevel"))
	cache := strings.TrimSpace(command(t, ".", nil, "go", "env", "GOMODCACHE"))
	// What packages the files is the same both times, and need not be built twice.
	bin := t.TempDir()
	words := strings.Fields(nfpm)
	if len(words) == 3 && words[1] == "run" {
		command(t, bin, []string{"GOBIN=" + bin, "GOFLAGS="}, words[0], "install", words[2])
		nfpm = filepath.Join(bin, "nfpm")
	}
	// Both are cloned before either is built, as the last commit may change.
	var dirs []string
	for _, name := range []string{"a", "another/much longer place"} {
		dirs = append(dirs, filepath.Join(t.TempDir(), name))
		command(t, top, nil, "git", "clone", "-q", top, dirs[len(dirs)-1])
	}
	makeDist := func(dir string, mask int, env ...string) map[string][]byte {
		defer syscall.Umask(syscall.Umask(mask))
		t.Log(command(t, dir, append(env, "GOMODCACHE="+cache), "go", "run", "./cmd/mkdist", "-nfpm", nfpm))
		files, err := readTree(filepath.Join(dir, "dist"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	first := makeDist(dirs[0], 0o022, "TZ=UTC", "LC_ALL=C")
	second := makeDist(dirs[1], 0o077, "TZ=Asia/Kathmandu", "LC_ALL=en_US.UTF-8", "HOME="+t.TempDir(),
		"GOCACHE="+filepath.Join(t.TempDir(), "cache"), "GOFLAGS=-tags=netgo", "GOAMD64=v3", "USER=somebody")

	names := slices.Sorted(maps.Keys(first))
	if got := slices.Sorted(maps.Keys(second)); !slices.Equal(got, names) {
		t.Fatalf("the files are %q, then %q", names, got)
	}
	for _, name := range names {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs: %x, then %x", name, sha256.Sum256(first[name]), sha256.Sum256(second[name]))
		}
	}
	checkDist(t, first)
}

// checkDist looks at the files for what does not need them to be installed.
func checkDist(t *testing.T, files map[string][]byte) {
	t.Helper()
	for _, suffix := range []string{
		"_linux_amd64", "_linux_arm64", "_linux_amd64.tar.gz", "_linux_arm64.tar.gz", "_linux_amd64.cdx.json",
		"_linux_arm64.cdx.json", "_amd64.deb", "_arm64.deb", ".x86_64.rpm", ".aarch64.rpm", "SHA256SUMS",
	} {
		name := find(files, suffix)
		if name == "" {
			t.Errorf("no file is called …%s", suffix)
			continue
		}
		if sum := fmt.Sprintf("%x  %s\n", sha256.Sum256(files[name]), name); name != "SHA256SUMS" && !bytes.Contains(files["SHA256SUMS"], []byte(sum)) {
			t.Errorf("SHA256SUMS has not %s", sum)
		}
		t.Logf("%9d %s", len(files[name]), name)
	}
	if len(files) != 11 {
		t.Errorf("%d files, want 11", len(files))
	}
	for suffix, machine := range map[string]elf.Machine{"_linux_amd64": elf.EM_X86_64, "_linux_arm64": elf.EM_AARCH64} {
		data := files[find(files, suffix)]
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", suffix, err)
			continue
		}
		if f.Machine != machine || len(data) > maxBinary || f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
			t.Errorf("%s: for %v, %d bytes, stripped: %t", suffix, f.Machine, len(data), f.Section(".symtab") == nil)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is not static: it has %v", suffix, p.Type)
			}
		}
		if bytes.Contains(data, []byte(t.Name())) {
			t.Errorf("%s names the directory that it was built in", suffix)
		}
	}
}

// find returns the name of the file that ends so.
func find[T any](files map[string]T, suffix string) string {
	for name := range files {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return ""
}
