//go:build amd64 || arm64

package tracer

import (
	"errors"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/tracer/heap"
)

// heapFunctions says what each function of an allocator is to the kernel side.
var heapFunctions = [...]bpf.HeapFunction{
	heap.Malloc: bpf.HeapMalloc, heap.Calloc: bpf.HeapCalloc, heap.Realloc: bpf.HeapRealloc, heap.ReallocArray: bpf.HeapReallocArray,
	heap.AlignedAlloc: bpf.HeapAligned, heap.PosixMemalign: bpf.HeapPosixMemalign, heap.Free: bpf.HeapFree,
	heap.ThrowingNew: bpf.HeapNew, heap.Leave: bpf.HeapLeave,
}

// HeapErr implements Heaps, as the next ones do.
func (l *Live) HeapErr() error { return l.hooks.HeapErr() }

// SampleHeap is explained at [Heaps].
func (l *Live) SampleHeap(space uint64) error { return l.hooks.SampleHeap(space) }

// ForgetHeap is explained at [Heaps].
func (l *Live) ForgetHeap(space uint64) error { return l.hooks.ForgetHeap(space) }

// HeapCalls is explained at [Heaps].
func (l *Live) HeapCalls(space uint64) (HeapCalls, error) { return l.hooks.HeapCalls(space) }

// ForgetBlock is explained at [Heaps].
func (l *Live) ForgetBlock(space, addr uint64) error { return l.hooks.ForgetBlock(space, addr) }

// BlocksDropped is explained at [Heaps].
func (l *Live) BlocksDropped() (uint64, error) {
	c, err := l.hooks.Counters()
	return c.Blocks, err
}

// ProbeHeap is explained at [Heaps].
func (l *Live) ProbeHeap(pid int, all []heap.Allocator, files []string, burst uint32) (HeapProbes, error) {
	var in []bpf.HeapFile
	for i := range all {
		f := bpf.HeapFile{Path: files[i]}
		for _, p := range all[i].Points {
			f.Probes = append(f.Probes, bpf.HeapProbe{Offset: p.Offset, Function: heapFunctions[p.Function]})
		}
		in = append(in, f)
	}
	p, err := l.hooks.ProbeHeap(pid, in, burst)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// HeapPrice is explained at [Heaps].
func (l *Live) HeapPrice() (HeapPrice, error) { return l.hooks.HeapPrice() }

// blockKinds says what each record of a block is.
var blockKinds = [...]BlockWhat{
	bpf.BlockBorn: BlockBorn, bpf.BlockFreed: BlockFreed, bpf.BlockReused: BlockReused, bpf.BlockMoved: BlockMoved,
	bpf.BlockMark: BlockMark, bpf.BlockContents: BlockContents,
}

// NextBlock is explained at [Heaps].
func (l *Live) NextBlock(b *HeapBlock) error {
	err := l.hooks.NextBlock(&l.block)
	if errors.Is(err, bpf.ErrEmpty) {
		return ErrIdle
	}
	if err != nil {
		return err
	}
	r := &l.block
	*b = HeapBlock{
		What: blockKinds[r.What], Time: r.Time, Space: r.Space, Addr: r.Addr, Size: r.Size, Old: r.Old,
		Weight: float64(uint64(1) << r.Chance), Header: r.Header, OldHeader: r.OldHeader, First: r.First, Changed: r.Changed, Words: r.Words,
	}
	if b.What == BlockBorn {
		// Where it was the instruction that returns, package site finds out.
		b.Sample = *sampleOf(&r.Stack)
		b.Sample.Returned = true
	}
	return nil
}
