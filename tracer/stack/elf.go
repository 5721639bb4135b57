package stack

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds on what a file may make ReadTable read. libLLVM's .eh_frame has 5 MiB.
const (
	maxSection  = 64 << 20 // bytes of a section, compressed or not
	maxSections = 1 << 16
	maxNames    = 4 << 20 // bytes of section names
)

// image is the part of an ELF file that unwinding needs. It is read here and
// not by debug/elf, because that reads whatever size the file claims for its
// section names, and refuses files whose section headers are damaged but whose
// program headers, which are what the kernel looks at, are not.
type image struct {
	f    io.ReaderAt
	size int64
	arch Arch
	load []segment
	hdr  segment // PT_GNU_EH_FRAME
	secs []section
}

type segment struct {
	addr, memSize    uint64
	off, fileSize    uint64
	executable, used bool
}

// section is a section that has a name of interest.
type section struct {
	name       string
	kind       elf.SectionType
	flags      elf.SectionFlag
	addr       uint64
	off, size  uint64
	compressed bool
}

const (
	ehdrSize = 64
	phdrSize = 56
	shdrSize = 64
)

// readImage reads the headers.
func readImage(f io.ReaderAt, size int64) (*image, error) {
	im := &image{f: f, size: size}
	h, err := im.read(0, ehdrSize)
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	if string(h[:4]) != elf.ELFMAG {
		return nil, errors.New("read ELF header: not an ELF file")
	}
	if h[elf.EI_CLASS] != byte(elf.ELFCLASS64) || h[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil, errors.New("read ELF header: not a 64-bit little-endian file")
	}
	le := binary.LittleEndian
	// Addresses in other kinds of file, such as objects, are not final.
	if t := elf.Type(le.Uint16(h[16:])); t != elf.ET_EXEC && t != elf.ET_DYN {
		return nil, fmt.Errorf("read ELF header: %v is neither a program nor a shared library", t)
	}
	switch m := elf.Machine(le.Uint16(h[18:])); m {
	case elf.EM_X86_64:
		im.arch = AMD64
	case elf.EM_AARCH64:
		im.arch = ARM64
	default:
		return nil, fmt.Errorf("read ELF header: machine %v is not supported", m)
	}
	if err := im.readSegments(le.Uint64(h[32:]), uint64(le.Uint16(h[54:])), uint64(le.Uint16(h[56:]))); err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	// Damaged section headers are as good as none.
	im.readSections(le.Uint64(h[40:]), uint64(le.Uint16(h[58:])), uint64(le.Uint16(h[60:])), uint64(le.Uint16(h[62:])))
	return im, nil
}

func (im *image) readSegments(off, entry, n uint64) error {
	if n == 0 {
		return nil
	}
	if entry != phdrSize {
		return fmt.Errorf("entries of %d bytes", entry)
	}
	b, err := im.read(off, n*phdrSize)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	for ; len(b) > 0; b = b[phdrSize:] {
		s := segment{
			off: le.Uint64(b[8:]), addr: le.Uint64(b[16:]),
			fileSize: le.Uint64(b[32:]), memSize: le.Uint64(b[40:]),
			executable: elf.ProgFlag(le.Uint32(b[4:]))&elf.PF_X != 0,
			used:       true,
		}
		switch elf.ProgType(le.Uint32(b)) {
		case elf.PT_LOAD:
			im.load = append(im.load, s)
		case elf.PT_GNU_EH_FRAME:
			im.hdr = s
		}
	}
	return nil
}

func (im *image) readSections(off, entry, n, names uint64) {
	if off == 0 || entry != shdrSize {
		return
	}
	le := binary.LittleEndian
	if n == 0 || names == uint64(elf.SHN_XINDEX) {
		// Too many for the header: the first entry has the numbers.
		b, err := im.read(off, shdrSize)
		if err != nil {
			return
		}
		if n == 0 {
			n = le.Uint64(b[32:])
		}
		if names == uint64(elf.SHN_XINDEX) {
			names = uint64(le.Uint32(b[40:]))
		}
	}
	if n > maxSections || names >= n {
		return
	}
	b, err := im.read(off, n*shdrSize)
	if err != nil {
		return
	}
	strOff, strSize := le.Uint64(b[names*shdrSize+24:]), le.Uint64(b[names*shdrSize+32:])
	if strSize > maxNames {
		return
	}
	str, err := im.read(strOff, strSize)
	if err != nil {
		return
	}
	for ; len(b) > 0; b = b[shdrSize:] {
		at := le.Uint32(b)
		if uint64(at) >= uint64(len(str)) {
			continue
		}
		name, _, ok := bytes.Cut(str[at:min(len(str), int(at)+16)], []byte{0})
		if !ok {
			continue
		}
		switch string(name) {
		case ".eh_frame", ".debug_frame", ".text", ".got", ".got.plt":
			flags := elf.SectionFlag(le.Uint64(b[8:]))
			im.secs = append(im.secs, section{
				name: string(name), kind: elf.SectionType(le.Uint32(b[4:])),
				flags: flags, compressed: flags&elf.SHF_COMPRESSED != 0,
				addr: le.Uint64(b[16:]), off: le.Uint64(b[24:]), size: le.Uint64(b[32:]),
			})
		}
	}
}

