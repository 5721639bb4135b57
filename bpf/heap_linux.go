//go:build amd64 || arm64

package bpf

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// OpBlock is the Op of a Stack that the allocation of a block has. No Event has it.
const OpBlock = Op(mmMmOpMM_OP_BLOCK)

// BlockWhat says what a Block tells.
type BlockWhat uint8

// What a Block may tell.
const (
	BlockBorn     = BlockWhat(mmMmBlockWhatMM_BLOCK_BORN)     // it was allocated, and is a sample
	BlockFreed    = BlockWhat(mmMmBlockWhatMM_BLOCK_FREED)    // a sample was seen to be freed
	BlockReused   = BlockWhat(mmMmBlockWhatMM_BLOCK_REUSED)   // its address was given out again: it was freed before
	BlockMoved    = BlockWhat(mmMmBlockWhatMM_BLOCK_MOVED)    // it was realloc(3)ated: Addr and Size are new
	BlockMark     = BlockWhat(mmMmBlockWhatMM_BLOCK_MARK)     // what freeing it has changed: its second word is Header now
	BlockContents = BlockWhat(mmMmBlockWhatMM_BLOCK_CONTENTS) // what was in it a moment after, when it was surely there
)

// The kernel side has the same bits.
var _ = [1]struct{}{}[ChangedBefore^Changed(mmMmChangedMM_CHANGED_BEFORE)|
	ChangedFirst^Changed(mmMmChangedMM_CHANGED_FIRST)|ChangedSecond^Changed(mmMmChangedMM_CHANGED_SECOND)]

// Block is what happened to a block of a malloc heap.
type Block struct {
	What   BlockWhat
	Time   uint64 // CLOCK_MONOTONIC, ns
	Space  uint64
	Addr   uint64
	Size   uint64 // BlockBorn and BlockMoved: as it was asked for, in bytes
	Old    uint64 // of realloc(3): where it was; 0 if nowhere
	Chance uint8  // BlockBorn: its probability of being sent was 2^-Chance
	// Header is the word before the block when the call returned, and OldHeader, of BlockBorn,
	// that before the old one when it began: of glibc they have the size of the chunk. 0 if
	// they could not be read. The Header of BlockMark is the block's second word.
	Header, OldHeader uint64
	// First is the block's first word when a BlockBorn returned, or when that of a BlockMark
	// was freed.
	First   uint64
	Changed Changed            // BlockMark
	Words   [BlockWords]uint64 // BlockContents; those beyond the block's end say nothing
	Stack   Stack              // BlockBorn: of who called the allocator
}

// BlockWords is how many words of a block are told.
const BlockWords = len(mmMmContents{}.Words)

// HeapFunction is a function of an allocator, by where its arguments are.
type HeapFunction uint8

// The functions. What frees has the block first.
const (
	HeapMalloc        = HeapFunction(mmMmHeapFunctionMM_HEAP_MALLOC)         // (size)
	HeapCalloc        = HeapFunction(mmMmHeapFunctionMM_HEAP_CALLOC)         // (number, size)
	HeapRealloc       = HeapFunction(mmMmHeapFunctionMM_HEAP_REALLOC)        // (block, size)
	HeapReallocArray  = HeapFunction(mmMmHeapFunctionMM_HEAP_REALLOCARRAY)   // (block, number, size)
	HeapAligned       = HeapFunction(mmMmHeapFunctionMM_HEAP_ALIGNED)        // (alignment, size)
	HeapPosixMemalign = HeapFunction(mmMmHeapFunctionMM_HEAP_POSIX_MEMALIGN) // (result, alignment, size)
	// HeapNew is (size), of one that may end by an exception: that does not get past a return
	// that is probed. It is seen to return where it has a HeapLeave.
	HeapNew   = HeapFunction(mmMmHeapFunctionMM_HEAP_NEW)
	HeapLeave = HeapFunction(math.MaxUint8 - 1) // the instruction by which a HeapNew returns
	HeapFree  = HeapFunction(math.MaxUint8)
)

// HeapProbe is where a function of an allocator begins.
type HeapProbe struct {
	Offset   uint64 // in the file, bytes
	Function HeapFunction
}

