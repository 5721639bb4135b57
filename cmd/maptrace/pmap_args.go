package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/getopt"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
)

// pmapOptions is a command line of pmap.
type pmapOptions struct {
	extended, device    bool   // -x, -d
	details             int    // how often -X was given
	readRC, createRC    bool   // -c, -n
	rcFrom, rcTo        string // -C, -N
	fromGiven, toGiven  bool
	quiet, path, kernel bool // -q, -p, -k
	limit               *table.Limit
	compat              table.Compat
	pids                []int

	json, csv       bool
	selection       table.Selection
	group           string
	human, rawNames bool
	watch           time.Duration
	count           int
	duration        time.Duration // with watch
	toFile          string
	changed         bool

	answer string // what -h or -V asked for, and then nothing else counts
	rc     *rcConfig
}

// pmapFlags are the options, in the order in which pmap's long names are listed
// when a word could be several.
var pmapFlags = []getopt.Option{
	{Short: 'x', Long: "extended", Help: "resident and dirty sizes too"},
	{Short: 'd', Long: "device", Help: "offset and device too"},
	{Short: 'q', Long: "quiet", Help: "no heading and no totals"},
	{Short: 'A', Long: "range", Arg: "LOW[,HIGH]", Help: "only rows in this range of addresses"},
	{Short: 'h', Long: "help", Help: "print help"},
	{Short: 'V', Long: "version", Help: "print the version"},
	{Short: 'c', Long: "read-rc", Help: "the columns that ~/.pmaprc asks for"},
	{Short: 'C', Long: "read-rc-from", Arg: "FILE", Help: "the columns that FILE asks for"},
	{Short: 'n', Long: "create-rc", Help: "create ~/.pmaprc"},
	{Short: 'N', Long: "create-rc-to", Arg: "FILE", Help: "create FILE to be read with -C"},
	{Short: 'p', Long: "show-path", Help: "whole paths instead of their last element"},
	{Short: 'k', Long: "use-kernel-name", Help: "[heap] and the like as the kernel names them"},
	{Short: 'X', Help: "what smaps has; twice: all of it"},
	{Short: 'r', Help: "ignored, as by pmap"},
	{Long: "json", Extra: true, Help: "one object a process, with all that smaps has"},
	{Long: "csv", Extra: true, Help: "the same as comma-separated values"},
	{Long: "sort", Extra: true, Arg: "KEY", Help: "largest first: size, rss, pss, swap, any smaps key"},
	{Long: "top", Extra: true, Arg: "N", Help: "only the first N rows"},
	{Long: "kind", Extra: true, Arg: "KIND,…", Help: "only anon, file, heap, stack, shm, special"},
	{Long: "group", Extra: true, Arg: "BY", Help: "add rows up by kind, path or mode"},
	{Long: "human", Extra: true, Help: "sizes with units: 96K, 1.2M"},
	{Long: "to", Extra: true, Arg: "FILE", Help: "write to FILE instead of standard output"},
	{Long: "watch", Extra: true, Arg: "TIME", Help: "print again and again what changed: 2 (s), 500ms"},
	{Long: "for", Extra: true, Arg: "TIME", Help: "with --watch: end after this time"},
	{Long: "changed", Extra: true, Help: "with --watch: only rows that have changed"},
	{Long: "count", Extra: true, Arg: "N", Help: "with --watch: end after N tables"},
	{Long: "raw-names", Extra: true, Help: "leave control characters alone on a terminal"},
	{Long: "compat", Extra: true, Arg: "VERSION", Help: "print what procps 4.0.2 or 4.0.7 (the default) does"},
}

// cutCompat takes --compat out of a command line, since what else is an option
// depends on it: -k came with 4.0.6.
func cutCompat(args []string) (rest []string, flags []getopt.Option) {
	flags = pmapFlags
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		if !given && i+1 < len(args) {
			value = args[i+1]
		}
		if name != "--compat" || value != "4.0.2" && value != "4.0.7" {
			rest = append(rest, args[i])
			continue
		}
		if !given {
			i++
		}
		flags = pmapFlags
		if value == "4.0.2" {
			flags = slices.DeleteFunc(slices.Clone(pmapFlags), func(f getopt.Option) bool { return f.Short == 'k' })
		}
	}
	return rest, flags
}

// errPmapUsage asks for pmap's usage message after what was said.
var errPmapUsage = errors.New("")

// errAnswered says that an option was a question and has been answered.
var errAnswered = errors.New("answered")

