package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
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
