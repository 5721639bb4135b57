//go:build linux

// Package workload_test checks the programs that play the traced process: that
// they build without warnings, run without surprise, and do what they say.
package workload_test

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/testdata/tool"
)

// bins is where build puts the programs, for all tests of the run.
var bins string

func TestMain(m *testing.M) {
	var err error
	if bins, err = os.MkdirTemp("", "workload-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(bins); err != nil {
		panic(err)
	}
	os.Exit(code) //nolint:forbidigo // this is where tests end
}

// build compiles a program of this folder, unless an earlier test has, and
// returns the path of the binary.
func build(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(bins, name)
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	var cmd *exec.Cmd
	if name == "gochurn" {
		cmd = exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./gochurn")
	} else {
		cmd = exec.CommandContext(t.Context(), tool.Need(t, "gcc"),
			"-O2", "-pthread", "-Wall", "-Wextra", "-Werror", "-o", bin, name+".c")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return bin
}

// command prepares a run that is killed when the test ends or takes too long,
// with a temporary directory of its own.
func command(t *testing.T, bin string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	return cmd
}

// run returns what the program printed; it must succeed.
func run(t *testing.T, bin string, args ...string) string {
	t.Helper()
	cmd := command(t, bin, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// strace returns the path of a working strace.
func strace(t *testing.T) string {
	t.Helper()
	path := tool.Need(t, "strace")
	if out, err := exec.CommandContext(t.Context(), path, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here: %v: %s", err, out)
	}
	return path
}

func maps(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// startUntil starts a program, which may wait for a byte on stdin, that prints line
// when it stands still and then waits for EOF on stdin, which finish provides; the
// program must succeed.
func startUntil(t *testing.T, line, bin string, args ...string) (pid int, finish func()) {
	t.Helper()
	cmd := command(t, bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err = io.WriteString(stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(stdout)
	got, err := r.ReadString('\n')
	if err != nil || got != line+"\n" {
		t.Fatalf("%v printed %q, %v, before %q; stderr %q", cmd, got, err, line, &stderr)
	}
	return cmd.Process.Pid, func() {
		t.Helper()
		if err := stdin.Close(); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if err != nil || len(rest) > 0 {
			t.Errorf("%v printed %q, %v, after %q", cmd, rest, err, line)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v; stderr %q", cmd, err, &stderr)
		}
	}
}

func TestChurnEndsWellAndLeavesNothing(t *testing.T) {
	bin := build(t, "churn")
	for _, mix := range []string{"all", "mm", "nofork", "files"} {
		for _, threads := range []string{"1", "4", "16"} {
			for _, seed := range []string{"1", "2", "3"} {
				t.Run(fmt.Sprintf("mix %s, %s threads, seed %s", mix, threads, seed), func(t *testing.T) {
					cmd := command(t, bin, "-m", mix, "-t", threads, "-s", seed, "-n", "500")
					tmp := t.TempDir()
					cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
					out, err := cmd.CombinedOutput()
					if err != nil || len(out) > 0 {
						t.Errorf("%v: %v, output %q", cmd, err, out)
					}
					left, err := os.ReadDir(tmp)
					if err != nil || len(left) > 0 {
						t.Errorf("%v left %v, %v", cmd, left, err)
					}
				})
			}
		}
	}
}

func TestRefuseEndsWellAndLeavesNothing(t *testing.T) {
	bin := build(t, "refuse")
	for _, seed := range []string{"1", "2", "3"} {
		t.Run("seed "+seed, func(t *testing.T) {
			cmd := command(t, bin, "-t", "4", "-s", seed, "-n", "4000", "-r", "8")
			tmp := t.TempDir()
			cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "at work\n" {
				t.Errorf("%v: %v, output %q", cmd, err, out)
			}
			left, err := os.ReadDir(tmp)
			if err != nil || len(left) > 0 {
				t.Errorf("%v left %v, %v", cmd, left, err)
			}
		})
	}
}

func TestChurnRefusesBadArguments(t *testing.T) {
	bin := build(t, "churn")
	for _, args := range [][]string{{"-m", "most"}, {"-t", "0"}, {"-t", "1000"}, {"-n", "-1"}, {"x"}, {"-q"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			err := command(t, bin, args...).Run()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 { //nolint:errorlint // Run does not wrap
				t.Errorf("got %v, want exit status 2", err)
			}
		})
	}
}

type callCount struct{ calls, errors int }

// countCalls runs a program under strace -c.
func countCalls(t *testing.T, bin string, args ...string) map[string]callCount {
	t.Helper()
	out := filepath.Join(t.TempDir(), "strace")
	// The columns of -c without an error have none in its place, unless asked.
	run(t, strace(t), append([]string{"-f", "-c", "-U", "name,calls,errors", "-o", out, bin}, args...)...)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]callCount{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		calls, err := strconv.Atoi(f[1])
		if err != nil {
			continue // the head and the rules
		}
		c := callCount{calls: calls}
		if len(f) > 2 {
			if c.errors, err = strconv.Atoi(f[2]); err != nil {
				t.Fatalf("strace -c printed %q: %v", line, err)
			}
		}
		counts[f[0]] = c
	}
	return counts
}

func TestChurnMakesTheCallsOfItsMix(t *testing.T) {
	bin := build(t, "churn")
	mapping := []string{"mremap", "mprotect", "madvise", "munlock", "mlock", "mlock2", "remap_file_pages"}
	elsewhere := []string{"brk", "shmat", "shmdt", "process_madvise"}
	processes := []string{"vfork", "wait4", "execve"}
	kernels := []string{"mbind", "prctl", "pkey_mprotect", "io_setup"} // may all fail somewhere
	for _, tt := range []struct {
		mix    string
		mostly []string // made at least 5 times, most of them with success
		made   []string
		never  []string // not after the start
	}{
		{mix: "all", mostly: slices.Concat(mapping, elsewhere, processes), made: kernels},
		{mix: "nofork", mostly: slices.Concat(mapping, elsewhere), made: kernels, never: []string{"vfork", "wait4"}},
		{mix: "files", mostly: mapping, never: []string{"process_madvise", "vfork", "wait4", "io_setup"}},
		{mix: "mm", never: slices.Concat(mapping[:1], mapping[2:], []string{"shmat", "vfork", "wait4", "io_setup"})},
	} {
		t.Run(tt.mix, func(t *testing.T) {
			got := countCalls(t, bin, "-m", tt.mix, "-t", "2", "-n", "2500")
			for _, call := range append([]string{"mmap", "munmap"}, tt.mostly...) {
				if c := got[call]; c.calls < 5 || 2*c.errors >= c.calls {
					t.Errorf("%s: %d calls, %d failed; want 5 or more, most of them successful", call, c.calls, c.errors)
				}
			}
			for _, call := range tt.made {
				if got[call].calls == 0 {
					t.Errorf("%s: no call", call)
				}
			}
			for _, call := range tt.never {
				if c := got[call]; c.calls > 0 {
					t.Errorf("%s: %d calls, want none", call, c.calls)
				}
			}
		})
	}
}

func TestStandsStillWhenDone(t *testing.T) {
	for _, name := range []string{"churn", "gochurn"} {
		t.Run(name, func(t *testing.T) {
			bin := build(t, name)
			pid, finish := startUntil(t, "done", bin, "-t", "8", "-n", "2000", "-W")
			first := maps(t, pid)
			// That long would show a thread that works on. It proves nothing
			// about one that sleeps for longer, which no workload does.
			deadline := time.Now().Add(300 * time.Millisecond)
			for time.Now().Before(deadline) {
				if diff := cmp.Diff(first, maps(t, pid)); diff != "" {
					t.Fatalf("mappings changed after \"done\":\n%s", diff)
				}
			}
			if n := len(first); n < 100 || n > 2500 {
				t.Errorf("%d mappings, want 100 to 2,500", n)
			}
			finish()
		})
	}
}

func TestReadsOneByteBeforeStarting(t *testing.T) {
	for _, name := range []string{"churn", "gochurn"} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := w.WriteString("xy"); err != nil {
				t.Fatal(err)
			}
			cmd := command(t, build(t, name), "-n", "10", "-w")
			cmd.Stdin = r
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, out)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(r); err != nil || string(rest) != "y" {
				t.Errorf("left %q, %v on stdin, want %q", rest, err, "y")
			}
		})
	}
}

