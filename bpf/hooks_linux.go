//go:build amd64 || arm64

package bpf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// maxCallers is how many places that calls come from have a quota of their own.
const maxCallers = 1 << 14

// Hooks are the loaded and attached programs. One goroutine may call Next at a
// time; the other methods may be called from anywhere.
type Hooks struct {
	coll  *ebpf.Collection
	links []io.Closer
	tasks *link.Iter
	// closing is held by Close, and to read by calls that may come after it, since nobody
	// waits for them any more, while they use descriptors.
	closing sync.RWMutex

	events, stacks, timings, blocks ring

	faultsErr, heapErr error

	price struct {
		once sync.Once
		HeapPrice
		err error
	}
}

// Task is a traced process and its address space.
type Task struct {
	TGID       int // as our pid namespace numbers it, like all numbers here
	Space      uint64
	StartTime  uint64 // CLOCK_BOOTTIME, ns
	StartBrk   uint64
	Brk        uint64
	StartStack uint64
	Section    uint32 // the first section sure to be reported
	HasSection bool   // the kernel numbers sections (6.4 and later)
	Inner      int    // the process' number in its own pid namespace
	Comm       string
}

// Counters are what the programs could not do, since they were loaded.
type Counters struct {
	Dropped uint64 // records the ring had no room for
	// Skipped is how often the kernel left one of the programs out, for whatever
	// process: another thread had been preempted in it on the same CPU
	// (kernel/trace/bpf_trace.c: __bpf_trace_run, its "recursion misses"). It can
	// be since 7.0, which lets them be preempted. What they would have told is not
	// told, and may have been of none of the traced processes.
	Skipped uint64
	NoStamp uint64 // calls whose commit stamp had no place
	NoSpace uint64 // address spaces beyond the table's 16,384
	NoTask  uint64 // processes beyond the table's 65,536

	// Calls that made memory larger, or faults, without a stack: chance passed them
	// over (calls only), the ring had no room, or the CPU was in the midst of another.
	StackChance, StackDropped, StackBusy uint64
	// Faults are the page faults of traced processes. Touches are those that
	// [Hooks.Touched] does not tell of, since its table was full.
	Faults, Touches uint64

	// Timings that the ring had no room for, and calls and holds of the lock that
	// could not be measured.
	TimingDropped, NoTiming uint64

	// Blocks are those of heaps, or their ends, that could not be told.
	Blocks uint64
}

// program is one program and how the kernel may refuse it.
type program struct {
	name string // in the object
	hook string // what it attaches to, for people
	what string // what it is for
}

var programs = []program{
	{mmProgMmSysExit, "tp_btf/sys_exit", "mapping calls with their results"},
	{mmProgMmReleased, "tp_btf/mmap_lock_released", "the order in which changes took effect"},
	{mmProgMmFork, "tp_btf/sched_process_fork", "children"},
	{mmProgMmExec, "tp_btf/sched_process_exec", "new images"},
	{mmProgMmExit, "tp_btf/sched_process_exit", "ends of processes"},
	{mmProgMmTasks, "iter/task", "finding the address space of a process"},
}

// spec reads the object and fits it to the running kernel's types.
func spec(kernel *btf.Spec, opts Options) (*ebpf.CollectionSpec, error) {
	s, err := loadMm()
	if err != nil {
		return nil, fmt.Errorf("read embedded object: %w", err)
	}
	args, err := tracepointArgs(kernel, "mmap_lock_released")
	if err != nil {
		return nil, err
	}
	// The tracepoint lost its cgroup path in 6.16: one program for each.
	if args == 3 {
		s.Programs[mmProgMmReleased] = s.Programs[mmProgMmReleased3]
		s.Programs[mmProgMmReleased].Name = mmProgMmReleased
	}
	delete(s.Programs, mmProgMmReleased3)
	var iter *btf.Func
	hasIter := kernel.TypeByName("bpf_iter_task_vma_new", &iter) == nil
	if err := errors.Join(
		s.Variables[mmVarHasVmaIter].Set(hasIter),
		s.Variables[mmVarPageShift].Set(uint32(bits.TrailingZeros(uint(os.Getpagesize())))),
		s.Variables[mmVarFollow].Set(!opts.NoFollow),
		s.Variables[mmVarNested].Set(Nested()),
	); err != nil {
		return nil, fmt.Errorf("configure programs: %w", err)
	}
	if opts.RingBytes != 0 {
		s.Maps[mmMapEvents].MaxEntries = uint32(opts.RingBytes)
	}
	if err := latencySpec(s, kernel, opts.Latency); err != nil {
		return nil, err
	}
	if err := heapSpec(s, opts.Stacks); err != nil {
		return nil, err
	}
	return s, stackSpec(s, opts)
}

