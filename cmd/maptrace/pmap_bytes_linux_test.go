package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// A comparison runs the installed pmap and our program, called pmap, with the
// same arguments on the same process, and wants the same bytes.
type comparison struct {
	pmap string
	ours string // a link called pmap
	// patch is Z of the installed pmap 4.0.Z.
	patch  int
	compat []string // makes ours that pmap
	dir    string   // for files, and where the programs run
	// failures of same in one test are no news after the first few.
	failures int
}

// need ends a test that cannot be done here: it is skipped, and fails where
// MAPTRACE_REQUIRE_BPF=1 says that everything must be there.
func need(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("MAPTRACE_REQUIRE_BPF") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// needProgram finds a program to run.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := tool.Path(name)
	if err != nil {
		need(t, "%v", err)
	}
	return path
}

func newComparison(t *testing.T) *comparison {
	t.Helper()
	c := &comparison{pmap: needProgram(t, "pmap")}
	version, err := exec.CommandContext(t.Context(), c.pmap, "-V").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^pmap from procps-ng 4\.0\.(\d+)`).FindSubmatch(version)
	if m == nil {
		t.Skipf("maptrace does not imitate %q", version)
	}
	if c.patch, err = strconv.Atoi(string(m[1])); err != nil {
		t.Fatal(err)
	}
	c.compat = []string{"--compat", "4.0.7"}
	if c.patch <= 4 {
		c.compat = []string{"--compat", "4.0.2"}
	}
	c.dir = shortDir(t)
	c.ours = filepath.Join(c.dir, "pmap")
	if err := os.Symlink(binary(t), c.ours); err != nil {
		t.Fatal(err)
	}
	return c
}

// shortDir makes a directory that every user may enter. Names in it are shorter
// than the 127 bytes after which pmap -X cuts them, as ours does not.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pmap") //nolint:usetesting // t.TempDir is long, and closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a server may still write into it
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// outcome is all that a caller sees of a run.
type outcome struct {
	code   int
	out    string
	stderr string
}

// locales are those whose rules for unprintable bytes differ.
var locales = []string{"C", "C.UTF-8"}

// run runs one of the programs under the name pmap. It forks from the thread it
// is called on, so the child has that thread's mounts.
func (c *comparison) run(t *testing.T, program string, env []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
	defer cancel()
	if program == c.ours {
		args = slices.Concat(c.compat, args)
	}
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Args[0], cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = "pmap", env, c.dir, &out, &stderr
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// same runs both and compares everything; edit, if any, first takes out what is
// meant to differ.
func (c *comparison) same(t *testing.T, locale string, edit func(*outcome), args ...string) {
	t.Helper()
	if c.failures > 20 {
		t.Fatal("too many differences to tell more")
	}
	env := []string{"LC_ALL=" + locale, "HOME=" + c.dir}
	want, got := c.run(t, c.pmap, env, args...), c.run(t, c.ours, env, args...)
	if edit != nil {
		edit(&want)
		edit(&got)
	}
	if got != want {
		c.failures++
	}
	compareOutcomes(t, fmt.Sprintf("LC_ALL=%s pmap %q", locale, args), got, want)
}

func compareOutcomes(t *testing.T, what string, got, want outcome) {
	t.Helper()
	if got.code != want.code {
		t.Errorf("%s: exit code %d, pmap has %d", what, got.code, want.code)
	}
	if d := firstDifference(got.out, want.out); d != "" {
		t.Errorf("%s: stdout: %s", what, d)
	}
	if d := firstDifference(got.stderr, want.stderr); d != "" {
		t.Errorf("%s: stderr: %s", what, d)
	}
}

// firstDifference shows the first line that differs, from a little before where
// it does: a table may have a hundred thousand lines, and one mistake changes
// them all.
func firstDifference(got, want string) string {
	if got == want {
		return ""
	}
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	i := 0
	for i < min(len(g), len(w)) && g[i] == w[i] {
		i++
	}
	var a, b string
	if i < len(g) {
		a = g[i]
	}
	if i < len(w) {
		b = w[i]
	}
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	at = max(at-100, 0)
	return fmt.Sprintf("%d lines for %d; line %d from byte %d:\ngot  %.200q\npmap %.200q", len(g), len(w), i+1, at, a[at:], b[at:])
}

// noStderr is for what pmap leaves unsaid and we say.
func noStderr(o *outcome) { o.stderr = "" }

// noTotals is for the totals of -x -A, which with pmap hold rows that are not
// shown.
func noTotals(o *outcome) {
	lines := strings.SplitAfter(o.out, "\n")
	if n := len(lines); n >= 2 {
		o.out = strings.Join(lines[:n-2], "")
	}
}

// checkTotals wants the last line of -x to be the sum of the rows.
func checkTotals(t *testing.T, out string) {
	t.Helper()
	var sum, total [3]uint64
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 5 || !regexp.MustCompile(`^([0-9a-f]{16}|total)$`).MatchString(f[0]) {
			continue
		}
		at := &sum
		if f[0] == "total" {
			at, f = &total, f[1:]
		}
		for i := range at {
			n, err := strconv.ParseUint(f[i+1], 10, 64)
			if err != nil {
				t.Errorf("%q: %v", line, err)
			}
			at[i] += n
		}
	}
	if total != sum {
		t.Errorf("the rows have %v, the line of totals %v:\n%.3000s", sum, total, out)
	}
}

// freezeSmaps gives the rest of the test, and what it starts, a copy of smaps in
// place of the live file. The numbers in it change even while the process is
// stopped: they count who else has the page, and pmap itself maps libraries.
func freezeSmaps(t *testing.T, copied string, pids ...int) {
	t.Helper()
	// Never unlocked: the thread ends with the test, and its mounts with it.
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	for _, pid := range pids {
		if err == nil {
			err = unix.Mount(copied, fmt.Sprintf("/proc/%d/smaps", pid), "", unix.MS_BIND, "")
		}
	}
	switch {
	case errors.Is(err, unix.EPERM):
		need(t, "may not put a copy in place of smaps: %v", err)
	case err != nil:
		t.Fatal(err)
	}
}

// copySmaps keeps what smaps says now.
func (c *comparison) copySmaps(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(c.dir, fmt.Sprintf("smaps.%d", pid))
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// stop stops all threads of a process and waits until they are.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("process %d is stopped", pid), func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			t.Fatalf("the threads of %d: %v", pid, err)
		}
		return !slices.ContainsFunc(stats, func(name string) bool { return stateIn(name) != 'T' })
	})
}

// stateIn is the state that a stat file tells, 0 if it is gone.
func stateIn(name string) byte {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	st, err := procmaps.ParseStat(b, name)
	if err != nil {
		return 0
	}
	return st.State
}

// frozen starts a program, waits for its first line, and stops it.
func frozen(t *testing.T, cmd *exec.Cmd) (pid int) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	cmd.Stdout = w
	p := launch(t, cmd)
	_ = w.Close() // only the program writes
	if err := out.SetReadDeadline(time.Now().Add(2 * bound)); err != nil {
		t.Fatal(err)
	}
	// Most print a line of themselves, some wait for one to repeat.
	if _, err := io.WriteString(in, "ready\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q says nothing: %v; stderr: %s", cmd.Args, err, p.err.String())
	}
	stop(t, cmd.Process.Pid)
	return cmd.Process.Pid
}

// compile builds a C program.
func (c *comparison) compile(t *testing.T, name string, source []byte, flags ...string) string {
	t.Helper()
	gcc := needProgram(t, "gcc")
	bin := filepath.Join(c.dir, name)
	cmd := exec.CommandContext(t.Context(), gcc, append(flags, "-O1", "-pthread", "-o", bin, "-xc", "-")...)
	cmd.Stdin = bytes.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return bin
}

// manyKinds has a mapping of every kind that a program makes without help of the
// machine's settings, a second thread, and flags that VmFlags shows.
const manyKinds = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static char *map(int prot, int flags, int fd, long at)
{
	char *p = mmap(0, 16 * sysconf(_SC_PAGESIZE), prot, flags, fd, at);
	if (p == MAP_FAILED)
		_exit(1);
	return p;
}
static void *rest(void *p) { for (;;) pause(); return p; }

int main(int argc, char **argv)
{
	long page = sysconf(_SC_PAGESIZE), all = 16 * page;
	int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	int fd = open(argv[0], O_RDONLY);
	pthread_t thread;
	memset(map(rw, anon, -1, 0), 1, 3 * page);
	map(PROT_NONE, anon | MAP_NORESERVE, -1, 0);
	map(rw | PROT_EXEC, anon, -1, 0);
	map(PROT_EXEC, anon, -1, 0);
	map(PROT_WRITE, anon | MAP_GROWSDOWN, -1, 0);
	memset(map(rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 1, page);
	map(PROT_READ, MAP_SHARED, fd, page);
	memset(map(rw, MAP_PRIVATE, fd, 0), 1, page);
	/* What an old kernel refuses, it goes without. */
	madvise(map(rw, anon, -1, 0), all, MADV_DONTFORK);
	madvise(map(rw, anon, -1, 0), all, MADV_DONTDUMP);
	madvise(map(rw, anon, -1, 0), all, MADV_WIPEONFORK);
	mlock(map(rw, anon, -1, 0), page);
	char params[120] = { 0 };
	int ring = syscall(425 /* io_uring_setup */, 4, params);
	if (ring >= 0)
		mmap(0, page, rw, MAP_SHARED, ring, 0);
	prctl(0x53564d41, 0, map(rw, anon, -1, 0), all, "a name: of its own");
	prctl(0x53564d41, 0, map(rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0), all, "shared");
	memset(malloc(100000), 1, 50000);
	if (pthread_create(&thread, 0, rest, 0))
		return 1;
	if (write(1, "ready\n", 6) != 6)
		return 1;
	rest(0);
}
`

// oddNames maps files with names that a printer can trip over, memfds, and System
// V and POSIX shared memory, and takes an odd name itself.
const oddNames = `
import mmap, os, ctypes, sys
libc = ctypes.CDLL(None)
libc.prctl(15, b'a (b) \xff\n\x1b')
keep = []
for name in [b'two  spaces ', b' leading', b'new\nline', b'c\\012lit', b'e (deleted)', b'esc\x1b[31m', b'bad\xff',
             b'cut\xc3', b'\xc3\xa9', b'c1 \xc2\x9b1m', b'\xe2\x80\xae rtl', b'\xee\x80\x80 private', b'\xf0\x9f\x92\xa9',
             b'\xed\xa0\x80 surrogate', b'\xf4\x90\x80\x80 beyond', b'\xc0\xaf long', b'\xef\xbf\xbe',
             b'tab\there', b'del\x7f', b'bell\x07', b'cr\r', b'[x]', b'[heap]', b'x]', b'a:b', b'=', b'Size:',
             b'SYSV00000000', b'gone', b'g\xc3\xb6ne']:
    path = os.fsencode(sys.argv[1]) + b'/' + name
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    keep.append(mmap.mmap(fd, 4096, mmap.MAP_SHARED if name == b'gone' else mmap.MAP_PRIVATE, mmap.PROT_READ))
    if name in (b'gone', b'g\xc3\xb6ne'):
        os.unlink(path)
for name in ('a cursor', 'm\u00e9m', 'sl/ash'):
    fd = os.memfd_create(name)
    os.ftruncate(fd, 8192)
    keep.append(mmap.mmap(fd, 8192))
keep.append(mmap.mmap(-1, 12288))
keep[-1][0] = 1
libc.shmat.restype = ctypes.c_void_p
for key in (0, 0x1234abcd):
    shm = libc.shmget(key, 8192, 0o1600)
    libc.shmat(shm, None, 0)
    libc.shmctl(shm, 0, None)
print('ready', flush=True)
sys.stdin.readline()
sys.stdin.readline()
`

// hugePages maps pages of other sizes without reserving any, so that none need
// be there.
const hugePages = `
import mmap, sys
noreserve, hugetlb, two = 0x4000, 0x40000, 21 << 26
keep = []
try:
    for share in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
        keep.append(mmap.mmap(-1, 4 << 20, flags=share | mmap.MAP_ANONYMOUS | noreserve | hugetlb | two))
    print('ready', flush=True)
except OSError as e:
    print(e, flush=True)
sys.stdin.readline()
sys.stdin.readline()
`

const javaWaits = `
public class H {
	public static void main(String[] args) throws Exception {
		java.nio.ByteBuffer.allocateDirect(1 << 18);
		System.out.println("ready");
		while (System.in.read() >= 0) {}
	}
}
`

func pythonCommand(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = needProgram(t, "python3")
	}
	return exec.Command(python, append([]string{"-c", script}, args...)...)
}

