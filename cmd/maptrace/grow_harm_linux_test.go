package main

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/testdata/tool"
)

// startHeap starts a program whose malloc heap grows: heap.c of testdata/workload, by how many
// blocks it keeps and frees a second.
func startHeap(t *testing.T, path string, keeps, frees int) *helper {
	t.Helper()
	needBPF(t)
	needRoot(t)
	return startHelperWith(t, "", func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = path, []string{path, "1", strconv.Itoa(keeps), strconv.Itoa(frees)}
	})
}

// probed waits until breakpoints are in the code of a process.
func probed(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "there are breakpoints", func() bool { return len(bpftest.ChangedText(t, pid)) > 0 })
}

// unprobed waits until they are gone.
func unprobed(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "there are no breakpoints", func() bool { return len(bpftest.ChangedText(t, pid)) == 0 })
}

// growing watches a process until it is told to end.
func growing(t *testing.T, h *helper) *process {
	t.Helper()
	return launch(t, exec.Command(binary(t), "grow", "--for", "0", "--interval", "100ms", "-o", "json", "-p", h.pid()))
}

// TestAKilledGrowLeavesNoProbesBehind kills it while the allocator of a program is probed.
func TestAKilledGrowLeavesNoProbesBehind(t *testing.T) {
	t.Parallel()
	h := startHeap(t, bpftest.BuildC(t, "../../testdata/workload", "heap"), 5000, 5000)
	for range 3 {
		p := growing(t, h)
		probed(t, h.Process.Pid)
		p.signal(syscall.SIGKILL)
		p.result()
		unprobed(t, h.Process.Pid)
	}
	if err := h.in.Close(); err != nil {
		t.Fatal(err)
	}
	if r := h.result(); r.code != 0 {
		t.Errorf("the program: %+v", r)
	}
}

// TestAProgramThatEndsWhileItIsProbedIsNoError has it killed, and end by itself.
func TestAProgramThatEndsWhileItIsProbedIsNoError(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(h *helper) error{
		"killed":      func(h *helper) error { return h.Process.Kill() },
		"its own end": func(h *helper) error { return h.in.Close() },
	} {
		h := startHeap(t, bpftest.BuildC(t, "../../testdata/workload", "heap"), 5000, 5000)
		p := growing(t, h)
		probed(t, h.Process.Pid)
		if err := end(h); err != nil {
			t.Fatal(err)
		}
		if r := p.result(); r.code != exitOK || r.stderr != "" || strings.Contains(r.out, `"heap_unsampled"`) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestATracedProgramIsNotProbed attaches to a program as a debugger does while its allocator
// is probed. The breakpoints are gone before a debugger that reads symbols has set its own.
func TestATracedProgramIsNotProbed(t *testing.T) {
	t.Parallel()
	h := startHeap(t, bpftest.BuildC(t, "../../testdata/workload", "heap"), 5000, 5000)
	p := growing(t, h)
	probed(t, h.Process.Pid)
	// A tracer is a thread. It ends with its goroutine, and lets go of the program.
	seized, over := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		seized <- unix.PtraceSeize(h.Process.Pid)
		<-over
	}()
	if err := <-seized; err != nil {
		t.Fatal(err)
	}
	unprobed(t, h.Process.Pid)
	q := maptrace(t, "grow", "--for", "2s", "--interval", "100ms", "-o", "json", "-p", h.pid())
	if q.code != exitOK || !strings.Contains(q.out, `traces it (ptrace)`) || len(bpftest.ChangedText(t, h.Process.Pid)) > 0 {
		t.Errorf("%+v", q)
	}
	close(over)
	p.signal(syscall.SIGINT)
	if r := p.result(); r.code != exitOK || r.stderr != "" || !strings.Contains(r.out, `traces it (ptrace)`) {
		t.Errorf("%+v", r)
	}
}

// TestAnAllocatorThatAProcessServesIsNotProbed has a program be of a FUSE file system: the
// kernel would read it while no process can fork.
func TestAnAllocatorThatAProcessServesIsNotProbed(t *testing.T) {
	t.Parallel()
	needBPF(t)
	gcc, err := tool.Path("gcc")
	if err != nil {
		bpftest.Skip(t, "%v", err)
	}
	static := filepath.Join(t.TempDir(), "static")
	if out, err := exec.Command(gcc, "-O2", "-pthread", "-static", "../../testdata/workload/heap.c", "-o", static).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, file := startStall(t, static)
	r := maptrace(t, "grow", "--for", "3s", "--interval", "100ms", "-o", "json", "-p", startHeap(t, file, 5000, 5000).pid())
	if r.code != exitOK || !strings.Contains(r.out, "a file system that a process serves (fuse)") {
		t.Errorf("%+v", r)
	}
	r = maptrace(t, "grow", "--for", "3s", "--interval", "100ms", "-o", "json", "-p", startHeap(t, static, 5000, 5000).pid())
	if r.code != exitOK || strings.Contains(r.out, `"heap_unsampled"`) || strings.Contains(r.out, `"heaps":{"processes":0`) {
		t.Errorf("of another file system: %+v", r)
	}
}
