//go:build amd64 || arm64

package bpf_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
)

// TestACallTellsByHowManyPagesItChangedWhatIsMapped is what the effects of failed
// calls are derived from.
func TestACallTellsByHowManyPagesItChangedWhatIsMapped(t *testing.T) {
	h := open(t, bpf.Options{})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	var pipe [2]int
	if err = unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	const (
		at   = 64 << 30 // far below everything that the kernel places by itself
		anon = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
		rw   = unix.PROT_READ | unix.PROT_WRITE
	)
	page := uintptr(os.Getpagesize())
	for _, c := range []struct {
		name     string
		nr       uintptr
		args     [6]uintptr
		want     int64
		errno    unix.Errno
		readOnly bool
	}{
		{"mmap of memory", unix.SYS_MMAP, [6]uintptr{at, 4 * page, rw, anon | unix.MAP_FIXED_NOREPLACE, ^uintptr(0)}, 4, 0, false},
		{"mprotect", unix.SYS_MPROTECT, [6]uintptr{at, page, unix.PROT_READ}, 0, 0, false},
		{"mmap of a pipe, which is refused at once", unix.SYS_MMAP, [6]uintptr{at + page, 2 * page, rw, unix.MAP_PRIVATE | unix.MAP_FIXED, uintptr(pipe[0])}, 0, unix.ENODEV, false},
		{"mmap of a socket, which is asked after the place is free", unix.SYS_MMAP, [6]uintptr{at + page, 2 * page, rw, unix.MAP_SHARED | unix.MAP_FIXED, uintptr(socket)}, -2, unix.ENODEV, false},
		{"mmap of a file that is open for reading only", unix.SYS_MMAP, [6]uintptr{at + page, page, unix.PROT_READ, unix.MAP_SHARED | unix.MAP_FIXED, exe.Fd()}, 1, 0, true},
		{"munmap over a gap", unix.SYS_MUNMAP, [6]uintptr{at, 4 * page}, -3, 0, false},
	} {
		_, _, errno := unix.Syscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		ev := reported(t, h, c.args[0], c.args[1])
		type seen struct {
			Pages          int64
			Errno          unix.Errno
			Sent           int64
			Held, ReadOnly bool
		}
		const mayWrite = 0x20 // VM_MAYWRITE
		got := seen{ev.Pages, errno, min(ev.Ret, 0), ev.Flags&bpf.Stamped != 0, ev.File.Flags&bpf.FileFromVMA != 0 && ev.File.VMFlags&mayWrite == 0}
		want := seen{c.want, c.errno, -int64(c.errno), true, c.readOnly}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// reported waits for the report of a call with these two arguments.
func reported(t *testing.T, h *bpf.Hooks, addr, length uintptr) bpf.Event {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var ev bpf.Event
		switch err := h.Next(&ev); {
		case errors.Is(err, bpf.ErrEmpty):
			time.Sleep(time.Millisecond)
		case err != nil:
			t.Fatal(err)
		case ev.Args[0] == uint64(addr) && ev.Args[1] == uint64(length):
			return ev
		}
	}
	t.Fatalf("no report of a call with %#x, %#x", addr, length)
	return bpf.Event{}
}
