package goheap

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/maptrace/maptrace/procmaps"
)

// heap is memory that is made up: variables in its first page, and buckets behind it.
type heap struct {
	words  int // of a count
	b      []byte
	last   uint64 // bucket
	reads  int
	onRead func(n int, addr uint64)
}

const (
	heapBase = 0x7f0000000000
	atHead   = heapBase + 0x100
	atCycle  = heapBase + 0x108
	atRate   = heapBase + 0x110
)

var errUnmapped = errors.New("unmapped")

func newHeap(words int) *heap {
	h := &heap{words: words, b: make([]byte, page)}
	h.set(atRate, DefaultRate)
	return h
}

func (h *heap) ReadAt(p []byte, addr uint64) (int, error) {
	if h.reads++; h.onRead != nil {
		h.onRead(h.reads, addr)
	}
	if addr < heapBase || addr-heapBase > uint64(len(h.b)) {
		return 0, errUnmapped
	}
	n := copy(p, h.b[addr-heapBase:])
	if n < len(p) {
		return n, errUnmapped
	}
	return n, nil
}

func (h *heap) set(addr, v uint64)     { order.PutUint64(h.b[addr-heapBase:], v) }
func (h *heap) get(addr uint64) uint64 { return order.Uint64(h.b[addr-heapBase:]) }

// setCycle says how many collections there were, as Go 1.19 and later does.
func (h *heap) setCycle(n uint64) { h.set(atCycle, n<<1|1) }

// add appends a bucket, which then is the first of the list, and returns its address.
func (h *heap) add(size uint64, stack []uint64, counts counts4) uint64 {
	b := bucket{addr: heapBase + uint64(len(h.b)), size: size, stack: stack}
	fields := []uint64{0, h.last, memProfile, b.hash(), size, uint64(len(stack))}
	fields = append(fields, stack...)
	for _, c := range counts {
		all := []uint64{c.allocs, c.frees, c.allocs * size, c.frees * size}
		fields = append(fields, all[:h.words]...)
	}
	for _, f := range fields {
		h.b = order.AppendUint64(h.b, f)
	}
	h.last = b.addr
	h.set(atHead, b.addr)
	return b.addr
}

// counts is where the i-th counts of a bucket are.
func (h *heap) counts(addr uint64, i int) uint64 {
	return addr + header + word*(h.get(addr+40)+uint64(i*h.words))
}

// rehash gives a bucket the hash of what is in it now.
func (h *heap) rehash(addr uint64) {
	b := bucket{size: h.get(addr + 32), stack: make([]uint64, h.get(addr+40))}
	for i := range b.stack {
		b.stack[i] = h.get(addr + header + word*uint64(i))
	}
	h.set(addr+24, b.hash())
}

// whole fills the last page, as memory is mapped.
func (h *heap) whole() *heap {
	h.b = append(h.b, make([]byte, -len(h.b)&(page-1))...)
	return h
}

func variables() Variables {
	return Variables{Buckets: atHead, Cycle: atCycle, Rates: []uint64{atRate}}
}

// counted is what was sampled by a record.
func counted(size int64, stack []uint64, allocs, frees int64) Record {
	return Record{Stack: stack, Size: size, AllocObjects: allocs, FreeObjects: frees}
}

var (
	one   = []uint64{0x401000, 0x402000}
	other = []uint64{0x403000, 0x402000, 0x405000}
)

// anywhere is for records whose buckets may be anywhere, after any collection.
var anywhere = cmp.Options{cmpopts.IgnoreFields(Record{}, "Bucket"), cmpopts.IgnoreFields(Profile{}, "Collections")}

