//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/heaps"
)

var (
	mallocs = mode{"malloc", "malloc + free", 0}
	serving = mode{"serve", "requests, with a leak", 0}
)

// running is a program under load.
type running interface {
	progress() (float64, error) // the operations so far
	alive() error
	pid() int
	end()
}

// byCPU measures a program that keeps one CPU busy by the CPU time that it uses: how long an
// operation takes where nobody else wants the CPU.
type byCPU struct {
	running
	process int // whose CPU time it is
}

// cpuOf is the CPU time of a process so far (clock_getcpuclockid(3)).
func cpuOf(pid int) (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &ts); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// state is the CPU time so far, ns, and the operations.
func (c *byCPU) state() (cpu, ops float64, err error) {
	used, err := cpuOf(c.process)
	if err != nil {
		return 0, 0, err
	}
	ops, err = c.progress()
	return float64(used), ops, err
}

func (c *byCPU) measure(ctx context.Context, d time.Duration) (float64, error) {
	used, done, err := c.state()
	if err != nil {
		return 0, err
	}
	if err = pause(ctx, d); err != nil {
		return 0, err
	}
	cpu, ops, err := c.state()
	if err == nil && ops <= done {
		err = fmt.Errorf("the program did nothing for %v", d)
	}
	return (cpu - used) / (ops - done), err
}

// begin starts a program under load, and finds the process of it that is measured.
func (p *underLoad) begin(ctx context.Context, before ...string) (*byCPU, error) {
	w, err := p.start(ctx, before...)
	if err != nil {
		return nil, err
	}
	for _, pid := range processesOf(w.pid()) {
		// What ends meanwhile is not it.
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == p.bin {
			return &byCPU{w, pid}, nil
		}
	}
	w.end()
	return nil, fmt.Errorf("%s does not run", p.bin)
}

// underLoad is a program to be watched by tools that come and go.
type underLoad struct {
	title string
	// start starts it, with before in front of its command line, and returns when it is
	// well under way.
	start func(ctx context.Context, before ...string) (running, error)
	bin   string // the file of the program itself
}

// looping is a mode of loop.c as a program under load.
func (b *bench) looping(m mode) underLoad {
	return underLoad{m.title, func(ctx context.Context, before ...string) (running, error) { return b.startLoop(ctx, m, before...) }, b.loop}
}

// leakFinder is a tool that says which code leaks.
type leakFinder struct {
	name string
	bin  string
	// cheaper says that it is another with less to be paid for: only what that costs is asked.
	cheaper bool
	// attach is the command line that watches a process and writes to a file;
	// nil if the tool has to start it.
	attach func(b *bench, pid int, out string) []string
	// attached tells whether everything is attached.
	attached func(tool *child, out string) (bool, error)
	// start goes before the command line of a program that the tool starts.
	start func(out string) []string
	// stop ends the tool; it may take as long as it needs to print. Nil: it ends
	// with the program.
	stop func(c *child) error
	// blames reads who is said to leak the most.
	blames func(ctx context.Context, out string) (string, error)
}

// growing is maptrace grow with more options.
func growing(name string, more ...string) leakFinder {
	return leakFinder{
		name: name, bin: "maptrace",
		attach: func(b *bench, pid int, out string) []string {
			return append([]string{
				b.maptrace, "grow", "--for", "0", "--json", "--to", out, "--ready-file", out + ".ready", "-p", fmt.Sprint(pid),
			}, more...)
		},
		attached: func(_ *child, out string) (bool, error) {
			_, err := os.Stat(out + ".ready")
			return err == nil, nil
		},
		stop:   stopPeer,
		blames: firstFinding,
	}
}

