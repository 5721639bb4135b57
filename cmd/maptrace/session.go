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
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// errBPFPermission marks a refusal of the kernel side, for explain.
var errBPFPermission = errors.New("the kernel does not let us load BPF programs")

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