// stackSpec fits what serves the stacks to what is asked for.
func stackSpec(s *ebpf.CollectionSpec, opts Options) error {
	o := opts.Stacks
	if o == nil || o.FaultRate == 0 {
		delete(s.Programs, mmProgMmFault)
	} else {
		s.Maps[mmMapPieces].MaxEntries = mostPieces
	}
	if o == nil || !o.Writes {
		delete(s.Programs, mmProgMmWritten)
		s.Maps[mmMapBirths].MaxEntries = 1
	} else if err := s.Variables[mmVarWatches].Set(true); err != nil {
		return fmt.Errorf("configure programs: %w", err)
	}
	growth := o != nil
	switch {
	case o == nil && opts.Latency == nil:
		s.Maps[mmMapStacks].MaxEntries = uint32(os.Getpagesize())
		return nil
	case o == nil:
		o = &StackOptions{RingBytes: timingRingBytes}
	}
	size, rate, ring := cmp.Or(o.Bytes, DefaultStackBytes), cmp.Or(o.Rate, DefaultStackRate), cmp.Or(o.RingBytes, DefaultRingBytes)
	if size < 0 || size > MaxStackBytes || !goodRate(rate) || o.FaultRate != 0 && !goodRate(o.FaultRate) {
		return fmt.Errorf("stacks of %d bytes, %d and %d a second: out of range", size, rate, o.FaultRate)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	s.Maps[mmMapScratches].MaxEntries = uint32(cpus)
	s.Maps[mmMapStacks].MaxEntries = uint32(ring)
	if !growth {
		rate = 0
	} else {
		s.Maps[mmMapCallers].MaxEntries = maxCallers
	}
	return errors.Join(
		s.Variables[mmVarStackBytes].Set(uint32(size)),
		s.Variables[mmVarStackQuota].Set(quota(rate)),
		s.Variables[mmVarFaultQuota].Set(quota(o.FaultRate)),
		s.Variables[mmVarCallerMask].Set(s.Maps[mmMapCallers].MaxEntries-1),
		s.Variables[mmVarPieceShift].Set(uint32(bits.TrailingZeros64(PieceBytes()))),
	)
}

// goodRate tells whether so many a second can be: one a ns at most.
func goodRate(rate int) bool { return rate > 0 && rate <= 1e9 }

// quota is how many of so many a second a window may have: one at least, if any.
func quota(rate int) uint32 {
	if rate == 0 {
		return 0
	}
	return uint32(max(rate/int(mmMmLimitMM_WINDOWS), 1))
}

// tracepointArgs tells how many arguments a raw tracepoint has here.
func tracepointArgs(kernel *btf.Spec, name string) (int, error) {
	var def *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &def); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			return 0, fmt.Errorf("tracepoint %s: %w (it came with Linux 5.13 and CONFIG_TRACING)", name, ebpf.ErrNotSupported)
		}
		return 0, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	ptr, ok := def.Type.(*btf.Pointer)
	if !ok {
		return 0, fmt.Errorf("tracepoint %s: unexpected type %v", name, def.Type)
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok {
		return 0, fmt.Errorf("tracepoint %s: unexpected type %v", name, ptr.Target)
	}
	return len(proto.Params) - 1, nil // the first is the registration's data
}

