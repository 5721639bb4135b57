//go:build linux

// Goleak is a Go program with one leak and some innocents.
//
//	goleak mmap|heap SECONDS BYTES_PER_SECOND
//
// It leaks memory that it maps itself, outside the heap, or slices that it
// never forgets. The innocents: garbage, and a cache of fixed size. It prints
// "ready" when it begins, and exits after so many seconds.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const chunk = 64 << 10

var (
	kept    [][]byte
	cache   [64][]byte
	garbage []byte
)

//go:noinline
func leakMmap(n int) (int, error) {
	done := 0
	for ; done < n; done += chunk {
		mem, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return done, fmt.Errorf("map %d bytes: %w", chunk, err)
		}
		touch(mem)
	}
	return done, nil
}

//go:noinline
func leakHeap(n int) (int, error) {
	done := 0
	for ; done < n; done += chunk {
		mem := make([]byte, chunk)
		touch(mem)
		kept = append(kept, mem)
	}
	return done, nil
}

//go:noinline
func churn() {
	garbage = make([]byte, 4*chunk)
	touch(garbage)
}

//go:noinline
func cachePut(i int) {
	cache[i%len(cache)] = make([]byte, chunk/4)
	touch(cache[i%len(cache)])
}

func touch(mem []byte) {
	for at := 0; at < len(mem); at += 1024 {
		mem[at] = 1
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "goleak:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: goleak mmap|heap SECONDS BYTES_PER_SECOND")
	}
	leak := map[string]func(int) (int, error){"mmap": leakMmap, "heap": leakHeap}[args[0]]
	seconds, err1 := strconv.ParseFloat(args[1], 64)
	rate, err2 := strconv.ParseFloat(args[2], 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if leak == nil {
		return fmt.Errorf("there is no leak %q", args[0])
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	began, done := time.Now(), 0
	for i := 0; ; i++ {
		t := time.Since(began).Seconds()
		if t >= seconds {
			return nil
		}
		n, err := leak(int(t*rate) - done)
		if err != nil {
			return err
		}
		done += n
		churn()
		cachePut(i)
		time.Sleep(20 * time.Millisecond)
	}
}
