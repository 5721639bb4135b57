//go:build amd64 || arm64

package bpf_test

import (
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
)

// reserve maps whole pieces, and returns where the first begins.
func reserve(t *testing.T, pieces uint64) (mem []byte, start uint64) {
	t.Helper()
	size := bpf.PieceBytes()
	all, err := unix.Mmap(-1, 0, int((pieces+1)*size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	at := uint64(uintptr(unsafe.Pointer(&all[0])))
	start = (at + size - 1) / size * size
	return all[start-at:], start
}

// touchedFrom takes the pieces touched at an address and behind it, within so many.
func touchedFrom(t *testing.T, h *bpf.Hooks, start, pieces uint64) (out []uint64) {
	t.Helper()
	all, err := h.Touched(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if n := (p.Addr - start) / bpf.PieceBytes(); p.Addr >= start && n < pieces {
			out = append(out, n)
		}
		if p.Space == 0 || p.Addr%bpf.PieceBytes() != 0 {
			t.Errorf("touched %+v", p)
		}
	}
	slices.Sort(out)
	return out
}

// TestEveryPieceTouchedIsTold traces this process, which touches more pieces than have
// a place in one answer of the kernel, though only one page of each.
func TestEveryPieceTouchedIsTold(t *testing.T) {
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{FaultRate: 1}})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	const pieces = 5000
	mem, start := reserve(t, pieces)
	// Else a huge page may be given for each.
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		t.Fatal(err)
	}
	size := int(bpf.PieceBytes())
	var sum byte
	var want []uint64
	for i := range pieces {
		if i%3 == 0 {
			sum += mem[i*size+i%size] // the page of zeros is enough
			want = append(want, uint64(i))
		}
	}
	if got := touchedFrom(t, h, start, pieces); sum != 0 || !slices.Equal(got, want) {
		t.Errorf("%d pieces are told, want %d", len(got), len(want))
	}
	if got := touchedFrom(t, h, start, pieces); len(got) > 0 {
		t.Errorf("%d pieces are told again", len(got))
	}
	mem[size] = 1
	if got := touchedFrom(t, h, start, pieces); !slices.Equal(got, []uint64{1}) {
		t.Errorf("told of %v, want the one that was touched since", got)
	}
	if c, err := h.Counters(); err != nil || c.Touches != 0 {
		t.Errorf("counters %+v, %v", c, err)
	}
}

func TestPiecesWithoutRoomAreCounted(t *testing.T) {
	undo := bpf.LimitPieces(4)
	defer undo()
	h := open(t, bpf.Options{Stacks: &bpf.StackOptions{FaultRate: 1}})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	const pieces = 40
	mem, _ := reserve(t, pieces)
	for i := range pieces {
		mem[i*int(bpf.PieceBytes())] = 1
	}
	all, err := h.Touched(nil)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel's own count of what is in a table is not exact to the last.
	c, err := h.Counters()
	if err != nil || len(all) > pieces/2 || len(all)+int(c.Touches) < pieces {
		t.Errorf("told of %d, %d without room, %v", len(all), c.Touches, err)
	}
}
