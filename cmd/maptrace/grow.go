package main

import (
	"cmp"
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

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/export"
	"github.com/maptrace/maptrace/tracer/keeper"
	"github.com/maptrace/maptrace/tracer/sample"
	"github.com/maptrace/maptrace/tracer/site"
)

// growOptions are the flags of grow.
type growOptions struct {
	attachOptions
	memoryOptions
	auto      bool // --for auto: it ends when all is certain
	interval  time.Duration
	paced     bool // --interval auto: as long as it is watched for
	top       int
	frames    int
	stackSize sizeValue
	stackRate int
	faultRate int

	watchpoints int
	insists     bool // on them, whatever privilege they take
	budget      float64
	heapBudget  float64
	pprof       string
	folded      string
	all         bool
	failOn      []string
	rules       []attribution.Rule
}

func newGrow(s streams) *cobra.Command {
	var o growOptions
	cmd := &cobra.Command{
		Use:   "grow [flags] {PID… | --comm NAME | -- CMD [ARG…]}",
		Short: "Name the mappings that grow, and the code that grows them",
		Long: `grow watches the traced processes for a while, and says which memory grows, how
fast, who makes it, who touches it, and whether it is a leak.

Memory is judged by who made it, not by its address: the functions whose calls
made it larger (mmap, brk, mremap, mprotect, shmat), the file it is of, or, if
it was there before, what it is for. The verdicts: leaks (grows all the time and
gives nothing back), grows, retained (grew, but by memory that is free inside
malloc), plateau (grew, and is flat now), sawtooth, churns (comes and goes),
steady. What is mapped is counted, and what is resident at each look, where
something has changed; who touches it is estimated from a sample of page faults,
and who keeps memory of heaps that many share from a sample of malloc's blocks,
whose allocator is probed within --heap-budget, and from words that are watched
with the CPU's debug registers: of such a heap nobody is named with less than 95
% confidence.

It ends when the traced processes have, after --for, or at ^C. A command that is
started is watched to its end unless --for says otherwise; it goes on running
then, and its number is told. For code by its name the program's symbols are
needed, for lines its debug information; without, frames are module+address.

More: "maptrace help growth", "maptrace help stacks", "maptrace help targets".`,
		Example: `  maptrace grow 1234                     until it is certain, or a minute
  maptrace grow --for 10m --json 1234    the same, longer, for programs
  maptrace grow --pprof leak.gz -- ./a   then: go tool pprof -http : leak.gz
  maptrace grow --fail-on 'growth > 10MiB/min' -- ./test`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.arguments(cmd, args); err != nil {
				return err
			}
			if o.auto = o.auto && o.duration > 0; o.paced {
				o.interval = o.pace()
			}
			if err := o.check(); err != nil {
				return err
			}
			o.withoutFaults(s.err)
			o.insists = o.watchpoints > 0 && cmd.Flags().Changed("watchpoints")
			return o.printing(s, func(out io.Writer) error { return runGrow(cmd.Context(), s, &o, out) })
		},
	}
	o.attachOptions.addFlags(cmd)
	o.counts = true
	o.memoryOptions.addFlags(cmd, "the stacks, single calls and the history that are kept")
	f := cmd.Flags()
	o.duration, o.auto, o.paced = time.Minute, true, true
	addSpanFlag(cmd, spanValue{&o.duration, &o.auto}, "watch for this `TIME`; auto: until a leak is certain, a minute at most; 0, and a command: for as long as it runs")
	f.Var(spanValue{&o.interval, &o.paced}, "interval", "look at what is mapped and resident each `TIME`; auto: as --for has it, 100ms to 1s")
	f.IntVar(&o.top, "top", 10, "list `N` groups of each process; 0 for all")
	f.BoolVar(&o.all, "all", false, "list the groups that do not grow as well")
	f.IntVar(&o.frames, "frames", 16, "print `N` frames of a stack; 0 for all")
	f.Var(&o.stackSize, "stack-size", "`SIZE` of what is copied of a stack, up to 64K (default 16K)")
	f.IntVar(&o.stackRate, "stack-rate", tracer.DefaultStackRate, "stacks of calls that one process may cost a second: `N`")
	f.IntVar(&o.faultRate, "fault-rate", defaultFaultRate, "stacks of page faults that one process may cost a second: `N`; 0 for none: then who touches memory, and who keeps a heap, is not known")
	f.IntVar(&o.watchpoints, "watchpoints", keeper.DefaultWords, "use `N` debug registers in each thread, to tell who keeps memory of heaps that many share; 0 for none")
	o.budget, o.heapBudget = defaultBudget, defaultHeapBudget
	f.Var((*percentValue)(&o.budget), "smaps-budget", "`PERCENT` of the time that counting resident pages may keep the target's mmap lock")
	f.Var((*percentValue)(&o.heapBudget), "heap-budget", "`PERCENT` of one CPU that telling who keeps a malloc heap may take from a process: its allocator is probed meanwhile; 0 leaves it alone, and does not read the profiles of Go programs")
	f.StringVar(&o.pprof, "pprof", "", "write a profile for go tool pprof to `FILE`")
	f.StringVar(&o.folded, "folded", "", "write folded stacks, for flame graphs, to `FILE`")
	f.StringArrayVar(&o.failOn, "fail-on", nil, "exit with status 6 if `RULE` is so: 'leaks', or 'growth > 10MiB/min' (repeatable)")
	group(cmd, groupWhat, "interval", "fail-on")
	group(cmd, groupOutput, "top", "all", "frames", "pprof", "folded")
	group(cmd, groupCost, "stack-size", "stack-rate", "fault-rate", "smaps-budget", "heap-budget")
	group(cmd, groupPrivileges, "watchpoints")
	addTargetCompletion(cmd)
	return cmd
}

