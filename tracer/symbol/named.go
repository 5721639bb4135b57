package symbol

import (
	"bytes"
	"cmp"
	"debug/elf"
	"io"
	"slices"
)

// Named is a function that was found by its name.
type Named struct {
	Name   string
	Offset uint64 // where its code begins in the file, bytes
	Size   uint64 // of its code, bytes; 0 if that is not known
}

// Named finds functions by the names that the linker has for them, in the order of where
// they are: those that the file exports, and, with all set, those of its own symbol table as
// well. Names without their versions; one place may have several.
func (m *Module) Named(names []string, all bool) (found []Named) {
	m.begin()
	defer m.end()
	if m.closed {
		return nil
	}
	guard(func() {
		tables := []*symbols{load(&m.dynsym, func() *symbols { return m.readSymbols(m.head, elf.SHT_DYNSYM, FromDynsym) })}
		if all {
			own := load(&m.symtab, func() *symbols { return m.readSymbols(m.head, elf.SHT_SYMTAB, FromSymtab) })
			if own == nil {
				own = load(&m.mini, m.readMini)
			}
			tables = append(tables, own)
		}
		for _, t := range tables {
			found = append(found, m.namedIn(t, names)...)
		}
	})
	slices.SortFunc(found, func(a, b Named) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(found)
}

// Code reads what is at an offset in the file, as far as it goes.
func (m *Module) Code(offset uint64, buf []byte) []byte {
	m.begin()
	defer m.end()
	if m.closed {
		return nil
	}
	n, _ := m.r.ReadAt(buf, int64(offset))
	return buf[:n]
}

// namedIn searches one table. The names are not looked up one by one, which for a large
// table takes long, but searched for where they all are.
func (m *Module) namedIn(t *symbols, names []string) (found []Named) {
	if t == nil {
		return nil
	}
	at := m.offsetsOf(t.names, names)
	for i := range t.syms {
		name, ok := at[t.syms[i].name]
		if !ok {
			continue
		}
		for _, p := range m.head.file.Progs {
			if p.Type == elf.PT_LOAD && t.syms[i].start-p.Vaddr < p.Filesz {
				found = append(found, Named{name, t.syms[i].start - p.Vaddr + p.Off, t.syms[i].end - t.syms[i].start})
				break
			}
		}
	}
	return found
}

// offsetsOf finds where names are in the strings of a table. One may be the end of another.
func (m *Module) offsetsOf(table io.ReaderAt, names []string) map[uint32]string {
	const chunk = 1 << 20
	byEnd := make(map[byte][]string) // by their last byte
	for _, n := range names {
		byEnd[n[len(n)-1]] = append(byEnd[n[len(n)-1]], n)
	}
	at := make(map[uint32]string)
	buf := make([]byte, chunk+maxNamed)
	kept := 0 // bytes of buf that were there before
	for off := int64(0); off < maxStrings; {
		n, _ := table.ReadAt(buf[kept:kept+chunk], off)
		if n == 0 || !m.steps(n/symSteps+1) {
			break
		}
		text := buf[:kept+n]
		for i := kept; ; i++ {
			end := bytes.IndexByte(text[i:], 0)
			if end < 0 {
				break
			}
			i += end
			if i == 0 {
				continue
			}
			for _, name := range byEnd[text[i-1]] {
				if bytes.HasSuffix(text[:i], []byte(name)) {
					at[uint32(off)+uint32(i-kept)-uint32(len(name))] = name
				}
			}
		}
		off += int64(n)
		kept = copy(buf, text[max(0, len(text)-maxNamed):])
	}
	return at
}

const (
	maxNamed   = 256     // bytes of a name that is searched for
	maxStrings = 1 << 30 // bytes of all names
	symSteps   = 64      // bytes of names that take about as long as a symbol
)
