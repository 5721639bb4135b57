package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
)

// helperEnv makes the test binary be a program to trace; see helpers.
const helperEnv = "MAPTRACE_TEST_HELPER"

// bound is how long anything may take before a test fails. Nothing that works
// comes near it.
const bound = 2 * time.Minute

// binDir holds the binary under test, readable by everybody.
var binDir string

func TestMain(m *testing.M) { os.Exit(testMain(m)) } //nolint:forbidigo // TestMain is the main of a test

func testMain(m *testing.M) int {
	if name := os.Getenv(helperEnv); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "helper:", err)
			return 1
		}
		return 0
	}
	if len(os.Args) > 1 && os.Args[1] == readerCommand {
		return int(run(context.Background(), os.Args, streams{os.Stdin, os.Stdout, os.Stderr}))
	}
	var err error
	if binDir, err = os.MkdirTemp("", "maptrace-test-"); err == nil {
		err = os.Chmod(binDir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binDir)
	defer bpftest.Clean()
	return m.Run()
}

// build makes the program, once.
var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "maptrace")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// binary is the path of the program.
func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tryBPF tells whether the kernel lets us trace.
var tryBPF = sync.OnceValue(func() error {
	h, err := bpf.Open(bpf.Options{RingBytes: os.Getpagesize()})
	if err != nil {
		return err
	}
	return h.Close()
})

// needBPF skips a test where tracing is not possible, and fails it there when
// MAPTRACE_REQUIRE_BPF=1 says that it must be.
func needBPF(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("it runs the program, which is built without the race detector")
	}
	err := tryBPF()
	switch {
	case err == nil:
	case os.Getenv("MAPTRACE_REQUIRE_BPF") == "1":
		t.Fatalf("tracing does not work here: %v", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, ebpf.ErrNotSupported):
		t.Skipf("tracing does not work here: %v", err)
	default:
		t.Fatal(err)
	}
}

// result is how a run of the program ended.
type result struct {
	code   exitCode
	out    string
	stderr string
}

// process is a started program whose output is kept.
type process struct {
	*exec.Cmd
	t    *testing.T
	out  bytes.Buffer
	err  bytes.Buffer
	done chan struct{}
}

// launch starts a command; it is killed at the end of the test if need be.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd, t: t, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.out
	}
	cmd.Stderr = &p.err
	// A descendant may hold the pipes open for longer than the program lives.
	cmd.WaitDelay = bound
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the state tells
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, if all went well
		<-p.done
	})
	return p
}

// result waits for the end.
func (p *process) result() result {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(bound):
		p.t.Fatalf("%q does not end: %s", p.Args, p.where())
	}
	code := p.ProcessState.ExitCode()
	if ws, ok := p.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	return result{exitCode(code), p.out.String(), p.err.String()}
}

// where says where a process is: in the kernel, and, by the traces that it writes at SIGQUIT,
// in its own code. That ends it.
func (p *process) where() string {
	var b strings.Builder
	stacks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stack", p.Process.Pid))
	for _, name := range stacks {
		if text, err := os.ReadFile(name); err == nil {
			fmt.Fprintf(&b, "%s\n%s", name, text)
		}
	}
	_ = p.Process.Signal(syscall.SIGQUIT) // it may be gone by now
	const patience = 10 * time.Second
	select {
	case <-p.done:
		b.WriteString(p.err.String())
	case <-time.After(patience):
	}
	return b.String()
}

// signal sends a signal.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// maptrace runs the program to its end.
func maptrace(t *testing.T, args ...string) result {
	t.Helper()
	return launch(t, exec.Command(binary(t), args...)).result()
}

// tracing starts "maptrace trace" and waits until it says that it is ready.
func tracing(t *testing.T, args ...string) *process {
	t.Helper()
	return tracingTo(t, nil, args...)
}

func tracingTo(t *testing.T, stdout io.Writer, args ...string) *process {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := exec.Command(binary(t), append([]string{"trace", "--ready-file", ready}, args...)...)
	cmd.Stdout = stdout
	p := launch(t, cmd)
	eventually(t, "maptrace is ready", func() bool {
		select {
		case <-p.done:
			t.Fatalf("maptrace ended before it was ready: %s", p.err.String())
		default:
		}
		b, err := os.ReadFile(ready)
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	return p
}

// eventually waits for a condition that nobody announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(bound); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", bound, what)
		}
	}
}

// helper is a running program to trace, which does what it is told.
type helper struct {
	*process
	in  io.WriteCloser
	say *bufio.Reader
}

// startHelper starts the test binary as one of helpers, and waits for its word.
func startHelper(t *testing.T, name string, args ...string) *helper {
	t.Helper()
	return startHelperWith(t, name, func(*exec.Cmd) {}, args...)
}

// startHelperWith starts it as adjust has it.
func startHelperWith(t *testing.T, name string, adjust func(*exec.Cmd), args ...string) *helper {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	adjust(cmd)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	h := &helper{process: launch(t, cmd), in: in, say: bufio.NewReader(r)}
	t.Cleanup(func() { _ = r.Close() })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h.hear("ready")
	return h
}

// pid is the process number as an argument.
func (h *helper) pid() string { return strconv.Itoa(h.Process.Pid) }

