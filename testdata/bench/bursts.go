//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// piece is a part of a slice that is short beside a burst of probes, or little longer.
const piece = 500 * time.Microsecond

// burst is how many times as long as usual operations take in a piece that counts as slow.
const burst = 3

// bursts is the part about how much of what grow costs is in bursts of probes, and how much
// is spread over all the time.
func (b *bench) bursts(ctx context.Context) error {
	slice := 8 * time.Second
	if b.short {
		slice = 2 * time.Second
	}
	programs := []underLoad{b.looping(serving), b.looping(mallocs)}
	t := table{head: []string{"watched by"}}
	for _, p := range programs {
		t.head = append(t.head, p.title)
	}
	most := 0.0
	tools := []tracing{b.nobody()}
	for _, tool := range growers() {
		tools = append(tools, b.watching(&tool, slice, &most))
	}
	for _, tool := range tools {
		row := []string{tool.name}
		for _, p := range programs {
			share, err := b.burstsUnder(ctx, &p, &tool, slice)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", p.title, tool.name, err)
			}
			row = append(row, fmt.Sprintf("%.1f %%", 100*share))
		}
		t.add(row...)
	}
	fmt.Fprintf(b.out, `Of the program's CPU time in %v, what was used in pieces of %v in which an operation took more than %d times as long as
in the median of them.

`, slice, piece, burst)
	return t.write(b.out)
}

// burstsUnder is the part of a program's CPU time under a tool that was in slow pieces.
func (b *bench) burstsUnder(ctx context.Context, p *underLoad, tool *tracing, slice time.Duration) (share float64, err error) {
	defer b.note("%s, %s: %v", p.title, tool.name, slice)()
	w, err := p.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer w.end()
	pieces := &inPieces{byCPU: w}
	tool.slice = slice
	if _, err = b.under(ctx, pieces, *tool, w.pid()); err != nil {
		return 0, err
	}
	return slowShare(pieces.cpu, pieces.ops), nil
}

// inPieces measures a program by its CPU time, piece by piece.
type inPieces struct {
	*byCPU
	cpu, ops []float64 // of each piece: ns, and the operations
}

func (p *inPieces) measure(ctx context.Context, d time.Duration) (float64, error) {
	used, done, err := p.state()
	if err != nil {
		return 0, err
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err = pause(ctx, piece); err != nil {
			return 0, err
		}
		cpu, ops, err := p.state()
		if err != nil {
			return 0, err
		}
		if cpu == used {
			continue // it did not run
		}
		p.cpu, p.ops = append(p.cpu, cpu-used), append(p.ops, ops-done)
		used, done = cpu, ops
	}
	if len(p.cpu) == 0 {
		return 0, errors.New("the program did not run")
	}
	return sum(p.cpu) / sum(p.ops), nil
}

func sum(values []float64) (s float64) {
	for _, v := range values {
		s += v
	}
	return s
}

// slowShare is the part of the CPU time that was in slow pieces. One without an operation
// is slow.
func slowShare(cpu, ops []float64) float64 {
	var each []float64
	for i := range cpu {
		each = append(each, cpu[i]/ops[i])
	}
	usual, slow := spreadOf(each).median, 0.0
	for i := range cpu {
		if each[i] > burst*usual {
			slow += cpu[i]
		}
	}
	return slow / sum(cpu)
}
