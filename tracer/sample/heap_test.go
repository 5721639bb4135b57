//go:build linux

package sample

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// forgetting is a kernel side that notes which blocks are not waited for any more.
type forgetting struct {
	tracer.Sampling
	blocks []uint64
}

func (f *forgetting) ForgetBlock(_, addr uint64) error {
	f.blocks = append(f.blocks, addr)
	return nil
}

// TestABlockThatMovedFromNowhereIsNotWaitedFor has one be moved whose birth was lost.
func TestABlockThatMovedFromNowhereIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	kernel := &forgetting{}
	h := &heapWatch{run: &Sampler{kernel: kernel}, t: &target{}, blocks: make(map[uint64][]*sampledBlock)}
	h.take(&tracer.HeapBlock{What: tracer.BlockMoved, Old: 0x1000, Addr: 0x2000, Size: 100})
	if d := cmp.Diff([]uint64{0x2000}, kernel.blocks); d != "" || len(h.blocks) != 0 {
		t.Errorf("%v; forgotten (-want +got):\n%s", h.blocks, d)
	}
}

// TestWhatIsInABlockIsThatOfWhenItWasSurelyThere has blocks be looked at while frees are seen,
// and later on.
func TestWhatIsInABlockIsThatOfWhenItWasSurelyThere(t *testing.T) {
	t.Parallel()
	const born, addr = 1000, 0x1000
	early, written, later := [8]uint64{1, 2}, [8]uint64{1, 3}, [8]uint64{1, 4}
	header := uint64(0x21)
	for _, tt := range []struct {
		name  string
		sign  sign
		first uint64    // the block's, when it was allocated
		other [8]uint64 // what another has that was there before
		off   uint64    // when frees were not seen any more
		inner [8]uint64 // what it has when it is read in between
		last  [8]uint64
		blind bool
	}{
		{name: "its owner writes to it while frees are seen", sign: byChunk, off: born + 100, inner: written, last: written},
		{name: "and after that", sign: byChunk, off: born + 100, inner: early, last: written, blind: true},
		{name: "and in between", sign: byChunk, off: born + 100, inner: written, last: later, blind: true},
		{name: "frees were not seen in between", sign: byChunk, off: born + 10, inner: written, last: written, blind: true},
		{name: "another has the same", sign: byChunk, off: born + 100, other: written, inner: written, last: written, blind: true},
		{name: "another had what was there at first", sign: byChunk, off: born + 100, other: early, inner: written, last: written},
		{name: "its first word is its owner's", sign: byFirst, off: born + 100, inner: written, last: written},
		{name: "its first word is what was there", sign: byFirst, first: 1, off: born + 100, inner: written, last: written, blind: true},
		{name: "the word before it is what tells", sign: byBefore, first: 1, off: born + 100, inner: written, last: written},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			blind := false
			s := &Sampler{kernel: &forgetting{}, opts: Options{
				Trees: func(uint64) *space.Space { return nil },
				Emit:  func(r *event.Record) { _, is := r.Body.(event.BlockBlind); blind = blind || is },
			}}
			b := &sampledBlock{id: 1, addr: addr, at: born, size: 16, header: header, first: tt.first, sign: tt.sign}
			h := &heapWatch{run: s, t: &target{}, blocks: map[uint64][]*sampledBlock{addr: {b}}, prober: &prober{from: born - 1}}
			h.contain(&sampledBlock{size: 16}, tt.other)
			h.take(&tracer.HeapBlock{What: tracer.BlockContents, Addr: addr, Words: early})
			h.prober.off = tt.off
			for _, look := range []struct {
				at    uint64
				words [8]uint64
			}{{born + 50, tt.inner}, {born + 1000, tt.last}} {
				h.compare(&contents{id: 1, addr: addr, header: header, words: look.words}, look.at, look.at)
			}
			if blind != tt.blind {
				t.Errorf("its contents say nothing: %v, want %v", blind, tt.blind)
			}
		})
	}
}

// TestThereIsRoomForWhatIsMadeLate has a program keep three times as many samples as are followed
// at once.
func TestThereIsRoomForWhatIsMadeLate(t *testing.T) {
	t.Parallel()
	const made = 3 * mostSamples
	var told []uint64
	thin := uint64(1)
	kernel, tree := &forgetting{}, new(space.Space)
	s := &Sampler{kernel: kernel, opts: Options{
		Trees: func(uint64) *space.Space { return tree },
		Site:  func(int, *space.Space, *stack.Sample) uint32 { return 1 },
		Emit: func(r *event.Record) {
			switch b := r.Body.(type) {
			case event.Block:
				told = append(told, b.ID)
			case event.HeapThinned:
				thin = uint64(b)
			}
		},
	}}
	h := &heapWatch{run: s, t: &target{}, blocks: make(map[uint64][]*sampledBlock), thin: 1}
	for i := range uint64(made) {
		h.take(&tracer.HeapBlock{What: tracer.BlockBorn, Addr: 0x1000 + 64*i, Size: 64, Weight: 1})
	}
	if thin != 4 || h.byID != made/4 || len(h.blocks) != made/4 || len(kernel.blocks) != made-made/4 {
		t.Errorf("every %d is followed: %d at %d addresses, and %d are forgotten", thin, h.byID, len(h.blocks), len(kernel.blocks))
	}
	for _, all := range h.blocks {
		if len(all) != 1 || all[0].id%thin != 0 {
			t.Fatalf("%+v is followed", all)
		}
	}
	if last := told[len(told)-1]; last != made {
		t.Errorf("the last that was told of is %d of %d", last, made)
	}
}
