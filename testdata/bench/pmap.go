//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
)

// tabled is a table of pmap's to measure.
type tabled struct {
	title string
	flags []string
	same  bool // every version of pmap prints what maptrace prints
}

// -X changed with the versions of pmap, by bytes that take no time.
var pmapTables = []tabled{
	{"default", nil, true},
	{"`-x`", []string{"-x"}, true},
	{"`-X`", []string{"-X"}, false},
}

// besidePmap is the part about the command pmap, beside the one it imitates.
func (b *bench) besidePmap(ctx context.Context) error {
	original, _ := exec.LookPath("pmap")
	if original == "" {
		_, err := fmt.Fprintln(b.out, "Left out: pmap is not installed.")
		return err
	}
	vmas, err := b.compile(ctx, filepath.Join(b.workload, "vmas.c"))
	if err != nil {
		return err
	}
	t := table{head: []string{"mappings", "table", "pmap, ms", "maptrace, ms", "ratio", "pmap, MiB", "maptrace, MiB"}}
	for _, n := range []int{100, 1000, 10_000, 60_000} {
		if err := b.besidePmapAt(ctx, &t, original, vmas, n); err != nil {
			return fmt.Errorf("%d mappings: %w", n, err)
		}
	}
	fmt.Fprintf(b.out, `The whole run of `+"`maptrace pmap`"+`, from exec to exit, on a stopped process, each between two of %s, with the output to
/dev/null; medians, and of the ratios the quartiles. MiB are the most that was resident.

`, b.version(ctx, original, "--version"))
	return t.write(b.out)
}

// besidePmapAt adds the rows for a process with n mappings of its own making;
// its program and libraries have some more.
func (b *bench) besidePmapAt(ctx context.Context, t *table, original, vmas string, n int) error {
	target, err := b.mapped(ctx, vmas, n)
	if err != nil {
		return err
	}
	defer target.kill()
	pid := strconv.Itoa(target.pid())
	for _, tab := range pmapTables {
		theirs := append(append([]string{original}, tab.flags...), pid)
		ours := append(append([]string{b.maptrace, "pmap"}, tab.flags...), pid)
		if err := sameOutput(ctx, theirs, ours); err != nil && tab.same {
			return err
		}
		took, peak, err := b.inTurn(ctx, theirs, ours)
		if err != nil {
			return err
		}
		c := compare(took[0], took[1])
		t.add(grouped(uint64(n)), tab.title, fmt.Sprintf("%.1f", c.base.median), fmt.Sprintf("%.1f", spreadOf(took[1]).median),
			c.ratio.ratio(), fmt.Sprintf("%.1f", spreadOf(peak[0]).median), fmt.Sprintf("%.1f", spreadOf(peak[1]).median))
	}
	return nil
}

// mapped starts a process with n mappings and stops it when it has them.
func (b *bench) mapped(ctx context.Context, vmas string, n int) (_ *child, err error) {
	var said head
	c := newChild(vmas, strconv.Itoa(n))
	c.cmd.Stdout = &said
	if _, err = c.cmd.StdinPipe(); err != nil { // it lives as long as this is open
		return nil, err
	}
	if err = c.start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.kill()
		}
	}()
	const patience = 10 * time.Second
	err = await(ctx, "mappings to read", patience, time.Millisecond, func() (bool, error) {
		return said.String() != "", c.alive()
	})
	if err != nil {
		return nil, err
	}
	if err = unix.Kill(c.pid(), unix.SIGSTOP); err != nil {
		return nil, err
	}
	p, err := procmaps.Default().Process(c.pid())
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return c, await(ctx, "the process to stop", patience, time.Millisecond, func() (bool, error) {
		st, err := p.Stat()
		return err == nil && st.State == 'T', err
	})
}

// sameOutput runs two commands, whose output must be the same.
func sameOutput(ctx context.Context, theirs, ours []string) error {
	want, err := exec.CommandContext(ctx, theirs[0], theirs[1:]...).Output()
	if err != nil {
		return fmt.Errorf("%v: %w", theirs, err)
	}
	got, err := exec.CommandContext(ctx, ours[0], ours[1:]...).Output()
	if err != nil {
		return fmt.Errorf("%v: %w", ours, err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%v and %v print different bytes", theirs, ours)
	}
	return nil
}

// inTurn runs two commands in turn, the first once more than the second, and
// returns the ms that each run took and its peak memory in MiB.
func (b *bench) inTurn(ctx context.Context, commands ...[]string) (took, peak [2][]float64, err error) {
	defer b.note("%v", commands[1])()
	least, most, limit := 5, 60, 7*time.Second
	if b.short {
		least, limit = 3, time.Second
	}
	one := func(i int) error {
		ms, mib, failed := b.wholeRun(ctx, commands[i])
		took[i], peak[i] = append(took[i], ms), append(peak[i], mib)
		return failed
	}
	if err = one(0); err != nil {
		return took, peak, err
	}
	began := time.Now()
	for i := 0; i < least || i < most && time.Since(began) < limit; i++ {
		if err = one(1); err == nil {
			err = one(0)
		}
		if err != nil {
			return took, peak, err
		}
	}
	return took, peak, nil
}

// wholeRun runs a command to its end.
func (b *bench) wholeRun(ctx context.Context, argv []string) (ms, mib float64, err error) {
	result := filepath.Join(b.dir, "whole-run")
	c, err := start(append([]string{b.timed, result}, argv...)...)
	if err != nil {
		return 0, 0, err
	}
	if err = c.wait(ctx, time.Minute); err != nil {
		return 0, 0, err
	}
	took, peakKB, err := timedResult(result)
	return took.Seconds() * 1e3, float64(peakKB) / 1024, err
}
