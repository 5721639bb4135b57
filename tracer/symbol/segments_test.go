package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withoutHeaders returns a file whose section headers nobody can find.
func withoutHeaders(b []byte) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint64(b[40:], 0) // e_shoff
	binary.LittleEndian.PutUint32(b[60:], 0) // e_shnum, e_shstrndx
	return b
}

// damages are what may have happened to the section headers of a file that runs.
var damages = []struct {
	name string
	do   func(b []byte) []byte
}{
	{"none", withoutHeaders},
	{"cut off", func(b []byte) []byte { return b[:binary.LittleEndian.Uint64(b[40:])] }},
	{"past the end", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[40:], 1<<40); return b }},
	{"at no address", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[40:], math.MaxUint64); return b }},
	{"names in no section", func(b []byte) []byte { binary.LittleEndian.PutUint16(b[62:], 1000); return b }},
	{"zeros", func(b []byte) []byte { clear(b[binary.LittleEndian.Uint64(b[40:]):]); return b }},
	{"ones", func(b []byte) []byte {
		for i := binary.LittleEndian.Uint64(b[40:]); i < uint64(len(b)); i++ {
			b[i] = 0xff
		}
		return b
	}},
	{"of another file", func(b []byte) []byte {
		for i := binary.LittleEndian.Uint64(b[40:]); i+64 <= uint64(len(b)); i += 64 {
			addr := b[i+16:]
			binary.LittleEndian.PutUint64(addr, binary.LittleEndian.Uint64(addr)+1<<32)
		}
		return b
	}},
}

func TestFilesWithDamagedSectionHeadersAreReadByTheirSegments(t *testing.T) {
	t.Parallel()
	original := small(t, "dwarf5.so")
	id := read(t, original, Options{}).BuildID()
	for _, tt := range damages {
		m := read(t, tt.do(bytes.Clone(original)), Options{})
		for _, k := range []struct {
			addr uint64
			want Function
		}{
			{0x2cf, Function{}},
			{0x2d0, Function{"both", "both", 0x2d0, 0x26, FromDynsym, false}},
			{0x2f5, Function{"both", "both", 0x2d0, 0x26, FromDynsym, false}},
			{0x2b0, Function{}}, // it is local
		} {
			if fn, ok := m.Function(k.addr); fn != k.want || ok != (k.want.Name != "") {
				t.Errorf("%s: Function(%#x) = %+v, %v; want %+v", tt.name, k.addr, fn, ok, k.want)
			}
		}
		if got := m.BuildID(); got != id {
			t.Errorf("%s: BuildID = %q, want %q", tt.name, got, id)
		}
		if bias, ok := m.Bias(0x7f0000000000, 0); bias != 0x7f0000000000 || !ok {
			t.Errorf("%s: Bias = %#x, %v", tt.name, bias, ok)
		}
	}
}

// A debug file has no segments with content: its section headers are all it has.
func TestFilesWithNeitherSectionsNorSegmentsAreRefused(t *testing.T) {
	t.Parallel()
	b := small(t, "dwarf5.so")
	binary.LittleEndian.PutUint16(b[56:], 0) // e_phnum
	binary.LittleEndian.PutUint64(b[40:], 1<<40)
	if m, err := ReadModule(bytes.NewReader(b), int64(len(b)), Options{}); err == nil {
		t.Errorf("it is read: %+v", m.head)
	}
}