// hear reads a line, which must be want.
func (h *helper) hear(want string) {
	h.t.Helper()
	got, err := h.say.ReadString('\n')
	if err != nil || got != want+"\n" {
		h.t.Fatalf("helper said %q (%v), want %q; stderr: %s", got, err, want, h.err.String())
	}
}

// tell writes a line.
func (h *helper) tell(line string) {
	h.t.Helper()
	if _, err := io.WriteString(h.in, line+"\n"); err != nil {
		h.t.Fatal(err)
	}
}

// unharmed checks that the program lives, is not stopped, and traced by nobody.
func (h *helper) unharmed() {
	h.t.Helper()
	b, err := os.ReadFile("/proc/" + h.pid() + "/status")
	if err != nil {
		h.t.Fatal(err)
	}
	status := string(b)
	if !strings.Contains(status, "TracerPid:\t0\n") {
		h.t.Errorf("the target has a tracer:\n%s", status)
	}
	if _, state, _ := strings.Cut(status, "State:\t"); !strings.ContainsAny(state[:1], "RSD") {
		h.t.Errorf("the target is in state %.20q", state)
	}
	h.tell("answer")
	h.hear("here")
}

// helpers are the programs to trace. Each says "ready", does something for each
// line it is sent, and ends at the end of its input.
var helpers = map[string]func(args []string) error{
	"calls":  callsHelper,
	"churn":  churnHelper,
	"flood":  floodHelper,
	"orphan": orphanHelper,

	"signals":  signalsHelper,
	"stall":    stallHelper,
	"hold":     holdHelper,
	"resident": residentHelper,

	// These do it at once, and end.
	"storm":   stormHelper,
	"pages":   pagesHelper,
	"threads": threadsHelper,
	"images":  imagesHelper,
}

// What the calls helper does when told "go". The numbers are primes, the sizes
// of nobody else's making.
const (
	callsMaps    = 23
	callsHoles   = 7
	callsReadBit = 5
	callsRefused = 3
	callsFiles   = 2
	callsPages   = 37 // of each anonymous mapping
	filePages    = 3  // of each file mapping
)

// callsHelper does a known number of calls; its argument is a file to map.
func callsHelper(args []string) error {
	return serve(func() error { return makeCalls(args[0]) })
}

func makeCalls(file string) error {
	page := os.Getpagesize()
	var all [][]byte
	for range callsMaps {
		b, err := unix.Mmap(-1, 0, callsPages*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	for i := range callsHoles {
		if err := rawCall(unix.SYS_MUNMAP, addressOf(all[i])+uintptr(page), uintptr(page)); err != nil {
			return err
		}
	}
	for i := range callsReadBit {
		if err := unix.Mprotect(all[callsHoles+i], unix.PROT_READ); err != nil {
			return err
		}
	}
	for range callsRefused {
		const fixedNoReplace = 0x100000
		_, _, errno := unix.Syscall6(unix.SYS_MMAP, addressOf(all[0]), uintptr(callsPages*page), unix.PROT_READ,
			unix.MAP_PRIVATE|unix.MAP_ANON|fixedNoReplace, ^uintptr(0), 0)
		if errno != unix.EEXIST {
			return fmt.Errorf("a mapping over another: %w", errno)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for range callsFiles {
		if _, err := unix.Mmap(int(f.Fd()), 0, filePages*page, unix.PROT_READ, unix.MAP_PRIVATE); err != nil {
			return err
		}
	}
	return nil
}

// churnHelper maps and unmaps all the time.
func churnHelper([]string) error {
	errs := make(chan error, 1)
	go func() {
		for {
			b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err == nil {
				err = unix.Munmap(b)
			}
			if err != nil {
				errs <- err
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	return serve(func() error {
		select {
		case err := <-errs:
			return err
		default:
			return nil
		}
	})
}

// The first goroutine of the orphan helper is to stay on the thread that it begins
// on, the leader.
func init() {
	if os.Getenv(helperEnv) == "orphan" {
		runtime.LockOSThread()
	}
}

// orphanHelper is churnHelper on threads whose leader has ended.
func orphanHelper(args []string) error {
	go func() {
		status := 1
		for {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid()))
			if err != nil {
				break
			}
			if bytes.Contains(stat, []byte(") Z ")) {
				if churnHelper(args) == nil {
					status = 0
				}
				break
			}
			time.Sleep(time.Millisecond)
		}
		os.Exit(status) //nolint:forbidigo // nobody else is left to do it
	}()
	return rawCall(unix.SYS_EXIT, 0, 0) // it does not return
}

// serve speaks for a helper: it runs do for "go" and says "done".
func serve(do func() error) error {
	say := func(word string) error {
		_, err := fmt.Fprintln(os.Stdout, word)
		return err
	}
	if err := say("ready"); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer := "here"
		if in.Text() == "go" {
			if err := do(); err != nil {
				return err
			}
			answer = "done"
		}
		if err := say(answer); err != nil {
			return err
		}
	}
	return in.Err()
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func rawCall(nr, a1, a2 uintptr) error {
	if _, _, errno := unix.Syscall(nr, a1, a2, 0); errno != 0 {
		return errno
	}
	return nil
}