func TestAProfileHasTheAddressesOfItsBucketsAndTheNumberOfCollections(t *testing.T) {
	t.Parallel()
	h := newHeap(4)
	h.setCycle(7)
	first, last := h.add(16, one, counts4{{5, 2}}), h.add(32, one, counts4{{5, 2}})
	got, err := Read(h.whole(), variables(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var buckets []uint64
	for _, r := range got.Records {
		buckets = append(buckets, r.Bucket)
	}
	if d := cmp.Diff([]uint64{last, first}, buckets); d != "" || got.Collections != 7 {
		t.Errorf("%d collections; (-want +got):\n%s", got.Collections, d)
	}
	at := variables()
	at.Cycle = 0
	if got, err = Read(h, at, Limits{}); err != nil || got.Collections != 0 {
		t.Errorf("where it is not known: %+v, %v", got, err)
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(h *heap) Variables
		want *Profile
	}{
		{
			"nothing was sampled",
			func(*heap) Variables { return variables() },
			&Profile{Rate: DefaultRate, Uncollected: true},
		},
		{
			"only what is published counts, the newest stack first",
			func(h *heap) Variables {
				h.set(atRate, 1)
				h.setCycle(4) // so the counts behind the second are of collections to come
				h.add(16, one, counts4{{5, 2}, {7, 0}, {0, 0}, {9, 1}})
				h.add(32, other, counts4{{0, 0}, {1, 0}, {0, 0}, {0, 0}})
				h.add(64, other, counts4{{3, 3}, {}, {}, {}})
				return variables()
			},
			&Profile{Rate: 1, Records: []Record{counted(64, other, 3, 3), counted(16, one, 5, 2)}},
		},
		{
			"what is to be published is added",
			func(h *heap) Variables {
				h.set(atRate, 1)
				h.set(atCycle, 5<<1)
				h.add(16, one, counts4{{5, 2}, {100, 0}, {100, 1}, {9, 1}})
				return variables()
			},
			&Profile{Rate: 1, Records: []Record{counted(16, one, 14, 3)}, Mixed: true},
		},
		{
			"the number of the collection as Go 1.18 has it",
			func(h *heap) Variables {
				h.set(atRate, 1)
				h.set(atCycle, 5|1<<32)
				h.add(16, one, counts4{{5, 2}, {100, 0}, {100, 1}, {9, 1}})
				at := variables()
				at.PlainCycle = true
				return at
			},
			&Profile{Rate: 1, Records: []Record{counted(16, one, 14, 3)}, Mixed: true},
		},
		{
			"without that number, what is published",
			func(h *heap) Variables {
				h.set(atRate, 1)
				h.add(16, one, counts4{{5, 2}, {100, 0}, {100, 1}, {9, 1}})
				at := variables()
				at.Cycle = 0
				return at
			},
			&Profile{Rate: 1, Records: []Record{counted(16, one, 5, 2)}},
		},
		{
			"before the first collection, all",
			func(h *heap) Variables {
				h.set(atRate, 1)
				h.add(16, one, counts4{{}, {}, {}, {9, 0}})
				h.add(32, one, counts4{{}, {}, {}, {2, 0}})
				return variables()
			},
			&Profile{Rate: 1, Uncollected: true, Records: []Record{counted(32, one, 2, 0), counted(16, one, 9, 0)}},
		},
		{
			"sampling was stopped",
			func(h *heap) Variables {
				h.set(atRate, 0)
				h.add(16, one, counts4{{4, 2}})
				return variables()
			},
			&Profile{Rate: 0, Records: []Record{counted(16, one, 4, 2)}},
		},
		{
			"a rate of which no object is ever sampled",
			func(h *heap) Variables {
				h.set(atRate, 1<<62)
				h.add(16, one, counts4{{4, 4}})
				return variables()
			},
			&Profile{Rate: 1 << 62, Records: []Record{counted(16, one, 4, 4)}},
		},
		{
			"nothing was sampled, at a rate that is not known",
			func(*heap) Variables {
				at := variables()
				at.Rates = nil
				return at
			},
			&Profile{Rate: DefaultRate, Assumed: true, Uncollected: true},
		},
		{
			"the rate is where all places agree",
			func(h *heap) Variables {
				h.set(atRate+8, DefaultRate)
				at := variables()
				at.Rates = append(at.Rates, atRate+8)
				return at
			},
			&Profile{Rate: DefaultRate, Uncollected: true},
		},
		{
			"the rate is likely the place that has changed",
			func(h *heap) Variables {
				h.set(atRate+8, DefaultRate)
				h.set(atRate, 4096)
				at := variables()
				at.Rates = append(at.Rates, atRate+8)
				return at
			},
			&Profile{Rate: 4096, Assumed: true, Uncollected: true},
		},
		{
			"the rate is not known where two have changed",
			func(h *heap) Variables {
				h.set(atRate+8, 1)
				h.set(atRate, 4096)
				at := variables()
				at.Rates = append(at.Rates, atRate+8)
				return at
			},
			&Profile{Rate: DefaultRate, Assumed: true, Uncollected: true},
		},
		{
			"a stack of no calls, and the deepest",
			func(h *heap) Variables {
				h.set(atRate, 1)
				h.add(16, make([]uint64, maxDepth), counts4{{1, 0}})
				h.add(16, []uint64{}, counts4{{2, 0}})
				return variables()
			},
			&Profile{Rate: 1, Records: []Record{counted(16, []uint64{}, 2, 0), counted(16, make([]uint64, maxDepth), 1, 0)}},
		},
	} {
		for name, words := range map[string]int{"Go 1.26": 4, "Go 1.27": 2} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHeap(words)
				at := c.make(h)
				got, err := Read(h.whole(), at, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(c.want, got, anywhere); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			})
		}
	}
}

