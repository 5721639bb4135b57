package symbol

import (
	"debug/elf"
	"io"
	"iter"
	"math"
	"sort"
)

// Limits on what is read of a file without section headers.
const (
	maxDynamic = 1 << 16   // bytes
	maxScanned = 128 << 20 // bytes, of all segments
	maxTries   = 16        // places that look like what is looked for
)

// withoutSections is a file as if it had no section headers. Those are for linkers and
// debuggers: a program whose are damaged, overwritten or cut off runs all the same.
type withoutSections struct {
	r    io.ReaderAt
	head [64]byte
	n    int
}

// noSections hides the section headers of a file from debug/elf.
func noSections(r io.ReaderAt) io.ReaderAt {
	w := &withoutSections{r: r}
	w.n, _ = r.ReadAt(w.head[:], 0)
	if elf.Class(w.head[elf.EI_CLASS]) == elf.ELFCLASS64 {
		clear(w.head[40:48]) // e_shoff
		clear(w.head[60:64]) // e_shnum, e_shstrndx
	} else {
		clear(w.head[32:36])
		clear(w.head[48:52])
	}
	return w
}

func (w *withoutSections) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.r.ReadAt(p, off)
	if off >= 0 && off < int64(w.n) {
		copy(p[:n], w.head[off:w.n])
	}
	return n, err
}

// misplaced reports whether the section headers have no code where the segments have
// it: there are none, or they are not this file's.
func (h *header) misplaced() bool {
	runs := h.executable()
	for _, s := range h.code {
		for _, r := range runs {
			if s.start < r.end && r.start < s.end {
				return false
			}
		}
	}
	return len(runs) > 0
}

// executable returns the addresses of the segments with code.
func (h *header) executable() []span {
	var all []span
	for _, p := range h.file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && p.Vaddr+p.Memsz > p.Vaddr {
			all = append(all, span{p.Vaddr, p.Vaddr + p.Memsz})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].start < all[j].start })
	return all
}

// fromSegments makes up the sections that the segments tell of: what the dynamic linker
// uses to find symbols, and Go's function table.
func (h *header) fromSegments() {
	h.code = h.executable()
	h.file.Sections = []*elf.Section{{}}
	at := h.dynamic()
	h.dynamicSymbols(at)
	addr := at[elf.DT_RELA] //nolint:misspell // the name in the standard library
	if s := h.made(".rela.dyn", relocationType, addr, at[elf.DT_RELASZ]); s != nil && addr != 0 {
		h.file.Sections = append(h.file.Sections, s)
	}
	h.pclntab = h.scanGo(h.scanSegments(elf.PF_R, h.beginsGo))
}

// made is a section of what is mapped at an address.
func (h *header) made(name string, kind elf.SectionType, addr, size uint64) *elf.Section {
	for _, p := range h.file.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr >= p.Filesz {
			continue
		}
		size = min(size, p.Filesz-(addr-p.Vaddr))
		return &elf.Section{
			SectionHeader: elf.SectionHeader{Name: name, Type: kind, Flags: elf.SHF_ALLOC, Addr: addr, Size: size, FileSize: size},
			ReaderAt:      io.NewSectionReader(p, int64(addr-p.Vaddr), int64(size)),
		}
	}
	return nil
}

// dynamicSymbols makes up .dynsym and .dynstr.
func (h *header) dynamicSymbols(at map[elf.DynTag]uint64) {
	if at[elf.DT_STRTAB] == 0 || at[elf.DT_SYMTAB] == 0 {
		return
	}
	names := h.made(".dynstr", elf.SHT_STRTAB, at[elf.DT_STRTAB], at[elf.DT_STRSZ])
	entry := uint64(elf.Sym32Size)
	if h.is64 {
		entry = elf.Sym64Size
	}
	symbols := h.made(".dynsym", elf.SHT_DYNSYM, at[elf.DT_SYMTAB], h.symbolCount(at)*entry)
	if names == nil || symbols == nil {
		return
	}
	symbols.Link = uint32(len(h.file.Sections))
	h.file.Sections = append(h.file.Sections, names, symbols)
}