// read returns n bytes at off.
func (im *image) read(off, n uint64) ([]byte, error) {
	if im.size < 0 || off > uint64(im.size) || n > uint64(im.size)-off {
		return nil, io.ErrUnexpectedEOF
	}
	if n > maxSection {
		return nil, fmt.Errorf("%d bytes are more than %d", n, maxSection)
	}
	b := make([]byte, n)
	if k, err := im.f.ReadAt(b, int64(off)); k < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// find returns the first section of that name, nil where there is none.
func (im *image) find(name string) *section {
	for i := range im.secs {
		if im.secs[i].name == name {
			return &im.secs[i]
		}
	}
	return nil
}

// addrOf returns the address of a section, 0 where there is none.
func (im *image) addrOf(names ...string) uint64 {
	for _, name := range names {
		if s := im.find(name); s != nil {
			return s.addr
		}
	}
	return 0
}

// data returns the contents of a section, decompressed.
func (im *image) data(s *section) ([]byte, error) {
	b, err := im.read(s.off, s.size)
	if err != nil || !s.compressed {
		return b, err
	}
	return decompress(b)
}

// decompress expands the contents of a section with SHF_COMPRESSED. debug/elf
// has the only decoder of zstd in the standard library, so it is shown a file
// of this one section.
func decompress(b []byte) ([]byte, error) {
	const names = "\x00.strtab\x00"
	var f bytes.Buffer
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: ehdrSize, Ehsize: ehdrSize, Shentsize: shdrSize, Shnum: 3, Shstrndx: 1,
	}
	const start = ehdrSize + 3*shdrSize
	secs := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: start, Size: uint64(len(names))},
		{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_COMPRESSED), Off: start + uint64(len(names)), Size: uint64(len(b))},
	}
	if err := errors.Join(binary.Write(&f, binary.LittleEndian, &head), binary.Write(&f, binary.LittleEndian, secs)); err != nil {
		return nil, err
	}
	f.WriteString(names)
	f.Write(b)
	e, err := elf.NewFile(bytes.NewReader(f.Bytes()))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(e.Sections[2].Open(), maxSection+1))
	if err != nil {
		return nil, err
	}
	if len(out) > maxSection {
		return nil, fmt.Errorf("more than %d bytes when decompressed", maxSection)
	}
	return out, nil
}

// executable returns the executable segment around an address, or nil.
func (im *image) executable(addr uint64) *segment {
	for i := range im.load {
		if s := &im.load[i]; s.executable && addr-s.addr < s.memSize {
			return s
		}
	}
	return nil
}

// frameAddr finds the address of .eh_frame as a running program does, through the
// program header of .eh_frame_hdr.
func (im *image) frameAddr() (addr uint64, ok bool) {
	if !im.hdr.used {
		return 0, false
	}
	h, err := im.read(im.hdr.off, min(im.hdr.fileSize, 16))
	if err != nil {
		return 0, false
	}
	r := reader{b: h}
	if r.u8() != 1 { // version
		return 0, false
	}
	enc := r.u8()
	r.u8() // encodings of what follows
	r.u8()
	return r.pointer(enc, bases{section: im.hdr.addr, data: im.hdr.addr})
}

// mapped returns what a segment has of the file from an address on, nil where there
// is none.
func (im *image) mapped(addr uint64) []byte {
	for i := range im.load {
		s := &im.load[i]
		if addr-s.addr >= s.fileSize {
			continue
		}
		skip := addr - s.addr
		n := min(s.fileSize-skip, maxSection)
		if off := s.off + skip; off <= uint64(im.size) {
			n = min(n, uint64(im.size)-off)
		}
		if data, err := im.read(s.off+skip, n); err == nil {
			return data
		}
	}
	return nil
}
