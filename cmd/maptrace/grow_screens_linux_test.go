package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screenTells is what is in the first lines of a screen on something that grows.
var screenTells = []struct {
	what string
	is   *regexp.Regexp
}{
	{"a verdict", regexp.MustCompile(`^(LEAK|GROWS|RETAINED) `)},
	{"a rate", regexp.MustCompile(`\+[0-9.]+ [KMG]?i?B/min`)},
	{"a name, or why it is not known", regexp.MustCompile(`(allocated|kept|mapped)\s+by\s+\S|not\s+known(\s+yet)?:\s+\S`)},
	// To its end: the line behind it, or an empty one, is there too.
	{"what to do next", regexp.MustCompile(`(?m)^next  \S.*\n(      .*\n)*(\n|\S)`)},
}

// untold is what the first ten lines of a screen do not say, or how they do not fit.
func untold(screen string, width int) (missing []string) {
	const first = 10
	lines := strings.SplitAfter(screen, "\n")
	top := strings.Join(lines[:min(first, len(lines))], "")
	for _, want := range screenTells {
		if !want.is.MatchString(top) {
			missing = append(missing, want.what)
		}
	}
	for _, line := range lines {
		// A name that is longer than a line is not broken: it is to be copied whole.
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width && strings.Contains(strings.TrimSpace(line), " ") {
			missing = append(missing, fmt.Sprintf("a line of %d columns: %s", n, line))
		}
	}
	return missing
}

func TestWhatAScreenDoesNotSayIsNoticed(t *testing.T) {
	t.Parallel()
	const good = "LEAK  [heap] +15.0 MiB/min, kept\n      by login (server.c:78)\nwhy   it grew\nnext  see login\n\nProcess 1\n"
	if got := untold(good, 80); got != nil {
		t.Errorf("%q is missing in what has all", got)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"LEAK ", "SHORT", "[a verdict]"},
		{"+15.0 MiB/min", "15 MiB", "[a rate]"},
		{"kept\n      by login", "; who keeps it is not known", "[a name, or why it is not known]"},
		{"next", "then", "[what to do next]"},
		{"why   ", strings.Repeat("why\n", 9), "[what to do next]"},
		{"see login\n\n", strings.Repeat("see\n      ", 9) + "it", "[what to do next]"},
		{"grew", strings.Repeat("grew ", 16), "columns"},
	} {
		if got := fmt.Sprint(untold(strings.Replace(good, tt.from, tt.to, 1), 80)); !strings.Contains(got, tt.want) {
			t.Errorf("with %q for %q: %s, want %s", tt.to, tt.from, got, tt.want)
		}
	}
}

// TestScreensOfRealPrograms watches the programs of testdata/screens, each on a terminal of
// 80x24: the first ten lines say what grows, how fast, who is to blame or why that is not
// known, and what to do. It prints the screens.
func TestScreensOfRealPrograms(t *testing.T) {
	if os.Getenv("MAPTRACE_LONG") != "1" {
		t.Skip("takes a quarter of an hour: make screens")
	}
	needBPF(t)
	needRoot(t)
	scripts, err := filepath.Glob("../../testdata/screens/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".sh"), func(t *testing.T) {
			pid := leaking(t, script)
			const width = 80
			screen := onTerminal(t, width, 24, binary(t), "grow", pid)
			t.Logf("\n%s", screen)
			for _, what := range untold(screen, width) {
				t.Errorf("its first lines do not have %s", what)
			}
		})
	}
}

// leaking starts a script, and returns the number of its process that grows.
func leaking(t *testing.T, script string) string {
	t.Helper()
	cmd, group := situation(t, script)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd, group)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if pid, is := strings.CutPrefix(lines.Text(), "watch "); is {
			// What it does at its start is no leak.
			const warmup = 3 * time.Second
			time.Sleep(warmup)
			return pid
		}
	}
	t.Fatalf("it does not say which process to watch: %s", said.String())
	return ""
}

// onTerminal runs a command on a terminal on which nothing can be drawn, and returns what is
// written to it.
func onTerminal(t *testing.T, width, height uint16, argv ...string) string {
	t.Helper()
	master, user := terminalPair(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TERM=dumb", "LC_ALL=C.UTF-8")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = user, user, user
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := user.Close(); err != nil {
		t.Error(err)
	}
	text, _ := io.ReadAll(master) // it ends with EIO, as nobody has the other side
	_ = cmd.Wait()                // what it says tells
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}
