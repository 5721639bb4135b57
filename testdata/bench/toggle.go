//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// tracing is a tracer that comes and goes.
type tracing struct {
	name  string
	slice time.Duration
	// settle is let pass after it has come or gone, if the usual is too short.
	settle time.Duration
	// on attaches it to a process and returns when it is attached; what it
	// returns detaches it.
	on func(ctx context.Context, pid int) (off func() error, err error)
}

// settle is let pass after a tracer has come or gone.
const settle = 50 * time.Millisecond

// nobody is the control: the error of the method.
func (b *bench) nobody() tracing {
	return tracing{name: "nobody (control)", slice: b.slice, on: func(context.Context, int) (func() error, error) {
		return func() error { return nil }, nil
	}}
}

// here is maptrace in this process, without printing.
func (b *bench) here() tracing {
	return tracing{name: "maptrace, nothing printed", slice: b.slice, on: func(ctx context.Context, pid int) (func() error, error) {
		s, err := traceHere(ctx, pid)
		if err != nil {
			return nil, err
		}
		return func() error {
			r, err := s.stop()
			// Changes missed are not counted here: the kernel detaches from one
			// thread after the other. That nothing is missed is the part loss.
			if err == nil && r.Stats.Lost > 0 {
				err = fmt.Errorf("%d records lost", r.Stats.Lost)
			}
			return err
		}, nil
	}}
}

// command is maptrace as people run it.
func (b *bench) command() tracing {
	return tracing{name: maptraceJSON.name, slice: 2 * b.slice, on: func(ctx context.Context, pid int) (func() error, error) {
		c, err := b.beginMaptrace(ctx, pid, "trace", "--json", "--to", "/dev/null")
		if err != nil {
			return nil, err
		}
		return func() error { return stopPeer(c) }, nil
	}}
}

// lat is maptrace measuring how long the calls take.
func (b *bench) lat() tracing {
	return tracing{name: "maptrace lat --json", slice: 2 * b.slice, on: func(ctx context.Context, pid int) (func() error, error) {
		c, err := b.beginMaptrace(ctx, pid, "lat", "--json", "--to", "/dev/null", "--for", "0")
		if err != nil {
			return nil, err
		}
		return func() error { return stopPeer(c) }, nil
	}}
}

// attaching are the peers that can attach to what runs.
func (b *bench) attaching() []tracing {
	var all []tracing
	for _, p := range b.peers {
		if p.attach == nil {
			continue
		}
		all = append(all, tracing{name: p.name, slice: 2 * b.slice, on: func(ctx context.Context, pid int) (func() error, error) {
			c, err := b.begin(ctx, p, pid)
			if err != nil {
				return nil, err
			}
			return func() error { return stopPeer(c) }, nil
		}})
	}
	return all
}

// toggle measures a loop with a tracer coming and going. The tracer is given
// the process pid, which may be another than the loop.
func (b *bench) toggle(ctx context.Context, w *workload, t tracing, pid, pairs int) (compared, error) {
	defer b.note("%s, %s: %d pairs", w.mode.arg, t.name, pairs)()
	var without, with []float64
	off := func() error {
		ns, err := w.measure(ctx, t.slice)
		without = append(without, ns)
		return err
	}
	if err := off(); err != nil {
		return compared{}, err
	}
	for range pairs {
		ns, err := b.under(ctx, w, t, pid)
		if err != nil {
			return compared{}, fmt.Errorf("%s: %w", t.name, err)
		}
		with = append(with, ns)
		if err := off(); err != nil {
			return compared{}, err
		}
	}
	return compare(without, with), nil
}

// measured is something that runs and whose speed is seen.
type measured interface {
	// measure lets it run for about d and returns how many ns an operation took.
	measure(ctx context.Context, d time.Duration) (ns float64, err error)
}

// under measures one slice of time under a tracer.
func (b *bench) under(ctx context.Context, w measured, t tracing, pid int) (ns float64, err error) {
	detach, err := t.on(ctx, pid)
	if err != nil {
		return 0, err
	}
	if err = pause(ctx, max(settle, t.settle)); err == nil {
		ns, err = w.measure(ctx, t.slice)
	}
	if detachErr := detach(); err == nil {
		err = detachErr
	}
	if err == nil {
		err = pause(ctx, max(settle, t.settle))
	}
	return ns, err
}

// toggled is the part about the traced program.
func (b *bench) toggled(ctx context.Context) error {
	t := table{head: []string{"traced by", "loop", "alone, ns per call", "slowdown", "added ns per call"}}
	ours := []tracing{b.nobody(), b.here(), b.command(), b.lat()}
	if err := b.toggleRows(ctx, &t, churn, append(slices.Clip(ours), b.attaching()...), len(ours)); err != nil {
		return err
	}
	if err := b.toggleRows(ctx, &t, churn2, ours, len(ours)); err != nil {
		return err
	}
	fmt.Fprintf(b.out, `A loop that does nothing but map 64 KiB, touch a page and unmap, the worst case there is. %d pairs of slices;
median [quartiles]. "ns per call" is half of one turn, the touch included. perf record and bpftrace watch the tracepoints
of %s; all write to /dev/null.

`, b.pairs, joinWords(peerCalls))
	return t.write(b.out)
}

// toggleRows measures one loop under some tracers, the first own of them ours. A
// peer that fails is left out with its reason; maptrace may not fail.
func (b *bench) toggleRows(ctx context.Context, t *table, m mode, all []tracing, own int) error {
	w, err := b.startLoop(ctx, m)
	if err != nil {
		return err
	}
	defer w.end()
	return b.rows(ctx, t, w, w.pid(), all, own)
}

// rows adds a row for each tracer; the first own of them are not peers.
func (b *bench) rows(ctx context.Context, t *table, w *workload, pid int, all []tracing, own int) error {
	calls := float64(w.mode.calls)
	for i, tr := range all {
		c, err := b.toggle(ctx, w, tr, pid, b.pairs)
		if err != nil {
			if i < own || ctx.Err() != nil || w.alive() != nil {
				return err
			}
			t.add(tr.name, w.mode.title, "left out: "+firstLine(err), "", "")
			continue
		}
		t.add(tr.name, w.mode.title, fmt.Sprintf("%.0f", c.base.median/calls), c.ratio.ratio(),
			fmt.Sprintf("%+.0f [%+.0f..%+.0f]", c.added.median/calls, c.added.q1/calls, c.added.q3/calls))
	}
	return nil
}

// untraced is the part about everybody else.
func (b *bench) untraced(ctx context.Context) error {
	idle, err := start("sleep", "3600")
	if err != nil {
		return err
	}
	defer idle.kill()
	t := table{head: []string{"while an idle process is traced by", "loop, not traced", "alone, ns per call", "slowdown", "added ns per call"}}
	all := []tracing{b.nobody(), b.here()}
	own := len(all)
	if !b.short {
		all = append(all, b.attaching()...)
	}
	for _, m := range []mode{getppid, churn} {
		if err := b.untracedLoop(ctx, &t, m, idle.pid(), all, own); err != nil {
			return err
		}
		all = all[:own]
	}
	fmt.Fprint(b.out, `Any tool's tracepoint on any system call sends every process of the machine by the kernel's slow way in and out of calls.

`)
	return t.write(b.out)
}

func (b *bench) untracedLoop(ctx context.Context, t *table, m mode, traced int, all []tracing, own int) error {
	w, err := b.startLoop(ctx, m)
	if err != nil {
		return err
	}
	defer w.end()
	return b.rows(ctx, t, w, traced, all, own)
}