// Open loads the programs and attaches them; nothing is traced until Trace is
// called. Errors wrap the kernel's: os.ErrPermission without CAP_BPF and
// CAP_PERFMON, ebpf.ErrNotSupported on a kernel without BTF or the tracepoints.
func Open(opts Options) (_ *Hooks, err error) {
	if _, err = clockAhead(); err != nil {
		return nil, err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types (BTF): %w", err)
	}
	s, err := spec(kernel, opts)
	if err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(s)
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", refusal(err))
	}
	h := &Hooks{coll: coll}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.events, err = openRing(coll.Maps[mmMapEvents], "ring"); err != nil {
		return nil, err
	}
	if err = h.openStacks(opts); err != nil {
		return nil, err
	}
	if err = h.openHeaps(opts); err != nil {
		return nil, err
	}
	if opts.Latency != nil {
		if err = h.openLatency(); err != nil {
			return nil, err
		}
	}
	for _, p := range programs {
		if p.name == mmProgMmTasks {
			h.tasks, err = link.AttachIter(link.IterOptions{Program: coll.Programs[p.name]})
			if err != nil {
				return nil, fmt.Errorf("attach %s: %w", p.hook, err)
			}
			if Nested() {
				// The first listing tells the programs whose numbers are ours.
				if _, err = h.List(); err != nil {
					return nil, err
				}
			}
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs[p.name]})
		if err != nil {
			return nil, fmt.Errorf("attach %s: %w", p.hook, err)
		}
		h.links = append(h.links, l)
	}
	return h, nil
}

// refusal tells what a kernel that is locked down for confidentiality means when it
// calls a program invalid: it takes away the helpers that read memory, which all
// others have (kernel/trace/bpf_trace.c: LOCKDOWN_BPF_READ_KERNEL). Nothing but the
// verifier's words tells; they were others before 6.11.
func refusal(err error) error {
	var v *ebpf.VerifierError
	if !errors.As(err, &v) {
		return err
	}
	if text := v.Error(); strings.Contains(text, "cannot use helper bpf_probe_read") || strings.Contains(text, "unknown func bpf_probe_read") {
		return fmt.Errorf("%w: the kernel is locked down for confidentiality", os.ErrPermission)
	}
	return err
}

// Trace adds processes to the traced ones and returns those of all traced
// processes that have an address space, as List does. A process that is not in
// the answer is gone, a zombie or a kernel thread.
func (h *Hooks) Trace(tgids ...int) ([]Task, error) {
	for _, pid := range tgids {
		// 0: no space known. A process that is traced already keeps its own.
		err := h.coll.Maps[mmMapTasks].Update(uint32(pid), uint64(0), ebpf.UpdateNoExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return nil, fmt.Errorf("trace process %d: %w", pid, err)
		}
	}
	return h.List()
}

// List returns the traced processes that have an address space, as the kernel
// has them now. It walks all tasks of the machine, about a microsecond each.
func (h *Hooks) List() ([]Task, error) {
	h.closing.RLock()
	rd, err := h.tasks.Open()
	h.closing.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	defer rd.Close()
	raw, err := io.ReadAll(rd)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	var out []Task
	const size = int(unsafe.Sizeof(mmMmTask{}))
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("list tasks: %d bytes is not a multiple of %d", len(raw), size)
	}
	seen := make(map[int]bool)
	for ; len(raw) > 0; raw = raw[size:] {
		var r mmMmTask
		if err := binary.Read(bytes.NewReader(raw[:size]), binary.NativeEndian, &r); err != nil {
			return nil, fmt.Errorf("list tasks: %w", err)
		}
		if r.Space == 0 || seen[int(r.Tgid)] {
			continue // counted as NoSpace; or another thread of one whose leader is gone
		}
		seen[int(r.Tgid)] = true
		out = append(out, Task{
			TGID: int(r.Tgid), Space: r.Space, StartTime: r.StartTime,
			StartBrk: r.StartBrk, Brk: r.Brk, StartStack: r.StartStack,
			Section: r.Section, HasSection: Flags(r.Flags)&HasSection != 0,
			Inner: int(r.Inner), Comm: cString(r.Comm[:]),
		})
	}
	return out, nil
}

