//go:build linux

// Fuzzkernel compares what maptrace says of random programs with what the kernel says.
//
// A program is made of a seed: calls that change mappings, of every kind and by every
// way into the kernel, in threads, children and signal handlers of processes that may
// do what any program may (calls.c). It runs under maptrace trace, every other time
// with --verify, and each of its processes ends with a copy of its maps. The tables
// that maptrace prints must be the same, unless it says itself that one is approximate;
// nothing impossible may have been seen, and all must end well.
//
//	go run ./testdata/fuzzkernel -maptrace ./maptrace -for 1h
//	go run ./testdata/fuzzkernel -maptrace ./maptrace -seed 7 -runs 1
//	go run ./testdata/fuzzkernel -maptrace ./maptrace -program FILE -runs 10
//
// What fails is made smaller as long as it still does, and printed with its seed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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
	sources  string
	seed     uint64
	length   time.Duration
	runs     int
	without  string
	program  string
	goOn     bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzkernel:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o := options{}
	if err = o.parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "maptrace-fuzzkernel-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	calls := filepath.Join(dir, "calls")
	//nolint:gosec // the arguments are ours
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", calls, filepath.Join(o.sources, "calls.c"))
	if msg, failed := cmd.CombinedOutput(); failed != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, failed, msg)
	}
	f := &fuzzer{maptrace: o.maptrace, calls: calls, out: out, goOn: o.goOn}
	if o.program != "" {
		return f.repeat(ctx, o.program, o.runs)
	}
	return f.fuzz(ctx, o.seed, o.runs, o.length, strings.Split(o.without, ","))
}

func (o *options) parse(args []string) error {
	f := flag.NewFlagSet("fuzzkernel", flag.ContinueOnError)
	f.StringVar(&o.maptrace, "maptrace", "./maptrace", "the `binary` to test")
	f.StringVar(&o.sources, "sources", "testdata/fuzzkernel", "the `folder` of calls.c")
	f.Uint64Var(&o.seed, "seed", 0, "the first `seed`; those that follow are counted on from it (0: a random one)")
	f.DurationVar(&o.length, "for", time.Minute, "how long new programs are made")
	f.IntVar(&o.runs, "runs", 0, "how many programs, or runs of the program, at most (0: no limit)")
	f.StringVar(&o.without, "without", "", "leave out these `kinds` of calls: "+strings.Join(kinds(), ", "))
	f.StringVar(&o.program, "program", "", "run the program in this `file`")
	f.BoolVar(&o.goOn, "go-on", false, "go on after a failure")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	for kind := range strings.SplitSeq(o.without, ",") {
		if kind != "" && !slices.Contains(kinds(), kind) {
			return fmt.Errorf("there is no kind %q", kind)
		}
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	if o.program != "" && o.runs == 0 {
		o.runs = 1
	}
	return nil
}

// kinds are those of calls that can be left out.
func kinds() []string {
	var names []string
	for i := range features {
		if features[i].name != basic {
			names = append(names, features[i].name)
		}
	}
	return names
}

// fuzzer runs programs under maptrace.
type fuzzer struct {
	maptrace, calls string
	out             io.Writer
	goOn            bool

	runs, compared, exact, died int
	drift                       uint64
}

// errFound says that maptrace was wrong.
var errFound = errors.New("what maptrace says is not what the kernel says")

// errNothing says that no program has shown anything.
var errNothing = errors.New("no table that claims to be right was compared with a copy of maps")

// fuzz makes programs until the time is over, and prints what fails.
func (f *fuzzer) fuzz(ctx context.Context, seed uint64, runs int, length time.Duration, without []string) error {
	began := time.Now()
	made, found, paused := 0, 0, time.Duration(0) // the last is what it takes to make programs smaller
	for (runs == 0 || made < runs) && time.Since(began)-paused < length && ctx.Err() == nil {
		p := generate(seed, without)
		verify := seed%2 == 1
		v, err := f.try(ctx, p, verify)
		if ctx.Err() != nil {
			break // what was compared until now is still printed
		}
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		made++
		if len(v.wrong) > 0 {
			found++
			fmt.Fprintf(f.out, "after %.0f s, %d programs: seed %d fails, --verify %t:\n%s", (time.Since(began) - paused).Seconds(), made, seed, verify, v.say())
			pause := time.Now()
			small, still, err := f.minimize(ctx, p, verify, v)
			if err != nil {
				return fmt.Errorf("seed %d: %w", seed, err)
			}
			fmt.Fprintf(f.out, "the least program found that fails, %d of %d calls:\n%v%s\n", len(small.calls), len(p.calls), small, still.say())
			paused += time.Since(pause)
			if !f.goOn {
				break
			}
		}
		seed++
	}
	fmt.Fprintf(f.out, "%d programs in %.0f s, the next seed is %d; in all %d runs, %d processes compared, %d of them said to be right; %d places found by audits, %d programs died\n",
		made, (time.Since(began) - paused).Seconds(), seed, f.runs, f.compared, f.exact, f.drift, f.died)
	if found > 0 {
		return errFound
	}
	if made > 0 && f.exact == 0 {
		return errNothing
	}
	return ctx.Err()
}

// repeat runs one program.
func (f *fuzzer) repeat(ctx context.Context, path string, runs int) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	p, err := readProgram(in)
	if err != nil {
		return err
	}
	failed := 0
	for n := range runs {
		v, err := f.try(ctx, p, n%2 == 1)
		if err != nil {
			return err
		}
		if len(v.wrong) > 0 {
			failed++
			fmt.Fprintf(f.out, "run %d, --verify %t:\n%s", n, n%2 == 1, v.say())
		}
	}
	fmt.Fprintf(f.out, "%d of %d runs fail; %d processes compared, %d of them said to be right\n", failed, runs, f.compared, f.exact)
	if failed > 0 {
		return errFound
	}
	return nil
}

