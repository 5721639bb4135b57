package goheap

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/maptrace/maptrace/procmaps"
)

// order is that of the bytes of a word, on every machine whose programs are read.
var order = binary.LittleEndian

const (
	page = 4 << 10
	// ahead is how much is read at once where one bucket follows another.
	ahead = 16 << 10
)

// pages reads memory by pages and keeps them: buckets are small, and lie together.
type pages struct {
	mem  Memory
	left int64 // bytes that may be read and looked at
	kept map[uint64][]byte
}

func newPages(mem Memory, most int64) *pages {
	return &pages{mem: mem, left: most, kept: make(map[uint64][]byte)}
}

// take counts what is read, and what is looked at of it: time is bounded by that, too.
func (p *pages) take(bytes int) error {
	if p.left -= int64(bytes); p.left < 0 {
		return ErrBudget
	}
	return nil
}

// read fills b from an address on.
func (p *pages) read(b []byte, addr uint64) error {
	if err := p.take(len(b)); err != nil {
		return err
	}
	for len(b) > 0 {
		at := addr &^ (page - 1)
		from, ok := p.kept[at]
		if !ok {
			var err error
			if from, err = p.load(at); err != nil {
				return err
			}
		}
		n := copy(b, from[addr-at:])
		b, addr = b[n:], addr+uint64(n)
	}
	return nil
}

// load reads a page, and those around it as far as they are there.
func (p *pages) load(at uint64) ([]byte, error) {
	first := at &^ (ahead - 1)
	b := make([]byte, ahead)
	if err := p.take(ahead); err != nil {
		return nil, err
	}
	err := readFull(p.mem, b, first)
	if errors.Is(err, ErrStopped) {
		return nil, err
	}
	if err != nil {
		first, b = at, b[:page]
		if err = readFull(p.mem, b, first); err != nil {
			return nil, err
		}
	}
	for i := 0; i < len(b); i += page {
		p.kept[first+uint64(i)] = b[i : i+page : i+page]
	}
	return p.kept[at], nil
}

func readFull(mem Memory, b []byte, addr uint64) error {
	n, err := mem.ReadAt(b, addr)
	if n >= len(b) {
		return nil
	}
	if err == nil {
		err = errors.New("too few bytes")
	}
	return err
}

func readWord(mem Memory, addr uint64) (uint64, error) {
	var b [word]byte
	err := readFull(mem, b[:], addr)
	return order.Uint64(b[:]), err
}

// Find returns the address of the variable that leads to the profile, mbuckets, for
// programs whose symbols were removed: the one word of all variables that has the address
// of a bucket, and of the longest list if there were several. Data is where the program has
// variables, and image all of its file in memory, where buckets are not. The error matches
// ErrAbsent if there is none, as in a program that has sampled nothing yet.
func Find(mem Memory, data []procmaps.Range, image procmaps.Range, limits Limits) (uint64, error) {
	limits = limits.withDefaults()
	f := &finder{pages: newPages(mem, limits.Bytes), image: image, most: limits.Buckets}
	for _, r := range data {
		err := f.look(r)
		if errors.Is(err, ErrBudget) && f.found != 0 {
			break // variables are ordered by size, and mbuckets is small
		}
		if err != nil {
			return 0, fmt.Errorf("find the heap profile: %w", err)
		}
	}
	if f.found == 0 {
		return 0, ErrAbsent
	}
	return f.found, nil
}

// finder looks for the variable that leads to the longest list.
type finder struct {
	*pages
	image   procmaps.Range
	most    int // buckets
	found   uint64
	longest int
}

// look looks at the words of a range.
func (f *finder) look(r procmaps.Range) error {
	const chunk = 64 << 10
	buf := make([]byte, chunk)
	for at := r.Start &^ (page - 1); at < r.End; {
		b := buf[:min(chunk, (r.End-at+page-1)&^(page-1))]
		if err := f.take(len(b)); err != nil {
			return err
		}
		err := readFull(f.mem, b, at)
		if errors.Is(err, ErrStopped) {
			return err
		}
		if err != nil {
			b = b[:page]
			if readFull(f.mem, b, at) != nil {
				clear(b) // not mapped
			}
		}
		for i := uint64(0); i < uint64(len(b)); i += word {
			if at+i < r.Start || at+i+word > r.End {
				continue
			}
			if err := f.try(at+i, order.Uint64(b[i:])); err != nil {
				return err
			}
		}
		at += uint64(len(b))
	}
	return nil
}

// try is given a variable and what it is.
func (f *finder) try(variable, addr uint64) error {
	if !pointer(addr) || f.image.Contains(addr) {
		return nil
	}
	n, err := f.length(addr, f.most)
	if n > f.longest {
		f.found, f.longest = variable, n
	}
	return err
}

// length is how many buckets there are from an address on, 0 if that is not a bucket's.
// The error is of what ends the search.
func (p *pages) length(addr uint64, most int) (int, error) {
	all, err := p.list(addr, most)
	switch {
	case errors.Is(err, ErrStopped), errors.Is(err, ErrBudget) && p.left < 0:
		return len(all), err
	case err != nil && !errors.Is(err, ErrBudget):
		return 0, nil
	}
	return len(all), nil
}
