package symbol

import (
	"cmp"
	"debug/elf"
	"io"
	"slices"
	"sort"
	"strings"
	"unsafe"
)

// symbols is a symbol table: the functions, by address. The names stay in the
// file and are read when they are wanted.
type symbols struct {
	syms  []sym
	names io.ReaderAt
	from  Source
}

// sym is one symbol. The bytes [start,end) are its own.
type sym struct {
	start, end uint64
	name       uint32 // offset in the string table
	rank       uint8  // lower is the better name for the same address
}

const symBytes = int64(unsafe.Sizeof(sym{}))

// order is by address, what encloses others first.
func (s sym) order(b sym) int {
	return cmp.Or(cmp.Compare(s.start, b.start), cmp.Compare(b.end, s.end), cmp.Compare(s.rank, b.rank))
}

// rankLabel is added to the rank of symbols without a type.
const rankLabel = 4

// How far back a lookup goes past symbols that end before the address, in
// case an earlier one encloses them.
const maxNested = 64

// How many names of one address are compared.
const maxAliases = 16

// readSymbols reads the first symbol table of a type; nil when there is none.
func (m *Module) readSymbols(h *header, kind elf.SectionType, from Source) *symbols {
	var table *elf.Section
	for _, s := range h.file.Sections {
		if s.Type == kind {
			table = s
			break
		}
	}
	if table == nil || !plain(table) {
		return nil
	}
	names := h.linked(table)
	if names == nil || names.Type != elf.SHT_STRTAB {
		return nil
	}
	entry := elf.Sym32Size
	if h.is64 {
		entry = elf.Sym64Size
	}
	if table.Size/uint64(entry) > maxSymbols {
		m.refuse(table)
		return nil
	}
	// It is read twice: of a table as large as can be, what is left behind as a slice grows
	// would take more than the slice.
	functions := 0
	if !m.eachFunction(h, table, entry, func(sym) { functions++ }) {
		return nil
	}
	held := int64(functions) * symBytes
	if held > m.opts.MaxTable {
		m.refuse(table)
		return nil
	}
	if m.cache != nil {
		m.cache.expect(m, held)
	}
	t := &symbols{syms: make([]sym, 0, functions), names: names, from: from}
	if !m.eachFunction(h, table, entry, func(s sym) { t.syms = append(t.syms, s) }) {
		return nil
	}
	if len(t.syms) == 0 {
		return nil
	}
	if !sortPaid(m, slices.SortFunc, t.syms, sym.order) {
		return nil
	}
	t.syms = h.bound(t.syms, kind == elf.SHT_SYMTAB)
	if h.machine == elf.EM_AARCH64 || h.machine == elf.EM_ARM {
		// There $x, $d and the like mark where code and data begin.
		t.syms = slices.DeleteFunc(t.syms, func(s sym) bool {
			return s.rank >= rankLabel && strings.HasPrefix(readString(names, int64(s.name)), "$")
		})
	}
	t.syms = slices.Clip(t.syms)
	m.bytes.Add(int64(len(t.syms)) * symBytes)
	return t
}

// eachFunction calls add for what may name code in a symbol table, whose entries have a
// size in bytes, and reports whether all of it could be read.
func (m *Module) eachFunction(h *header, table *elf.Section, entry int, add func(sym)) bool {
	count := table.Size / uint64(entry)
	chunk := make([]byte, min(int(count), 1<<12)*entry)
	for done := uint64(0); done < count && len(chunk) > 0; {
		chunk = chunk[:min(uint64(len(chunk)), (count-done)*uint64(entry))]
		if n, _ := table.ReadAt(chunk, int64(done)*int64(entry)); n < len(chunk) || !m.steps(len(chunk)/entry) {
			return false
		}
		for b := chunk; len(b) > 0; b = b[entry:] {
			if s, ok := h.function(b); ok {
				add(s)
			}
		}
		done += uint64(len(chunk) / entry)
	}
	return true
}