// hashTable makes a hash table of symbols, in the newer form.
func hashTable(first uint32, buckets, chain []uint32) []byte {
	var b []byte
	for _, v := range append([]uint32{uint32(len(buckets)), first, 1, 0, 0, 0}, append(buckets, chain...)...) {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func TestHashTablesTellHowManySymbolsThereAre(t *testing.T) {
	t.Parallel()
	const at = 0x1000
	for _, tt := range []struct {
		name  string
		old   []byte // in the older form
		table []byte // in the newer one
		want  uint64
	}{
		{name: "none"},
		{name: "the older form", old: []byte{3, 0, 0, 0, 9, 0, 0, 0}, want: 9},
		{name: "of more symbols than are read", old: []byte{3, 0, 0, 0, 9, 0, 0, 0xff}, want: maxSymbols},
		{name: "one chain", table: hashTable(1, []uint32{1}, []uint32{2, 4, 7}), want: 4},
		{name: "several chains", table: hashTable(5, []uint32{6, 0, 5}, []uint32{3, 2, 5}), want: 8},
		{name: "nothing exported", table: hashTable(5, []uint32{0, 0}, nil)},
		{name: "a chain without end", table: hashTable(1, []uint32{1}, []uint32{2, 4, 6})},
		{name: "buckets without end", table: hashTable(1, []uint32{1}, []uint32{3})[:4]},
		{name: "a last bucket out of reach", table: hashTable(1, []uint32{math.MaxUint32}, []uint32{3})},
	} {
		content := append(bytes.Clone(tt.old), tt.table...)
		h := &header{order: binary.LittleEndian, is64: true, file: &elf.File{Progs: []*elf.Prog{{
			ProgHeader: elf.ProgHeader{Type: elf.PT_LOAD, Vaddr: at, Filesz: uint64(len(content)), Memsz: uint64(len(content))},
			ReaderAt:   bytes.NewReader(content),
		}}}}
		tags := make(map[elf.DynTag]uint64)
		if tt.old != nil {
			tags[elf.DT_HASH] = at
		}
		if tt.table != nil {
			tags[elf.DT_GNU_HASH] = at
		}
		if got := h.symbolCount(tags); got != tt.want {
			t.Errorf("%s: %d symbols, want %d", tt.name, got, tt.want)
		}
	}
}

// Not parallel: it measures what the process allocates.
func TestClaimsOfHostileSegmentsTakeNoMemory(t *testing.T) {
	for _, tt := range damages {
		b := tt.do(small(t, "dwarf5.so"))
		for i := range uint64(binary.LittleEndian.Uint16(b[56:])) {
			binary.LittleEndian.PutUint64(b[64+i*56+32:], 1<<45) // p_filesz
		}
		bounded(t, func() {
			m, err := ReadModule(endless{b}, 1<<50, Options{})
			if err != nil {
				return
			}
			for addr := uint64(0x280); addr < 0x300; addr += 7 {
				m.Function(addr)
			}
		})
	}
}

func FuzzSegments(f *testing.F) {
	for _, name := range []string{"dwarf4.so", "dwarf5.so", "compressed.so"} {
		f.Add(small(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := noSections(bytes.NewReader(b))
		head, err := readSections(r, int64(len(b)))
		if err != nil {
			return
		}
		head.fromSegments()
		m := &Module{r: r, size: int64(len(b)), head: head}
		for _, s := range head.code {
			step := max((s.end-s.start)/16, 1)
			for i := range uint64(16) {
				addr := s.start + i*step
				fn, ok := m.Function(addr)
				if ok && (fn.Name == "" || addr < fn.Start || addr-fn.Start >= fn.Size) {
					t.Errorf("Function(%#x) = %+v", addr, fn)
				}
			}
		}
		if n := m.bytes.Load(); n < 0 || n > 64<<20 {
			t.Errorf("%d bytes held", n)
		}
	})
}

func TestOnlyTheSectionHeadersAreHidden(t *testing.T) {
	t.Parallel()
	b := small(t, "dwarf5.so")
	want := withoutHeaders(b)
	for _, step := range []int{1, 7, 41, 64, 1000} {
		got := make([]byte, len(b))
		r := noSections(bytes.NewReader(b))
		for off := 0; off < len(b); off += step {
			n, err := r.ReadAt(got[off:min(off+step, len(b))], int64(off))
			if n == 0 || err != nil && err != io.EOF {
				t.Fatalf("ReadAt(%d) = %d, %v", off, n, err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in steps of %d (-want +got):\n%s", step, diff)
		}
	}
}
