package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
)

// exitMissing is pmap's own code for fewer processes than asked for.
const exitMissing exitCode = 42

// pmapOptions are the flags of pmap.
type pmapOptions struct {
	extended bool
	device   bool
	quiet    bool
	showPath bool
	pids     []int
}

func newPmap(s streams) *cobra.Command {
	var o pmapOptions
	cmd := &cobra.Command{
		Use:   "pmap [flags] PID…",
		Short: "Print the mappings of processes, as pmap does",
		Long: `pmap prints the memory mappings of processes in the tables of procps' pmap, byte
for byte. On a terminal, names that hold control characters are escaped.

Exit status: 0; 1 if mappings could not be read; 42 if a process is not there.`,
		Example: `  maptrace pmap 1234
  maptrace pmap -x 1234 5678`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which process? maptrace pmap PID…")
			}
			if o.extended && o.device {
				return usagef("options -d, -x are mutually exclusive")
			}
			for _, a := range args {
				pid, err := strconv.ParseInt(a, 10, 32)
				if err != nil || pid <= 0 {
					return usagef("%q is no process number", a)
				}
				o.pids = append(o.pids, int(pid))
			}
			return runPmap(s, &o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.extended, "extended", "x", false, "resident and dirty sizes too")
	f.BoolVarP(&o.device, "device", "d", false, "offset and device too")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no heading and no totals")
	f.BoolVarP(&o.showPath, "show-path", "p", false, "whole paths instead of their last element")
	return cmd
}

func runPmap(s streams, o *pmapOptions) error {
	opts := table.Options{Quiet: o.quiet, ShowPath: o.showPath}
	switch {
	case o.extended:
		opts.Layout = table.LayoutExtended
	case o.device:
		opts.Layout = table.LayoutDevice
	}
	if isTerminal(s.out) {
		opts.Escape = true
	}
	printer := table.NewPrinter(s.out, opts)
	// Without it System V segments are named as files, as pmap does.
	device, _ := procmaps.ShmDevice()
	code := exitOK
	for _, pid := range o.pids {
		err := printPmap(printer, pid, opts.Layout, device)
		switch {
		case errors.Is(err, procmaps.ErrGone):
			code |= exitMissing
		case errors.Is(err, fs.ErrPermission):
			code |= exitError
		case err != nil:
			return err
		}
		if err != nil {
			fmt.Fprintf(s.err, "pmap: process %d: %s\n", pid, explain(err))
		}
	}
	if code != exitOK {
		return &codedError{code: code}
	}
	return nil
}

// printPmap prints one process; like pmap, it prints the line with the command
// even when the mappings may not be read.
func printPmap(printer *table.Printer, pid int, layout table.Layout, device procmaps.Device) error {
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	proc, err := table.Describe(p)
	if err != nil {
		return err
	}
	proc.ShmDevice = device
	if err := printer.PrintHead(proc); err != nil {
		return err
	}
	if err := proc.Load(p, layout); err != nil {
		return err
	}
	return printer.PrintTable(proc)
}
