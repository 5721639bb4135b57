package tracer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/order"
	"github.com/maptrace/maptrace/tracer/space"
)

// TestPollingEndsWithWhatMapsShow is the claim of polling: once a program stands
// still and was looked at again, the tree is what maps shows, and the changes
// told are the difference between the first table and the last.
func TestPollingEndsWithWhatMapsShow(t *testing.T) {
	program := bpftest.BuildC(t, workloads, "churn")
	for _, args := range [][]string{
		{"-m", "all", "-t", "1", "-n", "4000", "-s", "1"},
		{"-m", "all", "-t", "4", "-n", "2000", "-s", "2"},
		{"-m", "mm", "-t", "3", "-n", "8000", "-s", "3"},
		{"-m", "files", "-t", "2", "-n", "8000", "-s", "4"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			src := NewPoll(2*time.Millisecond, false, nil)
			in, hold := io.Pipe()
			done, say := io.Pipe()
			defer done.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var still atomic.Bool
			go func() {
				line, _ := bufio.NewReader(done).ReadString('\n')
				still.Store(line == "done\n")
				cancel()
			}()
			sums := make(map[uint64]int64)
			changes := 0
			tr := New(src, src, Options{
				PageSize: uint64(os.Getpagesize()), Polling: 2 * time.Millisecond,
				OnChange: func(c *Change) {
					if c.Kind != KindReread {
						return
					}
					if c.Flags&Polled == 0 || c.TID != 0 || len(c.Found) != 1 {
						t.Errorf("a change that is not marked as seen by polling, alone: %+v", *c)
					}
					changes++
					f := c.Found[0]
					if f.Now.Kind != 0 {
						sums[c.Space] += int64(f.Range.Len())
					}
					if f.Was.Kind != 0 {
						sums[c.Space] -= int64(f.Range.Len())
					}
				},
			})
			c, err := StartCommand(append(append([]string{program}, args...), "-W"), in, say, os.Stderr)
			if err != nil {
				t.Fatal(err)
			}
			tasks, err := src.Trace(c.PID())
			if err != nil || len(tasks) != 1 {
				t.Fatalf("%d tasks, %v", len(tasks), err)
			}
			if err := tr.Add(tasks, true); err != nil {
				t.Fatal(err)
			}
			if err := c.Continue(); err != nil {
				t.Fatal(err)
			}
			if err := tr.Run(ctx, src.Detach); err != nil {
				t.Fatal(err)
			}
			rep := tr.Report()
			mustEqualMapsByPolling(t, tr, c.PID())
			for _, sp := range rep.Spaces {
				first, last := int64(sp.Start.Totals.Mapped), int64(tr.Tree(sp.Process.Space).Totals().Mapped)
				if got := sums[sp.Process.Space]; got != last-first {
					t.Errorf("process %d: the changes come to %d bytes, the tables differ by %d", sp.Process.PID, got, last-first)
				}
			}
			if !still.Load() || changes == 0 || rep.Stats.Polled != uint64(changes) || rep.Stats.Looks < 2 || rep.Ordering != "polling" {
				t.Errorf("done %v, %d changes, ordering %q, %+v", still.Load(), changes, rep.Ordering, rep.Stats)
			}
			t.Logf("%d looks, %d changes, %d processes", rep.Stats.Looks, changes, rep.Stats.Processes)
			if err := errors.Join(hold.Close(), src.Close()); err != nil {
				t.Error(err)
			}
			if code, err := c.Wait(); err != nil || code != 0 {
				t.Errorf("exit status %d, %v", code, err)
			}
		})
	}
}

func mustEqualMapsByPolling(t *testing.T, tr *Tracer, pid int) {
	t.Helper()
	rep := tr.Report()
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	const why = "approximate: polling every 2ms: changes between two looks are not seen"
	for _, sp := range rep.Spaces {
		if sp.Process.PID != pid {
			continue
		}
		drift, _ := tr.Tree(sp.Process.Space).Verify(rows, space.All, ^uint64(0))
		for _, d := range drift {
			t.Errorf("%v %v: tree %+v, kernel %+v", d.Range, d.What, d.Tree, d.Row)
		}
		if got := sp.Picture.String(); got != why || len(rows) < 10 {
			t.Errorf("%d rows, picture %q, want %q", len(rows), got, why)
		}
		return
	}
	t.Errorf("process %d is not in the report", pid)
}

