package tracer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf/bpftest"
)

// answered is the program whose calls seccomp answers.
func answered(t *testing.T) string {
	t.Helper()
	const unable = 77
	program := bpftest.BuildC(t, workloads, "suppressed")
	err := exec.Command(program, "1", "1").Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == unable {
		t.Skip("seccomp cannot answer calls here")
	}
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestExactWhereSeccompAnswersCalls traces calls of which seccomp gives the results of
// half, by all three ways it has, so that they say success.
func TestExactWhereSeccompAnswersCalls(t *testing.T) {
	program := answered(t)
	for _, c := range []struct {
		threads, calls string
		byTime         bool
	}{{"1", "20000", false}, {"8", "5000", false}, {"4", "5000", true}} {
		t.Run(fmt.Sprintf("%s threads, by time %t", c.threads, c.byTime), func(t *testing.T) {
			r := newTraced(t, LiveOptions{}, 20*time.Millisecond)
			r.live.byTime = c.byTime
			told := uint64(0)
			found := r.opts.OnChange
			r.opts.OnChange = func(c *Change) {
				if c.Kind == KindSuppressed {
					told++
				}
				found(c)
			}
			ctx, still := r.untilSaid()
			cmd := r.command([]string{program, c.threads, c.calls}, still.in, still.out)
			rep := r.run(ctx)
			r.mustBeExact(rep)
			r.mustEqualMaps(rep, cmd.PID())
			if got, want := fmt.Sprintf("suppressed %d\n", rep.Stats.Suppressed), <-still.said; got != want || told != rep.Stats.Suppressed {
				t.Errorf("%q, of which %d were told, want %q", got, told, want)
			}
			still.release()
			if code, err := cmd.Wait(); err != nil || code != 0 {
				t.Errorf("exit status %d, %v", code, err)
			}
		})
	}
}

// TestExactWhereSeccompAnswersTheCallsOfARunningProgram attaches in the middle, where
// of each thread's first call it is not known when it began.
func TestExactWhereSeccompAnswersTheCallsOfARunningProgram(t *testing.T) {
	program := answered(t)
	// On a busy machine it is long until we are let run.
	r := newTraced(t, LiveOptions{RingBytes: 128 << 20}, 20*time.Millisecond)
	cmd := exec.Command(program, "8", "40000")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForThreads(t, cmd.Process.Pid)
	r.add(false, cmd.Process.Pid)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = bufio.NewReader(out).ReadString('\n') // its end is as good
		r.ends(cancel)
	}()
	rep := r.run(ctx)
	r.mustBeExact(rep)
	r.mustEqualMaps(rep, cmd.Process.Pid)
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d calls, %d suppressed, %d re-reads", rep.Stats.Calls, rep.Stats.Suppressed, rep.Stats.Rereads)
}