func TestWhatIsNoProfile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		damage func(h *heap, first, last uint64)
		want   error
	}{
		{"the list leads in a circle", func(h *heap, first, last uint64) { h.set(first+8, last) }, ErrImplausible},
		{"a bucket leads to itself", func(h *heap, first, _ uint64) { h.set(first+8, first) }, ErrImplausible},
		{"a bucket of another type", func(h *heap, first, _ uint64) { h.set(first+16, 2) }, ErrImplausible},
		{"another stack than its hash is of", func(h *heap, first, _ uint64) { h.set(first+header, 1) }, ErrImplausible},
		{"another size than its hash is of", func(h *heap, first, _ uint64) { h.set(first+32, 48) }, ErrImplausible},
		{"objects without a size", func(h *heap, first, _ uint64) { h.set(first+32, 0); h.rehash(first) }, ErrImplausible},
		{"objects larger than all memory", func(h *heap, first, _ uint64) { h.set(first+32, 1<<58); h.rehash(first) }, ErrImplausible},
		{"too deep", func(h *heap, _, last uint64) {
			h.set(h.add(16, make([]uint64, maxDepth+1), counts4{})+8, last)
		}, ErrImplausible},
		{"more was freed than allocated", func(h *heap, _, last uint64) { h.set(last+header+16+8, 100) }, ErrImplausible},
		{"more than there is memory", func(h *heap, _, last uint64) { h.set(last+header+16, 1<<60) }, ErrImplausible},
		{"more will have been freed than allocated", func(h *heap, _, last uint64) {
			h.set(h.counts(last, 2)+8, 100)
		}, ErrImplausible},
		{"more will have been freed than can be counted", func(h *heap, _, last uint64) {
			h.set(h.counts(last, 2)+8, 1<<63)
			h.set(h.counts(last, 3)+8, 1<<63)
		}, ErrImplausible},
		{"an odd address", func(h *heap, first, last uint64) { h.set(last+8, first+1) }, ErrImplausible},
		{"a small address", func(h *heap, _, last uint64) { h.set(last+8, 8) }, ErrImplausible},
		{"it leads out of memory", func(h *heap, first, _ uint64) { h.set(first+8, heapBase-page) }, errUnmapped},
		{"one bucket inside another", func(h *heap, _, last uint64) {
			// Its stack holds what looks like a bucket.
			inner := bucket{size: 8}
			stack := []uint64{0, last, memProfile, inner.hash(), 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			outer := h.add(16, stack, counts4{})
			h.set(outer+8, outer+header)
		}, ErrImplausible},
	} {
		for name, words := range map[string]int{"Go 1.26": 4, "Go 1.27": 2} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHeap(words)
				first := h.add(16, one, counts4{{3, 1}})
				for i := range uint64(10) {
					h.add(16+8*i, one, counts4{{3, 1}})
				}
				last := h.add(32, one, counts4{{3, 1}})
				c.damage(h, first, last)
				got, err := Read(h.whole(), variables(), Limits{})
				if !errors.Is(err, c.want) || got != nil {
					t.Errorf("got %v, %v; want %v", got, err, c.want)
				}
			})
		}
	}
}

