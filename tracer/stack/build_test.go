package stack

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"testing"
)

// Where the parts of the files below are.
const (
	textAddr  = 0x1000
	textSize  = 0x40000
	frameAddr = 0x80000
)

// part is a section of a file that is made for a test.
type part struct {
	name  string
	kind  elf.SectionType
	flags elf.SectionFlag
	addr  uint64
	data  []byte
}

// elfFile makes a shared library with an executable segment at textAddr. With
// hdr it has a program header for .eh_frame_hdr at the address of the first
// section, which is in a segment of its own.
func elfFile(a Arch, hdr bool, parts ...part) []byte {
	machine := elf.EM_X86_64
	if a == ARM64 {
		machine = elf.EM_AARCH64
	}
	progs := []elf.Prog64{{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_X | elf.PF_R), Vaddr: textAddr, Memsz: textSize,
	}}
	names := []byte{0}
	secs := []elf.Section64{{}}
	const phdrs = 3
	off := uint64(ehdrSize + phdrs*phdrSize)
	var data []byte
	for i, p := range parts {
		kind := p.kind
		if kind == 0 {
			kind = elf.SHT_PROGBITS
		}
		secs = append(secs, elf.Section64{
			Name: uint32(len(names)), Type: uint32(kind), Flags: uint64(p.flags),
			Addr: p.addr, Off: off, Size: uint64(len(p.data)),
		})
		if hdr && i < phdrs-1 {
			typ := elf.PT_GNU_EH_FRAME
			if i > 0 {
				typ = elf.PT_LOAD
			}
			progs = append(progs, elf.Prog64{
				Type: uint32(typ), Off: off, Vaddr: p.addr, Filesz: uint64(len(p.data)), Memsz: uint64(len(p.data)),
			})
		}
		names = append(append(names, p.name...), 0)
		data = append(data, p.data...)
		off += uint64(len(p.data))
	}
	secs = append(secs, elf.Section64{Name: uint32(len(names)), Type: uint32(elf.SHT_STRTAB), Off: off})
	names = append(append(names, ".shstrtab"...), 0)
	secs[len(secs)-1].Size = uint64(len(names))
	off += uint64(len(names))
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: ehdrSize, Phentsize: phdrSize, Phnum: uint16(len(progs)),
		Shoff: off, Ehsize: ehdrSize, Shentsize: shdrSize, Shnum: uint16(len(secs)), Shstrndx: uint16(len(secs) - 1),
	}
	var f bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&f, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	put(&h)
	put(progs)
	f.Write(make([]byte, (phdrs-len(progs))*phdrSize))
	f.Write(data)
	f.Write(names)
	put(secs)
	return f.Bytes()
}

// withFrames makes a file with that .eh_frame.
func withFrames(a Arch, b []byte) []byte {
	return elfFile(a, false, part{name: ".eh_frame", addr: frameAddr, data: b})
}

func mustTable(tb testing.TB, file []byte) *Table {
	tb.Helper()
	t, err := ReadTable(bytes.NewReader(file), int64(len(file)), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// info writes call frame information.
type info struct {
	b     []byte
	debug bool
	wide  bool // 64-bit DWARF
}

func u32(v uint64) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }
func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// entry adds an entry and returns where it begins.
func (f *info) entry(id uint64, body []byte) uint64 {
	at := uint64(len(f.b))
	idSize := uint64(4)
	if f.wide && f.debug {
		idSize = 8
	}
	if n := uint64(len(body)) + idSize; f.wide {
		f.b = append(append(f.b, 0xff, 0xff, 0xff, 0xff), u64(n)...)
	} else {
		f.b = append(f.b, u32(n)...)
	}
	f.b = append(f.b, u64(id)[:idSize]...)
	f.b = append(f.b, body...)
	return at
}

// cie adds a CIE: after its version, the bytes as they are.
func (f *info) cie(version byte, rest ...[]byte) uint64 {
	id := uint64(0)
	if f.debug {
		id = ^uint64(0)
	}
	return f.entry(id, append([]byte{version}, slices.Concat(rest...)...))
}

// fde adds an FDE of the CIE at cie. Its addresses are given as they are.
func (f *info) fde(cie uint64, rest ...[]byte) {
	id := cie
	if !f.debug {
		id = uint64(len(f.b)) + 4 - cie
		if f.wide {
			id += 8
		}
	}
	f.entry(id, slices.Concat(rest...))
}

// pcrel returns the start, relative to the field that the next FDE of a narrow
// .eh_frame has it in, and the size, both in 4 bytes.
func (f *info) pcrel(start, size uint64) []byte {
	return append(u32(start-(frameAddr+uint64(len(f.b))+8)), u32(size)...)
}

// What compilers make: a CIE with the encoding DW_EH_PE_pcrel|sdata4, in which
// at first the CFA is rsp+8 with the return address in front of it, or sp.
var (
	cieAMD64 = []byte("zR\x00\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01")
	cieARM64 = []byte("zR\x00\x04\x78\x1e\x01\x1b\x0c\x1f\x00")
)

// oneFunction makes an .eh_frame with one function of 256 bytes at textAddr.
func oneFunction(cie []byte, program ...byte) []byte {
	var f info
	f.fde(f.cie(1, cie), f.pcrel(textAddr, 256), []byte{0}, program)
	return f.b
}
