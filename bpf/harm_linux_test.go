//go:build amd64 || arm64

package bpf_test

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
)

// victim is testdata/workload/harm.c, whose allocators are probed.
type victim struct {
	t     *testing.T
	h     *bpf.Hooks
	cmd   *exec.Cmd
	in    io.Writer
	lines chan string
	space uint64
}

// startVictim starts it, with its heap sampled.
func startVictim(t *testing.T, h *bpf.Hooks) *victim {
	t.Helper()
	v := &victim{t: t, h: h, cmd: exec.Command(bpftest.BuildC(t, "../testdata/workload", "harm")), lines: make(chan string)}
	in, err := v.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v.in = in
	go func() {
		defer close(v.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			v.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = v.cmd.Process.Kill() // it may have ended by itself
		for range v.lines {
			continue
		}
		_ = v.cmd.Wait()
	})
	if line := v.hear(); line != "ready" {
		t.Fatalf("%q", line)
	}
	tasks, err := h.Trace(v.cmd.Process.Pid)
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	v.space = tasks[0].Space
	if err := h.SampleHeap(v.space); err != nil {
		t.Fatal(err)
	}
	return v
}

// hear is the next line of its output; "" if it has ended.
func (v *victim) hear() string {
	v.t.Helper()
	select {
	case line := <-v.lines:
		return line
	case <-time.After(time.Minute):
		v.t.Fatal("it says nothing")
		return ""
	}
}

// do has it do something, and returns its answer.
func (v *victim) do(what string) string {
	v.t.Helper()
	if _, err := fmt.Fprintln(v.in, what); err != nil {
		v.t.Fatal(err)
	}
	return v.hear()
}

// probe puts probes on its own allocator, and on the C library's if that is set. What is
// probed of a library is so for all who probe it: their return probes are then ours, too.
func (v *victim) probe(burst uint32, libc bool) *bpf.HeapProbes {
	v.t.Helper()
	own := bpf.HeapFile{Path: fmt.Sprintf("/proc/%d/exe", v.cmd.Process.Pid)}
	f, err := elf.Open(own.Path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		v.t.Fatal(err)
	}
	for _, s := range syms {
		function, ok := map[string]bpf.HeapFunction{"own_malloc": bpf.HeapMalloc, "own_free": bpf.HeapFree}[s.Name]
		for _, p := range f.Progs {
			if ok && p.Type == elf.PT_LOAD && s.Value-p.Vaddr < p.Filesz {
				own.Probes = append(own.Probes, bpf.HeapProbe{Offset: s.Value - p.Vaddr + p.Off, Function: function})
			}
		}
	}
	if len(own.Probes) != 2 {
		v.t.Fatalf("%+v", own)
	}
	files := []bpf.HeapFile{own}
	if libc {
		files = append(files, libcProbes(v.t, v.cmd.Process.Pid))
	}
	probes, err := v.h.ProbeHeap(v.cmd.Process.Pid, files, burst)
	if err != nil {
		v.t.Fatal(err)
	}
	return probes
}

// allocs is how many allocations were seen so far.
func (v *victim) allocs() uint64 {
	v.t.Helper()
	calls, err := v.h.HeapCalls(v.space)
	if err != nil {
		v.t.Fatal(err)
	}
	return calls.Allocs
}

