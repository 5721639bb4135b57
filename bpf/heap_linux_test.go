//go:build amd64 || arm64

package bpf_test

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/arch/x86/x86asm"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
)

// libcProbes finds the functions of the C library of a process.
func libcProbes(t *testing.T, pid int) bpf.HeapFile {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.Contains(fields[1], "x") || !strings.Contains(fields[5], "libc.so") {
			continue
		}
		f, err := elf.Open(fields[5])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		syms, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		file := bpf.HeapFile{Path: fmt.Sprintf("/proc/%d/map_files/%s", pid, fields[0])}
		for _, s := range syms {
			function, ok := map[string]bpf.HeapFunction{
				"malloc": bpf.HeapMalloc, "calloc": bpf.HeapCalloc, "realloc": bpf.HeapRealloc, "free": bpf.HeapFree,
			}[s.Name]
			if !ok {
				continue
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD && s.Value-p.Vaddr < p.Filesz {
					file.Probes = append(file.Probes, bpf.HeapProbe{Offset: s.Value - p.Vaddr + p.Off, Function: function})
				}
			}
		}
		return file
	}
	t.Fatal("the process has no C library")
	return bpf.HeapFile{}
}

// libcText reads the code of the C library of a process, as it has it.
func libcText(t *testing.T, pid int) []byte {
	t.Helper()
	var start, end uint64
	if _, err := fmt.Sscanf(filepath.Base(libcProbes(t, pid).Path), "%x-%x", &start, &end); err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	b := make([]byte, end-start)
	if _, err := mem.ReadAt(b, int64(start)); err != nil {
		t.Fatal(err)
	}
	return b
}