// HeapFile is a file with an allocator.
type HeapFile struct {
	Path   string // what it can be opened by here, as /proc/PID/map_files/…
	Probes []HeapProbe
}

// mostBlocks is how many samples may be waited for at once, of all address spaces; that
// and the number of address spaces bound what the kernel keeps.
const (
	mostBlocks = 1 << 17
	mostHeaps  = 1 << 12
)

var heapPrograms = [...]string{mmProgMmHeapCall, mmProgMmHeapEnter, mmProgMmHeapReturn, mmProgMmHeapLeave, mmProgMmHeapFree}

// heapSpec fits what serves the sampling of heaps to what is asked for.
func heapSpec(s *ebpf.CollectionSpec, o *StackOptions) error {
	if o == nil || o.BlockRate == 0 || heapSupport() != nil {
		for _, name := range heapPrograms {
			delete(s.Programs, name)
		}
		s.Maps[mmMapBlockRing].MaxEntries = uint32(os.Getpagesize())
		return nil
	}
	if !goodRate(o.BlockRate) {
		return fmt.Errorf("%d blocks a second: out of range", o.BlockRate)
	}
	if sessions() {
		delete(s.Programs, mmProgMmHeapReturn)
	} else {
		delete(s.Programs, mmProgMmHeapCall)
	}
	s.Maps[mmMapBlocks].MaxEntries = mostBlocks
	s.Maps[mmMapHeaps].MaxEntries = mostHeaps
	s.Maps[mmMapBlockMeters].MaxEntries = maxCallers
	s.Maps[mmMapBlockRing].MaxEntries = blockRingBytes
	return s.Variables[mmVarBlockQuota].Set(quota(o.BlockRate))
}

// blockRingBytes holds the blocks of some windows with their stacks.
const blockRingBytes = 8 << 20

// heapSupport says why heaps cannot be sampled here, nil if they can; what was found once
// stays. Before 6.10, and the stable kernels with its mend ("bpf: fix multi-uprobe PID
// filtering logic"), the probes of a process told of one of its threads only; these answer
// otherwise to a process that cannot be.
var heapSupport = sync.OnceValue(func() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceUprobeMulti, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return refusal(err)
	}
	defer prog.Close()
	// A directory is refused as what it is (EBADF), but where no such probes are known.
	for _, try := range []struct {
		path string
		pid  uint32
		want syscall.Errno
		what string
	}{
		{"/", 0, unix.EBADF, "probes on many functions at once: %w (they came with Linux 6.6)"},
		{"/proc/self/exe", math.MaxUint32, unix.EINVAL, "probes of all threads of a process: %w (they came with Linux 6.10)"},
	} {
		l, err := linkUprobes(prog, ebpf.AttachTraceUprobeMulti, try.path, []uint64{1}, nil, 0, try.pid)
		switch {
		case err == nil:
			return errors.Join(fmt.Errorf("probes of nothing: %w", ebpf.ErrNotSupported), l.Close())
		case errors.Is(err, os.ErrPermission):
			return err
		case !errors.Is(err, try.want):
			return fmt.Errorf(try.what, ebpf.ErrNotSupported)
		}
	}
	return nil
})

// sessions tells whether one probe may be of a function's entry and its return, and decide
// at the entry whether to see the return (6.13).
var sessions = sync.OnceValue(func() bool {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, AttachType: attachUprobeSession, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return false
	}
	defer prog.Close()
	// Where they are not known the attach type is what is refused (EINVAL).
	l, err := linkUprobes(prog, attachUprobeSession, "/proc/self/exe", []uint64{1}, nil, 0, math.MaxInt32)
	if err == nil {
		_ = l.Close() // of nobody
	}
	return errors.Is(err, unix.ESRCH)
})

// attachUprobeSession is BPF_TRACE_UPROBE_SESSION.
const attachUprobeSession = ebpf.AttachType(57)

