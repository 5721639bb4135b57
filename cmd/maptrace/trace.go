package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// traceOptions are the flags of trace.
type traceOptions struct {
	attachOptions
	memoryOptions
	ops        []string
	minSize    sizeValue
	kinds      []string
	glob       string
	tids       []int
	failed     bool
	count      int
	summary    bool
	tableEvery time.Duration
	verify     bool
	paths      bool
	all        bool
	stack      bool
}

func newTrace(s streams) *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace [flags] {PID… | --comm NAME | -- CMD [ARG…]}",
		Short: "Print every change of a process' mappings as it happens",
		Long: `trace prints one line for each change of the mappings of the traced processes
and their descendants, and at the end a pmap-style table of each process with
what has changed since the start (--all for the rest), and how far all of it can
be trusted. If resident memory grew meanwhile, it says so: no mapping need
change for that, and "maptrace grow" tells which it is.

Columns: the time; process and thread; the operation; the address; the change of
the mapped size in KiB with its sign, or the size of the range where nothing
came or went; the mode; the mapping; and what became of what was there.

--container takes the prefix of the ID or name of a running container of docker,
containerd, cri-o or podman, or POD/NAME, or NAMESPACE/POD/NAME; --cgroup a path
of /proc/PID/cgroup, a directory below /sys/fs/cgroup, or a systemd unit (nginx,
user.slice). No daemon is asked. Processes that enter later are looked for once
a second. Where a process goes by another number in its container, that follows
its own in parentheses: 1234(7)/1235.

It ends when the traced processes have, after --for or --count, or at ^C.
The exit status is that of the command, if one was started; what the command
itself prints goes where it always goes, so use --to to keep the two apart.

With --poll nothing is attached to the kernel, and no privilege is needed for
one's own processes: their maps are read again and again, and what differs is
printed, marked as seen by polling. What comes and goes between two looks is not
seen, nor which call or thread it was, nor a child whose parent has ended
meanwhile.

More: "maptrace help columns", "maptrace help figures", "maptrace help targets",
"maptrace help accuracy".`,
		Example: `  maptrace trace 1234
  maptrace trace --container web
  maptrace trace --op mmap,munmap,brk --min-size 1M -- ./server --port 80
  maptrace trace --summary-only --for 10s --json 1234
  maptrace trace --poll=50ms 1234             without privilege`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.arguments(cmd, args); err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			return o.printing(s, func(out io.Writer) error { return runTrace(cmd.Context(), s, &o, out) })
		},
	}
	o.attachOptions.addFlags(cmd)
	o.memoryOptions.addFlags(cmd, "single calls, the stacks of --stack and the names of their code")
	f := cmd.Flags()
	f.StringSliceVar(&o.ops, "op", nil, "only these operations: `OP,…` of mmap, munmap, brk, mremap, mprotect, madvise, stack, fork, exec, …")
	f.Var(&o.minSize, "min-size", "only changes of at least this `SIZE` (64K, 1M, …)")
	f.StringSliceVar(&o.kinds, "kind", nil, "only these mappings: `KIND,…` of anon, file, heap, stack, shm, special")
	f.StringVar(&o.glob, "path", "", "only mappings whose path or its last element matches `GLOB`")
	f.Var(numbersValue{&o.tids, "thread"}, "tid", "only changes made by the thread `TID` (repeatable)")
	f.BoolVar(&o.failed, "failed", false, "also calls that failed, with their error, and those that seccomp suppressed")
	addSpanFlag(cmd, span(&o.duration, 0), "stop after this `TIME` (10s, 5m, …)")
	f.IntVar(&o.count, "count", 0, "stop after `N` lines")
	f.BoolVar(&o.summary, "summary-only", false, "print no changes, only the tables and figures at the end")
	f.Var(span(&o.tableEvery, 0), "table-every", "also print the tables after each `TIME`")
	f.BoolVar(&o.verify, "verify", false, "compare the tree with /proc/PID/maps all the time; exit status 5 if they ever differ, or could not be compared")
	f.BoolVar(&o.stack, "stack", false, "print the stack of each call that makes memory larger, or lets it be written")
	f.Var((*pollValue)(&o.poll), "poll", "trace nothing: look at /proc/PID/maps each `TIME`, which needs no privilege")
	f.Lookup("poll").NoOptDefVal = tracer.DefaultPoll.String()
	f.BoolVar(&o.paths, "show-path", false, "whole paths instead of their last element")
	f.BoolVar(&o.all, "all", false, "tables with the rows that are as at first, too")
	group(cmd, groupWhat, "op", "min-size", "kind", "path", "tid", "failed", "count", "verify")
	group(cmd, groupOutput, "all", "summary-only", "table-every", "stack", "show-path")
	group(cmd, groupPrivileges, "poll")
	addTargetCompletion(cmd)
	return cmd
}

// check finds what is wrong with the flags before anything is done.
func (o *traceOptions) check() error {
	if err := cmp.Or(o.attachOptions.check(), o.memoryOptions.check()); err != nil {
		return err
	}
	for _, k := range o.kinds {
		if _, err := procmaps.ParseKind(k); err != nil {
			return usagef("--kind: %w", err)
		}
	}
	for _, op := range o.ops {
		if !slices.Contains(operations, op) {
			return usagef("--op %q: want one of %s", op, strings.Join(operations, ", "))
		}
	}
	if _, err := path.Match(o.glob, ""); err != nil {
		return usagef("--path %q: a bracket is not closed: want a pattern as 'lib*.so'", o.glob)
	}
	if o.count > 0 && o.summary {
		return usagef("--count counts the lines that --summary-only leaves out: use --for")
	}
	if o.output == csvForm && o.tableEvery > 0 {
		return usagef("--table-every prints several tables, and --csv is one: use --json")
	}
	if o.stack && o.summary {
		return usagef("--stack prints stacks with the lines that --summary-only leaves out")
	}
	if o.poll != 0 && o.ring != 0 {
		return usagef("--ring is for what --poll does without")
	}
	if o.poll != 0 && (o.stack || o.failed || o.verify || len(o.tids) > 0) {
		return usagef("--poll sees what has changed, and no calls: not with --stack, --failed, --tid or --verify")
	}
	if o.count < 0 {
		return usagef("--count %d: want a number of lines, as 100", o.count)
	}
	return nil
}

// runTrace sets everything up, runs, and prints the end.
func runTrace(ctx context.Context, s streams, o *traceOptions, out io.Writer) (err error) {
	var seen *liveView
	if o.toFile != "" || !isPipe(s.out) { // whose reader may print the lines on the terminal
		seen, s = o.openLive(s, false)
		defer seen.close()
	}
	if o.toFile == "" {
		out = s.out // which scrolls above what is seen
	}
	p, err := openTrace(s, o)
	if err != nil {
		return err
	}
	p.live = seen
	defer func() { err = errors.Join(err, p.close()) }()
	return p.run(ctx, out)
}
