//go:build amd64 || arm64

package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
)

// PieceBytes is the size of the pieces of memory that [Hooks.Touched] tells of: what a
// page full of page table entries maps, and with it the most that a page fault brings
// in, pages of hugetlbfs apart. 2 MiB where pages are of 4 KiB.
func PieceBytes() uint64 {
	const entry = 8
	page := uint64(os.Getpagesize())
	return page / entry * page
}

// mostPieces is how many can be noted between two calls of Touched: of 128 GiB. Tests
// change it.
var mostPieces uint32 = 65536

// pieceKey is struct piece of maptrace.bpf.c.
type pieceKey struct{ Space, Number uint64 }

// Touched appends to dst the pieces in which page faults have begun since it was last
// called, of all traced processes, and forgets them. A fault is noted before its page
// is there. Pages that the kernel brings in without a fault of a thread (for O_DIRECT,
// process_vm_writev(2), guests of KVM) are not told of. Faults in more than 65,536
// pieces are only counted ([Counters].Touches). It needs [StackOptions].FaultRate, and
// Linux 5.6. Errors are those of bpf(2).
func (h *Hooks) Touched(dst []Touch) ([]Touch, error) {
	const most = 4096
	keys, values := make([]pieceKey, most), make([]uint8, most)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := h.coll.Maps[mmMapPieces].BatchLookupAndDelete(&cursor, keys, values, nil)
		for _, k := range keys[:n] {
			dst = append(dst, Touch{Space: k.Space, Addr: k.Number * PieceBytes()})
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return dst, nil
		}
		if err != nil {
			return dst, fmt.Errorf("read touched pieces: %w", err)
		}
	}
}