// leaking is bcc's memleak with more options.
func leaking(name string, more ...string) leakFinder {
	return leakFinder{
		name: name, bin: "memleak-bpfcc",
		attach: func(_ *bench, pid int, out string) []string {
			// Python keeps back what it writes to a file unless told not to.
			argv := []string{"sh", "-c", `out=$1; shift; PYTHONUNBUFFERED=1 exec memleak-bpfcc "$@" >"$out"`, "sh", out, "-p", fmt.Sprint(pid)}
			return append(append(argv, more...), "-O", allocatorOf(pid), "3")
		},
		attached: func(c *child, out string) (bool, error) {
			text, err := os.ReadFile(out)
			if errors.Is(err, os.ErrNotExist) {
				err = nil
			}
			// It says so once all of its probes are there.
			return bytes.Contains(text, []byte("Attaching to pid")) && quiet(c), err
		},
		// It may fail when it takes its probes away, where there is no tracefs.
		stop:   stopPeer,
		blames: lastOfMemleak,
	}
}

var heaptrack = leakFinder{
	name: "heaptrack", bin: "heaptrack",
	start:  func(out string) []string { return []string{"heaptrack", "-o", out} },
	blames: firstOfHeaptrack,
}

// allocatorOf is the library in which a process has its malloc, as memleak wants it.
func allocatorOf(pid int) string {
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		return "c" // it has ended, as the tool will find
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		return "c"
	}
	for i := range rows {
		path := rows[i].Name
		for _, name := range []string{"libjemalloc", "libtcmalloc", "libmimalloc"} {
			if strings.HasPrefix(filepath.Base(path), name) {
				return path
			}
		}
	}
	return "c"
}

// quiet tells whether a tool has as many perf events open as a moment ago.
func quiet(c *child) bool {
	n, err := perfEventCount(c.pid())
	if err != nil || n == 0 {
		return false
	}
	time.Sleep(250 * time.Millisecond)
	again, err := perfEventCount(c.pid())
	return err == nil && again == n
}

// firstFinding is whom maptrace names for its first finding; "" if it names nobody.
func firstFinding(_ context.Context, out string) (string, error) {
	f, err := os.Open(out)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var o struct{ Event, Blamed string }
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return "", fmt.Errorf("output of maptrace: %w", err)
		}
		if o.Event == "finding" {
			return o.Blamed, nil
		}
	}
	return "", lines.Err()
}

// lastOfMemleak is the stack, outside of libraries of allocators, of what memleak lists at
// its end: the most. Its innermost frame is first.
func lastOfMemleak(_ context.Context, out string) (string, error) {
	text, err := os.ReadFile(out)
	if err != nil {
		return "", err
	}
	var said []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "allocations from stack"):
			said = nil
		case len(f) >= 3 && strings.HasPrefix(f[0], "0x") && !ofAllocator(line):
			said = append(said, f[1])
		}
	}
	return strings.Join(said, " < "), nil
}

// ofAllocator tells whether a line of a stack is of the C library or an allocator's.
func ofAllocator(line string) bool {
	for _, name := range []string{"[libc.", "[libjemalloc", "[libtcmalloc", "[libmimalloc"} {
		if strings.Contains(line, name) {
			return true
		}
	}
	return false
}

// firstOfHeaptrack is the stack that leaks most by heaptrack's own analysis, innermost
// first.
func firstOfHeaptrack(ctx context.Context, out string) (string, error) {
	path := out + ".zst"
	if _, err := os.Stat(path); err != nil {
		path = out + ".gz"
	}
	text, err := exec.CommandContext(ctx, "heaptrack_print", "-l", "1", "-p", "0", "-a", "0", "-T", "0", "-f", path).Output()
	if err != nil {
		return "", fmt.Errorf("heaptrack_print: %w", err)
	}
	_, list, ok := strings.Cut(string(text), "MEMORY LEAKS\n")
	if !ok {
		return "", nil
	}
	return heaptrackStack(list), nil
}

