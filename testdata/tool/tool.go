// Package tool finds and runs the programs that tests need: compilers, interpreters,
// other tools to compare with. One that does not run is as good as one that is not there:
// rustup puts a rustc on PATH that has no compiler behind it, and gcc comes without
// the C library's headers.
package tool

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// trial is how to find out whether a program works.
type trial struct {
	args  []string
	stdin string
}

// version is what most programs know.
var version = trial{args: []string{"--version"}}

var trials = map[string]trial{
	"go":                    {args: []string{"version"}},
	"java":                  {args: []string{"-version"}},
	"javac":                 {args: []string{"-version"}},
	"jcmd":                  {args: []string{"-h"}},
	"mandoc":                {stdin: ".Dd January 1, 2026\n.Dt A 1\n.Os\n"},
	"awk":                   {args: []string{"BEGIN {}"}},
	"sh":                    {args: []string{"-c", ":"}},
	"nginx":                 {args: []string{"-v"}},
	"strace":                {args: []string{"-V"}},
	"gcc":                   compiles("c"),
	"g++":                   compiles("c++"),
	"aarch64-linux-gnu-gcc": compiles("c"),
}

func compiles(language string) trial {
	return trial{args: []string{"-fsyntax-only", "-x", language, "-"}, stdin: "#include <stdio.h>\n"}
}

var found sync.Map // by name, what Path found: func() (string, error)

// Path returns the path of a program, having run it once. The error begins with
// "needs NAME, which".
func Path(name string) (string, error) {
	try, _ := found.LoadOrStore(name, sync.OnceValues(func() (string, error) { return attempt(name) }))
	return try.(func() (string, error))()
}

func attempt(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("needs %s, which is not installed", name)
	}
	t, ok := trials[name]
	if !ok {
		t = version
	}
	const long = time.Minute // for a machine with much else to do
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, t.args...)
	cmd.Stdin = strings.NewReader(t.stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("needs %s, which does not run: %w: %s", name, err, line)
	}
	return path, nil
}

// Need returns the path of a program, or skips the test where it does not run.
func Need(tb testing.TB, name string) string {
	tb.Helper()
	path, err := Path(name)
	if err != nil {
		tb.Skip(err)
	}
	return path
}

// Make runs the command that makes a file, unless the file is there.
func Make(ctx context.Context, path string, argv ...string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}