// maxWatchpoints is as many debug registers for data as a CPU may have (arm64).
const maxWatchpoints = 16

// minInterval is as often as looks are of use.
const minInterval = 10 * time.Millisecond

// What sampling may cost unless told otherwise: stacks of page faults a second, and
// percent of the time for counting resident pages.
const (
	defaultFaultRate = 200
	defaultBudget    = 2
	// Percent of one CPU that probes of allocators may take from a process.
	defaultHeapBudget = 1
	// blockRate is how many blocks of one heap are sampled a second, as long as its allocator
	// is probed: a sixteenth of an eighth of it in a burst of each place that allocates.
	blockRate = 8192
)

// pace is how often to look: 60 times and more in all, but no more often than ten times a
// second, and each second at least. What may be over in seconds, as a command, is looked at
// four times a second.
func (o *growOptions) pace() time.Duration {
	const looks, least, unknown, most = 60, 100 * time.Millisecond, 250 * time.Millisecond, time.Second
	if o.auto || o.duration == 0 {
		return unknown
	}
	return min(max(o.duration/looks, least), most)
}

// maxStackRate is more stacks a second than anything can read.
const maxStackRate = 1_000_000

func (o *growOptions) check() error {
	if err := cmp.Or(o.attachOptions.check(), o.memoryOptions.check()); err != nil {
		return err
	}
	switch {
	case o.interval < minInterval:
		return usagef("--interval %s: want at least %s", spanText(o.interval), minInterval)
	case o.duration != 0 && o.duration < 3*o.interval:
		return usagef("--for %s: want at least three times --interval %s, or nothing can be said", spanText(o.duration), spanText(o.interval))
	case o.top < 0:
		return usagef("--top %d: want a number of groups, or 0 for all", o.top)
	case o.frames < 0:
		return usagef("--frames %d: want a number of frames, or 0 for all", o.frames)
	case o.stackSize > tracer.MaxStackBytes || o.stackSize != 0 && o.stackSize < 512:
		return usagef("--stack-size %s: want 512 to 64K", &o.stackSize)
	case o.stackRate < 1 || o.stackRate > maxStackRate:
		return usagef("--stack-rate %d: want 1 to %d", o.stackRate, maxStackRate)
	case o.faultRate < 0 || o.faultRate > maxStackRate:
		return usagef("--fault-rate %d: want 0 to %d", o.faultRate, maxStackRate)
	case o.watchpoints < 0 || o.watchpoints > maxWatchpoints:
		return usagef("--watchpoints %d: want 0 to %d", o.watchpoints, maxWatchpoints)
	case o.budget == 0:
		return usagef("--smaps-budget 0: want a percentage above 0, as 2")
	}
	for _, text := range o.failOn {
		r, err := attribution.ParseRule(text, parseSize)
		if err != nil {
			return usagef("--fail-on %w", err)
		}
		o.rules = append(o.rules, r)
	}
	return nil
}

// withoutFaults asks for nothing that page faults begin, where none are asked for: they show
// whose heap is used, and so whose blocks to sample and which words to watch.
func (o *growOptions) withoutFaults(stderr io.Writer) {
	if o.faultRate > 0 || o.heapBudget == 0 && o.watchpoints == 0 {
		return
	}
	fmt.Fprintln(stderr, "maptrace: with --fault-rate 0 no blocks of heaps are sampled and no words are watched: who keeps a heap is not known")
	o.heapBudget, o.watchpoints = 0, 0
}

// cgroups are those that are watched beside their processes.
func (o *growOptions) cgroups() (out []sample.Group) {
	for _, g := range o.groups {
		out = append(out, sample.Group{Name: g.Path(), Memory: g.Memory, Files: g.Files})
	}
	return out
}

