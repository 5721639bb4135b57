package goheap

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

const (
	word = 8
	// header is the size of a bucket's, of six words.
	header = 6 * word
	// memProfile is the type of the buckets of allocations; others count waiting.
	memProfile = 1
	// maxDepth is of stacks; GODEBUG=profstackdepth=1024 has the deepest.
	maxDepth = 1024
	// maxSize is of an object: more than there are addresses.
	maxSize = 1 << 57
	// cycles is of how many collections there are counts.
	cycles = 4
)

// bucket is what the header of one says, and what follows.
type bucket struct {
	addr   uint64
	next   uint64 // of the list of all of them
	size   uint64
	stack  []uint64
	counts []byte // in one of the layouts
}

// end is where the counts begin.
func (b *bucket) end() uint64 { return b.addr + header + uint64(len(b.stack))*word }

// bucket reads the header at an address and checks it.
func (p *pages) bucket(addr uint64) (bucket, error) {
	var head [header]byte
	if !pointer(addr) {
		return bucket{}, fmt.Errorf("bucket %#x: %w", addr, ErrImplausible)
	}
	if err := p.read(head[:], addr); err != nil {
		return bucket{}, fmt.Errorf("read bucket %#x: %w", addr, err)
	}
	field := func(i int) uint64 { return order.Uint64(head[i*word:]) }
	b := bucket{addr: addr, next: field(1), size: field(4)}
	kind, hash, depth := field(2), field(3), field(5)
	if kind != memProfile || depth > maxDepth || b.size == 0 || b.size > maxSize {
		return bucket{}, fmt.Errorf("bucket %#x: %w", addr, ErrImplausible)
	}
	raw := make([]byte, depth*word)
	if err := p.read(raw, addr+header); err != nil {
		return bucket{}, fmt.Errorf("read bucket %#x: %w", addr, err)
	}
	b.stack = make([]uint64, depth)
	for i := range b.stack {
		b.stack[i] = order.Uint64(raw[i*word:])
	}
	if hash != b.hash() {
		return bucket{}, fmt.Errorf("bucket %#x: %w: its hash is another", addr, ErrImplausible)
	}
	return b, nil
}

// hash is what the runtime finds a bucket by (stkbucket in runtime/mprof.go).
func (b *bucket) hash() uint64 {
	var h uint64
	mix := func(v uint64) {
		h += v
		h += h << 10
		h ^= h >> 6
	}
	for _, pc := range b.stack {
		mix(pc)
	}
	mix(b.size)
	h += h << 3
	return h ^ h>>11
}

// pointer tells whether a bucket may be at an address.
func pointer(addr uint64) bool { return addr >= 1<<16 && addr < maxSize && addr%word == 0 }

// list follows the list from a bucket on, 0 for none. With ErrBudget it returns the first
// ones. That is the end of lists that lead in a circle, too, of which some are there twice.
func (p *pages) list(head uint64, most int) ([]bucket, error) {
	var all []bucket
	for addr := head; addr != 0; {
		if len(all) >= most {
			return all, fmt.Errorf("%w: more than %d buckets", ErrBudget, most)
		}
		b, err := p.bucket(addr)
		if err == nil {
			err = p.readCounts(&b)
		}
		if err != nil {
			return all, err
		}
		all = append(all, b)
		addr = b.next
	}
	return all, nil
}

// count is how many objects were sampled in one collection, or in several.
type count struct{ allocs, frees uint64 }

func (c count) plus(d count) count { return count{c.allocs + d.allocs, c.frees + d.frees} }

// counts4 are those of a bucket: what is published, and three in turn of the collections
// that are not.
type counts4 [cycles]count

// pending is what is to be added to what is published: nothing, once the runtime has.
func (c *counts4) pending(cycle int) count {
	if cycle == unknownCycle {
		return count{}
	}
	return c[1+cycle%(cycles-1)]
}

// published is what the profile has.
func (c *counts4) published(cycle int) count { return c[0].plus(c.pending(cycle)) }

func (c *counts4) sum() count {
	var sum count
	for _, one := range c {
		sum = sum.plus(one)
	}
	return sum
}

