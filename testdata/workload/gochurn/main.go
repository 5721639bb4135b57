//go:build linux

// Gochurn is a Go program that changes its address space at random.
//
//	gochurn [-t THREADS] [-n OPS_PER_THREAD] [-s SEED] [-w] [-W]
//
// Goroutines locked to as many OS threads map, unmap, protect, move and advise
// memory without any lock between them, so that the kernel hands what one
// unmaps to the next that asks. Each touches only what is its own. Besides they
// allocate ordinary garbage, so that the runtime's own mappings change too.
//
// With -w it waits for one byte on stdin before the first operation; with -W it
// prints "done" at the end and waits for EOF on stdin, and until then no mapping
// changes. An unforeseen error goes to stderr, with exit status 1.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxAreas bounds the mappings of all threads together.
const maxAreas = 1000

var pageSize = uintptr(os.Getpagesize())

// area is memory that one thread owns. It lies in one VMA, so that any call on
// the whole of it succeeds: what splits a VMA splits the area too.
type area struct {
	addr   unsafe.Pointer
	size   uintptr
	prot   int
	shared bool
}

func (a area) bytes() []byte { return unsafe.Slice((*byte)(a.addr), a.size) }

type worker struct {
	rng     *rand.Rand
	areas   []area
	limit   int
	garbage [64][]byte
}

func main() {
	threads := flag.Int("t", 1, "number of `threads`")
	ops := flag.Int("n", 10000, "`operations` of each thread")
	seed := flag.Uint64("s", 1, "random `seed`")
	waitBefore := flag.Bool("w", false, "wait for one byte on stdin before starting")
	waitAfter := flag.Bool("W", false, `print "done" and wait for EOF on stdin at the end`)
	flag.Parse()
	if flag.NArg() > 0 || *threads < 1 || *ops < 0 {
		flag.Usage()
		os.Exit(2) //nolint:forbidigo // this is main
	}
	if err := run(*threads, *ops, *seed, *waitBefore, *waitAfter); err != nil {
		fmt.Fprintln(os.Stderr, "gochurn:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(threads, ops int, seed uint64, waitBefore, waitAfter bool) error {
	if waitBefore {
		if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
			return fmt.Errorf("read stdin: %w", err)
		}
	}
	errs := make([]error, threads)
	parked := make(chan struct{})
	var working, living sync.WaitGroup
	for id := range threads {
		w := &worker{
			rng:   rand.New(rand.NewPCG(seed, uint64(id))),
			limit: max(16, min(400, maxAreas/threads)),
		}
		working.Add(1)
		living.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			errs[id] = w.work(ops)
			working.Done()
			<-parked
		})
	}
	working.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if waitAfter {
		if err := standStill(); err != nil {
			return err
		}
	}
	close(parked)
	living.Wait()
	return nil
}

// standStill says "done" and waits for EOF on stdin. The collector is switched
// off, and the read goes past the scheduler, which would else start a thread
// for the time it takes: both might need memory.
func standStill() error {
	done, buf := []byte("done\n"), make([]byte, 1)
	runtime.GC()
	debug.SetGCPercent(-1)
	if _, err := unix.Write(1, done); err != nil {
		return fmt.Errorf("write stdout: %w", err)
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, 0, uintptr(unsafe.Pointer(&buf[0])), 1)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return fmt.Errorf("read stdin: %w", errno)
		case n == 0:
			return nil
		}
	}
}

