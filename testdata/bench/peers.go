//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The calls that maptrace's peers are asked about.
var peerCalls = []string{"mmap", "munmap", "brk", "mremap", "mprotect", "madvise"}

// peer is a tracer in a process of its own.
type peer struct {
	name string // the command, as people know it
	bin  string
	// attach is the command line that traces a process.
	attach func(b *bench, pid int) []string
	// attached tells whether everything is attached, with the tool's process.
	attached func(tool, pid int) (bool, error)
	// start is the command line that traces a command.
	start func(b *bench, cmd []string) []string
	// tracefs says that it needs it.
	tracefs bool
}

var (
	strace = peer{
		name: "strace -f -e trace=memory", bin: "strace", attached: ptraced,
		attach: func(_ *bench, pid int) []string {
			return []string{"strace", "-qq", "-f", "-e", "trace=memory", "-o", os.DevNull, "-p", fmt.Sprint(pid)}
		},
		start: func(_ *bench, cmd []string) []string {
			return append([]string{"strace", "-qq", "-f", "-e", "trace=memory", "-o", os.DevNull}, cmd...)
		},
	}
	// By its manual it has no effect on a process that runs already.
	straceSeccomp = peer{
		name: "strace -f --seccomp-bpf -e trace=memory", bin: "strace",
		start: func(_ *bench, cmd []string) []string {
			return append([]string{"strace", "-qq", "-f", "--seccomp-bpf", "-e", "trace=memory", "-o", os.DevNull}, cmd...)
		},
	}
	perfTrace = peer{
		name: "perf trace -e mmap,…", bin: "perf", attached: perfEvents, tracefs: true,
		attach: func(_ *bench, pid int) []string {
			return []string{"perf", "trace", "-e", strings.Join(peerCalls, ","), "-o", os.DevNull, "-p", fmt.Sprint(pid)}
		},
		start: func(_ *bench, cmd []string) []string {
			return append([]string{"perf", "trace", "-e", strings.Join(peerCalls, ","), "-o", os.DevNull}, cmd...)
		},
	}
	perfRecord = peer{
		name: "perf record -e syscalls:…", bin: "perf", attached: perfEvents, tracefs: true,
		attach: func(_ *bench, pid int) []string {
			return []string{"perf", "record", "-q", "-B", "-e", perfTracepoints(), "-o", os.DevNull, "-p", fmt.Sprint(pid)}
		},
		start: func(_ *bench, cmd []string) []string {
			return append([]string{"perf", "record", "-q", "-B", "-e", perfTracepoints(), "-o", os.DevNull, "--"}, cmd...)
		},
	}
	bpftrace = peer{
		name: "bpftrace, a line each", bin: "bpftrace", attached: perfEvents, tracefs: true,
		attach: func(_ *bench, pid int) []string {
			return []string{"bpftrace", "-o", os.DevNull, "-e", bpftraceScript(fmt.Sprintf("/pid == %d/", pid), "")}
		},
		start: func(_ *bench, cmd []string) []string {
			const follow = "BEGIN { @t[cpid] = 1; }\n" +
				"tracepoint:sched:sched_process_fork /@t[tid]/ { @t[args->child_pid] = 1; }\n" +
				"END { clear(@t); }\n"
			return []string{"bpftrace", "-o", os.DevNull, "-e", bpftraceScript("/@t[tid]/", follow), "-c", strings.Join(cmd, " ")}
		},
	}
	maptraceJSON = peer{
		name: "maptrace trace --json", bin: "maptrace",
		start: func(b *bench, cmd []string) []string {
			return append([]string{b.maptrace, "trace", "--json", "--to", os.DevNull, "--"}, cmd...)
		},
	}
)

// installed returns what there is of other people's tools, and what is missing.
func (b *bench) installed() (peers []peer, absent []string) {
	_, err := os.Stat("/sys/kernel/tracing/events/syscalls")
	for _, p := range []peer{strace, straceSeccomp, perfTrace, perfRecord, bpftrace} {
		switch _, lookErr := exec.LookPath(p.bin); {
		case lookErr != nil:
			absent = append(absent, p.name+" is not installed")
		case p.tracefs && err != nil:
			absent = append(absent, p.name+" needs tracefs at /sys/kernel/tracing")
		default:
			peers = append(peers, p)
		}
	}
	return peers, absent
}

