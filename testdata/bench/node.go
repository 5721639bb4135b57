//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// What a node is made of, see testdata/workload/crowd.c.
const (
	idlers, churners, leakers = 475, 20, 5
	stackRate                 = 10_000
	pageRate                  = 300_000
)

// nodeBudget is what grow may keep unless it is told otherwise, in KiB.
const nodeBudget = 256 << 10

// crowd is a task that grow must be able to do within its memory.
type crowd struct {
	title string
	args  []string // of the program
	more  []string // of grow
	takes time.Duration
	ends  bool // when the program has said "done", before that time
	// queues: copies of stacks that wait to be walked take so much that the budget, which
	// they are not of, is no measure.
	queues bool
	// check is what must be so in the end; nil for nothing more than memory.
	check func(*growOutput) error
}

// crowds are they: the node, processes that come and go, stacks, and calls that make one
// row of maps.
func (b *bench) crowds() []crowd {
	short, stacks, pages := 100_000, 1_000_000, 6_000_000
	if b.short {
		short, stacks, pages = short/10, stacks/10, pages/2
	}
	return []crowd{
		{
			title: fmt.Sprintf("%d processes, %d churn, %d leak", idlers+churners+leakers, churners, leakers),
			args:  []string{"node", strconv.Itoa(idlers), strconv.Itoa(churners), strconv.Itoa(leakers)},
			takes: b.nodeFor, check: everyLeak,
		},
		{
			title: grouped(uint64(short)) + " short processes",
			args:  []string{"short", strconv.Itoa(short)}, takes: time.Hour, ends: true,
		},
		{
			title: grouped(uint64(stacks)) + " stacks",
			args:  []string{"stacks", strconv.Itoa(stacks), strconv.Itoa(stackRate)},
			more:  []string{"--stack-rate", strconv.Itoa(10 * stackRate), "--stack-size", "4K"}, takes: time.Hour, ends: true, queues: true,
		},
		{
			title: grouped(uint64(pages)) + " calls for one row",
			args:  []string{"pages", strconv.Itoa(pages), strconv.Itoa(pageRate)}, takes: time.Hour, ends: true, check: coarsened,
		},
	}
}

// node is the part about many processes and stacks: memory within its budget, and flat.
func (b *bench) node(ctx context.Context) error {
	bin, err := b.compile(ctx, filepath.Join(b.workload, "crowd.c"))
	if err != nil {
		return err
	}
	t := table{head: []string{"", "s", "after a sixth, MiB", "at the end, MiB", "at most, MiB", "CPU, % of one", "stacks", "evicted", "counted as a whole"}}
	var bad []error
	for _, c := range b.crowds() {
		if err = b.crowded(ctx, bin, &c, &t); err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", c.title, err))
		}
	}
	return errors.Join(t.write(b.out), errors.Join(bad...))
}

// crowded has grow watch one of them.
func (b *bench) crowded(ctx context.Context, bin string, c *crowd, t *table) error {
	defer b.note("%s", c.title)()
	prog := newChild(append([]string{bin}, c.args...)...)
	in, err := prog.cmd.StdinPipe()
	if err != nil {
		return err
	}
	said, err := prog.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err = prog.start(); err != nil {
		return err
	}
	defer prog.kill()
	finished := make(chan error, 1)
	go func() {
		_, failed := bufio.NewReader(said).ReadString('\n')
		finished <- failed
	}()
	grow := watched{name: c.title, out: b.file("node")}
	ready := grow.out + ".ready"
	argv := append([]string{b.maptrace, "grow", "--for", c.takes.String(), "--json", "--to", grow.out, "--ready-file", ready}, c.more...)
	begin := func() error { _, failed := in.Write([]byte("\n")); return failed }
	if !c.ends { // what is there is found, and read, all at once
		if err = begin(); err != nil {
			return err
		}
		err = await(ctx, "all processes are there", time.Minute, 100*time.Millisecond, func() (bool, error) {
			all, failed := tracer.Descendants(procmaps.Default(), []int{prog.pid()})
			return len(all) == 1+idlers+churners+leakers, failed
		})
		if err != nil {
			return err
		}
	}
	grow.child = newChild(append(argv, "-p", strconv.Itoa(prog.pid()))...)
	if err = grow.start(); err != nil {
		return err
	}
	defer grow.kill()
	err = await(ctx, "grow is ready", time.Minute, 50*time.Millisecond, func() (bool, error) {
		_, missing := os.Stat(ready)
		return missing == nil, grow.alive()
	})
	if err != nil {
		return err
	}
	if c.ends {
		if err = begin(); err != nil {
			return err
		}
	}
	began := time.Now()
	for over := false; !over; {
		select {
		case err = <-finished:
			if err != nil {
				return fmt.Errorf("%s: %w", bin, err)
			}
			over = c.ends
		case <-time.After(time.Second):
			over = time.Since(began) > c.takes-2*time.Second
		case <-ctx.Done():
			return ctx.Err()
		}
		if err = grow.look(); err != nil {
			return err
		}
	}
	took := time.Since(began)
	if c.ends {
		if err = in.Close(); err != nil {
			return err
		}
	}
	if err = grow.wait(ctx, 2*time.Minute); err != nil {
		return err
	}
	return c.judge(&grow, took, t)
}