// heaptrackStack is the stack of the first that heaptrack lists: "N leaked over M calls
// from", the function that has allocated it, and then each stack that led there, the one
// with the most first, under a line "N leaked over M calls from:". What is below a function
// says where it is.
func heaptrackStack(list string) string {
	var said []string
	stacks := 0
	for i, line := range strings.Split(list, "\n") {
		text := strings.TrimSpace(line)
		leaked := strings.Contains(text, "leaked over")
		if i == 0 {
			if !leaked {
				return ""
			}
			continue
		}
		if leaked {
			stacks++
		}
		if text == "" || stacks > 1 {
			break
		}
		if !leaked && !strings.HasPrefix(text, "at ") && !strings.HasPrefix(text, "in ") {
			said = append(said, text)
		}
	}
	return strings.Join(said, " < ")
}

// leakFinders returns the tools that work here, which are tried once, and tells which are
// left out, and why.
func (b *bench) leakFinders(ctx context.Context) []leakFinder {
	if b.finders == nil {
		b.finders, b.unable = b.tryFinders(ctx)
	}
	for _, why := range b.unable {
		fmt.Fprintf(b.out, "Left out: %s.\n", why)
	}
	return b.finders
}

// growers are maptrace grow, and without probes on allocators.
func growers() []leakFinder {
	alone := growing("maptrace grow --heap-budget 0", "--heap-budget", "0")
	alone.cheaper = true
	return []leakFinder{growing("maptrace grow"), alone}
}

// tryFinders runs each tool for a moment.
func (b *bench) tryFinders(ctx context.Context) (tools []leakFinder, unable []string) {
	sampled := leaking("memleak -s 100", "-s", "100")
	sampled.cheaper = true
	tools = growers()
	for _, tool := range []leakFinder{leaking("memleak (bcc)"), sampled, heaptrack} {
		_, err := exec.LookPath(tool.bin)
		if err == nil {
			_, _, err = b.freshUnder(ctx, &tool, b.looping(serving), 100*time.Millisecond)
		}
		if err != nil {
			unable = append(unable, fmt.Sprintf("%s: %s", tool.name, firstLine(err)))
			continue
		}
		tools = append(tools, tool)
	}
	return tools, unable
}

// freshUnder runs a program under a tool from its start, nil for none, and returns how many
// ns an operation took, and how many MiB the tool's processes had resident at most.
func (b *bench) freshUnder(ctx context.Context, tool *leakFinder, p underLoad, slice time.Duration) (ns, mib float64, err error) {
	out := b.file("leaks")
	var before []string
	if tool != nil && tool.start != nil {
		before = tool.start(out)
	}
	w, err := p.begin(ctx, before...)
	if err != nil {
		return 0, 0, err
	}
	defer w.end()
	group := w.pid()
	if tool != nil && tool.attach != nil {
		var c *child
		if c, err = b.beginFinder(ctx, tool, w.pid(), out); err != nil {
			return 0, 0, err
		}
		defer c.kill()
		group = c.pid()
	}
	if err = pause(ctx, settle); err != nil {
		return 0, 0, err
	}
	if ns, err = w.measure(ctx, slice); err != nil || tool == nil {
		return ns, 0, err
	}
	return ns, peakOfGroup(group, p.bin), nil
}

// watching is a tool that comes and goes. Its greatest memory is noted in most, MiB.
func (b *bench) watching(tool *leakFinder, slice time.Duration, most *float64) tracing {
	// Probes are put on in bursts, and the first comes once memory was touched.
	const warm = time.Second
	return tracing{name: tool.name, slice: slice, settle: warm, on: func(ctx context.Context, pid int) (func() error, error) {
		c, err := b.beginFinder(ctx, tool, pid, b.file("leaks"))
		if err != nil {
			return nil, err
		}
		return func() error {
			*most = max(*most, peakOfGroup(c.pid(), ""))
			return tool.stop(c)
		}, nil
	}}
}

