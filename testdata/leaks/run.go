package leaks

import (
	"bufio"
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
	p := &Program{Cmd: exec.CommandContext(tb.Context(), argv[0], argv[1:]...)}
	p.Dir, p.Stderr = dir, os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended by itself
		_ = p.Wait()
	})
	if err := p.await(out); err != nil {
		tb.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return p
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