// Next reads the next record. It never waits: ErrEmpty says that all was read.
// The programs wake nobody up, so the caller polls; every 5 ms is cheap.
func (h *Hooks) Next(ev *Event) error {
	raw, err := h.events.next()
	if err != nil {
		return err
	}
	return decode(raw, ev)
}

// NextStack reads the next record of the ring of stacks, as Next does of the
// other. A stack is sent before the event that names it. s.Copy and s.Chain are
// overwritten by the next call.
func (h *Hooks) NextStack(s *Stack) error {
	raw, err := h.stacks.next()
	if err != nil {
		return err
	}
	return decodeStack(raw, s)
}

// RingBytes is the size of all rings together.
func (h *Hooks) RingBytes() (n uint64) {
	for _, m := range h.coll.Maps {
		if m.Type() == ebpf.RingBuf {
			n += uint64(m.MaxEntries())
		}
	}
	return n
}

// Counters reads what the programs could not do.
func (h *Hooks) Counters() (Counters, error) {
	var sums [mmMmCounterMM_C_COUNT]uint64
	for i := range sums {
		var err error
		if sums[i], err = h.counter(uint32(i)); err != nil {
			return Counters{}, err
		}
	}
	skipped, err := h.skipped()
	if err != nil {
		return Counters{}, err
	}
	return Counters{
		Skipped: skipped,
		Dropped: sums[mmMmCounterMM_C_DROPPED],
		NoStamp: sums[mmMmCounterMM_C_NO_STAMP],
		NoSpace: sums[mmMmCounterMM_C_NO_SPACE],
		NoTask:  sums[mmMmCounterMM_C_NO_TASK],

		StackChance:  sums[mmMmCounterMM_C_STACK_CHANCE],
		StackDropped: sums[mmMmCounterMM_C_STACK_DROPPED],
		StackBusy:    sums[mmMmCounterMM_C_STACK_BUSY],
		Faults:       sums[mmMmCounterMM_C_FAULTS],
		Touches:      sums[mmMmCounterMM_C_TOUCHES],

		TimingDropped: sums[mmMmCounterMM_C_TIMINGS],
		NoTiming:      sums[mmMmCounterMM_C_NO_TIMING],
		Blocks:        sums[mmMmCounterMM_C_BLOCK_DROPPED],
	}, nil
}

// Losses are the Counters that say that something was not told: Dropped and Skipped. It
// takes a fraction of the time.
func (h *Hooks) Losses() (dropped, skipped uint64, err error) {
	if dropped, err = h.counter(uint32(mmMmCounterMM_C_DROPPED)); err != nil {
		return 0, 0, err
	}
	skipped, err = h.skipped()
	return dropped, skipped, err
}

// counter sums up one counter over the CPUs.
func (h *Hooks) counter(i uint32) (sum uint64, err error) {
	var perCPU []uint64
	if err := h.coll.Maps[mmMapCounters].Lookup(i, &perCPU); err != nil {
		return 0, fmt.Errorf("read counters: %w", err)
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

// skipped sums up what the kernel says of each program. Kernels before 6.2 never skip
// one.
func (h *Hooks) skipped() (sum uint64, err error) {
	for name, p := range h.coll.Programs {
		s, err := p.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of %s: %w", name, err)
		}
		sum += s.RecursionMisses
	}
	return sum, nil
}

// Detach stops the programs; records already sent can still be read.
func (h *Hooks) Detach() error {
	var errs []error
	for _, l := range h.links {
		errs = append(errs, l.Close())
	}
	h.links = nil
	return errors.Join(errs...)
}

// Close detaches and frees everything. It may be called more than once. Calls of others that
// nobody waits for any more may come after it: they fail.
func (h *Hooks) Close() error {
	h.closing.Lock()
	defer h.closing.Unlock()
	errs := []error{h.Detach()}
	if h.tasks != nil {
		errs = append(errs, h.tasks.Close())
	}
	for _, r := range []*ring{&h.events, &h.stacks, &h.timings, &h.blocks} {
		errs = append(errs, r.close())
	}
	if h.coll != nil {
		h.coll.Close()
	}
	return errors.Join(errs...)
}
