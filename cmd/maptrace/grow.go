package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/keeper"
)

// growOptions are the flags of grow.
type growOptions struct {
	attachOptions
	interval  time.Duration
	top       int
	frames    int
	stackSize sizeValue
	stackRate int
	faultRate int

	watchpoints int
	insists     bool // on them, whatever privilege they take
	budget      float64
	pprof       string
	folded      string
	failOn      []string
	rules       []growthRule
}

func newGrow(s streams) *cobra.Command {
	var o growOptions
	cmd := &cobra.Command{
		Use:   "grow [flags] {-p PID | --comm NAME | --cgroup PATH | --container NAME | -- CMD [ARG…]}",
		Short: "Name the mappings that grow, and the code that grows them",
		Long: `grow watches the traced processes for a while, and says which memory grows, how
fast, who makes it, who touches it, and whether it is a leak.

Memory is judged by who made it, not by its address: the functions whose calls
made it larger (mmap, brk, mremap, mprotect, shmat), the file it is of, or, if it
was there before, what it is for. The verdicts: leaks (grows all the time and gives
nothing back), grows, plateau (grew, and is flat now), sawtooth, churns (comes and
goes), steady. What is mapped is counted, and what is resident at each look, where
something has changed; who touches it is estimated from a sample of page faults, and
who keeps memory of heaps that many share from words that are watched with the CPU's
debug registers.

It ends when the traced processes have, after --for, or at ^C. A command that is
started is watched to its end unless --for says otherwise; it is not stopped then.
For code by its name the program's symbols are needed, for lines its debug
information; without, frames are module+address.`,
		Example: `  maptrace grow -p 1234                        watch for a minute
  maptrace grow --for 10m -p 1234 -o json      the same, longer, for programs
  maptrace grow --pprof leak.pb.gz -- ./server  then: go tool pprof -http : leak.pb.gz
  maptrace grow --fail-on 'anon growth > 10MiB/min' -- ./test`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.command(cmd, args); err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			o.insists = o.watchpoints > 0 && cmd.Flags().Changed("watchpoints")
			return o.printing(s, func(out io.Writer) error { return runGrow(cmd.Context(), s, &o, out) })
		},
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&o.duration, "for", time.Minute, "watch for this long; 0, and a command, for as long as it runs")
	f.DurationVar(&o.interval, "interval", time.Second, "look at what is mapped and resident this often")
	f.IntVar(&o.top, "top", 10, "list this many groups of each process; 0 for all")
	f.IntVar(&o.frames, "frames", 16, "print this many frames of a stack; 0 for all")
	f.Var(&o.stackSize, "stack-size", "how much of a stack is copied, up to 64K (default 16K)")
	f.IntVar(&o.stackRate, "stack-rate", bpf.DefaultStackRate, "stacks of calls that one process may cost a second")
	f.IntVar(&o.faultRate, "fault-rate", 200, "stacks of page faults that one process may cost a second; 0 for none")
	f.IntVar(&o.watchpoints, "watchpoints", keeper.DefaultWords, "debug registers to use in each thread, to tell who keeps memory of heaps that many share; 0 for none")
	f.Float64Var(&o.budget, "smaps-budget", 2, "percentage of the time that counting resident pages may keep the target's mmap lock")
	f.StringVar(&o.pprof, "pprof", "", "write a profile for go tool pprof to this file")
	f.StringVar(&o.folded, "folded", "", "write folded stacks, for flame graphs, to this file")
	f.StringArrayVar(&o.failOn, "fail-on", nil, "exit with status 6 if this is so: 'leaks', or 'WHAT growth > SIZE/TIME' (repeatable)")
	return cmd
}

// maxWatchpoints is as many debug registers for data as a CPU may have (arm64).
const maxWatchpoints = 16

// maxStackRate is more stacks a second than anything can read.
const maxStackRate = 1_000_000

func (o *growOptions) check() error {
	if err := o.attachOptions.check(); err != nil {
		return err
	}
	switch {
	case o.interval < 10*time.Millisecond:
		return usagef("--interval %s: want at least 10ms", o.interval)
	case o.duration != 0 && o.duration < 3*o.interval:
		return usagef("--for %s: want at least three times --interval %s, or nothing can be said", o.duration, o.interval)
	case o.top < 0 || o.frames < 0:
		return usagef("--top and --frames cannot be negative")
	case o.stackSize > bpf.MaxStackBytes || o.stackSize != 0 && o.stackSize < 512:
		return usagef("--stack-size %d: want 512 to 64K", uint64(o.stackSize))
	case o.stackRate < 1 || o.faultRate < 0:
		return usagef("--stack-rate must be at least 1, --fault-rate cannot be negative")
	case o.watchpoints < 0 || o.watchpoints > maxWatchpoints:
		return usagef("--watchpoints %d: want 0 to %d", o.watchpoints, maxWatchpoints)
	case o.stackRate > maxStackRate || o.faultRate > maxStackRate:
		return usagef("--stack-rate and --fault-rate: want at most %d", maxStackRate)
	case !(o.budget > 0 && o.budget <= 100): // which NaN is not
		return usagef("--smaps-budget %g: want a percentage", o.budget)
	}
	for _, text := range o.failOn {
		r, err := parseGrowthRule(text)
		if err != nil {
			return err
		}
		o.rules = append(o.rules, r)
	}
	return nil
}