func TestGochurnEndsWell(t *testing.T) {
	bin := build(t, "gochurn")
	for _, threads := range []string{"1", "4", "16"} {
		for _, seed := range []string{"1", "2", "3"} {
			t.Run(fmt.Sprintf("%s threads, seed %s", threads, seed), func(t *testing.T) {
				if out := run(t, bin, "-t", threads, "-s", seed, "-n", "2000"); out != "" {
					t.Errorf("printed %q", out)
				}
			})
		}
	}
}

// counters reads the counter file of loop.
func counters(t *testing.T, path string) []uint64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var counts []uint64
	for line := range slices.Chunk(text, 64) {
		counts = append(counts, binary.NativeEndian.Uint64(line))
	}
	return counts
}

var loopOutput = regexp.MustCompile(`^(\d+) ops [\d.]+ ns/op\n$`)

func TestLoopCountsItsOperations(t *testing.T) {
	bin := build(t, "loop")
	for _, tt := range []struct {
		mode    string
		threads int
	}{
		{"churn", 1},
		{"churnt:3", 3},
		{"getppid", 1},
		{"faults", 1},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			const ops = 8209 // one round of faults and a few
			file := filepath.Join(t.TempDir(), "counters")
			out := run(t, bin, "-c", file, "-n", strconv.Itoa(ops), tt.mode)
			m := loopOutput.FindStringSubmatch(out)
			if m == nil || m[1] != strconv.Itoa(ops*tt.threads) {
				t.Errorf("printed %q, want %d operations", out, ops*tt.threads)
			}
			if diff := cmp.Diff(slices.Repeat([]uint64{ops}, tt.threads), counters(t, file)); diff != "" {
				t.Errorf("counters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoopCanBeWatchedAndStopped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counters")
	cmd := command(t, build(t, "loop"), "-c", file, "churnt:2")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := os.Stat(file); err == nil {
			if c := counters(t, file); len(c) == 2 && min(c[0], c[1]) >= 100 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no progress in the counter file")
		}
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	c := counters(t, file)
	m := loopOutput.FindStringSubmatch(out.String())
	if want := strconv.FormatUint(c[0]+c[1], 10); m == nil || m[1] != want {
		t.Errorf("printed %q, want %s operations", &out, want)
	}
}

func TestLoopEndsAfterTheSecondsItWasGiven(t *testing.T) {
	start := time.Now()
	out := run(t, build(t, "loop"), "-s", "0.2", "getppid")
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("ended after %v", took)
	}
	if !loopOutput.MatchString(out) {
		t.Errorf("printed %q", out)
	}
}

func TestLeakLeaksWhatItSays(t *testing.T) {
	bin := build(t, "leak")
	trace := filepath.Join(t.TempDir(), "strace")
	const requests = 160
	if out := run(t, strace(t), "-e", "trace=mmap,munmap,ftruncate,mremap,brk", "-o", trace,
		bin, "-r", "800", "-d", "0.2"); out != "" {
		t.Errorf("printed %q", out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	count := func(pattern string) int {
		return len(regexp.MustCompile(`(?m)^`+pattern).FindAll(text, -1))
	}
	got := map[string]int{
		"chunks leaked":      count(`mmap\(NULL, 65536, PROT_READ\|PROT_WRITE, MAP_PRIVATE\|MAP_ANONYMOUS`),
		"scratch mapped":     count(`mmap\(NULL, 131072, PROT_READ\|PROT_WRITE, MAP_PRIVATE\|MAP_ANONYMOUS`),
		"scratch unmapped":   count(`munmap\(0x[0-9a-f]+, 131072\) += 0`),
		"journal extended":   count(`ftruncate`),
		"file mapping grown": count(`mremap\(.*MREMAP_MAYMOVE\) += 0x`),
	}
	want := map[string]int{
		"chunks leaked":      requests / 4,
		"scratch mapped":     requests,
		"scratch unmapped":   requests,
		"journal extended":   requests / 16,
		"file mapping grown": requests/16 - 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if n := count(`brk\(0x`); n < 1 {
		t.Errorf("the heap never grew")
	}
}

func TestLeakHasTheFunctionsToBlame(t *testing.T) {
	f, err := elf.Open(build(t, "leak"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"handle_request", "cache_put", "leak_chunk", "session_new", "journal_extend"} {
		if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool {
			return s.Name == name && elf.ST_TYPE(s.Info) == elf.STT_FUNC
		}) {
			t.Errorf("no function %s", name)
		}
	}
}

func TestVMAsHasAsManyAsItWasAsked(t *testing.T) {
	bin := build(t, "vmas")
	rows := func(args ...string) (n, rssKB int) {
		pid, finish := startUntil(t, "ready", bin, args...)
		defer finish()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(status)
		if m == nil {
			t.Fatalf("no RssAnon in %s", status)
		}
		if rssKB, err = strconv.Atoi(string(m[1])); err != nil {
			t.Fatal(err)
		}
		return len(maps(t, pid)), rssKB
	}
	one, base := rows("1")
	for _, tt := range []struct{ n, mb int }{{2, 0}, {23, 8}, {1000, 8}, {10000, 1}} {
		t.Run(fmt.Sprintf("%d mappings, %d MiB", tt.n, tt.mb), func(t *testing.T) {
			n, rss := rows(strconv.Itoa(tt.n), strconv.Itoa(tt.mb))
			if n-one != tt.n-1 {
				t.Errorf("%d mappings more than with one, want %d", n-one, tt.n-1)
			}
			// The program's own few pages are not the same in every run.
			if extra := rss - base - tt.mb<<10; extra < -64 || extra > 64 {
				t.Errorf("%d KiB resident beyond the %d MiB asked for", extra, tt.mb)
			}
		})
	}
}

func TestCrowdEndsWell(t *testing.T) {
	bin := build(t, "crowd")
	for _, args := range [][]string{{"stacks", "2000", "100000"}, {"pages", "2000", "100000"}, {"short", "20"}} {
		cmd := command(t, bin, args...)
		cmd.Stdin = strings.NewReader("\n")
		out, err := cmd.Output()
		if err != nil || string(out) != "done\n" {
			t.Errorf("%v: %v, printed %q", args, err, out)
		}
	}
}

func TestCrowdHasTheProcessesItWasAsked(t *testing.T) {
	pid, finish := startUntil(t, "done", build(t, "crowd"), "node", "3", "2", "1")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(string(children))); n != 6 {
		t.Errorf("%d children, want 6", n)
	}
	finish()
}
