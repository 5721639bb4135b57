// Command kernels boots the kernels that Debian packages, emulated by qemu, and runs
// the tests that need a kernel and one story from end to end in each: "make
// test-kernels". table.txt says which kernels, and what each may lack.
//
//	go run ./testdata/kernels                  the required ones
//	go run ./testdata/kernels -all             every one
//	go run ./testdata/kernels -kernel 6.1-amd64,7.3-arm64
//	go run ./testdata/kernels -kernel 6.12-amd64 -run 'maptrace doctor'
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

//go:embed table.txt
var tableText string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type options struct {
	all       bool
	kernels   string
	command   string
	add       string
	cache     string
	limit     time.Duration
	jobs      int
	fetchOnly bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	fs := flag.NewFlagSet("kernels", flag.ContinueOnError)
	fs.BoolVar(&o.all, "all", false, "every kernel of the table, not only the required ones")
	fs.StringVar(&o.kernels, "kernel", "", "only these, separated by commas")
	fs.StringVar(&o.command, "run", "", "run nothing but this command in the guest, and show the console")
	fs.StringVar(&o.add, "add", "", "a file, such as a static program, to put into /bin of the guest")
	fs.StringVar(&o.cache, "cache", "", "where kernels are kept (default $MAPTRACE_KERNELS, or the user's cache)")
	fs.DurationVar(&o.limit, "timeout", 120*time.Second, "how much time of a processor a machine may take")
	fs.IntVar(&o.jobs, "j", 2, "how many machines run at a time")
	fs.BoolVar(&o.fetchOnly, "fetch", false, "fetch the kernels and do nothing else")
	if err := fs.Parse(args); err != nil {
		return err
	}
	t, err := parseTable(strings.NewReader(tableText))
	if err != nil {
		return fmt.Errorf("table.txt: %w", err)
	}
	kernels, err := choose(t, &o)
	if err != nil {
		return err
	}
	if o.cache == "" {
		if o.cache, err = defaultCache(); err != nil {
			return err
		}
	}
	if o.jobs < 1 {
		return fmt.Errorf("-j %d: want one machine or more", o.jobs)
	}
	m := &matrix{options: o, table: t, out: out}
	return m.run(ctx, kernels)
}

// choose returns the kernels that were asked for.
func choose(t *table, o *options) ([]*kernel, error) {
	if o.kernels == "" && o.command != "" {
		return nil, errors.New("-run needs -kernel")
	}
	var out []*kernel
	if o.kernels != "" {
		for id := range strings.SplitSeq(o.kernels, ",") {
			k := t.find(id)
			if k == nil {
				return nil, fmt.Errorf("-kernel %q: the table does not have it", id)
			}
			out = append(out, k)
		}
		return out, nil
	}
	for _, k := range t.kernels {
		if k.required || o.all {
			out = append(out, k)
		}
	}
	return out, nil
}

// matrix is one run.
type matrix struct {
	options
	table *table
	out   io.Writer
}

// outcome is what became of one kernel.
type outcome struct {
	*verdict
	kernel  *kernel
	image   image
	seconds float64 // by the clock
	cpu     float64 // of a processor
	console string
	absent  error // the archive does not have it
}

func (m *matrix) run(ctx context.Context, kernels []*kernel) error {
	start := time.Now()
	results, err := m.fetch(ctx, kernels)
	if err != nil || m.fetchOnly {
		return err
	}
	payloads := map[string]*payload{}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	suites := m.table.suites
	if m.command != "" {
		suites = nil
	}
	for _, r := range results {
		if arch := r.kernel.arch(); payloads[arch] == nil && r.absent == nil {
			if payloads[arch], err = build(ctx, root, arch, suites); err != nil {
				return err
			}
		}
	}
	if m.add != "" {
		data, err := os.ReadFile(m.add)
		if err != nil {
			return err
		}
		for _, p := range payloads {
			p.files["bin/"+filepath.Base(m.add)] = data
		}
	}
	fmt.Fprintf(m.out, "fetched and built in %.0f s\n", time.Since(start).Seconds())
	if m.command != "" {
		return m.single(ctx, results, payloads)
	}
	start = time.Now()
	var wg sync.WaitGroup
	slots := make(chan struct{}, m.jobs)
	for _, r := range results {
		if r.absent != nil {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			m.machine(ctx, r, payloads[r.kernel.arch()])
		})
	}
	wg.Wait()
	return m.report(results, time.Since(start))
}

