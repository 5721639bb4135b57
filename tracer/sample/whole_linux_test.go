//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
)

// quietKernel reports no page faults, for there are none.
type quietKernel struct {
	tracer.Sampling
	untold uint64
}

func (*quietKernel) Now() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return uint64(ts.Nano())
}

func (*quietKernel) FaultsErr() error                                   { return nil }
func (*quietKernel) PieceBytes() uint64                                 { return 2 << 20 }
func (*quietKernel) Touched(dst []tracer.Touch) ([]tracer.Touch, error) { return dst, nil }
func (k *quietKernel) StackCounters() (tracer.StackCounters, error) {
	return tracer.StackCounters{Touches: k.untold}, nil
}

// idler starts a process that does nothing any more.
func idler(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it was there; how it ends is of no interest
	})
	if _, err = in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if _, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// treeOf is the address space of a process.
func treeOf(t *testing.T, pid int) *space.Space {
	t.Helper()
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	tree := space.New(space.Options{PageSize: uint64(unix.Getpagesize())})
	read := space.Read{Range: space.All, Op: space.OpSeed, Began: 1}
	for _, m := range maps {
		read.Rows = append(read.Rows, space.Row{Mapping: m})
	}
	tree.Reread(read)
	return tree
}

func TestWhatHappensToOneProcessHasNoOtherCountedAgain(t *testing.T) {
	t.Parallel()
	const processes = 4
	trees := make(map[uint64]*space.Space)
	looks := make(map[uint64]int)
	var effort event.Effort
	kernel := new(quietKernel)
	s := New(kernel, Options{
		FS: procmaps.Default(), Interval: time.Millisecond, Budget: 1, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(id uint64) *space.Space { return trees[id] },
		Emit: func(r *event.Record) {
			switch b := r.Body.(type) {
			case event.Resident:
				looks[r.Space]++
			case event.Effort:
				effort = b
			}
		},
	})
	defer s.Close()
	var pids []int
	for id := range uint64(processes) {
		pid := idler(t)
		pids = append(pids, pid)
		trees[id] = treeOf(t, pid)
		s.Change(&tracer.Change{Kind: tracer.KindBegin, Space: id, Process: &tracer.Process{PID: pid}})
	}
	// observe has each of them looked at so often more.
	observe := func(more int) {
		t.Helper()
		clear(looks)
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			s.Idle()
			done := true
			for id := range trees {
				done = done && looks[id] >= more
			}
			if done {
				return
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("looks: %v", looks)
			}
		}
	}
	observe(3)
	s.Change(&tracer.Change{
		Kind: tracer.KindCall, Space: 1, Call: &space.Call{Op: space.OpMlock, Sub: space.SubMlockall}, Effect: new(space.Effect),
	})
	s.Change(&tracer.Change{Kind: tracer.KindExit, Space: 2, TGID: pids[2]})
	delete(trees, 2)
	observe(3)
	s.Finish()
	want := map[string]uint64{wholeBegin: processes, wholeLocked: 1, wholeEnd: processes - 1}
	if d := cmp.Diff(want, effort.Whole); d != "" {
		t.Errorf("counted as a whole (-want +got):\n%s", d)
	}
}

// What is opened for a process that ends meanwhile is closed all the same: it is a
// descriptor and a buffer each time.
func TestProcessesThatEndWhileTheyAreOpenedLeaveNothing(t *testing.T) {
	pid := idler(t)
	tree := treeOf(t, pid)
	records := 0
	s := New(new(quietKernel), Options{
		FS: procmaps.Default(), Interval: time.Millisecond, Budget: 1, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree }, Emit: func(*event.Record) { records++ },
	})
	defer s.Close()
	before := descriptors(t)
	for id := range uint64(20) {
		s.Change(&tracer.Change{Kind: tracer.KindBegin, Space: id, Process: &tracer.Process{PID: pid}})
		s.Change(&tracer.Change{Kind: tracer.KindExit, Space: id, TGID: pid})
	}
	s.collect(true)
	if after := descriptors(t); after != before || records != 0 {
		t.Errorf("%d pagemaps are open, %d before; %d records", after, before, records)
	}
}

