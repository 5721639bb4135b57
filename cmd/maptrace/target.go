package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// target says which processes a command is about.
type target struct {
	pids     []int
	comms    []string
	noFollow bool
	argv     []string
}

func (t *target) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntSliceVarP(&t.pids, "pid", "p", nil, "trace this process (repeatable)")
	f.StringSliceVar(&t.comms, "comm", nil, "trace the processes of this name (repeatable)")
	f.BoolVar(&t.noFollow, "no-follow", false, "leave children alone, those there and those to come")
}

// resolve lists the processes that are there and checks each.
func (t *target) resolve(fs procmaps.FS) ([]int, error) {
	pids := slices.Clone(t.pids)
	for _, pid := range pids {
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
	if t.noFollow || len(pids) == 0 {
		return pids, nil
	}
	return descendants(fs, pids)
}

// named lists the processes of a name that can be traced. Those that end
// meanwhile are no error as long as there is another.
func named(fs procmaps.FS, comm string) ([]int, error) {
	found, err := tracer.FindComm(fs, comm)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, pid := range found {
		err := tracer.CheckTarget(fs, pid)
		switch {
		case pid == os.Getpid(), errors.Is(err, procmaps.ErrGone), errors.Is(err, tracer.ErrNoMemory):
		case err != nil:
			return nil, err
		default:
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("no other process is called %q: %w", comm, procmaps.ErrGone)
	}
	return pids, nil
}

// descendants are pids and the processes below them, except ourselves, who are
// below the shell we were started from.
func descendants(fs procmaps.FS, pids []int) ([]int, error) {
	all, err := tracer.Descendants(fs, pids)
	return slices.DeleteFunc(all, func(pid int) bool { return pid == os.Getpid() }), err
}
