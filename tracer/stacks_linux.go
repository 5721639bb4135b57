//go:build amd64 || arm64

package tracer

import (
	"errors"
	"runtime"
	"slices"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/stack"
)

// What may wait. A stack is sent just before its event, so those that wait long
// belong to records that were lost; and faults and writes wait for one more look only.
const (
	maxUnclaimed = 4096
	maxFaults    = 4096
	maxWaiting   = 64 << 20 // bytes of stack, of each
)

// stackSource gives the stacks that were sent; bpf.Hooks is one. It returns
// bpf.ErrEmpty when there is none now.
type stackSource interface {
	NextStack(*bpf.Stack) error
}

// stackStore joins the ring of stacks with that of events.
type stackStore struct {
	src   stackSource
	raw   bpf.Stack
	calls map[uint32]*stack.Sample // by number, until their event comes
	order []uint32                 // the numbers of those and of some claimed ones, the oldest first
	bytes int                      // of their stacks

	// Faults, writes, timings and what was made wait for one more look at the ring of
	// events: what they touched, or their code, may have been mapped by an event not read
	// yet.
	ready, next []Event
	waiting     int          // bytes of the stacks of next
	unread      uint64       // those of them that could not wait
	timings     func() error // reads timings into next; nil unless they are asked for
}

func newStackStore(src stackSource) *stackStore {
	return &stackStore{src: src, calls: make(map[uint32]*stack.Sample)}
}

// toldAlone are the kinds of the stacks that belong to no event of the other ring.
var toldAlone = map[bpf.Op]Kind{
	bpf.OpFault: KindFault, bpf.OpWrite: KindWrite,
	bpf.OpMemfd: KindMade, bpf.OpSegment: KindMade, bpf.OpRing: KindMade,
}

// madeKinds are what a KindMade is about.
var madeKinds = map[bpf.Op]procmaps.HeldKind{
	bpf.OpMemfd: procmaps.HeldMemfd, bpf.OpSegment: procmaps.HeldSegment, bpf.OpRing: procmaps.HeldRing,
}

// read takes one stack that was sent, and returns its number, 0 for one that belongs
// to no call.
func (st *stackStore) read() (uint32, error) {
	if err := st.src.NextStack(&st.raw); err != nil {
		return 0, err
	}
	r := &st.raw
	if kind := toldAlone[r.Op]; kind != 0 {
		if len(st.next) >= maxFaults || st.waiting+len(r.Copy) > maxWaiting {
			st.unread++
			return 0, nil
		}
		st.waiting += len(r.Copy)
		ev := Event{
			Kind: kind, Time: r.Time, Space: r.Space, TGID: int(r.TGID), TID: int(r.TID),
			Addr: r.Addr, Weight: 1 << r.Chance, Sample: sampleOf(r),
		}
		if kind == KindMade {
			ev.Made = procmaps.HeldID{Kind: madeKinds[r.Op], Inode: r.Addr}
		}
		st.next = append(st.next, ev)
		return 0, nil
	}
	st.calls[r.ID] = sampleOf(r)
	st.order = append(st.order, r.ID)
	st.bytes += len(r.Copy)
	for len(st.calls) > maxUnclaimed || st.bytes > maxWaiting || len(st.order) > 2*maxUnclaimed {
		st.take(st.order[0])
		st.order = st.order[1:]
	}
	return r.ID, nil
}

func sampleOf(r *bpf.Stack) *stack.Sample {
	return &stack.Sample{
		Regs: convertRegs(&r.Regs), Stack: slices.Clone(r.Copy), Chain: slices.Clone(r.Chain), Cut: r.Cut,
	}
}

// take removes a stack that waits, nil if it does not.
func (st *stackStore) take(id uint32) *stack.Sample {
	s := st.calls[id]
	if s != nil {
		st.bytes -= len(s.Stack)
		delete(st.calls, id)
	}
	return s
}

// claim returns the stack of an event, nil if it was lost. It reads no further
// than to it: what else was sent may be more than can wait. The ring gives nothing
// while an older record is still being written on another CPU, for microseconds.
func (st *stackStore) claim(id uint32) (*stack.Sample, error) {
	if s := st.take(id); s != nil {
		return s, nil
	}
	const tries = 10
	for range tries {
		got, err := st.read()
		for err == nil && got != id {
			got, err = st.read()
		}
		if err == nil {
			return st.take(id), nil
		}
		if !errors.Is(err, bpf.ErrEmpty) {
			return nil, err
		}
		runtime.Gosched()
	}
	return nil, nil
}

// later gives the next fault or timing that may be told, when the ring of events
// is empty.
func (st *stackStore) later(ev *Event) (bool, error) {
	if len(st.ready) == 0 {
		st.ready, st.next, st.waiting = st.next, nil, 0
		// These first: their stacks may be more than can wait.
		if st.timings != nil {
			if err := st.timings(); err != nil {
				return false, err
			}
		}
		for {
			_, err := st.read()
			if errors.Is(err, bpf.ErrEmpty) {
				break
			}
			if err != nil {
				return false, err
			}
			if len(st.next) >= maxFaults {
				break // the rest is for the next look
			}
		}
	}
	if len(st.ready) == 0 {
		return false, nil
	}
	*ev, st.ready[0] = st.ready[0], Event{}
	st.ready = st.ready[1:]
	return true, nil
}

// convertRegs gives registers the form of the unwinder.
func convertRegs(in *bpf.Regs) stack.Registers {
	out := stack.Registers{Arch: stack.AMD64, SP: in[7], PC: in[16]}
	if runtime.GOARCH == "arm64" {
		out.Arch, out.SP, out.PC = stack.ARM64, in[31], in[32]
	}
	copy(out.R[:], in[:])
	return out
}
