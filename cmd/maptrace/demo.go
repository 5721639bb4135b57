package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/leaky"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
)

// leakyCommand is the hidden command that is the demo's program.
const leakyCommand = "leaky-program"

func newDemo(s streams) *cobra.Command {
	var o attachOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Find the leak of a small program that is built in",
		Long: `demo starts a small program and does to it what "maptrace grow" does: a server
that maps a buffer for each request and unmaps it as it should, fills a cache,
and leaks its sessions. It prints which memory grows, and ends with the function
and the line that leak it.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.duration == 0 {
				return usagef("--for 0: want a time to run, as 4s")
			}
			return runDemo(cmd.Context(), s, o)
		},
	}
	addSpanFlag(cmd, span(&o.duration, 4*time.Second), "the program runs for this `TIME`")
	addOutputFlags(cmd, &o.output, &o.toFile)
	addFlagCompletion(cmd)
	return cmd
}

// newLeaky is the program itself.
func newLeaky() *cobra.Command {
	var length time.Duration
	cmd := &cobra.Command{
		Use: leakyCommand, Hidden: true, Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return leaky.Run(length) },
	}
	cmd.Flags().DurationVar(&length, "duration", time.Second, "how long to run")
	return cmd
}

// runDemo is grow of the program, which runs for as long as its user would watch, with
// little to read.
func runDemo(ctx context.Context, s streams, user attachOptions) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const looks = 40
	o := &growOptions{
		attachOptions: attachOptions{
			target: target{argv: []string{self, leakyCommand, "--duration", user.duration.String()}},
			output: user.output, toFile: user.toFile, calls: await.New(),
		},
		interval: max(user.duration/looks, minInterval), top: 5, frames: render.NoStacks,
		stackRate: tracer.DefaultStackRate, faultRate: defaultFaultRate, budget: defaultBudget,
	}
	if isTerminal(s.err) {
		fmt.Fprintf(s.err, "maptrace: a small server runs for %s, and one of its functions leaks\n", spanText(user.duration))
	}
	return o.printing(s, func(out io.Writer) error { return runGrow(ctx, s, o, out) })
}
