package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// table is what table.txt says; its own comment tells the format.
type table struct {
	checks  []string // what doctor must give a verdict on
	suites  []suite
	kernels []*kernel
}

// suite is a package whose tests run in the guests.
type suite struct {
	dir     string            // from the top of the module
	leftOut map[string]string // tests that do not run in a guest, and why
}

// kernel is one machine of the matrix.
type kernel struct {
	id       string // ends in -amd64 or -arm64
	required bool   // not only for test-kernels-all
	pattern  string // of the package's name
	cpus     int
	append   string            // to the kernel's command line
	less     map[string]string // what doctor must find missing, and why
	fails    map[string]string // what it must find missing so that tracing fails
	skips    map[string]string // tests that must be skipped, as suite.Test, and why
	no32     string            // why it runs no 32-bit programs; "" if it does
	preempts string            // why it may skip programs of ours; "" if it must not
	refused  string            // why nothing can be traced; "" if it can
}

// name is the name of the suite's binary, and the first part of its tests' names.
func (s *suite) name() string { return path.Base(s.dir) }

// arch is the kernel's architecture, as Go and Debian call it.
func (k *kernel) arch() string {
	if strings.Contains(k.id, "arm64") {
		return "arm64"
	}
	return "amd64"
}

// find returns the kernel of that name, or nil.
func (t *table) find(id string) *kernel {
	for _, k := range t.kernels {
		if k.id == id {
			return k
		}
	}
	return nil
}

// parseTable reads table.txt. Errors name the line.
func parseTable(r io.Reader) (*table, error) {
	t := &table{}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := t.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(t.checks) == 0 || len(t.suites) == 0 || len(t.kernels) == 0 {
		return nil, errors.New("a table needs checks, suites and kernels")
	}
	return t, t.check()
}

func (t *table) line(line string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return fmt.Errorf("%q needs an argument", word)
	}
	indented := line[0] == ' ' || line[0] == '\t'
	switch word {
	case "check":
		t.checks = append(t.checks, rest)
		return mustNot(indented, word)
	case "suite":
		t.suites = append(t.suites, suite{dir: rest, leftOut: map[string]string{}})
		return mustNot(indented, word)
	case "kernel":
		return errors.Join(mustNot(indented, word), t.kernel(strings.Fields(rest)))
	}
	if !indented {
		return fmt.Errorf("unknown word %q", word)
	}
	if word == "without" {
		if len(t.suites) == 0 || len(t.kernels) > 0 {
			return errors.New("without belongs to a suite")
		}
		return note(t.suites[len(t.suites)-1].leftOut, rest)
	}
	if len(t.kernels) == 0 {
		return fmt.Errorf("%s belongs to a kernel", word)
	}
	return t.kernels[len(t.kernels)-1].line(word, rest)
}

func mustNot(indented bool, word string) error {
	if indented {
		return fmt.Errorf("%s must not be indented", word)
	}
	return nil
}

func (t *table) kernel(args []string) error {
	if len(args) != 3 || args[0] != "required" && args[0] != "all" {
		return errors.New(`want "kernel required|all ID PACKAGE"`)
	}
	k := &kernel{
		id: args[1], required: args[0] == "required", pattern: args[2], cpus: 1,
		less: map[string]string{}, fails: map[string]string{}, skips: map[string]string{},
	}
	if t.find(k.id) != nil {
		return fmt.Errorf("kernel %s is there twice", k.id)
	}
	if _, err := path.Match(k.pattern, ""); err != nil {
		return fmt.Errorf("package %q: %w", k.pattern, err)
	}
	t.kernels = append(t.kernels, k)
	return nil
}

func (k *kernel) line(word, rest string) error {
	switch word {
	case "less":
		return note(k.less, rest)
	case "fails":
		return note(k.fails, rest)
	case "skip":
		return note(k.skips, rest)
	case "append":
		k.append = rest
	case "no32":
		k.no32 = rest
	case "preempts":
		k.preempts = rest
	case "refused":
		k.refused = rest
	case "cpus":
		n, err := strconv.Atoi(rest)
		if err != nil || n < 1 {
			return fmt.Errorf("cpus %q: want a number", rest)
		}
		k.cpus = n
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return nil
}

// note takes "NAME: REASON", or several names with "|" between, and insists on the reason.
func note(to map[string]string, text string) error {
	name, reason, _ := strings.Cut(text, ": ")
	if reason = strings.TrimSpace(reason); reason == "" {
		return fmt.Errorf("%q: want a name, a colon and the reason", text)
	}
	for name := range strings.SplitSeq(name, "|") {
		if to[name] != "" {
			return fmt.Errorf("%s is there twice", name)
		}
		to[name] = reason
	}
	return nil
}

// check finds names that stand for nothing.
func (t *table) check() error {
	for _, k := range t.kernels {
		for _, m := range []map[string]string{k.less, k.fails} {
			for name := range m {
				if !slices.Contains(t.checks, name) {
					return fmt.Errorf("kernel %s: %q is no check", k.id, name)
				}
			}
		}
		for name := range k.skips {
			dir, _, _ := strings.Cut(name, ".")
			if !slices.ContainsFunc(t.suites, func(s suite) bool { return s.name() == dir }) {
				return fmt.Errorf("kernel %s: the test %q is of no suite", k.id, name)
			}
		}
		if (len(k.fails) > 0) != (k.refused != "") {
			return fmt.Errorf("kernel %s: what fails and what is refused go together", k.id)
		}
	}
	return nil
}
