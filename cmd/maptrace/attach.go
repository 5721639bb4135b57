package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/site"
)

// attachOptions are the flags of every command that traces.
type attachOptions struct {
	target
	output    string // text or json
	toFile    string
	duration  time.Duration
	ring      sizeValue
	readyFile string
	verbose   bool
	poll      time.Duration // how often to look at /proc instead of tracing, for trace; 0 not to
	counts    bool          // nothing can be said where resident memory may not be counted

	calls *await.Calls // bounds the waiting for what targets can delay
}

func (o *attachOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false // they are grouped, in the order in which they are of use
	o.target.addFlags(cmd)
	o.calls = await.New()
	f := cmd.Flags()
	addOutputFlags(cmd, &o.output, &o.toFile)
	addOldOutputFlag(cmd, &o.output)
	f.Var(&o.ring, "ring", "`SIZE` of the ring the kernel writes events to (default 16M)")
	f.StringVar(&o.readyFile, "ready-file", "", "create `FILE` once everything is attached and read")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell more on standard error")
	group(cmd, groupOutput, "ready-file", "verbose")
	group(cmd, groupCost, "ring")
}

// memoryOptions is the flag of commands that keep stacks, and what is made of them.
type memoryOptions struct{ memory sizeValue }

// What is usual, what little is of use with, and more than there is.
const (
	usualMemory = 256 << 20
	leastMemory = 16 << 20
	mostMemory  = 1 << 50
)

// addFlags adds the flag; what says what the memory is for.
func (o *memoryOptions) addFlags(cmd *cobra.Command, what string) {
	cmd.Flags().Var(&o.memory, "memory", "`SIZE` of memory for "+what+", of all processes together (default 256M)")
	group(cmd, groupCost, "memory")
}

func (o *memoryOptions) check() error {
	if o.memory != 0 && o.memory < leastMemory || o.memory > mostMemory {
		return usagef("--memory %s: want at least 16M", &o.memory)
	}
	return nil
}

// bytes is how much there is.
func (o *memoryOptions) bytes() uint64 { return cmp.Or(uint64(o.memory), usualMemory) }

// check finds what is wrong with the flags before anything is done.
func (o *attachOptions) check() error {
	switch {
	case o.living() && len(o.argv) > 0:
		return usagef("say what to trace: processes that are there, or a command after --, not both")
	case !o.living() && len(o.argv) == 0:
		return usagef("say what to trace: PID, --comm NAME, --cgroup PATH, --container NAME, or -- CMD [ARG…]")
	}
	page := uint64(os.Getpagesize())
	if r := uint64(o.ring); r != 0 && (r < page || r&(r-1) != 0 || r > 1<<30) {
		return usagef("--ring %s: want a power of two from a page to 1G, as 16M", &o.ring)
	}
	return nil
}

// arguments takes the numbers of processes, and after -- the command to trace. A command
// is watched to its end unless it was said for how long.
func (o *attachOptions) arguments(cmd *cobra.Command, args []string) error {
	words := args
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		words, o.argv = args[:at], args[at:]
	}
	for i, word := range words {
		n, ok := processNumber(word)
		if !ok {
			return o.noProcess(cmd, words[i:], i == 0)
		}
		o.pids = append(o.pids, n)
	}
	if len(o.argv) > 0 && !spanGiven(cmd) {
		o.duration = 0
	}
	return nil
}

// noProcess says what may have been meant by a word that is no process number, with those
// behind it; it may be the first.
func (o *attachOptions) noProcess(cmd *cobra.Command, words []string, first bool) error {
	word := words[0]
	_, err := parseSpan(word)
	hint := "want one as 1234"
	switch named := strings.ContainsFunc(word, isLetter); {
	case err == nil && o.poll != 0:
		return usagef("write the interval of --poll with =, as --poll=%s", word)
	case named && len(o.argv) > 0:
		hint = "put -- before the whole command to trace"
	case named && first:
		hint = fmt.Sprintf("for processes of that name --comm %s; to start a command put -- before it, as %s -- %s",
			word, cmd.CommandPath(), strings.Join(words, " "))
	case named:
		hint = "for processes of that name --comm " + word
	}
	return usagef("%q is no process number: %s", word, hint)
}

// printing runs what prints, to where the output is to go.
func (o *attachOptions) printing(s streams, run func(out io.Writer) error) error {
	defer keepFromPipe()()
	err := printTo(s.out, o.toFile, run)
	if errors.Is(err, unix.EPIPE) {
		return &codedError{code: exitUnread}
	}
	return err
}

