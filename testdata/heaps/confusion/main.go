// Confusion runs "maptrace grow" on the programs of testdata/heaps and prints how often
// it names who keeps the heap, nobody, or an innocent.
//
//	confusion -maptrace PATH [-for 25s] [-only REGEXP] [-parallel 2] [-right N]
//
// Each process is watched by a maptrace of its own. The exit status is 1 where an innocent
// is named in any program, or the right name is found in fewer than N.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/maptrace/maptrace/testdata/heaps"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "confusion:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// options are what the command line says.
type options struct {
	maptrace        string
	duration        time.Duration
	only            *regexp.Regexp
	parallel, right int
}

func parse(args []string) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("confusion", flag.ContinueOnError)
	f.StringVar(&o.maptrace, "maptrace", "./maptrace", "the `program` to try")
	f.DurationVar(&o.duration, "for", 25*time.Second, "how long each is watched")
	f.StringVar(&only, "only", "", "`regexp` of the names of the programs to watch")
	f.IntVar(&o.parallel, "parallel", 2, "how many are watched at once")
	f.IntVar(&o.right, "right", 0, "fail where fewer than `n` right names are found")
	err := f.Parse(args)
	if err == nil && (f.NArg() > 0 || o.parallel < 1) {
		err = errors.New("there are no arguments, and -parallel is at least 1")
	}
	if err != nil {
		return o, err
	}
	if o.only, err = regexp.Compile(only); err != nil {
		return o, err
	}
	o.maptrace, err = filepath.Abs(o.maptrace)
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "heaps-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := build(ctx, dir, o.only)
	if err != nil {
		return err
	}
	results, failed := o.watch(ctx, programs, dir)
	if err := heaps.Print(os.Stdout, results); err != nil {
		return err
	}
	n := heaps.Count(results)
	if n.Wrong() > 0 {
		failed = errors.Join(failed, fmt.Errorf("an innocent is named in %d programs", n.Wrong()))
	}
	if n.Right < o.right {
		failed = errors.Join(failed, fmt.Errorf("%d right names are found, want %d", n.Right, o.right))
	}
	return failed
}

// build builds what can be built here, so that compilers are done before the first
// program is watched.
func build(ctx context.Context, dir string, only *regexp.Regexp) ([]*heaps.Built, error) {
	var programs []*heaps.Built
	for _, c := range heaps.All() {
		if !only.MatchString(c.Name) {
			continue
		}
		if err := c.Missing(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: it %v\n", c.Name, err)
			continue
		}
		b, err := c.Build(ctx, dir)
		if err != nil {
			return nil, err
		}
		programs = append(programs, b)
	}
	return programs, nil
}

// watch watches all programs, so many at once, and returns the results of those that it
// could watch.
func (o *options) watch(ctx context.Context, programs []*heaps.Built, dir string) ([]heaps.Result, error) {
	results, errs := make([]*heaps.Result, len(programs)), make([]error, len(programs))
	free := make(chan struct{}, o.parallel) // one for each that may be watched
	var group sync.WaitGroup
	for i, b := range programs {
		free <- struct{}{}
		group.Go(func() {
			defer func() { <-free }()
			r, err := b.Watch(ctx, o.maptrace, dir, o.duration)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", b.Name, err)
				return
			}
			results[i] = &r
			fmt.Fprintf(os.Stderr, "%s: %s\n", b.Name, r.Outcome)
		})
	}
	group.Wait()
	var watched []heaps.Result
	for _, r := range results {
		if r != nil {
			watched = append(watched, *r)
		}
	}
	return watched, errors.Join(errs...)
}
