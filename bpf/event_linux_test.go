//go:build amd64 || arm64

package bpf

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// TestLayoutsAgree compares the generated Go records with the object's own BTF:
// a binding that was not generated anew shows here.
func TestLayoutsAgree(t *testing.T) {
	t.Parallel()
	s, err := loadMm()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		size uintptr
	}{
		{"mm_call", unsafe.Sizeof(mmMmCall{})},
		{"mm_file_call", unsafe.Sizeof(mmMmFileCall{})},
		{"mm_vma", unsafe.Sizeof(mmMmVma{})},
		{"mm_task", unsafe.Sizeof(mmMmTask{})},
		{"mm_stack", unsafe.Sizeof(mmMmStack{})},
		{"mm_timing", unsafe.Sizeof(mmMmTiming{})},
		{"mm_lat", unsafe.Sizeof(mmMmLat{})},
	} {
		var st *btf.Struct
		if err := s.Types.TypeByName(c.name, &st); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if uintptr(st.Size) != c.size {
			t.Errorf("%s: %d bytes in C, %d in Go", c.name, st.Size, c.size)
		}
	}
	offsets := map[string]uintptr{
		"time": unsafe.Offsetof(mmMmCall{}.Head.Time), "space": unsafe.Offsetof(mmMmCall{}.Head.Space),
		"section": unsafe.Offsetof(mmMmCall{}.Head.Section), "tgid": unsafe.Offsetof(mmMmCall{}.Head.Tgid),
		"tid": unsafe.Offsetof(mmMmCall{}.Head.Tid), "op": unsafe.Offsetof(mmMmCall{}.Head.Op),
		"flags": unsafe.Offsetof(mmMmCall{}.Head.Flags), "nr": unsafe.Offsetof(mmMmCall{}.Head.Nr),
	}
	var head *btf.Struct
	if err := s.Types.TypeByName("mm_head", &head); err != nil {
		t.Fatal(err)
	}
	for _, m := range head.Members {
		if want := uintptr(m.Offset.Bytes()); offsets[m.Name] != want {
			t.Errorf("mm_head.%s: at %d in C, %d in Go", m.Name, want, offsets[m.Name])
		}
	}
}

func TestProgramNamesFitTheKernels(t *testing.T) {
	t.Parallel()
	s, err := loadMm()
	if err != nil {
		t.Fatal(err)
	}
	for name := range s.Programs {
		if len(name) > 15 {
			t.Errorf("program %q is cut by the kernel: BPF_OBJ_NAME_LEN", name)
		}
	}
}

// record builds the bytes of a record as the kernel side would.
func record(op Op, flags Flags, file string) []byte {
	size := callSize
	if flags&HasFile != 0 {
		size = fileCallSize
	}
	b := make([]byte, size)
	ne := binary.NativeEndian
	ne.PutUint64(b[0:], 11)
	ne.PutUint64(b[8:], 22)
	ne.PutUint32(b[16:], 33)
	ne.PutUint32(b[20:], 44)
	ne.PutUint32(b[24:], 55)
	b[28], b[29] = byte(op), byte(flags)
	ne.PutUint16(b[30:], 66)
	ne.PutUint64(b[32:], ^uint64(0)-21) // -22
	for i := range 6 {
		ne.PutUint64(b[40+8*i:], uint64(100+i))
	}
	if flags&HasFile != 0 {
		ne.PutUint64(b[callSize:], 77)
		ne.PutUint64(b[callSize+40:], 5000)
		ne.PutUint64(b[callSize+48:], 4096)
		ne.PutUint32(b[callSize+56:], 8<<20|1)
		ne.PutUint32(b[callSize+60:], uint32(FileRegular))
		ne.PutUint32(b[callSize+64:], 9)
		copy(b[callSize+72:], file)
	}
	return b
}

