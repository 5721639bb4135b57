//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process of ours, in a group of its own with what it starts. It
// does not outlive us, whatever becomes of us.
type child struct {
	cmd  *exec.Cmd
	said head
	done chan struct{} // closed when it has ended
	err  error         // of its end; valid then
}

// start runs a program with its output thrown away.
func start(argv ...string) (*child, error) {
	c := newChild(argv...)
	return c, c.start()
}

// newChild prepares a program whose cmd may be changed before its start.
func newChild(argv ...string) *child {
	c := &child{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	c.cmd.Stderr = &c.said
	c.cmd.WaitDelay = time.Second // what it leaves behind must not hold us up
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	return c
}

func (c *child) start() error {
	if err := c.cmd.Start(); err != nil {
		return err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// alive is nil while the process runs.
func (c *child) alive() error {
	select {
	case <-c.done:
		return fmt.Errorf("%s ended too early: %w", c.cmd.Path, c.failure())
	default:
		return nil
	}
}

// failure is how the process ended, with what it said. Valid after its end.
func (c *child) failure() error {
	err := c.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	if s := strings.TrimSpace(c.said.String()); s != "" {
		err = fmt.Errorf("%w: %s", err, s)
	}
	return err
}

// wait waits for the process to end by itself, with success.
func (c *child) wait(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-c.done:
		if c.err != nil && !errors.Is(c.err, exec.ErrWaitDelay) {
			return fmt.Errorf("%s: %w", c.cmd.Path, c.failure())
		}
		return nil
	case <-ctx.Done():
		c.kill()
		return fmt.Errorf("%s: %w", c.cmd.Path, ctx.Err())
	}
}

// kill ends the process and what it has started. It may have ended.
func (c *child) kill() {
	_ = unix.Kill(-c.pid(), unix.SIGKILL) // ESRCH: it has
	<-c.done
}

// stop asks the process to end and waits for it. How it ends is its affair, but
// one that has to be killed is an error.
func (c *child) stop(sig unix.Signal) error {
	const patience = 15 * time.Second
	if err := c.alive(); err != nil {
		return err
	}
	if err := unix.Kill(c.pid(), sig); err != nil && !errors.Is(err, unix.ESRCH) {
		c.kill()
		return fmt.Errorf("%s: %w", c.cmd.Path, err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(patience):
		c.kill()
		return fmt.Errorf("%s did not end when asked to", c.cmd.Path)
	}
}

// head keeps the beginning of what is written to it.
type head struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer and never fails.
func (h *head) Write(p []byte) (int, error) {
	const most = 2000
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), most-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.text)
}

var _ io.Writer = (*head)(nil)

// await asks again and again until cond is true, fails, or time is up.
func await(ctx context.Context, what string, limit, every time.Duration, cond func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
