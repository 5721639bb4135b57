// Walked prints the return addresses of a stack that has inlined functions, and waits for
// the end of its input.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

//go:noinline
func outer() { middle() }

func middle() { inner() }

func inner() { strings.Map(write, "x") }

//go:noinline
func write(rune) rune {
	var pcs [64]uintptr
	for _, pc := range pcs[:runtime.Callers(1, pcs[:])] {
		fmt.Fprintf(os.Stdout, "%d ", pc)
	}
	fmt.Fprintln(os.Stdout)
	return -1
}

func main() {
	outer()
	_, _ = io.Copy(io.Discard, os.Stdin)
}