func TestRecordsAreDecoded(t *testing.T) {
	t.Parallel()
	want := Event{
		Time: 11, Space: 22, Section: 33, TGID: 44, TID: 55, Op: OpMmap, Flags: Stamped | HasSection, NR: 66,
		Ret: -22, Args: [6]uint64{100, 101, 102, 103, 104, 105},
	}
	// What the last record left behind must not show.
	ev := Event{File: File{Name: "stale"}}
	if err := decode(record(OpMmap, Stamped|HasSection, ""), &ev); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, ev); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}
	want.Flags |= HasFile
	want.File = File{Inode: 77, Size: 5000, Block: 4096, Dev: 8<<20 | 1, Section: 9, Flags: FileRegular, Name: "libc.so.6"}
	if err := decode(record(OpMmap, Stamped|HasSection|HasFile, "libc.so.6"), &ev); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, ev); diff != "" {
		t.Errorf("file call (-want +got):\n%s", diff)
	}
}

func TestOddRecordsAreRefused(t *testing.T) {
	t.Parallel()
	good := record(OpMmap, Stamped, "")
	for name, raw := range map[string][]byte{
		"nothing": nil, "short": good[:callSize-1], "long": append(good, 0),
		"no operation": record(0, 0, ""), "an unknown one": record(OpLayout+1, 0, ""),
		"a VMA as a call": record(OpVMA, 0, ""), "a call as a VMA": good[:0:0],
	} {
		var ev Event
		if err := decode(raw, &ev); err == nil {
			t.Errorf("%s was decoded as %+v", name, ev)
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	raw := record(OpMmap, Stamped|HasSection, "")
	var ev Event
	if n := testing.AllocsPerRun(1000, func() {
		if err := decode(raw, &ev); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(record(OpMmap, Stamped|HasSection, ""))
	f.Add(record(OpMmap, HasFile, "x"))
	f.Add(make([]byte, vmaSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ev Event
		if err := decode(raw, &ev); err == nil && (ev.Op < OpMmap || ev.Op > OpLayout) {
			t.Fatalf("decoded %+v", ev)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	raw := record(OpMmap, Stamped|HasSection, "")
	var ev Event
	b.ReportAllocs()
	for b.Loop() {
		if err := decode(raw, &ev); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAStackIsDecodedOrRefused(t *testing.T) {
	t.Parallel()
	head := int(unsafe.Sizeof(mmMmStack{}))
	raw := make([]byte, head+16)
	m := mmMmStack{
		Id: 7, Time: 8, Space: 9, Addr: 10, Chance: 11, Tgid: 12, Tid: 13,
		Size: 13, Op: uint8(OpFault), Cut: 1, Regs: [33]uint64{0: 100, 32: 132},
		Chained: 2, Chain: [64]uint64{7, 8, 9},
	}
	copy(raw, unsafe.Slice((*byte)(unsafe.Pointer(&m)), head))
	copy(raw[head:], "thirteen byte")
	var got Stack
	if err := decodeStack(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := Stack{
		ID: 7, Time: 8, Space: 9, Addr: 10, Chance: 11, TGID: 12, TID: 13, Op: OpFault, Cut: true,
		Regs: Regs{0: 100, 32: 132}, Copy: []byte("thirteen byte"), Chain: []uint64{7, 8},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, bad := range map[string][]byte{
		"cut in its head": raw[:head-1], "shorter than it says": raw[:head+12],
	} {
		if err := decodeStack(bad, &got); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzDecodeStack(f *testing.F) {
	head := int(unsafe.Sizeof(mmMmStack{}))
	raw := make([]byte, head+64)
	raw[52], raw[48] = uint8(OpMmap), 64
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Stack
		if err := decodeStack(raw, &s); err == nil && len(s.Copy) > len(raw)-head {
			t.Errorf("%d bytes of stack from %d", len(s.Copy), len(raw))
		}
	})
}

func FuzzDecodeBlock(f *testing.F) {
	born := make([]byte, unsafe.Sizeof(mmMmBlock{})+unsafe.Sizeof(mmMmStack{})+64)
	f.Add(born)
	f.Add(born[:unsafe.Sizeof(mmMmBlock{})])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b Block
		if decodeBlock(raw, &b) == nil && b.What == BlockBorn && len(b.Stack.Copy) > len(raw) {
			t.Errorf("%d bytes of stack in %d", len(b.Stack.Copy), len(raw))
		}
	})
}
