package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// qemu is the command that boots a kernel. Always emulated: where /dev/kvm exists, it
// need not work.
func qemu(k *kernel, kernelPath, initrdPath string) []string {
	argv := []string{"qemu-system-x86_64", "-M", "pc", "-cpu", "max"}
	console, extra := "ttyS0", " mitigations=off"
	if k.arch() == "arm64" {
		// The architecture's own algorithm for signing pointers takes most of the
		// time when it is emulated.
		argv = []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on"}
		console, extra = "ttyAMA0", ""
	}
	argv = append(argv, "-accel", "tcg", "-m", "512", "-smp", strconv.Itoa(k.cpus),
		"-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernelPath, "-initrd", initrdPath)
	line := "console=" + console + " panic=-1 quiet loglevel=4" + extra
	if k.append != "" {
		line += " " + k.append
	}
	return append(argv, "-append", line)
}

// patience is how many times longer than on an idle host a machine may take by the
// clock: others may want the processors too.
const patience = 5

// boot runs the steps in a guest and returns what was on its console, and the seconds
// of a processor that it took. An error is qemu's, or that the time was up; the
// console so far comes with it. live gets the console as it comes.
func boot(ctx context.Context, k *kernel, img image, p *payload, steps []step, limit time.Duration, live io.Writer) (_ string, cpu float64, err error) {
	initrd, err := p.initrd(steps)
	if err != nil {
		return "", 0, err
	}
	dir, err := os.MkdirTemp("", "maptrace-guest-")
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "initrd")
	if err = os.WriteFile(path, initrd, 0o600); err != nil {
		return "", 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience*limit)
	defer cancel()
	argv := qemu(k, img.path, path)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var console, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&console, live), &errs
	if err = cmd.Start(); err != nil {
		return "", 0, err
	}
	seconds := uint64(limit.Seconds())
	err = errors.Join(unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CPU, &unix.Rlimit{Cur: seconds, Max: seconds}, nil), cmd.Wait())
	if cmd.ProcessState != nil {
		cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("the machine was not done in %s", patience*limit)
	case cpu >= float64(seconds):
		err = fmt.Errorf("the machine was not done in %s of a processor", limit)
	case err != nil:
		err = fmt.Errorf("%s: %w\n%s", argv[0], err, tail(errs.String(), 10))
	}
	return strings.ReplaceAll(console.String(), "\r", ""), cpu, err
}
