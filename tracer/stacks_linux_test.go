//go:build amd64 || arm64

package tracer

import (
	"errors"
	"testing"

	"github.com/maptrace/maptrace/bpf"
)

// ring is a ring of stacks that a test fills.
type ring struct {
	stacks []bpf.Stack
	stuck  int // how often it first says that it is empty
	err    error
	buf    []byte
}

func (r *ring) NextStack(s *bpf.Stack) error {
	if r.stuck > 0 {
		r.stuck--
		return bpf.ErrEmpty
	}
	if len(r.stacks) == 0 {
		if r.err != nil {
			return r.err
		}
		return bpf.ErrEmpty
	}
	*s, r.stacks = r.stacks[0], r.stacks[1:]
	// As the kernel's ring does: the copy is good until the next call.
	r.buf = append(r.buf[:0], s.Copy...)
	s.Copy = r.buf
	return nil
}

func callStack(id uint32) bpf.Stack {
	return bpf.Stack{ID: id, Op: bpf.OpMmap, Copy: []byte{byte(id), byte(id >> 8)}}
}

func faultStack(addr uint64, chance uint8) bpf.Stack {
	return bpf.Stack{Op: bpf.OpFault, Addr: addr, Chance: chance, TGID: 5, TID: 6, Space: 7, Copy: []byte{1}}
}

// claimed is the second byte of a stack and the first, as callStack wrote them; 0
// if there is none.
func claimed(t *testing.T, st *stackStore, id uint32) uint32 {
	t.Helper()
	s, err := st.claim(id)
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		return 0
	}
	return uint32(s.Stack[0]) | uint32(s.Stack[1])<<8
}

func TestEachEventGetsItsOwnStack(t *testing.T) {
	t.Parallel()
	src := &ring{stacks: []bpf.Stack{callStack(1), callStack(3), faultStack(0x1000, 0), callStack(2), callStack(4)}}
	st := newStackStore(src)
	for _, id := range []uint32{1, 2, 3, 4} {
		if got := claimed(t, st, id); got != id {
			t.Errorf("event of stack %d got %d", id, got)
		}
	}
	if got := claimed(t, st, 3); got != 0 {
		t.Errorf("a stack was given twice: %d", got)
	}
	if len(st.calls) != 0 || st.bytes != 0 {
		t.Errorf("%d stacks of %d bytes are left", len(st.calls), st.bytes)
	}
}

func TestALostStackIsWaitedForOnlyBriefly(t *testing.T) {
	t.Parallel()
	src := &ring{stacks: []bpf.Stack{callStack(2)}}
	st := newStackStore(src)
	if got := claimed(t, st, 1); got != 0 {
		t.Errorf("the event got the stack of another: %d", got)
	}
	if got := claimed(t, st, 2); got != 2 {
		t.Errorf("the next event got %d", got)
	}
	// Another CPU is still writing: it takes microseconds.
	src.stuck, src.stacks = 3, []bpf.Stack{callStack(3)}
	if got := claimed(t, st, 3); got != 3 {
		t.Errorf("a stack that was late was given up: %d", got)
	}
}

func TestABurstOfStacksIsNotThrownAwayBeforeItsEventsAreRead(t *testing.T) {
	t.Parallel()
	const burst = 3 * maxUnclaimed
	src := &ring{}
	for id := uint32(1); id <= burst; id++ {
		src.stacks = append(src.stacks, callStack(id))
	}
	st := newStackStore(src)
	lost := 0
	for id := uint32(1); id <= burst; id++ {
		if claimed(t, st, id) != id {
			lost++
		}
	}
	if lost != 0 {
		t.Errorf("%d of %d events lost their stacks", lost, burst)
	}
}

func TestStacksWhoseEventsWereLostAreBounded(t *testing.T) {
	t.Parallel()
	src := &ring{}
	for id := uint32(1); id <= 5*maxUnclaimed; id++ {
		src.stacks = append(src.stacks, callStack(id))
	}
	last := uint32(5*maxUnclaimed + 1)
	src.stacks = append(src.stacks, callStack(last))
	st := newStackStore(src)
	if got := claimed(t, st, last); got != last {
		t.Errorf("got %d", got)
	}
	if len(st.calls) > maxUnclaimed || len(st.order) > 2*maxUnclaimed {
		t.Errorf("%d stacks wait, %d numbers", len(st.calls), len(st.order))
	}
	if got := claimed(t, st, last-1); got != last-1 {
		t.Errorf("the newest one that waited is gone: %d", got)
	}
	if got := claimed(t, st, 1); got != 0 {
		t.Errorf("the oldest is still there: %d", got)
	}
	// Few, but large.
	large := make([]byte, maxWaiting/8)
	for id := range uint32(100) {
		src.stacks = append(src.stacks, bpf.Stack{ID: last + 1 + id, Op: bpf.OpBrk, Copy: large})
	}
	if s, err := st.claim(last + 1000); s != nil || err != nil {
		t.Errorf("got %v, %v", s, err)
	}
	if st.bytes > maxWaiting {
		t.Errorf("%d bytes wait", st.bytes)
	}
}

