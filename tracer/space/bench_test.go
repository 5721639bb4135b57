package space

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

// churn keeps n extents of 16 pages alive and replaces one of them with each
// pair of calls, as an allocator of large blocks does.
type churn struct {
	s    *Space
	r    *rand.Rand
	at   []uint64
	free []uint64
	time uint64
	call Call
}

func newChurn(n int) *churn {
	c := &churn{s: New(Options{Reports: true}), r: rand.New(rand.NewPCG(1, 2)), time: 1}
	for i := range n + n/8 + 1 {
		c.free = append(c.free, 0x7f00_0000_0000+uint64(i)*16*page)
	}
	c.r.Shuffle(len(c.free), func(i, j int) { c.free[i], c.free[j] = c.free[j], c.free[i] })
	for range n {
		c.mmap()
	}
	return c
}

func (c *churn) mmap() {
	addr := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	c.at = append(c.at, addr)
	c.time++
	c.call = Call{
		Op: OpMmap, Time: c.time, TID: 7, Ret: int64(addr),
		Args: [6]uint64{0, 16 * page, 3, mapAnonymous | 2},
	}
	c.s.Apply(&c.call)
}

func (c *churn) munmap() {
	i := c.r.IntN(len(c.at))
	addr := c.at[i]
	c.at[i] = c.at[len(c.at)-1]
	c.at = c.at[:len(c.at)-1]
	c.free = append(c.free, addr)
	last := len(c.free) - 1
	j := c.r.IntN(len(c.free))
	c.free[j], c.free[last] = c.free[last], c.free[j]
	c.time++
	c.call = Call{Op: OpMunmap, Time: c.time, TID: 7, Args: [6]uint64{addr, 16 * page}}
	c.s.Apply(&c.call)
}

// pair makes a munmap and a mmap, and prunes about as often as a tracer does.
func (c *churn) pair(every uint64) {
	c.munmap()
	c.mmap()
	if c.time%every < 2 {
		c.s.Prune(c.time - every)
	}
}

func BenchmarkChurn(b *testing.B) {
	for _, n := range []int{300, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("extents=%d", n), func(b *testing.B) {
			c := newChurn(n)
			b.ReportAllocs()
			for b.Loop() {
				c.pair(1 << 18)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/call")
			b.ReportMetric(float64(c.s.list.cells), "cells")
		})
	}
}

// BenchmarkMixedCalls replays a legal history of all kinds of calls.
func BenchmarkMixedCalls(b *testing.B) {
	k := newKernel(rand.New(rand.NewPCG(1, 1)), 1000, true)
	calls, _ := k.history(3000)
	s := New(Options{Reports: true})
	i, offset := 0, uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		c := *calls[i]
		c.Time += offset
		s.Apply(&c)
		if i++; i == len(calls) {
			i, offset = 0, offset+k.time
			s.Prune(offset - k.time/4)
		}
	}
}

func manyRows(n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		at := 0x10000 + uint64(i)*3*page
		rows[i].Mapping = procmaps.Mapping{Range: procmaps.Range{Start: at, End: at + 2*page}, Mode: procmaps.Mode(i % 8)}
	}
	return rows
}

func BenchmarkSeed(b *testing.B) {
	rows := manyRows(100_000)
	for b.Loop() {
		New(Options{}).Reread(Read{Range: All, Rows: rows, Began: 1, Op: OpSeed})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(rows)*b.N), "ns/row")
}

func BenchmarkWholeTree(b *testing.B) {
	s := New(Options{})
	rows := manyRows(100_000)
	s.Reread(Read{Range: All, Rows: rows, Began: 1, Op: OpSeed})
	plain := mappings(rows)
	var regions []Region
	for _, bench := range []struct {
		name string
		run  func(i uint64)
	}{
		{"regions", func(uint64) { regions = s.Regions(regions[:0]) }},
		{"verify", func(uint64) { s.Verify(plain, All, 1<<60) }},
		{"prune", func(i uint64) { s.newest = i; s.Prune(i) }},
		{"clone", func(uint64) { s.Clone(1 << 59) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			i := uint64(1)
			for b.Loop() {
				i++
				bench.run(i)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(rows)*b.N), "ns/extent")
		})
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	c := newChurn(1000)
	for range 5000 {
		c.pair(1 << 10)
	}
	if n := testing.AllocsPerRun(5000, func() { c.pair(1 << 10) }); n != 0 {
		t.Errorf("mmap and munmap: %v allocations, want 0", n)
	}

	k := newKernel(rand.New(rand.NewPCG(3, 1)), 200, true)
	calls, _ := k.history(2000)
	s := New(Options{Reports: true})
	offset := uint64(0)
	round := func() {
		for _, was := range calls {
			c := was
			c.Time += k.time
			s.Apply(c)
		}
		offset += k.time
		s.Prune(offset)
	}
	for range 5 {
		round()
	}
	if n := testing.AllocsPerRun(10, round); n > 1 {
		t.Errorf("2000 calls of all kinds: %v allocations, want at most 1", n)
	}
}

func TestMillionCellsStayInOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	const n = 1_000_000
	s := New(Options{})
	s.Reread(Read{Range: All, Rows: manyRows(n), Began: 1, Op: OpSeed})
	if tot := s.Totals(); tot.Extents != n || tot.Mapped != n*2*page {
		t.Fatalf("got %+v, want %d extents", tot, n)
	}
	if err := s.checkInvariants(); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(20_000) {
		at := 0x10000 + r.Uint64N(3*n)*page
		s.Apply(&Call{Op: OpMunmap, Time: 10 + i, Args: [6]uint64{at, 100 * page}})
	}
	s.Prune(1 << 40)
	if err := s.checkInvariants(); err != nil {
		t.Fatal(err)
	}
	if tot := s.Totals(); tot.Holes != 0 || tot.Extents == 0 || tot.Extents >= n {
		t.Fatalf("after unmapping and pruning: %+v", tot)
	}
}