// machine boots one kernel and judges it.
func (m *matrix) machine(ctx context.Context, r *outcome, p *payload) {
	f, err := os.Create(m.consolePath(r.kernel))
	if err != nil {
		r.fault("keep the console: %v", err)
		return
	}
	start := time.Now()
	text, cpu, err := boot(ctx, r.kernel, r.image, p, m.table.plan(r.kernel), m.limit, f)
	err = errors.Join(err, f.Close())
	r.seconds = time.Since(start).Seconds()
	r.cpu, r.console = cpu, text
	r.verdict = m.table.judge(r.kernel, parseConsole(text))
	if err != nil {
		r.fault("%v", err)
	}
}

// consolePath is where a guest's console goes.
func (m *matrix) consolePath(k *kernel) string { return filepath.Join(m.cache, k.id+".console") }

// single runs one command in each guest and shows what it prints.
func (m *matrix) single(ctx context.Context, results []*outcome, payloads map[string]*payload) error {
	steps := []step{{Name: stepRun, Dir: "/", Argv: strings.Fields(m.command)}}
	for _, r := range results {
		if r.absent != nil {
			return r.absent
		}
		text, _, err := boot(ctx, r.kernel, r.image, payloads[r.kernel.arch()], steps, m.limit, m.out)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", r.kernel.id, err)
		}
		if ran := parseConsole(text).steps[stepRun]; ran == nil || ran.status != 0 {
			return fmt.Errorf("kernel %s: %s failed", r.kernel.id, m.command)
		}
	}
	return nil
}

// report prints the table and what is wrong.
func (m *matrix) report(results []*outcome, took time.Duration) error {
	fmt.Fprint(m.out, "\n| kernel | version | doctor | tests | trace | grow | seconds | of a CPU |\n"+
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	failed := 0
	for _, r := range results {
		if r.absent != nil {
			fmt.Fprintf(m.out, "| %s | not tried: %v | | | | | | |\n", r.kernel.id, r.absent)
			continue
		}
		if len(r.wrong) > 0 {
			failed++
		}
		version, _, _ := strings.Cut(r.version, " ")
		tests := "-"
		if r.kernel.refused == "" {
			tests = fmt.Sprintf("%d passed, %d skipped", r.passed, r.skipped)
		}
		fmt.Fprintf(m.out, "| %s | %s | %s | %s | %s | %s | %.0f | %.0f |\n", r.kernel.id, version, r.support(), tests,
			cmp.Or(r.story, "FAILED"), cmp.Or(r.growth, "FAILED"), r.seconds, r.cpu)
	}
	fmt.Fprintf(m.out, "\n%d machines, %d at a time, in %.0f s\n", len(results), m.jobs, took.Seconds())
	for _, r := range results {
		if len(r.wrong) == 0 {
			continue
		}
		fmt.Fprintf(m.out, "\n%s failed:\n", r.kernel.id)
		for _, w := range r.wrong {
			fmt.Fprintf(m.out, "  %s\n", w)
		}
		fmt.Fprintf(m.out, "the end of its console (all of it is in %s):\n%s\n",
			m.consolePath(r.kernel), tail(r.console, 40))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d kernels failed", failed, len(results))
	}
	return nil
}

// support is doctor's verdict in a few words.
func (v *verdict) support() string {
	switch {
	case len(v.fails) > 0:
		return "no tracing: lacks " + strings.Join(v.fails, ", ")
	case len(v.less) > 0:
		return "all but " + strings.Join(v.less, ", ")
	}
	return "all"
}

// fetch gets the kernels that are not there. One that is required must be.
func (m *matrix) fetch(ctx context.Context, kernels []*kernel) ([]*outcome, error) {
	c := &cache{dir: m.cache, log: m.out}
	out := make([]*outcome, 0, len(kernels))
	for _, k := range kernels {
		r := &outcome{kernel: k, verdict: &verdict{}}
		img, err := c.get(ctx, k)
		if errors.Is(err, errNoPackage) && !k.required {
			r.absent = err
		} else if err != nil {
			return nil, fmt.Errorf("kernel %s: %w", k.id, err)
		}
		r.image = img
		out = append(out, r)
	}
	return out, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(text))), nil
}