// redis starts a server without a port.
func (c *comparison) redis(t *testing.T) int {
	t.Helper()
	sock := filepath.Join(c.dir, "redis")
	cmd := exec.Command(needProgram(t, "redis-server"), "--port", "0", "--unixsocket", sock, "--dir", c.dir, "--save", "")
	launch(t, cmd)
	eventually(t, "redis listens", func() bool { return exists(sock) })
	stop(t, cmd.Process.Pid)
	return cmd.Process.Pid
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// postgresBackend starts a server without a port, as the user it wants to be,
// and a session with it; the process is the one that serves the session.
func postgresBackend(t *testing.T) int {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		need(t, "needs postgres, which is not installed")
	}
	if os.Getuid() != 0 {
		t.Skip("we cannot become the user of postgres")
	}
	runuser, bin := needProgram(t, "runuser"), bins[len(bins)-1]
	as := func(argv ...string) *exec.Cmd {
		return exec.Command(runuser, append([]string{"-u", "postgres", "--"}, argv...)...)
	}
	dir := shortDir(t)
	var out []byte
	if out, err = exec.CommandContext(t.Context(), "chown", "postgres", dir).CombinedOutput(); err != nil {
		need(t, "there is no user postgres: %s", out)
	}
	data := filepath.Join(dir, "data")
	if out, err = as(bin+"/initdb", "-D", data, "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	server := launch(t, as(bin+"/postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off"))
	t.Cleanup(func() {
		if said, failed := as(bin+"/pg_ctl", "-D", data, "-m", "immediate", "stop").CombinedOutput(); failed != nil {
			t.Errorf("pg_ctl stop: %v\n%s", failed, said)
		}
		<-server.done
	})
	var session *exec.Cmd
	var answer string
	eventually(t, "postgres answers", func() bool {
		session = as(bin+"/psql", "-h", dir, "-AtqX")
		var in io.WriteCloser
		if in, err = session.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		var printed io.ReadCloser
		if printed, err = session.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
		if err = session.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() {
			_ = in.Close()
			_, _ = io.Copy(io.Discard, printed) // to its end
			_ = session.Wait()                  // its code tells nothing more
		}
		// Sorting has it allocate; it fails where there is no server yet.
		_, _ = io.WriteString(in, "set work_mem = '16MB'; select count(*) from (select i from generate_series(1, 50000) i order by -i) s;\nselect pg_backend_pid();\n")
		lines := bufio.NewReader(printed)
		if _, err = lines.ReadString('\n'); err == nil {
			answer, err = lines.ReadString('\n')
		}
		if err != nil {
			end()
			return false
		}
		t.Cleanup(end)
		return true
	})
	pid, err := strconv.Atoi(strings.TrimSpace(answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // to end with the session
	stop(t, pid)
	return pid
}

// targetKind tells how a process is looked at.
type targetKind int

const (
	plain   targetKind = iota
	telling            // with everything that could make a difference
	large              // with few options, in one locale: each run takes a second
)

// bytesTargets are the processes to look at.
var bytesTargets = []struct {
	name  string
	start func(*testing.T, *comparison) int
	kind  targetKind
}{
	{name: "a C program", kind: telling, start: func(t *testing.T, c *comparison) int {
		t.Helper()
		return frozen(t, exec.Command(c.compile(t, "kinds", []byte(manyKinds)), "one", "two words", ""))
	}},
	{name: "a static C program", start: func(t *testing.T, c *comparison) int {
		t.Helper()
		return frozen(t, exec.Command(c.compile(t, "static", []byte(manyKinds), "-static")))
	}},
	{name: "a Go program", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		h := startHelper(t, "calls", os.Args[0])
		h.tell("go")
		h.hear("done")
		stop(t, h.Process.Pid)
		return h.Process.Pid
	}},
	{name: "odd names", kind: telling, start: func(t *testing.T, c *comparison) int {
		t.Helper()
		dir := filepath.Join(c.dir, "odd")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return frozen(t, pythonCommand(t, oddNames, dir, "an  argument", "\xc3\xa9 \xee\x80\x80 \xc2\x85 \u202e \t\x7f", "\xff\x1b \xc3\xa9", ""))
	}},
	{name: "huge pages", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		pid := frozen(t, pythonCommand(t, hugePages))
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(maps, []byte("anon_hugepage")) {
			t.Skip("this kernel has no pages of 2 MiB")
		}
		return pid
	}},
	{name: "node", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		return frozen(t, exec.Command(needProgram(t, "node"), "-e", `console.log("ready"); process.stdin.resume()`))
	}},
	{name: "java", start: func(t *testing.T, c *comparison) int {
		t.Helper()
		java, source := needProgram(t, "java"), filepath.Join(c.dir, "H.java")
		if err := os.WriteFile(source, []byte(javaWaits), 0o600); err != nil {
			t.Fatal(err)
		}
		return frozen(t, exec.Command(java, "-Xmx64m", source))
	}},
	{name: "redis", start: func(t *testing.T, c *comparison) int {
		t.Helper()
		return c.redis(t)
	}},
	{name: "a session of postgres", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		return postgresBackend(t)
	}},
	{name: "a kernel thread", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		exe, err := os.Readlink("/proc/2/exe")
		if stateIn("/proc/2/stat") == 0 || err == nil {
			t.Skipf("process 2 is no kernel thread here: %s", exe)
		}
		return 2
	}},
	{name: "a zombie", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		cmd := pythonCommand(t, `import ctypes; ctypes.CDLL(None).prctl(15, b'z (b) \xff\t\xc3\xa9)')`)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Wait() })
		eventually(t, "the process has ended", func() bool {
			return stateIn(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)) == 'Z'
		})
		return cmd.Process.Pid
	}},
	{name: "no command line", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		cmd := exec.Command(needProgram(t, "cat"))
		cmd.Args = []string{""}
		return frozen(t, cmd)
	}},
	{name: "a long command line", start: func(t *testing.T, _ *comparison) int {
		t.Helper()
		word := strings.Repeat("\xc3\xa9 x", 25000)
		return frozen(t, exec.Command(needProgram(t, "sh"), "-c", "echo; read a; read b", word, word, word))
	}},
	{name: "30,000 mappings", kind: large, start: func(t *testing.T, c *comparison) int {
		t.Helper()
		source, err := os.ReadFile("../../testdata/workload/vmas.c")
		if err != nil {
			t.Fatal(err)
		}
		return frozen(t, exec.Command(c.compile(t, "vmas", source), "30000", "40"))
	}},
}

