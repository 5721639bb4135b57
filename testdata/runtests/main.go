// Command runtests is "go test" that ends with what was skipped, and why: "make
// test". It takes the arguments of go test, prints what that prints without -v, and
// ends with its exit status.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/testdata/tool"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
	}
	os.Exit(code) //nolint:forbidigo // this is main
}

func run(args []string, out, stderr io.Writer) (code int, err error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	if _, err = tool.Path("gcc"); err != nil {
		// Go does so by itself where there is none, and not where one is there that
		// cannot compile.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	events, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err = cmd.Start(); err != nil {
		return 1, err
	}
	r := report{out: out}
	err = r.read(events)
	if err != nil {
		// go test waits for what it writes to be read, and we would wait for its end.
		err = errors.Join(err, events.Close())
	}
	ended := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](ended); ok {
		code = exit.ExitCode()
	} else if err == nil {
		err = ended
	}
	if err == nil {
		err = r.end()
	}
	if err != nil && code == 0 {
		code = 1
	}
	return code, err
}

// event is a line of go test -json: "go doc test2json".
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// report makes what go test prints of its events.
type report struct {
	out      io.Writer
	packages map[string]*results
	failed   bool            // a package has
	reasons  []string        // of each test that was skipped
	programs map[string]bool // that were not there
}

// results are what is known of a package so far.
type results struct {
	lines   []string         // of no test
	failed  []*node          // tests, in the order in which they ended
	running map[string]*node // by name
}

// node is a test, and what it has printed: lines, and the subtests that failed.
type node struct {
	name   string
	header string // the line that says how it ended
	items  []item
	reason string // what it has said last
}

type item struct {
	line string
	sub  *node
}

// want finds what package tool says of a program that is not there.
var want = regexp.MustCompile(`\bneeds (\S+), which (?:is not installed|does not run)`)

// said is what a test says by its methods: the place is put before it.
var said = regexp.MustCompile(`^ +\S+\.go:\d+: (.*)`)

// note is a line that only -v has.
var note = regexp.MustCompile(`^=== (?:RUN|PAUSE|CONT|NAME) `)

