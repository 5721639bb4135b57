package symbol

import (
	"bufio"
	"encoding/binary"
	"io"
	"sort"
	"strings"
)

// goTable is the function table of a Go program, which its runtime needs and
// which stripping leaves. The format is that of Go 1.18 and later; its reader in
// the runtime is symtab.go, in the standard library debug/gosym/pclntab.go.
//
// Inlined calls are not in it in a form that could be read without the program's
// own addresses: the position of an inlined call comes with the name of the
// function it was inlined into.
type goTable struct {
	r                                  io.ReaderAt
	order                              binary.ByteOrder
	starts                             bool   // descriptions have the line of the function: since Go 1.20
	text                               uint64 // where the addresses count from
	quantum                            uint64
	funcs                              []byte // pairs of uint32: offset from text, offset of the description
	n                                  int
	names, units, files, values, descs int64
}

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
	const (
		magic118 = 0xfffffff0
		magic120 = 0xfffffff1
		word     = 8
	)
	var b [8 + 8*word]byte
	if n, _ := r.ReadAt(b[:], 0); n < len(b) || b[7] != word {
		return nil
	}
	magic := order.Uint32(b[:])
	if magic != magic118 && magic != magic120 {
		return nil
	}
	at := func(i int) int64 { return int64(order.Uint64(b[8+i*word:])) }
	t := &goTable{
		r: r, order: order, starts: magic == magic120, quantum: uint64(b[6]), text: uint64(at(2)),
		names: at(3), units: at(4), files: at(5), values: at(6), descs: at(7),
	}
	n := at(0)
	if n <= 0 || n > maxSymbols || t.descs < 0 || t.descs > size-(n*8+4) {
		return nil
	}
	t.n = int(n)
	t.funcs = make([]byte, n*8+4)
	if got, _ := r.ReadAt(t.funcs, t.descs); got < len(t.funcs) {
		return nil
	}
	return t
}

// placeGo finds the address that the table counts from, runtime.text. Since Go
// 1.26 the runtime's description of the module has a section to itself; before,
// the table's own header said it, unless it was to be relocated. What is left is
// the start of .text, which is right when the entry point then has its name: C
// code that comes first has another entry point.
func (m *Module) placeGo(t *goTable) bool {
	header := t.text
	const (
		word      = 8
		textField = 22 // runtime/symtab.go: moduledata.text, in words
	)
	if b := contents(m.head.section(".go.module"), 1<<16); len(b) >= (textField+1)*word {
		if t.order.Uint64(b) == m.head.pclntab.Addr {
			if t.text = t.order.Uint64(b[textField*word:]); covered(m.head.code, t.text) {
				return true
			}
		}
	}
	if t.text = header; covered(m.head.code, header) {
		return true
	}
	s := m.head.section(".text")
	if s == nil {
		return false
	}
	t.text = s.Addr
	fn, ok := t.function(m.head.file.Entry)
	return ok && strings.HasPrefix(fn.Name, "_rt0_")
}

func (t *goTable) entry(i int) uint64 { return t.text + uint64(t.order.Uint32(t.funcs[i*8:])) }

// find returns the index of the function at addr, or -1.
func (t *goTable) find(addr uint64) int {
	if addr < t.entry(0) || addr >= t.entry(t.n) {
		return -1
	}
	return sort.Search(t.n, func(i int) bool { return t.entry(i) > addr }) - 1
}

// desc returns a field of a function's description, which are all uint32.
func (t *goTable) desc(i, field int) (uint32, bool) {
	return t.uint32(t.descs + int64(t.order.Uint32(t.funcs[i*8+4:])) + int64(field)*4)
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
	unit, ok3 := t.desc(i, 8)
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
	if i < 0 || !t.starts {
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
