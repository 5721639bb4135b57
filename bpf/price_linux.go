//go:build amd64 || arm64

package bpf

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// Functions that are probed to know what that costs, and where they are; see price_*.s.
func pushed()
func tested()
func pushedAt() uintptr
func testedAt() uintptr

// HeapPrice measures, once, what a probe costs a call here: with what there is between a
// processor and us, it differs by ten times and more. It takes some 100 ms. It needs
// [StackOptions].BlockRate.
func (h *Hooks) HeapPrice() (HeapPrice, error) {
	h.price.once.Do(func() {
		h.price.HeapPrice, h.price.err = h.measurePrice()
	})
	return h.price.HeapPrice, h.price.err
}

func (h *Hooks) measurePrice() (p HeapPrice, err error) {
	if p.Emulated, err = h.priceOf(pushed, pushedAt()); err != nil {
		return p, err
	}
	p.Stepped, err = h.priceOf(tested, testedAt())
	return p, err
}

// priceOf is what a probe costs a function: the least of some means, as others use the CPU
// as well.
func (h *Hooks) priceOf(f func(), at uintptr) (least time.Duration, err error) {
	offset, err := offsetOf(uint64(at))
	if err != nil {
		return 0, err
	}
	prog := h.coll.Programs[mmProgMmHeapFree]
	l, err := linkUprobes(prog, ebpf.AttachTraceUprobeMulti, "/proc/self/exe", []uint64{offset}, nil, 0, uint32(os.Getpid()))
	if err != nil {
		return 0, fmt.Errorf("measure probes: %w", err)
	}
	const tries, calls = 8, 32
	least = math.MaxInt64
	for range tries {
		start := time.Now()
		for range calls {
			f()
		}
		least = min(least, time.Since(start)/calls)
	}
	return least, l.Close()
}

// offsetOf is where an address of our own code is in our file: what maps has of it.
func offsetOf(addr uint64) (uint64, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, fmt.Errorf("measure probes: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		var start, end, offset uint64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x", &start, &end, &mode, &offset); n == 4 && addr >= start && addr < end {
			return addr - start + offset, nil
		}
	}
	return 0, errors.New("measure probes: our own code is not mapped")
}
