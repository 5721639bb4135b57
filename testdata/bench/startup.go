//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"fmt"
	"time"
)

// startups is the part about how soon there is something to see.
func (b *bench) startups(ctx context.Context) error {
	runs := 7
	if b.short {
		runs = 3
	}
	idle, err := start("sleep", "3600")
	if err != nil {
		return err
	}
	defer idle.kill()
	defer b.note("start-up: %d times", runs)()
	names := []string{
		"`maptrace trace -p PID`, from exec to attached",
		"its end, from ^C to exit",
		"loading and attaching (`tracer.OpenLive`)",
		"from there to the mappings known",
		"detaching and freeing",
	}
	times := make([][]float64, len(names))
	for range runs {
		whole, err := b.startCommand(ctx, idle.pid())
		if err != nil {
			return err
		}
		alone, err := startHere(ctx, idle.pid())
		if err != nil {
			return err
		}
		for i, d := range append(whole, alone...) {
			times[i] = append(times[i], d.Seconds()*1e3)
		}
	}
	t := table{head: []string{"", "ms"}}
	for i, name := range names {
		s := spreadOf(times[i])
		t.add(name, fmt.Sprintf("%.1f [%.1f..%.1f]", s.median, s.q1, s.q3))
	}
	fmt.Fprintf(b.out, "Median [quartiles] of %d.\n\n", runs)
	return t.write(b.out)
}

// startCommand times the start and the end of the command.
func (b *bench) startCommand(ctx context.Context, pid int) ([]time.Duration, error) {
	began := time.Now()
	c, err := b.beginMaptrace(ctx, pid, "trace", "--summary-only")
	if err != nil {
		return nil, err
	}
	up := time.Since(began)
	began = time.Now()
	err = stopPeer(c)
	return []time.Duration{up, time.Since(began)}, err
}

// startHere times the steps of it in this process.
func startHere(ctx context.Context, pid int) ([]time.Duration, error) {
	began := time.Now()
	s, err := traceHere(ctx, pid)
	if err != nil {
		return nil, err
	}
	opened, known := s.opened.Sub(began), time.Since(s.opened)
	began = time.Now()
	_, err = s.stop()
	return []time.Duration{opened, known, time.Since(began)}, err
}
