package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/maptrace/maptrace/testdata/tool"
)

// makeManual runs the program that writes manual pages and completions, as "make
// share" does.
func makeManual(t *testing.T) (dir string) {
	t.Helper()
	if raced {
		t.Skip("it builds a program of its own, without the race detector")
	}
	dir = t.TempDir()
	cmd := exec.Command("go", "run", "-tags", "manual", ".", "-version", "v1.2", dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestEveryCommandAndOptionHasItsPlaceInTheManual(t *testing.T) {
	t.Parallel()
	dir := makeManual(t)
	page := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, "man/man1", name+".1"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	check := func(name string, sections, options []string) {
		text := page(name)
		rest := text
		for _, s := range sections {
			_, after, ok := strings.Cut(rest, "\n.SH \""+s+"\"\n")
			if !ok {
				t.Errorf("%s(1) has no %s, or not where it belongs", name, s)
				continue
			}
			rest = after
		}
		if !strings.Contains(text, `"2023-11-14" "maptrace v1.2"`) {
			t.Errorf("%s(1) has another date or version than it was given", name)
		}
		for _, o := range options {
			o = strings.ReplaceAll(o, "-", `\-`)
			if !strings.Contains(text, `\fB`+o+`\fP`) && !strings.Contains(text, `\fB`+o+`=\fP`) {
				t.Errorf("%s(1) lacks %s", name, o)
			}
		}
	}
	root := newRoot(streams{})
	sections := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"}
	check("maptrace", []string{"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"}, []string{"--version"})
	n := 1
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		n++
		var options []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				options = append(options, "--"+f.Name)
			}
		})
		if c.Name() == "pmap" {
			for _, f := range pmapFlags {
				switch {
				case f.Long != "":
					options = append(options, "--"+f.Long)
				case f.Short != 'r': // which pmap's help does not tell either
					options = append(options, "-"+string(f.Short))
				}
			}
		}
		check("maptrace-"+c.Name(), sections, options)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man/man1/*"))
	if err != nil || len(pages) != n {
		t.Errorf("%d pages for %d commands (%v): %q", len(pages), n, err, pages)
	}
	if text := page("maptrace-pmap"); !strings.Contains(text, ".TP\n\\fB42\\fP\n") {
		t.Error("maptrace-pmap(1) has not the exit statuses of pmap")
	}
	for _, path := range []string{
		"bash-completion/completions/maptrace", "zsh/site-functions/_maptrace", "fish/vendor_completions.d/maptrace.fish",
	} {
		if text, err := os.ReadFile(filepath.Join(dir, path)); err != nil || !strings.Contains(string(text), "__complete") {
			t.Errorf("%s does not ask the program for completions (%v)", path, err)
		}
	}
	lintManual(t, pages)
}

// lintManual asks those formatters that are there.
func lintManual(t *testing.T, pages []string) {
	t.Helper()
	for _, linter := range [][]string{
		{"mandoc", "-T", "lint", "-W", "warning"},
		{"groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-z"},
	} {
		path, err := tool.Path(linter[0])
		if err != nil {
			t.Logf("%s was not asked: %v", linter[0], err)
			continue
		}
		out, err := exec.Command(path, append(linter[1:], pages...)...).CombinedOutput()
		complaints := ""
		for line := range strings.Lines(string(out)) {
			// Long lines are a matter of style, and -W warning shows those too if
			// there is nothing worse.
			if !strings.Contains(line, "STYLE: ") {
				complaints += line
			}
		}
		if complaints != "" {
			t.Errorf("%s (%v):\n%s", linter[0], err, complaints)
		}
	}
}
