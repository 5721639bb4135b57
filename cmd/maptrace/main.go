//go:build !manual

// Command maptrace is a live pmap: it shows a process' memory mappings, and how
// they change, from what the kernel says about every change.
package main

import (
	"context"
	"os"
)

func main() {
	ctx := context.WithValue(context.Background(), ownProcess{}, true)
	os.Exit(int(run(ctx, os.Args, streams{os.Stdin, os.Stdout, os.Stderr})))
}
