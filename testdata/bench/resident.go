//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/resident"
)

// refresh is a way to learn what is resident by mapping.
type refresh struct {
	name string
	read func() error
	took []float64 // ms
	p999 []float64 // of the target's mmap, ns
	most []float64
}

// resident is the part about what it costs a process when its resident memory is
// read again and again. A thread of the process maps and unmaps all the time: its
// own calls wait for whatever holds the lock of the mappings.
func (b *bench) resident(ctx context.Context) error {
	// smaps lets go of the lock between two mappings, if somebody waits.
	for i, mappings := range []int{10000, 1} {
		if i > 0 {
			fmt.Fprintln(b.out)
		}
		if err := b.residentOf(ctx, mappings); err != nil {
			return err
		}
	}
	return nil
}

// residentOf is that with so many mappings.
func (b *bench) residentOf(ctx context.Context, mappings int) error {
	rounds, slice, mib := 5, 5*time.Second, 8<<10
	if b.short {
		rounds, slice, mib = 2, 3*time.Second, 2<<10
	}
	mib, err := affordable(mib)
	if err != nil {
		return err
	}
	defer b.note("resident memory: %d mappings, %d MiB, %d rounds", mappings, mib, rounds)()
	bin, err := b.compile(ctx, filepath.Join(b.helpers, "latency.c"))
	if err != nil {
		return err
	}
	c := newChild(bin, fmt.Sprint(mappings), fmt.Sprint(mib))
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return err
	}
	pipe, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err = c.start(); err != nil {
		return err
	}
	defer c.kill()
	target := latencyTarget{in: in, out: bufio.NewReader(pipe)}
	if line, e := target.out.ReadString('\n'); e != nil || line != "ready\n" {
		return fmt.Errorf("%s says %q and not that it is ready: %w", bin, line, cmp.Or(e, io.ErrUnexpectedEOF))
	}
	p, err := procmaps.Default().Process(c.pid())
	if err != nil {
		return err
	}
	defer p.Close()
	r, err := p.OpenResidency()
	if err != nil {
		return err
	}
	defer r.Close()
	rows, err := p.Maps()
	if err != nil {
		return err
	}
	ranges := make([]procmaps.Range, len(rows))
	for i := range rows {
		ranges[i] = rows[i].Range
	}
	set := resident.New(bpf.PieceBytes())
	todo := set.Plan(nil, ranges)
	out := make([]procmaps.Resident, max(len(rows), len(todo))) // it is most at first
	largest := slices.MaxFunc(ranges, func(a, b procmaps.Range) int { return cmp.Compare(a.Len(), b.Len()) })
	again := func() error {
		todo = set.Plan(todo[:0], ranges)
		e := r.Count(todo, out)
		set.Counted(out)
		set.Touch(largest.Start &^ (bpf.PieceBytes() - 1))
		return e
	}
	if err = again(); err != nil { // the first time it is everything
		return err
	}
	refreshes := []*refresh{
		{name: "smaps", read: func() error { _, e := p.Smaps(); return e }},
		{name: "all pages, by `PAGEMAP_SCAN`", read: func() error { return r.Count(ranges, out) }},
		{name: "as `grow` does, one place touched", read: again},
	}
	return b.compareRefreshes(ctx, &target, refreshes, rounds, slice, mappings, mib)
}

// compareRefreshes measures each between two slices without any.
func (b *bench) compareRefreshes(ctx context.Context, target *latencyTarget, refreshes []*refresh, rounds int,
	slice time.Duration, mappings, mib int,
) error {
	p999, most, err := target.measure(ctx, slice, nil)
	if err != nil {
		return err
	}
	alone999, aloneMost := []float64{p999}, []float64{most}
	for range rounds {
		for _, f := range refreshes {
			if p999, most, err = target.measure(ctx, slice, f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			f.p999, f.most = append(f.p999, p999), append(f.most, most)
			if p999, most, err = target.measure(ctx, slice, nil); err != nil {
				return err
			}
			alone999, aloneMost = append(alone999, p999), append(aloneMost, most)
		}
	}
	us := func(ns []float64) string {
		s := spreadOf(ns)
		return fmt.Sprintf("%.1f [%.1f..%.1f]", s.median/1e3, s.q1/1e3, s.q3/1e3)
	}
	base999, baseMost := spreadOf(alone999).median, spreadOf(aloneMost).median
	t := table{head: []string{"read once a second", "mmap p99.9, µs", "times that alone", "mmap at most, µs", "times that alone", "a read takes, ms"}}
	t.add("nothing", us(alone999), "1", us(aloneMost), "1", "-")
	for _, f := range refreshes {
		t.add(f.name, us(f.p999), ratio(spreadOf(f.p999).median/base999), us(f.most), ratio(spreadOf(f.most).median/baseMost),
			fmt.Sprintf("%.1f", spreadOf(f.took).median))
	}
	in := "one mapping"
	if mappings > 1 {
		in = grouped(uint64(mappings)) + " mappings"
	}
	fmt.Fprintf(b.out, `A process with %s MiB resident in %s; one of its threads maps and unmaps a page all the time. Median
[quartiles] of %d slices of %v each, in turn with slices in which nobody reads.

`, grouped(uint64(mib)), in, rounds, slice)
	return t.write(b.out)
}

// latencyTarget is latency.c running.
type latencyTarget struct {
	in  io.Writer
	out *bufio.Reader
}

// measure returns 99.9 % and the most of what a call of mmap takes, in ns, while
// f is read once a second; f may be nil.
func (l *latencyTarget) measure(ctx context.Context, slice time.Duration, f *refresh) (p999, most float64, err error) {
	if _, err = fmt.Fprintln(l.in, slice.Seconds()); err != nil {
		return 0, 0, err
	}
	for end := time.Now().Add(slice); f != nil && time.Until(end) >= time.Second; {
		began := time.Now()
		if err = f.read(); err != nil {
			return 0, 0, err
		}
		took := time.Since(began)
		f.took = append(f.took, took.Seconds()*1e3)
		if err = pause(ctx, time.Second-took); err != nil {
			return 0, 0, err
		}
	}
	var n uint64
	var middle float64
	if _, err = fmt.Fscan(l.out, &n, &middle, &p999, &most); err != nil {
		return 0, 0, fmt.Errorf("output of latency: %w", err)
	}
	return p999, most, ctx.Err()
}

// affordable returns mib, or half of the memory available if that is less.
func affordable(mib int) (int, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); n == 1 {
			return min(mib, kb>>11), nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo tells no MemAvailable")
}