// pmapMistake is what pmap says in one line, and no more.
func pmapMistake(format string, args ...any) error {
	return &codedError{exitError, fmt.Errorf(format, args...)}
}

// set takes one option.
func (o *pmapOptions) set(f *getopt.Option, arg string, warn func(string)) (err error) {
	switch f.Long {
	case "extended":
		o.extended = true
	case "device":
		o.device = true
	case "quiet":
		o.quiet = true
	case "show-path":
		o.path = true
	case "use-kernel-name":
		o.kernel = true
	case "read-rc":
		o.readRC = true
	case "create-rc":
		o.createRC = true
	case "read-rc-from":
		o.rcFrom, o.fromGiven = arg, true
	case "create-rc-to":
		o.rcTo, o.toGiven = arg, true
	case "range":
		o.limit = new(table.Limit)
		if *o.limit, err = table.ParseLimit(arg); err != nil {
			return pmapMistake("failed to parse argument: '%s'", arg)
		}
	case "help", "version":
		o.answer = f.Long
		return errAnswered
	case "":
		if f.Short == 'r' {
			warn("option -r is ignored as SunOS compatibility")
		} else {
			o.details++
		}
	default:
		err = o.setExtra(f.Long, arg)
	}
	return err
}

// setExtra takes an option that pmap does not have.
func (o *pmapOptions) setExtra(name, arg string) (err error) {
	switch name {
	case "json":
		o.json = true
	case "csv":
		o.csv = true
	case "sort":
		o.selection.By = strings.ToLower(arg)
	case "top":
		o.selection.Top, err = positive(name, arg)
	case "count":
		o.count, err = positive(name, arg)
	case "kind":
		for word := range strings.SplitSeq(arg, ",") {
			var k procmaps.Kind
			if k, err = procmaps.ParseKind(word); err != nil {
				return pmapMistake("%w", err)
			}
			o.selection.Kinds = append(o.selection.Kinds, k)
		}
	case "group":
		if !slices.Contains(table.Groupings, arg) {
			return pmapMistake("--group %q: want %s", arg, strings.Join(table.Groupings, ", "))
		}
		o.group = arg
	case "human":
		o.human = true
	case "watch":
		const least, most = 10 * time.Millisecond, 1e6 * time.Second
		if o.watch, err = parseSpan(arg); err != nil || o.watch < least || o.watch > most {
			return pmapMistake("--watch %q: want a time from 10ms to 1000000s, as 2 (seconds), 500ms or 1m", arg)
		}
	case "for":
		if o.duration, err = parseSpan(arg); err != nil || o.duration == 0 {
			return pmapMistake("--for %q: %w", arg, errSpan)
		}
	case "to":
		o.toFile = arg
	case "changed":
		o.changed = true
	case "raw-names":
		o.rawNames = true
	case "compat": // a version that cutCompat does not know
		return pmapMistake("--compat %q: want 4.0.2 or 4.0.7", arg)
	}
	return err
}

func positive(name, arg string) (int, error) {
	n, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || n <= 0 {
		return 0, pmapMistake("--%s %q: want a number above 0", name, arg)
	}
	return int(n), nil
}

// parsePmap reads a command line in the order in which pmap looks at it. The
// error is a *getopt.Error or errPmapUsage where usage is to follow, a
// codedError, or errAnswered.
func parsePmap(args []string, warn func(string)) (*pmapOptions, error) {
	o := &pmapOptions{}
	args, flags := cutCompat(args)
	if len(flags) < len(pmapFlags) {
		o.compat = table.Compat402
	}
	if len(args) == 0 {
		return o, errPmapUsage
	}
	operands, err := getopt.Parse(flags, args, func(f *getopt.Option, arg string) error { return o.set(f, arg, warn) })
	if err != nil {
		return o, err
	}
	tables := 0
	for _, given := range []bool{o.readRC, o.fromGiven, o.device, o.createRC, o.toGiven, o.extended, o.details > 0} {
		if given {
			tables++
		}
	}
	creates := o.createRC || o.toGiven
	switch {
	case tables > 1:
		return o, pmapMistake("options -c, -C, -d, -n, -N, -x, -X are mutually exclusive")
	case creates && (o.quiet || o.path):
		return o, pmapMistake("options -p, -q are mutually exclusive with -n, -N")
	case creates && len(operands) > 0:
		return o, pmapMistake("too many arguments")
	case creates:
		return o, nil
	case len(operands) == 0:
		return o, pmapMistake("argument missing")
	}
	for _, word := range operands {
		pid, skip, ok := pmapOperand(word)
		switch {
		case !ok:
			return o, errPmapUsage
		case !skip:
			o.pids = append(o.pids, pid)
		}
	}
	if len(o.pids) == 0 {
		return o, pmapMistake("library failed pids statistics")
	}
	return o, o.checkExtra(tables > 0)
}

