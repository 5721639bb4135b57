//go:build amd64 || arm64

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// OpRemote is what another process or the kernel held the mmap lock for. Like
// OpFault it is an operation of latencies only.
const OpRemote = Op(mmMmOpMM_OP_REMOTE)

// timingRingBytes is the size of the ring of stacks if nothing but calls that are
// timed has one. They are few, and memory that was not used before is slow.
const timingRingBytes = 4 << 20

// LatencyBuckets is how many buckets a Tally has; mm_lat_bucket in maptrace.h says
// which time is in which.
const LatencyBuckets = len(mmMmLat{}.Duration.Count)

// Tally is how long something took, each time. Times are in ns.
type Tally struct {
	Sum, Max uint64
	Count    [LatencyBuckets]uint64
}

// Latency is what all calls of one operation took, in traced processes.
type Latency struct {
	Op     Op
	Failed uint64
	Slow   uint64 // of at least LatencyOptions.Slow
	// Duration is from the call's entry to its return. It is empty of what is no
	// call: OpFault, OpOther (in other system calls), OpExit and OpRemote.
	Duration Tally
	// Wait and Hold are what calls that asked for an mmap lock waited and held it,
	// in all; of what is no call, each hold by itself.
	Wait, Hold Tally
	WriteHold  uint64 // of the time held, that for writing
	Longest    uint64 // single hold
}

// Timing is a call with its times, in ns.
type Timing struct {
	Time     uint64 // of its entry, CLOCK_MONOTONIC
	Space    uint64
	TGID     uint32
	TID      uint32
	Op       Op
	Slow     bool
	Locks    uint32 // how often it got an mmap lock
	Ret      int64
	Args     [6]uint64
	Stack    uint32 // ID of the Stack that was sent before; 0 for none
	Chance   uint8  // its probability of being sent was 2^-Chance
	Duration uint64
	Wait     uint64
	Hold     uint64
	// WriteHold and Longest are as in Latency.
	WriteHold, Longest uint64
	// Skipped are the calls that were not sent since the last that was, of the
	// same operation, as slow or not as this, and on the same CPU.
	Skipped Skipped
}

// Skipped is a number of calls and what they took together.
type Skipped struct{ Calls, Duration, Wait, Hold uint64 }

// latencyPrograms measure. The kernel runs the programs of a tracepoint in the
// order in which they were attached: these come before those of programs. What
// begins a measurement is attached after what ends it.
var latencyPrograms = []program{
	{mmProgMmLatExit, "tp_btf/sys_exit", "when calls end"},
	{mmProgMmLatEnter, "tp_btf/sys_enter", "when they begin"},
	{mmProgMmLatRelease, "tp_btf/mmap_lock_released", "when the mmap lock is given back"},
	{mmProgMmLatGot, "tp_btf/mmap_lock_acquire_returned", "when it is got"},
	{mmProgMmLatStart, "tp_btf/mmap_lock_start_locking", "since when it is waited for"},
}

// latencySpec fits what measures to what is asked for.
func latencySpec(s *ebpf.CollectionSpec, kernel *btf.Spec, o *LatencyOptions) error {
	if o == nil {
		for _, p := range latencyPrograms {
			delete(s.Programs, p.name)
		}
		delete(s.Programs, mmProgMmLatGot4)
		for _, m := range []string{mmMapLats, mmMapLatCarries, mmMapLatMeters, mmMapTimings} {
			delete(s.Maps, m)
		}
		return nil
	}
	slow, rate := cmp.Or(o.Slow, DefaultSlow), cmp.Or(o.Rate, DefaultTimingRate)
	if slow < 0 || !goodRate(rate) {
		return fmt.Errorf("slow calls of %v, %d a second: out of range", slow, rate)
	}
	args, err := tracepointArgs(kernel, "mmap_lock_acquire_returned")
	if err != nil {
		return err
	}
	if _, err := tracepointArgs(kernel, "mmap_lock_start_locking"); err != nil {
		return err
	}
	// It lost its cgroup path in 6.16, as mmap_lock_released did.
	if args == 4 {
		s.Programs[mmProgMmLatGot] = s.Programs[mmProgMmLatGot4]
		s.Programs[mmProgMmLatGot].Name = mmProgMmLatGot
	}
	delete(s.Programs, mmProgMmLatGot4)
	return errors.Join(
		s.Variables[mmVarLatency].Set(true),
		s.Variables[mmVarLatSlow].Set(uint64(slow)),
		s.Variables[mmVarLatWorst].Set(uint64(slow)),
		s.Variables[mmVarLatQuota].Set(quota(rate)),
	)
}

