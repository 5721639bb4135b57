package symbol

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"io"
	"iter"
	"sort"
	"strings"
)

// goTable is the function table of a Go program, which its runtime needs and
// which stripping leaves. There are three forms, of Go 1.2, 1.16 and 1.18; their
// reader in the runtime is symtab.go, in the standard library debug/gosym/pclntab.go.
//
// Inlined calls are not in it in a form that could be read without the program's
// own addresses: the position of an inlined call comes with the name of the
// function it was inlined into.
type goTable struct {
	r                           io.ReaderAt
	order                       binary.ByteOrder
	version                     int
	text                        uint64 // what the addresses of functions count from
	quantum                     uint64
	funcs                       []byte // pairs of numbers: the address, the offset of the description
	list                        int64  // where those are in the table
	width                       int    // bytes of such a number, and of the first field of a description
	n                           int
	names, files, values, descs int64
	units                       int64 // a unit's files are a part of that list
}

// The versions of Go that changed the table.
const (
	go12  = 102
	go116 = 116
	go118 = 118
	go120 = 120
)

// goVersion returns the version that a table begins as one of, 0 for none. Only those
// of 64-bit programs are read.
func goVersion(b []byte, order binary.ByteOrder) int {
	const word = 8
	if b[4] != 0 || b[5] != 0 || b[7] != word {
		return 0
	}
	switch order.Uint32(b) {
	case 0xfffffffb:
		return go12
	case 0xfffffffa:
		return go116
	case 0xfffffff0:
		return go118
	case 0xfffffff1:
		return go120
	}
	return 0
}

// beginsGo reports whether a table may begin with a word.
func (h *header) beginsGo(word []byte) bool { return goVersion(word, h.order) != 0 }

func (m *Module) goTable() *goTable { return load(&m.golang, m.readGo) }

// readGo reads the table, or returns nil when there is none or another format.
func (m *Module) readGo() *goTable {
	s := m.head.pclntab
	if s == nil || !plain(s) || !m.head.is64 {
		return nil
	}
	t := parseGo(s, int64(s.Size), m.head.order)
	if t == nil || !m.placeGo(t) {
		return nil
	}
	m.bytes.Add(int64(len(t.funcs)))
	return t
}

// parseGo reads the header and the list of functions. Where they count from is
// left to be found.
func parseGo(r io.ReaderAt, size int64, order binary.ByteOrder) *goTable {
	const word = 8
	var b [8 + 8*word]byte
	if n, _ := r.ReadAt(b[:], 0); n < len(b) {
		return nil
	}
	t := &goTable{r: r, order: order, version: goVersion(b[:], order), quantum: uint64(b[6]), width: word}
	at := func(i int) int64 { return int64(order.Uint64(b[8+i*word:])) }
	switch t.version {
	case go12: // all counts from the start, and the list comes behind the number of functions
	case go116:
		t.names, t.units, t.files, t.values, t.descs = at(2), at(3), at(4), at(5), at(6)
	case go118, go120:
		t.width = 4
		t.names, t.units, t.files, t.values, t.descs = at(3), at(4), at(5), at(6), at(7)
	default:
		return nil
	}
	n := at(0)
	if t.list = t.descs; t.version == go12 {
		t.list = 8 + word
	}
	length := n*int64(2*t.width) + int64(t.width)
	if n <= 0 || n > maxSymbols || t.list < 0 || length > size || t.list > size-length {
		return nil
	}
	t.n = int(n)
	t.funcs = make([]byte, length)
	if got, _ := r.ReadAt(t.funcs, t.list); got < len(t.funcs) {
		return nil
	}
	if t.version == go12 {
		off, ok := t.uint32(t.list + length)
		if t.units = int64(off); !ok {
			return nil
		}
	}
	return t
}

// Where the address is that the table counts from: in its header, and in the runtime's
// description of the module, which begins with the address of the table (text in
// moduledata of runtime/symtab.go).
const (
	headerText = 8 + 2*8
	moduleText = 22 * 8
)

// placeGo finds the address that the table counts from, runtime.text. Since Go
// 1.26 the runtime's description of the module has it, in a section to itself;
// before, the table's own header. What is left is the start of .text, which is
// right when the entry point then has its name: C code that comes first has
// another entry point. Before Go 1.18 the table has the addresses themselves.
func (m *Module) placeGo(t *goTable) bool {
	h := m.head
	if t.version < go118 {
		h.relocate(t.funcs, h.pclntab.Addr+uint64(t.list))
		return covered(h.code, t.entry(0)) && t.entry(t.n) > t.entry(0)
	}
	at := func(s *elf.Section, off uint64) bool {
		t.text = 0
		if s == h.pclntab || h.word(s, 0) == h.pclntab.Addr {
			t.text = h.word(s, off)
		}
		// Code may begin at 0, but the ELF header is there.
		return t.text != 0 && covered(h.code, t.text)
	}
	if s := h.section(".go.module"); s != nil && at(s, moduleText) {
		return true
	}
	if at(h.pclntab, headerText) {
		return true
	}
	if s := h.section(".text"); s != nil {
		t.text = s.Addr
		fn, ok := t.function(h.file.Entry)
		return ok && strings.HasPrefix(fn.Name, "_rt0_")
	}
	for _, addrs := range []iter.Seq[uint64]{
		h.scanSegments(elf.PF_W, func(word []byte) bool { return h.order.Uint64(word) == h.pclntab.Addr }),
		h.relocated(h.pclntab.Addr),
	} {
		tries := maxTries
		for addr := range addrs {
			if tries--; tries < 0 {
				break
			}
			if s := h.made("", elf.SHT_PROGBITS, addr, moduleText+8); s != nil && at(s, moduleText) {
				return true
			}
		}
	}
	return false
}