// linkUprobes probes a file at some offsets, for one process. The library knows no sessions.
// A cookie for each may be given; flags are BPF_F_UPROBE_MULTI_….
func linkUprobes(prog *ebpf.Program, as ebpf.AttachType, path string, offsets, cookies []uint64, flags, pid uint32) (io.Closer, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, err
	}
	// union bpf_attr, link_create, uprobe_multi.
	attr := struct {
		prog, target, as, flags   uint32
		path                      *byte
		offsets, counts, cookies  *uint64
		count, how, pid, reserved uint32
	}{
		prog: uint32(prog.FD()), as: uint32(as), path: name, offsets: unsafe.SliceData(offsets),
		cookies: unsafe.SliceData(cookies), count: uint32(len(offsets)), how: flags, pid: pid,
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, "link of probes"), nil
}

// openHeaps opens the ring of blocks.
func (h *Hooks) openHeaps(opts Options) (err error) {
	if opts.Stacks == nil || opts.Stacks.BlockRate == 0 {
		return nil
	}
	if h.heapErr = heapSupport(); h.heapErr != nil {
		return nil //nolint:nilerr // to do without is the caller's to decide: see HeapErr
	}
	h.blocks, err = openRing(h.coll.Maps[mmMapBlockRing], "ring of blocks")
	return err
}

// HeapErr says why no heaps can be sampled though it was asked for; nil if they can, or it
// was not.
func (h *Hooks) HeapErr() error { return h.heapErr }

// SampleHeap has the calls of an address space counted, and some of them told, while its
// allocator is probed.
func (h *Hooks) SampleHeap(space uint64) error {
	if err := h.coll.Maps[mmMapHeaps].Update(space, mmMmHeap{}, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("sample heap: %w", err)
	}
	return nil
}

// ForgetHeap ends what SampleHeap began. The samples are to be forgotten one by one.
func (h *Hooks) ForgetHeap(space uint64) error {
	err := h.coll.Maps[mmMapHeaps].Delete(space)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget heap: %w", err)
	}
	return nil
}

// HeapCalls are the calls of an address space so far.
func (h *Hooks) HeapCalls(space uint64) (HeapCalls, error) {
	h.closing.RLock()
	defer h.closing.RUnlock()
	var n mmMmHeap
	if err := h.coll.Maps[mmMapHeaps].Lookup(space, &n); err != nil {
		return HeapCalls{}, fmt.Errorf("read calls of the heap: %w", err)
	}
	return HeapCalls{Allocs: n.Allocs, Leaves: n.Leaves, Samples: n.Samples, Frees: n.Frees, Faults: n.Faults}, nil
}

// ForgetBlock ends the waiting for the end of a sample.
func (h *Hooks) ForgetBlock(space, addr uint64) error {
	err := h.coll.Maps[mmMapBlocks].Delete(mmBlockKey{Space: space, Addr: addr})
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget block: %w", err)
	}
	return nil
}

// NextBlock reads the next record of the ring of blocks, as [Hooks.Next] does of events.
// b.Stack's slices are overwritten by the next call.
func (h *Hooks) NextBlock(b *Block) error {
	raw, err := h.blocks.next()
	if err != nil {
		return err
	}
	return decodeBlock(raw, b)
}

// decodeBlock fills b from one record of the ring of blocks.
func decodeBlock(raw []byte, b *Block) error {
	var m mmMmBlock
	head := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
	if len(raw) < len(head) {
		return fmt.Errorf("decode block: %d bytes is too short", len(raw))
	}
	copy(head, raw)
	if m.What > uint8(BlockContents) || m.Chance > uint8(mmMmLimitMM_TOP_CHANCE) {
		return fmt.Errorf("decode block: kind %d, chance %d", m.What, m.Chance)
	}
	st := b.Stack
	*b = Block{
		What: BlockWhat(m.What), Time: m.Time, Space: m.Space, Addr: m.Addr, Size: m.Size, Old: m.Old, Chance: m.Chance,
		Header: m.Header, OldHeader: m.OldHeader, First: m.First,
	}
	switch b.What {
	case BlockBorn:
	case BlockMark:
		b.Changed, b.Size = Changed(m.Size), 0
		return nil
	case BlockContents:
		words := unsafe.Slice((*byte)(unsafe.Pointer(&b.Words)), unsafe.Sizeof(b.Words))
		if copy(words, raw[len(head):]) < len(words) {
			return fmt.Errorf("decode contents of a block: %d bytes is too short", len(raw))
		}
		return nil
	default:
		return nil
	}
	b.Stack = st // for its room
	return decodeStack(raw[len(head):], &b.Stack)
}

