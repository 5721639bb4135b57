package symbol

import (
	"debug/elf"
	"io"
	"iter"
	"math"
)

// maxScanned is how many bytes are looked at for what has no section to itself.
const maxScanned = 256 << 20

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

// scanGo looks for Go's function table in what is mapped at an address.
func (h *header) scanGo(r io.ReaderAt, addr, size uint64) *elf.Section {
	for off := range scan(r, size, func(word []byte) bool { return goVersion(word, h.order) != 0 }) {
		s := h.made(".gopclntab", elf.SHT_PROGBITS, addr+off, math.MaxUint64)
		if s != nil && parseGo(s, int64(s.Size), h.order) != nil {
			return s
		}
	}
	return nil
}

// scan yields where words of 8 bytes match.
func scan(r io.ReaderAt, size uint64, match func(word []byte) bool) iter.Seq[uint64] {
	return func(yield func(off uint64) bool) {
		const chunk, word = 1 << 20, 8
		size = min(size, maxScanned)
		buf := make([]byte, min(chunk, size)&^(word-1))
		for off := uint64(0); off+word <= size; off += uint64(len(buf)) {
			n, _ := r.ReadAt(buf, int64(off))
			for i := 0; i+word <= n; i += word {
				if match(buf[i:i+word]) && !yield(off+uint64(i)) {
					return
				}
			}
			if n < len(buf) {
				return
			}
		}
	}
}