// polling runs a Poll over a process by hand.
type polling struct {
	*Poll
	t *testing.T
}

func newPolling(t *testing.T, pids ...int) *polling {
	t.Helper()
	p := &polling{NewPoll(time.Nanosecond, false, nil), t}
	t.Cleanup(func() { _ = p.Close() }) // it always succeeds
	if tasks, err := p.Trace(pids...); err != nil || len(tasks) != len(pids) {
		t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	return p
}

// look takes a look and prints what it gave; of mappings only that there were some.
func (p *polling) look() string {
	p.t.Helper()
	var out []string
	for first := true; ; first = false {
		var ev Event
		if !first && p.Due() > 0 {
			p.t.Fatal("nothing to read amid a look")
		}
		if err := p.Next(&ev); err != nil {
			p.t.Fatal(err)
		}
		if ev.Flags&Polled == 0 || ev.Time == 0 {
			p.t.Errorf("an event without its mark or time: %+v", ev)
		}
		switch {
		case ev.Kind == order.KindLook && ev.Look == nil:
		case ev.Kind == order.KindLook && ev.Look.Err != nil:
			out = append(out, fmt.Sprintf("no look at %d", ev.Space))
		case ev.Kind == order.KindLook:
			if len(ev.Look.Rows) == 0 {
				p.t.Errorf("a look at nothing: %+v", ev)
			}
			out = append(out, fmt.Sprintf("look at %d", ev.Space))
		case ev.Kind == KindFork && ev.Flags&SharesSpace != 0:
			out = append(out, fmt.Sprintf("fork into %d, shared", ev.ChildSpace))
		case ev.Kind == KindFork:
			out = append(out, fmt.Sprintf("fork into %d", ev.ChildSpace))
		case ev.Kind == KindExec:
			out = append(out, fmt.Sprintf("exec %s into %d", ev.Comm, ev.Space))
		case ev.Kind == KindExit && ev.Flags&NoStatus != 0:
			out = append(out, fmt.Sprintf("exit from %d", ev.Space))
		case ev.Kind == KindExit:
			out = append(out, fmt.Sprintf("exit %#x from %d", ev.Status, ev.Space))
		case ev.Kind == order.KindGone:
			out = append(out, fmt.Sprintf("gone %d", ev.Space))
		}
		p.mu.Lock()
		more := len(p.ready) > 0
		p.mu.Unlock()
		if !more {
			return strings.Join(out, ", ")
		}
	}
}

// until looks until something is to be seen, and says what.
func (p *polling) until() string {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if s := p.look(); s != "" {
			return s
		}
	}
	p.t.Fatal("nothing happens")
	return ""
}

// change is until, but for looks at the first process: a shell makes room now and
// then.
func (p *polling) change() string {
	p.t.Helper()
	for {
		if s := strings.TrimPrefix(p.until(), "look at 1"); s != "" {
			return strings.TrimPrefix(s, ", ")
		}
	}
}

// shell is a shell that runs a line at a time, and answers each.
type shell struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, cmd: exec.Command("sh")}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		_ = s.cmd.Wait()
	})
	s.run("echo ready")
	return s
}

// run runs a line that prints one.
func (s *shell) run(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.out.ReadString('\n'); err != nil {
		s.t.Fatal(err)
	}
}

func TestPollNoticesForkExecAndExit(t *testing.T) {
	t.Parallel()
	s := startShell(t)
	p := newPolling(t, s.cmd.Process.Pid)
	if got := p.look(); got != "look at 1" {
		t.Errorf("at first: %q", got)
	}
	if got := p.look(); got != "" {
		t.Errorf("nothing has happened: %q", got)
	}
	// The child ends once its parent has written to the pipe that it reads.
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("(read line <" + fifo + "; exit 3) & echo forked")
	got := p.change()
	if want := "fork into 2, look at 2"; got != want {
		t.Errorf("a child: %q, want %q", got, want)
	}
	s.run("echo line >" + fifo + "; wait; echo ended")
	if got, want := p.change(), "exit from 2, gone 2"; got != want {
		t.Errorf("its end: %q, want %q", got, want)
	}
}

