//go:build linux && (amd64 || arm64)

// Bench measures what tracing costs the traced program, others, and nobody,
// under maptrace and beside it under strace, perf trace, perf record and
// bpftrace, as far as they are installed; what maptrace pmap costs beside pmap;
// what it costs a process that its resident memory is read; and what maptrace
// grow costs beside bcc's memleak and heaptrack; whether half an hour leaves its
// memory flat and nothing lost; and whether that of grow stays within its budget on
// a node of hundreds of processes. It prints Markdown.
//
//	go run ./testdata/bench -maptrace ./maptrace [-short] [-only PART,...]
//
// Machines drift by more than a tracer costs. So a figure is never the
// difference of two runs: tracers come and go beside one running loop, and each
// slice of time under one is divided by the mean of the slices before and after
// it. Real programs are run in turn, each traced run between two that are not.
// What is printed is the median of these ratios and their quartiles.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	maptrace string
	workload string // folder of what is traced
	helpers  string // folder of timed.c and latency.c
	only     string
	short    bool
	pairs    int
	rounds   int
	slice    time.Duration
	soakFor  time.Duration
	nodeFor  time.Duration
}

// bench is what the parts share.
type bench struct {
	options
	out   io.Writer // the tables
	log   io.Writer // what is being done
	dir   string    // temporary files
	loop  string    // testdata/workload/loop.c, built
	timed string    // timed.c, built
	peers []peer    // those that can run here
	seq   int

	finders []leakFinder // that can run here; nil until they were tried
	unable  []string     // why others cannot
}

// part is one question and the code that answers it.
type part struct {
	name  string
	title string
	run   func(*bench, context.Context) error
	long  bool // takes so long that it is run only where it is named
}

var parts = []part{
	{"toggle", "The traced program", (*bench).toggled, false},
	{"untraced", "A program that is not traced", (*bench).untraced, false},
	{"loss", "Nothing lost at full speed", (*bench).losses, false},
	{"startup", "From start to attached", (*bench).startups, false},
	{"programs", "Real programs", (*bench).programs, false},
	{"pmap", "Beside pmap", (*bench).besidePmap, false},
	{"resident", "Reading resident memory again and again", (*bench).resident, false},
	{"grow", "Telling who leaks", (*bench).grow, false},
	{"bursts", "What is slow under grow", (*bench).bursts, false},
	{"whom", "Who is said to leak", (*bench).whom, false},
	{"soak", "A long time", (*bench).soak, true},
	{"node", "A whole node", (*bench).node, true},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	b := &bench{out: out, log: log}
	if err = b.parse(args); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "maptrace-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.loop, err = b.compile(ctx, filepath.Join(b.workload, "loop.c")); err != nil {
		return err
	}
	if b.timed, err = b.compile(ctx, filepath.Join(b.helpers, "timed.c")); err != nil {
		return err
	}
	var absent []string
	b.peers, absent = b.installed()
	began := time.Now()
	if err := b.heading(ctx, absent); err != nil {
		return err
	}
	for _, p := range parts {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ","), p.name) {
			continue
		}
		if b.only == "" && p.long {
			continue
		}
		fmt.Fprintf(b.out, "\n### %s\n\n", p.title)
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	fmt.Fprintf(b.log, "done in %.0f s\n", time.Since(began).Seconds())
	return nil
}

func (b *bench) parse(args []string) error {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(b.log)
	f.StringVar(&b.maptrace, "maptrace", "./maptrace", "the `binary` to measure")
	f.StringVar(&b.workload, "workload", "testdata/workload", "the `folder` of the programs that are traced")
	f.StringVar(&b.helpers, "helpers", "testdata/bench", "the `folder` of timed.c and latency.c")
	f.StringVar(&b.only, "only", "", partsHelp())
	f.BoolVar(&b.short, "short", false, "six minutes: fewer programs, shorter slices, and wider spreads")
	f.IntVar(&b.pairs, "pairs", 12, "slices of time under each tracer")
	f.IntVar(&b.rounds, "rounds", 3, "runs of each real program under each tracer, and of grow twice as many slices less one")
	f.DurationVar(&b.soakFor, "soak", 30*time.Minute, "how long the part soak takes")
	f.DurationVar(&b.nodeFor, "node", 5*time.Minute, "for how long the processes of the part node are watched")
	f.DurationVar(&b.slice, "slice", 250*time.Millisecond, "length of a slice; twice that for tools in processes of their own")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	for name := range strings.SplitSeq(b.only, ",") {
		if b.only != "" && !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	if b.short {
		given := make(map[string]bool)
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["pairs"] {
			b.pairs = 3
		}
		if !given["rounds"] {
			b.rounds = 1
		}
	}
	if b.pairs < 1 || b.rounds < 1 || b.slice <= 0 {
		return errors.New("-pairs, -rounds and -slice must be positive")
	}
	var err error
	// An argument list of bpftrace is split at spaces, and exec looks a bare
	// name up in PATH.
	if b.maptrace, err = filepath.Abs(b.maptrace); err != nil {
		return err
	}
	if _, err := os.Stat(b.maptrace); err != nil {
		return fmt.Errorf("%w: build it first, or name it with -maptrace", err)
	}
	return nil
}

// partsHelp is the help of the flag that chooses parts.
func partsHelp() string {
	var usual, long []string
	for _, p := range parts {
		if p.long {
			long = append(long, p.name)
		} else {
			usual = append(usual, p.name)
		}
	}
	return fmt.Sprintf("run only these `parts`: %s; %s only if named", strings.Join(usual, ", "), strings.Join(long, " and "))
}

// compile builds a C program as the tests do, and returns its path.
func (b *bench) compile(ctx context.Context, src string) (string, error) {
	bin := filepath.Join(b.dir, strings.TrimSuffix(filepath.Base(src), ".c"))
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-pthread", "-Wall", "-Wextra", "-Werror", "-o", bin, src)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, msg)
	}
	return bin, nil
}

// file returns a new name for a temporary file.
func (b *bench) file(what string) string {
	b.seq++
	return filepath.Join(b.dir, fmt.Sprintf("%s-%d", what, b.seq))
}

// note tells on the log what is measured now, and returns what ends the line.
func (b *bench) note(format string, args ...any) func() {
	began := time.Now()
	fmt.Fprintf(b.log, format+" ...", args...)
	return func() { fmt.Fprintf(b.log, " %.1f s\n", time.Since(began).Seconds()) }
}
