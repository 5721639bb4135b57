package main

import (
	"context"
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
	length := 4 * time.Second
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Find the leak of a small program that is built in",
		Long: `demo starts a small program and does to it what "maptrace grow" does: a server
that maps a buffer for each request and unmaps it as it should, fills a cache, and
leaks its sessions. It prints which memory grows, and ends with the function and
the line that leak it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if length <= 0 {
				return usagef("--duration %s: want a time to run", length)
			}
			return runDemo(cmd.Context(), s, length)
		},
	}
	cmd.Flags().DurationVar(&length, "duration", length, "how long the program runs")
	return cmd
}

// newLeaky is the program itself.
func newLeaky() *cobra.Command {
	var length time.Duration
	cmd := &cobra.Command{
		Use: leakyCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return leaky.Run(length) },
	}
	cmd.Flags().DurationVar(&length, "duration", time.Second, "how long to run")
	return cmd
}

// runDemo is grow of the program, with little to read.
func runDemo(ctx context.Context, s streams, length time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const looks = 40
	o := &growOptions{
		attachOptions: attachOptions{
			target: target{argv: []string{self, leakyCommand, "--duration", length.String()}}, output: "text", calls: await.New(),
		},
		interval: max(length/looks, minInterval), top: 5, frames: render.NoStacks,
		stackRate: tracer.DefaultStackRate, faultRate: defaultFaultRate, budget: defaultBudget,
	}
	return o.printing(s, func(out io.Writer) error { return runGrow(ctx, s, o, out) })
}
