//go:build amd64 || arm64

package bpf_test

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
)

// TestWatchpointsTellWhoWrites watches a word of this thread: each write to it, by
// the program or by the kernel for it, is told with the stack of its writer; none of
// other words is, and none when those that were allowed are used up.
func TestWatchpointsTellWhoWrites(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{Writes: true}})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	words := new([3]uint64)
	pin := new(runtime.Pinner)
	pin.Pin(words)
	defer pin.Unpin()
	addr := uint64(uintptr(unsafe.Pointer(&words[1])))
	write := func(n int) {
		for i := range n {
			for at := range words {
				atomic.StoreUint64(&words[at], uint64(i)) // nothing leaves out one of these
			}
		}
	}
	told := func() int {
		t.Helper()
		_, stacks := readAll(t, h)
		n := 0
		for _, s := range stacks {
			if s.Op != bpf.OpWrite {
				continue
			}
			n++
			if s.Addr != addr || int(s.TID) != unix.Gettid() || int(s.TGID) != os.Getpid() || s.Space == 0 || len(s.Copy) == 0 {
				t.Errorf("told: %+v", s)
			}
		}
		return n
	}
	for _, tt := range []struct{ most, done, want int }{{20, 10, 10}, {3, 100, 3}, {1, 1, 1}, {40, 0, 0}} {
		w, err := h.Watch(unix.Gettid(), addr, tt.most)
		if err != nil {
			t.Fatal(err)
		}
		write(tt.done)
		n := told()
		if n < tt.want || n > tt.most || n > tt.want && runtime.GOARCH != "arm64" { // where an interrupt may have one told twice
			t.Errorf("%d writes, of which %d are to be told: %d are", tt.done, tt.most, n)
		}
		if seen, e := w.Writes(); seen != uint64(n) || e != nil {
			t.Errorf("%d writes, of which %d are to be told: it has seen %d, %v", tt.done, tt.most, seen, e)
		}
		if err = w.Close(); err != nil {
			t.Error(err)
		}
		write(2)
		if n := told(); n != 0 {
			t.Errorf("%d writes were told after the end", n)
		}
	}
	// The kernel writes the word for the program.
	w, err := h.Watch(unix.Gettid(), addr, 100)
	if err != nil {
		t.Fatal(err)
	}
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.Write(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if _, err = unix.Read(int(r.Fd()), unsafe.Slice((*byte)(unsafe.Pointer(&words[1])), 8)); err != nil {
		t.Fatal(err)
	}
	if n := told(); n == 0 && runtime.GOARCH != "arm64" { // where what the kernel writes may pass by
		t.Error("a write by the kernel was not told")
	}
	if err = errors.Join(w.Close(), r.Close(), p.Close()); err != nil {
		t.Error(err)
	}
}

// TestBirthsOfThreadsAreCounted begins some.
func TestBirthsOfThreadsAreCounted(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{Writes: true}})
	defer h.Close()
	tasks, err := h.Trace(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tasks, func(task bpf.Task) bool { return task.TGID == os.Getpid() })
	if i < 0 {
		t.Fatal("this process is not traced")
	}
	before, err := h.Births(tasks[i].Space)
	if err != nil {
		t.Fatal(err)
	}
	const threads = 5
	var group sync.WaitGroup
	for range threads {
		group.Go(runtime.LockOSThread) // and it ends with what it has locked
	}
	group.Wait()
	for range threads { // some of the first may have been there already
		group.Go(runtime.LockOSThread)
	}
	group.Wait()
	if after, err := h.Births(tasks[i].Space); after < before+threads || err != nil {
		t.Errorf("%d births, and %d after some more, %v", before, after, err)
	}
	if n, err := h.Births(1 << 60); n != 0 || err != nil {
		t.Errorf("in a space that is not there: %d births, %v", n, err)
	}
}

// TestWatchpointsAreRefused tries what cannot be.
func TestWatchpointsAreRefused(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{Writes: true}})
	defer h.Close()
	word := new(uint64)
	pin := new(runtime.Pinner)
	pin.Pin(word)
	defer pin.Unpin()
	addr := uint64(uintptr(unsafe.Pointer(word)))
	if _, err := h.Watch(unix.Gettid(), addr+4, 1); err == nil {
		t.Error("half of one word and half of the next are watched")
	}
	if _, err := h.Watch(unix.Gettid(), addr, 0); err == nil {
		t.Error("no write is watched for")
	}
	if _, err := h.Watch(1<<22+1, addr, 1); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a thread that is not there: %v", err)
	}
	var all []*bpf.Watchpoint
	for {
		w, err := h.Watch(unix.Gettid(), addr, 1)
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("one too many: %v", err)
			}
			break
		}
		if all = append(all, w); len(all) > 16 {
			t.Fatal("there are more debug registers than any CPU has")
		}
	}
	if len(all) == 0 {
		t.Error("there is no debug register")
	}
	for _, w := range all {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	none := open(t, bpf.Options{Stacks: &bpf.StackOptions{}})
	defer none.Close()
	if _, err := none.Watch(unix.Gettid(), addr, 1); err == nil {
		t.Error("writes are told that were not asked for")
	}
}