func TestPollNoticesExecOfTheSameProgram(t *testing.T) {
	t.Parallel()
	s := startShell(t)
	p := newPolling(t, s.cmd.Process.Pid)
	p.look()
	s.run("exec sh -c 'echo again; exec sh'")
	s.run("echo ready")
	// Two in a row, of which the first was not looked at.
	if got, want := p.change(), "exec sh into 2, gone 1, look at 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPollTellsOfEachImageThatItCouldNotBeRead(t *testing.T) {
	t.Parallel()
	s := startShell(t)
	pid := s.cmd.Process.Pid
	p := newPolling(t, pid)
	p.look()
	p.calls = await.New()
	release := make(chan struct{})
	defer close(release)
	// As long as a read has not returned there is no other.
	if _, err := await.Do(p.calls, pid, func() (bool, error) { <-release; return true, nil }, nil); !errors.Is(err, await.ErrStalled) {
		t.Fatal(err)
	}
	var got []string
	for range 2 {
		got = append(got, p.look())
	}
	s.run("exec sh -c 'echo again; exec sh'")
	s.run("echo ready")
	for range 2 {
		got = append(got, p.look())
	}
	if diff := cmp.Diff([]string{"no look at 1", "", "exec sh into 2, gone 1, no look at 2", ""}, got); diff != "" {
		t.Errorf("looks (-want +got):\n%s", diff)
	}
}

func TestPollTakesRoomForWhatALookShows(t *testing.T) {
	t.Parallel()
	s := startShell(t)
	p := newPolling(t, s.cmd.Process.Pid)
	taken := 0
	look, err := p.Look(s.cmd.Process.Pid, space.All, true, func(rows int) error { taken += rows; return nil })
	if err != nil || taken == 0 || taken != len(look.Rows) {
		t.Errorf("%d rows, room for %d: %v", len(look.Rows), taken, err)
	}
	full := errors.New("full")
	if look, err := p.Look(s.cmd.Process.Pid, space.All, true, func(int) error { return full }); !errors.Is(err, full) || look.Rows != nil {
		t.Errorf("without room: %d rows, %v", len(look.Rows), err)
	}
}

func TestPollTellsHowAProcessEnded(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"exit 7": "exit 0x700 from 1, gone 1", "kill -KILL $$": "exit 0x9 from 1, gone 1",
	} {
		s := startShell(t)
		p := newPolling(t, s.cmd.Process.Pid)
		p.look()
		if _, err := io.WriteString(s.in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := p.change(); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
		if tasks, err := p.Tasks(); err != nil || len(tasks) != 0 {
			t.Errorf("it is still there: %+v, %v", tasks, err)
		}
	}
}

func TestPollSaysThatAnEndWasNotSeen(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := newPolling(t, cmd.Process.Pid)
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil { // nobody can be asked any more
		t.Fatal(err)
	}
	if got, want := p.look(), "exit from 1, gone 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPollKnowsAnAddressSpaceThatTwoShare(t *testing.T) {
	t.Parallel()
	if !sameMemory(os.Getpid(), os.Getpid()) {
		t.Skip("the kernel does not tell (CONFIG_KCMP)")
	}
	// What vfork makes is over too soon; CLONE_VM alone makes one that stays.
	python := tool.Need(t, "python3")
	cmd := exec.Command(python, "-c", `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
stack = ctypes.create_string_buffer(1 << 20)
sleep = ctypes.cast(libc.pause, ctypes.c_void_p)
top = (ctypes.addressof(stack) + len(stack)) & ~15
CLONE_VM, SIGCHLD = 0x100, 17
pid = libc.clone(sleep, ctypes.c_void_p(top), CLONE_VM | SIGCHLD, None)
print(pid, flush=True)
sys.stdin.read()
os.kill(pid, 9)
`)
	in, err := cmd.StdinPipe()
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
	defer func() { _ = cmd.Wait() }() // it was told to end
	defer in.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p := newPolling(t, cmd.Process.Pid)
	if got, want := p.look(), "look at 1, fork into 1, shared"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := p.look(); got != "" {
		t.Errorf("then: %q", got)
	}
}
