package symbol

import (
	"debug/elf"
	"encoding/binary"
	"iter"
	"slices"
	"sort"
)

const (
	maxStubBytes   = 8 << 20
	maxRelocations = 4 << 20
)

// stub is one entry of a procedure linkage table.
type stub struct {
	start, end uint64
	name       string // of the function, as the linker has it
}

// inStubs reports whether addr is in a procedure linkage table.
func (h *header) inStubs(addr uint64) bool {
	for _, s := range h.stubs {
		if s.Addr <= addr && addr-s.Addr < s.Size {
			return true
		}
	}
	return false
}

func isStubs(s *elf.Section) bool {
	switch s.Name {
	case ".plt", ".plt.sec", ".plt.got", ".iplt":
		return s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_EXECINSTR != 0
	}
	return false
}

// readStubs names the stubs. The order of relocations is a convention that
// linkers do not all keep, so the slot that a stub jumps through is read from its
// instructions, and the relocation of that slot says which function it is.
func (m *Module) readStubs() []stub {
	h := m.head
	if !h.is64 || h.machine != elf.EM_X86_64 && h.machine != elf.EM_AARCH64 {
		return nil
	}
	slots := m.readSlots()
	var all []stub
	for _, s := range h.stubs {
		code := contents(s, maxStubBytes)
		add := func(start, end, slot uint64) {
			if name := slots[slot]; name != "" {
				all = append(all, stub{start, end, name})
				m.bytes.Add(int64(len(name)) + 40)
			}
		}
		if h.machine == elf.EM_X86_64 {
			stubsX86(code, s.Addr, s.Entsize, add)
		} else {
			stubsARM64(code, s.Addr, add)
		}
	}
	slices.SortFunc(all, func(a, b stub) int {
		if a.start < b.start {
			return -1
		}
		return 1
	})
	return all
}

// stubsX86 finds "jmp *slot(%rip)", after an endbr64 or with a bnd prefix.
func stubsX86(code []byte, addr, entry uint64, add func(start, end, slot uint64)) {
	if entry != 8 {
		entry = 16
	}
	for i := uint64(0); i+entry <= uint64(len(code)); i += entry {
		b := code[i : i+entry]
		for at := range 6 {
			if at+6 <= len(b) && b[at] == 0xff && b[at+1] == 0x25 {
				disp := uint64(int64(int32(binary.LittleEndian.Uint32(b[at+2:]))))
				add(addr+i, addr+i+entry, addr+i+uint64(at)+6+disp)
				break
			}
		}
	}
}

// stubsARM64 finds "adrp x16, page; ldr x17, [x16, #offset]", after a bti.
func stubsARM64(code []byte, addr uint64, add func(start, end, slot uint64)) {
	const btiC = 0xd503245f
	for i := 0; i+16 <= len(code); i += 4 {
		adrp, ldr := binary.LittleEndian.Uint32(code[i:]), binary.LittleEndian.Uint32(code[i+4:])
		if adrp&0x9f00001f != 0x90000010 || ldr&0xffc003ff != 0xf9400211 {
			continue
		}
		pages := int64(int32(adrp>>5&0x7ffff<<2|adrp>>29&3)<<11) >> 11
		pc := addr + uint64(i)
		slot := pc&^0xfff + uint64(pages<<12) + uint64(ldr>>10&0xfff)*8
		start := pc
		if i >= 4 && binary.LittleEndian.Uint32(code[i-4:]) == btiC {
			start -= 4
		}
		add(start, pc+16, slot)
	}
}

// relocationType is that of the sections with relocations which have an addend.
const relocationType = elf.SHT_RELA //nolint:misspell // the name in the standard library

// relocation is what the dynamic linker puts at an address.
type relocation struct {
	at, info, addend uint64
	symbols          *elf.Section // may be nil
}

// relative reports whether what is put there is an address of the file itself, the
// addend.
func (r *relocation) relative(m elf.Machine) bool {
	switch m {
	case elf.EM_X86_64:
		return elf.R_X86_64(uint32(r.info)) == elf.R_X86_64_RELATIVE
	case elf.EM_AARCH64:
		return elf.R_AARCH64(uint32(r.info)) == elf.R_AARCH64_RELATIVE
	}
	return false
}

// relocations yields what the dynamic linker will do to a 64-bit program.
func (h *header) relocations() iter.Seq[*relocation] {
	return func(yield func(*relocation) bool) {
		left := uint64(maxRelocations)
		for _, s := range h.file.Sections {
			const entry = 24
			if s.Type != relocationType || s.Flags&elf.SHF_ALLOC == 0 || !plain(s) || s.Size/entry > left {
				continue
			}
			left -= s.Size / entry
			r := relocation{symbols: h.linked(s)}
			chunk := make([]byte, min(s.Size, 4096*entry)/entry*entry)
			for done := uint64(0); len(chunk) > 0 && done+entry <= s.Size; done += uint64(len(chunk)) {
				chunk = chunk[:min(uint64(len(chunk)), (s.Size-done)/entry*entry)]
				if n, _ := s.ReadAt(chunk, int64(done)); n < len(chunk) {
					break
				}
				for b := chunk; len(b) > 0; b = b[entry:] {
					r.at, r.info, r.addend = h.order.Uint64(b), h.order.Uint64(b[8:]), h.order.Uint64(b[16:])
					if !yield(&r) {
						return
					}
				}
			}
		}
	}
}

// readSlots returns the functions whose addresses the dynamic linker puts into
// slots, by the slots' addresses.
func (m *Module) readSlots() map[uint64]string {
	slots := make(map[uint64]string)
	for r := range m.head.relocations() {
		if name := m.target(r.symbols, r.info, r.addend); name != "" {
			slots[r.at] = name
		}
	}
	return slots
}

// target names what a relocation resolves to, when it is one for a slot.
func (m *Module) target(symtab *elf.Section, info, addend uint64) string {
	kind, index := uint32(info), info>>32
	var slot, indirect bool
	if m.head.machine == elf.EM_X86_64 {
		r := elf.R_X86_64(kind)
		slot, indirect = r == elf.R_X86_64_JMP_SLOT || r == elf.R_X86_64_GLOB_DAT, r == elf.R_X86_64_IRELATIVE
	} else {
		r := elf.R_AARCH64(kind)
		slot, indirect = r == elf.R_AARCH64_JUMP_SLOT || r == elf.R_AARCH64_GLOB_DAT, r == elf.R_AARCH64_IRELATIVE
	}
	if indirect {
		if m.head.inStubs(addend) {
			return "" // it would look for its own name
		}
		fn, _ := m.function(addend)
		return fn.Linkage
	}
	if !slot || symtab == nil || symtab.Type != elf.SHT_DYNSYM {
		return ""
	}
	names := m.head.linked(symtab)
	var b [elf.Sym64Size]byte
	if n, _ := symtab.ReadAt(b[:], int64(index*elf.Sym64Size)); names == nil || n < len(b) {
		return ""
	}
	return readString(names, int64(m.head.order.Uint32(b[:])))
}

func findStub(all []stub, addr uint64) (Function, bool) {
	i := sort.Search(len(all), func(i int) bool { return all[i].start > addr }) - 1
	if i < 0 || addr >= all[i].end {
		return Function{}, false
	}
	const suffix = "@plt"
	s := all[i]
	return Function{
		Name: demangled(s.name) + suffix, Linkage: s.name + suffix, Start: s.start, Size: s.end - s.start, From: FromPLT,
	}, true
}
