package main

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/tracer"
)

// ownProcess marks the context of a program that has its process to itself, and
// may give up what the process may do.
type ownProcess struct{}

// toRead are the capabilities that it takes to read what there is of the processes.
func (a *attached) toRead(have privilege.Set) privilege.Set {
	// /proc/PID/maps and its kin, of children to come too. Since 6.15
	// CAP_PERFMON opens some of these, for those who have no more.
	keep := privilege.Of(unix.CAP_SYS_PTRACE)
	if !have.Has(unix.CAP_SYS_PTRACE) {
		keep |= privilege.Of(unix.CAP_PERFMON)
		// Nor may they look at a process that may do what they may not:
		// security/commoncap.c:cap_ptrace_access_check.
		for _, pid := range a.PIDs() {
			if s, err := privilege.StateOf(pid); err == nil { // else it has ended
				keep |= s.Permitted
			}
		}
	}
	if a.sites != nil {
		// Programs, libraries and JIT maps that are for their owner alone, and
		// pagemap and map_files of others, which are so too. CAP_SYS_ADMIN opens the
		// last as well, and everything else.
		keep |= privilege.Of(unix.CAP_DAC_READ_SEARCH, unix.CAP_CHECKPOINT_RESTORE)
	}
	return keep
}

// needed are the capabilities that are of use once everything is attached and the
// command is there. The kernel side is used through descriptors alone, which
// wants none: only making maps and loading programs does (since Linux 5.19).
func (a *attached) needed(have privilege.Set) privilege.Set {
	keep := a.toRead(have) | a.watches
	if a.cmd != nil {
		keep |= privilege.Of(unix.CAP_KILL) // to pass signals on to one that is another user by now
	}
	if !a.announced && a.o.readyFile != "" {
		keep |= privilege.Of(unix.CAP_DAC_OVERRIDE) // to create it, in a directory of others
	}
	return keep
}

// dropper gives up the capability that creating the file which says that all is ready
// takes, once it is there. That takes every thread, so it is done when none of them waits
// for a process.
type dropper struct {
	*attached
	ctx  context.Context //nolint:containedctx // it says whose process this is
	done bool
}

// Change implements tracer.Sampler, as the others do.
func (d *dropper) Change(*tracer.Change) {}

func (d *dropper) Idle() {
	if d.announced && !d.done {
		d.done = d.o.readyFile == "" || d.o.calls.Quietly(func() { d.drop(d.ctx) })
	}
}

func (d *dropper) Finish() {}

// drop gives up every capability but those. That it cannot is no reason not to go on.
func (a *attached) drop(ctx context.Context) {
	if ctx.Value(ownProcess{}) == nil {
		return
	}
	before, err := privilege.Current()
	keep := a.needed(before.Permitted)
	if err == nil {
		err = privilege.Keep(keep)
	}
	if err != nil {
		a.log.Info("not all capabilities could be given up", "error", err)
		return
	}
	a.log.Info("gave up capabilities", "gave", before.Permitted&^keep, "kept", before.Permitted&keep, "no_new_privs", true)
}
