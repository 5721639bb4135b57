package symbol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// start runs a program that waits once it has printed a line.
func start(t *testing.T, argv ...string) int {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = t.TempDir() // node leaves a log where it is started
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%s: %v", argv[0], err)
	}
	return cmd.Process.Pid
}

// codeOf returns the executable mapping whose name ends in suffix.
func codeOf(t *testing.T, pid int, suffix string) *procmaps.Mapping {
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
	for i := range rows {
		if rows[i].Mode&procmaps.Exec != 0 && strings.HasSuffix(rows[i].Name, suffix) {
			return &rows[i]
		}
	}
	t.Fatalf("process %d has no code of %s", pid, suffix)
	return nil
}

// newCache returns a cache that the test closes.
func newCache(t *testing.T, o CacheOptions) *Cache {
	t.Helper()
	c := NewCache(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n := c.Bytes(); n != 0 {
			t.Errorf("a closed cache holds %d bytes", n)
		}
	})
	return c
}

// memoryAddress returns where a function of a program is in a process.
func memoryAddress(t *testing.T, mod *Module, m *procmaps.Mapping, symbols []nmSymbol, name string) uint64 {
	t.Helper()
	bias, ok := mod.Bias(m.Start, m.Offset)
	if !ok {
		t.Fatalf("no bias for %+v", m)
	}
	for _, s := range symbols {
		if s.name == name {
			return s.start + bias
		}
	}
	t.Fatalf("nm does not list %s", name)
	return 0
}

func TestResolveNamesALiveProcess(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"-pie", "-fPIE"}, {"-no-pie"}, {"-static"}, {"-static-pie", "-fPIE"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			prog := compile(t, "calls.c", append(flags, "-O2", "-g")...)
			pid := start(t, prog, "wait")
			c := newCache(t, CacheOptions{})
			m := codeOf(t, pid, "/prog")
			mod, err := c.Module(pid, m)
			if err != nil {
				t.Fatal(err)
			}
			p := c.Process(pid)
			defer p.Close()
			pc := memoryAddress(t, mod, m, nm(t, prog), "outer")
			place, err := p.Resolve(m, pc, false, nil)
			if err != nil || place.Function.Name != "outer" || len(place.Lines) != 1 || place.Lines[0].Line == 0 {
				t.Errorf("Resolve(outer) = %+v, %v", place, err)
			}
			// The address to return to, after a last call, belongs to what follows.
			if place, err = p.Resolve(m, pc, true, nil); err != nil || place.Function.Name == "outer" {
				t.Errorf("Resolve(outer, as a return address) = %+v, %v", place, err)
			}
			again, err := c.Module(pid, m)
			if again != mod || err != nil {
				t.Errorf("Module again = %p, %v; want %p", again, err, mod)
			}
		})
	}
}

func TestVDSOIsNamed(t *testing.T) {
	t.Parallel()
	c := newCache(t, CacheOptions{})
	m := codeOf(t, os.Getpid(), "[vdso]")
	mod, err := c.Module(os.Getpid(), m)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := mod.head.file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, s := range symbols {
		if !covered(mod.head.code, s.Value) {
			continue
		}
		bias, _ := mod.Bias(m.Start, m.Offset)
		place, err := c.Process(os.Getpid()).Resolve(m, s.Value+bias, false, nil)
		if err != nil || !strings.Contains(s.Name, strings.TrimLeft(place.Function.Name, "_")) || place.Function.Name == "" {
			t.Errorf("Resolve(%s) = %+v, %v", s.Name, place.Function, err)
		}
		named++
	}
	if named == 0 {
		t.Error("the vdso has no symbols")
	}
}

// needMapFiles skips where the kernel does not let us follow map_files.
func needMapFiles(t *testing.T) {
	t.Helper()
	m := codeOf(t, os.Getpid(), ".test")
	f, err := openMapFile(os.Getpid(), m)
	if err != nil {
		t.Skipf("needs map_files: %v", err)
	}
	f.Close()
}

