// Package leaky is the program that "maptrace demo" watches: a small server with
// honest churn, a cache that fills, and a leak.
package leaky

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	page    = 4096
	buffer  = 256 << 10 // what a request works in, and gives back
	cached  = 64 << 10  // what an entry of the cache takes
	session = 64 << 10  // what a session takes
)

// mmap is a variable to be a frame of its own in every stack: the position of a call
// that was inlined comes with the name of the function that it became a part of.
var mmap = unix.Mmap

// server is what survives a request.
type server struct {
	cache    [16][]byte // a new entry takes the place of an old one
	sessions [][]byte   // none is ever closed: the leak
}

// Run serves a request every 10 ms for as long as told.
func Run(length time.Duration) error {
	s := &server{}
	end := time.Now().Add(length)
	for n := 0; time.Now().Before(end); n++ {
		if err := s.handleRequest(n); err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (s *server) handleRequest(n int) error {
	work, err := mmap(-1, 0, buffer, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(work); i += page {
		work[i] = 1
	}
	if err := s.cacheAnswer(n); err != nil {
		return err
	}
	if err := s.openSession(); err != nil {
		return err
	}
	return unix.Munmap(work)
}

// cacheAnswer keeps what was worked out, in the place of what is oldest.
//
//go:noinline
func (s *server) cacheAnswer(n int) error {
	entry, err := mmap(-1, 0, cached, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(entry); i += page {
		entry[i] = 1
	}
	oldest := &s.cache[n%len(s.cache)]
	if *oldest != nil {
		err = unix.Munmap(*oldest)
	}
	*oldest = entry
	return err
}

// openSession is where the memory stays.
//
//go:noinline
func (s *server) openSession() error {
	state, err := mmap(-1, 0, session, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(state); i += page {
		state[i] = 1
	}
	s.sessions = append(s.sessions, state)
	return nil
}
