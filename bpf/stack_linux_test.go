//go:build amd64 || arm64

package bpf_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
)

// readAll reads both rings until they are empty.
func readAll(t *testing.T, h *bpf.Hooks) (events []bpf.Event, stacks map[uint32]bpf.Stack) {
	t.Helper()
	stacks = make(map[uint32]bpf.Stack)
	for {
		var ev bpf.Event
		err := h.Next(&ev)
		if errors.Is(err, bpf.ErrEmpty) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, ev)
	}
	for {
		var s bpf.Stack
		err := h.NextStack(&s)
		if errors.Is(err, bpf.ErrEmpty) {
			return events, stacks
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Copy, s.Chain = slices.Clone(s.Copy), slices.Clone(s.Chain)
		stacks[s.ID] = s
	}
}

// TestGrowthAndFaultsCarryStacks traces this process: each call that makes
// memory larger names a stack, no other does, and of the pages touched there is a
// sample that stands for about as many as there were.
func TestGrowthAndFaultsCarryStacks(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{FaultRate: 800}})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	const pages = 4000
	size := pages * os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	// Else a huge page may take one fault for all.
	if err = unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
	for i := 0; i < size; i += os.Getpagesize() {
		mem[i] = 1
	}
	if err = errors.Join(unix.Mprotect(mem, unix.PROT_READ), unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE), unix.Munmap(mem)); err != nil {
		t.Fatal(err)
	}
	if err = h.Detach(); err != nil {
		t.Fatal(err)
	}
	events, stacks := readAll(t, h)
	named := make(map[bpf.Op]int)
	for _, ev := range events {
		if ev.Stack == 0 {
			continue
		}
		s, ok := stacks[ev.Stack]
		if !ok || s.Op != ev.Op || s.TID != ev.TID || s.Space != ev.Space || len(s.Copy) == 0 {
			t.Errorf("event %+v names stack %+v", ev, s)
		}
		grows := ev.Op == bpf.OpMmap || ev.Op == bpf.OpBrk || ev.Op == bpf.OpMprotect && ev.Args[2]&unix.PROT_WRITE != 0
		if !grows {
			t.Errorf("event %+v has a stack", ev)
		}
		if len(s.Chain) < 3 {
			t.Errorf("the chain of frame pointers of a Go program: %d", len(s.Chain))
		}
		named[ev.Op]++
	}
	if named[bpf.OpMmap] == 0 || named[bpf.OpMprotect] == 0 {
		t.Errorf("stacks by operation: %v", named)
	}
	c, err := h.Counters()
	if err != nil {
		t.Fatal(err)
	}
	var sampled, counted uint64
	for _, s := range stacks {
		if s.Op == bpf.OpFault {
			sampled++
			counted += 1 << s.Chance
		}
	}
	if c.Faults < pages || sampled == 0 || sampled > c.Faults/2 || counted < c.Faults/2 || counted > 2*c.Faults {
		t.Errorf("%d faults, %d sampled that stand for %d", c.Faults, sampled, counted)
	}
	t.Logf("%d of %d faults stand for %d", sampled, c.Faults, counted)
}

// TestOfManyCallsARandomSampleHasAStack asks for the fewest stacks that can be: few of
// many calls at once have one, and each of the others says so.
func TestOfManyCallsARandomSampleHasAStack(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{Rate: 1, Bytes: 512}})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	const calls = 2003
	size := 7 * os.Getpagesize()
	for range calls {
		mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Munmap(mem); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Detach(); err != nil {
		t.Fatal(err)
	}
	events, stacks := readAll(t, h)
	var made, with, without uint64
	for _, ev := range events {
		if ev.Op != bpf.OpMmap {
			continue
		}
		made++
		if ev.Stack != 0 {
			with++
			if s := stacks[ev.Stack]; len(s.Copy) != 512 || !s.Cut {
				t.Errorf("%d bytes of stack, cut %v, want 512, cut", len(s.Copy), s.Cut)
			}
		}
		if ev.Flags&bpf.Unsampled != 0 {
			without++
		}
	}
	if made < calls || with+without != made || with == 0 || without < calls/2 {
		t.Errorf("%d mmaps: %d with a stack, %d that say they have none", made, with, without)
	}
}

// TestWithoutPerfEventsCallsStillHaveStacks refuses the page faults alone.
func TestWithoutPerfEventsCallsStillHaveStacks(t *testing.T) {
	undo := bpf.RefusePerfEvents(unix.EACCES)
	defer undo()
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{FaultRate: 1000}})
	defer h.Close()
	if err := h.FaultsErr(); !errors.Is(err, os.ErrPermission) {
		t.Errorf("it says %v", err)
	}
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(-1, 0, 3*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Munmap(mem), h.Detach()); err != nil {
		t.Fatal(err)
	}
	events, stacks := readAll(t, h)
	with := 0
	for _, ev := range events {
		if s, ok := stacks[ev.Stack]; ok && ev.Op == bpf.OpMmap && s.Op == bpf.OpMmap {
			with++
		}
	}
	if with == 0 {
		t.Errorf("no mmap of %d events has one of %d stacks", len(events), len(stacks))
	}
	for _, c := range bpf.Probe() {
		if c.Name == "page fault events" && (!c.Optional || !errors.Is(c.Err, os.ErrPermission)) {
			t.Errorf("the check says %+v", c)
		}
	}
}

// TestTheProbeTriesWhatStacksNeed expects both checks to pass where tracing does.
func TestTheProbeTriesWhatStacksNeed(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{FaultRate: 1}})
	if err := errors.Join(h.FaultsErr(), h.Close()); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, c := range bpf.Probe() {
		if c.Name == "user stacks" || c.Name == "page fault events" {
			found++
			if c.Err != nil || !c.Optional || c.What == "" {
				t.Errorf("%+v", c)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 checks are there", found)
	}
}
