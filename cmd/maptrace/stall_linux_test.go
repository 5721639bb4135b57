package main

import (
	"bufio"
	bin "encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
)

// stallServer serves a FUSE file system with one file, "file", a copy of another. Told to
// "go", it answers no request to read or write any more, and says "stalling" at the first.
type stallServer struct {
	fd     int
	source []byte

	mu      sync.Mutex
	stalled bool
	said    bool
}

// The requests of include/uapi/linux/fuse.h.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseSetattr       = 1, 2, 3, 4
	fuseOpen, fuseRead, fuseWrite, fuseStatfs, fuseRelease = 14, 15, 16, 17, 18
	fuseFsync, fuseFlush, fuseInit, fuseOpendir            = 20, 25, 26, 27
	fuseReleasedir, fuseAccess, fuseInterrupt, fuseForgets = 29, 34, 36, 42
	fuseHeader, fuseKeepCache                              = 40, 2
)

// stallHelper serves it at its first argument, a copy of the second.
func stallHelper(args []string) error {
	source, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	const page = 4096
	for len(source) < 64*page {
		source = append(source, make([]byte, page)...)
	}
	s := &stallServer{source: source}
	if s.fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", s.fd)
	if err := unix.Mount("stall", args[0], "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return err
	}
	go s.serve()
	return serve(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stalled = true
		return nil
	})
}

func (s *stallServer) serve() {
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(s.fd, in)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT):
		case err != nil || n < fuseHeader:
			return
		default:
			s.answer(in[:n])
		}
	}
}

func (s *stallServer) answer(in []byte) {
	u32, u64 := bin.NativeEndian.Uint32, bin.NativeEndian.Uint64
	op, unique, node, arg := u32(in[4:]), u64(in[8:]), u64(in[16:]), in[fuseHeader:]
	var out []byte
	errno := syscall.Errno(0)
	switch op {
	case fuseInit:
		// No flags: reads are not asynchronous, so a thread that reads waits unkillably.
		out = make([]byte, 64)
		bin.NativeEndian.PutUint32(out, 7)
		bin.NativeEndian.PutUint32(out[4:], 31)
		bin.NativeEndian.PutUint32(out[8:], u32(arg[8:])) // max_readahead, as it was offered
		bin.NativeEndian.PutUint32(out[20:], 64<<10)      // max_write
		bin.NativeEndian.PutUint32(out[24:], 1)           // time_gran
	case fuseLookup:
		if strings.TrimRight(string(arg), "\x00") != "file" {
			errno = unix.ENOENT
			break
		}
		out = bin.NativeEndian.AppendUint64(nil, 2)    // node
		for _, v := range []uint64{1, 1000, 1000, 0} { // generation, and for how long it is valid
			out = bin.NativeEndian.AppendUint64(out, v)
		}
		out = s.attributes(out, 2)
	case fuseGetattr, fuseSetattr:
		out = s.attributes(append(bin.NativeEndian.AppendUint64(nil, 1000), make([]byte, 8)...), node)
	case fuseOpen, fuseOpendir:
		out = make([]byte, 16)
		bin.NativeEndian.PutUint32(out[8:], fuseKeepCache)
	case fuseRead:
		if s.stalls() {
			return
		}
		from := min(u64(arg[8:]), uint64(len(s.source)))
		out = s.source[from:min(from+uint64(u32(arg[16:])), uint64(len(s.source)))]
	case fuseWrite:
		if s.stalls() {
			return
		}
		out = append(bin.NativeEndian.AppendUint32(nil, u32(arg[16:])), 0, 0, 0, 0)
	case fuseStatfs:
		out = make([]byte, 80)
	case fuseFlush, fuseRelease, fuseReleasedir, fuseFsync, fuseAccess:
	case fuseForget, fuseForgets, fuseInterrupt:
		return // these want no answer
	default:
		errno = unix.ENOSYS
	}
	head := bin.NativeEndian.AppendUint32(nil, uint32(16+len(out)))
	head = bin.NativeEndian.AppendUint32(head, uint32(-int32(errno)))
	head = bin.NativeEndian.AppendUint64(head, unique)
	_, _ = unix.Write(s.fd, append(head, out...)) // it fails for who waits no more
}

func (s *stallServer) stalls() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled && !s.said {
		s.said = true
		fmt.Println("stalling") //nolint:forbidigo // it is a program
	}
	return s.stalled
}

// attributes appends those of the root, node 1, or the file.
func (s *stallServer) attributes(out []byte, node uint64) []byte {
	mode, size := uint32(unix.S_IFDIR|0o777), uint64(0)
	if node != 1 {
		mode, size = unix.S_IFREG|0o777, uint64(len(s.source))
	}
	a := make([]byte, 88)
	bin.NativeEndian.PutUint64(a, node)
	bin.NativeEndian.PutUint64(a[8:], size)
	bin.NativeEndian.PutUint32(a[60:], mode)
	bin.NativeEndian.PutUint32(a[64:], 1)
	bin.NativeEndian.PutUint32(a[80:], 4096)
	return append(out, a...)
}

