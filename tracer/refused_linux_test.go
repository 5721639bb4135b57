package tracer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf/bpftest"
)

// refused attaches in the midst of a program that maps and unmaps as fast as it
// can, and after every so many calls makes some that are refused or stop half way.
// It ends there too: audits must have found nothing on the way, and nothing must be
// in doubt at the end. Then it attaches again, until the program stands still, and
// compares with maps.
func refused(t *testing.T, seed, oneIn int, d time.Duration) {
	t.Helper()
	program := bpftest.BuildC(t, workloads, "refuse")
	cmd := exec.Command(program, "-t", "2", "-s", strconv.Itoa(seed), "-r", strconv.Itoa(oneIn), "-W")
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it would run for ever; that it has ended is no fault
	waitForCalls(t, out)

	// Both CPUs may be busy, and the reader wait for one.
	opts := LiveOptions{RingBytes: 128 << 20}
	r := newTraced(t, opts, 20*time.Millisecond)
	r.add(false, pid)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	began := time.Now()
	rep := r.run(ctx)
	took := time.Since(began)
	if rep.Picture.Why == "its latest changes are not read yet" { // it goes on, and the time was up amid a re-read
		rep.Picture.Why = ""
	}
	r.mustBeExact(rep)
	s := rep.Stats
	// What follows of a call that failed is derived. Audits have some of it read again, more of
	// them where we wait for a CPU.
	const few, part = 10, 20
	if s.Audits == 0 || s.Rereads >= max(few, s.Failed/part) {
		t.Errorf("%d audits, %d re-reads after %d failed calls: there must be some, and few", s.Audits, s.Rereads, s.Failed)
	}
	t.Logf("seed %d: %.0f calls a second, %d failed, %d late, %d audits (%d unfinished), %d re-reads, %v",
		seed, float64(s.Calls)/took.Seconds(), s.Failed, s.Late, s.Audits, s.AuditsUnfinished, s.Rereads, rep.Picture)

	// The end again, now against maps.
	r = newTraced(t, opts, 20*time.Millisecond)
	calls, check := 0, r.opts.OnChange
	r.opts.OnChange = func(c *Change) {
		check(c)
		if calls++; calls == 1000 {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	r.add(false, pid)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() {
		// It says so when nothing moves any more.
		if line, _ := bufio.NewReader(out).ReadString('\n'); line == "done\n" {
			r.ends(cancel)
		}
	}()
	rep = r.run(ctx)
	r.mustBeExact(rep)
	r.mustEqualMaps(rep, pid)
	if err := hold.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("refuse: %v", err)
	}
}

// waitForCalls waits until the workload says that it is in the midst of its work.
func waitForCalls(t *testing.T, out io.Reader) {
	t.Helper()
	var b [len("at work\n")]byte
	if _, err := io.ReadFull(out, b[:]); err != nil || string(b[:]) != "at work\n" {
		t.Fatalf("the workload says %q, %v", b, err)
	}
}

func TestExactAmidRefusedCalls(t *testing.T) {
	for _, c := range []struct{ seed, oneIn int }{{1, 300}, {2, 4}} {
		t.Run(fmt.Sprintf("one of %d", c.oneIn), func(t *testing.T) {
			refused(t, c.seed, c.oneIn, time.Second)
		})
	}
}

// TestExactAmidRefusedCallsLong is the same for 10 s, with 20 seeds.
func TestExactAmidRefusedCallsLong(t *testing.T) {
	bpftest.Long(t)
	for seed := range 20 {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			refused(t, seed, 300, 10*time.Second)
		})
	}
}