// stacks are those that the kernel is asked for, and the blocks of heaps.
func (o *growOptions) stacks() *tracer.StackOptions {
	s := &tracer.StackOptions{Bytes: int(o.stackSize), Rate: o.stackRate, FaultRate: o.faultRate, Writes: o.watchpoints > 0}
	if o.heapBudget > 0 {
		s.BlockRate = blockRate
	}
	return s
}

// growRun is one run of grow: a sink that attributes what grows, beside the sampler that
// feeds it.
type growRun struct {
	*attached
	*attribution.Growth
	o       *growOptions
	memory  budget.Node
	sampler *sample.Sampler
	results []render.Growth
	groups  []attribution.Group
	live    *liveView
	looks   render.LiveGrowth
	certain attribution.Certainty
	judge   uint64 // when all is to be judged again, by the session's clock
	judged  int    // how often it was

	pprof, folded *output // nil unless asked for
}

// runGrow watches, and prints what was found.
func runGrow(ctx context.Context, s streams, o *growOptions, out io.Writer) (err error) {
	memory := budget.Of(o.bytes())
	sites := site.New(site.Options{MaxBytes: memory.Stacks, MaxFileBytes: int(o.bytes()), Calls: o.calls})
	settle := sample.SettleFor(o.duration)
	seen, s := o.openLive(s, true)
	defer seen.close()
	g := &growRun{
		o: o, memory: memory, live: seen,
		Growth: attribution.NewGrowth(attribution.Options{Names: sites, Interval: o.interval, Settle: settle, Memory: memory}),
	}
	defer func() { err = errors.Join(err, g.close(), sites.Close()) }()
	if g.pprof, err = openOutput(o.pprof); err != nil {
		return err
	}
	if g.folded, err = openOutput(o.folded); err != nil {
		return err
	}
	kernel := tracer.LiveOptions{Stacks: o.stacks()}
	if g.attached, err = attach(s, &o.attachOptions, kernel, tracer.Options{Memory: memory.Extents, Rows: memory.Rows}, sites); err != nil {
		return err
	}
	fs := procmaps.Default()
	if o.watchpoints > 0 {
		g.watches = privilege.Of(unix.CAP_PERFMON) // perf_event_open(2) for each word
		if o.insists && sample.Paranoid(fs) {
			g.watches |= privilege.Of(unix.CAP_SYS_ADMIN)
		}
	}
	g.sampler = sample.New(g.Info().Sampling, sample.Options{
		FS: fs, Emit: g.Emit, Trees: g.Tree, Interval: o.interval, Budget: o.budget / 100, Faults: o.faultRate > 0,
		Watchpoints: o.watchpoints, Settle: settle, Doubtful: g.Doubtful, Reach: g.Reach, Group: sites.Group, Log: g.log, Calls: o.calls,
		HeapBudget: o.heapBudget / 100, Site: sites.Site, Allocators: sites.Allocators, Sampled: g.Sampled,
		GoProgram: sites.GoProgram, Walked: sites.Walked, Groups: o.cgroups(),
	})
	run := tracer.RunOptions{Sinks: []tracer.Sink{g}, Samplers: []tracer.Sampler{g.sampler}}
	err = g.run(ctx, run, func() error { return g.finish(out) })
	// That the command failed does not keep what was found from being judged.
	if status := (*codedError)(nil); err == nil || errors.As(err, &status) && status.cause == nil {
		return cmp.Or(g.broken(), err)
	}
	return err
}

func (g *growRun) close() error {
	if g.sampler != nil {
		g.sampler.Close()
	}
	errs := []error{g.pprof.close(), g.folded.close()}
	if g.attached != nil {
		errs = append(errs, g.attached.close())
	}
	return errors.Join(errs...)
}

// Idle implements tracer.Sink: it shows what was found so far, and ends what need not go on.
func (g *growRun) Idle() error {
	now := g.Now()
	g.Publish(now)
	if now >= g.judge {
		g.judge = now + g.judgeAgain()
		if view := g.View(); view != nil && g.o.auto && g.certain.Take(view) {
			g.stop()
		}
	}
	if !g.live.isDue(now) {
		return nil
	}
	view := g.View()
	head := tui.Head{Command: "maptrace grow", About: g.about(), Foot: "^C for the answer so far"}
	var watched time.Duration
	if view != nil {
		watched = view.Watched + time.Duration(now-view.At)
		if len(view.Processes) > 1 {
			head.About = units.Count(uint64(len(view.Processes)), "process")
		}
	}
	head.Time = elapsed(watched, g.o.duration)
	if g.o.auto {
		head.Time += " at most"
	}
	seen := g.looks.Look(head, view)
	if g.live.screen {
		g.live.Show(seen)
	} else {
		g.live.Show(&tui.Status{Text: head.About + ", " + head.Time + ": " + seen.Sentence, Style: seen.Style, Foot: head.Foot})
	}
	return nil
}

