package tracer

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program started to be traced. It stands still at its first
// instruction until Continue.
type Command struct {
	cmd      *exec.Cmd
	resume   chan struct{}
	resumed  chan error
	released bool
}

// StartCommand starts a program and stops it right after its execve, by
// ptrace(2); nothing stays attached after Continue. The error wraps
// exec.ErrNotFound or the reason of the failed execve.
func StartCommand(argv []string, stdin io.Reader, stdout, stderr io.Writer) (*Command, error) {
	c := &Command{
		cmd:     exec.Command(argv[0], argv[1:]...),
		resume:  make(chan struct{}),
		resumed: make(chan error, 1),
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = stdin, stdout, stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	// If what we pass on is not a file the copying must not hold up the end.
	c.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// ptrace(2): the thread that started the child is its tracer.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := c.cmd.Start(); err != nil {
			started <- fmt.Errorf("start %q: %w", argv[0], err)
			return
		}
		pid := c.cmd.Process.Pid
		if err := waitStopped(pid); err != nil {
			started <- fmt.Errorf("start %q: %w", argv[0], err)
			return
		}
		started <- nil
		<-c.resume
		if err := unix.PtraceDetach(pid); err != nil && !errors.Is(err, unix.ESRCH) {
			c.resumed <- fmt.Errorf("let %q go: %w", argv[0], err)
			return
		}
		c.resumed <- nil
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// PID is the process' number.
func (c *Command) PID() int { return c.cmd.Process.Pid }

// Continue lets the program run.
func (c *Command) Continue() error {
	c.released = true
	close(c.resume)
	return <-c.resumed
}

// Wait waits for the program's end and returns its exit status as a shell
// gives it: 128 and the signal's number for one that was killed.
func (c *Command) Wait() (int, error) {
	err := c.cmd.Wait()
	_, exited := errors.AsType[*exec.ExitError](err)
	if err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, fmt.Errorf("wait for %q: %w", c.cmd.Path, err)
	}
	if ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return c.cmd.ProcessState.ExitCode(), nil
}

// Abandon ends a program that was never let go: nothing of it has run.
func (c *Command) Abandon() error {
	if c.released {
		return nil
	}
	return errors.Join(c.cmd.Process.Kill(), c.Continue(), ignoreExit(c.cmd.Wait()))
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}