// beginFinder attaches a tool and returns when it is attached.
func (b *bench) beginFinder(ctx context.Context, tool *leakFinder, pid int, out string) (*child, error) {
	c, err := start(tool.attach(b, pid, out)...)
	if err != nil {
		return nil, err
	}
	err = await(ctx, tool.name+" attaches", 20*time.Second, 10*time.Millisecond, func() (bool, error) {
		if e := c.alive(); e != nil {
			return false, e
		}
		return tool.attached(c, out)
	})
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// processesOf are the processes of a group.
func processesOf(group int) (all []int) {
	pids, err := procmaps.Default().Pids()
	if err != nil {
		panic(err) // without /proc nothing here can run
	}
	for _, pid := range pids {
		// What ends meanwhile is of no group.
		if g, err := unix.Getpgid(pid); err == nil && g == group {
			all = append(all, pid)
		}
	}
	return all
}

// peakOfGroup is what the processes of a group, but for those of a program, had
// resident at most, in MiB.
func peakOfGroup(group int, but string) float64 {
	var kb uint64
	for _, pid := range processesOf(group) {
		kb += peakOf(pid, but)
	}
	return float64(kb) / 1024
}

// peakOf is what a process had resident at most, in KiB; 0 if it has ended, or is of that
// program.
func peakOf(pid int, but string) uint64 {
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		return 0
	}
	defer p.Close()
	exe, err := p.Exe()
	if err != nil || exe == but {
		return 0
	}
	status, err := p.Status()
	if err != nil {
		return 0
	}
	return status.VmHWMKB
}

// leakCase is a program and the functions of which each is right to be named; none if
// nobody leaks.
type leakCase struct {
	title    string
	argv     func(run time.Duration) []string
	culprits []string
}

// ofLeaks are programs of testdata/leaks that leak 1 MiB/s.
func ofLeaks(bin string) (all []leakCase) {
	for _, c := range [...]struct{ mode, title, culprit string }{
		{"brk", "malloc, small", "leak_brk"},
		{"arena", "the same in a thread", "leak_arena"},
		{"mmap", "mmap", "leak_mmap"},
		{"touch", "pages of an old mapping", "touch_slowly"},
	} {
		argv := func(run time.Duration) []string {
			return []string{bin, c.mode, fmt.Sprint(run.Seconds()), fmt.Sprint(1 << 20)}
		}
		all = append(all, leakCase{c.title, argv, []string{c.culprit}})
	}
	return all
}

// ofHeaps are programs of testdata/heaps, as far as they can be built here.
func (b *bench) ofHeaps(ctx context.Context) (all []leakCase, err error) {
	dir := b.file("heaps")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, c := range heaps.Six() {
		if err := c.Missing(ctx); err != nil {
			fmt.Fprintf(b.log, "%s left out: it %v\n", c.Name, err)
			continue
		}
		built, err := c.Build(ctx, dir)
		if err != nil {
			return nil, err
		}
		right := c.Keepers
		if !c.Leaks {
			right = nil
		}
		all = append(all, leakCase{c.Name, func(run time.Duration) []string { return built.Argv(run, c.RateFor(run)) }, right})
	}
	return all, nil
}

// said is what a tool says of a program: it names who leaks, nobody, or another.
func (c *leakCase) said(who string) string {
	names := func(name string) bool { return strings.Contains(who, name) }
	switch {
	case who == "":
		return "nobody"
	case slices.ContainsFunc(c.culprits, names):
		return "named"
	}
	// No addresses: the cell should not change from run to run.
	first, _, _ := strings.Cut(who, " < ")
	first, _, _ = strings.Cut(first, "+0x")
	return "another: " + strings.ReplaceAll(first, "|", "/")
}

// startUnder goes before a command line: of one that sets variables, after those.
func startUnder(before, argv []string) []string {
	at := 0
	if argv[0] == "env" {
		for at = 1; strings.Contains(argv[at], "="); at++ {
		}
	}
	return slices.Concat(argv[:at], before, argv[at:])
}

