package procmaps

import (
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMemoryThatDescriptorsHold makes memfds and files and wants those found that are memory.
func TestMemoryThatDescriptorsHold(t *testing.T) {
	const page = 4096
	fd, err := unix.MemfdCreate("kept frame", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	frame := os.NewFile(uintptr(fd), "frame")
	defer frame.Close()
	if _, err = frame.Write(make([]byte, 3*page)); err != nil {
		t.Fatal(err)
	}
	again, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	elsewhere, err := os.Open("/proc/self/exe") // which is on no tmpfs, unless the temporary directory is
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	p, err := Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	held, all, err := p.HeldMemory(1 << 16)
	if err != nil || !all {
		t.Fatalf("all of them: %v, %v", all, err)
	}
	found := 0
	for _, h := range held {
		if exe, e := os.Executable(); e == nil && h.Path == exe && !tmpfs(t, exe) {
			t.Errorf("a file on a disk: %+v", h)
		}
		if !strings.HasPrefix(h.Path, "/memfd:kept frame") {
			continue
		}
		found++
		if h.Bytes != 3*page || h.Kind != HeldMemfd || h.Inode == 0 {
			t.Errorf("%+v, want %d bytes", h, 3*page)
		}
	}
	if found != 1 {
		t.Errorf("it is %d times among %+v, by its two descriptors", found, held)
	}
	if _, all, err = p.HeldMemory(1); err != nil || all {
		t.Errorf("of one of many: all %v, %v", all, err)
	}
	if f, err := os.CreateTemp("/dev/shm", "maptrace-test-*"); err == nil { // where that is tmpfs
		defer f.Close()
		name := f.Name()
		defer os.Remove(name)
		if _, err = f.Write(make([]byte, page)); err != nil {
			t.Fatal(err)
		}
		if held, _, err = p.HeldMemory(1 << 16); err != nil {
			t.Fatal(err)
		}
		got := false
		for _, h := range held {
			got = got || h.Path == name && h.Bytes == page && h.Kind == HeldFile && h.Dev != (Device{})
		}
		if want := tmpfs(t, "/dev/shm"); got != want {
			t.Errorf("a file on tmpfs: found %v, want %v", got, want)
		}
	}
}

// TestRingsThatDescriptorsHold makes an io_uring that nobody maps.
func TestRingsThatDescriptorsHold(t *testing.T) {
	const entries, submit, complete, page = 256, 64, 16, 4096
	params := make([]byte, 120) // struct io_uring_params
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, entries, uintptr(unsafe.Pointer(unsafe.SliceData(params))), 0)
	if errno != 0 {
		t.Skipf("io_uring_setup: %v", errno)
	}
	ring := os.NewFile(fd, "ring")
	defer ring.Close()
	p, err := Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	held, _, err := p.HeldMemory(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	const least = entries*submit + 2*entries*complete // there are twice as many completions
	for _, h := range held {
		if h.Kind == HeldRing && h.Path == RingPath && h.Inode != 0 && h.Bytes >= least && h.Bytes <= least+2*page {
			return
		}
	}
	t.Errorf("no ring of about %d bytes among %+v", least, held)
}

// tmpfs tells whether a file is on tmpfs.
func tmpfs(t *testing.T, path string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Type == unix.TMPFS_MAGIC
}