// printTo runs what prints, to a file if one was named.
func printTo(out io.Writer, toFile string, run func(out io.Writer) error) error {
	if toFile == "" {
		return run(out)
	}
	f, err := createFile(toFile, os.O_TRUNC, forAll)
	if err != nil {
		return err
	}
	return errors.Join(run(f), f.Close())
}

// keepFromPipe makes a closed pipe an error of the write instead of the end of
// us, until restore is called: there is something to detach. To ignore the signal
// would be inherited by the command that is traced; to catch it is not.
func keepFromPipe() (restore func()) {
	sigs := make(chan os.Signal, 1) // nobody reads it: the write tells
	signal.Notify(sigs, unix.SIGPIPE)
	return func() { signal.Stop(sigs) }
}

// attached is a session whose processes are traced, with the command that was started.
type attached struct {
	*tracer.Session
	o       *attachOptions
	cmd     *tracer.Command
	clock   render.Clock
	log     *slog.Logger
	stop    context.CancelFunc
	timer   *time.Timer   // that calls stop, if a time was given
	watches privilege.Set // what watching words of memory takes all the time
	sites   *site.Sites   // nil without stacks
	err     io.Writer
	reader  *tracer.Reader // nil without sites

	early *early      // signals that came before it runs
	ended atomic.Bool // by a signal

	verify    bool // audits were asked for
	announced bool // the file that says that we are ready is there, if it was asked for
}

// attach checks the targets before it touches the kernel, opens a session, and makes the
// processes known. Nothing is told before run.
func attach(s streams, o *attachOptions, kernel tracer.LiveOptions, opts tracer.Options, sites *site.Sites) (_ *attached, err error) {
	soon := catchEarly()
	defer func() {
		if err != nil {
			soon.release()
		}
	}()
	fs := procmaps.Default()
	if err = checkProc(fs); err != nil {
		return nil, err
	}
	state, err := privilege.Current()
	if err != nil {
		return nil, err
	}
	have := state.Permitted
	pids, err := o.find(fs, have)
	if err != nil {
		return nil, err
	}
	if o.counts {
		if err = countable(fs, pids, have); err != nil {
			return nil, err
		}
	}
	a := &attached{o: o, log: logger(s.err, o.verbose), err: s.err, sites: sites, early: soon}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	engine, err := o.open(kernel)
	if err != nil {
		return nil, err
	}
	opts.PageSize, opts.Log, opts.Calls = uint64(os.Getpagesize()), a.log, o.calls
	if sites != nil {
		opts.Sites = sites
	}
	a.Session = tracer.NewSession(engine, opts)
	var more func([]int) ([]int, error)
	if len(o.argv) > 0 {
		if a.cmd, err = tracer.StartCommand(o.argv, s.in, s.out, s.err); err != nil {
			// Whatever it is, it does not mean that tracing is not permitted.
			return nil, errors.New(err.Error())
		}
		pids = []int{a.cmd.PID()}
	} else if !o.noFollow {
		// Children that were born between the listing and the tracing.
		more = func(pids []int) ([]int, error) { return descendants(fs, pids) }
	}
	if err = a.Trace(pids, more); err != nil {
		return nil, err
	}
	if sites != nil {
		if a.reader, err = startReader(o.calls, a.toRead(have)&have); err != nil {
			return nil, err
		}
	}
	a.clock = render.NewClock(time.Now(), a.Now())
	return a, nil
}

// find lists the processes that are there. What containers are called is in files of their
// users, who may serve them themselves: another process reads those, with what it takes of
// the capabilities that we have.
func (o *attachOptions) find(fs procmaps.FS, have privilege.Set) ([]int, error) {
	if len(o.containers) > 0 {
		reader, err := startReader(o.calls, privilege.Of(unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE)&have)
		if err != nil {
			return nil, err
		}
		defer func() { _ = reader.Close() }() // it has read what it was for
	}
	return o.resolve(fs)
}

// open opens the source of events.
func (o *attachOptions) open(kernel tracer.LiveOptions) (tracer.Engine, error) {
	if o.poll != 0 {
		return tracer.NewPoll(o.poll, o.noFollow, o.calls), nil
	}
	kernel.RingBytes, kernel.NoFollow, kernel.Calls = int(o.ring), o.noFollow, o.calls
	live, err := tracer.OpenLive(kernel)
	if err != nil {
		return nil, err
	}
	return live, nil
}

