//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mode is a mode of loop.c and what one operation of it is.
type mode struct {
	arg   string
	title string
	calls int // system calls in an operation
}

var (
	churn   = mode{"churn", "mmap + touch + munmap", 2}
	churn2  = mode{"churnt:2", "the same, 2 threads", 2}
	churn8  = mode{"churnt:8", "the same, 8 threads", 2}
	getppid = mode{"getppid", "getppid", 1}
)

func (m mode) threads() int {
	_, n, ok := strings.Cut(m.arg, ":")
	if !ok {
		return 1
	}
	t, err := strconv.Atoi(n)
	if err != nil {
		panic(err) // only the modes above are used
	}
	return t
}

// lineBytes is how far apart the counters of loop.c's threads lie.
const lineBytes = 64

// workload is a running loop whose progress is seen from here.
type workload struct {
	*child
	mode mode
	mem  []byte // the counter file
}

// startLoop starts a loop, with before in front of its command line, and returns
// when it is well under way.
func (b *bench) startLoop(ctx context.Context, m mode, before ...string) (_ *workload, err error) {
	path := b.file("counters")
	w := &workload{mode: m}
	if w.child, err = start(append(before, b.loop, "-c", path, m.arg)...); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	size := m.threads() * lineBytes
	err = await(ctx, "start of the loop", 10*time.Second, time.Millisecond, func() (bool, error) {
		if e := w.alive(); e != nil {
			return false, e
		}
		st, e := os.Stat(path)
		if errors.Is(e, os.ErrNotExist) {
			return false, nil
		}
		return e == nil && st.Size() == int64(size), e
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if w.mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	// The first operations fault the program in.
	return w, await(ctx, "first operations of the loop", 10*time.Second, time.Millisecond, func() (bool, error) {
		return w.ops() > 1000, w.alive()
	})
}

// ops is the number of operations so far.
func (w *workload) ops() uint64 {
	var n uint64
	for at := 0; at < len(w.mem); at += lineBytes {
		n += atomic.LoadUint64((*uint64)(unsafe.Pointer(&w.mem[at])))
	}
	return n
}

// progress is the same for who measures any program.
func (w *workload) progress() (float64, error) { return float64(w.ops()), w.alive() }

// measure lets the loop run for about d and returns how many ns an operation
// took the thread that made it.
func (w *workload) measure(ctx context.Context, d time.Duration) (float64, error) {
	began, first := time.Now(), w.ops()
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	took, done := time.Since(began), w.ops()-first
	if err := w.alive(); err != nil {
		return 0, err
	}
	if done == 0 {
		return 0, fmt.Errorf("the loop did nothing for %v", took)
	}
	return float64(took) * float64(w.mode.threads()) / float64(done), nil
}

// end ends the loop and frees what it has here.
func (w *workload) end() {
	w.kill()
	if w.mem != nil {
		_ = unix.Munmap(w.mem) // our own mapping, whole
		w.mem = nil
	}
}

// countersIn reads what a loop that has ended did.
func countersIn(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	if len(data) == 0 || len(data)%lineBytes != 0 {
		return 0, fmt.Errorf("%s: %d bytes are no counters", path, len(data))
	}
	var n uint64
	for at := 0; at < len(data); at += lineBytes {
		n += binary.NativeEndian.Uint64(data[at:])
	}
	return n, nil
}
