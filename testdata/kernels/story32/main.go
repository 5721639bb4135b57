// Command story32 is built for 32 bits: its calls have other numbers and arguments than
// those of the kernel that it runs on. It maps and unmaps, and last prints its maps.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "story32:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(out io.Writer) error {
	debug.SetGCPercent(-1)
	last, err := mmap(32)
	if err != nil {
		return err
	}
	for i := 1; i <= 20; i++ {
		b, err := mmap(i)
		if err == nil && i%3 == 0 {
			err = unix.Munmap(b)
		} else if err == nil && i%3 == 1 {
			err = unix.Mprotect(b, unix.PROT_READ)
		}
		if err != nil {
			return err
		}
	}
	// Until looks map nothing new, as the runtime may for its own use.
	var before []byte
	for range 10 {
		now, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			return err
		}
		if !bytes.Equal(now, before) {
			before = now
			continue
		}
		// The last change is one that keeps the lock for reading only.
		if err = unix.Munmap(last); err != nil {
			return err
		}
		if now, err = os.ReadFile("/proc/self/maps"); err == nil {
			_, err = out.Write(now)
		}
		// What is not decoded is read again, which takes a moment.
		return errors.Join(err, rest(unix.Timespec{Sec: 1}))
	}
	return errors.New("its maps do not come to rest")
}

// rest sleeps without the runtime, which would map memory for it. The runtime's own
// signals wake the thread.
func rest(left unix.Timespec) error {
	for {
		if err := unix.Nanosleep(&left, &left); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func mmap(pages int) ([]byte, error) {
	return unix.Mmap(-1, 0, pages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}
