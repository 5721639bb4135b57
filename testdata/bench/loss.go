//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/space"
)

// chunk is what churn maps: loop.c's CHUNK.
const chunk = 64 << 10

// full is a loop traced from its first instruction to its end.
type full struct {
	ops    uint64 // by the loop's own count
	mapped uint64 // of its mmaps, those reported
	gone   uint64 // and munmaps
	took   time.Duration
	cpu    time.Duration // of this process
	report tracer.Report
}

// losses is the part about completeness.
func (b *bench) losses(ctx context.Context) error {
	length := 3 * time.Second
	if b.short {
		length = time.Second
	}
	t := table{head: []string{"loop", "calls made", "calls reported", "records lost", "changes missed", "impossible", "events/s", "tracer's CPU, ns per event"}}
	for _, m := range []mode{churn, churn2, churn8} {
		f, err := b.fullSpeed(ctx, m, length)
		if err != nil {
			return err
		}
		s := &f.report.Stats
		t.add(m.title, grouped(2*f.ops), grouped(f.mapped+f.gone), grouped(s.Lost), grouped(s.Missed), grouped(s.Violations),
			grouped(uint64(float64(s.Records)/f.took.Seconds())), fmt.Sprintf("%.0f", float64(f.cpu)/float64(s.Records)))
	}
	fmt.Fprintf(b.out, `Each for %v from its first instruction to its last, with a ring of the default size. "Calls made" is the loop's own
count. The tracer's CPU is everything: reading, ordering, the region tree; but for printing.

`, length)
	return t.write(b.out)
}

// fullSpeed traces a whole run of a loop.
func (b *bench) fullSpeed(ctx context.Context, m mode, length time.Duration) (_ full, err error) {
	defer b.note("%s at full speed for %v", m.arg, length)()
	ctx, cancel := context.WithTimeout(ctx, length+30*time.Second)
	defer cancel()
	counters := b.file("counters")
	live, err := tracer.OpenLive(tracer.LiveOptions{})
	if err != nil {
		return full{}, err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	argv := []string{b.loop, "-c", counters, "-s", fmt.Sprint(length.Seconds()), m.arg}
	cmd, err := tracer.StartCommand(argv, nil, io.Discard, io.Discard)
	if err != nil {
		return full{}, err
	}
	ended := false
	defer func() {
		if !ended {
			_ = unix.Kill(cmd.PID(), unix.SIGKILL) // not waited for yet: the number is its own
			_ = cmd.Abandon()                      // there is an error already
		}
	}()
	var f full
	tr := newTracer(live, f.count)
	tasks, err := live.Trace(cmd.PID())
	if err != nil {
		return full{}, err
	}
	if err = tr.Add(tasks, true); err != nil {
		return full{}, err
	}
	cpu, began := cpuTime(), time.Now()
	if err = cmd.Continue(); err != nil {
		return full{}, err
	}
	if err = tr.Run(ctx, live.Detach); err != nil {
		return full{}, err
	}
	if err = ctx.Err(); err != nil {
		return full{}, fmt.Errorf("the loop did not end: %w", err)
	}
	f.took, f.cpu, f.report = time.Since(began), cpuTime()-cpu, tr.Report()
	ended = true
	status, err := cmd.Wait()
	if err == nil && status != 0 {
		err = fmt.Errorf("the loop ended with status %d", status)
	}
	if err != nil {
		return full{}, err
	}
	f.ops, err = countersIn(counters)
	return f, err
}

// count takes the loop's own calls; those of its start have other sizes.
func (f *full) count(c *tracer.Change) {
	if c.Kind != tracer.KindCall || c.Call.Args[1] != chunk || c.Call.Ret < 0 && c.Call.Ret > -4096 {
		return
	}
	switch c.Call.Op {
	case space.OpMmap:
		f.mapped++
	case space.OpMunmap:
		f.gone++
	}
}

// cpuTime is what this process has used, all threads, in and out of the kernel.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err) // EFAULT and EINVAL are all there is
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
