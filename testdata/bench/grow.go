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
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	mallocs = mode{"malloc", "malloc + free", 0}
	serving = mode{"serve", "requests, with a leak", 0}
)

// leakFinder is a tool that says which code leaks.
type leakFinder struct {
	name string
	bin  string
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

var (
	growing = leakFinder{
		name: "maptrace grow", bin: "maptrace",
		attach: func(b *bench, pid int, out string) []string {
			return []string{
				b.maptrace, "grow", "--interval", "350ms", "--for", "0", "-o", "json", "--to", out,
				"--ready-file", out + ".ready", "-p", fmt.Sprint(pid),
			}
		},
		attached: func(_ *child, out string) (bool, error) {
			_, err := os.Stat(out + ".ready")
			return err == nil, nil
		},
		stop:   stopPeer,
		blames: firstFinding,
	}
	memleak = leakFinder{
		name: "memleak (bcc)", bin: "memleak-bpfcc",
		attach: func(_ *bench, pid int, out string) []string {
			// Python keeps back what it writes to a file unless told not to.
			return []string{"sh", "-c", `PYTHONUNBUFFERED=1 exec memleak-bpfcc -p "$1" 3 >"$2"`, "sh", fmt.Sprint(pid), out}
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
	heaptrack = leakFinder{
		name: "heaptrack", bin: "heaptrack",
		start:  func(out string) []string { return []string{"heaptrack", "-o", out} },
		blames: firstOfHeaptrack,
	}
)

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

// lastOfMemleak is the innermost frame, outside of libc, of what memleak lists at
// its end: the most.
func lastOfMemleak(_ context.Context, out string) (string, error) {
	text, err := os.ReadFile(out)
	if err != nil {
		return "", err
	}
	said := ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "allocations from stack"):
			said = ""
		case said == "" && len(f) >= 3 && strings.HasPrefix(f[0], "0x") && !strings.Contains(line, "[libc."):
			said = f[1]
		}
	}
	return said, nil
}

// firstOfHeaptrack is the function that leaks most by heaptrack's own analysis.
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
	lines := strings.Split(list, "\n")
	if len(lines) < 2 || !strings.Contains(lines[0], "leaked") {
		return "", nil
	}
	return strings.TrimSpace(lines[1]), nil
}

// leakFinders returns the tools that work here, and why others do not.
func (b *bench) leakFinders(ctx context.Context) (tools []leakFinder, absent []string) {
	tools = []leakFinder{growing}
	for _, tool := range []leakFinder{memleak, heaptrack} {
		_, err := exec.LookPath(tool.bin)
		if err == nil {
			_, _, err = b.loopUnder(ctx, &tool, serving, 100*time.Millisecond)
		}
		if err != nil {
			absent = append(absent, fmt.Sprintf("%s: %s", tool.name, firstLine(err)))
			continue
		}
		tools = append(tools, tool)
	}
	return tools, absent
}

// loopUnder runs a loop under a tool, nil for none, and returns how many ns an
// operation took, and how many MiB the tool's processes had resident at most.
func (b *bench) loopUnder(ctx context.Context, tool *leakFinder, m mode, slice time.Duration) (ns, mib float64, err error) {
	out := b.file("leaks")
	var before []string
	if tool != nil && tool.start != nil {
		before = tool.start(out)
	}
	w, err := b.startLoop(ctx, m, before...)
	if err != nil {
		return 0, 0, err
	}
	defer w.end()
	c := w.child
	if tool != nil && tool.attach != nil {
		if c, err = b.beginFinder(ctx, tool, w.pid(), out); err != nil {
			return 0, 0, err
		}
		defer c.kill()
	}
	if err = pause(ctx, settle); err != nil {
		return 0, 0, err
	}
	if ns, err = w.measure(ctx, slice); err != nil || tool == nil {
		return ns, 0, err
	}
	if mib, err = peakOfGroup(c.pid(), b.loop); err != nil {
		return 0, 0, err
	}
	if tool.stop != nil {
		err = tool.stop(c)
	}
	return ns, mib, err
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

// peakOfGroup is what the processes of a group, but for those of a program, had
// resident at most, in MiB.
func peakOfGroup(group int, but string) (float64, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var kb uint64
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(dir, "/proc/%d", &pid); err != nil {
			continue
		}
		if g, err := unix.Getpgid(pid); err != nil || g != group {
			continue
		}
		// What ends meanwhile has nothing.
		if exe, err := os.Readlink(dir + "/exe"); err != nil || exe == but {
			continue
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue
		}
		var n uint64
		if _, after, ok := strings.Cut(string(status), "\nVmHWM:"); ok {
			_, _ = fmt.Sscan(after, &n) // 0 for a kernel thread
		}
		kb += n
	}
	return float64(kb) / 1024, nil
}

// leakCase is a program of testdata/leaks and the function that leaks there.
type leakCase struct{ mode, title, culprit string }

var leakCases = []leakCase{
	{"brk", "malloc, small", "leak_brk"},
	{"arena", "the same in a thread", "leak_arena"},
	{"mmap", "mmap", "leak_mmap"},
	{"touch", "pages of an old mapping", "touch_slowly"},
}

