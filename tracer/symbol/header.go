package symbol

import (
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"
)

// section returns the section of a name, if it has content.
func (h *header) section(name string) *elf.Section {
	for _, s := range h.file.Sections {
		if s.Name == name && s.Type != elf.SHT_NOBITS {
			return s
		}
	}
	return nil
}

// plain reports whether a section can be read as it is: debug/elf gives one that
// is compressed no reader.
func plain(s *elf.Section) bool {
	return s.Type != elf.SHT_NOBITS && s.Flags&elf.SHF_COMPRESSED == 0 && s.ReaderAt != nil
}

// linked returns the section that another refers to, if it can be read.
func (h *header) linked(s *elf.Section) *elf.Section {
	if int64(s.Link) >= int64(len(h.file.Sections)) || !plain(h.file.Sections[s.Link]) {
		return nil
	}
	return h.file.Sections[s.Link]
}

// contents reads a small uncompressed section.
func contents(s *elf.Section, limit uint64) []byte {
	if s == nil || !plain(s) || s.Size > limit {
		return nil
	}
	b := make([]byte, s.Size)
	if n, _ := s.ReadAt(b, 0); n < len(b) {
		return nil
	}
	return b
}

// buildID finds the note in the segments, or in the sections of debug files,
// whose segments have no content.
func (h *header) buildID() string {
	for _, p := range h.file.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNote {
			continue
		}
		b := make([]byte, p.Filesz)
		if n, _ := p.ReadAt(b, 0); n == len(b) {
			if id := noteBuildID(b, p.Align, h.order); id != "" {
				return id
			}
		}
	}
	for _, s := range h.file.Sections {
		if s.Type != elf.SHT_NOTE {
			continue
		}
		if id := noteBuildID(contents(s, maxNote), s.Addralign, h.order); id != "" {
			return id
		}
	}
	return ""
}

// noteBuildID finds NT_GNU_BUILD_ID in the content of a note segment.
func noteBuildID(b []byte, align uint64, order binary.ByteOrder) string {
	const typeBuildID = 3
	if align != 8 {
		align = 4
	}
	pad := func(n uint32) uint64 { return (uint64(n) + align - 1) &^ (align - 1) }
	for len(b) >= 12 {
		nameLen, descLen, kind := order.Uint32(b), order.Uint32(b[4:]), order.Uint32(b[8:])
		desc := 12 + pad(nameLen)
		if align == 8 {
			desc = (12 + uint64(nameLen) + 7) &^ 7
		}
		if desc+uint64(descLen) > uint64(len(b)) {
			return ""
		}
		if kind == typeBuildID && nameLen == 4 && string(b[12:16]) == "GNU\x00" && descLen > 0 && descLen <= maxBuildID {
			return hex.EncodeToString(b[desc : desc+uint64(descLen)])
		}
		b = b[min(desc+pad(descLen), uint64(len(b))):]
	}
	return ""
}

// readString reads a NUL-terminated string, or "" when it does not end.
func readString(r io.ReaderAt, off int64) string {
	var small [128]byte
	buf := small[:]
	for {
		n, _ := r.ReadAt(buf, off)
		if i := strings.IndexByte(string(buf[:n]), 0); i >= 0 {
			return string(buf[:i])
		}
		if n < len(buf) || len(buf) >= maxName {
			return ""
		}
		buf = make([]byte, 8*len(buf))
	}
}
