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
	stack      bool
}

func newTrace(s streams) *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace [flags] {-p PID | --comm NAME | --cgroup PATH | --container NAME | -- CMD [ARG…]}",
		Short: "Print every change of a process' mappings as it happens",
		Long: `trace prints one line for each change of the mappings of the traced processes
and their descendants, and at the end a pmap-style table of each process with
what has changed since the start, and how far all of it can be trusted.

Columns: the time; process and thread; the operation; the address; the change of
the mapped size in KiB with its sign, or the size of the range where nothing came
or went; the mode; the mapping; and what became of what was there.

--container takes the prefix of the ID or name of a running container of docker,
containerd, cri-o or podman, or POD/NAME, or NAMESPACE/POD/NAME; --cgroup a path of
/proc/PID/cgroup, a directory below /sys/fs/cgroup, or a systemd unit (nginx,
user.slice). No daemon is asked. Processes that enter later are looked for once a
second. Where a process goes by another number in its container, that follows its
own in parentheses: 1234(7)/1235.

It ends when the traced processes have, after --duration or --count, or at ^C.
The exit status is that of the command, if one was started; what the command
itself prints goes where it always goes, so use --to to keep the two apart.

With --poll nothing is attached to the kernel, and no privilege is needed for one's
own processes: their maps are read again and again, and what differs is printed,
marked as seen by polling. What comes and goes between two looks is not seen, nor
which call or thread it was, nor a child whose parent has ended meanwhile.

More: "maptrace help columns", "maptrace help figures", "maptrace help targets",
"maptrace help accuracy".`,
		Example: `  maptrace trace -p 1234
  maptrace trace --container web
  maptrace trace --op mmap,munmap,brk --min-size 1M -- ./server --port 80
  maptrace trace -p 1234 --summary-only --duration 10s -o json
  maptrace trace --poll=50ms -p 1234             without privilege`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.command(cmd, args); err != nil {
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
	f.StringSliceVar(&o.ops, "op", nil, "only these operations: mmap, munmap, brk, mremap, mprotect, madvise, stack, fork, exec, …")
	f.Var(&o.minSize, "min-size", "only changes of at least this size (64K, 1M, …)")
	f.StringSliceVar(&o.kinds, "kind", nil, "only these mappings: anon, file, heap, stack, shm, special")
	f.StringVar(&o.glob, "path", "", "only mappings whose path or its last element matches this glob")
	f.IntSliceVar(&o.tids, "tid", nil, "only changes made by this thread (repeatable)")
	f.BoolVar(&o.failed, "failed", false, "also calls that failed, with their error, and those that seccomp suppressed")
	f.DurationVar(&o.duration, "duration", 0, "stop after this long")
	f.IntVar(&o.count, "count", 0, "stop after this many lines")
	f.BoolVar(&o.summary, "summary-only", false, "print no changes, only the tables and figures at the end")
	f.DurationVar(&o.tableEvery, "table-every", 0, "also print the tables this often")
	f.BoolVar(&o.verify, "verify", false, "compare the tree with /proc/PID/maps all the time; exit status 5 if they ever differ, or could not be compared")
	f.BoolVar(&o.stack, "stack", false, "print the stack of each call that makes memory larger, or lets it be written")
	f.Var((*pollValue)(&o.poll), "poll", "trace nothing: look at /proc/PID/maps this often, which needs no privilege")
	f.Lookup("poll").NoOptDefVal = tracer.DefaultPoll.String()
	f.BoolVar(&o.paths, "show-path", false, "whole paths instead of their last element")
	return cmd
}

// check finds what is wrong with the flags before anything is done.
func (o *traceOptions) check() error {
	if err := cmp.Or(o.attachOptions.check(), o.memoryOptions.check()); err != nil {
		return err
	}
	for _, k := range o.kinds {
		if _, err := procmaps.ParseKind(k); err != nil {
			return usagef("%w", err)
		}
	}
	for _, op := range o.ops {
		if !slices.Contains(operations, op) {
			return usagef("operation %q: want one of %s", op, strings.Join(operations, ", "))
		}
	}
	if _, err := path.Match(o.glob, ""); err != nil {
		return usagef("path glob %q: %w", o.glob, err)
	}
	if o.count > 0 && o.summary {
		return usagef("--count counts the lines that --summary-only leaves out: use --duration")
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
	if o.count < 0 || o.tableEvery < 0 {
		return usagef("--count and --table-every cannot be negative")
	}
	return nil
}

// runTrace sets everything up, runs, and prints the end.
func runTrace(ctx context.Context, s streams, o *traceOptions, out io.Writer) (err error) {
	p, err := openTrace(s, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return p.run(ctx, out)
}
