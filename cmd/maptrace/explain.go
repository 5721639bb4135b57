package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/crash"
	"github.com/maptrace/maptrace/tracer/explain"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// explainOptions are the flags and arguments of explain.
type explainOptions struct {
	core, report string
	form, toFile string

	addr  uint64
	given bool // addr
	pid   int
}

func newExplain(s streams) *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [flags] {ADDRESS PID | [ADDRESS] {--core | --report} FILE}",
		Short: "Say what is at an address, or why a process crashed there",
		Long: `explain says what is at an address: of a living process, of one that left a core
file, or of one of which there is only the text of a crash report. It prints ten
lines at most, the answer first: the mapping and what it is for, the function
and the line, the state of the page, the neighbours and how far they are; or why
nothing is there, and of a crash, why the access was refused.

Of a core file it reads the headers and the notes, so that its size does not
matter; without an address it explains the one that the crash was about. A
report is any text with a listing as /proc/PID/maps has it (the JVM's
hs_err_pid, abrt, sanitizers, Chromium), or with the kernel's line "segfault at
…"; - is standard input.

An address is a hexadecimal number, with 0x or without. Nothing is said of what
is not known. A living process is not stopped.

More: "maptrace help addresses".`,
		Example: `  maptrace explain 0x7f12a4c8b340 1234       what is there, in process 1234?
  maptrace explain --core core.1234          why has it crashed?
  dmesg | maptrace explain --report -        the same, of the kernel's log
  maptrace explain 7f12a4c8b340 --report hs_err_pid1234.log`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.arguments(args); err != nil {
				return err
			}
			return printTo(s.out, o.toFile, func(out io.Writer) error { return runExplain(s, &o, out) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.core, "core", "", "explain the crash that left this core `FILE`")
	f.StringVar(&o.report, "report", "", "explain the crash that the text of a `FILE` is about; - for standard input")
	o.form = textForm
	f.Var(formatValue{&o.form, jsonForm}, jsonForm, "print JSON: one object")
	f.Lookup(jsonForm).NoOptDefVal = "true"
	f.StringVar(&o.toFile, "to", "", "write to `FILE` instead of standard output")
	group(cmd, groupTarget, "core", "report")
	group(cmd, groupOutput, jsonForm, "to")
	addFlagCompletion(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 1 || cmd.Flags().Changed("core") || cmd.Flags().Changed("report") {
			return nil, noFiles
		}
		return completePIDs(nil)(begun)
	}
	return cmd
}

const explainSample = "maptrace explain 0x7f12a4c8b340 1234"

// arguments reads the words that are no flags, and checks that all go together.
func (o *explainOptions) arguments(args []string) error {
	dead := o.core != "" || o.report != ""
	switch {
	case o.core != "" && o.report != "":
		return usagef("--core and --report are of two crashes: give one of them")
	case dead && len(args) > 1:
		return usagef("%q: with a file there is no process to name: maptrace explain 0x7f12a4c8b340 --core FILE", args[1])
	case !dead && len(args) == 0:
		return usagef("want an address and a process, as '%s', or --core FILE, or --report FILE", explainSample)
	case !dead && len(args) == 1:
		return usagef("want the process after the address, as '%s', or --core FILE, or --report FILE", explainSample)
	case len(args) > 2:
		return usagef("%q: want one address and one process, as '%s'", args[2], explainSample)
	}
	if len(args) == 0 {
		return nil
	}
	if len(args) == 2 && strings.HasPrefix(args[1], "0x") && isPID(args[0]) {
		return usagef("the address comes first: 'maptrace explain %s %s'", args[1], args[0])
	}
	var ok bool
	if o.addr, ok = parseAddress(args[0]); !ok {
		return usagef("%q: want an address, a hexadecimal number as 0x7f12a4c8b340 or 7f12a4c8b340", args[0])
	}
	o.given = true
	if len(args) == 2 {
		if o.pid, ok = processNumber(args[1]); !ok {
			return usagef("%q: want a process number after the address, as '%s'", args[1], explainSample)
		}
	}
	return nil
}

// parseAddress reads a hexadecimal number.
func parseAddress(word string) (addr uint64, ok bool) {
	if len(word) > 2 && (word[:2] == "0x" || word[:2] == "0X") {
		word = word[2:]
	}
	addr, err := strconv.ParseUint(word, 16, 64)
	return addr, err == nil
}

