package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/leaky"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
)

// leakyCommand is the hidden command that is the demo's program.
const leakyCommand = "leaky-program"

func newDemo(s streams) *cobra.Command {
	length := 4 * time.Second
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Trace a small leaking program that is built in",
		Long: `demo starts a small program and traces it: a server that maps and unmaps buffers
as it should, keeps a growing heap and a growing file mapped, and leaks one of
its buffers now and then. It prints what happens, the table at the end, and
which mapping grew.`,
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

func runDemo(ctx context.Context, s streams, length time.Duration) (err error) {
	defer keepFromPipe()()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := &traceOptions{
		attachOptions: attachOptions{target: target{argv: []string{self, leakyCommand, "--duration", length.String()}}, output: "text"},
		minSize:       16 << 10, verify: true,
		ops: []string{"mmap", "munmap", "brk", "mremap", "stack"},
	}
	se, err := openTrace(s, o)
	if err != nil {
		return err
	}
	defer func() {
		if e := se.close(); err == nil {
			err = e
		}
	}()
	if err := se.run(ctx, s.out); err != nil {
		return err
	}
	r := se.Report()
	for i := range r.Spaces {
		if r.Spaces[i].Process.PID != se.cmd.PID() {
			continue
		}
		fmt.Fprintln(s.out)
		if err := render.WriteGrowth(s.out, &r.Spaces[i], se.Tree(r.Spaces[i].Process.Space), se.clock, r.Stats.Newest); err != nil {
			return err
		}
	}
	return nil
}