// startHeap starts a program whose heap is sampled.
func startHeap(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(bpftest.BuildC(t, "../testdata/workload", "heap"), args...)
	if _, err := cmd.StdinPipe(); err != nil { // it ends with its input
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

// sampledHeap starts a program, and the sampling of its heap.
func sampledHeap(t *testing.T) (h *bpf.Hooks, cmd *exec.Cmd, space uint64) {
	t.Helper()
	h = open(t, bpf.Options{Stacks: &bpf.StackOptions{BlockRate: 2000}})
	t.Cleanup(func() { _ = h.Close() })
	if err := h.HeapErr(); err != nil {
		bpftest.Skip(t, "%v", err)
	}
	cmd = startHeap(t, "2", "1000", "1000")
	tasks, err := h.Trace(cmd.Process.Pid)
	if err != nil || len(tasks) != 1 {
		t.Fatal(tasks, err)
	}
	space = tasks[0].Space
	if err = h.SampleHeap(space); err != nil {
		t.Fatal(err)
	}
	return h, cmd, space
}

// TestBlocksAreSampledWithTheirEnds samples the heap of a program some of whose blocks are
// kept, some freed, and one reallocated.
func TestBlocksAreSampledWithTheirEnds(t *testing.T) {
	h, cmd, space := sampledHeap(t)
	before := string(libcText(t, cmd.Process.Pid))
	probes, err := h.ProbeHeap(cmd.Process.Pid, []bpf.HeapFile{libcProbes(t, cmd.Process.Pid)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if string(libcText(t, cmd.Process.Pid)) == before {
		t.Error("there are no breakpoints in the library")
	}
	alive := make(map[uint64]uint64) // by address: size
	seen := make(map[bpf.BlockWhat]int)
	marks := make(map[uint64]int) // of glibc there is one for all
	for end := time.Now().Add(20 * time.Second); seen[bpf.BlockFreed] < 100 || seen[bpf.BlockMoved] < 3; {
		var b bpf.Block
		switch err = h.NextBlock(&b); {
		case errors.Is(err, bpf.ErrEmpty):
			if time.Now().After(end) {
				t.Fatalf("saw %v", seen)
			}
			time.Sleep(5 * time.Millisecond)
			continue
		case err != nil:
			t.Fatal(err)
		}
		seen[b.What]++
		switch {
		case b.Space != space:
			t.Fatalf("another space's: %+v", b)
		case b.What == bpf.BlockBorn:
			if b.Size == 0 || len(b.Stack.Copy) == 0 || b.Stack.TGID != uint32(cmd.Process.Pid) {
				t.Fatalf("%+v", b)
			}
			if b.Size == 96 && b.Header&^7 != 112 {
				t.Errorf("a block of %d bytes in a chunk of %d", b.Size, b.Header&^7)
			}
			alive[b.Addr] = b.Size
		case b.What == bpf.BlockMoved:
			if _, ok := alive[b.Old]; !ok {
				t.Errorf("moved, but not a sample: %+v", b)
			}
			delete(alive, b.Old)
			alive[b.Addr] = b.Size
		case b.What == bpf.BlockMark:
			marks[b.Header]++
		case b.What == bpf.BlockContents:
			if _, ok := alive[b.Addr]; !ok {
				t.Errorf("contents of %#x, which is not a sample", b.Addr)
			}
		default:
			if _, ok := alive[b.Addr]; !ok {
				t.Errorf("%#x has ended, but is not a sample: %v", b.Addr, b.What)
			}
			delete(alive, b.Addr)
		}
	}
	calls, err := h.HeapCalls(space)
	if err != nil || calls.Allocs < uint64(seen[bpf.BlockBorn]) || calls.Frees < uint64(seen[bpf.BlockFreed]) {
		t.Errorf("%+v, %v; saw %v", calls, err, seen)
	}
	if err := probes.Close(); err != nil {
		t.Fatal(err)
	}
	if string(libcText(t, cmd.Process.Pid)) != before {
		t.Error("something was left behind in the library")
	}
	if len(marks) == 0 || len(marks) > seen[bpf.BlockMark]/2 {
		t.Errorf("the marks of freed blocks are %v", marks)
	}
	t.Logf("%v %+v, alive %d", seen, calls, len(alive))
}

// TestBlocksAreSampledWhereTheirFunctionReturns samples malloc(3) without a probe on its
// return, but on the instructions that do so, as is done where an exception may be thrown.
func TestBlocksAreSampledWhereTheirFunctionReturns(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("it is known of amd64 only where a function returns")
	}
	h, cmd, space := sampledHeap(t)
	file := libcProbes(t, cmd.Process.Pid)
	code, err := os.Open(file.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer code.Close()
	probes := bpf.HeapFile{Path: file.Path}
	for _, p := range file.Probes {
		switch p.Function {
		case bpf.HeapFree:
			probes.Probes = append(probes.Probes, p)
		case bpf.HeapMalloc:
			probes.Probes = append(probes.Probes, bpf.HeapProbe{Offset: p.Offset, Function: bpf.HeapNew})
			// It is shorter: what others return by does no harm.
			var text [1 << 10]byte
			if _, err = code.ReadAt(text[:], int64(p.Offset)); err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(text); {
				in, e := x86asm.Decode(text[at:], 64)
				if e != nil {
					in.Len = 4 // a landing pad
				}
				if in.Op == x86asm.RET {
					probes.Probes = append(probes.Probes, bpf.HeapProbe{Offset: p.Offset + uint64(at), Function: bpf.HeapLeave})
				}
				at += in.Len
			}
		}
	}
	on, err := h.ProbeHeap(cmd.Process.Pid, []bpf.HeapFile{probes}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	alive := make(map[uint64]bool)
	freed := 0
	for end := time.Now().Add(20 * time.Second); freed < 100; {
		var b bpf.Block
		switch err = h.NextBlock(&b); {
		case errors.Is(err, bpf.ErrEmpty):
			if time.Now().After(end) {
				t.Fatalf("%d were freed, %d are there", freed, len(alive))
			}
			time.Sleep(5 * time.Millisecond)
			continue
		case err != nil:
			t.Fatal(err)
		}
		switch b.What {
		case bpf.BlockBorn:
			if b.Size == 0 || len(b.Stack.Copy) == 0 {
				t.Fatalf("%+v", b)
			}
			if b.Size == 96 && b.Header&^7 != 112 {
				t.Errorf("a block of %d bytes in a chunk of %d", b.Size, b.Header&^7)
			}
			alive[b.Addr] = true
		case bpf.BlockFreed, bpf.BlockReused:
			if !alive[b.Addr] {
				t.Errorf("%#x has ended, but is not a sample: %v", b.Addr, b.What)
			}
			delete(alive, b.Addr)
			freed++
		}
	}
	if calls, err := h.HeapCalls(space); err != nil || calls.Leaves == 0 || calls.Leaves != calls.Allocs {
		t.Errorf("%+v, %v: not all were seen where they returned", calls, err)
	}
}

// TestTheWholeOfAProbesPriceIsMeasured measures it twice: what takes two traps costs more
// than what takes one, if nothing else runs meanwhile.
func TestTheWholeOfAProbesPriceIsMeasured(t *testing.T) {
	measured := func() bpf.HeapPrice {
		h := open(t, bpf.Options{Stacks: &bpf.StackOptions{BlockRate: 1}})
		defer h.Close()
		if err := h.HeapErr(); err != nil {
			bpftest.Skip(t, "%v", err)
		}
		p, err := h.HeapPrice()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", p)
		return p
	}
	const tries = 10
	for range tries {
		if p := measured(); p.Emulated >= 100*time.Nanosecond && p.Stepped >= p.Emulated {
			return
		}
	}
	t.Errorf("what takes two traps is never dearer than what takes one")
}