// checkProc refuses what would be answered wrongly: processes go by the numbers
// that our own pid namespace gives them, and so must the ones that /proc shows.
func checkProc(fs procmaps.FS) error {
	foreign := &codedError{exitUnsupported, errors.New(
		"/proc shows the processes of another pid namespace than ours: mount ours (unshare --mount-proc does)")}
	self, err := os.Readlink(filepath.Join(fs.Root(), "self"))
	if errors.Is(err, os.ErrNotExist) {
		return foreign // we have no number there
	}
	if err != nil {
		return err
	}
	if self != strconv.Itoa(os.Getpid()) {
		return foreign
	}
	p, err := fs.Process(os.Getpid())
	if err != nil {
		return err
	}
	defer p.Close()
	status, err := p.Status()
	if err != nil {
		return err
	}
	// It lists our numbers from the namespace of /proc down to our own. Kernels
	// without such namespaces list none.
	if len(status.NSpid) > 1 {
		return foreign
	}
	return nil
}

func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelError
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

const (
	// readyPatience is how long the file that says that all is ready is waited for.
	readyPatience = 200 * time.Millisecond
	// commandPatience is how long a command that got a signal to end is waited for.
	commandPatience = 800 * time.Millisecond
)

// commandStatus is the status of a command that has ended. Who traces it with ptrace(2) may
// keep that for as long as he likes.
func (a *attached) commandStatus() (int, error) {
	type result struct {
		status int
		err    error
	}
	known := make(chan result, 1)
	go func() {
		status, err := a.cmd.Wait()
		known <- result{status, err}
	}()
	// Freeing much memory takes long, and so does everything where the CPUs are busy. What
	// is a zombie has done all of that.
	const tries = 15
	for n, zombie := 0, false; n < tries && !zombie; n++ {
		zombie = a.zombie() // who is one is waited for once more
		select {
		case r := <-known:
			return r.status, r.err
		case <-time.After(commandPatience):
		}
	}
	return 0, errors.New("the command's exit status is not known: somebody else traces it, or something of it goes on")
}

// zombie tells whether nothing of the command is left but its exit status.
func (a *attached) zombie() bool {
	ended, known := a.state()
	return known && ended
}

// running tells whether the command has not ended.
func (a *attached) running() bool {
	ended, known := a.state()
	return known && !ended
}

// state tells whether the command has ended, where that can be known.
func (a *attached) state() (ended, known bool) {
	p, err := procmaps.Default().Process(a.cmd.PID())
	if err != nil {
		return false, false
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return false, false
	}
	return st.Ended(), true
}

// run lets everything go, and calls finish when it is over. It returns the error
// that decides the exit status: that of the command, unless there is something
// more important to say.
func (a *attached) run(ctx context.Context, o tracer.RunOptions, finish func() error) error {
	ctx, a.stop = context.WithCancel(ctx)
	defer a.stop()
	if a.o.duration > 0 {
		a.timer = time.AfterFunc(a.o.duration, a.stop)
		defer a.timer.Stop()
	}
	o.Standing = a.cmd != nil
	o.Ready = a.ready
	if fs := procmaps.Default(); len(a.o.groups) > 0 && !a.o.noFollow {
		o.Members = func() ([]int, error) { return a.o.members(fs) }
	}
	run := ctx
	a.drop(ctx) // what the command may do it has by now
	o.Samplers = append(o.Samplers, &dropper{attached: a, ctx: run})
	if a.cmd != nil {
		pass, err := a.cmd.PassSignals(func() {
			a.ended.Store(true)
			time.AfterFunc(commandPatience, a.stop)
		})
		if err != nil {
			return err
		}
		defer pass()
	} else {
		var cancel context.CancelFunc
		run, cancel = signal.NotifyContext(ctx, endSignals()...)
		defer cancel()
	}
	if sig := a.early.release(); sig != nil {
		return a.endEarly(sig, finish)
	}
	guard := guardMemory(run, a.Info().Memory, a.stop)
	err := a.Run(run, o)
	if run.Err() != nil && ctx.Err() == nil {
		a.ended.Store(true)
	}
	full := guard()
	if err == nil {
		err = finish()
	}
	err = errors.Join(err, full)
	a.reportUnnamed()
	if err == nil { // else there is something more important to say, or nobody to say it to
		a.reportRunning()
	}
	// A command that outlives the tracing is not waited for, whatever went wrong.
	if a.cmd != nil && a.Ready() && run.Err() == nil {
		return a.exitStatus(err)
	}
	return errors.Join(err, a.verdict())
}

// endEarly has finish say what there is to say where the end was asked for before the
// processes were watched. A command is not let go then, as if the signal had ended it.
func (a *attached) endEarly(sig os.Signal, finish func() error) error {
	a.ended.Store(true)
	err := cmp.Or(finish(), a.verdict())
	if n, ok := sig.(unix.Signal); ok && err == nil && a.cmd != nil {
		const ofSignals = 128 // as shells have it
		err = &codedError{code: ofSignals + exitCode(n)}
	}
	return err
}

