//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// heading says where, when and with what all this was measured.
func (b *bench) heading(ctx context.Context, absent []string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "Measured %s by `make bench`: Linux %s, %d CPUs%s, load %s before.\n",
		time.Now().Format(time.DateOnly), unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), cpuModel(),
		strings.Fields(string(load))[0])
	versions := []string{b.version(ctx, b.maptrace, "version")}
	seen := make(map[string]bool)
	for _, p := range b.peers {
		if !seen[p.bin] {
			versions = append(versions, b.version(ctx, p.bin, "--version"))
		}
		seen[p.bin] = true
	}
	fmt.Fprintf(b.out, "%s.\n", strings.Join(append(versions, b.version(ctx, "gcc", "--version")), "; "))
	for _, a := range absent {
		fmt.Fprintf(b.out, "Left out: %s.\n", a)
	}
	return nil
}

// version is the first line of what a tool says of itself.
func (b *bench) version(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return argv[0] + " (version unknown)"
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(bytes.TrimSpace(line))
}

// cpuModel is the processor's name in parentheses, where the kernel tells it.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if key, name, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return " (" + strings.TrimSpace(name) + ")"
		}
	}
	return ""
}

// firstLine is an error fit for a table.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.ReplaceAll(line, "|", "/")
}

// joinWords writes a list as people do.
func joinWords(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
