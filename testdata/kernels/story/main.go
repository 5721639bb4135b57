// Command story is the program that the kernel matrix traces: it changes its address
// space in every way that a tracer must see, says what it did, and last of all prints
// its own maps. "story leak" forgets memory instead, in one function, while another
// takes and gives back.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 0:
		return story(out)
	case len(args) == 1 && args[0] == "child":
		return child()
	case len(args) == 2 && args[0] == "leak":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		return leak(d)
	}
	return fmt.Errorf("arguments %q: want none, child, or leak and a duration", args)
}

// teller prints what was done: "did OP ADDRESS SIZE", the address in hex.
type teller struct {
	out io.Writer
	err error
}

func (t *teller) did(op string, addr, size uintptr) {
	_, err := fmt.Fprintf(t.out, "did %s %x %d\n", op, addr, size)
	t.err = errors.Join(t.err, err)
}

func story(out io.Writer) error {
	// What the runtime would map meanwhile is not part of it, and must not happen
	// between the last look at the maps and the end.
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	page := uintptr(os.Getpagesize())
	t := &teller{out: out}

	// A row of five pages: the middle one goes, the second may no longer be written.
	row, err := mmap(5 * page)
	if err != nil {
		return err
	}
	t.did("mmap", row, 5*page)
	if err = call(unix.SYS_MUNMAP, row+2*page, page); err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	t.did("munmap", row+2*page, page)
	if err = call(unix.SYS_MPROTECT, row+page, page, unix.PROT_READ); err != nil {
		return fmt.Errorf("mprotect: %w", err)
	}
	t.did("mprotect", row+page, page)

	if err = moved(t, page); err != nil {
		return err
	}
	if err = ownFile(t, page); err != nil {
		return err
	}
	if err = heap(t, page); err != nil {
		return err
	}
	if err = stack(t, page); err != nil {
		return err
	}
	pid, status, err := forked(row, page)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(out, "child %d %d\n", pid, status); err != nil {
		return err
	}
	if t.err != nil {
		return t.err
	}
	return lastMaps()
}

// moved makes a mapping larger, at a place of its own choosing.
func moved(t *teller, page uintptr) error {
	old, err := mmap(3 * page)
	if err != nil {
		return err
	}
	t.did("mmap", old, 3*page)
	to, err := mmap(64 * page)
	if err != nil {
		return err
	}
	t.did("mmap", to, 64*page)
	got, _, errno := unix.Syscall6(unix.SYS_MREMAP, old, 3*page, 7*page,
		unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to, 0)
	if errno != 0 || got != to {
		return fmt.Errorf("mremap to %#x gave %#x: %w", to, got, errno)
	}
	t.did("mremap", to, 7*page)
	return nil
}

// ownFile maps a part of the program's own file.
func ownFile(t *teller, page uintptr) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Open(self)
	if err != nil {
		return err
	}
	defer f.Close()
	at, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, 2*page, unix.PROT_READ, unix.MAP_PRIVATE, f.Fd(), page)
	if errno != 0 {
		return fmt.Errorf("mmap %s: %w", self, errno)
	}
	t.did("mmap", at, 2*page)
	return nil
}

// heap moves the program break up, and half of the way down: Go never uses it.
func heap(t *teller, page uintptr) error {
	low, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
	for _, to := range []uintptr{low + 8*page, low + 4*page} {
		if now, _, _ := unix.Syscall(unix.SYS_BRK, to, 0, 0); now != to {
			return fmt.Errorf("brk %#x gave %#x", to, now)
		}
	}
	t.did("brk", low, 8*page)
	t.did("brk", low+4*page, 4*page)
	return nil
}

// stack writes below the stack of the first thread, which grows it.
func stack(t *teller, page uintptr) error {
	low, err := stackStart()
	if err != nil {
		return err
	}
	const pages = 6
	*(*byte)(unsafe.Add(nil, low-pages*page)) = 1
	t.did("stack", low-pages*page, pages*page)
	return nil
}

func stackStart() (uintptr, error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, "[stack]\n") {
			low, _, _ := strings.Cut(line, "-")
			n, err := strconv.ParseUint(low, 16, 64)
			return uintptr(n), err
		}
	}
	return 0, errors.New("/proc/self/maps has no [stack]")
}

// forked makes a process with a copy of the memory (os/exec would share it until the
// execve), which unmaps what it has from us and becomes another program.
func forked(row, page uintptr) (pid, status int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	path, err := unix.BytePtrFromString(self)
	if err != nil {
		return 0, 0, err
	}
	argv, err := syscall.SlicePtrFromStrings([]string{self, "child"})
	if err != nil {
		return 0, 0, err
	}
	env := []*byte{nil}
	// From here to the end of the child nothing but system calls: it has one thread.
	n, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return 0, 0, fmt.Errorf("clone: %w", errno)
	}
	if n == 0 {
		_, _, _ = syscall.RawSyscall(unix.SYS_MUNMAP, row+3*page, page, 0)
		_, _, _ = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
			uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
		_ = end(127)
	}
	var ws unix.WaitStatus
	for {
		_, err = unix.Wait4(int(n), &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return int(n), ws.ExitStatus(), err
		}
	}
}

// childStatus tells that the child's program has run.
const childStatus = 7

func child() error {
	if _, err := mmap(11 * uintptr(os.Getpagesize())); err != nil {
		return err
	}
	return end(childStatus)
}

// lastMaps prints the maps and ends, without a change of them in between: the pages
// that it needs are there before.
func lastMaps() error {
	const room = 64 << 10
	at, err := mmap(room)
	if err != nil {
		return err
	}
	buf := unsafe.Slice((*byte)(unsafe.Add(nil, at)), room)
	clear(buf)
	fd, err := unix.Open("/proc/self/maps", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	n := 0
	for {
		got, err := unix.Read(fd, buf[n:])
		if err != nil {
			return err
		}
		if n += got; got == 0 {
			break
		}
	}
	for buf = buf[:n]; len(buf) > 0; {
		got, err := unix.Write(1, buf)
		if err != nil {
			return err
		}
		buf = buf[got:]
	}
	return end(0)
}

// end ends the process at once. It does not return: the error is for the compiler.
func end(status uintptr) error {
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, status, 0, 0)
	}
}

func leak(d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := forget(); err != nil {
			return err
		}
		if err := borrow(); err != nil {
			return err
		}
	}
	return nil
}

// forget is the culprit.
//
//go:noinline
func forget() error {
	b, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		clear(b)
	}
	return err
}

// borrow is innocent.
//
//go:noinline
func borrow() error {
	b, err := unix.Mmap(-1, 0, 256<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	b[0] = 1
	return unix.Munmap(b)
}

func mmap(size uintptr) (uintptr, error) {
	at, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0), 0)
	if errno != 0 {
		return 0, fmt.Errorf("mmap of %d bytes: %w", size, errno)
	}
	return at, nil
}

func call(nr uintptr, args ...uintptr) error {
	var a [3]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall(nr, a[0], a[1], a[2]); errno != 0 {
		return errno
	}
	return nil
}