func runExplain(s streams, o *explainOptions, out io.Writer) (err error) {
	var e *render.Explanation
	switch {
	case o.core != "":
		e, err = explainCore(o)
	case o.report != "":
		e, err = explainReport(s, o)
	default:
		e, err = explainLiving(o)
	}
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	if o.form == jsonForm {
		err = render.WriteExplanationJSON(w, e)
	} else {
		err = render.WriteExplanation(w, e)
	}
	return errors.Join(err, w.Flush())
}

// explainLiving explains an address of a process.
func explainLiving(o *explainOptions) (_ *render.Explanation, err error) {
	fs := procmaps.Default()
	if err = cmp.Or(checkProc(fs), tracer.CheckTarget(fs, o.pid)); err != nil {
		return nil, err
	}
	p, err := fs.Process(o.pid)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	rows, err := p.Maps()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("process %d has no memory any more: %w", o.pid, procmaps.ErrGone)
	}
	space := explain.Space{Guards: p.Guards, Arch: runtime.GOARCH, PageBytes: uint64(os.Getpagesize())}
	for i := range rows {
		space.Rows = append(space.Rows, explain.Row{Mapping: rows[i]})
	}
	space.Threads, _ = p.ThreadInfo() // without it less is inferred
	if limits, failed := p.Rlimits(); failed == nil {
		space.StackLimit = limits.Stack
	}
	comm, _ := p.Comm() // it may be gone by now
	var d explain.Details
	if row := space.Find(o.addr); row != nil {
		reader, failed := startMappedReader()
		if failed != nil {
			return nil, failed
		}
		defer func() { _ = reader.Close() }() // it has read what it was for
		addr, _ := space.Untag(o.addr)
		d = detailsOf(p, row, addr)
	}
	return &render.Explanation{Source: "process", PID: o.pid, Comm: comm, Answer: space.Address(o.addr, &d, nil)}, nil
}

// startMappedReader starts the process that opens and reads files which are mapped: another
// user may serve them, and not answer.
func startMappedReader() (*tracer.Reader, error) {
	state, err := privilege.Current()
	if err != nil {
		return nil, err
	}
	keep := privilege.Of(unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH, unix.CAP_CHECKPOINT_RESTORE)
	return startReader(await.New(), keep&state.Permitted)
}

// detailsOf reads what there is to know of an address that is in a row.
func detailsOf(p *procmaps.Process, row *explain.Row, addr uint64) (d explain.Details) {
	if row.Name == "[vsyscall]" { // which has no page tables of the process
		return d
	}
	if page, err := pageAt(p, addr); err != nil {
		d.PageWhy = oneLine(err)
	} else {
		d.Page = &page
	}
	if !row.OfFile() {
		d.Symbol = compiledAt(p.PID(), row, addr)
		return d
	}
	if row.Inode != 0 {
		// Devices have no size that says what of them can be mapped.
		if f, err := symbol.OpenMapped(p.PID(), &row.Mapping); err == nil {
			if info, failed := f.Stat(); failed == nil {
				d.FileBytes, d.FileKnown = uint64(info.Size()), true
			}
			_ = f.Close() // it was only looked at
		}
	}
	cache := symbol.NewCache(symbol.CacheOptions{})
	defer func() { _ = cache.Close() }() // it has only read
	m, err := cache.Module(p.PID(), &row.Mapping)
	d.Symbol, d.SymbolWhy = symbolOf(m, err, row, addr)
	return d
}

func pageAt(p *procmaps.Process, addr uint64) (procmaps.Page, error) {
	r, err := p.OpenResidency()
	if err != nil {
		return procmaps.Page{}, err
	}
	defer func() { _ = r.Close() }() // it has only read
	return r.Page(addr)
}

// compiledAt is the function that a JIT compiler has put at an address, nil if it does not say.
func compiledAt(pid int, row *explain.Row, addr uint64) *explain.Symbol {
	if row.Mode&procmaps.Exec == 0 {
		return nil
	}
	cache := symbol.NewCache(symbol.CacheOptions{})
	defer func() { _ = cache.Close() }() // it has only read
	perf := cache.PerfFile(pid)
	defer func() { _ = perf.Close() }() // likewise
	name, start, _, ok := perf.Lookup(addr)
	if !ok {
		return nil
	}
	return &explain.Symbol{Function: name, Offset: addr - start}
}

