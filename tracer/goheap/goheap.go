// Package goheap reads the profile that the runtime of a Go program keeps of its heap,
// from outside: what runtime.MemProfile returns, and go tool pprof shows, without the
// program's help.
//
// The runtime samples allocations, one in MemProfileRate bytes on average, in every
// program that has the function MemProfile linked in, as any that imports net/http/pprof
// or runtime/pprof to write heap profiles. There is a bucket for each pair of a stack and
// a size, in memory that is never given back; its header does not change once it is in
// the list of all of them. So a list can be followed while the program runs:
//
//	mbuckets ─▶ bucket ──allnext──▶ bucket ──allnext──▶ … ─▶ nil
//	            │ next, allnext, type, hash, size, depth
//	            │ depth return addresses, the innermost first
//	            │ 4 times: objects allocated, freed (until Go 1.26 also the bytes of both)
//
// The first of the four counts is the profile that is published, as of the beginning of
// a garbage collection; the others are of the collections that are not over yet, as frees
// become known later than allocations (memRecord in runtime/mprof.go).
//
// Nothing of what is read is trusted. Headers have not changed since Go 1.9, and each has
// a hash of its stack and size, which is computed again. How long the counts are is
// measured by how close to each other buckets are, and where there are bytes they must be
// the objects times their size. So neither the version of Go nor debug information is
// asked: a layout that is not known fails these checks. What is read and kept altogether is
// bounded.
package goheap

import (
	"errors"
	"fmt"
	"slices"
)

// Memory is the memory of a process.
type Memory interface {
	// ReadAt reads from an address on. Fewer bytes than asked for come with an error; one
	// that matches ErrStopped ends whatever it is read for.
	ReadAt(p []byte, addr uint64) (int, error)
}

var (
	// ErrStopped says that whoever gives the memory wants no more of it to be read.
	ErrStopped = errors.New("stopped")
	// ErrImplausible says that what was found is no profile, or of a form that is not known.
	ErrImplausible = errors.New("no heap profile of a known form")
	// ErrBudget says that a profile is larger than what is read of any.
	ErrBudget = errors.New("the heap profile is too large")
	// ErrAbsent says that no variable leads to a profile, as where nothing was sampled yet.
	ErrAbsent = errors.New("no heap profile was found")
	// ErrOff says that the program has never sampled anything, and does not.
	ErrOff = errors.New("the program does not sample its heap: MemProfileRate is 0")
)

// DefaultRate is what MemProfileRate is unless the program changes it.
const DefaultRate = 512 << 10

// Variables are the addresses of variables of the runtime, in the memory of the process.
type Variables struct {
	// Buckets is mbuckets, 0 where that has not been found.
	Buckets uint64

	// Cycle is mProfCycle, or of Go 1.18 and before mProf, which has the number as it is
	// (PlainCycle). 0 if that is not known: then a profile that is read while a garbage
	// collection begins may be one collection older than what MemProfile returns.
	Cycle      uint64
	PlainCycle bool

	// Rates is where MemProfileRate may be: one place, or some that began with DefaultRate.
	// It is known if all have the same value, and likely if some have changed to one.
	Rates []uint64
}

// Limits are bounds of what is read. 0 stands for the default.
type Limits struct {
	Bytes   int64 // that are read of the process, and looked at; 64 MiB
	Buckets int   // 262,144
}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 64 << 20
	}
	if l.Buckets == 0 {
		l.Buckets = 1 << 18
	}
	return l
}

// Record is what was allocated with one stack in objects of one size. A stack has as many
// records as there were sizes.
type Record struct {
	// Stack has return addresses, the innermost call first. Calls that were inlined have
	// one of their own, and so has the function that they were inlined into: each names
	// the innermost function at that address less 1, and no other.
	Stack []uint64
	// Bucket is the address of the record's bucket: it is the same in all profiles of an
	// address space, and no other record's.
	Bucket uint64
	// Size is that of an object, in bytes, as the allocator has it.
	Size int64

	// Objects that were sampled, since the program began.
	AllocObjects, FreeObjects int64
}

// Profile is what was read.
type Profile struct {
	// Records are those of stacks that something was sampled of, the newest stack first.
	Records []Record
	// Rate is MemProfileRate; Assumed says that it is likely this, or DefaultRate where
	// nothing is known. As in pprof, with less than 2 nothing is scaled. Less than 1 stops sampling:
	// then what there are of records are of the time before.
	Rate    int64
	Assumed bool
	// Uncollected says that no garbage collection has published anything yet: what there
	// are of records counts everything that was allocated as live.
	Uncollected bool
	// Collections counts garbage collections, modulo a large number; 0 if it is not known.
	Collections int
	// Mixed says that a garbage collection began while it was read, each time it was
	// tried: some records may be one collection newer than others.
	Mixed bool
}

