//go:build amd64 || arm64

package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
)

func open(t *testing.T, opts bpf.Options) *bpf.Hooks {
	t.Helper()
	h, err := bpf.Open(opts)
	if err != nil {
		bpftest.SkipIfRefused(t, err)
		t.Fatalf("%+v", err)
	}
	return h
}

func TestEveryProgramLoadsAndAttaches(t *testing.T) {
	open(t, bpf.Options{RingBytes: os.Getpagesize()}).Close()
	for _, c := range bpf.Probe() {
		if c.Err != nil && !c.Optional {
			t.Errorf("%s: %v", c.Name, c.Err)
		}
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	h := open(t, bpf.Options{})
	id, err := h.ProgramID()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		t.Fatalf("program %d while attached: %v", id, err)
	}
	if err := errors.Join(p.Close(), h.Close(), h.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	// One who is not waited for any more may come late.
	if _, err := h.List(); err == nil {
		t.Error("a list after the end")
	}
	if _, err := h.Counters(); err == nil {
		t.Error("counters after the end")
	}
	// The kernel frees programs after a grace period.
	for deadline := time.Now().Add(20 * time.Second); ; {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("program %d is still there", id)
		}
		time.Sleep(time.Millisecond)
	}
}

// kernelSince tells whether the kernel is of a version or a later one.
func kernelSince(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}

// TestAnImageIsSeenWhole traces this process and has it run another: every VMA
// of the new image comes before its first call, and its end is told.
func TestAnImageIsSeenWhole(t *testing.T) {
	h := open(t, bpf.Options{})
	defer h.Close()
	tasks, err := h.Trace(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) != 1 || tasks[0].TGID != os.Getpid() || tasks[0].StartBrk == 0 || tasks[0].StartStack == 0 {
		t.Fatalf("tasks %+v", tasks)
	}
	cmd := exec.Command("/bin/true")
	if err = cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var seen []bpf.Op
	var rows int
	var space uint64
	var sections []uint32
	var end bpf.Event
	var ev bpf.Event
	for {
		err = h.Next(&ev)
		if errors.Is(err, bpf.ErrEmpty) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if int(ev.TGID) != cmd.Process.Pid {
			continue
		}
		if ev.Op == bpf.OpExec {
			space = ev.Space
		}
		if space == 0 || ev.Space != space {
			continue
		}
		switch {
		case ev.Op == bpf.OpExit:
			end = ev
		case ev.Flags&bpf.HasSection != 0 && ev.Op != bpf.OpExec:
			sections = append(sections, ev.Section)
		}
		if ev.Op == bpf.OpVMA {
			rows++
			if ev.File.End <= ev.File.Start {
				t.Errorf("row %+v", ev.File)
			}
		}
		if len(seen) == 0 || seen[len(seen)-1] != ev.Op {
			seen = append(seen, ev.Op)
		}
	}
	if len(seen) < 4 || seen[0] != bpf.OpExec || !slices.Contains(seen, bpf.OpMmap) || !slices.Contains(seen, bpf.OpExit) {
		t.Errorf("operations %v", seen)
	}
	if c := slices.Index(seen, bpf.OpSeeded); c >= 0 && (rows < 5 || slices.Index(seen, bpf.OpMmap) < c) {
		t.Errorf("%d rows, operations %v", rows, seen)
	}
	c, err := h.Counters()
	// Since 6.16 the end tells how many sections there were, and each was reported.
	if tells := kernelSince(t, 6, 16); tells != (end.Flags&bpf.HasSection != 0) ||
		tells && c.Skipped == 0 && (len(sections) == 0 || slices.Max(sections)+1 != end.Section) {
		t.Errorf("at the end (flags %v) section %d is next, reported are %v", end.Flags, end.Section, sections)
	}
	c.Skipped = 0 // what any process does counts there
	if err != nil || c != (bpf.Counters{}) {
		t.Errorf("counters %+v, %v", c, err)
	}
}

func TestOfAnUntracedProcessNothingIsSent(t *testing.T) {
	h := open(t, bpf.Options{})
	defer h.Close()
	if err := exec.Command("/bin/true").Run(); err != nil {
		t.Fatal(err)
	}
	var ev bpf.Event
	if err := h.Next(&ev); !errors.Is(err, bpf.ErrEmpty) {
		t.Errorf("got %+v, %v", ev, err)
	}
}