// An exec replaces the image, and its process has one exit.
func TestImagesThatAnotherReplacesLeaveNothing(t *testing.T) {
	pid := idler(t)
	tree := treeOf(t, pid)
	s := New(new(quietKernel), Options{
		FS: procmaps.Default(), Interval: time.Millisecond, Budget: 1, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree }, Emit: func(*event.Record) {},
	})
	before := descriptors(t)
	const images = 20
	for id := range uint64(images) {
		s.Change(&tracer.Change{Kind: tracer.KindBegin, Space: id, Process: &tracer.Process{PID: pid}})
		s.collect(true)
	}
	if after := descriptors(t); after != before+1 || len(s.spaces) != 1 {
		t.Errorf("%d pagemaps are open of %d targets, %d before", after, len(s.spaces), before)
	}
	s.Change(&tracer.Change{Kind: tracer.KindExit, Space: images - 1, TGID: pid})
	if after := descriptors(t); after != before || len(s.spaces)+len(s.living) != 0 {
		t.Errorf("%d pagemaps are open at the end, %d before", after, before)
	}
	// What is opened for those that live is closed with the sampler.
	for id := range uint64(images) {
		s.Change(&tracer.Change{Kind: tracer.KindBegin, Space: id, Process: &tracer.Process{PID: pid}})
	}
	s.Close()
	if after := descriptors(t); after != before {
		t.Errorf("%d pagemaps are open of a closed sampler, %d before", after, before)
	}
}

// What takes its share of the time is looked at less often.
func TestWhatTakesLongIsLookedAtLessOften(t *testing.T) {
	t.Parallel()
	pid := idler(t)
	tree := treeOf(t, pid)
	s := New(new(quietKernel), Options{
		FS: procmaps.Default(), Interval: time.Millisecond, Budget: 0.01, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree }, Emit: func(*event.Record) {},
	})
	defer s.Close()
	s.Change(&tracer.Change{Kind: tracer.KindBegin, Process: &tracer.Process{PID: pid}})
	s.collect(true)
	target := s.living[pid]
	done := s.countJob(target, false, nil)()
	for took, want := range map[time.Duration]time.Duration{0: time.Millisecond, 5 * time.Millisecond: 500 * time.Millisecond} {
		target.pages.busy = took
		now := s.kernel.Now()
		done()
		if wait := time.Duration(target.due - now); wait < want || wait > want+time.Minute {
			t.Errorf("after %v of counting the next look is in %v, want %v", took, wait, want)
		}
	}
}

// Of what was lost nobody knows which process it was about.
func TestALossHasEverythingCounted(t *testing.T) {
	t.Parallel()
	pid := idler(t)
	tree := treeOf(t, pid)
	s := New(new(quietKernel), Options{
		FS: procmaps.Default(), Interval: time.Millisecond, Budget: 1, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree }, Emit: func(*event.Record) {},
	})
	defer s.Close()
	s.Change(&tracer.Change{Kind: tracer.KindBegin, Process: &tracer.Process{PID: pid}})
	s.collect(true)
	target := s.living[pid]
	look := func() {
		s.count(target, s.kernel.Now(), nil)
		s.collect(true)
	}
	look()
	s.Change(&tracer.Change{Kind: tracer.KindLost, Lost: 1})
	look()
	if d := cmp.Diff(map[string]uint64{wholeBegin: 1, wholeMissed: 1}, s.effort.Whole); d != "" {
		t.Errorf("counted as a whole (-want +got):\n%s", d)
	}
}

// descriptors is how many pagemaps we have open.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasSuffix(to, "/pagemap") {
			n++
		}
	}
	return n
}

func TestFaultsThatWereNotReportedHaveEverythingCounted(t *testing.T) {
	t.Parallel()
	pid := idler(t)
	tree := treeOf(t, pid)
	looks := 0
	kernel := new(quietKernel)
	s := New(kernel, Options{
		FS: procmaps.Default(), Interval: time.Millisecond, Budget: 1, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree },
		Emit: func(r *event.Record) {
			if _, ok := r.Body.(event.Resident); ok {
				looks++
			}
		},
	})
	defer s.Close()
	s.Change(&tracer.Change{Kind: tracer.KindBegin, Process: &tracer.Process{PID: pid}})
	for began := time.Now(); looks < 2 || kernel.untold == 0; time.Sleep(time.Millisecond) {
		if s.Idle(); looks == 1 {
			kernel.untold = 1
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d looks", looks)
		}
	}
	if n := s.effort.Whole[wholeLost]; n != 1 {
		t.Errorf("counted as a whole: %v", s.effort.Whole)
	}
}