// dynamic reads the values that the file has for the dynamic linker.
func (h *header) dynamic() map[elf.DynTag]uint64 {
	at := make(map[elf.DynTag]uint64)
	for _, p := range h.file.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		b := make([]byte, min(p.Filesz, maxDynamic))
		n, _ := p.ReadAt(b, 0)
		c := cursor{b: b[:n], order: h.order}
		for {
			tag, value := elf.DynTag(c.offset(h.is64)), c.offset(h.is64)
			if c.bad || tag == elf.DT_NULL {
				return at
			}
			at[tag] = value
		}
	}
	return at
}

// symbolCount returns how many dynamic symbols there are. No value says it, but the hash
// table of them does: the older form in its header, the newer one by where the chain
// of the last bucket ends.
func (h *header) symbolCount(at map[elf.DynTag]uint64) uint64 {
	word := func(s *elf.Section, off uint64) uint32 {
		var b [4]byte
		if n, _ := s.ReadAt(b[:], int64(off)); n < len(b) {
			return 0
		}
		return h.order.Uint32(b[:])
	}
	if addr := at[elf.DT_HASH]; addr != 0 {
		if s := h.made("", elf.SHT_HASH, addr, 8); s != nil {
			return min(uint64(word(s, 4)), maxSymbols)
		}
	}
	s := h.made("", elf.SHT_GNU_HASH, at[elf.DT_GNU_HASH], math.MaxUint64)
	if s == nil || at[elf.DT_GNU_HASH] == 0 {
		return 0
	}
	wordSize := uint64(4)
	if h.is64 {
		wordSize = 8
	}
	buckets, first := uint64(word(s, 0)), uint64(word(s, 4))
	off := 16 + uint64(word(s, 8))*wordSize
	if buckets > maxSymbols {
		return 0
	}
	b := make([]byte, min(buckets*4, s.Size))
	n, _ := s.ReadAt(b, int64(off))
	var last uint64
	for b = b[:n&^3]; len(b) > 0; b = b[4:] {
		last = max(last, uint64(h.order.Uint32(b)))
	}
	if last < first {
		return 0 // none is exported
	}
	for chain := off + buckets*4; last < maxSymbols; last++ {
		end := word(s, chain+(last-first)*4)
		if end&1 != 0 {
			return last + 1
		}
		if end == 0 {
			break // past the end
		}
	}
	return 0
}

// scanGo returns Go's function table if it is at one of the addresses.
func (h *header) scanGo(addrs iter.Seq[uint64]) *elf.Section {
	tries := maxTries
	for addr := range addrs {
		if tries--; tries < 0 {
			break
		}
		s := h.made(".gopclntab", elf.SHT_PROGBITS, addr, math.MaxUint64)
		if s != nil && parseGo(s, int64(s.Size), h.order) != nil {
			return s
		}
	}
	return nil
}

// scanSegments yields the addresses of words that match in segments with some flags.
func (h *header) scanSegments(flags elf.ProgFlag, match func(word []byte) bool) iter.Seq[uint64] {
	return func(yield func(addr uint64) bool) {
		left := uint64(maxScanned)
		for _, p := range h.file.Progs {
			if p.Type != elf.PT_LOAD || p.Flags&flags != flags {
				continue
			}
			for addr := range scan(p, p.Vaddr, min(p.Filesz, left), match) {
				if !yield(addr) {
					return
				}
			}
			left -= min(p.Filesz, left)
		}
	}
}

// scan yields the addresses of words of 8 bytes that match in what is mapped at addr.
func scan(r io.ReaderAt, addr, size uint64, match func(word []byte) bool) iter.Seq[uint64] {
	return func(yield func(addr uint64) bool) {
		const chunk, word = 1 << 20, 8
		size = min(size, maxScanned)
		buf := make([]byte, min(chunk, size)&^(word-1))
		for off := uint64(0); off+word <= size; off += uint64(len(buf)) {
			n, _ := r.ReadAt(buf, int64(off))
			for i := 0; i+word <= n; i += word {
				if match(buf[i:i+word]) && !yield(addr+off+uint64(i)) {
					return
				}
			}
			if n < len(buf) {
				return
			}
		}
	}
}