// holdHelper maps its argument shared and writes to it. Told to "go", it maps something
// else in that place, which has the pages written with the mmap lock held.
func holdHelper(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size := 16 * os.Getpagesize()
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	clear(b)
	return serve(func() error {
		_, _, errno := unix.Syscall6(unix.SYS_MMAP, addressOf(b), uintptr(size), unix.PROT_READ,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED, ^uintptr(0), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// residentHelper is churnHelper that has all of its program in memory, so that it goes on
// when that cannot be read any more.
func residentHelper(args []string) error {
	p, err := procmaps.Default().Process(os.Getpid())
	if err != nil {
		return err
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		return err
	}
	for _, m := range rows {
		if m.Inode != 0 {
			_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(m.Start), uintptr(m.Len()), unix.MADV_POPULATE_READ)
			if errno != 0 {
				return fmt.Errorf("read %s: %w", m.Name, errno)
			}
		}
	}
	return churnHelper(args)
}

// startStall mounts such a file system with a copy of a file, and returns its server and
// the path of the file.
func startStall(t *testing.T, source string) (server *helper, file string) {
	t.Helper()
	needBPF(t)
	needRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("there is no FUSE: %v", err)
	}
	dir := publicDir(t)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it is gone if it was not mounted
	return startHelper(t, "stall", dir, source), filepath.Join(dir, "file")
}

// releaseAtEnd has the server ended before anything else that the test has started: who
// waits for it cannot be.
func releaseAtEnd(t *testing.T, server *helper) {
	t.Helper()
	t.Cleanup(func() {
		_ = server.Process.Kill() // it has ended, if all went well
		<-server.done
	})
}

// TestAProgramWhoseFileSystemDoesNotAnswerHoldsNothingUp has a program be of a file system
// that answers nothing any more: what is read of it is not waited for, and neither is the
// process that waits for it.
func TestAProgramWhoseFileSystemDoesNotAnswerHoldsNothingUp(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server, file := startStall(t, self)
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), helperEnv+"=resident")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, cmd)
	if line, e := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the program said %q, %v", line, e)
	}
	// What the program does not map is not to be known to the kernel any more.
	f, err := os.Open(file)
	if err == nil {
		err = errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	server.tell("go")
	server.hear("done")
	releaseAtEnd(t, server)
	pid := fmt.Sprint(p.Process.Pid)
	for _, args := range [][]string{
		{"grow", "--for", "500ms", "--interval", "50ms", "-p", pid},
		{"lat", "--for", "500ms", "-p", pid},
		{"trace", "--stack", "--duration", "500ms", "-p", pid},
	} {
		// None of them ends before the server does, if it waits for it.
		r := maptrace(t, args...)
		if r.code != exitOK || r.out == "" || !strings.Contains(r.stderr, "its file was not read in time") || !strings.Contains(r.stderr, "/proc/"+pid+"/") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	// A signal ends it just so.
	q := tracing(t, "--stack", "-p", pid)
	q.signal(syscall.SIGINT)
	if r := q.result(); r.code != exitOK {
		t.Errorf("after a signal: %+v", r)
	}
}

// TestAnMmapLockThatIsHeldHoldsNothingUp has a process hold its mmap lock for ever, so that
// nothing that reads of its mappings returns.
func TestAnMmapLockThatIsHeldHoldsNothingUp(t *testing.T) {
	// Not in parallel: other tests list all processes, and some read of each.
	server, file := startStall(t, "/dev/null")
	h := startHelper(t, "hold", file)
	server.tell("go")
	server.hear("done")
	releaseAtEnd(t, server)
	h.tell("go")
	server.hear("stalling")
	for _, args := range [][]string{
		{"trace", "--summary-only", "--duration", "300ms"},
		{"trace", "--summary-only", "--verify", "--duration", "300ms"},
		{"trace", "--summary-only", "--poll=50ms", "--duration", "300ms"},
		{"grow", "--for", "300ms", "--interval", "50ms"},
		{"lat", "--for", "300ms"},
	} {
		r := maptrace(t, append(args, "-p", h.pid())...)
		want := exitOK
		if slices.Contains(args, "--verify") {
			want = exitDrift // nothing could be compared
		}
		// On a busy machine the read may have begun too late to be blamed on the lock.
		said := slices.ContainsFunc([]string{"lock is held", "lock may be held", "the end came before its mappings were read"}, func(why string) bool {
			return strings.Contains(r.out, why)
		})
		if r.code != want || !said {
			t.Errorf("%v: %+v", args, r)
		}
	}
	// A signal ends those that have no time set. Until they wait for it, it is ignored.
	for _, args := range [][]string{
		{"trace", "--summary-only", "-p"}, {"grow", "--for", "0", "-p"}, {"lat", "--for", "0", "-p"}, {"pmap", "--watch", "1"},
	} {
		script := []string{"-c", `trap "" INT; exec "$@"`, "sh", binary(t)}
		p := launch(t, exec.Command("sh", append(append(script, args...), h.pid())...))
		eventually(t, "it ends by a signal", func() bool {
			select {
			case <-p.done:
				return true
			default:
			}
			if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.Process.Pid)); err == nil && string(comm) == "maptrace\n" {
				_ = p.Process.Signal(syscall.SIGINT) // it may be gone by now
			}
			return false
		})
		if r := p.result(); r.code != exitOK {
			t.Errorf("%v after a signal: %+v", args, r)
		}
	}
	// What waits for the lock does not keep a signal from being handled.
	p := launch(t, exec.Command(binary(t), "pmap", h.pid()))
	eventually(t, "a thread waits for the lock", func() bool {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Process.Pid))
		return err == nil && slices.ContainsFunc(files, func(name string) bool {
			b, err := os.ReadFile(name)
			return err == nil && strings.Contains(string(b), ") D ")
		})
	})
	p.signal(syscall.SIGTERM)
	if r := p.result(); r.code != 128+exitCode(syscall.SIGTERM) {
		t.Errorf("pmap after a signal: %+v", r)
	}
}