// exited tells whether the command was seen to exit: until its status is there it may not look
// like it.
func (a *attached) exited() bool {
	r := a.Report()
	return slices.ContainsFunc(r.Spaces, func(s tracer.SpaceReport) bool {
		return s.Process.PID == a.cmd.PID() && s.Process.Exited
	})
}

// reportRunning says that the command goes on though the time is over. Who sends it a signal
// knows whether it ends at that.
func (a *attached) reportRunning() {
	if a.cmd == nil || !a.Ready() || a.ended.Load() || a.exited() || !a.running() {
		return
	}
	fmt.Fprintf(a.err, "maptrace: process %d (%s) goes on running\n", a.cmd.PID(), table.Escape(filepath.Base(a.o.argv[0])))
}

// announce creates the file that was asked for. A FIFO that nobody reads yet is waited for
// by itself.
func (a *attached) announce() error {
	if a.o.readyFile == "" {
		return nil
	}
	made := make(chan error, 1)
	go func() { made <- createText(a.o.readyFile, strconv.Itoa(os.Getpid())+"\n") }()
	select {
	case err := <-made:
		return err
	case <-time.After(readyPatience):
		return nil
	}
}

// ready creates the file that was asked for, and lets the command go.
func (a *attached) ready() error {
	if a.timer != nil {
		a.timer.Reset(a.o.duration) // the time counts from here
	}
	if err := a.announce(); err != nil {
		return err
	}
	a.announced = true
	if a.cmd != nil {
		return a.cmd.Continue()
	}
	return nil
}

// reportUnnamed says why code has no names.
func (a *attached) reportUnnamed() {
	if a.sites == nil {
		return
	}
	st := a.sites.Stats()
	for _, why := range st.NamesMissing() {
		fmt.Fprintf(a.err, "maptrace: %s\n", table.Escape(why))
	}
	if n, name := a.reader.Stalled(); n > 0 {
		fmt.Fprintf(a.err, "maptrace: code has no names where its file was not read in time (files: %d): %s: %s\n",
			n, table.Escape(name), await.ErrStalled)
	}
}

// early takes the signals that ask for the end while processes are attached to, which takes a
// second: what ended us then would leave no answer.
type early struct{ sigs chan os.Signal }

func catchEarly() *early {
	e := &early{make(chan os.Signal, 1)} // one is enough
	signal.Notify(e.sigs, endSignals()...)
	return e
}

// release leaves signals to others, who may take them already, and returns one that came
// before; nil if none did.
func (e *early) release() os.Signal {
	signal.Stop(e.sigs)
	select {
	case sig := <-e.sigs:
		return sig
	default:
		return nil
	}
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
func (a *attached) exitStatus(err error) error {
	status, waitErr := a.commandStatus()
	switch verdict := a.verdict(); {
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

// verdict is an error if an audit found the picture wrong, or if audits were asked for and
// could not tell whether it is right.
func (a *attached) verdict() error {
	s := a.Stats()
	switch {
	case s.Drift > 0:
		return &codedError{exitDrift, fmt.Errorf("the tree differed from /proc in %d places: please report this", s.Drift)}
	case !a.verify:
	case s.Unverified > 0:
		return &codedError{exitDrift, errors.New("not verified: " + a.unverified(s.Unverified))}
	case s.Audits == 0 && s.AuditsUnfinished > 0:
		return &codedError{exitDrift, fmt.Errorf("%s: calls were under way, or something was in doubt, at each of %d audits", tracer.NothingVerified, s.AuditsUnfinished)}
	case s.Audits == 0:
		return &codedError{exitDrift, errors.New(tracer.NothingVerified + ": it was over too soon")}
	}
	return nil
}

// unverified says which memory audits could not compare.
func (a *attached) unverified(spaces uint64) string {
	r := a.Report()
	for i := range r.Spaces {
		if sp := &r.Spaces[i]; sp.Unverified.Bytes > 0 {
			return fmt.Sprintf("of process %d (%s), one of %d such address spaces, %s", sp.Process.PID, sp.Process.Comm, spaces, sp.Unverified)
		}
	}
	return fmt.Sprintf("of %d address spaces something could not be compared with /proc", spaces)
}

// close frees the session; a command that was never let go is ended.
func (a *attached) close() error {
	var errs []error
	if a.cmd != nil {
		errs = append(errs, a.cmd.Abandon())
	}
	errs = append(errs, a.reader.Close())
	a.reader = nil
	if a.Session != nil {
		errs = append(errs, a.Close())
		a.Session = nil
	}
	return errors.Join(errs...)
}