// perfTracepoints are the tracepoints of peerCalls.
func perfTracepoints() string {
	var names []string
	for _, c := range peerCalls {
		names = append(names, "syscalls:sys_enter_"+c, "syscalls:sys_exit_"+c)
	}
	return strings.Join(names, ",")
}

// bpftraceScript prints a line at the begin and at the end of each call.
func bpftraceScript(filter, before string) string {
	args := map[string]string{
		"mmap":     "%lx, %lu, %lx, %lx, %d, %lx|args->addr, args->len, args->prot, args->flags, args->fd, args->off",
		"munmap":   "%lx, %lu|args->addr, args->len",
		"brk":      "%lx|args->brk",
		"mremap":   "%lx, %lu, %lu, %lx, %lx|args->addr, args->old_len, args->new_len, args->flags, args->new_addr",
		"mprotect": "%lx, %lu, %lx|args->start, args->len, args->prot",
		"madvise":  "%lx, %lu, %d|args->start, args->len_in, args->behavior",
	}
	var s strings.Builder
	s.WriteString(before)
	for _, c := range peerCalls {
		form, values, _ := strings.Cut(args[c], "|")
		fmt.Fprintf(&s, "tracepoint:syscalls:sys_enter_%s %s { printf(\"%%lu %%d %s(%s)\\n\", nsecs, tid, %s); }\n",
			c, filter, c, form, values)
		fmt.Fprintf(&s, "tracepoint:syscalls:sys_exit_%s %s { printf(\"%%lu %%d %s = %%lx\\n\", nsecs, tid, args->ret); }\n",
			c, filter, c)
	}
	return s.String()
}

// ptraced tells whether a tool has become the tracer of a process.
func ptraced(tool, pid int) (bool, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return bytes.Contains(status, fmt.Appendf(nil, "\nTracerPid:\t%d\n", tool)), err
}

// perfEvents tells whether a tool has opened perf events.
func perfEvents(tool, _ int) (bool, error) {
	n, err := perfEventCount(tool)
	return n > 0, err
}

func perfEventCount(tool int) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", tool)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		// One that is closed meanwhile is not counted.
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "anon_inode:[perf_event]" {
			n++
		}
	}
	return n, nil
}

// begin starts a peer on a process and returns when it is attached: what shows
// that has been so, unchanged, for a quarter of a second.
func (b *bench) begin(ctx context.Context, p peer, pid int) (_ *child, err error) {
	const every, still = 25 * time.Millisecond, 10
	c, err := start(p.attach(b, pid)...)
	if err != nil {
		return nil, err
	}
	same, count := 0, -1
	err = await(ctx, p.name+" attaches", 20*time.Second, every, func() (bool, error) {
		if e := c.alive(); e != nil {
			return false, e
		}
		ok, e := p.attached(c.pid(), pid)
		if e != nil || !ok {
			return false, e
		}
		n, e := perfEventCount(c.pid())
		if n == count {
			same++
		} else {
			same, count = 0, n
		}
		return same >= still, e
	})
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// beginMaptrace starts the command itself on a process.
func (b *bench) beginMaptrace(ctx context.Context, pid int, command string, args ...string) (*child, error) {
	ready := b.file("ready")
	argv := append([]string{b.maptrace, command, "-p", fmt.Sprint(pid), "--ready-file", ready}, args...)
	c, err := start(argv...)
	if err != nil {
		return nil, err
	}
	err = await(ctx, "maptrace attaches", 20*time.Second, 200*time.Microsecond, func() (bool, error) {
		if e := c.alive(); e != nil {
			return false, e
		}
		_, e := os.Stat(ready)
		return e == nil, nil
	})
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// stopPeer ends a tool as ^C does.
func stopPeer(c *child) error { return c.stop(unix.SIGINT) }
