package heaps

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/maptrace/maptrace/testdata/leaks"
)

// settle is what the programs have to warm up before they are watched, start what the tool may
// take to begin where the CPUs are busy, and more how long they may run on while it starts and
// ends.
const (
	settle = 2 * time.Second
	start  = 10 * time.Second
	more   = time.Minute
)

// Watch runs the program, with dir as its working directory, and "maptrace grow" on it
// for some time.
func (b *Built) Watch(ctx context.Context, maptrace, dir string, duration time.Duration) (Result, error) {
	rate := b.RateFor(settle + start + duration)
	p, err := leaks.Begin(ctx, dir, b.Argv(settle+duration+more, rate))
	if err != nil {
		return Result{}, err
	}
	defer p.End()
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	pid := p.Process.Pid
	cmd := exec.CommandContext(ctx, maptrace, "grow", "--for", duration.String(), "-p", strconv.Itoa(pid), "--json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); err != nil {
		return Result{}, fmt.Errorf("grow: %w: %s", err, errs.Bytes())
	}
	found, err := ReadFindings(&out, pid)
	if err != nil {
		return Result{}, err
	}
	r, err := b.Judge(found)
	r.Rate = rate
	return r, err
}

// Counts are how many programs had each outcome.
type Counts struct {
	// Of programs that leak.
	Leaks, Right, Undecided, Innocent int
	// Of those in which nobody leaks: in how many nobody was named, or somebody.
	Calm, Nobody, Named int
	// Accused is in how many an innocent, or memory where nobody leaks, has
	// the verdict "leaks".
	Accused int
}

// Wrong is in how many programs an innocent is named.
func (n Counts) Wrong() int { return n.Innocent + n.Named }

// Count counts outcomes.
func Count(results []Result) Counts {
	var n Counts
	for _, r := range results {
		if r.Accused {
			n.Accused++
		}
		switch {
		case r.Leaks && r.Outcome == Right:
			n.Right++
		case r.Leaks && r.Outcome == Undecided:
			n.Undecided++
		case r.Leaks:
			n.Innocent++
		case r.Outcome == Right:
			n.Nobody++
		default:
			n.Named++
		}
	}
	n.Leaks = n.Right + n.Undecided + n.Innocent
	n.Calm = n.Nobody + n.Named
	return n
}

// Print writes a row for each program and the totals.
func Print(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROGRAM\tALLOCATOR\tBYTES/MIN\tOUTCOME\tACCUSED\tSAID")
	for _, r := range results {
		kept, accused := "-", "-"
		if r.Leaks {
			kept = strconv.Itoa(r.KeptPerMinute())
		}
		if r.Accused {
			accused = "leaks"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Allocator, kept, r.Outcome, accused, r.Said)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	n := Count(results)
	_, err := fmt.Fprintf(w, "\nof %d that leak: %d right, %d undecided, %d an innocent named\n"+
		"of %d in which nobody leaks: %d nobody named, %d somebody named\nan innocent is said to leak in %d\n",
		n.Leaks, n.Right, n.Undecided, n.Innocent, n.Calm, n.Nobody, n.Named, n.Accused)
	return err
}