// named tells which tools name the culprit of a program that leaks 1 MiB/s and
// does other things beside it. All run at once, each on a process of its own.
func (b *bench) named(ctx context.Context, tools []leakFinder, bin string, c leakCase, run time.Duration) ([]string, error) {
	defer b.note("%s, %s: %v", c.culprit, c.title, run)()
	type watch struct {
		out        string
		prog, tool *child
	}
	watches := make([]watch, len(tools))
	for i := range tools {
		w, tool := &watches[i], &tools[i]
		w.out = b.file("leaks")
		argv := []string{bin, c.mode, fmt.Sprint((run + time.Minute).Seconds()), fmt.Sprint(1 << 20)}
		if tool.start != nil {
			argv = append(tool.start(w.out), argv...)
			argv[len(argv)-2] = fmt.Sprint(run.Seconds()) // it ends by itself
		}
		var err error
		if w.prog, err = start(argv...); err != nil {
			return nil, err
		}
		defer w.prog.kill()
		if err = pause(ctx, 300*time.Millisecond); err != nil {
			return nil, err
		}
		if tool.attach != nil {
			if w.tool, err = b.beginFinder(ctx, tool, w.prog.pid(), w.out); err != nil {
				return nil, err
			}
			defer w.tool.kill()
		}
	}
	if err := pause(ctx, run); err != nil {
		return nil, err
	}
	said := make([]string, len(tools))
	for i := range tools {
		w, tool := &watches[i], &tools[i]
		var err error
		if tool.stop != nil {
			err = tool.stop(w.tool)
		} else {
			err = w.prog.wait(ctx, run+20*time.Second)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tool.name, err)
		}
		who, err := tool.blames(ctx, w.out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tool.name, err)
		}
		switch {
		case strings.Contains(who, c.culprit):
			said[i] = "named"
		case who == "":
			said[i] = "nobody"
		default:
			// No addresses: the cell should not change from run to run.
			name, _, _ := strings.Cut(who, "+0x")
			said[i] = "another: " + strings.ReplaceAll(name, "|", "/")
		}
	}
	return said, nil
}

// grow is the part about tools that say which code leaks.
func (b *bench) grow(ctx context.Context) error {
	slice, rounds, run := 2*time.Second, 2*b.rounds-1, 14*time.Second
	tools, absent := b.leakFinders(ctx)
	for _, a := range absent {
		fmt.Fprintf(b.out, "Left out: %s.\n", a)
	}
	t := table{head: []string{"watched by"}}
	rows := make([][]string, len(tools))
	most := make([]float64, len(tools))
	for i := range tools {
		rows[i] = []string{tools[i].name}
	}
	if b.short {
		slice = time.Second
	}
	for _, m := range []mode{serving, churn, mallocs} {
		if err := b.growLoop(ctx, tools, m, slice, rounds, &t, rows, most); err != nil {
			return fmt.Errorf("%s: %w", m.title, err)
		}
	}
	t.head = append(t.head, "the tool's memory, MiB")
	for i := range rows {
		rows[i] = append(rows[i], fmt.Sprintf("%.0f", most[i]))
	}
	bin, err := b.compile(ctx, filepath.Join(b.helpers, "../leaks/leaks.c"))
	if err != nil {
		return err
	}
	for _, c := range leakCases {
		said, err := b.named(ctx, tools, bin, c, run)
		if err != nil {
			return fmt.Errorf("%s: %w", c.mode, err)
		}
		t.head = append(t.head, c.title)
		for i := range rows {
			rows[i] = append(rows[i], said[i])
		}
	}
	for _, row := range rows {
		t.add(row...)
	}
	fmt.Fprintf(b.out, `Slowdown of a loop, of %d slices of %v, each between two of the same program alone; median [quartiles]. A request
computes for some 20 µs, allocates and frees, maps now and then, and leaks 128 bytes; the other loops do nothing but what
they are called. Memory is the peak of all processes of the tool, the watched one not among them. The last columns say
whom a tool names first after %v of a program that leaks 1 MiB/s in that way, and churns, caches and warms up beside it.

`, rounds, slice, run)
	return t.write(b.out)
}

// growLoop measures one loop under all tools and adds a column for it.
func (b *bench) growLoop(ctx context.Context, tools []leakFinder, m mode, slice time.Duration, rounds int,
	t *table, rows [][]string, most []float64,
) error {
	defer b.note("%s: %d rounds", m.arg, rounds)()
	with := make([][]float64, len(tools))
	failed := make([]error, len(tools))
	base, _, err := b.loopUnder(ctx, nil, m, slice)
	if err != nil {
		return err
	}
	alone := []float64{base}
	for range rounds {
		for i := range tools {
			if failed[i] != nil {
				continue
			}
			ns, mib, err := b.loopUnder(ctx, &tools[i], m, slice)
			if err != nil {
				if i == 0 || ctx.Err() != nil {
					return fmt.Errorf("%s: %w", tools[i].name, err)
				}
				failed[i] = err
				continue
			}
			after, _, err := b.loopUnder(ctx, nil, m, slice)
			if err != nil {
				return err
			}
			with[i] = append(with[i], compare([]float64{base, after}, []float64{ns}).ratio.median)
			most[i] = max(most[i], mib)
			alone, base = append(alone, after), after
		}
	}
	t.head = append(t.head, fmt.Sprintf("%s, %.2f µs", m.title, spreadOf(alone).median/1e3))
	for i := range tools {
		cell := spreadOf(with[i]).ratio()
		if failed[i] != nil {
			cell = "left out: " + firstLine(failed[i])
		}
		rows[i] = append(rows[i], cell)
	}
	return nil
}
