package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestASignalToTheGroupReachesTheCommandOnce sends signals to maptrace and its command
// at once, as a terminal, a shell or timeout(1) does, and to maptrace alone.
func TestASignalToTheGroupReachesTheCommandOnce(t *testing.T) {
	t.Parallel()
	needBPF(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(binary(t), "trace", "--summary-only", "--to", "/dev/null", "--", self)
	cmd.Env = append(os.Environ(), helperEnv+"=signals")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = w
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, cmd)
	say := bufio.NewReader(r)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	hear := func(want string) {
		t.Helper()
		if line, err := say.ReadString('\n'); line != want+"\n" {
			t.Fatalf("the command said %q (%v), want %q", line, err, want)
		}
	}
	hear("ready")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1} {
		if err := syscall.Kill(-p.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
		hear(sig.String())
		// This one comes after whatever is passed on of the other.
		p.signal(syscall.SIGUSR2)
		hear(syscall.SIGUSR2.String())
		p.signal(sig)
		hear(sig.String())
	}
	// After this one maptrace may end first.
	if err := syscall.Kill(-p.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	hear(syscall.SIGINT.String())
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if res := p.result(); res.code != 0 || res.stderr != "" {
		t.Errorf("got %+v", res)
	}
}

// TestACommandThatIgnoresTheEndIsNotWaitedFor has a command that goes on.
func TestACommandThatIgnoresTheEndIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	needBPF(t)
	ready := filepath.Join(t.TempDir(), "ready")
	// Its input ends with this test, and so does the command.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := exec.Command(binary(t), "trace", "--summary-only", "--to", "/dev/null", "--",
		"sh", "-c", `exec > /dev/null 2>&1; trap "" INT TERM; : > "$0"; read line`, ready)
	cmd.Stdin = r
	p := launch(t, cmd)
	for {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.signal(syscall.SIGINT)
	if res := p.result(); res.code != 0 || res.stderr != "" {
		t.Errorf("got %+v", res)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestTheStatusOfACommandThatSomebodyElseTracesIsPassedOn has another process keep what the
// command ended with, as the freeing of much memory does for a while.
func TestTheStatusOfACommandThatSomebodyElseTracesIsPassedOn(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	// ptrace(2): the thread that has attached is the tracer, to its end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for end, want := range map[string]exitCode{"exit 7": 7, "kill -TERM $$": 128 + exitCode(syscall.SIGTERM)} {
		file := filepath.Join(t.TempDir(), "pid")
		cmd := exec.Command(binary(t), "trace", "--summary-only", "--to", "/dev/null", "--",
			"sh", "-c", `echo $$ > "$0"; read line; `+end, file) // no children: SIGCHLD would stop it
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p := launch(t, cmd)
		var text []byte
		eventually(t, "the command runs", func() bool {
			text, err = os.ReadFile(file)
			return err == nil && len(text) > 0
		})
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno != 0 {
			t.Fatalf("trace %d: %v", pid, errno)
		}
		if err = in.Close(); err != nil {
			t.Fatal(err)
		}
		// A signal stops what is traced, before it is given to it.
		var ws unix.WaitStatus
		if want > 128 {
			if _, err = unix.Wait4(pid, &ws, 0, nil); err == nil {
				err = unix.PtraceCont(pid, int(ws.StopSignal()))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if r := p.result(); r.code != want || r.stderr != "" {
			t.Errorf("%s: %+v", end, r)
		}
		if _, err = unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Exited() && !ws.Signaled() {
			t.Errorf("%s: the command's tracer is told %#x, %v", end, uint32(ws), err)
		}
	}
}

// signalsHelper says which signals it gets, until the end of its input.
func signalsHelper([]string) error {
	sigs := make(chan os.Signal, 100)
	signal.Notify(sigs, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	over := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		over <- err
	}()
	fmt.Println("ready") //nolint:forbidigo // it is a program
	for {
		select {
		case err := <-over:
			return err
		case s := <-sigs:
			fmt.Println(s) //nolint:forbidigo // likewise
		}
	}
}
