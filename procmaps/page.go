package procmaps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Page is the state of one page of an address space, as its page tables have it. A page
// that is neither Present nor Swapped need not be nowhere: of a file it may be in the page
// cache, and of shared memory in swap.
type Page struct {
	Present   bool // in memory, and mapped
	Swapped   bool // or under migration
	File      bool // of a file or of shared memory; a private copy of it is not
	Exclusive bool // mapped by this process alone (4.2+)
	Guard     bool // MADV_GUARD_INSTALL (6.15+)
	// SoftDirty is written to since /proc/PID/clear_refs last said so. Kernels without
	// CONFIG_MEM_SOFT_DIRTY never set it: that it is not set means nothing.
	SoftDirty bool

	// Scanned says that the kernel has PAGEMAP_SCAN (6.7+), without which these are not
	// known: a part of a huge page, and the page of zeros that reads of untouched memory get.
	Scanned    bool
	Huge, Zero bool
}

// Page returns the state of the page that an address is on. Errors are those of
// [Residency.Count]; there is none for what is not mapped, or for the kernel's half.
func (r *Residency) Page(addr uint64) (Page, error) {
	if addr >= kernelHalf {
		return Page{}, nil
	}
	n, err := r.file.ReadAt(r.entry[:], int64(addr/r.page*pagemapEntry))
	if err != nil && !errors.Is(err, io.EOF) {
		return Page{}, fmt.Errorf("read %s: %w", r.name, err)
	}
	if n < pagemapEntry { // beyond what a process can have, or there is no process
		if !r.alive() {
			return Page{}, fmt.Errorf("read %s: %w", r.name, ErrNoMemory)
		}
		return Page{}, nil
	}
	p := pageOf(binary.NativeEndian.Uint64(r.entry[:]))
	if !r.scans {
		return p, nil
	}
	start := addr / r.page * r.page
	found, _, err := r.walker.walk(Range{start, start + r.page}, 1, false)
	if err != nil {
		return Page{}, fmt.Errorf("scan %s: %w", r.name, err)
	}
	p.Scanned = true
	for _, f := range found {
		p.Huge = f.categories&pageIsHuge != 0
		p.Zero = f.categories&pageIsPfnZero != 0
	}
	return p, nil
}

// pageOf is what an entry of pagemap says.
func pageOf(e uint64) Page {
	if e&entryIsGuard != 0 {
		return Page{Guard: true}
	}
	p := Page{Present: e&entryIsPresent != 0, Swapped: e&entryIsSwapped != 0, SoftDirty: e&entryIsSoftDirty != 0}
	p.File = (p.Present || p.Swapped) && e&entryIsFile != 0
	p.Exclusive = p.Present && e&entryIsExclusive != 0
	return p
}