func (r *report) read(events io.Reader) error {
	r.packages, r.programs = make(map[string]*results), make(map[string]bool)
	in := bufio.NewReader(events)
	for {
		text, err := in.ReadBytes('\n')
		if len(text) > 0 {
			if e := r.event(text); e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) event(text []byte) error {
	var e event
	if !bytes.HasPrefix(text, []byte("{")) || json.Unmarshal(text, &e) != nil {
		_, err := r.out.Write(text) // from go itself
		return err
	}
	if e.Action == "build-output" {
		_, err := io.WriteString(r.out, e.Output)
		return err
	}
	p := r.packages[e.Package]
	if p == nil {
		p = &results{running: make(map[string]*node)}
		r.packages[e.Package] = p
	}
	switch e.Action {
	case "output":
		if m := want.FindStringSubmatch(e.Output); m != nil {
			r.programs[m[1]] = true
		}
		p.output(&e)
	case "pass", "skip", "fail":
		if e.Test == "" {
			delete(r.packages, e.Package)
			r.failed = r.failed || e.Action == "fail"
			return p.print(r.out, e.Action == "fail")
		}
		n := p.test(e.Test)
		delete(p.running, e.Test)
		switch e.Action {
		case "skip":
			r.reasons = append(r.reasons, n.reason)
		case "fail":
			p.end(n)
		}
	}
	return nil
}

// test returns a test that has not ended.
func (p *results) test(name string) *node {
	n := p.running[name]
	if n == nil {
		n = &node{name: name}
		p.running[name] = n
	}
	return n
}

func (p *results) output(e *event) {
	if e.Test == "" {
		p.lines = append(p.lines, e.Output)
		return
	}
	n := p.test(e.Test)
	if m := said.FindStringSubmatch(e.Output); m != nil {
		n.reason = m[1]
	}
	switch {
	case note.MatchString(e.Output):
	case strings.HasPrefix(e.Output, "--- "):
		n.header = e.Output
	default:
		n.items = append(n.items, item{line: e.Output})
	}
}

// end puts a test that has failed where it belongs: in the one that it is part of.
func (p *results) end(n *node) {
	for parent := n.name; ; {
		i := strings.LastIndexByte(parent, '/')
		if i < 0 {
			p.failed = append(p.failed, n)
			return
		}
		parent = parent[:i]
		if in := p.running[parent]; in != nil {
			in.items = append(in.items, item{sub: n})
			return
		}
	}
}

// print prints what go test does without -v: of a package that has not failed only
// the last line.
func (p *results) print(out io.Writer, failed bool) error {
	var b strings.Builder
	if failed {
		for _, n := range p.failed {
			n.print(&b, "")
		}
		// What has not ended when the process does: it exited, panicked or was killed.
		for _, name := range slices.Sorted(maps.Keys(p.running)) {
			p.running[name].print(&b, "")
		}
	} else if len(p.lines) > 0 {
		p.lines = p.lines[len(p.lines)-1:]
	}
	for _, l := range p.lines {
		b.WriteString(l)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (n *node) print(b *strings.Builder, indent string) {
	if n.header != "" {
		b.WriteString(indent + n.header)
	}
	for _, i := range n.items {
		switch {
		case i.sub != nil:
			i.sub.print(b, indent+"    ")
		case strings.HasPrefix(i.line, "    "):
			b.WriteString(indent + i.line)
		default: // it was printed past the test
			b.WriteString(i.line)
		}
	}
}

// end prints what go test ends with, then a line for each reason that tests were
// skipped for, the commonest first, and at last what would have to be installed.
func (r *report) end() error {
	count := make(map[string]int)
	missing := 0
	if r.failed {
		if _, err := io.WriteString(r.out, "FAIL\n"); err != nil {
			return err
		}
	}
	for _, reason := range r.reasons {
		if want.MatchString(reason) {
			missing++
		} else {
			count[reason]++
		}
	}
	reasons := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	for _, reason := range reasons {
		if _, err := fmt.Fprintf(r.out, "%d skipped: %s\n", count[reason], reason); err != nil {
			return err
		}
	}
	if len(r.programs) == 0 {
		return nil
	}
	install := make(map[string]bool)
	for program := range r.programs {
		install[cmp.Or(packages[program], program)] = true
	}
	what := fmt.Sprintf("%d skipped", missing)
	if missing == 0 {
		what = "some left out in part"
	}
	_, err := fmt.Fprintf(r.out, "%s: install %s\n", what, strings.Join(slices.Sorted(maps.Keys(install)), ", "))
	return err
}

// packages are those of Debian that hold a program of another name.
var packages = map[string]string{
	"addr2line": "binutils", "nm": "binutils", "objcopy": "binutils", "objdump": "binutils", "readelf": "binutils", "strip": "binutils",
	"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
	"java": "default-jdk-headless", "javac": "default-jdk-headless", "jcmd": "default-jdk-headless",
	"libjemalloc.a": "libjemalloc-dev", "libjemalloc.so.2": "libjemalloc-dev", "libmimalloc.so.2": "libmimalloc2.0",
	"libtcmalloc_minimal.so.4": "libtcmalloc-minimal4", "musl-gcc": "musl-tools", "Python.h": "python3-dev",
	"gcc": "gcc libc6-dev", "node": "nodejs", "pmap": "procps", "postgres": "postgresql", "initdb": "postgresql", "psql": "postgresql-client",
	"qemu-aarch64": "qemu-user", "qemu-aarch64-static": "qemu-user-static",
	"nsenter": "util-linux", "runuser": "util-linux", "setpriv": "util-linux", "unshare": "util-linux",
}
