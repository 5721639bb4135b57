package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSkipsAreCountedAndWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		in, want string
	}{
		{"nothing is skipped", `{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.1s\n"}
{"Action":"pass","Package":"a"}
`, "ok  \ta\t0.1s\n"},
		{"programs and other reasons", `{"Action":"output","Package":"a","Test":"A","Output":"=== RUN   A\n"}
{"Action":"output","Package":"a","Test":"A","Output":"    a_test.go:7: needs readelf, which is not installed\n"}
{"Action":"output","Package":"a","Test":"A","Output":"--- SKIP: A (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"A"}
{"Action":"output","Package":"a","Test":"B/one","Output":"        b_test.go:9: needs gcc, which does not run: exit status 1: no\n"}
{"Action":"skip","Package":"a","Test":"B/one"}
{"Action":"output","Package":"a","Test":"B/two","Output":"        b_test.go:9: takes minutes: set X=1\n"}
{"Action":"skip","Package":"a","Test":"B/two"}
{"Action":"output","Package":"a","Test":"B","Output":"    b_test.go:8: some left out: needs nm, which is not installed\n"}
{"Action":"pass","Package":"a","Test":"B"}
{"Action":"output","Package":"a","Output":"ok  \ta\t(cached)\n"}
{"Action":"pass","Package":"a"}
{"Action":"output","Package":"b","Test":"C","Output":"    c_test.go:1: takes minutes: set X=1\n"}
{"Action":"skip","Package":"b","Test":"C"}
{"Action":"skip","Package":"b","Test":"D"}
{"Action":"output","Package":"b","Output":"ok  \tb\t1.0s\n"}
{"Action":"pass","Package":"b"}
{"Action":"output","Package":"c","Output":"?   \tc\t[no test files]\n"}
{"Action":"skip","Package":"c"}
`, "ok  \ta\t(cached)\nok  \tb\t1.0s\n?   \tc\t[no test files]\n" +
			"2 skipped: takes minutes: set X=1\n1 skipped: \n2 skipped: install binutils, gcc libc6-dev\n"},
		{"a program is missing for a part only", `{"Action":"output","Package":"a","Test":"A","Output":"    a_test.go:8: some left out: needs nm, which is not installed\n"}
{"Action":"pass","Package":"a","Test":"A"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.1s\n"}
{"Action":"pass","Package":"a"}
`, "ok  \ta\t0.1s\nsome left out in part: install binutils\n"},
		{"a package dies amid tests", `{"Action":"output","Package":"a","Test":"B","Output":"=== RUN   B\n"}
{"Action":"output","Package":"a","Test":"B","Output":"    a_test.go:9: a log\n"}
{"Action":"output","Package":"a","Test":"A","Output":"panic: of a goroutine\n"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
`, "panic: of a goroutine\n    a_test.go:9: a log\nFAIL\ta\t0.1s\nFAIL\n"},
		{"what is no event", "go: no such tool\n{\"Action\":\n", "go: no such tool\n{\"Action\":\n"},
	} {
		var out bytes.Buffer
		r := report{out: &out}
		if err := r.read(strings.NewReader(tt.in)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := r.end(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// module is one of which a package passes, one fails, others end amid a test, and
// others have no tests or cannot be built.
var module = map[string]string{
	"go.mod": "module example.com/m\n\ngo 1.26\n",
	"passes/x_test.go": `package passes
import ("fmt"; "testing")
func TestPasses(t *testing.T) { t.Log("a log"); fmt.Println("to standard output") }
func TestSkips(t *testing.T) { t.Skip("needs no-such-program, which is not installed") }
`,
	"fails/x_test.go": `package fails
import "testing"
func TestPasses(t *testing.T) { t.Log("a log") }
func TestFails(t *testing.T) {
	t.Log("before")
	t.Run("passes", func(t *testing.T) { t.Log("a log") })
	t.Run("skips", func(t *testing.T) { t.Skip("because of that") })
	t.Run("fails", func(t *testing.T) { t.Run("within", func(t *testing.T) { t.Error("is wrong\nin two lines") }) })
	t.Run("in parallel", func(t *testing.T) { t.Parallel(); t.Error("and this too") })
	t.Error("after")
}
`,
	"panics/x_test.go": `package panics
import "testing"
func TestPasses(t *testing.T) { t.Log("a log") }
func TestPanics(t *testing.T) { panic("that was it") }
`,
	// Without logs: those of a test that has not ended are held back without -v.
	"exits/x_test.go": `package exits
import ("fmt"; "os"; "testing")
func TestPasses(t *testing.T) {}
func TestExits(t *testing.T) {
	fmt.Println("before")
	t.Run("within", func(t *testing.T) { fmt.Println("within"); os.Exit(3) })
}
`,
	"dies/x_test.go": `package dies
import ("fmt"; "testing")
func TestDies(t *testing.T) { fmt.Println("before"); go func() { panic("in a goroutine") }(); select {} }
`,
	// ... does not match it.
	"testdata/hangs/x_test.go": `package hangs
import ("fmt"; "testing")
func TestHangs(t *testing.T) { fmt.Println("before"); select {} }
`,
	"unbuilt/x_test.go": "package unbuilt\nimport \"testing\"\nfunc TestX(t *testing.T) { undefined() }\n",
	"untested/x.go":     "package untested\n",
}

// inModule runs in the module what prints to a file.
func inModule(t *testing.T, dir string, f func(out *bytes.Buffer) int) (string, int) {
	t.Helper()
	t.Chdir(dir)
	var out bytes.Buffer
	code := f(&out)
	// What differs from run to run.
	text := regexp.MustCompile(`\(?\d+(?:\.\d+)?s\)?|0x[0-9a-f]+|\+?goroutine \d+|\{.*\}|\(cached\)`).ReplaceAllString(out.String(), "*")
	return text, code
}

func TestItPrintsWhatGoTestPrints(t *testing.T) {
	dir := t.TempDir()
	for name, text := range module {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		packages string // and flags
		code     int
		skips    string
	}{
		{"./passes", 0, "1 skipped: install no-such-program\n"},
		{"./untested", 0, ""},
		{"./fails", 1, "1 skipped: because of that\n"},
		{"./panics", 1, ""},
		{"./exits", 1, ""},
		{"./dies", 1, ""},
		{"-timeout 2s ./testdata/hangs", 1, ""},
		{"./...", 1, "1 skipped: because of that\n1 skipped: install no-such-program\n"},
	} {
		// A single package is tested as go test tests several.
		args := append([]string{"-p", "1"}, strings.Fields(tt.packages)...)
		want, code := inModule(t, dir, func(out *bytes.Buffer) int {
			cmd := exec.Command("go", append([]string{"test"}, args...)...)
			cmd.Stdout = out
			_ = cmd.Run() // the code says it
			return cmd.ProcessState.ExitCode()
		})
		var stderr bytes.Buffer
		got, ours := inModule(t, dir, func(out *bytes.Buffer) int {
			status, err := run(args, out, &stderr)
			if err != nil {
				t.Error(err)
			}
			return status
		})
		if code != tt.code || ours != code {
			t.Errorf("%s: exit code %d, that of go test is %d, want %d; standard error %q", tt.packages, ours, code, tt.code, &stderr)
		}
		// go test says on standard error what cannot be built.
		got = regexp.MustCompile(`(?m)^(#|unbuilt/).*\n`).ReplaceAllString(got, "")
		if diff := cmp.Diff(want+tt.skips, got); diff != "" {
			t.Errorf("%s (-go test +runtests):\n%s", tt.packages, diff)
		}
	}
}

// TestItEndsWhereNothingCanBeWritten has go test write more than a pipe holds to a
// reader that has stopped.
func TestItEndsWhereNothingCanBeWritten(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      module["go.mod"],
		"x_test.go":   "package m\nimport (\"fmt\"; \"strings\"; \"testing\")\nfunc TestX(t *testing.T) { fmt.Println(strings.Repeat(\"a line\\n\", 100_000)); t.Fail() }\n",
		"a/x_test.go": "package a\nimport \"testing\"\nfunc TestX(t *testing.T) {}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	var stderr bytes.Buffer
	if code, err := run([]string{"-p", "1", "./a", "."}, full, &stderr); code == 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("exit code %d, error %v", code, err)
	}
}
