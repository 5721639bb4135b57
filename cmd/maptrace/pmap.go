package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/getopt"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
)

// exitMissing is pmap's own code for fewer processes than asked for.
const exitMissing exitCode = 42

// newPmap makes the command that help and completion know. Its options are not
// cobra's to read: pmap's users bundle them, repeat them and cut them short.
func newPmap(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pmap [options] PID…",
		Short: "Print the mappings of processes, as pmap does",
		// Only the manual has these: the help is to be pmap's.
		Long: `pmap prints a table of each process' mappings: the bytes that pmap(1) of procps
4.0.7 prints, or with --compat 4.0.2 that version's. Options may be bundled,
repeated and cut short, as there. A PID may be /proc/PID. It reads /proc, once,
and uses no eBPF: for processes of one's own it needs no privileges.

The options that only maptrace has choose and order rows, add them up, print
them for programs, or print again and again what changed. Under the name pmap (a
link to maptrace, say) the program is this command.

More: "maptrace help tables".`,
		Example: `  maptrace pmap -x 1234                       sizes, resident and dirty memory
  maptrace pmap --sort rss --top 10 1234      the ten mappings with most resident memory
  maptrace pmap --group kind --human 1234     where the memory is, by what it is for
  maptrace pmap --watch 10 --changed 1234     what grows, from one table to the next`,
		DisableFlagParsing: true,
		ValidArgsFunction:  completePmap,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPmap(cmd.Context(), s, "maptrace pmap", args)
		},
	}
	cmd.SetHelpFunc(func(*cobra.Command, []string) { writePmapHelp(s.out, "maptrace pmap", table.Compat407) })
	return cmd
}

// runPmap is pmap. Name is what usage calls it; messages always begin with
// "pmap: ", and the exit codes are pmap's.
func runPmap(ctx context.Context, s streams, name string, args []string) error {
	say := func(msg string) { fmt.Fprintf(s.err, "pmap: %s\n", table.Escape(msg)) }
	o, err := parsePmap(args, say)
	var mistake *getopt.Error
	var coded *codedError
	switch {
	case err == nil:
	case errors.Is(err, errAnswered):
		if o.answer == "version" {
			_, err = fmt.Fprintf(s.out, "pmap from maptrace %s, as procps-ng 4.0.7\n", version())
			return err
		}
		writePmapHelp(s.out, name, o.compat)
		return nil
	case errors.As(err, &mistake), errors.Is(err, errPmapUsage):
		if mistake != nil {
			say(mistake.Reason)
		}
		writePmapUsage(s.err, name, o.compat)
		return &codedError{code: exitError}
	case errors.As(err, &coded):
		say(coded.Error())
		return &codedError{code: exitError}
	}
	if o.createRC || o.toGiven {
		return o.writeRC(say)
	}
	if err = o.loadRC(say); err != nil {
		return err
	}
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	err = printTo(s.out, o.toFile, func(out io.Writer) error {
		s.out = out
		r := newPmapRun(s, o, say)
		if o.watch > 0 && !o.json {
			seen, above := openLive(s, true)
			defer seen.close()
			if seen != nil && seen.screen {
				r.live, s = seen, above
			}
		}
		return r.run(ctx)
	})
	if errors.As(err, &coded) && coded.cause != nil {
		say(coded.Error())
		err = &codedError{code: coded.code}
	}
	return err
}

// writeRC is -n and -N.
func (o *pmapOptions) writeRC(say func(string)) error {
	path, failure := o.rcTo, "couldn't create the rc file"
	if o.createRC {
		var err error
		if path, err = defaultRC(say); err != nil {
			return err
		}
		failure = "couldn't create ~/.pmaprc"
	}
	switch err := createRC(path); {
	case err == nil:
		file := "rc file"
		if o.createRC {
			file = "~/.pmaprc file"
		}
		say(file + " successfully created, feel free to edit the content")
		return nil
	case errors.Is(err, errRCExists):
		say(err.Error())
	}
	say(failure)
	return &codedError{code: exitError}
}

// loadRC is -c and -C.
func (o *pmapOptions) loadRC(say func(string)) error {
	path, failure := o.rcFrom, "couldn't read the rc file"
	switch {
	case o.readRC:
		var err error
		if path, err = defaultRC(say); err != nil {
			return err
		}
		failure = "couldn't read ~/.pmaprc"
	case !o.fromGiven:
		return nil
	}
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		o.rc, err = parseRC(f, say)
	}
	if err != nil {
		say(failure)
		return &codedError{code: exitError}
	}
	o.path = o.path != o.rc.togglePath
	return nil
}