// judgeAgain is after how long to judge again, in ns: each second where that may end the
// watch. Else it is to have the code named by the end, when there is little time for that,
// and becomes ever rarer: verdicts cost more than looks.
func (g *growRun) judgeAgain() uint64 {
	const first, most = time.Second / 2, time.Minute
	if g.o.auto {
		return uint64(time.Second)
	}
	g.judged++
	return uint64(min(first<<min(g.judged, 10), most))
}

// finish prints what was found.
func (g *growRun) finish(out io.Writer) error {
	g.live.close()
	now := g.Now()
	accuracy := make(map[uint64]string)
	report := g.Report()
	for i := range report.Spaces {
		sp := &report.Spaces[i]
		accuracy[sp.Process.Space] = sp.Picture.Line(g.clock.Text)
	}
	processes := g.Processes(now)
	g.groups = g.Groups(processes)
	for _, p := range processes {
		// Images that another has replaced have nothing to tell.
		if accuracy[p.Space] == "" && !p.Exited {
			continue
		}
		g.results = append(g.results, render.Growth{Process: p, Accuracy: cmp.Or(accuracy[p.Space], "not kept"), PerfMap: g.sites.HasPerfMap(p.PID)})
	}
	sites := g.sites.Stats()
	summary := render.SummarizeGrowth(&report.Stats, sites, g.Effort(), g.clock.Time(now))
	summary.Memory = render.MemoryObject{
		Budget: g.o.bytes(), Stacks: sites.Bytes, StacksEvicted: sites.Evicted,
		Series: g.memory.Series.Used(), SeriesPeak: g.memory.Series.Peak(), GroupsEvicted: g.Evicted(),
		Parts: g.memory.Parts.Used(), PartsPeak: g.memory.Parts.Peak(),
		Coarsened: report.Stats.Coarsened, Unkept: report.Stats.Unkept,
	}
	var errs []error
	switch g.o.output {
	case jsonForm:
		enc := json.NewEncoder(table.JSONWriter(out))
		for i := range g.groups {
			errs = append(errs, render.EncodeGroup(enc, &g.groups[i], g.clock.Time(now)))
		}
		for i := range g.results {
			errs = append(errs, render.EncodeGrowth(enc, &g.results[i], g.clock.Time(now)))
		}
		errs = append(errs, render.EncodeAnswer(enc, g.groups, g.results, g.ended.Load(), g.clock.Time(now)), enc.Encode(summary))
	case csvForm:
		errs = append(errs, render.WriteFindingsCSV(out, g.groups, g.results, g.clock.Time(now)))
	default:
		o := render.GrowthOptions{Most: g.o.top, All: g.o.all, Frames: g.o.frames, ASCII: !utf8Locale(os.Getenv), Width: columns(out), Interrupted: g.ended.Load()}
		notes := func(w io.Writer) error { return summary.Write(w, o.Width) }
		errs = append(errs, render.WriteGrowth(out, g.groups, g.results, o, notes))
	}
	if g.o.verbose {
		errs = append(errs, summary.WriteEffort(g.err))
	}
	profile := export.Growth{Sites: g.sites, At: g.clock.Time(now)}
	for i := range g.results {
		profile.Processes = append(profile.Processes, g.results[i].Process)
	}
	errs = append(errs, writeOutput(g.pprof, profile.WriteProfile), writeOutput(g.folded, profile.WriteFolded))
	return errors.Join(errs...)
}

// broken is an error if a rule of --fail-on is broken, or cannot be judged.
func (g *growRun) broken() error {
	if len(g.o.rules) == 0 {
		return nil
	}
	var said []string
	unjudged := ""
	for i := range g.results {
		p := &g.results[i].Process
		if p.Uncounted != "" {
			unjudged = fmt.Sprintf("process %d: %s", p.PID, p.Uncounted)
		}
		for _, r := range g.o.rules {
			if b, broken := r.CheckProcess(p); broken {
				said = append(said, fmt.Sprintf("process %d: %s", p.PID, render.Broken(&r, b)))
			}
		}
	}
	for i := range g.groups {
		for _, r := range g.o.rules {
			if b, broken := r.CheckGroup(&g.groups[i]); broken {
				said = append(said, render.Broken(&r, b))
			}
		}
	}
	if len(g.results) == 0 {
		unjudged = "no process was there for long enough to be looked at: watch for longer, or look more often (--interval)"
	}
	switch {
	case len(said) > 0:
		return &codedError{exitGrowth, errors.New(strings.Join(said, "; "))}
	case unjudged != "":
		return &codedError{exitUnsupported, errors.New("--fail-on cannot be judged: " + unjudged)}
	}
	return nil
}