// try runs a program once.
func (f *fuzzer) try(ctx context.Context, p *program, verify bool) (v *verdict, err error) {
	dir, err := os.MkdirTemp("", "maptrace-fuzzkernel-run-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err = os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the program becomes nobody
		return nil, err
	}
	file, output := filepath.Join(dir, "program"), filepath.Join(dir, "output")
	if err = os.WriteFile(file, []byte(p.String()), 0o644); err != nil { //nolint:gosec // nobody reads it
		return nil, err
	}
	args := []string{"trace", "--json", "--summary-only", "--to", output}
	if verify {
		args = append(args, "--verify")
	}
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	//nolint:gosec // the arguments are ours
	cmd := exec.CommandContext(bounded, f.maptrace, append(args, "--", f.calls, file, dir)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	f.runs++
	if bounded.Err() != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v = &verdict{}
		v.add("end", "maptrace does not end")
		return v, nil
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	v, err = judge(dir, output)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, &stderr)
	}
	code := cmd.ProcessState.ExitCode()
	copies, err := filepath.Glob(filepath.Join(dir, "maps.*"))
	if err != nil {
		return nil, err
	}
	v.died = len(copies) == 0 || code > 128
	// Where nothing could be compared in time, that is the status of --verify as well.
	const drift = 5
	told := v.drift > 0 || verify && strings.HasPrefix(stderr.String(), "maptrace: not verified: ")
	if code != 0 && !v.died && (code != drift || !told) {
		v.add("exit status", "exit status %d: %s", code, &stderr)
	}
	f.compared += v.compared
	f.exact += v.exact
	f.drift += v.drift
	if v.died {
		f.died++
	}
	return v, nil
}

// minimize leaves out lists, and then calls, as long as the program still fails in the
// same way, and returns what was wrong then. A failure may need luck: each program has
// some runs.
func (f *fuzzer) minimize(ctx context.Context, p *program, verify bool, v *verdict) (small *program, least *verdict, err error) {
	const luck, bound = 3, 90 * time.Second
	kind := v.wrong[0].kind
	least = v
	began := time.Now()
	// without reports whether the program fails without some calls, and takes that.
	without := func(left func(i int, c call) bool) (bool, error) {
		less := &program{threads: p.threads, root: p.root, settle: p.settle}
		for i, c := range p.calls {
			if !left(i, c) {
				less.calls = append(less.calls, c)
			}
		}
		for n := 0; n < luck && len(less.calls) < len(p.calls) && time.Since(began) < bound; n++ {
			v, failed := f.try(ctx, less, verify)
			if failed != nil {
				return false, failed
			}
			if v.has(kind) {
				p, least = less, v
				return true, nil
			}
		}
		return false, nil
	}
	lists := make(map[int]bool)
	for _, c := range p.calls {
		lists[c.list] = true
	}
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		if _, err = without(func(_ int, c call) bool { return c.list == list }); err != nil {
			return nil, nil, err
		}
	}
	for piece := (len(p.calls) + 1) / 2; piece > 0; piece /= 2 {
		for at := 0; at < len(p.calls); {
			still, err := without(func(i int, _ call) bool { return i >= at && i < at+piece })
			if err != nil {
				return nil, nil, err
			}
			if !still {
				at += piece
			}
		}
	}
	return p, least, nil
}