// TestNothingAProgramDoesInItsAllocatorHarmsItWhileThatIsProbed has a program do what is
// difficult for return probes and breakpoints, while it is in a function that is probed.
// Everything works as without them, and of the probes nothing is left.
func TestNothingAProgramDoesInItsAllocatorHarmsItWhileThatIsProbed(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{BlockRate: 2000}})
	defer h.Close()
	if err := h.HeapErr(); err != nil {
		bpftest.Skip(t, "%v", err)
	}
	v := startVictim(t, h)
	for i, tt := range []struct {
		what           string
		libc, sessions bool
	}{
		{"spawn", true, false},
		{"vfork", true, false},
		{"jump", true, false},
		{"thread exit", true, false},
		{"pthread_exit", true, false},
		{"backtrace", true, false},
		{"profile", true, false},
		{"strict", true, true},
		{"filter", true, true},
		{"dispatch", false, true},
		{"two stacks", false, true},
	} {
		what := tt.what
		if tt.sessions && !bpf.Sessions() {
			continue // the sampler leaves those alone that it can tell
		}
		if answer := v.do(what); answer != "ok" {
			t.Errorf("%s, without probes: %q", what, answer)
		}
		before := v.allocs()
		probes := v.probe(uint32(i+1), tt.libc)
		if len(bpftest.ChangedText(t, v.cmd.Process.Pid)) == 0 {
			t.Errorf("%s: there are no breakpoints", what)
		}
		if answer := v.do(what); answer != "ok" {
			t.Errorf("%s: %q", what, answer)
		}
		for end := time.Now().Add(20 * time.Second); v.allocs() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) { // a thread allocates all the time, if it gets a CPU
				t.Errorf("%s: nothing was seen", what)
				break
			}
		}
		if err := probes.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if left := bpftest.ChangedText(t, v.cmd.Process.Pid); len(left) > 0 {
			t.Errorf("%s: left behind: %v", what, left)
		}
	}
}

// TestNoProbesAreLeftInAChild has a program fork in a function that is probed: its child has
// the breakpoints until the probes are taken off, works with them and without, and is not
// taken for its parent. The parent has its probes taken off while it is in such a function.
func TestNoProbesAreLeftInAChild(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{BlockRate: 2000}})
	defer h.Close()
	if err := h.HeapErr(); err != nil {
		bpftest.Skip(t, "%v", err)
	}
	v := startVictim(t, h)
	probes := v.probe(1, true)
	var child int
	if _, err := fmt.Sscan(v.do("fork"), &child); err != nil {
		t.Fatal(err)
	}
	if answer := v.hear(); answer != "ok" {
		t.Errorf("fork: %q", answer)
	}
	if answer := v.do("wait"); answer != "ok" {
		t.Errorf("wait: %q", answer)
	}
	if err := probes.Close(); err != nil {
		t.Fatal(err)
	}
	if left := bpftest.ChangedText(t, child); len(left) > 0 {
		t.Errorf("left behind in the child: %v", left)
	}
	if left := bpftest.ChangedText(t, v.cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left behind in the parent: %v", left)
	}
	for _, what := range []string{"go on", "reap"} {
		if answer := v.do(what); answer != "ok" {
			t.Errorf("%s: %q", what, answer)
		}
	}
	for {
		var b bpf.Block
		err := h.NextBlock(&b)
		if errors.Is(err, bpf.ErrEmpty) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.What == bpf.BlockBorn && (b.Space != v.space || int(b.Stack.TGID) != v.cmd.Process.Pid) {
			t.Errorf("a block of process %d in space %d", b.Stack.TGID, b.Space)
		}
	}
}

// TestAnImageThatEndsWhileItIsProbedLeavesNothingBehind has a program exec and exit in a
// function that is probed, and another killed.
func TestAnImageThatEndsWhileItIsProbedLeavesNothingBehind(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{BlockRate: 2000}})
	defer h.Close()
	if err := h.HeapErr(); err != nil {
		bpftest.Skip(t, "%v", err)
	}
	v := startVictim(t, h)
	probes := v.probe(1, true)
	if answer := v.do("exec"); answer != "ready" {
		t.Fatalf("exec: %q", answer)
	}
	if err := probes.Close(); err != nil {
		t.Error(err)
	}
	if left := bpftest.ChangedText(t, v.cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left behind in the next image: %v", left)
	}
	if answer := v.do("backtrace"); answer != "ok" {
		t.Errorf("the next image: %q", answer)
	}
	probes = v.probe(2, true)
	if answer := v.do("exit"); answer != "" {
		t.Errorf("exit: %q", answer)
	}
	if err := v.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := probes.Close(); err != nil {
		t.Error(err)
	}
	v = startVictim(t, h)
	probes = v.probe(3, true)
	if err := v.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if line := v.hear(); line != "" {
		t.Errorf("%q", line)
	}
	if err := probes.Close(); err != nil {
		t.Error(err)
	}
}