func (w *worker) work(ops int) error {
	for range ops {
		if len(w.areas)+3 > w.limit {
			for len(w.areas) > w.limit/2 {
				if err := w.unmapAt(w.rng.IntN(len(w.areas))); err != nil {
					return err
				}
			}
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) step() error {
	dice := w.rng.IntN(100)
	switch {
	case dice < 25 || len(w.areas) == 0:
		return w.mmap()
	case dice < 45:
		return w.unmapAt(w.pick())
	case dice < 60:
		return w.mprotect()
	case dice < 70:
		return w.mremap()
	case dice < 80:
		return w.madvise()
	default:
		// Small and large objects come from different places in the runtime.
		w.garbage[w.rng.IntN(len(w.garbage))] = make([]byte, 1+w.rng.IntN(1<<(4+w.rng.IntN(15))))
		return nil
	}
}

// pages returns a number of bytes, whole pages up to 1 MiB, small ones as
// likely as large ones.
func (w *worker) pages() uintptr {
	most := (1 << 20) / pageSize
	for most > 1 && w.rng.IntN(4) != 0 {
		most /= 2
	}
	return (1 + uintptr(w.rng.IntN(int(most)))) * pageSize
}

// pick returns the index of an area, which may be a part that was made an area
// of its own just now.
func (w *worker) pick() int {
	i := w.rng.IntN(len(w.areas))
	a := w.areas[i]
	if n := int(a.size / pageSize); n > 1 && w.rng.IntN(2) == 0 {
		from := w.rng.IntN(n)
		to := from + 1 + w.rng.IntN(n-from)
		part := func(from, to int) area {
			p := a
			p.addr, p.size = unsafe.Add(a.addr, uintptr(from)*pageSize), uintptr(to-from)*pageSize
			return p
		}
		if from > 0 {
			w.areas = append(w.areas, part(0, from))
		}
		if to < n {
			w.areas = append(w.areas, part(to, n))
		}
		w.areas[i] = part(from, to)
	}
	return i
}

func (w *worker) prot() int {
	prots := [...]int{
		unix.PROT_READ | unix.PROT_WRITE,
		unix.PROT_READ | unix.PROT_WRITE,
		unix.PROT_READ,
		unix.PROT_NONE,
	}
	return prots[w.rng.IntN(len(prots))]
}

// touch writes to an area. Not to a shared one: mremap may have made it longer
// than the memory behind it, which it does not lengthen.
func touch(a area) {
	if a.prot&unix.PROT_WRITE != 0 && !a.shared {
		*(*byte)(a.addr) = 1
	}
}

func (w *worker) mmap() error {
	a := area{size: w.pages(), prot: w.prot(), shared: w.rng.IntN(4) == 0}
	flags := unix.MAP_ANONYMOUS | unix.MAP_PRIVATE
	if a.shared {
		flags = unix.MAP_ANONYMOUS | unix.MAP_SHARED
	}
	var err error
	if a.addr, err = unix.MmapPtr(-1, 0, nil, a.size, a.prot, flags); err != nil {
		return fmt.Errorf("mmap %d bytes: %w", a.size, err)
	}
	touch(a)
	w.areas = append(w.areas, a)
	return nil
}

func (w *worker) unmapAt(i int) error {
	// Forgotten first: as soon as it is unmapped it may be another thread's.
	a, last := w.areas[i], len(w.areas)-1
	w.areas[i] = w.areas[last]
	w.areas = w.areas[:last]
	if err := unix.MunmapPtr(a.addr, a.size); err != nil {
		return fmt.Errorf("munmap %p, %d bytes: %w", a.addr, a.size, err)
	}
	return nil
}

func (w *worker) mprotect() error {
	a := &w.areas[w.pick()]
	a.prot = w.prot()
	if err := unix.Mprotect(a.bytes(), a.prot); err != nil {
		return fmt.Errorf("mprotect %p, %d bytes: %w", a.addr, a.size, err)
	}
	touch(*a)
	return nil
}

// mremap makes an area smaller, or larger with a move wherever the kernel likes.
func (w *worker) mremap() error {
	a := &w.areas[w.pick()]
	size := w.pages()
	p, err := unix.MremapPtr(a.addr, a.size, nil, size, unix.MREMAP_MAYMOVE)
	if err != nil {
		return fmt.Errorf("mremap %p, %d bytes to %d: %w", a.addr, a.size, size, err)
	}
	a.addr, a.size = p, size
	touch(*a)
	return nil
}

func (w *worker) madvise() error {
	advices := [...]int{
		unix.MADV_DONTNEED, unix.MADV_RANDOM, unix.MADV_NORMAL, unix.MADV_DONTFORK, unix.MADV_DOFORK,
	}
	a := w.areas[w.pick()]
	advice := advices[w.rng.IntN(len(advices))]
	if err := unix.Madvise(a.bytes(), advice); err != nil {
		return fmt.Errorf("madvise %p, %d bytes, advice %d: %w", a.addr, a.size, advice, err)
	}
	return nil
}