// checkExtra finds contradictions among the options that pmap does not have.
func (o *pmapOptions) checkExtra(layout bool) error {
	machine := o.json || o.csv
	switch {
	case o.json && o.csv:
		return pmapMistake("--json and --csv are mutually exclusive")
	case machine && layout:
		return pmapMistake("--json and --csv have the columns of all tables: leave out -c, -C, -d, -x, -X")
	case machine && o.human:
		return pmapMistake("--human is for people, --json and --csv for programs")
	case o.group != "" && layout:
		return pmapMistake("--group has columns of its own: leave out -c, -C, -d, -x, -X")
	case o.watch == 0 && (o.changed || o.count > 0 || o.duration > 0):
		return pmapMistake("--changed, --count and --for go with --watch")
	case o.watch > 0 && layout:
		return pmapMistake("--watch has columns of its own: leave out -c, -C, -d, -x, -X")
	case o.watch > 0 && o.group != "":
		return pmapMistake("--watch and --group are mutually exclusive")
	case o.watch > 0 && o.csv:
		return pmapMistake("--watch prints tables, or with --json objects, not --csv")
	case o.watch > 0 && o.json && o.changed:
		return pmapMistake("--changed is for tables: objects of --json are whole")
	}
	return nil
}

// pmapOperand reads an operand: a number as strtol(3) does in base 0, after
// "/proc/" if that is there. One that begins with "/proc/" but has no number is
// skipped.
func pmapOperand(word string) (pid int, skip, ok bool) {
	digits, proc := strings.CutPrefix(word, "/proc/")
	if digits == "" || digits[0] < '0' || digits[0] > '9' {
		return 0, true, proc
	}
	base := 10
	if digits[0] == '0' && len(digits) > 1 {
		digits, base = digits[1:], 8
		if digits[0]|0x20 == 'x' {
			digits, base = digits[1:], 16
		}
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return int(n), false, err == nil && n >= 1 && n <= math.MaxInt32
}

// layout is the table that was asked for.
func (o *pmapOptions) layout() table.Layout {
	switch {
	case o.extended:
		return table.LayoutExtended
	case o.device:
		return table.LayoutDevice
	case o.details == 1:
		return table.LayoutDetails
	case o.details > 1:
		return table.LayoutAll
	case o.readRC || o.fromGiven:
		return table.LayoutFields
	}
	return table.LayoutDefault
}

// writePmapUsage prints pmap's usage message, byte for byte.
func writePmapUsage(w io.Writer, name string, compat table.Compat) {
	kernelNames := " -k, --use-kernel-name       use names provided by kernel\n"
	if compat == table.Compat402 {
		kernelNames = ""
	}
	fmt.Fprintf(w, `
Usage:
 %s [options] PID [PID ...]

Options:
 -x, --extended              show details
 -X                          show even more details
            WARNING: format changes according to /proc/PID/smaps
 -XX                         show everything the kernel provides
 -c, --read-rc               read the default rc
 -C, --read-rc-from=<file>   read the rc from file
 -n, --create-rc             create new default rc
 -N, --create-rc-to=<file>   create new rc to file
            NOTE: pid arguments are not allowed with -n, -N
 -d, --device                show the device format
 -q, --quiet                 do not display header and footer
 -p, --show-path             show path in the mapping
%s -A, --range=<low>[,<high>]  limit results to the given range

 -h, --help     display this help and exit
 -V, --version  output version information and exit

For more details see pmap(1).
`, name, kernelNames)
}

// writePmapHelp prints the usage message and the options that pmap lacks.
func writePmapHelp(w io.Writer, name string, compat table.Compat) {
	writePmapUsage(w, name, compat)
	fmt.Fprint(w, "\nOnly maptrace has:\n")
	for _, f := range pmapFlags {
		if f.Extra {
			word := "--" + f.Long
			if f.Arg != "" {
				word += "=" + f.Arg
			}
			fmt.Fprintf(w, " %-27s %s\n", word, f.Help)
		}
	}
	fmt.Fprint(w, `
On a terminal, names that hold control characters are escaped.

Exit status: 0 done; 1 for errors; 42 if a process is not there; 43 for both.
`)
}
