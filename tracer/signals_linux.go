package tracer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// PassSignals forwards to the program what is sent to us, until stop is called, and calls
// ending when that is SIGINT or SIGTERM, which the program may ignore. What is sent to our
// whole process group, by the terminal or by kill(2), the program gets by itself, as long
// as it is in that group: that is not forwarded.
func (c *Command) PassSignals(ending func()) (stop func(), err error) {
	w, err := startWitness()
	if err != nil {
		return nil, err
	}
	sigs := make(chan os.Signal, 8) // a burst must not be lost while one is passed on
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer func() { w.end() }()
		seen := uint64(0) // of a witness before this one
		for {
			select {
			case s := <-sigs:
				sig := s.(syscall.Signal)
				if sig == unix.SIGINT || sig == unix.SIGTERM {
					ending()
				}
				bit := uint64(1) << (sig - 1)
				if pending := w.pending(); pending&bit != 0 {
					// It stays pending, so the next of its kind takes another witness.
					seen |= pending
					w.end()
					w, _ = startWitness() // without one all are forwarded: twice is better than never
				}
				group, err := unix.Getpgid(c.PID())
				if seen&bit != 0 && err == nil && group == unix.Getpgrp() {
					seen &^= bit
					continue
				}
				// It may be gone by now, which is no concern of the sender.
				_ = c.cmd.Process.Signal(sig)
			case <-over:
				return
			}
		}
	}()
	return func() {
		signal.Stop(sigs)
		close(over)
		<-done
	}, nil
}

// witness is a process of our group that never runs: it is stopped at its first
// instruction by ptrace(2), so that what it is sent stays pending. A signal to the whole
// group is pending there too, one to us alone is not; what comes with a signal tells who
// sent it, and not to whom.
type witness struct {
	pid  int
	over chan struct{}
	done chan struct{}
}

func startWitness() (*witness, error) {
	w := &witness{over: make(chan struct{}), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(w.done)
		// ptrace(2): the thread that started the child is its tracer, to its end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.Command("/proc/self/exe")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start a process to tell signals apart by: %w", err)
			return
		}
		w.pid = cmd.Process.Pid
		err := waitStopped(w.pid)
		if err == nil {
			err = unix.PtraceSetOptions(w.pid, unix.PTRACE_O_EXITKILL) // if we are killed, too
		}
		started <- err
		if err == nil {
			<-w.over
		}
		_ = cmd.Process.Kill() // it has ended, if all of the group were killed
		_ = cmd.Wait()         // by a signal, which is how it ends
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return w, nil
}

// waitStopped waits until a process that asked to be traced stands at its first
// instruction.
func waitStopped(pid int) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case !status.Stopped():
			return errors.New("it ended before its first instruction")
		default:
			return nil
		}
	}
}

func (w *witness) end() {
	if w != nil {
		close(w.over)
		<-w.done
	}
}

// pending are the signals that were sent to the process, as a mask; none if there is no
// witness.
func (w *witness) pending() uint64 {
	if w == nil {
		return 0
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(w.pid) + "/status")
	if err != nil {
		return 0
	}
	_, text, _ := strings.Cut(string(status), "\nShdPnd:\t")
	text, _, _ = strings.Cut(text, "\n")
	mask, _ := strconv.ParseUint(text, 16, 64) // 0 if it cannot be read
	return mask
}
