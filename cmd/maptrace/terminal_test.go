package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyTerminalsAreTerminals(t *testing.T) {
	t.Parallel()
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer pipe.Close()
	closed := openFile(t, os.DevNull)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		w    io.Writer
	}{
		{"a character device", openFile(t, os.DevNull)},
		{"a file", openFile(t, filepath.Join(t.TempDir(), "plain"))},
		{"a pipe", pipe},
		{"a file that is closed", closed},
		{"a buffer", new(bytes.Buffer)},
	} {
		if isTerminal(tt.w) {
			t.Errorf("%s is taken for a terminal", tt.name)
		}
	}
	if !isTerminal(pseudoTerminal(t)) {
		t.Error("a terminal is not taken for one")
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOCTTY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // one is closed already
	return f
}

// pseudoTerminal opens both sides of a terminal, and returns that of its user.
func pseudoTerminal(t *testing.T) *os.File {
	t.Helper()
	_, user := terminalPair(t)
	return user
}

// terminalPair opens a terminal, and returns both sides: what draws it, and its user's.
func terminalPair(t *testing.T) (master, user *os.File) {
	t.Helper()
	if _, err := os.Stat("/dev/ptmx"); err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	master = openFile(t, "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, openFile(t, "/dev/pts/"+strconv.Itoa(n))
}

func TestTablesOfAWatchFitTheTerminal(t *testing.T) {
	t.Parallel()
	const of = "0123456789\n日本語日本語\nab\n"
	for _, tt := range []struct {
		width int
		ascii bool
		want  string
	}{
		{0, false, of},
		{80, false, of},
		{8, false, "0123456…\n日本語…\nab\n"},
		{8, true, "01234...\n日本...\nab\n"},
	} {
		if got := string(cutTo(tt.width, tt.ascii, []byte(of))); got != tt.want {
			t.Errorf("in %d columns, ASCII %t: %q, want %q", tt.width, tt.ascii, got, tt.want)
		}
	}
}