// layout is a form that the counts of a bucket have.
type layout struct {
	words int // of a count
}

// withBytes and bare are all that are known.
var (
	withBytes = layout{4} // Go 1.9 to 1.26: objects allocated, freed; bytes allocated, freed
	bare      = layout{2} // from Go 1.27: objects allocated, freed
)

func (l layout) bytes() uint64 { return uint64(cycles * l.words * word) }

// readCounts reads as much as the counts of a bucket may be.
func (p *pages) readCounts(b *bucket) error {
	b.counts = make([]byte, withBytes.bytes())
	err := p.read(b.counts, b.end())
	if err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, ErrBudget) {
		b.counts = b.counts[:bare.bytes()] // there may be no more memory
		err = p.read(b.counts, b.end())
	}
	if err != nil {
		return fmt.Errorf("read counts of bucket %#x: %w", b.addr, err)
	}
	return nil
}

// many is with how many buckets some surely follow each other without a gap.
const many = 256

// layoutOf returns the form that the counts of buckets have if it is one that is known:
// the shorter one does not have room for the longer. Few buckets may all be apart from each
// other; there, what cannot be chance tells, that bytes are objects times their size.
func layoutOf(buckets []bucket, gap uint64) layout {
	if gap == bare.bytes() {
		return bare
	}
	if len(buckets) >= many || slices.ContainsFunc(buckets, func(b bucket) bool {
		c, same := withBytes.decode(b.counts, b.size)
		return same && c != (counts4{})
	}) {
		return withBytes
	}
	return bare
}

// decode returns the counts of buckets.
func (p *pages) decode(buckets []bucket, cycle int) ([]counts4, error) {
	gap, ok := closest(buckets)
	if !ok {
		return nil, fmt.Errorf("%w: buckets overlap, or the list leads in a circle", ErrImplausible)
	}
	l := layoutOf(buckets, gap)
	all := make([]counts4, len(buckets))
	for i := range buckets {
		b := &buckets[i]
		for try := 0; ; try++ {
			var same bool
			if all[i], same = l.decode(b.counts, b.size); same && all[i].plausible(b.size, cycle) {
				break
			}
			if try == attempts {
				return nil, fmt.Errorf("bucket %#x: %w: its counts contradict each other", b.addr, ErrImplausible)
			}
			// What is counted just now may have been read half way. It is not taken of what
			// may be read, for then all that has been could not be used.
			if err := readFull(p.mem, b.counts[:min(l.bytes(), uint64(len(b.counts)))], b.end()); err != nil {
				return nil, fmt.Errorf("read counts of bucket %#x: %w", b.addr, err)
			}
		}
	}
	return all, nil
}

// closest returns how many bytes there are for counts before the next bucket, at least,
// and false if buckets overlap.
func closest(buckets []bucket) (uint64, bool) {
	order := make([]int, len(buckets))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Compare(buckets[i].addr, buckets[j].addr)
	})
	least := ^uint64(0)
	for i, at := range order[min(1, len(order)):] {
		before := &buckets[order[i]]
		if buckets[at].addr < before.end() {
			return 0, false
		}
		least = min(least, buckets[at].addr-before.end())
	}
	return least, true
}

// decode returns counts of objects of a size, and whether the bytes are those of as many.
func (l layout) decode(b []byte, size uint64) (c counts4, same bool) {
	if uint64(len(b)) < l.bytes() {
		return c, false
	}
	same = true
	for i := range c {
		field := func(k int) uint64 { return order.Uint64(b[(i*l.words+k)*word:]) }
		c[i] = count{field(0), field(1)}
		if l == withBytes {
			same = same && field(2) == c[i].allocs*size && field(3) == c[i].frees*size
		}
	}
	return c, same
}

// plausible tells whether there may be counts of objects of a size.
func (c *counts4) plausible(size uint64, cycle int) bool {
	const mostBytes = 1 << 60 // so that neither sums nor products overflow
	for _, one := range c {
		if one.allocs > mostBytes/size || one.frees > mostBytes/size {
			return false
		}
	}
	published, sum := c.published(cycle), c.sum()
	return published.frees <= published.allocs && sum.frees <= sum.allocs
}