// relocated yields where the dynamic linker puts an address of the file itself.
func (h *header) relocated(addr uint64) iter.Seq[uint64] {
	return func(yield func(at uint64) bool) {
		for r := range h.relocations() {
			if r.relative(h.machine) && r.addend == addr && !yield(r.at) {
				return
			}
		}
	}
}

// word returns a word of a section as it is once the program is loaded, 0 where there
// is none.
func (h *header) word(s *elf.Section, off uint64) uint64 {
	var b [8]byte
	if !plain(s) || off+8 > s.Size {
		return 0
	}
	if n, _ := s.ReadAt(b[:], int64(off)); n < len(b) {
		return 0
	}
	h.relocate(b[:], s.Addr+off)
	return h.order.Uint64(b[:])
}

// relocate puts into b, which is what the file has for an address, the addresses that
// the dynamic linker will. Some linkers leave their places empty, others write there,
// too, what they expect.
func (h *header) relocate(b []byte, addr uint64) {
	const word = 8
	for r := range h.relocations() {
		if off := r.at - addr; r.relative(h.machine) && off < uint64(len(b)) && uint64(len(b))-off >= word {
			h.order.PutUint64(b[off:], r.addend)
		}
	}
}

// number reads one of the list of functions.
func (t *goTable) number(i int) uint64 {
	b := t.funcs[i*t.width:]
	if t.width == 4 {
		return uint64(t.order.Uint32(b))
	}
	return t.order.Uint64(b)
}

func (t *goTable) entry(i int) uint64 { return t.text + t.number(2*i) }

// find returns the index of the function at addr, or -1.
func (t *goTable) find(addr uint64) int {
	if addr < t.entry(0) || addr >= t.entry(t.n) {
		return -1
	}
	return sort.Search(t.n, func(i int) bool { return t.entry(i) > addr }) - 1
}

// desc returns a field of a function's description, which are all uint32 but the
// first, the address.
func (t *goTable) desc(i, field int) (uint32, bool) {
	return t.uint32(t.descs + int64(t.number(2*i+1)) + int64(t.width) + int64(field-1)*4)
}

func (t *goTable) uint32(off int64) (uint32, bool) {
	var b [4]byte
	n, _ := t.r.ReadAt(b[:], off)
	return t.order.Uint32(b[:]), n == len(b)
}

func (t *goTable) function(addr uint64) (Function, bool) {
	i := t.find(addr)
	if i < 0 {
		return Function{}, false
	}
	off, ok := t.desc(i, 1)
	name := readString(t.r, t.names+int64(off))
	if !ok || name == "" {
		return Function{}, false
	}
	return Function{Name: name, Linkage: name, Start: t.entry(i), Size: t.entry(i+1) - t.entry(i), From: FromGo}, true
}

// position returns the file and line of an address.
func (t *goTable) position(addr uint64) (string, int) {
	i := t.find(addr)
	if i < 0 {
		return "", 0
	}
	files, ok1 := t.desc(i, 5)
	lines, ok2 := t.desc(i, 6)
	unit, ok3 := uint32(0), true
	if t.version >= go116 {
		unit, ok3 = t.desc(i, 8)
	}
	if !ok1 || !ok2 || !ok3 {
		return "", 0
	}
	file, line := t.value(i, files, addr), t.value(i, lines, addr)
	if file < 0 || line <= 0 {
		return "", 0
	}
	off, ok := t.uint32(t.units + (int64(unit)+int64(file))*4)
	if !ok || off == ^uint32(0) {
		return "", 0
	}
	return readString(t.r, t.files+int64(off)), int(line)
}

// startLine returns the line of the func keyword of the function at addr, 0 where
// the table does not have it.
func (t *goTable) startLine(addr uint64) int {
	i := t.find(addr)
	if i < 0 || t.version < go120 {
		return 0
	}
	line, _ := t.desc(i, 9)
	return int(max(int32(line), 0))
}

// value decodes a table of pairs, the change of the value and of the address,
// up to the address; -1 means that it has none.
func (t *goTable) value(i int, off uint32, addr uint64) int32 {
	if off == 0 {
		return -1
	}
	const most = 1 << 20 // bytes of such a table
	start := t.values + int64(off)
	r := bufio.NewReaderSize(io.NewSectionReader(t.r, start, most), 256)
	pc, value := t.entry(i), int32(-1)
	for first := true; ; first = false {
		delta, err := binary.ReadUvarint(r)
		if err != nil || delta == 0 && !first {
			return -1
		}
		step, err := binary.ReadUvarint(r)
		if err != nil {
			return -1
		}
		value += int32(uint32(delta)>>1) ^ -int32(delta&1)
		if pc += step * t.quantum; addr < pc {
			return value
		}
	}
}