// HeapProbes are the probes on the allocators of one process.
type HeapProbes struct {
	mu            sync.Mutex
	allocs, frees []io.Closer
}

// points are where a file is probed.
type points struct{ offsets, cookies []uint64 }

// ProbeHeap puts probes on the functions of allocators, for one process and all its
// threads, until Close: the kernel writes a breakpoint into a copy of the page of each,
// which the process has for itself until then. Burst tells calls that have begun under other
// probes from those under these. A call of an allocator takes about 1.1 µs more, and one of
// what frees 0.6 µs (measured on a virtual machine). It needs
// [StackOptions].BlockRate, and Linux 6.10. Errors are those of bpf(2)'s BPF_LINK_CREATE.
func (h *Hooks) ProbeHeap(pid int, files []HeapFile, burst uint32) (_ *HeapProbes, err error) {
	p := &HeapProbes{}
	enter := mmProgMmHeapEnter
	if h.coll.Programs[mmProgMmHeapCall] != nil {
		enter = "" // that does both
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, f := range files {
		var allocs, news, leaves, frees points
		for _, at := range f.Probes {
			to := &allocs
			switch at.Function {
			case HeapFree:
				to = &frees
			case HeapLeave:
				to = &leaves
			case HeapNew:
				to = &news
			}
			to.offsets = append(to.offsets, at.Offset)
			to.cookies = append(to.cookies, uint64(burst)<<mmMmHeapFunctionMM_HEAP_FUNCTION_BITS|uint64(at.Function))
		}
		// What frees first: no sample is to be freed unseen while the others are put on.
		// Then returns: a call is seen to begin only if it will be seen to return.
		attach := []struct {
			prog  string
			as    ebpf.AttachType
			flags uint32
			to    *points
			links *[]io.Closer
		}{
			{mmProgMmHeapFree, ebpf.AttachTraceUprobeMulti, 0, &frees, &p.frees},
			{mmProgMmHeapCall, attachUprobeSession, 0, &allocs, &p.allocs},
			{mmProgMmHeapReturn, ebpf.AttachTraceUprobeMulti, unix.BPF_F_UPROBE_MULTI_RETURN, &allocs, &p.allocs},
			{enter, ebpf.AttachTraceUprobeMulti, 0, &allocs, &p.allocs},
			{mmProgMmHeapLeave, ebpf.AttachTraceUprobeMulti, 0, &leaves, &p.allocs},
			{mmProgMmHeapEnter, ebpf.AttachTraceUprobeMulti, 0, &news, &p.allocs},
		}
		for _, a := range attach {
			prog := h.coll.Programs[a.prog]
			if len(a.to.offsets) == 0 || prog == nil {
				continue
			}
			l, err := linkUprobes(prog, a.as, f.Path, a.to.offsets, a.to.cookies, a.flags, uint32(pid))
			if err != nil {
				return nil, fmt.Errorf("probe heap: %w", err)
			}
			*a.links = append(*a.links, l)
		}
	}
	return p, nil
}

// CloseAllocs takes those away that see what is allocated.
func (p *HeapProbes) CloseAllocs() error {
	p.mu.Lock()
	links := p.allocs
	p.allocs = nil
	p.mu.Unlock()
	return closeAll(links)
}

// Close takes all away. It takes tens of milliseconds, and longer where the CPUs are busy, of
// which the process notices little: the breakpoints go first.
func (p *HeapProbes) Close() error {
	p.mu.Lock()
	links := slices.Concat(p.allocs, p.frees)
	p.allocs, p.frees = nil, nil
	p.mu.Unlock()
	return closeAll(links)
}

// closeAll closes links at the same time: each takes its breakpoints away, and then waits
// for the kernel.
func closeAll(links []io.Closer) error {
	errs := make(chan error, len(links))
	for _, l := range links {
		go func() { errs <- l.Close() }()
	}
	var failed []error
	for range links {
		failed = append(failed, <-errs)
	}
	return errors.Join(failed...)
}
