package tracer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// Reader is a process of this program that opens and reads the files of traced processes,
// and their memory. A thread that reads what another user serves (FUSE) may have to wait
// for as long as he likes, and nothing ends its process before. That is then this one,
// which may be left behind.
type Reader struct {
	cmd    *exec.Cmd
	client *regular.Client
}

// readerFD is the descriptor that the process gets its questions from.
const readerFD = 3

// StartReader starts the process, with what it is told by args, and has all files read by
// it from now on. Caps are the capabilities that it keeps of ours, by number. It is in a
// process group of its own, and calls [ServeReads].
func StartReader(calls *await.Calls, caps []uintptr, args ...string) (*Reader, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the process that reads files: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "reader"), os.NewFile(uintptr(fds[1]), "reader")
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, AmbientCaps: caps}
	err = cmd.Start()
	conn, connErr := net.FileConn(ours) // a copy of it
	err = errors.Join(err, connErr, ours.Close(), theirs.Close())
	if err != nil {
		if connErr == nil {
			_ = conn.Close() // which ends it
		}
		return nil, fmt.Errorf("start the process that reads files: %w", err)
	}
	return &Reader{cmd, regular.Start(conn, calls)}, nil
}

// Stalled is how many files did not answer in time, so that there are no names of what is
// in them, and the name of one.
func (r *Reader) Stalled() (n int, name string) {
	if r == nil {
		return 0, ""
	}
	return r.client.Stalled()
}

// Close ends the process, without waiting for that: it may be waiting itself.
func (r *Reader) Close() error {
	if r == nil {
		return nil
	}
	err := errors.Join(r.client.Close(), r.cmd.Process.Kill())
	go func() { _ = r.cmd.Wait() }() // killed, which is how it ends
	return err
}

// ServeReads is what the process does that StartReader starts.
func ServeReads() error {
	f := os.NewFile(readerFD, "reader")
	conn, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return errors.Join(regular.Serve(conn), conn.Close())
}