// named tells whom a tool names in a program that leaks and does other things beside it.
func (b *bench) named(ctx context.Context, tool *leakFinder, c *leakCase, out string, run time.Duration) (said string, err error) {
	argv := c.argv(run + time.Minute)
	if tool.start != nil {
		argv = startUnder(tool.start(out), c.argv(run)) // it ends by itself
	}
	prog, err := start(argv...)
	if err != nil {
		return "", err
	}
	defer prog.kill()
	if err = pause(ctx, 300*time.Millisecond); err != nil {
		return "", err
	}
	if tool.attach == nil {
		err = prog.wait(ctx, 10*run)
	} else {
		var t *child
		if t, err = b.beginFinder(ctx, tool, prog.pid(), out); err != nil {
			return "", err
		}
		defer t.kill()
		if err = pause(ctx, run); err == nil {
			err = tool.stop(t)
		}
	}
	if err != nil {
		return "", err
	}
	who, err := tool.blames(ctx, out)
	return c.said(who), err
}

// grow is the part about what tools cost that say which code leaks.
func (b *bench) grow(ctx context.Context) error {
	slice, rounds := 2*time.Second, 2*b.rounds-1
	if b.short {
		slice = time.Second
	}
	return b.growSlowdown(ctx, b.leakFinders(ctx), slice, rounds)
}

// whom is the part about whom tools name that say which code leaks.
func (b *bench) whom(ctx context.Context) error {
	var tools []leakFinder
	for _, tool := range b.leakFinders(ctx) {
		if !tool.cheaper {
			tools = append(tools, tool)
		}
	}
	run := 20 * time.Second
	if b.short {
		run = 10 * time.Second
	}
	return b.growNames(ctx, tools, run)
}

// growSlowdown measures programs under all tools.
func (b *bench) growSlowdown(ctx context.Context, tools []leakFinder, slice time.Duration, rounds int) error {
	t := table{head: []string{"watched by"}}
	rows := [][]string{{"nobody (control)"}}
	most := make([]float64, len(tools))
	for i := range tools {
		rows = append(rows, []string{tools[i].name})
	}
	programs := []underLoad{b.looping(serving), b.looping(churn), b.looping(mallocs)}
	if bin, err := findRedis(); err != nil {
		fmt.Fprintf(b.out, "Left out: redis: %s.\n", firstLine(err))
	} else {
		programs = append(programs, underLoad{"redis, a command", b.startRedis, bin})
	}
	for _, p := range programs {
		column, alone, err := b.growColumn(ctx, tools, &p, slice, rounds, most)
		if err != nil {
			return fmt.Errorf("%s: %w", p.title, err)
		}
		t.head = append(t.head, fmt.Sprintf("%s, %.2f µs", p.title, alone/1e3))
		for i := range rows {
			rows[i] = append(rows[i], column[i])
		}
	}
	t.head = append(t.head, "the tool's memory, MiB")
	rows[0] = append(rows[0], "-")
	for i := range tools {
		rows[i+1] = append(rows[i+1], fmt.Sprintf("%.0f", most[i]))
	}
	for _, row := range rows {
		t.add(row...)
	}
	fmt.Fprintf(b.out, `Slowdown in CPU time of the program: %d slices of %v under each tool, each between two without; median [quartiles]. The
tools come and go beside one running program, in turn; heaptrack has to start it, so its slices are of programs of their own. A request takes
5,000 steps of computing, allocates and frees 20 blocks, maps now and then, and leaks 128 bytes; the loops do nothing but what they are
called, and keep one block of 4,096; redis overwrites 100,000 keys, from 20 connections, and gets 1,000 new ones a second.
Memory is the peak of all processes of the tool, the watched one not among them.

`, rounds, slice)
	return t.write(b.out)
}

