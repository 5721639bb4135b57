package symbol

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// Variables returns the addresses, in the file's own numbering, of variables by the names
// that the linker has for them. Those that are not in the symbol table of the file, or of
// its debug file, are left out. Nothing of it is kept.
func (m *Module) Variables(names ...string) map[string]uint64 {
	m.begin()
	defer m.end()
	found := make(map[string]uint64)
	if m.closed {
		return found
	}
	guard(func() {
		if m.variables(m.head, names, found); len(found) > 0 {
			return
		}
		if d := m.debugFile(); d != nil {
			m.variables(d.head, names, found)
		}
	})
	return found
}

// variables looks in the symbol table of one file.
func (m *Module) variables(h *header, names []string, found map[string]uint64) {
	at := slices.IndexFunc(h.file.Sections, func(s *elf.Section) bool { return s.Type == elf.SHT_SYMTAB })
	if at < 0 || !h.is64 || !plain(h.file.Sections[at]) {
		return
	}
	table := h.file.Sections[at]
	linked := h.linked(table)
	if linked == nil {
		return
	}
	if table.Size/elf.Sym64Size > maxSymbols {
		m.refuse(table)
		return
	}
	byOffset := m.offsetsOf(linked, names)
	if len(byOffset) == 0 {
		return
	}
	var b [(1 << 12) * elf.Sym64Size]byte
	for off := uint64(0); off < table.Size; off += uint64(len(b)) {
		chunk := b[:min(uint64(len(b)), table.Size-off)]
		if n, _ := table.ReadAt(chunk, int64(off)); n < len(chunk) || !m.steps(len(chunk)/elf.Sym64Size) {
			return
		}
		for ; len(chunk) >= elf.Sym64Size; chunk = chunk[elf.Sym64Size:] {
			name, ok := byOffset[h.order.Uint32(chunk)]
			if ok && elf.ST_TYPE(chunk[4]) == elf.STT_OBJECT && h.order.Uint16(chunk[6:]) != uint16(elf.SHN_UNDEF) {
				found[name] = h.order.Uint64(chunk[8:])
			}
		}
	}
}

// Data returns where the module has variables, and from where to where it reaches, in the
// file's own numbering.
func (m *Module) Data() (data []procmaps.Range, image procmaps.Range) {
	image.Start = ^uint64(0)
	for _, p := range m.head.file.Progs {
		if p.Type != elf.PT_LOAD || p.Vaddr+p.Memsz <= p.Vaddr {
			continue
		}
		r := procmaps.Range{Start: p.Vaddr, End: p.Vaddr + p.Memsz}
		image.Start, image.End = min(image.Start, r.Start), max(image.End, r.End)
		if p.Flags&elf.PF_W != 0 {
			data = append(data, r)
		}
	}
	image.Start = min(image.Start, image.End)
	return data, image
}

// Initialized returns the addresses of the words of 8 bytes that the file says variables
// begin with a value in, the first few of them: not those of what the dynamic linker
// protects from writes.
func (m *Module) Initialized(value uint64, most int) (at []uint64) {
	m.begin()
	defer m.end()
	if m.closed {
		return nil
	}
	guard(func() {
		for addr := range m.head.scanSegments(elf.PF_W, func(word []byte) bool { return m.head.order.Uint64(word) == value }) {
			if len(at) == most {
				return
			}
			if !m.head.protected(addr) {
				at = append(at, addr)
			}
		}
	})
	return at
}

// protected tells whether what is at an address cannot be written once the file is loaded.
func (h *header) protected(addr uint64) bool {
	return slices.ContainsFunc(h.file.Progs, func(p *elf.Prog) bool {
		return p.Type == elf.PT_GNU_RELRO && addr >= p.Vaddr && addr-p.Vaddr < p.Memsz
	})
}

// HasGoFunction reports whether Go's function table has the name of a function, also of one
// that is there only inlined into others. The name is read of every program, stripped or
// not.
func (m *Module) HasGoFunction(name string) (ok bool) {
	m.begin()
	defer m.end()
	if m.closed {
		return false
	}
	guard(func() {
		if t := m.goTable(); t != nil {
			ok = m.goNamed(t, name)
		}
	})
	return ok
}

// goNamed looks for a name between the zero bytes that end names.
func (m *Module) goNamed(t *goTable, name string) bool {
	want := "\x00" + name + "\x00"
	// Before Go 1.16 names are anywhere in the table.
	start, end := t.names, int64(m.head.pclntab.Size)
	if t.version >= go116 && t.units > start {
		end = min(end, t.units)
	}
	const chunk = 1 << 20
	b := make([]byte, min(chunk, max(end-start, 0)))
	for off := start; off+int64(len(want)) <= end; off += int64(len(b) - len(want) + 1) {
		n, _ := t.r.ReadAt(b[:min(int64(len(b)), end-off)], off)
		if bytes.Contains(b[:n], []byte(want)) {
			return true
		}
		if n < len(b) || !m.steps(1) {
			break
		}
	}
	return false
}
