//go:build !manual

// Command maptrace is a live pmap: it shows a process' memory mappings, and how
// they change, from what the kernel says about every change.
package main

import (
	"context"
	"os"
	"runtime"
)

// The kernel gives a signal to the first thread that can take it, this one before all
// others, and does not ask whether it waits for a lock that a process holds: then nobody
// handles the signal. So this thread does nothing but wait for the end.
func init() { runtime.LockOSThread() }

func main() {
	ctx := context.WithValue(context.Background(), ownProcess{}, true)
	done := make(chan exitCode)
	go func() { done <- run(ctx, os.Args, streams{os.Stdin, os.Stdout, os.Stderr}) }()
	os.Exit(int(<-done))
}
