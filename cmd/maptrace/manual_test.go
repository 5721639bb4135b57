package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/maptrace/maptrace/cmd/maptrace/docs"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
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

func TestEveryCommandOptionAndTopicHasItsPlaceInTheManual(t *testing.T) {
	t.Parallel()
	dir := makeManual(t)
	page := func(name, section string) string {
		text, err := os.ReadFile(filepath.Join(dir, "man/man"+section, name+"."+section))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	check := func(name, section string, sections, options []string) {
		text := page(name, section)
		rest := text
		for _, s := range sections {
			_, after, ok := strings.Cut(rest, "\n.SH "+s+"\n")
			if !ok {
				t.Errorf("%s(%s) has no %s, or not where it belongs", name, section, s)
				continue
			}
			rest = after
		}
		if !strings.Contains(text, `"2023-11-14" "maptrace v1.2"`) {
			t.Errorf("%s(%s) has another date or version than it was given", name, section)
		}
		// What go-md2man makes of a block of code that it does not see as one.
		if strings.Contains(text, "```") || strings.Contains(text, "\\(ga\\(ga") || strings.Contains(text, "\\fB\n") {
			t.Errorf("%s(%s) has code that is prose: it may stand below a list", name, section)
		}
		for _, o := range options {
			o = strings.ReplaceAll(o, "-", `\-`)
			if !strings.Contains(text, `\fB`+o+`\fP`) {
				t.Errorf("%s(%s) lacks %s", name, section, o)
			}
		}
	}
	root := newRoot(streams{})
	sections := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"}
	check("maptrace", "1", []string{"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "TOPICS", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"}, []string{"--version"})
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
		check("maptrace-"+c.Name(), "1", sections, options)
	}
	for _, topic := range docs.Topics() {
		n++
		check("maptrace-"+topic.Name, "7", []string{"NAME", "DESCRIPTION", "SEE ALSO"}, nil)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man/man*/*"))
	if err != nil || len(pages) != n {
		t.Errorf("%d pages for %d commands and topics (%v): %q", len(pages), n, err, pages)
	}
	lacksPages(t, dir, pages)
	for command, names := range columnNames(t) {
		text := strings.ReplaceAll(page("maptrace-"+command, "1"), `\-`, "-")
		for _, name := range names {
			if !strings.Contains(text, name) {
				t.Errorf("maptrace-%s(1) does not explain %s", command, name)
			}
		}
	}
	if text := page("maptrace-pmap", "1"); !strings.Contains(text, ".TP\n\\fB42\\fP\n") {
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

// columnNames are the columns and final figures that commands print.
func columnNames(t *testing.T) map[string][]string {
	t.Helper()
	heading := func(golden, begin string) []string {
		text, err := os.ReadFile("internal/render/testdata/" + golden)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, begin) {
				return strings.Fields(line)
			}
		}
		t.Fatalf("%s has no line that begins with %s", golden, begin)
		return nil
	}
	return map[string][]string{
		"trace": append(strings.Fields(string((&render.Text{}).AppendHeader(nil))),
			"Kbytes", "Delta", "Ops", "events", "failed", "sections", "missed", "other", "late", "re-reads", "audits", "lost", "drift", "violations", "ordering", "accuracy"),
		"grow": append(heading("growth.txt", "VERDICT "), "calls", "stacks", "words were watched", "page faults", "resident pages by"),
		"lat":  {"OPERATION", "COUNT", "FAILED", "TOTAL", "P50", "P90", "P99", "P99.9", "MAX", "WRITE", "CALLS", "WAIT", "HOLD", "TIME", "PID/TID", "SIZE", "DURATION", "STACK"},
		"pmap": {"Address", "Kbytes", "RSS", "Dirty", "Mode", "Mapping", "Offset", "Device", "Perm", "Inode", "Pss", "Swap", "VmFlags", "Rows", "Kind", "Delta", "Last"},
	}
}

// lacksPages tells of pages that others refer to and that are not there.
func lacksPages(t *testing.T, dir string, pages []string) {
	t.Helper()
	for _, p := range pages {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\\fB(maptrace[a-z\\-]*)\\fP\((\d)\)`).FindAllStringSubmatch(string(text), -1) {
			name := strings.ReplaceAll(m[1], `\-`, "-") + "." + m[2]
			if _, err := os.Stat(filepath.Join(dir, "man/man"+m[2], name)); err != nil {
				t.Errorf("%s refers to %s: %v", filepath.Base(p), name, err)
			}
		}
	}
}

// lintManual asks those formatters that are there.
func lintManual(t *testing.T, pages []string) {
	t.Helper()
	for _, linter := range [][]string{
		{"mandoc", "-T", "lint", "-W", "warning"},
		{"groff", "-t", "-man", "-Tutf8", "-Kutf8", "-ww", "-z"},
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