// function decodes a symbol, and reports whether it may name code.
func (h *header) function(b []byte) (sym, bool) {
	var s sym
	var info uint8
	var shndx uint16
	var size uint64
	s.name = h.order.Uint32(b)
	if h.is64 {
		info, shndx = b[4], h.order.Uint16(b[6:])
		s.start, size = h.order.Uint64(b[8:]), h.order.Uint64(b[16:])
	} else {
		s.start, size = uint64(h.order.Uint32(b[4:])), uint64(h.order.Uint32(b[8:]))
		info, shndx = b[12], h.order.Uint16(b[14:])
	}
	kind := elf.ST_TYPE(info)
	const gnuIFunc = elf.STT_LOOS
	if kind != elf.STT_FUNC && kind != gnuIFunc && kind != elf.STT_NOTYPE || shndx == uint16(elf.SHN_UNDEF) || s.name == 0 {
		return s, false
	}
	if h.machine == elf.EM_ARM {
		s.start &^= 1 // the Thumb bit
	}
	in, ok := spanOf(h.code, s.start)
	if !ok {
		return s, false
	}
	s.end = s.start + min(size, in.end-s.start)
	if kind == elf.STT_NOTYPE {
		s.rank = rankLabel
	}
	switch elf.ST_BIND(info) {
	case elf.STB_GLOBAL:
	case elf.STB_WEAK:
		s.rank++
	default:
		s.rank += 2
	}
	return s, true
}

// bound takes symbols in order, and ends those without a size, as assembly has them,
// at the next symbol or the end of their section. It drops those that are labels
// inside another; and all of them when the table is not complete, since the next
// symbol then says nothing.
func (h *header) bound(syms []sym, complete bool) []sym {
	kept := syms[:0]
	var reach uint64 // where the sized symbols so far end
	next := 0        // the first symbol with another start
	for i, s := range syms {
		if s.end > s.start {
			reach = max(reach, s.end)
			kept = append(kept, s)
			continue
		}
		if !complete || s.start < reach {
			continue
		}
		for next = max(next, i); next < len(syms) && syms[next].start == s.start; next++ {
		}
		in, _ := spanOf(h.code, s.start)
		s.end = in.end
		if next < len(syms) {
			s.end = min(s.end, syms[next].start)
		}
		kept = append(kept, s)
	}
	return kept
}

// find returns the index of the innermost symbol that covers addr, or -1. It may
// have better names.
func (t *symbols) find(addr uint64) int {
	if t == nil {
		return -1
	}
	i := sort.Search(len(t.syms), func(i int) bool { return t.syms[i].start > addr }) - 1
	for n := 0; i >= 0 && n < maxNested; i, n = i-1, n+1 {
		if addr < t.syms[i].end {
			return i
		}
	}
	return -1
}

// best chooses among the symbols that begin where the i-th does: a function before a label, few
// leading underscores, global before weak before local, short. So it is malloc
// and not __libc_malloc.
func (t *symbols) best(i int, addr uint64) int {
	first := i
	for first > 0 && i-first < maxAliases && t.syms[first-1].start == t.syms[i].start {
		first--
	}
	if first == i {
		return i
	}
	chosen, name := -1, ""
	for k := first; k <= i; k++ {
		if addr >= t.syms[k].end {
			continue
		}
		n := t.name(k)
		if n == "" {
			continue
		}
		if chosen < 0 || better(t.syms[k], n, t.syms[chosen], name) {
			chosen, name = k, n
		}
	}
	return chosen
}

func better(a sym, an string, b sym, bn string) bool {
	underscores := func(s string) int { return len(s) - len(strings.TrimLeft(s, "_")) }
	return cmp.Or(
		cmp.Compare(a.rank/rankLabel, b.rank/rankLabel),
		cmp.Compare(underscores(an), underscores(bn)),
		cmp.Compare(a.rank, b.rank),
		cmp.Compare(len(an), len(bn)),
		cmp.Compare(an, bn),
	) < 0
}

// name reads a symbol's name, without the version that some tables append to it.
func (t *symbols) name(i int) string {
	name := readString(t.names, int64(t.syms[i].name))
	if at := strings.IndexByte(name, '@'); at > 0 {
		name = name[:at]
	}
	return name
}