func TestNothingIsSampled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rate uint64
		at   Variables
		want error
	}{
		{"it is off", 0, Variables{Buckets: atHead, Rates: []uint64{atRate}}, ErrOff},
		{"it is off, by less than 0", ^uint64(0), Variables{Buckets: atHead, Rates: []uint64{atRate}}, ErrOff},
		{"it is off, and no list was found", 0, Variables{Rates: []uint64{atRate}}, ErrOff},
		{"no list was found", DefaultRate, Variables{Rates: []uint64{atRate}}, ErrAbsent},
		{"nothing was found", 0, Variables{}, ErrAbsent},
		{"the rate is not mapped", 0, Variables{Rates: []uint64{8}}, errUnmapped},
		{"the cycle is not mapped", 0, Variables{Cycle: 8}, errUnmapped},
		{"the list is not mapped", 0, Variables{Buckets: 8}, errUnmapped},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHeap(4)
			h.set(atRate, c.rate)
			if got, err := Read(h, c.at, Limits{}); got != nil || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

// A version to come may have more counts, or fewer: there are no such distances between
// its buckets, or what is where bytes were is none.
func TestCountsOfAnUnknownForm(t *testing.T) {
	t.Parallel()
	for _, words := range []int{1, 3} {
		h := newHeap(words)
		for i := range uint64(many) {
			h.add(16+8*i, one, counts4{{3, 1}, {}, {}, {5, 0}})
		}
		h.b = append(h.b, make([]byte, page)...) // as there is more in a block than counts
		if got, err := Read(h.whole(), variables(), Limits{}); !errors.Is(err, ErrImplausible) {
			t.Errorf("with %d words: %v, %v", words, got, err)
		}
	}
}

// Among few buckets, what else the runtime keeps may be between them.
func TestFewBucketsApart(t *testing.T) {
	t.Parallel()
	for _, words := range []int{2, 4} {
		for _, apart := range []int{8, 64, 1000} {
			h := newHeap(words)
			h.set(atRate, 1)
			h.setCycle(1)
			h.add(16, one, counts4{{5, 2}, {1, 0}, {}, {3, 3}})
			h.b = append(h.b, make([]byte, apart)...)
			h.add(32, one, counts4{{6, 2}, {1, 0}, {}, {3, 3}})
			h.b = append(h.b, make([]byte, apart)...)
			h.add(48, one, counts4{}) // of all forms
			h.b = append(h.b, make([]byte, page)...)
			got, err := Read(h.whole(), variables(), Limits{})
			if err != nil {
				t.Errorf("%d bytes apart, with %d words: %v", apart, words, err)
				continue
			}
			want := &Profile{Rate: 1, Records: []Record{counted(32, one, 6, 2), counted(16, one, 5, 2)}}
			if d := cmp.Diff(want, got, anywhere); d != "" {
				t.Errorf("%d bytes apart, with %d words (-want +got):\n%s", apart, words, d)
			}
		}
	}
}

func TestACollectionMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHeap(4)
	h.set(atRate, 1)
	h.setCycle(3)
	b := h.add(16, one, counts4{{5, 2}, {}, {2, 1}, {}})
	h.whole()
	counts := h.counts(b, 0)
	h.onRead = func(n int, _ uint64) {
		switch n {
		case 4: // it has begun, while the buckets are read
			h.set(atCycle, 4<<1)
		case 9: // and is published at the second attempt
			h.set(counts, 7)
			h.set(counts+8, 3)
			h.set(counts+16, 7*16)
			h.set(counts+24, 3*16)
			for i := range uint64(4) {
				h.set(counts+64+8*i, 0)
			}
		}
	}
	got, err := Read(h, variables(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{Rate: 1, Records: []Record{counted(16, one, 7, 3)}}
	if d := cmp.Diff(want, got, anywhere); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if h.reads < 9 {
		t.Errorf("it was read %d times", h.reads)
	}
}

// Collections that begin all the time are told of.
func TestCollectionsAllTheTime(t *testing.T) {
	t.Parallel()
	h := newHeap(4)
	h.set(atRate, 1)
	h.add(16, one, counts4{{5, 2}})
	h.whole()
	h.onRead = func(n int, _ uint64) { h.setCycle(uint64(n)) }
	got, err := Read(h, variables(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{Rate: 1, Records: []Record{counted(16, one, 5, 2)}, Mixed: true}
	if d := cmp.Diff(want, got, anywhere); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// What is counted just now is read again.
func TestACountThatIsReadHalfWay(t *testing.T) {
	t.Parallel()
	h := newHeap(4)
	h.set(atRate, 1)
	for i := range uint64(many) {
		h.add(16+8*i, one, counts4{})
	}
	b := h.add(16, other, counts4{{5, 2}})
	counts := h.counts(b, 0)
	h.whole()
	h.set(counts, 6) // its bytes are not counted yet
	h.onRead = func(_ int, addr uint64) {
		if addr == counts {
			h.set(counts+16, 6*16)
		}
	}
	got, err := Read(h, variables(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Profile{Rate: 1, Records: []Record{counted(16, other, 6, 2)}}, got, anywhere); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Behind the counts there may be no memory any more.
func TestABucketAtTheEndOfMemory(t *testing.T) {
	t.Parallel()
	h := newHeap(2)
	h.set(atRate, 1)
	h.b = append(h.b, make([]byte, page-header-16-64)...)
	h.add(16, one, counts4{{5, 2}})
	if len(h.b) != 2*page {
		t.Fatalf("it ends at %d", len(h.b))
	}
	got, err := Read(h, variables(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Profile{Rate: 1, Records: []Record{counted(16, one, 5, 2)}}, got, anywhere); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLargeProfilesAreReadInPart(t *testing.T) {
	t.Parallel()
	const n = 10_000
	h := newHeap(2)
	for i := range uint64(n) {
		h.add(16+8*i, one, counts4{{3, 1}})
	}
	h.whole()
	all, err := Read(h, variables(), Limits{})
	if err != nil || len(all.Records) != n {
		t.Fatalf("%d records, %v", len(all.Records), err)
	}
	for name, l := range map[string]Limits{"buckets": {Buckets: 100}, "bytes": {Bytes: 100 << 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counting := &heap{b: h.b}
			got, err := Read(counting, variables(), l)
			if !errors.Is(err, ErrBudget) {
				t.Fatalf("got %v, want %v", err, ErrBudget)
			}
			if len(got.Records) < 100 || len(got.Records) > n/2 {
				t.Errorf("got %d records", len(got.Records))
			}
			if d := cmp.Diff(all.Records[:len(got.Records)], got.Records); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if counting.reads > 20 {
				t.Errorf("it took %d reads", counting.reads)
			}
		})
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	data := []procmaps.Range{{Start: heapBase - 2*page, End: heapBase - page}, {Start: heapBase, End: heapBase + page}}
	image := procmaps.Range{Start: heapBase - 2*page, End: heapBase + page}
	find := func(h *heap, data []procmaps.Range, l Limits) (uint64, error) { return Find(h.whole(), data, image, l) }

	h := newHeap(4)
	if got, err := find(h, data, Limits{}); !errors.Is(err, ErrAbsent) {
		t.Errorf("without buckets: %#x, %v", got, err)
	}
	first := h.add(16, one, counts4{{1, 0}})
	h.add(32, one, counts4{{1, 0}})
	reads := func() int {
		h.reads = 0
		if _, err := find(h, data, Limits{}); err != nil {
			t.Error(err)
		}
		return h.reads
	}
	before := reads()
	h.set(heapBase+0x38, heapBase+8) // the address of a variable is not looked at
	if after := reads(); after != before {
		t.Errorf("%d reads instead of %d", after, before)
	}
	h.set(heapBase+0x40, first)          // who knows of one bucket does not lead to all
	h.set(heapBase+0x48, heapBase+0x200) // a variable that has the address of another
	h.set(heapBase+0x50, first+8)        // and one inside a bucket
	h.set(heapBase+0x58, 0x1000000)      // and one of what is not mapped
	if got, err := find(h, data, Limits{}); got != atHead || err != nil {
		t.Errorf("got %#x, %v; want %#x", got, err, atHead)
	}
	// Ranges need not begin with a page.
	if got, err := find(h, []procmaps.Range{{Start: heapBase, End: atHead}}, Limits{}); got != heapBase+0x40 || err != nil {
		t.Errorf("got %#x, %v; want %#x", got, err, uint64(heapBase+0x40))
	}
	if got, err := find(h, []procmaps.Range{{Start: atHead + 8, End: heapBase + page}}, Limits{}); !errors.Is(err, ErrAbsent) {
		t.Errorf("behind the variable: %#x, %v", got, err)
	}
	// What was found before the limits were reached is found.
	if got, err := find(h, append(data, procmaps.Range{Start: heapBase + page, End: heapBase + 1<<30}), Limits{Bytes: 1 << 20}); got != atHead || err != nil {
		t.Errorf("with much behind it: %#x, %v; want %#x", got, err, uint64(atHead))
	}
	if got, err := find(h, data, Limits{Bytes: 100}); !errors.Is(err, ErrBudget) {
		t.Errorf("with 100 bytes: %#x, %v", got, err)
	}
}

// stopping is memory that nobody wants to be read any more after some reads.
type stopping struct {
	*heap
	left int
}

func (s *stopping) ReadAt(p []byte, addr uint64) (int, error) {
	if s.left--; s.left < 0 {
		return 0, ErrStopped
	}
	return s.heap.ReadAt(p, addr)
}

func TestStopping(t *testing.T) {
	t.Parallel()
	h := newHeap(4)
	h.add(16, one, counts4{{1, 0}})
	h.whole()
	image := procmaps.Range{Start: heapBase, End: heapBase + page}
	reading, finding := 0, 0
	for ; ; reading++ {
		if _, err := Read(&stopping{h, reading}, variables(), Limits{}); err == nil {
			break
		} else if !errors.Is(err, ErrStopped) {
			t.Fatalf("after %d reads: %v", reading, err)
		}
	}
	for ; ; finding++ {
		if _, err := Find(&stopping{h, finding}, []procmaps.Range{image}, image, Limits{}); err == nil {
			break
		} else if !errors.Is(err, ErrStopped) {
			t.Fatalf("after %d reads: %v", finding, err)
		}
	}
	if reading < 5 || finding < 2 {
		t.Errorf("they took %d and %d reads", reading, finding)
	}
}

// Whatever memory has, reading it ends, within its limits, and what is returned of it is
// consistent. The memory is a heap of records that are as in some bytes, with other bytes
// written over it.
func FuzzHeaps(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint16(0), uint8(0))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, []byte{}, uint16(0), uint8(1))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, []byte{1, 0, 0}, uint16(page+8), uint8(2))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 255, 8, 9, 10, 255, 12}, []byte{0xff, 0xff, 0xff}, uint16(page+header), uint8(7))
	f.Fuzz(func(t *testing.T, records, over []byte, at uint16, how uint8) {
		h := newHeap(2 + 2*int(how&1))
		h.setCycle(uint64(how >> 1))
		rng := rand.New(rand.NewPCG(uint64(how), uint64(at)))
		for len(records) >= 4 && len(h.b) < 64<<10 {
			stack := make([]uint64, records[0]%40)
			for i := range stack {
				stack[i] = rng.Uint64()
			}
			b := h.add(uint64(records[1])+1, stack, counts4{{uint64(records[2]), uint64(records[3])}, {1, 0}, {uint64(records[3]), 0}})
			if records[0] >= 200 {
				// To a bucket, or into one.
				h.set(b+8, heapBase+page+rng.Uint64N(uint64(len(h.b)-page))&^7)
			}
			records = records[4:]
		}
		if how&2 != 0 {
			h.whole()
		}
		copy(h.b[min(int(at), len(h.b)):], over)
		limits := Limits{Bytes: 1 << 20, Buckets: 1000}
		data := procmaps.Range{Start: heapBase, End: heapBase + page}
		if found, err := Find(h, []procmaps.Range{data}, data, limits); err == nil && !data.Contains(found) {
			t.Errorf("found at %#x", found)
		}
		p, err := Read(h, variables(), limits)
		if err != nil && !errors.Is(err, ErrBudget) {
			if p != nil {
				t.Errorf("a profile, and %v", err)
			}
		} else {
			checkProfile(t, p, limits)
		}
		// A bucket needs a few reads at most, of what is kept none.
		if most := 3 * (len(h.b)/page + 10) * (attempts + 1) * 8; h.reads > most+limits.Buckets*attempts*attempts {
			t.Errorf("%d reads", h.reads)
		}
	})
}

func checkProfile(t *testing.T, p *Profile, limits Limits) {
	t.Helper()
	if len(p.Records) > limits.Buckets {
		t.Errorf("%d records", len(p.Records))
	}
	for _, r := range p.Records {
		if r.Size <= 0 || r.FreeObjects < 0 || r.AllocObjects < r.FreeObjects || r.AllocObjects == 0 || len(r.Stack) > maxDepth {
			t.Errorf("got %+v", r)
		}
	}
}

func TestAnyCountsDecodeOrAreRefused(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 10_000 {
		h := newHeap(2 + 2*rng.IntN(2))
		h.setCycle(rng.Uint64N(10))
		h.set(atRate, rng.Uint64()>>rng.IntN(64))
		var c counts4
		for i := range c {
			c[i] = count{rng.Uint64() >> rng.IntN(64), rng.Uint64() >> rng.IntN(64)}
		}
		h.add(rng.Uint64()>>(7+rng.IntN(57))|1, one, c)
		p, err := Read(h.whole(), variables(), Limits{})
		if err != nil {
			refused++
			continue
		}
		checkProfile(t, p, Limits{}.withDefaults())
	}
	if refused < 100 || refused > 9_900 {
		t.Errorf("%d of 10,000 were refused", refused)
	}
}
