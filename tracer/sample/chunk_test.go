//go:build linux

package sample

import (
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer"
)

func TestAWordBeforeABlockIsItsChunksSizeOrNot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		size, header, chunk uint64
		ok                  bool
	}{
		{1, 0x21, 0x20, true},
		{24, 0x21, 0x20, true},
		{25, 0x31, 0x30, true},
		{96, 0x71, 0x70, true},
		{96, 0x75, 0x70, true},
		{96, 0x81, 0x80, true},            // 16 bytes were left
		{96, 0x91, 0x90, false},           // more
		{96, 0x61, 0x60, false},           // it would not fit
		{200_000, 0x31002, 0x31000, true}, // mapped for itself
		{96, 0, 0, false},
		{96, 0x5858585858585858, 0x5858585858585858, false},
	} {
		if chunk, ok := chunkOf(tt.size, tt.header); chunk != tt.chunk || ok != tt.ok {
			t.Errorf("%d bytes after %#x: %#x, %v; want %#x, %v", tt.size, tt.header, chunk, ok, tt.chunk, tt.ok)
		}
	}
}

// TestMarksOfFreedBlocksAreLearned takes a number that four frees have left, and no
// address of a block.
func TestMarksOfFreedBlocksAreLearned(t *testing.T) {
	t.Parallel()
	const key, cache, bin = 0x44c5a3e0917b2f57, 0x55d0c7a4b010, 0x7f2a19c8fcc0
	var m freeMarks
	for range sureMark - 1 {
		m.learn(key)
	}
	if m.marks(key) {
		t.Error("too few are enough")
	}
	for range sureMark {
		m.learn(key)
		m.learn(cache)
		m.learn(bin)
	}
	if !m.marks(key) || !m.marks(cache) || m.marks(bin) || m.marks(0) {
		t.Errorf("%v", m)
	}
	for i := range uint64(10 * mostMarks) {
		m.learn(1<<63 + i)
	}
	if len(m) > mostMarks {
		t.Errorf("%d are remembered", len(m))
	}
}