// drainFaults reads what may be told until the rings are empty.
func drainFaults(t *testing.T, st *stackStore) (faults []Event) {
	t.Helper()
	for {
		var ev Event
		ok, err := st.later(&ev)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return faults
		}
		faults = append(faults, ev)
	}
}

func TestAFaultWaitsForOneMoreLookAtTheEvents(t *testing.T) {
	t.Parallel()
	src := &ring{stacks: []bpf.Stack{faultStack(0x1000, 3), faultStack(0x2000, 0)}}
	st := newStackStore(src)
	// It is asked each time that the ring of events is found empty.
	look := func(want uint64) {
		t.Helper()
		var ev Event
		ok, err := st.later(&ev)
		if err != nil || ok != (want != 0) || ev.Addr != want {
			t.Errorf("told %v, %#x, %v; want %#x", ok, ev.Addr, err, want)
		}
		if ok && (ev.Kind != KindFault || ev.TGID != 5 || ev.TID != 6 || ev.Space != 7 || ev.Sample == nil) {
			t.Errorf("told %+v", ev)
		}
		if want == 0x1000 && ev.Weight != 8 {
			t.Errorf("it stands for %d, want 8", ev.Weight)
		}
	}
	look(0)
	src.stacks = append(src.stacks, faultStack(0x3000, 0))
	look(0x1000)
	look(0x2000)
	look(0x3000)
	src.stacks = append(src.stacks, faultStack(0x4000, 0))
	look(0)
	look(0x4000)
	look(0)
}

func TestFaultsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	const all = 2*maxFaults + 100
	src := &ring{}
	for range all {
		src.stacks = append(src.stacks, faultStack(0x1000, 1))
	}
	src.stacks = append(src.stacks, callStack(9))
	st := newStackStore(src)
	if got := claimed(t, st, 9); got != 9 {
		t.Errorf("got %d", got)
	}
	if len(st.next) > maxFaults {
		t.Errorf("%d faults wait", len(st.next))
	}
	src.stacks = append(src.stacks, faultStack(0x2000, 0))
	told := drainFaults(t, st)
	told = append(told, drainFaults(t, st)...)
	if n := len(told); n <= maxFaults/2 || n+int(st.unread) != all+1 || told[n-1].Addr != 0x2000 {
		t.Errorf("%d faults were told, the last of %#x, and %d are known to be left out", n, told[n-1].Addr, st.unread)
	}
}

func TestAnErrorOfTheRingIsNotTakenForItsEnd(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	st := newStackStore(&ring{err: broken})
	if _, err := st.claim(1); !errors.Is(err, broken) {
		t.Errorf("claim: %v", err)
	}
	var ev Event
	if _, err := st.later(&ev); !errors.Is(err, broken) {
		t.Errorf("fault: %v", err)
	}
}

func TestRingsCountAsMemory(t *testing.T) {
	var bare uint64
	for _, o := range []struct {
		LiveOptions
		more uint64 // than the first
	}{
		{LiveOptions{RingBytes: 1 << 16}, 0},
		{LiveOptions{}, bpf.DefaultRingBytes - 1<<16},
		{LiveOptions{RingBytes: 1 << 16, Stacks: &StackOptions{RingBytes: 1 << 20}}, 1 << 20},
		{LiveOptions{RingBytes: 1 << 16, Latency: new(LatencyOptions)}, 4<<20 + 1<<20},
	} {
		l := openLive(t, o.LiveOptions)
		info := l.Info()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if bare == 0 {
			bare = info.Memory
		}
		const unused = 1 << 17 // what rings that are not asked for take
		if got := info.Memory - bare; got > o.more || got+unused < o.more {
			t.Errorf("rings of %+v take %d bytes more, want %d", o.LiveOptions, got, o.more)
		}
		if (info.Sampling != nil) != (o.Stacks != nil) || (info.Latency != nil) != (o.Latency != nil) {
			t.Errorf("of %+v one can ask for %+v", o.LiveOptions, info)
		}
	}
}