// attempts is how often a profile is read that changes meanwhile, or seems to be none.
const attempts = 3

// Read reads the profile. An error that matches ErrBudget comes with the records of the
// stacks that were new last, as many as are within the limits. Others may match ErrOff,
// ErrImplausible, and without Buckets ErrAbsent.
func Read(mem Memory, at Variables, limits Limits) (*Profile, error) {
	limits = limits.withDefaults()
	for try := 1; ; try++ {
		p, err := readOnce(mem, at, limits)
		// A bucket that is made meanwhile may be read as it was before, too.
		if try < attempts && (p != nil && p.Mixed || errors.Is(err, ErrImplausible)) {
			continue
		}
		if err != nil && !errors.Is(err, ErrBudget) {
			return nil, err
		}
		return p, err
	}
}

// readOnce reads it as it is now. With any error it says at least whether it is Mixed, if
// there is a profile.
func readOnce(mem Memory, at Variables, limits Limits) (*Profile, error) {
	p := &Profile{}
	if err := p.readRate(mem, at.Rates); err != nil {
		return nil, err
	}
	cycle, err := readCycle(mem, at)
	if err != nil {
		return nil, err
	}
	failed := p.readRecords(newPages(mem, limits.Bytes), at, limits.Buckets, cycle)
	after, err := readCycle(mem, at)
	if err != nil {
		return nil, err
	}
	p.Mixed = p.Mixed || after != cycle
	p.Collections = max(after, 0) // not unknownCycle
	return p, failed
}

// readRate sets what is known of the rate.
func (p *Profile) readRate(mem Memory, places []uint64) error {
	var rates []int64
	for _, addr := range places {
		rate, err := readWord(mem, addr)
		if err != nil {
			return fmt.Errorf("read MemProfileRate: %w", err)
		}
		rates = append(rates, int64(rate))
	}
	slices.Sort(rates)
	rates = slices.Compact(rates)
	p.Assumed = len(rates) != 1
	if p.Assumed {
		rates = slices.DeleteFunc(rates, func(r int64) bool { return r == DefaultRate })
	}
	if p.Rate = DefaultRate; len(rates) == 1 {
		p.Rate = rates[0]
	}
	return nil
}

// unknownCycle stands for the number of a collection that is not known.
const unknownCycle = -1

// readCycle returns the number of the collection that is published, or is about to be.
func readCycle(mem Memory, at Variables) (int, error) {
	if at.Cycle == 0 {
		return unknownCycle, nil
	}
	var b [4]byte
	if err := readFull(mem, b[:], at.Cycle); err != nil {
		return 0, fmt.Errorf("read the profile's cycle: %w", err)
	}
	cycle := order.Uint32(b[:])
	if !at.PlainCycle {
		cycle >>= 1 // the lowest bit says whether it was published
	}
	return int(cycle), nil
}

// readRecords follows the list, and then reads the counts.
func (p *Profile) readRecords(pages *pages, at Variables, most, cycle int) error {
	var head uint64
	if at.Buckets != 0 {
		var err error
		if head, err = readWord(pages.mem, at.Buckets); err != nil {
			return fmt.Errorf("read mbuckets: %w", err)
		}
	}
	switch {
	case head == 0 && !p.Assumed && p.Rate < 1:
		return ErrOff
	case at.Buckets == 0:
		return ErrAbsent
	}
	buckets, short := pages.list(head, most)
	if short != nil && !errors.Is(short, ErrBudget) {
		return short
	}
	counts, err := pages.decode(buckets, cycle)
	if err != nil {
		return err
	}
	published := slices.ContainsFunc(counts, func(c counts4) bool { return c.published(cycle) != count{} })
	// The runtime is about to publish, or does so just now, and may be seen half way.
	p.Uncollected = !published
	p.Mixed = slices.ContainsFunc(counts, func(c counts4) bool { return c.pending(cycle) != count{} })
	for i, b := range buckets {
		c := counts[i].published(cycle)
		if p.Uncollected {
			c = counts[i].sum()
		}
		if c == (count{}) {
			continue
		}
		p.Records = append(p.Records, Record{
			Stack: b.stack, Bucket: b.addr, Size: int64(b.size), AllocObjects: int64(c.allocs), FreeObjects: int64(c.frees),
		})
	}
	return short
}