// TestWhatAFreeChangesIsLearned has frees of several allocators.
func TestWhatAFreeChangesIsLearned(t *testing.T) {
	t.Parallel()
	const before, first, both = tracer.ChangedBefore, tracer.ChangedFirst, tracer.ChangedBefore | tracer.ChangedFirst
	type frees struct {
		n       int
		size    uint64
		changed tracer.BlockChanged
		written bool // by its owner, the first word
	}
	for _, tt := range []struct {
		name  string
		frees []frees
		size  uint64
		want  sign
	}{
		{"nothing was freed", nil, 64, noSign},
		{"a list through the first words", []frees{{100, 64, first, true}}, 64, byFirst},
		{"what its owner left alone", []frees{{100, 64, first, true}, {1000, 64, 0, false}}, 64, byFirst},
		{"the smallest block", []frees{{100, 64, first, true}}, 8, byFirst},
		{"too few", []frees{{63, 64, first, true}, {1000, 64, 0, false}}, 64, noSign},
		{"most of them", []frees{{95, 64, first, true}, {5, 64, 0, true}}, 64, noSign},
		{"nearly all", []frees{{98, 64, first, true}, {2, 64, 0, true}}, 64, byFirst},
		{"another size, of small ones", []frees{{100, 64, first, true}}, 5000, byFirst},
		{"another size, of large ones", []frees{{100, 64, first, true}}, 9000, noSign},
		{"a large one", []frees{{100, 9000, first, true}}, 9001, byFirst},
		{"one size is freed otherwise", []frees{{1000, 64, first, true}, {10, 300, 0, true}}, 64, noSign},
		{"a header", []frees{{100, 64, before, false}}, 12, byBefore},
		{"a header and words", []frees{{100, 64, both, true}}, 64, byBefore},
		{"now this word, now that", []frees{{100, 64, first, true}, {100, 64, before, true}}, 64, noSign},
	} {
		var m freeTraces
		for _, f := range tt.frees {
			mark := tracer.HeapBlock{Changed: f.changed}
			if f.written {
				mark.First = 7
			}
			for range f.n {
				m.learn(&sampledBlock{size: f.size}, &mark)
			}
		}
		if got := m.sign(tt.size); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestBlocksAreReadWhereTheyAreThere reads our own memory, in which there is a hole.
func TestBlocksAreReadWhereTheyAreThere(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	at := uint64(uintptr(unsafe.Pointer(&mem[0])))
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), 3*page/8)
	for i := range words {
		words[i] = uint64(i)
	}
	words[1], words[2], words[3] = 0x71, 100, 200 // a chunk of 112 bytes
	words[1+0x70/8] = 0x31
	if err = unix.Mprotect(mem[page:2*page], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	ask := []contents{
		{id: 1, chunk: true, addr: at + 16},
		{id: 2, chunk: true, addr: at + uint64(page) + 16},
		{id: 3, chunk: true, addr: at + uint64(2*page) + 16},
		{id: 4, chunk: true, addr: 16},
		{id: 5, chunk: true, addr: at + 16},
		{id: 6, chunk: true, addr: at + uint64(page) - 24}, // it ends with the page
		{id: 7, chunk: true, addr: at + uint64(page) - 8},  // it would not
	}
	ask = append(ask, contents{id: 9, addr: at + 16}) // another allocator's
	for range 600 {                                   // more than are read at once
		ask = append(ask, contents{id: 8, chunk: true, addr: at + 16})
	}
	if err = readBlocks(os.Getpid(), ask); err != nil {
		t.Fatal(err)
	}
	for i, c := range ask {
		gone := c.id == 2 || c.id == 4 || c.id == 7
		whole := c.id == 1 || c.id == 5 || c.id == 8
		if c.gone != gone || whole && (c.header != 0x71 || [2]uint64(c.words[:2]) != [2]uint64{100, 200} || !c.linked || c.next != 0x31) {
			t.Errorf("%d: %+v", i, c)
		}
		if c.id == 9 && (c.linked || c.next != 0) {
			t.Errorf("what is no chunk: %+v", c)
		}
		if n := uint64(page / 8); c.id == 6 && (c.header != n-4 || c.words != [8]uint64{n - 3, n - 2}) {
			t.Errorf("of one that ends with the page: %+v", c)
		}
	}
	if err = readBlocks(1<<30, ask[:1]); err == nil {
		t.Error("a process that is not there was read")
	}
}

func TestABurstIsAsLongAsTheBudgetAllows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rate           float64
		length, period time.Duration
	}{
		{0, heapPeriod, heapPeriod},
		{0.01, heapPeriod, heapPeriod},
		{0.02, heapPeriod / 4, heapPeriod},
		{0.5, heapPeriod / 100, heapPeriod},
		{10, leastBurst, time.Second},
		{1e6, leastBurst, mostPeriod},
	} {
		if length, period := plan(tt.rate, 0.01); length != tt.length || (period-tt.period).Abs() > time.Microsecond {
			t.Errorf("%v: %v of %v, want %v of %v", tt.rate, length, period, tt.length, tt.period)
		}
	}
}

func TestContentsThatThereWereBeforeTellNothing(t *testing.T) {
	t.Parallel()
	var w twins
	for i, tt := range []struct {
		size  uint64
		words []uint64
		want  bool
	}{
		{24, []uint64{1, 2, 3}, false},
		{24, []uint64{1, 2, 4}, false},
		{24, []uint64{1, 2, 3}, true},
		{32, []uint64{1, 2, 3}, false},
		{24, nil, false},
		{24, nil, true},
	} {
		if got := w.has(tt.size, tt.words); got != tt.want {
			t.Errorf("%d: %v, want %v", i, got, tt.want)
		}
	}
}
