package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/testdata/tool"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
}

// asNobody runs the program as a user without any capability.
func asNobody(t *testing.T, args ...string) result {
	t.Helper()
	needRoot(t)
	cmd := exec.Command(binary(t), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return launch(t, cmd).result()
}

func TestWithoutCapabilities(t *testing.T) {
	t.Parallel()
	t.Run("a command", func(t *testing.T) {
		t.Parallel()
		// More than once: which map the kernel is asked for first is chance.
		for range 5 {
			r := asNobody(t, "trace", "--", "true")
			if r.code != exitUnsupported || r.out != "" {
				t.Errorf("exit code %d, output %q", r.code, r.out)
			}
			checkOneLine(t, r.stderr, "tracing needs root, or CAP_BPF and CAP_PERFMON")
			checkOneLine(t, r.stderr, "'maptrace trace --poll' needs none of that")
		}
	})
	t.Run("another user's process", func(t *testing.T) {
		t.Parallel()
		r := asNobody(t, "trace", "-p", strconv.Itoa(os.Getpid()))
		if r.code != exitUnsupported || r.out != "" {
			t.Errorf("exit code %d, output %q", r.code, r.out)
		}
		checkOneLine(t, r.stderr, "permission denied: other users' processes need root or CAP_SYS_PTRACE")
	})
	t.Run("the demo", func(t *testing.T) {
		t.Parallel()
		r := asNobody(t, "demo")
		if r.code != exitUnsupported {
			t.Errorf("exit code %d", r.code)
		}
		checkOneLine(t, r.stderr, "CAP_BPF and CAP_PERFMON")
	})
	t.Run("doctor", func(t *testing.T) {
		t.Parallel()
		r := asNobody(t, "doctor")
		if r.code != exitUnsupported || r.stderr != "" {
			t.Errorf("exit code %d, standard error %q", r.code, r.stderr)
		}
		for _, want := range []string{
			"user          uid 65534, has none of the capabilities that matter; lacks CAP_BPF",
			"\nFAIL  ring buffer ", "\nFAIL  tp_btf/sys_exit ", "\nok    smaps ",
			"      creating map: map create: operation not permitted\n      -> tracing needs root, or CAP_BPF and CAP_PERFMON",
			"\nless  CAP_SYS_PTRACE             processes of other users",
			"\n   1  everything: ", "\n   2  tracing: ", "\n-> 3  trace --poll: ", "\n   4  pmap: ",
			"\nlevel 2 needs: tracing needs root, or CAP_BPF and CAP_PERFMON",
			"\n\ntracing does not work here\n",
		} {
			if !strings.Contains(r.out, want) {
				t.Errorf("no %q in:\n%s", want, r.out)
			}
		}
		if n := strings.Count(r.out, "not permitted"); n != 1 || strings.Contains(r.out, "RemoveMemlock") {
			t.Errorf("that it is not permitted is told %d times:\n%s", n, r.out)
		}
		// It is not the kernel that is too old.
		if strings.Contains(r.out, "this kernel lacks it") {
			t.Errorf("a wrong diagnosis:\n%s", r.out)
		}
	})
	t.Run("pmap of another user's process", func(t *testing.T) {
		t.Parallel()
		r := asNobody(t, "pmap", strconv.Itoa(os.Getpid()))
		if r.code != exitError || !strings.HasPrefix(r.out, strconv.Itoa(os.Getpid())+":   ") {
			t.Errorf("exit code %d, output %q", r.code, r.out)
		}
		checkOneLine(t, r.stderr, "permission denied: other users' processes need root or CAP_SYS_PTRACE")
	})
}

func TestTargetsThatCannotBeTraced(t *testing.T) {
	t.Parallel()
	kthread := "2"
	if comm, err := os.ReadFile("/proc/2/comm"); err != nil || string(comm) != "kthreadd\n" {
		kthread = ""
	}
	// Beyond PID_MAX_LIMIT of include/linux/threads.h: there is no such process.
	const missing = "4194305"
	dead := exec.Command("true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Wait() }() // its end is what the test is about
	zombie := strconv.Itoa(dead.Process.Pid)
	eventually(t, "a zombie", func() bool {
		b, err := os.ReadFile("/proc/" + zombie + "/stat")
		return err == nil && strings.Contains(string(b), ") Z ")
	})
	tests := []struct {
		name string
		args []string
		code exitCode
		want string
	}{
		{"no such process", []string{"-p", missing}, exitGone, "process " + missing + ": no such process"},
		{"no such name", []string{"--comm", "no such name"}, exitGone, `no process is called "no such name"`},
		{"a process and one that is not there", []string{"-p", strconv.Itoa(os.Getppid()), "-p", missing}, exitGone, missing},
		{"a kernel thread", []string{"-p", kthread}, exitError, "kthreadd) is a kernel thread"},
		{"a zombie", []string{"-p", zombie}, exitError, "is a zombie"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.args[1] == "" {
				t.Skip("no kernel threads to be seen")
			}
			r := inProcess(t, append([]string{"trace"}, tt.args...)...)
			if r.code != tt.code || r.out != "" {
				t.Errorf("exit code %d, output %q, want code %d", r.code, r.out, tt.code)
			}
			checkOneLine(t, r.stderr, tt.want)
		})
	}
}

func TestTheProcOfAnotherNamespaceOfProcesses(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, args := range [][]string{{"trace", "-p", "1"}, {"trace", "--", "true"}, {"trace", "--poll", "--", "true"}, {"demo"}} {
		cmd := exec.Command(binary(t), args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
		// /proc is that of the host still.
		r := launch(t, cmd).result()
		if r.code != exitUnsupported || r.out != "" {
			t.Errorf("%v: exit code %d, output %q", args, r.code, r.out)
		}
		checkOneLine(t, r.stderr, "/proc shows the processes of another pid namespace")
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	needBPF(t)
	r := succeed(t, maptrace(t, "doctor"))
	if !strings.HasSuffix(r.out, "\n\ntracing works here\n") || strings.Contains(r.out, "FAIL") {
		t.Errorf("the doctor says:\n%s", r.out)
	}
	if n := strings.Count(r.out, "\nok    tp_btf/"); n != 5 {
		t.Errorf("%d programs were tried, want 5:\n%s", n, r.out)
	}
	for _, want := range []string{"  user stacks ", "  page fault events "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in:\n%s", want, r.out)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	needBPF(t)
	checkCulprit(t, succeed(t, maptrace(t, "demo")))
}

// checkCulprit wants the demo's output: few lines, the last of which names the function
// that leaks and its line.
func checkCulprit(t *testing.T, r result) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	if len(lines) >= 25 {
		t.Errorf("%d lines", len(lines))
	}
	if !regexp.MustCompile(`^LEAK  .* allocated by leaky\.\(\*server\)\.openSession \(leaky\.go:\d+\)$`).MatchString(lines[len(lines)-1]) {
		t.Errorf("the last line does not name the leak:\n%s", r.out)
	}
}

func TestDemoThatNobodyReads(t *testing.T) {
	t.Parallel()
	needBPF(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	pmap := exec.Command(binary(t), "pmap", strconv.Itoa(os.Getpid()))
	pmap.Stdout = w
	want := launch(t, pmap).result().code
	for _, args := range [][]string{
		{"demo", "--for", "100ms"}, {"trace", "--", "true"}, {"lat", "--", "true"}, {"grow", "--json", "--", "sleep", "0.2"}, {"trace", "--poll", "--", "sleep", "0.1"},
	} {
		cmd := exec.Command(binary(t), args...)
		cmd.Stdout = w
		if r := launch(t, cmd).result(); r.code != want || r.stderr != "" {
			t.Errorf("%q: exit code %d, want %d as of pmap; standard error %q", args, r.code, want, r.stderr)
		}
	}
}

func TestPmap(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", "/dev/null")
	link := filepath.Join(t.TempDir(), "pmap")
	if err := os.Symlink(binary(t), link); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) result {
		return succeed(t, launch(t, exec.Command(name, args...)).result())
	}
	for _, flags := range [][]string{nil, {"-x"}, {"-d"}, {"-q"}, {"-p"}, {"-x", "-q", "-p"}} {
		want := run(binary(t), append([]string{"pmap", h.pid()}, flags...)...)
		if got := run(link, append(flags, h.pid())...); got != want {
			t.Errorf("as pmap %v: %+v, want %+v", flags, got, want)
		}
		if got := run(binary(t), append([]string{h.pid()}, flags...)...); got != want {
			t.Errorf("maptrace PID %v: %+v, want %+v", flags, got, want)
		}
	}
	maps, err := os.ReadFile("/proc/" + h.pid() + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	// The helper is a Go program, and lives on: compare what it cannot change.
	got := run(binary(t), h.pid())
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, ".test\n") {
			continue
		}
		start, _, _ := strings.Cut(line, "-")
		n, err := strconv.ParseUint(start, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		row := strconv.FormatUint(n, 16)
		if row = "\n" + strings.Repeat("0", 16-len(row)) + row + " "; !strings.Contains(got.out, row) {
			t.Errorf("no row %q in:\n%s", row, got.out)
		}
	}
	if !strings.HasPrefix(got.out, h.pid()+":   ") || !strings.Contains(got.out, "\n total ") {
		t.Errorf("no heading or total:\n%s", got.out)
	}
}

func TestItDoesNotTraceItself(t *testing.T) {
	t.Parallel()
	// asks runs the program, under another name, as a process that knows its number.
	alone := filepath.Join(t.TempDir(), "alone")
	if err := os.Symlink(binary(t), alone); err != nil {
		t.Fatal(err)
	}
	asks := func(t *testing.T, script string) result {
		t.Helper()
		return launch(t, exec.Command("sh", "-c", script, alone)).result()
	}
	for _, args := range []string{
		"trace -p $$", "trace --no-follow -p $$", "trace --poll -p $$", "trace --poll --no-follow -p $$",
		"trace -p $PPID -p $$", "lat -p $$", "grow -p $$",
	} {
		r := asks(t, `exec "$0" `+args)
		if r.code != exitUsage || r.out != "" {
			t.Errorf("%s: exit code %d, output %q", args, r.code, r.out)
		}
		checkOneLine(t, r.stderr, " is maptrace itself")
	}
	r := asks(t, `exec "$0" trace --comm alone`)
	if r.code != exitGone || r.out != "" {
		t.Errorf("by its name: exit code %d, output %q", r.code, r.out)
	}
	checkOneLine(t, r.stderr, `no other process is called "alone"`)

	t.Run("by the number of a thread", func(t *testing.T) {
		// One of two threads at least is not the first one of the process.
		numbers, done := make(chan int), make(chan struct{})
		defer close(done)
		for range 2 {
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				numbers <- unix.Gettid()
				<-done
			}()
		}
		for _, tid := range []int{<-numbers, <-numbers} {
			r := inProcess(t, "trace", "-p", strconv.Itoa(tid))
			if r.code != exitUsage || r.out != "" {
				t.Errorf("exit code %d, output %q", r.code, r.out)
			}
			checkOneLine(t, r.stderr, strconv.Itoa(tid)+" is maptrace itself")
		}
	})
	t.Run("by its cgroup", func(t *testing.T) {
		dir, path := newCgroup(t, "self")
		r := asks(t, `echo $$ >`+dir+`/cgroup.procs && exec "$0" trace --cgroup `+path)
		if r.code != exitGone || r.out != "" {
			t.Errorf("exit code %d, output %q", r.code, r.out)
		}
		checkOneLine(t, r.stderr, "has no process of another program than this")

		needBPF(t)
		other := startHelper(t, "churn")
		other.move(dir)
		r = succeed(t, asks(t, `echo $$ >`+dir+`/cgroup.procs && exec "$0" trace -o json --duration 200ms --cgroup `+path))
		if o := parse(t, r.out); len(o.tables) != 1 || strconv.Itoa(o.tables[0].PID) != other.pid() {
			t.Errorf("traced: %+v", o.tables)
		}
		other.unharmed()
	})
}

func TestPmapOfProcessesThatAreNotThere(t *testing.T) {
	t.Parallel()
	const missing = "4194305"
	r := inProcess(t, "pmap", missing)
	if r.code != exitMissing || r.out != "" {
		t.Errorf("exit code %d, output %q", r.code, r.out)
	}
	checkOneLine(t, r.stderr, "pmap: process "+missing+": ")

	self := strconv.Itoa(os.Getpid())
	r = inProcess(t, "pmap", missing, self)
	if r.code != exitMissing || !strings.HasPrefix(r.out, self+":   ") {
		t.Errorf("one of two: exit code %d, output %q", r.code, r.out)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		r := inProcess(t, "completion", shell)
		if r.code != exitOK || r.stderr != "" || !strings.Contains(r.out, "maptrace") {
			t.Errorf("%s: exit code %d, standard error %q", shell, r.code, r.stderr)
		}
		path, err := tool.Path(shell)
		if err != nil {
			t.Logf("%s is not asked: %v", shell, err)
			continue
		}
		cmd := exec.Command(path, "-n")
		cmd.Stdin = strings.NewReader(r.out)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not like its script: %v\n%s", shell, err, out)
		}
	}
	r := inProcess(t, "__complete", "")
	for _, want := range []string{"trace\t", "pmap\t", "doctor\t", "demo\t", "version\t"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not offered: %s", want, r.out)
		}
	}
}

func TestSupportLevels(t *testing.T) {
	t.Parallel()
	broken := errors.New("open /proc/1: no such file or directory")
	for _, tt := range []struct {
		l     support
		level int
		needs string
	}{
		{support{traces: true, numbered: true}, 1, ""},
		{support{traces: true}, 2, "Linux 6.4 or later with CONFIG_PER_VMA_LOCK"},
		{support{numbered: true, lacks: "be root"}, 3, "be root"},
		{support{lacks: "be root", pollErr: broken}, 4, "open /proc/1: no such file or directory"},
	} {
		n, needs := tt.l.level()
		text := tt.l.text()
		if n != tt.level || needs != tt.needs || strings.Count(text, "->") != 1 || !strings.Contains(text, fmt.Sprintf("\n-> %d  ", n)) {
			t.Errorf("%+v: level %d, %q:\n%s", tt.l, n, needs, text)
		}
		if want := fmt.Sprintf("\nlevel %d needs: %s\n", n-1, needs); strings.Contains(text, want) != (n > 1) {
			t.Errorf("%+v: no %q in:\n%s", tt.l, want, text)
		}
	}
}