// openLatency attaches what measures.
func (h *Hooks) openLatency() (err error) {
	if h.timings, err = openRing(h.coll.Maps[mmMapTimings], "ring of timings"); err != nil {
		return err
	}
	for _, p := range latencyPrograms {
		l, err := link.AttachTracing(link.TracingOptions{Program: h.coll.Programs[p.name]})
		if err != nil {
			return fmt.Errorf("attach %s: %w", p.hook, err)
		}
		h.links = append(h.links, l)
	}
	return nil
}

// RaiseWorst has every call sent that takes at least ns, whatever the budget. It
// begins at LatencyOptions.Slow.
func (h *Hooks) RaiseWorst(ns uint64) error { return h.coll.Variables[mmVarLatWorst].Set(ns) }

// NextTiming reads the next record of the ring of timings, as Next does of the
// events.
func (h *Hooks) NextTiming(t *Timing) error {
	raw, err := h.timings.next()
	if err != nil {
		return err
	}
	return decodeTiming(raw, t)
}

// decodeTiming fills t from one record.
func decodeTiming(raw []byte, t *Timing) error {
	var m mmMmTiming
	head := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
	if len(raw) != len(head) {
		return fmt.Errorf("decode timing: %d bytes, want %d", len(raw), len(head))
	}
	copy(head, raw)
	if m.Head.Op < uint8(OpMmap) || m.Head.Op > uint8(OpFork) || m.Chance > uint8(mmMmLimitMM_TOP_CHANCE) {
		return fmt.Errorf("decode timing: operation %d, chance %d", m.Head.Op, m.Chance)
	}
	*t = Timing{
		Time: m.Head.Time, Space: m.Head.Space, TGID: m.Head.Tgid, TID: m.Head.Tid, Op: Op(m.Head.Op),
		Slow: m.Slow != 0, Chance: m.Chance, Locks: m.Locks, Ret: m.Ret, Args: m.Args, Stack: m.Stack,
		Duration: m.Duration, Wait: m.Wait, Hold: m.Hold, WriteHold: m.WriteHold, Longest: m.Longest,
		Skipped: Skipped{m.Skipped.Calls, m.Skipped.Duration, m.Skipped.Wait, m.Skipped.Hold},
	}
	return nil
}

// Latencies reads what was measured so far, of the operations there were.
func (h *Hooks) Latencies() ([]Latency, error) {
	m := h.coll.Maps[mmMapLats]
	if m == nil {
		return nil, nil
	}
	var out []Latency
	var perCPU []mmMmLat
	for op := range uint32(mmMmOpMM_OP_COUNT) {
		if err := m.Lookup(op, &perCPU); err != nil {
			return nil, fmt.Errorf("read latencies: %w", err)
		}
		l, seen := Latency{Op: Op(op)}, false
		for i := range perCPU {
			seen = l.add(&perCPU[i]) || seen
		}
		if seen {
			out = append(out, l)
		}
	}
	return out, nil
}

// add adds one CPU's part, and tells whether there was anything.
func (l *Latency) add(m *mmMmLat) bool {
	l.Failed += m.Failed
	l.Slow += m.Slow
	l.WriteHold += m.WriteHold
	l.Longest = max(l.Longest, m.Longest)
	a := l.Duration.add(m.Duration.Sum, m.Duration.Max, &m.Duration.Count)
	b := l.Wait.add(m.Wait.Sum, m.Wait.Max, &m.Wait.Count)
	c := l.Hold.add(m.Hold.Sum, m.Hold.Max, &m.Hold.Count)
	return a || b || c
}

func (t *Tally) add(sum, most uint64, count *[LatencyBuckets]uint64) (any bool) {
	t.Sum += sum
	t.Max = max(t.Max, most)
	for i, n := range count {
		t.Count[i] += n
		any = any || n > 0
	}
	return any
}