func TestFileReplacedWhileMappedIsReadAsItWas(t *testing.T) {
	t.Parallel()
	needMapFiles(t)
	prog := compile(t, "calls.c", "-O2", "-g", "-no-pie")
	all := nm(t, prog)
	pid := start(t, prog, "wait")
	m := codeOf(t, pid, "/prog")
	other := compile(t, "shapes.cc", "-O2", "-no-pie")
	if err := os.Rename(other, prog); err != nil {
		t.Fatal(err)
	}
	// The row from before, and the row that says it is deleted.
	for _, row := range []*procmaps.Mapping{m, codeOf(t, pid, "/prog (deleted)")} {
		c := newCache(t, CacheOptions{})
		mod, err := c.Module(pid, row)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"outer", "local"} {
			place, err := c.Process(pid).Resolve(row, memoryAddress(t, mod, row, all, name), false, nil)
			if err != nil || place.Function.Name != name {
				t.Errorf("Resolve(%s) = %+v, %v", name, place, err)
			}
		}
	}
}

func TestFileReplacedWhileMappedIsRefusedByItsPath(t *testing.T) {
	t.Parallel()
	prog := compile(t, "calls.c", "-O2", "-no-pie")
	pid := start(t, prog, "wait")
	m := codeOf(t, pid, "/prog")
	f, err := openByPath(pid, m)
	if err != nil {
		t.Fatalf("before: %v", err)
	}
	f.Close()
	other := compile(t, "shapes.cc", "-O2", "-no-pie")
	if err := os.Rename(other, prog); err != nil {
		t.Fatal(err)
	}
	if f, err := openByPath(pid, m); !errors.Is(err, ErrReplaced) {
		t.Errorf("openByPath = %v, %v; want ErrReplaced", f, err)
	}
}

func TestMemfdIsReadThroughMapFiles(t *testing.T) {
	t.Parallel()
	needMapFiles(t)
	need(t, "python3")
	prog := compile(t, "calls.c", "-O2", "-no-pie")
	// Python makes a memfd of the program, and executes it.
	pid := start(t, "python3", "-c", `
import os, sys
fd = os.memfd_create("hidden")
os.write(fd, open(sys.argv[1], "rb").read())
os.execv("/proc/self/fd/%d" % fd, ["hidden", "wait"])
`, prog)
	m := codeOf(t, pid, "/memfd:hidden (deleted)")
	c := newCache(t, CacheOptions{})
	mod, err := c.Module(pid, m)
	if err != nil {
		t.Fatal(err)
	}
	fn, ok := mod.Function(memoryAddress(t, mod, m, nm(t, prog), "outer"))
	if !ok || fn.Name != "outer" {
		t.Errorf("Function(outer) = %+v, %v", fn, ok)
	}
}

func TestWhatIsNotARegularFileIsNotOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fifo", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("inside"), 0o666); err != nil {
		t.Fatal(err)
	}
	// Seen from dir as the root, an absolute link leads to dir/file.
	if err := os.Symlink("/../../file", filepath.Join(dir, "absolute")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/fifo", "/link", "/", "/missing"} {
		if f, _, err := regular.Open(dir, name, 0); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	if f, _, err := regular.Open("", "/dev/null", 0); err == nil {
		f.Close()
		t.Error("/dev/null was opened")
	}
	f, _, err := regular.Open(dir, "/absolute", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(io.NewSectionReader(f, 0, 100)); err != nil || string(text) != "inside" {
		t.Errorf("the link led to %q, %v", text, err)
	}
}

func TestCacheStaysWithinItsBudgets(t *testing.T) {
	t.Parallel()
	const budget = 200 << 10
	c := newCache(t, CacheOptions{MaxBytes: budget, MaxModules: 4})
	var modules []*Module
	var symbols [][]nmSymbol
	for i := range 6 {
		prog := compile(t, "calls.c", "-O2", "-static", "-no-pie", fmt.Sprintf("-Wl,--defsym=unique=%d", i))
		pid := start(t, prog, "wait")
		mod, err := c.Module(pid, codeOf(t, pid, "/prog"))
		if err != nil {
			t.Fatal(err)
		}
		modules, symbols = append(modules, mod), append(symbols, nm(t, prog))
		if len(c.modules) > 4 {
			t.Errorf("%d modules are open", len(c.modules))
		}
	}
	for i, mod := range modules {
		fn, ok := mod.Function(symbols[i][0].start)
		if open := i >= 2; ok != open {
			t.Errorf("module %d: Function = %+v, %v; want open to be %v", i, fn, ok, open)
		}
	}
	for round := range 3 {
		for i, mod := range modules[2:] {
			for _, s := range symbols[2+i] {
				if _, ok := mod.Function(s.start); !ok && covered(mod.head.code, s.start) {
					t.Fatalf("round %d: module %d does not know %s", round, i, s.name)
				}
			}
			if n := c.Bytes(); n > budget+mod.bytes.Load() {
				t.Errorf("round %d: %d bytes held, of which %d by the module in use", round, n, mod.bytes.Load())
			}
		}
	}
}

func TestFileThatWasWrittenIsReadAgain(t *testing.T) {
	t.Parallel()
	prog := compile(t, "calls.c", "-O2", "-shared", "-fPIC")
	other, err := os.ReadFile(compile(t, "shapes.cc", "-O2", "-shared", "-fPIC"))
	if err != nil {
		t.Fatal(err)
	}
	need(t, "python3")
	pid := start(t, "python3", "-c", `
import mmap, os, sys, time
m = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
print("mapped", flush=True)
time.sleep(60)
`, prog)
	c := newCache(t, CacheOptions{})
	m := codeOf(t, pid, "/prog")
	before, err := c.Module(pid, m)
	if err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(prog, other, 0o755); err != nil {
		t.Fatal(err)
	}
	after, err := c.Module(pid, m)
	if err != nil || after == before || after.BuildID() == before.BuildID() {
		t.Errorf("Module = %v, %v; before it was %v", after, err, before)
	}
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	c := newCache(t, CacheOptions{MaxBytes: 64 << 10, MaxModules: 2, noDebugFiles: true})
	var rows []*procmaps.Mapping
	var pids []int
	for i := range 3 {
		prog := compile(t, "calls.c", "-O2", "-g", "-no-pie", fmt.Sprintf("-Wl,--defsym=unique=%d", i))
		pid := start(t, prog, "wait")
		rows, pids = append(rows, codeOf(t, pid, "/prog"), codeOf(t, pid, "/libc.so.6")), append(pids, pid, pid)
	}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for round := range 12 {
				i := (worker + round) % len(rows)
				p := c.Process(pids[i])
				for pc := rows[i].Start; pc < min(rows[i].End, rows[i].Start+0x2000); pc += 0x333 {
					if _, err := p.Resolve(rows[i], pc, true, nil); err != nil && !errors.Is(err, os.ErrClosed) {
						t.Errorf("Resolve(%#x): %v", pc, err)
						return
					}
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestErrorsAreRememberedForAWhile(t *testing.T) {
	t.Parallel()
	c := newCache(t, CacheOptions{})
	m := &procmaps.Mapping{Range: procmaps.Range{Start: 0x1000, End: 0x2000}, Inode: 12345, Name: "/no/such/file"}
	_, err := c.Module(os.Getpid(), m)
	if err == nil {
		t.Fatal("no error")
	}
	if _, again := c.Module(os.Getpid(), m); again != err { //nolint:errorlint // the very same
		t.Errorf("another error: %v", again)
	}
	for k, f := range c.failed {
		f.until = time.Now()
		c.failed[k] = f
	}
	if _, again := c.Module(os.Getpid(), m); again == err { //nolint:errorlint // a new one
		t.Error("an old error was returned")
	}
}
