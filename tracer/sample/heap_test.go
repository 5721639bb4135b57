//go:build linux

package sample

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer"
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
