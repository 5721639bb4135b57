//go:build amd64 || arm64

package bpf

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// OpFault is the Op of a Stack that a page fault sent. No Event has it.
const OpFault = Op(mmMmOpMM_OP_FAULT)

// OpWrite is the Op of a Stack that a write to a watched word sent. No Event has it.
const OpWrite = Op(mmMmOpMM_OP_WRITE)

// OpMemfd, OpSegment and OpRing are the Op of a Stack that was sent when something was made
// that holds memory without a mapping: a memfd, a System V segment, an io_uring. No Event has
// it.
const (
	OpMemfd   = Op(mmMmOpMM_OP_MEMFD)
	OpSegment = Op(mmMmOpMM_OP_SEGMENT)
	OpRing    = Op(mmMmOpMM_OP_RING)
)

// Regs are the registers of a Stack: on amd64 those that DWARF numbers 0 to 16,
// rip last; on arm64 x0 to x30, sp and pc.
type Regs = [mmRegs]uint64

const mmRegs = len(mmMmStack{}.Regs)

// Stack is what a thread had in user mode when it made memory larger, touched a
// page, wrote to a watched word, or made what holds memory: its registers, and its stack
// from the stack pointer up.
type Stack struct {
	ID     uint32 // Event.Stack of the call it belongs to
	Time   uint64 // CLOCK_MONOTONIC, ns
	Space  uint64
	Addr   uint64 // that OpFault touched; the word of OpWrite; the inode that was made, or the segment's number
	TGID   uint32
	TID    uint32
	Op     Op
	Chance uint8 // OpFault: its probability of being sent was 2^-Chance
	Cut    bool  // the stack goes on beyond the copy
	Regs   Regs
	Copy   []byte
	// Chain are the program counters along the frame pointers, innermost first,
	// as the kernel follows them: right only for code that keeps frame pointers.
	Chain []uint64
}

// decodeStack fills s from one record of the ring of stacks; Copy is raw's.
func decodeStack(raw []byte, s *Stack) error {
	var m mmMmStack
	head := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
	if len(raw) < len(head) {
		return fmt.Errorf("decode stack: %d bytes is too short", len(raw))
	}
	copy(head, raw)
	data := raw[len(head):]
	// The ring rounds sizes up.
	if uint64(m.Size) > uint64(len(data)) || m.Size > MaxStackBytes {
		return fmt.Errorf("decode stack: %d bytes of %d", len(data), m.Size)
	}
	if m.Op < uint8(OpMmap) || m.Op > uint8(OpRing) || m.Op == uint8(OpRemote) ||
		int(m.Chained) > len(m.Chain) || m.Chance > uint8(mmMmLimitMM_TOP_CHANCE) {
		return fmt.Errorf("decode stack: operation %d, chain of %d", m.Op, m.Chained)
	}
	chain := append(s.Chain[:0], m.Chain[:m.Chained]...)
	*s = Stack{
		ID: m.Id, Time: m.Time, Space: m.Space, Addr: m.Addr,
		TGID: m.Tgid, TID: m.Tid, Op: Op(m.Op), Chance: m.Chance, Cut: m.Cut != 0, Regs: m.Regs, Copy: data[:m.Size], Chain: chain,
	}
	return nil
}

// openStacks opens the ring of stacks, and the page faults where they are asked
// for. To do without those is the caller's to decide: see FaultsErr.
func (h *Hooks) openStacks(opts Options) (err error) {
	if opts.Stacks == nil && opts.Latency == nil {
		return nil
	}
	if h.stacks, err = openRing(h.coll.Maps[mmMapStacks], "ring of stacks"); err != nil {
		return err
	}
	if opts.Stacks == nil || opts.Stacks.FaultRate == 0 {
		return nil
	}
	faults, err := attachAllFaults(h.coll.Programs[mmProgMmFault])
	h.faultsErr = err
	h.links = append(h.links, faults...)
	return nil
}

// FaultsErr says why no page faults are reported though they were asked for; nil
// if they are, or were not.
func (h *Hooks) FaultsErr() error { return h.faultsErr }

// attachAllFaults attaches the program to the page faults of every CPU, or to none.
func attachAllFaults(prog *ebpf.Program) (_ []io.Closer, err error) {
	var all []io.Closer
	defer func() {
		if err != nil {
			for _, l := range all {
				err = errors.Join(err, l.Close())
			}
		}
	}()
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	for cpu := range cpus {
		l, err := attachFaults(prog, cpu)
		if errors.Is(err, unix.ENODEV) {
			continue // switched off; what it does when switched on later is not seen
		}
		if err != nil {
			return nil, fmt.Errorf("attach page faults of CPU %d: %w", cpu, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// openFaults opens the count of every page fault on a CPU (perf_event_open(2)).
func openFaults(cpu int) (int, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_PAGE_FAULTS,
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Sample: 1,
	}
	return perfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
}

// perfEventOpen is replaced in tests.
var perfEventOpen = unix.PerfEventOpen

// faults is one CPU's event with the program on it.
type faults struct {
	fd   int
	link io.Closer
}

func attachFaults(prog *ebpf.Program, cpu int) (io.Closer, error) {
	fd, err := openFaults(cpu)
	if err != nil {
		return nil, err
	}
	// A BPF link on a perf event came with 5.15.
	l, err := link.AttachRawLink(link.RawLinkOptions{Program: prog, Attach: ebpf.AttachPerfEvent, Target: fd})
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &faults{fd, l}, nil
}

// Close takes the program off and closes the event.
func (f *faults) Close() error { return errors.Join(f.link.Close(), unix.Close(f.fd)) }
