package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// errBPFPermission marks a refusal of the kernel side, for explain.
var errBPFPermission = errors.New("the kernel does not let us load BPF programs")

// traceOptions are the flags of trace.
type traceOptions struct {
	target
	ops        []string
	minSize    sizeValue
	kinds      []string
	glob       string
	tids       []int
	failed     bool
	duration   time.Duration
	count      int
	output     string
	toFile     string
	summary    bool
	tableEvery time.Duration
	verify     bool
	paths      bool
	ring       sizeValue
	readyFile  string
	verbose    bool
}

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

func newTrace(s streams) *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace [flags] {-p PID | --comm NAME | -- CMD [ARG…]}",
		Short: "Print every change of a process' mappings as it happens",
		Long: `trace prints one line for each change of the mappings of the traced processes
and their descendants, and at the end a pmap-style table of each process with
what has changed since the start, and how far all of it can be trusted.

Columns: the time; process and thread; the operation; the address; the change of
the mapped size in KiB with its sign, or the size of the range where nothing came
or went; the mode; the mapping; and what became of what was there.

It ends when the traced processes have, after --duration or --count, or at ^C.
The exit status is that of the command, if one was started; what the command
itself prints goes where it always goes, so use --to to keep the two apart.`,
		Example: `  maptrace trace -p 1234
  maptrace trace --op mmap,munmap,brk --min-size 1M -- ./server --port 80
  maptrace trace -p 1234 --summary-only --duration 10s -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.argv = args
			if cmd.ArgsLenAtDash() != 0 && len(args) > 0 {
				return usagef("put -- before the command to trace, and nothing else: maptrace trace [flags] -- CMD [ARG…]")
			}
			if err := o.check(); err != nil {
				return err
			}
			return runTrace(cmd.Context(), s, &o)
		},
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.ops, "op", nil, "only these operations: mmap, munmap, brk, mremap, mprotect, madvise, stack, fork, exec, …")
	f.Var(&o.minSize, "min-size", "only changes of at least this size (64K, 1M, …)")
	f.StringSliceVar(&o.kinds, "kind", nil, "only these mappings: anon, file, heap, stack, shm, special")
	f.StringVar(&o.glob, "path", "", "only mappings whose path or its last element matches this glob")
	f.IntSliceVar(&o.tids, "tid", nil, "only changes made by this thread (repeatable)")
	f.BoolVar(&o.failed, "failed", false, "also calls that failed, with their error")
	f.DurationVar(&o.duration, "duration", 0, "stop after this long")
	f.IntVar(&o.count, "count", 0, "stop after this many lines")
	f.StringVarP(&o.output, "output", "o", "text", "form of the output: text, or json (one object a line)")
	f.StringVar(&o.toFile, "to", "", "write to this file instead of standard output")
	f.BoolVar(&o.summary, "summary-only", false, "print no changes, only the tables and figures at the end")
	f.DurationVar(&o.tableEvery, "table-every", 0, "also print the tables this often")
	f.BoolVar(&o.verify, "verify", false, "compare the tree with /proc/PID/maps all the time; exit status 5 if they ever differ")
	f.BoolVar(&o.paths, "show-path", false, "whole paths instead of their last element")
	f.Var(&o.ring, "ring", "size of the ring the kernel writes events to (default 16M)")
	f.StringVar(&o.readyFile, "ready-file", "", "create this file once everything is attached and read")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell more on standard error")
	return cmd
}

// check finds what is wrong with the flags before anything is done.
func (o *traceOptions) check() error {
	given := 0
	if len(o.pids) > 0 || len(o.comms) > 0 {
		given++
	}
	if len(o.argv) > 0 {
		given++
	}
	if given != 1 {
		return usagef("say what to trace: -p PID, --comm NAME, or -- CMD [ARG…]")
	}
	for _, pid := range o.pids {
		if pid <= 0 {
			return usagef("%d is no process number", pid)
		}
	}
	if o.output != "text" && o.output != "json" {
		return usagef("output %q: want text or json", o.output)
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
	if o.count < 0 || o.duration < 0 || o.tableEvery < 0 {
		return usagef("--count, --duration and --table-every cannot be negative")
	}
	page := uint64(os.Getpagesize())
	if r := uint64(o.ring); r != 0 && (r < page || r&(r-1) != 0 || r > 1<<30) {
		return usagef("--ring %d: want a power of two from %d to 1G", r, page)
	}
	return nil
}

// operations are the words of the OP column.
var operations = []string{
	"mmap", "munmap", "brk", "mremap", "mprotect", "pkey_mprotect", "madvise", "process_madvise",
	"mlock", "mlock2", "munlock", "mlockall", "munlockall", "mseal", "shmat", "shmdt", "remap_file_pages", "mbind",
	"name", "fork", "exec", "exit", "stack", "other", "re-read", "lost", "drift",
}

// filter decides which lines are printed.
type filter struct {
	ops     []string
	kinds   []procmaps.Kind
	tids    []int
	glob    string
	minSize uint64
	failed  bool
}

func (o *traceOptions) filter() filter {
	f := filter{ops: o.ops, tids: o.tids, glob: o.glob, minSize: uint64(o.minSize), failed: o.failed}
	for _, name := range o.kinds {
		if k, err := procmaps.ParseKind(name); err == nil {
			f.kinds = append(f.kinds, k)
		}
	}
	return f
}

func (f *filter) shows(e *render.Event) bool {
	switch {
	case e.Op == "lost" || e.Op == "drift":
		return true // nobody may miss that
	case e.Errno != 0 && !f.failed:
		return false
	case len(f.ops) > 0 && !slices.Contains(f.ops, e.Op):
		return false
	case len(f.tids) > 0 && !slices.Contains(f.tids, e.TID):
		return false
	case len(f.kinds) > 0 && !slices.Contains(f.kinds, e.Kind()):
		return false
	case f.minSize > 0 && e.Size() < f.minSize:
		return false
	case f.glob != "":
		name := e.Name()
		whole, _ := path.Match(f.glob, name) // checked already
		base, _ := path.Match(f.glob, path.Base(name))
		return name != "" && (whole || base)
	}
	return true
}

// runTrace sets everything up, runs, and prints the end.
func runTrace(ctx context.Context, s streams, o *traceOptions) (err error) {
	defer keepFromPipe()()
	out := s.out
	if o.toFile != "" {
		f, e := os.Create(o.toFile)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	se, err := openSession(s, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, se.close()) }()
	return se.run(ctx, out)
}

// keepFromPipe makes a closed pipe an error of the write instead of the end of
// us, until restore is called: there is something to detach. To ignore the signal
// would be inherited by the command that is traced; to catch it is not.
func keepFromPipe() (restore func()) {
	sigs := make(chan os.Signal, 1) // nobody reads it: the write tells
	signal.Notify(sigs, unix.SIGPIPE)
	return func() { signal.Stop(sigs) }
}

// session is one run of trace.
type session struct {
	o       *traceOptions
	live    *tracer.Live
	tr      *tracer.Tracer
	cmd     *tracer.Command
	clock   render.Clock
	text    render.Text
	filter  filter
	out     *bufio.Writer
	enc     *json.Encoder
	line    []byte
	events  []render.Event
	printed int
	stop    context.CancelFunc
	tables  time.Time    // when the next are due
	unread  map[int]bool // processes whose mappings must be known before we are ready
}

// openSession checks the targets before it touches the kernel, attaches, and
// then makes the processes known.
func openSession(s streams, o *traceOptions) (_ *session, err error) {
	fs := procmaps.Default()
	if err = checkNamespace(); err != nil {
		return nil, err
	}
	pids, err := o.resolve(fs)
	if err != nil {
		return nil, err
	}
	se := &session{o: o, filter: o.filter()}
	defer func() {
		if err != nil {
			err = errors.Join(err, se.close())
		}
	}()
	if se.live, err = tracer.OpenLive(tracer.LiveOptions{RingBytes: int(o.ring), NoFollow: o.noFollow}); err != nil {
		return nil, refusal(err)
	}
	if len(o.argv) > 0 {
		if se.cmd, err = tracer.StartCommand(o.argv, s.in, s.out, s.err); err != nil {
			// Whatever it is, it does not mean that tracing is not permitted.
			return nil, errors.New(err.Error())
		}
		pids = []int{se.cmd.PID()}
	}
	tasks, err := se.trace(fs, pids)
	if err != nil {
		return nil, err
	}
	se.clock = render.NewClock(time.Now(), se.live.Now())
	se.text = render.Text{Clock: se.clock, Paths: o.paths}
	opts := tracer.Options{
		OnChange: se.change, OnIdle: se.idle, PageSize: uint64(os.Getpagesize()), Log: logger(s.err, o.verbose),
	}
	opts.Gate, _ = se.live.Gate()
	if o.verify {
		opts.Verify = 100 * time.Millisecond
	}
	se.tr = tracer.New(se.live, se.live, opts)
	se.unread = make(map[int]bool)
	for _, task := range tasks {
		se.unread[task.PID] = true
	}
	return se, se.tr.Add(tasks, se.cmd != nil)
}

// trace makes processes known to the kernel side, and their children that were
// born between the listing and that.
func (se *session) trace(fs procmaps.FS, pids []int) ([]tracer.Task, error) {
	for {
		tasks, err := se.live.Trace(pids...)
		if err != nil {
			return nil, refusal(err)
		}
		if len(tasks) == 0 {
			return nil, fmt.Errorf("process %d: %w", pids[0], procmaps.ErrGone)
		}
		if se.o.noFollow || se.cmd != nil {
			return tasks, nil
		}
		all, err := descendants(fs, pids)
		if err != nil {
			return nil, err
		}
		if len(all) == len(pids) {
			return tasks, nil
		}
		pids = all
	}
}

// refusal marks an error of the kernel side that means a lack of permission. To
// those who may not, the first refusal may look like that of an old kernel.
func refusal(err error) error {
	denied := errors.Is(err, os.ErrPermission)
	if !denied && errors.Is(err, ebpf.ErrNotSupported) {
		denied = slices.ContainsFunc(bpf.Probe(), func(c bpf.Check) bool { return errors.Is(c.Err, os.ErrPermission) })
	}
	if denied {
		return &joined{errBPFPermission, os.ErrPermission}
	}
	return err
}

// joined is two marks that print as the first.
type joined struct{ mark, class error }

func (j *joined) Error() string   { return j.mark.Error() }
func (j *joined) Unwrap() []error { return []error{j.mark, j.class} }

// checkNamespace refuses what would be answered wrongly: the kernel side numbers
// processes as the initial pid namespace does.
func checkNamespace() error {
	const initial = "pid:[4026531836]" // include/linux/proc_ns.h: PROC_PID_INIT_INO
	// Without the link there are no such namespaces.
	if ns, _ := os.Readlink("/proc/self/ns/pid"); ns == initial || ns == "" {
		return nil
	}
	return &codedError{exitUnsupported, errors.New(
		"this is not the host's pid namespace, where the kernel's process numbers count: run maptrace on the host, or in a container with --pid=host")}
}

func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// run is the session from the first event to the last line.
func (se *session) run(ctx context.Context, out io.Writer) error {
	ctx, se.stop = context.WithCancel(ctx)
	defer se.stop()
	se.out = bufio.NewWriterSize(out, 64<<10)
	se.enc = json.NewEncoder(render.JSONWriter(se.out))
	if se.o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, se.o.duration)
		defer cancel()
	}
	if se.o.tableEvery > 0 {
		se.tables = time.Now().Add(se.o.tableEvery)
	}
	if se.o.output == "text" && !se.o.summary {
		se.line = se.text.AppendHeader(se.line[:0])
		if _, err := se.out.Write(se.line); err != nil {
			return err
		}
	}
	if se.cmd != nil {
		defer se.cmd.PassSignals()()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = signal.NotifyContext(ctx, endSignals()...)
		defer cancel()
	}
	if se.cmd != nil {
		if err := se.tellReady(); err != nil {
			return err
		}
		if err := se.cmd.Continue(); err != nil {
			return err
		}
	}
	err := se.tr.Run(ctx, se.live.Detach)
	if err == nil {
		err = se.end()
	}
	if se.cmd != nil && (ctx.Err() == nil || err != nil) {
		return se.exitStatus(err)
	}
	return errors.Join(err, se.verdict())
}

// tellReady creates the file that was asked for as soon as the mappings of all
// processes are known, and once only.
func (se *session) tellReady() error {
	if se.unread == nil {
		return nil
	}
	for pid := range se.unread {
		if !se.tr.Known(pid) {
			return nil
		}
		delete(se.unread, pid)
	}
	se.unread = nil
	if se.o.readyFile == "" {
		return nil
	}
	return os.WriteFile(se.o.readyFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644)
}

// endSignals are those that ask for the end. Under nohup(1), SIGHUP does not.
func endSignals() []os.Signal {
	sigs := []os.Signal{unix.SIGINT, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		sigs = append(sigs, unix.SIGHUP)
	}
	return sigs
}

// exitStatus waits for the command and passes its status on, if there is
// nothing more important to say.
func (se *session) exitStatus(err error) error {
	status, waitErr := se.cmd.Wait()
	switch verdict := se.verdict(); {
	case err != nil:
		return err
	case verdict != nil:
		return verdict
	case waitErr != nil:
		return waitErr
	case status != 0:
		return &codedError{code: exitCode(status)}
	}
	return nil
}

// verdict is an error if an audit found the picture wrong.
func (se *session) verdict() error {
	if n := se.tr.Report().Stats.Drift; n > 0 {
		return &codedError{exitDrift, fmt.Errorf("the tree differed from /proc in %d places: please report this", n)}
	}
	return nil
}

// change prints a change. It is called from within the loop.
func (se *session) change(c *tracer.Change) {
	if c.Kind == tracer.KindExit {
		delete(se.unread, c.TGID)
	}
	if se.o.summary && c.Kind != tracer.KindLost && c.Kind != tracer.KindDrift {
		return
	}
	se.events = render.AppendEvents(se.events[:0], c)
	for i := range se.events {
		e := &se.events[i]
		if !se.filter.shows(e) || se.o.count > 0 && se.printed >= se.o.count {
			continue
		}
		se.printed++
		// Errors are kept by the writer and reported by idle.
		if se.o.output == "json" {
			se.line = e.AppendJSON(se.line[:0], se.clock)
		} else {
			se.line = se.text.Append(se.line[:0], e)
		}
		_, _ = se.out.Write(se.line)
		if se.printed == se.o.count {
			se.stop()
		}
	}
}

// idle writes out what was printed, and tables when they are due.
func (se *session) idle() error {
	if err := se.tellReady(); err != nil {
		return err
	}
	if se.o.tableEvery > 0 && time.Now().After(se.tables) {
		se.tables = time.Now().Add(se.o.tableEvery)
		r := se.tr.Report()
		if err := se.writeTables(&r); err != nil {
			return err
		}
	}
	return se.out.Flush()
}

// end prints the tables and figures.
func (se *session) end() error {
	r := se.tr.Report()
	if err := se.writeTables(&r); err != nil {
		return err
	}
	untracked, err := se.live.Untracked()
	if err != nil {
		return err
	}
	if se.o.output == "json" {
		err = se.enc.Encode(render.Summary(&r, untracked, time.Now()))
	} else {
		if _, err = fmt.Fprintln(se.out); err == nil {
			err = render.WriteSummary(se.out, &r, untracked, se.clock)
		}
	}
	return errors.Join(err, se.out.Flush())
}

func (se *session) writeTables(r *tracer.Report) error {
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		if se.o.output == "json" {
			if err := se.enc.Encode(render.Table(sp, time.Now())); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(se.out); err != nil {
			return err
		}
		if err := render.WriteTable(se.out, sp, se.clock, se.o.paths); err != nil {
			return err
		}
	}
	return nil
}

// close frees the kernel side; a command that was never let go is ended.
func (se *session) close() error {
	var errs []error
	if se.cmd != nil {
		errs = append(errs, se.cmd.Abandon())
	}
	if se.live != nil {
		errs = append(errs, se.live.Close())
		se.live = nil
	}
	return errors.Join(errs...)
}

// sizeValue is a number of bytes on the command line: 4096, 64K, 1M, 2G.
type sizeValue uint64

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(*v), 10)
}

func (v *sizeValue) Type() string { return "size" }

func (v *sizeValue) Set(s string) error {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	shift := 0
	if n := len(t); n > 0 {
		if i := strings.IndexByte("KMGT", t[n-1]); i >= 0 {
			shift, t = 10*(i+1), t[:n-1]
		}
	}
	n, err := strconv.ParseUint(t, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return fmt.Errorf("size %q: want a number of bytes, or one with K, M, G or T", s)
	}
	*v = sizeValue(n << shift)
	return nil
}
