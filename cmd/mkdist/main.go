// Command mkdist makes what "make dist" leaves in ./dist: for each architecture the
// static binary, an archive and packages of it with manual pages and completions,
// and a bill of materials; and checksums of it all.
//
// The same commit and Go version give the same bytes, whoever builds them, where and
// when. So nothing comes from outside of the commit but the modules that go.sum
// pins: all times are the commit's (or SOURCE_DATE_EPOCH), names are sorted, modes
// are set, owners are root, and settings of the environment that change what the
// compiler makes are put back. "make check-dist" compares two builds.
//
// It is a command of its own, in cmd, because its package is tested and linted as
// the others are, which it would not be under testdata, and imports nothing of
// maptrace, into which it must not be linked either.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkdist:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mkdist", flag.ContinueOnError)
	nfpm := flags.String("nfpm", "", "the `command` that makes packages, in words separated by spaces; without it none are made")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return errors.New("usage: mkdist [-nfpm COMMAND], at the top of the work tree")
	}
	if _, err := os.Stat("cmd/mkdist"); err != nil {
		return fmt.Errorf("mkdist runs at the top of the work tree: %w", err)
	}
	work, err := os.MkdirTemp("", "mkdist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	return (&builder{work: work, out: "dist", nfpm: strings.Fields(*nfpm)}).run(ctx)
}