// symbolOf asks a module for an address in a row that shows it, or says why it has none.
func symbolOf(m *symbol.Module, err error, row *explain.Row, addr uint64) (*explain.Symbol, string) {
	switch {
	case errors.Is(err, symbol.ErrNotELF):
		return nil, "" // data, in which there are no names
	case err != nil:
		return nil, oneLine(err)
	}
	bias, ok := m.Bias(row.Start, row.Offset)
	if !ok {
		return nil, "no segment of the file is there"
	}
	at := addr - bias
	s := &explain.Symbol{Address: at, Numbered: true}
	fn, ok := m.Function(at)
	if !ok {
		return s, ""
	}
	s.Function, s.Offset = fn.Name, at-fn.Start
	if lines := m.Lines(at, nil); len(lines) > 0 {
		s.File, s.Line = lines[0].File, lines[0].Line // of what was inlined there, if something was
	}
	return s, ""
}

// explainCore explains an address of a process that left a core file.
func explainCore(o *explainOptions) (_ *render.Explanation, err error) {
	f, err := os.OpenFile(o.core, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe that nobody writes to opens, too
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, failed := f.Stat(); failed != nil {
		return nil, failed
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: no regular file", o.core, crash.ErrNotCore)
	}
	c, err := crash.ReadCore(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.core, err)
	}
	return explainCrash(o, "core", c, func(row *explain.Row, addr uint64) (*explain.Symbol, string) {
		if row.Name == "" || !row.OfFile() || row.Name == "[vdso]" {
			return nil, ""
		}
		id, err := c.BuildID(row.Name)
		switch {
		case errors.Is(err, symbol.ErrNotELF):
			return nil, ""
		case err != nil:
			return nil, oneLine(err)
		case id == "":
			return nil, "the file has no build ID, by which it could be found here"
		}
		m, err := symbol.OpenBuild(row.Path(), id)
		switch {
		case errors.Is(err, symbol.ErrReplaced):
			return nil, "the file here has another build ID than " + id
		case err != nil:
			return nil, oneLine(err)
		}
		defer func() { _ = m.Close() }() // it was only read
		return symbolOf(m, nil, row, addr)
	})
}

// explainReport explains an address of a process that a text is about.
func explainReport(s streams, o *explainOptions) (_ *render.Explanation, err error) {
	in := s.in
	if o.report != "-" {
		f, failed := os.Open(o.report)
		if failed != nil {
			return nil, failed
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	c, err := crash.ReadReport(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmp.Or(strings.TrimPrefix(o.report, "-"), "standard input"), err)
	}
	cache := symbol.NewCache(symbol.CacheOptions{})
	defer func() { err = errors.Join(err, cache.Close()) }()
	return explainCrash(o, "report", c, func(row *explain.Row, addr uint64) (*explain.Symbol, string) {
		if row.Inode == 0 {
			return nil, ""
		}
		// The report may be of another machine: only the file with that inode number here
		// has names that are true.
		m, err := cache.Module(0, &row.Mapping)
		if err != nil {
			return nil, "the file is not here, or is another one by now"
		}
		return symbolOf(m, nil, row, addr)
	})
}

// explainCrash explains the address that was asked for, or that the crash was about.
func explainCrash(o *explainOptions, source string, c *crash.Crash, name func(*explain.Row, uint64) (*explain.Symbol, string)) (*render.Explanation, error) {
	e := &render.Explanation{Source: source, PID: c.PID, Comm: c.Comm}
	at := func(addr uint64, f *explain.Fault) *explain.Answer {
		var d explain.Details
		if row := c.Find(addr); row != nil {
			plain, _ := c.Untag(addr)
			d.Symbol, d.SymbolWhy = name(row, plain)
		}
		return c.Address(addr, &d, f)
	}
	var f *explain.Fault
	if len(c.Faults) > 0 {
		f = &c.Faults[0]
	}
	switch {
	case o.given:
		for i := range c.Faults {
			if c.Faults[i].HasAddr && c.Faults[i].Address == o.addr {
				e.Answer = at(o.addr, &c.Faults[i])
				return e, nil
			}
		}
		e.Answer = at(o.addr, nil)
		return e, nil
	case f == nil:
		return nil, usagef("the %s does not say what the crash was about: give an address, as 'maptrace explain 0x7f12a4c8b340 --%s FILE'", source, source)
	case f.HasAddr:
		e.Answer = at(f.Address, f)
	default:
		e.Fault = f
	}
	if f.HasIP {
		e.At = at(f.IP, nil)
	}
	return e, nil
}
