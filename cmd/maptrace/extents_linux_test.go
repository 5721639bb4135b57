package main

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What the pages helper maps, one by one, and where.
const (
	pagesMapped  = 60_000
	pagesAddress = 0x1000_0000_0000
)

// pagesHelper makes one row of maps by so many calls.
func pagesHelper(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	size := uintptr(unix.Getpagesize())
	for i := range uintptr(n) {
		at, _, errno := unix.Syscall6(unix.SYS_MMAP, pagesAddress+i*size, size, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE|unix.MAP_FIXED_NOREPLACE, ^uintptr(0), 0)
		if errno != 0 || at != pagesAddress+i*size {
			return fmt.Errorf("mmap: %#x, %w", at, errno)
		}
	}
	return nil
}

func TestCallsThatMakeOneRowAreNotAllKept(t *testing.T) {
	needBPF(t)
	for _, tc := range []struct {
		memory    string
		coarsened uint64
	}{
		{"16M", 1},
		{"256M", 0},
	} {
		t.Run(tc.memory, func(t *testing.T) {
			o := parse(t, succeed(t, launchTrace(t, "pages", pagesMapped, "--memory", tc.memory).result()).out)
			if o.summary.Coarsened != tc.coarsened {
				t.Errorf("%d address spaces were coarsened, want %d", o.summary.Coarsened, tc.coarsened)
			}
			want := jsonRegion{
				Address: fmt.Sprintf("%#x", pagesAddress), Size: pagesMapped * uint64(unix.Getpagesize()), Delta: pagesMapped * int64(unix.Getpagesize()),
				Ops: pagesMapped, Extents: pagesMapped, Mode: "rw-p", Kind: "anon",
			}
			var got jsonRegion
			for _, r := range o.tables[0].Regions {
				if r.Address == want.Address {
					got = r
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("the row (-want +got):\n%s", d)
			}
		})
	}
}
