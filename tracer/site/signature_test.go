package site

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// A kernel for arm64 with 39 bits of address puts signatures where others have
// addresses: how many there are is seen from where the stack of the program ends.
func TestSignaturesOfARM64AreRemovedAsWideAsTheAddressSpaceIs(t *testing.T) {
	t.Parallel()
	const (
		code      = 0x55_aaaa_0000
		sp        = 0x7f_fffe_0000
		signature = 0x2d5a_8000_0000_0000 // of bit 39 and above
	)
	tree := space.New(space.Options{})
	rw := procmaps.Read | procmaps.Write
	tree.Reread(space.Read{Range: space.All, Began: 1, Op: space.OpSeed, Rows: []space.Row{
		{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: code, End: code + 0x1000}, Mode: procmaps.Read | procmaps.Exec}},
		{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: sp, End: sp + 0x10000}, Mode: rw, Name: "[stack]"}},
	}})
	sample := &stack.Sample{Regs: stack.Registers{Arch: stack.ARM64, PC: code + 8, SP: sp}}
	sample.Regs.R[29] = sp
	for _, v := range []uint64{sp + 16, signature | code + 0x100, 0, signature | code + 0x200} {
		sample.Stack = binary.LittleEndian.AppendUint64(sample.Stack, v)
	}
	s := New(Options{})
	defer s.Close()
	const nobody = 1 << 30 // a process without a map of a JIT compiler
	frames, end := s.Frames(s.Site(nobody, tree, sample))
	var got []uint64
	for i := range frames {
		got = append(got, frames[i].Addr)
	}
	if diff := cmp.Diff([]uint64{code + 8, code + 0x100, code + 0x200}, got); diff != "" || end != stack.EndRoot {
		t.Errorf("the walk ends with %v; frames differ (-want +got):\n%s", end, diff)
	}
}
