package order

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// endless is a Source of a program that maps and unmaps for ever, over a number
// of mappings, every thousandth event out of order.
type endless struct {
	left    int
	extents uint64
	n       uint64
	section uint32
	held    Event
	holding bool
	setup   []Event
}

func (s *endless) Next(ev *Event) error {
	if len(s.setup) > 0 {
		*ev, s.setup = s.setup[0], s.setup[1:]
		return nil
	}
	if s.left <= 0 && !s.holding {
		return io.EOF
	}
	s.left--
	if s.holding {
		*ev, s.holding = s.held, false
		return nil
	}
	s.make(ev)
	if s.n%1000 == 0 {
		s.held, s.holding = *ev, true
		s.make(ev)
	}
	return nil
}

// make makes the next event: pairs of munmap and mmap of one of the mappings.
func (s *endless) make(ev *Event) {
	s.n++
	page := 1000 + 2*(s.n/2*2654435761%s.extents)
	ev.Kind, ev.Flags, ev.TGID, ev.TID, ev.Space = model.KindCall, Stamped|HasSection, 5, 5, 1
	ev.Section, ev.Time = s.section, 1000+s.n
	s.section++
	ev.Call = space.Call{Time: ev.Time, TID: 5}
	if s.n%2 == 0 {
		ev.Call.Op = space.OpMunmap
		ev.Call.Args = [6]uint64{page << 12, 4096}
		return
	}
	ev.Call.Op, ev.Call.Ret = space.OpMmap, int64(page<<12)
	ev.Call.Args = [6]uint64{0, 4096, 3, 0x32, ^uint64(0), 0}
}

// BenchmarkLoop measures an event from the Source to the tree.
func BenchmarkLoop(b *testing.B) {
	for _, extents := range []uint64{300, 1000, 10000} {
		b.Run(fmt.Sprint(extents, " mappings"), func(b *testing.B) {
			b.ReportAllocs()
			src := &endless{left: b.N + int(2*extents), extents: extents, setup: image(5, 1, 100, 0)}
			tr := New(src, nil, Options{})
			b.ResetTimer()
			if err := tr.Run(context.Background(), nil); err != nil {
				b.Fatal(err)
			}
			if s := tr.Report().Stats; s.Missed > 0 || s.Calls < uint64(b.N) {
				b.Fatalf("missed %d, calls %d of %d", s.Missed, s.Calls, b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
}

func TestTheLoopDoesNotAllocate(t *testing.T) {
	src := &endless{left: 4000, extents: 300, setup: image(5, 1, 100, 0)}
	tr := New(src, nil, Options{})
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() {
		src.left = 2000
		if _, err := tr.drain(0); notEOF(err) != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations for 2000 events", n)
	}
}
