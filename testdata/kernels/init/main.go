// Command init is the first process of a guest of the kernel matrix. It mounts what
// the tests look at, runs the steps of /plan.json one after the other, tells on the
// console how each ended, and switches the machine off.
//
// By the names true, sleep and cat it is those programs, as far as the tests want
// them: the guest has no others.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// step is a line of the plan; package main in the directory above writes it.
type step struct {
	Name string
	Dir  string
	// Unless says that the step is not needed if the file has one of the words.
	Unless *struct {
		File  string
		Words []string
	}
	Argv []string
}

func main() {
	os.Exit(run(os.Args)) //nolint:forbidigo // this is main
}

func run(argv []string) int {
	switch filepath.Base(argv[0]) {
	case "true":
		return 0
	case "sleep":
		return sleep(argv[1:])
	case "cat":
		return cat(argv[1:], os.Stdin, os.Stdout)
	}
	if len(argv) > 1 && argv[1] == "steps" {
		steps(os.Stdout)
		return 0
	}
	first(os.Stdout)
	return 1 // not reached: the machine is off
}

// first is what process 1 does: it adopts and reaps whatever the steps leave behind.
func first(console io.Writer) {
	mounts(console)
	cmd := exec.Command("/init", "steps")
	cmd.Env = []string{"PATH=/bin", "HOME=/", "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(console, "start the steps: %v\n", err)
	} else {
		reap(cmd.Process.Pid)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintf(console, "power off: %v\n", err)
	}
}

// reap waits for children, its own and others', until one has ended.
func reap(until int) {
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if pid == until || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// mounts mounts what there is. A kernel that lacks one is judged by what then fails.
func mounts(console io.Writer) {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"},
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"tracefs", "/sys/kernel/tracing"},
		{"securityfs", "/sys/kernel/security"},
		{"bpf", "/sys/fs/bpf"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/dev/shm"},
	} {
		err := os.MkdirAll(m.at, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.at, m.kind, 0, "")
		}
		if err != nil {
			fmt.Fprintf(console, "mount %s: %v\n", m.at, err)
		}
	}
}

// steps runs the plan. Each line of its own begins with "@ ", on a new line.
func steps(console io.Writer) {
	text, err := os.ReadFile("/plan.json")
	var plan []step
	if err == nil {
		err = json.Unmarshal(text, &plan)
	}
	if err != nil {
		fmt.Fprintf(console, "read the plan: %v\n", err)
		return
	}
	for _, s := range plan {
		fmt.Fprintf(console, "\n@ begin %s\n", s.Name)
		start := time.Now()
		status := runStep(s, console)
		fmt.Fprintf(console, "\n@ end %s %d %.1f\n", s.Name, status, time.Since(start).Seconds())
	}
	taint, err := os.ReadFile("/proc/sys/kernel/tainted")
	if err != nil {
		fmt.Fprintf(console, "read the taint: %v\n", err)
		return
	}
	fmt.Fprintf(console, "\n@ tainted %s\n@ done\n", strings.TrimSpace(string(taint)))
}

// runStep returns a step's exit status, as a shell gives it.
func runStep(s step, console io.Writer) int {
	if u := s.Unless; u != nil {
		text, err := os.ReadFile(u.File)
		if err == nil && slices.ContainsFunc(u.Words, func(w string) bool { return bytes.Contains(text, []byte(w)) }) {
			return 0
		}
	}
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = console, console
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case ok:
		if ws, ok := exit.Sys().(interface {
			Signaled() bool
			Signal() unix.Signal
		}); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(console, err)
		return 127
	}
	return 0
}

func sleep(args []string) int {
	if len(args) != 1 {
		return 2
	}
	d, err := time.ParseDuration(args[0] + "s")
	if err != nil {
		return 2
	}
	time.Sleep(d)
	return 0
}

func cat(names []string, in io.Reader, out io.Writer) int {
	if len(names) == 0 {
		if _, err := io.Copy(out, in); err != nil {
			return 1
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err == nil {
			_, err = io.Copy(out, f)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			fmt.Fprintln(out, err)
			return 1
		}
	}
	return 0
}