func defaultRC(say func(string)) (string, error) {
	home, ok := os.LookupEnv("HOME")
	if !ok {
		say("HOME variable undefined")
		return "", &codedError{code: exitError}
	}
	return home + "/.pmaprc", nil
}

// pmapRun is one run of pmap.
type pmapRun struct {
	o    *pmapOptions
	out  io.Writer
	say  func(string)
	opts table.Options
	// show prints a process whose head line, if the form has one, is printed.
	show func(*table.Process) error
	// head prints what stands before a table even if there will be none.
	head func(*table.Process) error
	// smaps says that the form needs numbers that only smaps has, explain that it
	// needs to know what rows are for.
	smaps, explain bool
	// selects says that rows are chosen, ordered or kept.
	selects bool
	// order is what --sort and --top ask of rows that are not mappings.
	order table.Selection
	shm   procmaps.Device

	live   *liveView    // where --watch refreshes its tables in place, nil if it appends them
	tables bytes.Buffer // those that are being made meanwhile
	last   string       // the last tables that were made
}

func newPmapRun(s streams, o *pmapOptions, say func(string)) *pmapRun {
	r := &pmapRun{o: o, out: s.out, say: say}
	r.opts = table.Options{
		Layout: o.layout(), Quiet: o.quiet, ShowPath: o.path, KernelNames: o.kernel, Limit: o.limit,
		Compat: o.compat, CLocale: !utf8Locale(os.Getenv), Human: o.human,
		Escape: !o.rawNames && isTerminal(s.out),
	}
	if o.rc != nil {
		r.opts.Fields = o.rc.fields
	}
	r.explain = o.json || o.csv || o.group != ""
	r.smaps = r.opts.Layout.NeedsSmaps() || o.selection.NeedsSmaps() || o.watch > 0
	// The printer looks at the range by itself; with the other options it must be
	// applied first.
	if r.selects = o.selection.By != "" || o.selection.Top > 0 || len(o.selection.Kinds) > 0 || r.explain || o.watch > 0; r.selects {
		o.selection.Limit = o.limit
	}
	if o.group != "" || o.watch > 0 && !o.json {
		r.order.By, r.order.Top = o.selection.By, o.selection.Top
		o.selection.By, o.selection.Top = "", 0
	}
	r.chooseForm()
	// Without it System V segments are named as files, as pmap does.
	r.shm, _ = procmaps.ShmDevice()
	return r
}

// utf8Locale tells whether text is UTF-8 here: setlocale(3).
func utf8Locale(getenv func(string) string) bool {
	locale := cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG"))
	_, codeset, _ := strings.Cut(strings.ToLower(locale), ".")
	codeset, _, _ = strings.Cut(codeset, "@")
	return codeset == "utf-8" || codeset == "utf8"
}

// run prints all processes, once or with --watch until the end.
func (r *pmapRun) run(ctx context.Context) error {
	switch {
	case r.live != nil:
		return r.refresh(ctx)
	case r.o.watch > 0:
		return r.watch(ctx)
	}
	code, err := r.all(r.o.pids)
	if err == nil && code != exitOK {
		err = &codedError{code: code}
	}
	return err
}

// all prints every process in turn and says why if one cannot be.
func (r *pmapRun) all(pids []int) (code exitCode, err error) {
	for _, pid := range pids {
		err := r.one(pid)
		switch {
		case err == nil:
			continue
		case errors.Is(err, procmaps.ErrGone):
			code |= exitMissing
		case errors.Is(err, fs.ErrPermission), errors.Is(err, procmaps.ErrParse), errors.Is(err, fs.ErrNotExist):
			code |= exitError
		default:
			return code, err
		}
		r.say(fmt.Sprintf("process %d: %s", pid, withHint(err)))
	}
	return code, nil
}

// one prints one process; like pmap, it prints the line with the command even
// when the mappings may not be read.
func (r *pmapRun) one(pid int) error {
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	proc, err := table.Describe(p)
	if err != nil {
		return err
	}
	proc.ShmDevice = r.shm
	if err := r.head(proc); err != nil {
		return err
	}
	if err := r.load(p, proc); err != nil {
		return err
	}
	if err := r.o.selection.Apply(proc); err != nil {
		return pmapMistake("%w", err)
	}
	return r.show(proc)
}

// load reads what the form needs.
func (r *pmapRun) load(p *procmaps.Process, proc *table.Process) error {
	switch {
	case r.explain:
		return proc.LoadExplained(p)
	case r.smaps && r.selects:
		return proc.Load(p, table.LayoutAll)
	case r.selects:
		return proc.Load(p, r.opts.Layout)
	}
	// Rows are printed one after the other, and kept by nobody.
	return proc.LoadPacked(p, r.opts.Layout)
}
