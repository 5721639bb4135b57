package leaks

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Args appends to what Build returned how long the program is to run and how
// many bytes it is to leak each second.
func Args(argv []string, run time.Duration, bytesPerSecond int) []string {
	return append(slices.Clip(argv),
		strconv.FormatFloat(run.Seconds(), 'f', -1, 64), strconv.Itoa(bytesPerSecond))
}

// Program is a case that runs.
type Program struct {
	*exec.Cmd
	// Offset is where the culprit begins, from the start of the module; 0 if
	// the program does not print it.
	Offset uint64
}

// Start starts a program, with dir as its working directory, and returns when
// it has said "ready". It is killed at the end of the test, if it still runs.
func Start(tb testing.TB, dir string, argv []string) *Program {
	tb.Helper()
	p, err := Begin(tb.Context(), dir, argv)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.End)
	return p
}

// Begin is Start without a test: whoever calls it must call End.
func Begin(ctx context.Context, dir string, argv []string) (*Program, error) {
	p := &Program{Cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.Dir, p.Stderr = dir, os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	if err := p.await(out); err != nil {
		p.End()
		return nil, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return p, nil
}

// End kills the program, if it still runs, and waits until it is gone.
func (p *Program) End() {
	_ = p.Process.Kill() // it may have ended by itself
	_ = p.Wait()
}

// await reads what the program says until it is ready.
func (p *Program) await(out io.Reader) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return nil
		}
		var name string
		if _, err := fmt.Sscanf(lines.Text(), "culprit %s 0x%x", &name, &p.Offset); err != nil {
			return fmt.Errorf("it says %q: %w", lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
