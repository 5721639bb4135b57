//go:build amd64 || arm64

package tracer

import (
	"errors"
	"runtime"
	"slices"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/tracer/stack"
)

// maxUnclaimed bounds the stacks that wait for their events. A stack is sent
// just before its event: those that wait longer belong to records that were lost.
const maxUnclaimed = 4096

// stackStore joins the ring of stacks with that of events.
type stackStore struct {
	hooks *bpf.Hooks
	raw   bpf.Stack
	calls map[uint64]*stack.Sample // by number, until their event comes
	order []uint64                 // their numbers, the oldest first

	// Faults wait for one more look at the ring of events: what they touched may
	// have been mapped by an event that was not read yet.
	ready, next []Event
}

func newStackStore(hooks *bpf.Hooks) *stackStore {
	return &stackStore{hooks: hooks, calls: make(map[uint64]*stack.Sample)}
}

// drain reads all stacks that were sent.
func (st *stackStore) drain() error {
	for {
		err := st.hooks.NextStack(&st.raw)
		if errors.Is(err, bpf.ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		r := &st.raw
		s := &stack.Sample{
			Regs: convertRegs(&r.Regs), Stack: slices.Clone(r.Copy), Chain: slices.Clone(r.Chain), Cut: r.Cut,
		}
		if r.Op == bpf.OpFault {
			st.next = append(st.next, Event{
				Kind: KindFault, Time: r.Time, Space: r.Space, TGID: int(r.TGID), TID: int(r.TID),
				Addr: r.Addr, Weight: 1 + r.Skipped, Sample: s,
			})
			continue
		}
		st.calls[r.ID] = s
		st.order = append(st.order, r.ID)
		if len(st.order) > maxUnclaimed {
			delete(st.calls, st.order[0])
			st.order = st.order[1:]
		}
	}
}

// claim returns the stack of an event, nil if it was lost. The ring gives nothing
// while an older record is still being written on another CPU, for microseconds.
func (st *stackStore) claim(id uint64) (*stack.Sample, error) {
	const tries = 10
	for range tries {
		if s := st.calls[id]; s != nil {
			delete(st.calls, id)
			return s, nil
		}
		if err := st.drain(); err != nil {
			return nil, err
		}
		if st.calls[id] == nil {
			runtime.Gosched()
		}
	}
	return nil, nil
}

// fault gives the next fault that may be told, when the ring of events is empty.
func (st *stackStore) fault(ev *Event) (bool, error) {
	if len(st.ready) == 0 {
		st.ready, st.next = st.next, st.ready[:0]
		if err := st.drain(); err != nil {
			return false, err
		}
	}
	if len(st.ready) == 0 {
		return false, nil
	}
	*ev = st.ready[0]
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