// runGrow watches, and prints what was found.
func runGrow(ctx context.Context, s streams, o *growOptions, out io.Writer) (err error) {
	w := newGrowthWatch(s, o)
	defer func() { err = errors.Join(err, w.close()) }()
	if w.pprof, err = openOutput(o.pprof); err != nil {
		return err
	}
	if w.folded, err = openOutput(o.folded); err != nil {
		return err
	}
	kernel := tracer.LiveOptions{Stacks: &bpf.StackOptions{
		Bytes: int(o.stackSize), Rate: o.stackRate, FaultRate: o.faultRate, Writes: o.watchpoints > 0,
	}}
	opts := tracer.Options{OnChange: w.change, OnIdle: w.idle, Sites: w.sites}
	if w.attached, err = attach(s, &o.attachOptions, kernel, &opts); err != nil {
		return err
	}
	if o.watchpoints > 0 {
		w.watches = privilege.Of(unix.CAP_PERFMON) // perf_event_open(2) for each word
		if o.insists && paranoid(w.fs) {
			w.watches |= privilege.Of(unix.CAP_SYS_ADMIN)
		}
	}
	err = w.run(ctx, func() error { return w.finish(out) })
	if err != nil {
		return err
	}
	return w.broken()
}

// finish takes the last look and prints.
func (w *growthWatch) finish(out io.Writer) error {
	w.progress("")
	w.lastLook()
	w.report()
	var errs []error
	if w.o.output == "json" {
		enc := json.NewEncoder(render.JSONWriter(out))
		for i := range w.results {
			errs = append(errs, render.EncodeGrowth(enc, &w.results[i], time.Now()))
		}
		st := w.summary()
		errs = append(errs, enc.Encode(st))
	} else {
		errs = append(errs, render.WriteGrowthReports(out, w.results, w.o.top, w.o.frames, !utf8Locale(os.Getenv)))
		errs = append(errs, w.summary().Write(out))
	}
	errs = append(errs, writeOutput(w.pprof, w.writeProfile), writeOutput(w.folded, w.writeFolded))
	return errors.Join(errs...)
}

// writeOutput writes a file, if one was asked for.
func writeOutput(o *output, write func(io.Writer) error) error {
	if o == nil {
		return nil
	}
	if err := o.begin(); err != nil {
		return err
	}
	return write(o)
}

// broken is an error if a rule of --fail-on is broken, or nothing can be said.
func (w *growthWatch) broken() error {
	var said []string
	if len(w.o.rules) > 0 {
		for i := range w.results {
			if why := w.results[i].Uncounted; why != "" {
				return &codedError{exitUnsupported, fmt.Errorf("process %d: --fail-on cannot be judged: %s", w.results[i].PID, why)}
			}
		}
	}
	for _, r := range w.o.rules {
		for i := range w.results {
			if why := r.broken(&w.results[i]); why != "" {
				said = append(said, fmt.Sprintf("process %d: %s", w.results[i].PID, why))
			}
		}
	}
	if len(said) == 0 {
		return nil
	}
	return &codedError{exitGrowth, errors.New(strings.Join(said, "; "))}
}

// growthRule is one --fail-on.
type growthRule struct {
	text  string
	leaks bool
	what  growth.What
	total bool
	limit float64 // bytes a second
}

// parseGrowthRule reads 'leaks' or 'WHAT growth > SIZE/TIME'.
func parseGrowthRule(text string) (growthRule, error) {
	r := growthRule{text: text}
	words := strings.Fields(strings.ReplaceAll(text, ">", " > "))
	bad := func(why string) (growthRule, error) {
		return r, usagef("--fail-on %q: %s: want 'leaks', or 'WHAT growth > SIZE/TIME', as 'anon growth > 10MiB/min'", text, why)
	}
	if len(words) == 1 && words[0] == "leaks" {
		r.leaks = true
		return r, nil
	}
	n := len(words)
	if n < 4 || words[n-2] != ">" || words[n-3] != "growth" {
		return bad("not understood")
	}
	name := strings.Join(words[:n-3], " ")
	if name == "total" || name == growth.All.String() {
		r.total = true
	} else if what, ok := growth.ParseWhat(name); ok {
		r.what = what
	} else {
		return bad("unknown kind " + name)
	}
	amount, per, ok := strings.Cut(words[n-1], "/")
	seconds := map[string]float64{"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "hour": 3600}[per]
	if !ok || seconds == 0 {
		return bad("no time after /")
	}
	var size sizeValue
	if err := size.Set(amount); err != nil {
		return bad("no size before /")
	}
	r.limit = float64(size) / seconds
	return r, nil
}

// broken says how a rule is broken; "" if it is not.
func (r *growthRule) broken(g *render.Growth) string {
	var rate float64
	for i := range g.Findings {
		f := &g.Findings[i]
		if r.leaks && f.Label == growth.Leaks {
			return f.Sentence()
		}
		if f.Label < growth.Grows || f.Measure == growth.Mappings {
			continue
		}
		if r.total || f.What == r.what || r.what == growth.Anon && f.What == growth.Pool {
			rate += max(f.Slope, 0)
		}
	}
	if r.leaks || rate <= r.limit {
		return ""
	}
	return fmt.Sprintf("%s: %s/min", r.text, render.Bytes(rate*60))
}