// judge adds a row, and says what is not as it should be.
func (c *crowd) judge(grow *watched, took time.Duration, t *table) error {
	out, err := readGrow(grow.out)
	if err != nil {
		return err
	}
	early, late, ok := course(grow.anonymous)
	if !ok {
		return errors.New("too short to see anything")
	}
	most := slices.Max(grow.anonymous)
	t.add(c.title, fmt.Sprintf("%.0f", took.Seconds()), mib(early), mib(late), mib(most), fmt.Sprintf("%.1f", 100*grow.cpu.Seconds()/took.Seconds()),
		grouped(out.Sites), grouped(out.Memory.StacksEvicted), wholes(out.Whole))
	var bad []error
	if most > nodeBudget && !c.queues {
		bad = append(bad, fmt.Errorf("%.0f MiB were in use, %d MiB are allowed", most/1024, nodeBudget/1024))
	}
	if late > 1.1*early+16<<10 {
		bad = append(bad, fmt.Errorf("memory grew from %.0f to %.0f MiB", early/1024, late/1024))
	}
	if c.check != nil {
		bad = append(bad, c.check(out))
	}
	return errors.Join(bad...)
}

// coarsened is what has to be where there are too many extents.
func coarsened(out *growOutput) error {
	if n := out.Memory.SpacesCoarsened; n != 1 {
		return fmt.Errorf("%d address spaces were coarsened, want 1", n)
	}
	return nil
}

func mib(kib float64) string { return fmt.Sprintf("%.0f", kib/1024) }

// growOutput is what grow --json has said.
type growOutput struct {
	Processes int
	Leaking   map[int][]string // by process: each who leaks there
	Sites     uint64
	Memory    struct {
		StacksEvicted   uint64 `json:"stacks_evicted"`
		SpacesCoarsened uint64 `json:"spaces_coarsened"`
	}
	Whole map[string]uint64 `json:"whole_counts"`
}

// wholes are the reasons why everything of a process was counted, with how often.
func wholes(by map[string]uint64) string {
	s := ""
	for _, why := range slices.Sorted(maps.Keys(by)) {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%s %s", why, grouped(by[why]))
	}
	return s
}

func readGrow(path string) (*growOutput, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &growOutput{Leaking: make(map[int][]string)}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var o struct {
			Event, Verdict, From string
			PID                  int
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return nil, fmt.Errorf("output of maptrace: %w", err)
		}
		switch {
		case o.Event == "watch":
			out.Processes++
		case o.Event == "finding" && o.Verdict == "leaks":
			out.Leaking[o.PID] = append(out.Leaking[o.PID], o.From)
		case o.Event == "summary":
			if err := json.Unmarshal(lines.Bytes(), out); err != nil {
				return nil, fmt.Errorf("output of maptrace: %w", err)
			}
		}
	}
	return out, lines.Err()
}

// everyLeak is an error unless each leak was found, once, where it is, and no other.
func everyLeak(out *growOutput) error {
	var bad []error
	for _, pid := range slices.Sorted(maps.Keys(out.Leaking)) {
		if from := out.Leaking[pid]; len(from) != 1 || !strings.HasPrefix(from[0], "leak_here") {
			bad = append(bad, fmt.Errorf("process %d is said to leak in %q", pid, from))
		}
	}
	if n := len(out.Leaking); n != leakers {
		bad = append(bad, fmt.Errorf("%d of %d leaks were found, of %d processes", n, leakers, out.Processes))
	}
	return errors.Join(bad...)
}
