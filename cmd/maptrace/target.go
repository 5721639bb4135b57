package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/container"
)

// target says which processes a command is about.
type target struct {
	pids       []int
	comms      []string
	cgroups    []string
	containers []string
	noFollow   bool
	argv       []string

	groups []*container.Group // those of cgroups and containers, once resolved
}

func (t *target) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.VarP(numbersValue{&t.pids, processWord}, "pid", "p", "trace the process `PID`, as an argument does (repeatable)")
	f.StringSliceVar(&t.comms, "comm", nil, "trace the processes called `NAME` (repeatable)")
	f.StringArrayVar(&t.cgroups, "cgroup", nil, "trace the processes of this cgroup (a `PATH`) or systemd unit, those that enter it later too (repeatable)")
	f.StringArrayVar(&t.containers, "container", nil, "trace the processes of this container, by the prefix of its ID or `NAME`, those that enter it later too (repeatable)")
	f.BoolVar(&t.noFollow, "no-follow", false, "leave children alone, those there and those to come")
	group(cmd, groupTarget, "pid", "comm", "cgroup", "container", "no-follow")
}

// living tells whether processes that are there are asked for.
func (t *target) living() bool {
	return len(t.pids) > 0 || len(t.comms) > 0 || len(t.cgroups) > 0 || len(t.containers) > 0
}

// resolve lists the processes that are there and checks each.
func (t *target) resolve(fs procmaps.FS) ([]int, error) {
	pids := slices.Clone(t.pids)
	for _, pid := range pids {
		// What it does because of its own events would make more of them.
		if ourselves(fs, pid) {
			return nil, usagef("process %d is maptrace itself, which it does not trace", pid)
		}
		if err := tracer.CheckTarget(fs, pid); err != nil {
			return nil, err
		}
	}
	for _, c := range t.comms {
		found, err := named(fs, c)
		if err != nil {
			return nil, err
		}
		pids = append(pids, found...)
	}
	grouped, err := t.grouped(fs)
	if err != nil {
		return nil, err
	}
	pids = append(pids, grouped...)
	slices.Sort(pids)
	pids = slices.Compact(pids)
	if t.noFollow || len(pids) == 0 {
		return pids, nil
	}
	return descendants(fs, pids)
}

// named lists the processes of a name that can be traced.
func named(fs procmaps.FS, comm string) ([]int, error) {
	found, err := tracer.FindComm(fs, comm)
	if err != nil {
		return nil, err
	}
	pids, err := traceable(fs, found)
	if err == nil && len(pids) == 0 {
		err = fmt.Errorf("no other process is called %q: %w", comm, procmaps.ErrGone)
	}
	return pids, err
}

// grouped lists the processes of the cgroups and containers that can be traced.
func (t *target) grouped(fs procmaps.FS) ([]int, error) {
	finder := container.Finder{Proc: fs}
	var pids []int
	t.groups = nil
	add := func(what string, g *container.Group) error {
		found, err := traceable(fs, g.PIDs())
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%s has no process of another program than this: %w", what, procmaps.ErrGone)
		}
		t.groups, pids = append(t.groups, g), append(pids, found...)
		return err
	}
	for _, word := range t.cgroups {
		g, err := finder.Cgroup(word)
		if err == nil {
			err = add(fmt.Sprintf("cgroup %q", word), g)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, word := range t.containers {
		c, err := finder.Container(word)
		if err == nil {
			err = add("container "+c.String(), &c.Group)
		}
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// members lists the processes of the groups that can be traced, as they are now.
func (t *target) members(fs procmaps.FS) ([]int, error) {
	var all []int
	for _, g := range t.groups {
		pids, err := g.Now()
		if err != nil {
			return nil, err
		}
		all = append(all, pids...)
	}
	return traceable(fs, all)
}

// traceable leaves out ourselves and our own children, and what has no memory. Those that end meanwhile
// are no error.
func traceable(fs procmaps.FS, found []int) ([]int, error) {
	var pids []int
	for _, pid := range found {
		err := tracer.CheckTarget(fs, pid)
		switch {
		case pid == os.Getpid(), parent(fs, pid) == os.Getpid(), errors.Is(err, procmaps.ErrGone), errors.Is(err, tracer.ErrNoMemory):
		case err != nil:
			return nil, err
		default:
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// parent is the parent of a process, 0 if it is not known.
func parent(fs procmaps.FS, pid int) int {
	p, err := fs.Process(pid)
	if err != nil {
		return 0
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return 0
	}
	return st.PPID
}

// ourselves tells whether a number is that of this process, or of a thread of it.
func ourselves(fs procmaps.FS, pid int) bool {
	_, err := os.Stat(filepath.Join(fs.Root(), "self", "task", strconv.Itoa(pid)))
	return err == nil
}

// descendants are pids and the processes below them, except ourselves, who are
// below the shell we were started from.
func descendants(fs procmaps.FS, pids []int) ([]int, error) {
	all, err := tracer.Descendants(fs, pids)
	return slices.DeleteFunc(all, func(pid int) bool { return pid == os.Getpid() }), err
}

// countable refuses processes of which none may have its resident memory counted, and says
// what that takes: to learn it after a minute of watching is too late.
func countable(fs procmaps.FS, pids []int, have privilege.Set) error {
	var denied error
	for _, pid := range pids {
		err := mayCount(fs, pid)
		if !errors.Is(err, os.ErrPermission) {
			return nil // it may, or is gone by now, or has something else in the way, which is told later
		}
		denied = cmp.Or(denied, err)
	}
	if denied == nil {
		return nil
	}
	missing := privilege.Of(unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH) &^ have
	if missing == 0 {
		return denied // a security module forbids it
	}
	return &codedError{exitUnsupported, fmt.Errorf("%v: to count the resident memory of other users' processes takes %s too, or root", denied, inCapitals(missing))} //nolint:errorlint // what it wraps takes less
}

// inCapitals names capabilities as capabilities(7) does.
func inCapitals(s privilege.Set) string {
	return strings.ReplaceAll(strings.ToUpper(s.String()), ",", " and ")
}

func mayCount(fs procmaps.FS, pid int) error {
	p, err := fs.Process(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.CanCount(); err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	return nil
}
