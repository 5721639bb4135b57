// Package leaky is the program that "maptrace demo" traces: a small server with
// honest churn, a growing heap, a growing file mapping, and a leak.
package leaky

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	chunk    = 64 << 10  // what a request's cache entry takes
	buffer   = 256 << 10 // what a request works in, and gives back
	heapStep = 32 << 10
	logStep  = 128 << 10
)

// server is what survives a request.
type server struct {
	cache [][]byte // entries are put in and never taken out: the leak
	log   []byte   // the mapped log file
	file  *os.File
	brk   uintptr
}

// Run serves a request every 20 ms for as long as told.
func Run(length time.Duration) (err error) {
	s := &server{}
	if s.file, err = os.CreateTemp("", "leaky-*.log"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.file.Close()) }()
	if err = os.Remove(s.file.Name()); err != nil {
		return err
	}
	if s.brk, err = brk(0); err != nil {
		return err
	}
	end := time.Now().Add(length)
	for n := 0; time.Now().Before(end); n++ {
		if err := s.handleRequest(n); err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (s *server) handleRequest(n int) error {
	work, err := mmap(buffer)
	if err != nil {
		return err
	}
	touch(work)
	if n%2 == 0 {
		if err := s.cachePut(); err != nil {
			return err
		}
	}
	if n%16 == 0 {
		if err := s.growHeap(); err != nil {
			return err
		}
	}
	if n%32 == 0 {
		if err := s.growLog(); err != nil {
			return err
		}
	}
	return unix.Munmap(work)
}

// cachePut is where the memory stays.
func (s *server) cachePut() error {
	entry, err := mmap(chunk)
	if err != nil {
		return err
	}
	touch(entry)
	s.cache = append(s.cache, entry)
	return nil
}

// growHeap moves the program break, as malloc does; Go itself never uses it.
func (s *server) growHeap() error {
	now, err := brk(s.brk + heapStep)
	if err != nil {
		return err
	}
	s.brk = now
	return nil
}

// growLog extends the log file and its mapping.
func (s *server) growLog() error {
	size := len(s.log) + logStep
	if err := s.file.Truncate(int64(size)); err != nil {
		return err
	}
	var err error
	if s.log == nil {
		s.log, err = unix.Mmap(int(s.file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	} else {
		s.log, err = unix.Mremap(s.log, size, unix.MREMAP_MAYMOVE)
	}
	return err
}

func mmap(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

// touch makes memory resident.
func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

// brk is the system call, which returns the break whatever happened.
func brk(addr uintptr) (uintptr, error) {
	now, _, _ := unix.Syscall(unix.SYS_BRK, addr, 0, 0)
	if now < addr {
		return 0, fmt.Errorf("brk %#x: %w", addr, unix.ENOMEM)
	}
	return now, nil
}