// growColumn measures one program under nobody and all tools, and alone, ns per operation.
func (b *bench) growColumn(ctx context.Context, tools []leakFinder, p *underLoad, slice time.Duration, rounds int, most []float64) (cells []string, alone float64, err error) {
	defer b.note("%s: %d rounds", p.title, rounds)()
	control := b.nobody()
	control.slice = slice
	with := make([][]float64, 1+len(tools))
	failed := make([]error, 1+len(tools))
	var without []float64
	for range rounds {
		if err := b.growRound(ctx, append([]tracing{control}, b.comeAndGo(tools, slice, most)...), p, slice, with, failed, &without); err != nil {
			return nil, 0, err
		}
		for i := range tools {
			if tools[i].attach != nil || failed[i+1] != nil {
				continue
			}
			var figures [3]float64
			for n := range figures {
				under := &tools[i]
				if n != 1 {
					under = nil
				}
				ns, mib, err := b.freshUnder(ctx, under, *p, slice)
				if failed[i+1] = err; err != nil {
					break
				}
				figures[n], most[i] = ns, max(most[i], mib)
			}
			if ctx.Err() != nil {
				return nil, 0, ctx.Err()
			}
			if failed[i+1] == nil {
				with[i+1] = append(with[i+1], compare([]float64{figures[0], figures[2]}, figures[1:2]).ratio.median)
			}
		}
	}
	for i := range with {
		cell := spreadOf(with[i]).ratio()
		if failed[i] != nil {
			cell = "left out: " + firstLine(failed[i])
		}
		cells = append(cells, cell)
	}
	return cells, spreadOf(without).median, nil
}

// comeAndGo are the tools that can, the others with nothing to attach.
func (b *bench) comeAndGo(tools []leakFinder, slice time.Duration, most []float64) []tracing {
	all := make([]tracing, len(tools))
	for i := range tools {
		if tools[i].attach != nil {
			all[i] = b.watching(&tools[i], slice, &most[i])
		}
	}
	return all
}

// growRound measures one run of a program, which each of the tools watches once.
func (b *bench) growRound(ctx context.Context, all []tracing, p *underLoad, slice time.Duration, with [][]float64, failed []error, without *[]float64) error {
	w, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer w.end()
	base, err := w.measure(ctx, slice)
	if err != nil {
		return err
	}
	const ours = 2 // nobody and maptrace must not fail
	for i, t := range all {
		if t.on == nil || failed[i] != nil {
			continue
		}
		ns, err := b.under(ctx, w, t, w.pid())
		if err != nil {
			if i < ours || ctx.Err() != nil || w.alive() != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			failed[i] = err
			continue
		}
		after, err := w.measure(ctx, slice)
		if err != nil {
			return err
		}
		with[i] = append(with[i], compare([]float64{base, after}, []float64{ns}).ratio.median)
		*without, base = append(*without, after), after
	}
	return nil
}

// growNames tells whom each tool names.
func (b *bench) growNames(ctx context.Context, tools []leakFinder, run time.Duration) error {
	bin, err := b.compile(ctx, filepath.Join(b.helpers, "../leaks/leaks.c"))
	if err != nil {
		return err
	}
	cases := ofLeaks(bin)
	beside := "."
	if !b.short {
		small, err := b.ofHeaps(ctx)
		if err != nil {
			return err
		}
		cases = append(cases, small...)
		beside = `; the others are of
testdata/heaps: innocents allocate up to 300 times as much as is kept.`
	}
	t := table{head: []string{"leak"}}
	for i := range tools {
		t.head = append(t.head, tools[i].name)
	}
	for i := range cases {
		// All at once, each on a process of its own.
		said, failed := make([]string, len(tools)), make([]error, len(tools))
		done := b.note("%s: %v", cases[i].title, run)
		var all sync.WaitGroup
		for k := range tools {
			out := b.file("leaks")
			all.Go(func() { said[k], failed[k] = b.named(ctx, &tools[k], &cases[i], out, run) })
		}
		all.Wait()
		done()
		for k, err := range failed {
			if err == nil {
				continue
			}
			if k == 0 || ctx.Err() != nil {
				return fmt.Errorf("%s: %s: %w", cases[i].title, tools[k].name, err)
			}
			said[k] = "left out: " + firstLine(err)
		}
		t.add(append([]string{cases[i].title}, said...)...)
	}
	fmt.Fprintf(b.out, `
Whom each tool names first after %v. Four programs leak 1 MiB/s, and churn, cache and warm up beside it%s "named" is of maptrace that it names who keeps the
memory; of the others, which list stacks, that who keeps it is anywhere on the first. Where nobody leaks ("calm"), "nobody"
is right.

`, run, beside)
	return t.write(b.out)
}