func TestTheBytesAreThoseOfPmap(t *testing.T) {
	t.Parallel()
	c := newComparison(t)
	rc := filepath.Join(c.dir, "rc")
	if err := os.WriteFile(rc, []byte(someFields), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range bytesTargets {
		t.Run(target.name, func(t *testing.T) {
			pid := target.start(t, c)
			id := strconv.Itoa(pid)
			copied := c.copySmaps(t, pid)
			for i, locale := range locales {
				t.Run(locale, func(t *testing.T) {
					c.failures = 0
					if !strings.Contains(c.run(t, c.pmap, nil, id).out, ":   ") {
						t.Fatal("pmap does not show the process")
					}
					// The locale matters to names only.
					few := target.kind == large || i > 0 && target.kind != telling
					all := i == 0 && target.kind == telling
					options := func(usual, others []string) {
						for _, o := range usual {
							c.same(t, locale, nil, append(strings.Fields(o), id)...)
						}
						if few {
							return
						}
						for _, o := range others {
							c.same(t, locale, nil, append(strings.Fields(o), id)...)
						}
					}
					options([]string{"", "-p", "-d"}, []string{"-q", "-pq", "-dq", "-dp", "-dpq"})
					if !few {
						c.sameRanges(t, locale, pid, all, "-A", "-dqA", "-pA", "-dA")
					}
					freezeSmaps(t, copied, pid)
					options([]string{"-xp", "-XXp"}, []string{
						"-x", "-xq", "-xpq", "-X", "-Xq", "-Xp", "-XX", "-XXq", "-XXpq",
						"-C " + rc, "-qC " + rc, "-pC " + rc,
					})
					if few {
						return
					}
					c.sameRanges(t, locale, pid, all, "-xA", "-xqA")
					if c.rangesDetails() {
						c.sameRanges(t, locale, pid, all, "-XA", "-XXqA")
					}
					if c.patch >= 6 {
						options([]string{"-k", "-kp", "-kx", "-kd", "-kX"}, nil)
					}
				})
				if target.kind == large {
					break
				}
			}
		})
	}
}

// sameRanges compares parts of the table: with all of pmap's ways to say them,
// or only the usual.
func (c *comparison) sameRanges(t *testing.T, locale string, pid int, all bool, options ...string) {
	t.Helper()
	id := strconv.Itoa(pid)
	for i, r := range ranges(t, pid) {
		if i > 1 && !all {
			return
		}
		for _, o := range options {
			if o != "-xA" {
				c.same(t, locale, nil, o, r, id)
				continue
			}
			c.same(t, locale, noTotals, o, r, id)
			checkTotals(t, c.run(t, c.ours, nil, o, r, id).out)
		}
	}
}

// someFields has known and unknown fields, and paths.
const someFields = `# comment
[Fields Display]
Perm
Inode
#Offset
Rss
  Pss  # with a comment
NoSuchField
VmFlags
Mapping

[Mapping]
ShowPath
`

// rangesDetails tells whether -X -A is done as by one of the versions that ours
// imitates: 4.0.2, which ignores -A, or 4.0.7.
func (c *comparison) rangesDetails() bool { return c.patch <= 4 || c.patch >= 7 }

// addsUp tells the same for the totals of -X with several processes.
func (c *comparison) addsUp() bool { return c.patch != 4 }

// mapsOf reads the mappings of a process.
func mapsOf(t *testing.T, pid int) []procmaps.Mapping {
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
	return rows
}

// ranges are arguments of -A around rows of the process.
func ranges(t *testing.T, pid int) []string {
	t.Helper()
	rows := mapsOf(t, pid)
	low, high := procmaps.Range{Start: 0x1000, End: 0x2000}, procmaps.Range{Start: 0x1000, End: 0x2000}
	if len(rows) > 0 {
		low, high = rows[len(rows)/3].Range, rows[len(rows)*2/3].Range
	}
	return []string{
		fmt.Sprintf("%x,%x", low.Start, high.End-1),
		fmt.Sprintf("%x", low.Start),
		fmt.Sprintf("0x%X", low.End-1),
		fmt.Sprintf("%x,%x", low.End, high.Start-1),
		fmt.Sprintf("%x,", low.Start),
		fmt.Sprintf(",0x%x", high.Start),
		fmt.Sprintf("%x,%x", high.Start, low.Start),
		"",
		",",
		"ffffffffffffffff",
		"0",
	}
}

func TestOperandsAreThoseOfPmap(t *testing.T) {
	c := newComparison(t)
	kinds := exec.Command(c.compile(t, "kinds", []byte(manyKinds)))
	first, second := frozen(t, kinds), frozen(t, exec.Command(needProgram(t, "cat")))
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", first))
	if err != nil || len(threads) != 2 {
		t.Fatalf("threads %v: %v", threads, err)
	}
	a, b, thread := strconv.Itoa(first), strconv.Itoa(second), threads[1].Name()
	gone := exec.Command("true")
	if err = gone.Run(); err != nil {
		t.Fatal(err)
	}
	missing := strconv.Itoa(gone.Process.Pid)
	tid, err := strconv.Atoi(thread)
	if err != nil {
		t.Fatal(err)
	}
	copied := [2]string{c.copySmaps(t, first), c.copySmaps(t, second)}

	lists := [][]string{
		{a, b},
		{b, a},
		{a, a},
		{a, "2", b},
		{thread},
		{thread, a},
		{"/proc/" + a},
		{"/proc/" + a, b},
		{"/proc/" + thread},
		{fmt.Sprintf("0%o", first)},
		{fmt.Sprintf("0x%x", first)},
		{fmt.Sprintf("/proc/0X%X", first)},
		{"/proc/self", a},
		{"/proc/", a},
		{"/proc/" + a, "/proc/x"},
		{missing},
		{missing, a},
		{a, missing, b},
		{"2147483647"},
		{"--", a},
		{a, "--", b},
	}
	// What is neither a process nor an option.
	for _, list := range [][]string{
		{"abc"},
		{a + "/"},
		{a, "1x"},
		{a + " "},
		{" " + a},
		{"+" + a},
		{"-" + a},
		{"0"},
		{"09"},
		{"0x"},
		{""},
		{a, ""},
		{"2147483648"},
		{"4294967297"},
		{"18446744073709551617"},
		{"99999999999999999999"},
		{"1.0"},
		{"/proc/" + a + "/maps"},
		{"/proc/0"},
		{"/proc/1x"},
		{"/proc/self"},
		{"/proc/x", "/proc/y"},
		{"/proc/"},
		{"/proc"},
		{"//proc/" + a},
	} {
		c.same(t, "C", nil, list...)
	}

	for _, o := range []string{"", "-d", "-xq", "-X", "-XXq"} {
		if o == "-xq" {
			freezeSmaps(t, copied[0], first, tid)
			freezeSmaps(t, copied[1], second)
		}
		for _, list := range lists {
			details := strings.HasPrefix(o, "-X")
			if details && len(list) > 1 && !c.addsUp() {
				continue
			}
			edit := func(*outcome) {}
			if slices.Contains(list, missing) || slices.Contains(list, "2147483647") || slices.Contains(list, "/proc/self") {
				edit = noStderr
			}
			c.same(t, "C", edit, append(strings.Fields(o), list...)...)
		}
	}
}

func TestOptionsAreThoseOfPmap(t *testing.T) {
	c := newComparison(t)
	first := frozen(t, exec.Command(needProgram(t, "cat")))
	freezeSmaps(t, c.copySmaps(t, first), first)
	pid := strconv.Itoa(first)
	for _, args := range [][]string{
		// Ways to write them.
		{"--quiet", pid},
		{"--show-path", pid},
		{"--device", pid},
		{"--extended", pid},
		{"--range", "1000,", pid},
		{"--range=1000,", pid},
		{"-A1000,", pid},
		{"-dqA1000,", pid},
		{"--range=", pid},
		{pid, "-x"},
		{pid, "-q", "-x"},
		{"-x", pid, "-q"},
		{"-d", "--", pid},
		{"-qq", pid},
		{"-xx", pid},
		{"-dd", pid},
		{"-X", "-X", pid},
		{"-XX", "-X", pid},
		{"-X", pid, "-X"},
		{"-xq", "-p", pid},
		{"--ext", pid},
		{"--dev", pid},
		{"--q", pid},
		{"--sh", pid},
		{"--ra=1000,", pid},
		{"--ra", "1000,", pid},
		{"-r", pid},
		{"-rq", pid},
		{"-xr", pid},
		{"-A", "1000", "-A", ",2000", pid},
		// Mistakes.
		{},
		{"-zh"},
		{"-x"},
		{"-q"},
		{"-r"},
		{"--"},
		{"-"},
		{"-", pid},
		{"-X", "-q"},
		{"-z", pid},
		{"-xz", pid},
		{"-a", pid},
		{"-F", pid},
		{"-l", pid},
		{"-L", pid},
		{"-s", pid},
		{"-S", pid},
		{"-1", pid},
		{"-v", pid},
		{"-o", pid},
		{"-?", pid},
		{"-:", pid},
		{"-=", pid},
		{"-W", pid},
		{"-W", "foo", pid},
		{"--foo", pid},
		{"--foo=1", pid},
		{"--r", pid},
		{"--r=1", pid},
		{"--read", pid},
		{"--create", pid},
		{"--quiet=1", pid},
		{"--extended=", pid},
		{"--e=3", pid},
		{"--=", pid},
		{"---x", pid},
		{"--X", pid},
		{"-x-", pid},
		{"--Quiet", pid},
		{"-A"},
		{"-A", pid},
		{"--range"},
		{pid, "--ra"},
		{"-C"},
		{"-N"},
		{"--read-rc-from"},
		{"--create-rc-to"},
		{"-xd", pid},
		{"-xX", pid},
		{"-dX", pid},
		{"-x", "-d"},
		{"-Xc", pid},
		{"-cx", pid},
		{"-nx"},
		{"-nX"},
		{"-nd", pid},
		{"-cn"},
		{"-xdz", pid},
		{"-zxd", pid},
		{"-xdA", "zz", pid},
		{"-xd", "abc"},
		{"-nq"},
		{"-np"},
		{"-npq", pid},
		{"-n", pid},
		{"-n", "abc"},
		{"-q", "-N", "/dev/null"},
		{"-N", "/dev/null", pid},
		{"-A", "zz", pid},
		{"-A", "1,zz", pid},
		{"-A", "1,2,3", pid},
		{"-A", "1-2", pid},
		{"-A", "0x", pid},
		{"-A", "0xg", pid},
		{"-A", "zz"},
		{"-A", "1 ", pid},
		{"-A", " 1", pid},
		{"-A", "-1", pid},
		{"-A", "+1", pid},
		{"-A", "\xc3\xa9", pid},
		{"-A", ",,", pid},
		{"-A", "1ffffffffffffffff", pid},
		{"-A", "0,ffffffffffffffffffff", pid},
		{"-A", "1 ,2", pid},
		{"-A", "1, 2", pid},
	} {
		c.same(t, "C", nil, args...)
	}
	if c.patch < 6 {
		for _, args := range [][]string{{"-k", pid}, {"-xk", pid}, {"--use-kernel-name", pid}, {"--use", pid}} {
			c.same(t, "C", nil, args...)
		}
	}
	// What these say is about the program.
	for _, args := range [][]string{
		{"-V"},
		{"--version"},
		{"-xV"},
		{"--vers"},
		{"-Vz"},
		{"-xdV"},
		{pid, "-V"},
		{"-h"},
		{"--help"},
		{"-h", pid},
		{"-qh"},
		{pid, "-h"},
		{"--he"},
		{"-xdh"},
		{"-hz"},
		{"-hV"},
		{"-Vh"},
	} {
		want, got := c.run(t, c.pmap, nil, args...), c.run(t, c.ours, nil, args...)
		if got.code != want.code || got.stderr != want.stderr || got.out == "" {
			t.Errorf("pmap %q: got %+v, pmap %+v", args, got, want)
		}
	}
}

func TestRcFilesAreThoseOfPmap(t *testing.T) {
	c := newComparison(t)
	first := frozen(t, exec.Command(needProgram(t, "cat")))
	freezeSmaps(t, c.copySmaps(t, first), first)
	pid := strconv.Itoa(first)
	write := func(name, text string) string {
		name = filepath.Join(c.dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	texts := []string{
		"", "\n", "# nothing\n", someFields, strings.ReplaceAll(someFields, "ShowPath", "#"),
		"[Fields Display]\n", "[Fields Display]\nMapping\n", "[Fields Display]\nPerm", "[Fields Display]\nrss\nRSS\n",
		"[Fields Display]\nVmFlags\n", "[Fields Display]\nOffset\nDevice\nAddress\nSize\nSize\nSwapPss\nTHPeligible\n",
		"Rss\n[Fields Display]\nPss\n", "[Fields Display] Rss\nPss\n", "[Fields Display]#x\nPss\n", " [Fields Display]\nPss\n",
		"[fields display]\nPss\n", "[Fields Display\nPss\n", "[Fields Display]]\nPss\n", "[Else]\nRss\n[Fields Display]\nPss\n", "[]\nx\n",
		"[Fields Display]\nRss Pss\nSize\n", "[Fields Display]\n\tRss\t\n", "[Fields Display]\nRss\r\nPss\r\n",
		"[Mapping]\nShowPath\n", "[Mapping]\nShowPath\nShowPath\n", "[Mapping]\nElse\n[Fields Display]\nMapping\n",
		"[Fields Display]\nMapping\n[Mapping]\nShowPath\n[Fields Display]\nRss\n", "[Mapping]\nshowpath\n[Fields Display]\nMapping\n",
		"[Fields Display] \nRss\n", "[ Fields Display ]\nRss\n", "[Fields  Display]\nRss\n", "[Fields Display] #c\nRss\n",
		"[Fields Display] [Mapping]\nRss\n", "[Fields Display\nRss\n]\nPss", "[\n", "]\n", "[Mapping] ShowPath\n[Fields Display]Mapping\nRss\n",
		"[Fields Display]\n[Rss]\nPss\n", "[Fields Display]\nRss\vPss\n", "[Fields Display]\nx Pss Size\n", "a[Fields Display]\nRss\n",
		"# c [Fields Display]\nRss\n", "[Fields Display]\nRssx\nRs\nPss_\n", "[Mapping]\nShowPath x\n[Fields Display]\nMapping\n",
		"[Fields Display]\nRss#c\nPss #c\n#Size\n", "[Fields Display]\nRss\x00\nPss\n", "[Fields Display]\n\xff\nPss\n",
	}
	for _, n := range []int{90, 1000, 1022, 1023, 1024, 1025, 2046, 2047, 3000} {
		texts = append(texts,
			"[Fields Display]\n"+strings.Repeat("x", n)+"\nRss\n",
			"#"+strings.Repeat("x", n-1)+"\n[Fields Display]\nRss\n",
			"[Fields Display]\n"+strings.Repeat(" ", n-3)+"Rss\nPss\n",
			"[Fields Display]\nRss\n"+strings.Repeat("x", n),
		)
	}
	for i, text := range texts {
		name := write(fmt.Sprint("rc", i), text)
		check := func(args ...string) {
			env := []string{"LC_ALL=C", "HOME=" + c.dir}
			got, want := c.run(t, c.ours, env, args...), c.run(t, c.pmap, env, args...)
			compareOutcomes(t, fmt.Sprintf("pmap %q with rc file %.100q of %d bytes", args[:1], text, len(text)), got, want)
		}
		check("-C", name, pid)
		if !strings.Contains(text, "ShowPath") {
			continue
		}
		check("-pC", name, pid)
		write(".pmaprc", text)
		check("-c", pid)
	}
	if err := os.Remove(filepath.Join(c.dir, ".pmaprc")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-c", pid},
		{"--read-rc", pid},
		{"-C", filepath.Join(c.dir, "none"), pid},
		{"-C", "", pid},
		{"--read-rc-from=" + c.dir + "/rc3", pid},
		{"--read-rc-from", c.dir + "/rc3", pid, pid},
		{"-N", filepath.Join(c.dir, "no/such"), "-q"},
		{"-N", filepath.Join(c.dir, "no/such")},
		{"-N", c.dir},
		{"-N", ""},
		{"-N", filepath.Join(c.dir, "rc0")},
	} {
		c.same(t, "C", nil, args...)
	}

	// Each of the programs makes its own file, and then finds it.
	home := [2]string{filepath.Join(c.dir, "theirs"), filepath.Join(c.dir, "mine")}
	for _, dir := range home {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"-n"},
		{"-n"},
		{"--create-rc"},
		{"-c", pid},
		{"-N", "./file"},
		{"-N", "./file"},
		{"--create-rc-to=other"},
		{"-C", "file", pid},
		{"-nn"},
		{"-N", "a", "-N", "b"},
	} {
		var got [2]outcome
		for i, program := range []string{c.pmap, c.ours} {
			there := *c
			there.dir = home[i]
			got[i] = there.run(t, program, []string{"LC_ALL=C", "HOME=" + home[i]}, args...)
		}
		compareOutcomes(t, fmt.Sprintf("pmap %q", args), got[1], got[0])
	}
	entries, err := os.ReadDir(home[0])
	if err != nil || len(entries) < 4 {
		t.Fatalf("pmap made %v: %v", entries, err)
	}
	for _, e := range entries {
		var text [2]string
		for i, dir := range home {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			text[i] = string(b)
		}
		if d := firstDifference(text[1], text[0]); d != "" {
			t.Errorf("%s: %s", e.Name(), d)
		}
	}
	compareOutcomes(t, "without HOME", c.run(t, c.ours, []string{"LC_ALL=C"}, "-c", pid), c.run(t, c.pmap, []string{"LC_ALL=C"}, "-c", pid))
	compareOutcomes(t, "without HOME", c.run(t, c.ours, []string{"LC_ALL=C"}, "-n"), c.run(t, c.pmap, []string{"LC_ALL=C"}, "-n"))
}

// deepFile maps a page of a file with a line in maps that is longer than pmap
// reads, of one with a name of more than 127 bytes, and names a mapping with a slash.
const deepFile = `
import mmap, os, ctypes, sys
libc = ctypes.CDLL(None)
keep = []
def file(name):
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 4096)
    keep.append(mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ))
os.chdir(sys.argv[1])
for i in range(6):
    file('leaf%d' % i)
    os.mkdir('d' * 200)
    os.chdir('d' * 200)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
at = libc.mmap(None, mmap.PAGESIZE, 0, 0x22, -1, 0)
libc.prctl(0x53564d41, 0, ctypes.c_void_p(at), ctypes.c_size_t(mmap.PAGESIZE), b'a/b')
print('ready', flush=True)
sys.stdin.readline()
sys.stdin.readline()
`

func TestTheBugsOfPmapStayFixed(t *testing.T) {
	c := newComparison(t)
	pid := frozen(t, pythonCommand(t, deepFile, c.dir))
	rows := mapsOf(t, pid)
	var kb uint64
	for _, m := range rows {
		kb += m.Len() / 1024
	}
	freezeSmaps(t, c.copySmaps(t, pid), pid)
	id := strconv.Itoa(pid)
	for _, o := range []string{"", "-p", "-x", "-xp", "-d", "-dp", "-X", "-Xp", "-XX", "-XXp"} {
		args := append(strings.Fields(o), id)
		got, want := c.run(t, c.ours, nil, args...), c.run(t, c.pmap, nil, args...)
		if got.code != int(exitOK) || got.stderr != "" {
			t.Errorf("pmap %q: exit code %d, stderr %q", args, got.code, got.stderr)
		}
		if got.out == want.out {
			t.Errorf("pmap %q: pmap has no bug", args)
		}
		path := strings.Contains(o, "p")
		lines := strings.Split(got.out, "\n")
		for _, m := range rows {
			name := m.Name
			switch {
			case strings.Contains(name, "/leaf") && !path:
				name = name[strings.LastIndexByte(name, '/')+1:]
			case strings.HasPrefix(name, "[anon:a/b"):
				if !strings.HasPrefix(o, "-X") {
					name = "[ anon ]"
				}
			case !strings.Contains(name, "/leaf"):
				continue
			}
			row := slices.IndexFunc(lines, func(line string) bool {
				return strings.HasPrefix(strings.TrimLeft(line, " 0"), strconv.FormatUint(m.Start, 16)+" ")
			})
			if row < 0 || !strings.HasSuffix(lines[row], " "+name) {
				t.Errorf("pmap %q: no row %x with the name %.300q", args, m.Start, name)
			}
		}
		switch {
		case o == "" || o == "-p":
			if total := fmt.Sprintf(" total %16dK", kb); !slices.Contains(lines, total) {
				t.Errorf("pmap %q: the total is not %d KiB", args, kb)
			}
		case strings.HasPrefix(o, "-x"):
			checkTotals(t, got.out)
		}
	}
}
