package stack

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rules returns the rows of a function as text: where each begins, counted
// from the start, the CFA, and the registers that are saved.
func rules(t *Table, start, end uint64) []string {
	var out []string
	for i, at := range rowStarts(t, start, end) {
		if i%2 == 1 { // the last address of a row
			continue
		}
		line := strings.Join(append([]string{"+" + hex(at-start)}, describe(t, at, []string{"CFA"})...), " ")
		if t.find(at) == noRule {
			line = "+" + hex(at-start) + " none"
		} else if t.rules[t.find(at)].root {
			line += " root"
		}
		out = append(out, line)
	}
	return out
}

func hex(v uint64) string {
	const digits = "0123456789abcdef"
	s := ""
	for ; v > 0 || s == ""; v /= 16 {
		s = digits[v%16:][:1] + s
	}
	return s
}

func TestEachInstructionMakesTheRulesThatDWARFSays(t *testing.T) {
	t.Parallel()
	const adv = opAdvance
	const setLocAt = 40 // the operand of the first instruction
	tests := []struct {
		name    string
		arch    Arch
		program []byte
		want    []string
	}{
		{"nothing", AMD64, nil, []string{"+0 rsp+8 ra=c-8"}},
		{"a push and a frame pointer", AMD64, []byte{
			adv + 1, opDefCFAOffset, 16, opOffset + 6, 2, adv + 3, opDefCFARegister, 6, opAdvance1, 0x80, opDefCFA, 7, 8,
		}, []string{"+0 rsp+8 ra=c-8", "+1 rsp+16 rbp=c-16 ra=c-8", "+4 rbp+16 rbp=c-16 ra=c-8", "+84 rsp+8 rbp=c-16 ra=c-8"}},
		{"restore takes back what the CIE says", AMD64, []byte{
			opOffset + 6, 2, opOffset + 16, 3, adv + 1, opRestore + 6, adv + 1, opRestoreExtended, 16,
		}, []string{"+0 rsp+8 rbp=c-16 ra=c-24", "+1 rsp+8 ra=c-24", "+2 rsp+8 ra=c-8"}},
		{"remember and restore keep the CFA too", AMD64, []byte{
			opRememberState, adv + 1, opDefCFAOffset, 32, opOffset + 3, 2, opRememberState, adv + 1, opDefCFA, 6, 16, adv + 1, opRestoreState, adv + 1, opRestoreState,
		}, []string{"+0 rsp+8 ra=c-8", "+1 rsp+32 rbx=c-16 ra=c-8", "+2 rbp+16 rbx=c-16 ra=c-8", "+3 rsp+32 rbx=c-16 ra=c-8", "+4 rsp+8 ra=c-8"}},
		{"the long forms", AMD64, []byte{
			opOffsetExtended, 12, 2, opAdvance2, 0, 1, // beyond the function
		}, []string{"+0 rsp+8 r12=c-16 ra=c-8"}},
		{"signed and negative offsets", AMD64, []byte{
			opOffsetExtendedSF, 3, 0x7e, opNegativeOffsetExtended, 6, 2, opDefCFASF, 6, 0x7e, adv + 1, opDefCFAOffsetSF, 0x7d,
		}, []string{"+0 rbp+16 rbx=c+16 rbp=c+16 ra=c-8", "+1 rbp+24 rbx=c+16 rbp=c+16 ra=c-8"}},
		{"values and other registers", AMD64, []byte{
			opValOffset, 7, 0, opValOffsetSF, 3, 0x7e, opRegister, 12, 13, opRegister, 14, 0x50,
		}, []string{"+0 rsp+8 rbx=v+16 rsp=v+0 r12=r13 ra=c-8"}},
		{"expressions", AMD64, []byte{
			opDefCFAExpression, 2, exBreg0 + 7, 8, opExpression, 3, 2, exBreg0 + 6, 0, opValExpression, 6, 1, exLit0,
		}, []string{"+0 exp rbx=exp rbp=vexp ra=c-8"}},
		{"the outermost frame", AMD64, []byte{opUndefined, 16}, []string{"+0 rsp+8 root"}},
		{"the same value again", AMD64, []byte{opOffset + 3, 2, adv + 1, opSameValue, 3}, []string{"+0 rsp+8 rbx=c-16 ra=c-8", "+1 rsp+8 ra=c-8"}},
		{"the size of arguments changes nothing", AMD64, []byte{adv + 1, opArgsSize, 16, adv + 1, opNop}, []string{"+0 rsp+8 ra=c-8"}},
		{"an address instead of a distance", AMD64, append(append([]byte{opSetLoc}, u32(1<<32+textAddr+5-(frameAddr+setLocAt))...), opDefCFAOffset, 16), []string{"+0 rsp+8 ra=c-8", "+5 rsp+16 ra=c-8"}},
		{"distances of four and eight bytes", AMD64, append(append(append([]byte{opAdvance4}, u32(2)...), opDefCFAOffset, 16, opAdvance8), append(u64(3), opDefCFAOffset, 24)...), []string{"+0 rsp+8 ra=c-8", "+2 rsp+16 ra=c-8", "+5 rsp+24 ra=c-8"}},
		{"an unknown instruction ends what is known", AMD64, []byte{adv + 1, opDefCFAOffset, 16, adv + 4, 0x3f, adv + 1, opDefCFAOffset, 24}, []string{"+0 rsp+8 ra=c-8", "+1 rsp+16 ra=c-8", "+5 none"}},
		{"a restore without a remember", AMD64, []byte{adv + 1, opRestoreState}, []string{"+0 rsp+8 ra=c-8", "+1 none"}},
		{"a register replaces an expression, an offset waits for that", AMD64, []byte{
			opDefCFAExpression, 1, exLit0, adv + 1, opDefCFAOffset, 24, adv + 1, opDefCFARegister, 6,
		}, []string{"+0 exp ra=c-8", "+2 rbp+24 ra=c-8"}},
		{"an offset that is out of bounds", AMD64, []byte{opOffset + 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, []string{"+0 none"}},
		{"a block that is longer than the entry", AMD64, []byte{opDefCFAExpression, 100, exLit0}, []string{"+0 none"}},
		{"an operand that is missing", AMD64, []byte{adv + 1, opDefCFA, 6}, []string{"+0 rsp+8 ra=c-8", "+1 none"}},
		{"a signed return address", ARM64, []byte{
			adv + 1, opNegateRAState, adv + 1, opDefCFAOffset, 32, opOffset + 29, 4, opOffset + 30, 3, adv + 1, opNegateRAStatePC,
		}, []string{"+0 sp+0", "+8 sp+32 x29=c-32 ra=c-24"}},
		{"vector registers are left out", ARM64, []byte{opOffset + 30, 1, opOffsetExtended, 72, 2, opUndefined, 80}, []string{"+0 sp+0 ra=c-8"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cie := cieAMD64
			if tt.arch == ARM64 {
				cie = cieARM64
			}
			tab := mustTable(t, withFrames(tt.arch, oneFunction(cie, tt.program...)))
			if diff := cmp.Diff(tt.want, rules(tab, textAddr, textAddr+256)); diff != "" {
				t.Errorf("rows differ (-want +got):\n%s", diff)
			}
			checkTable(t, tab)
		})
	}
}

// Every form of entry here describes the same function.
func TestEntriesOfAllVersionsAndEncodingsAreRead(t *testing.T) {
	t.Parallel()
	initial := []byte{opDefCFA, 7, 8, opOffset + 16, 1}
	const start, size = textAddr + 0x123, 0x45
	want := []string{"+0 rsp+8 ra=c-8"}
	tests := []struct {
		name string
		file func() []byte
	}{
		{"version 1, no augmentation", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("\x00\x01\x78\x10"), initial), u64(start), u64(size))
			return withFrames(AMD64, f.b)
		}},
		{"version 3", func() []byte {
			var f info
			f.fde(f.cie(3, []byte("zR\x00\x01\x78\x90\x00\x01\x1b"), initial), f.pcrel(start, size), []byte{0})
			return withFrames(AMD64, f.b)
		}},
		{"64-bit .eh_frame", func() []byte {
			f := info{wide: true}
			f.fde(f.cie(1, []byte("zR\x00\x01\x78\x10\x01\x00"), initial), u64(start), u64(size), []byte{0})
			return withFrames(AMD64, f.b)
		}},
		{"the augmentation of gcc 2", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("eh\x00"), u64(0), []byte("\x01\x78\x10"), initial), u64(start), u64(size))
			return withFrames(AMD64, f.b)
		}},
		{"a personality and an LSDA", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("zPLR\x00\x01\x78\x10\x07\x9b"), u32(77), []byte("\x1b\x1b"), initial), f.pcrel(start, size), []byte{4}, u32(99))
			return withFrames(AMD64, f.b)
		}},
		{"an aligned personality", func() []byte {
			var f info
			// The personality is at offset 18 of the section: 6 bytes of padding.
			f.fde(f.cie(1, []byte("zPR\x00\x01\x78\x10\x10\x50"), make([]byte, 6), u64(77), []byte{0x1b}, initial), f.pcrel(start, size), []byte{0})
			return withFrames(AMD64, f.b)
		}},
		{"letters that are not known, behind", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("zRY\x00\x01\x78\x10\x03\x1b\x01\x02"), initial), f.pcrel(start, size), []byte{2, 8, 9})
			return withFrames(AMD64, f.b)
		}},
		{"relative to the text", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("zR\x00\x01\x78\x10\x01\x22"), initial), []byte{0x23, 0x01, size, 0, 0})
			return elfFile(AMD64, false, part{name: ".text", kind: elf.SHT_NOBITS, addr: textAddr},
				part{name: ".eh_frame", addr: frameAddr, data: f.b})
		}},
		{"relative to the data", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("zR\x00\x01\x78\x10\x01\x3b"), initial), u32(1<<32+start-0x90000), u32(size), []byte{0})
			return elfFile(AMD64, false, part{name: ".got", kind: elf.SHT_NOBITS, addr: 0x90000},
				part{name: ".eh_frame", addr: frameAddr, data: f.b})
		}},
		{"LEB128 addresses", func() []byte {
			var f info
			f.fde(f.cie(1, []byte("zR\x00\x01\x78\x10\x01\x09"), initial), []byte{0xa3, 0xa2, 0, size | 0x80, 0, 0})
			return withFrames(AMD64, f.b)
		}},
		{"behind the end of another object's frames", func() []byte {
			f := info{b: make([]byte, 4)}
			f.fde(f.cie(1, cieAMD64), f.pcrel(start, size), []byte{0})
			return withFrames(AMD64, f.b)
		}},
		{"found by the program header", func() []byte {
			var f info
			f.fde(f.cie(1, cieAMD64), f.pcrel(start, size), []byte{0})
			f.b = append(f.b, 0, 0, 0, 0, 1, 2, 3)
			hdr := append([]byte{1, 0x1b, 0xff, 0xff}, u32(frameAddr-(0x70000+4))...)
			file := elfFile(AMD64, true, part{name: "x", addr: 0x70000, data: hdr}, part{name: "y", addr: frameAddr, data: f.b})
			clear(file[40:48]) // no section headers
			return file
		}},
		{"found by the program header, as the section is elsewhere", func() []byte {
			var f info
			f.fde(f.cie(1, cieAMD64), f.pcrel(start, size), []byte{0})
			hdr := append([]byte{1, 0x1b, 0xff, 0xff}, u32(frameAddr-(0x70000+4))...)
			return elfFile(AMD64, true, part{name: "x", addr: 0x70000, data: hdr}, part{name: "y", addr: frameAddr, data: append(f.b, 0, 0, 0, 0)},
				part{name: ".eh_frame", addr: frameAddr + 0x100, data: f.b})
		}},
		{"found by the program header, as the section cannot be read", func() []byte {
			var f info
			f.fde(f.cie(1, cieAMD64), f.pcrel(start, size), []byte{0})
			hdr := append([]byte{1, 0x1b, 0xff, 0xff}, u32(frameAddr-(0x70000+4))...)
			file := elfFile(AMD64, true, part{name: "x", addr: 0x70000, data: hdr}, part{name: ".eh_frame", addr: frameAddr, data: append(f.b, 0, 0, 0, 0)})
			copy(file[len(file)-2*shdrSize+24:], u64(1<<40)) // where .eh_frame is in the file
			return file
		}},
		{"found by the section, as the program header is damaged", func() []byte {
			var f info
			f.fde(f.cie(1, cieAMD64), f.pcrel(start, size), []byte{0})
			hdr := append([]byte{1, 0x1b, 0xff, 0xff}, u32(0x12345678)...)
			return elfFile(AMD64, true, part{name: "x", addr: 0x70000, data: hdr}, part{name: ".eh_frame", addr: frameAddr, data: f.b})
		}},
		{".debug_frame, version 4", func() []byte {
			f := info{debug: true}
			f.fde(f.cie(4, []byte("\x00\x08\x00\x01\x78\x10"), initial), u64(start), u64(size))
			return elfFile(AMD64, false, part{name: ".debug_frame", data: f.b})
		}},
		{".debug_frame, 64 bits", func() []byte {
			f := info{debug: true, wide: true}
			f.fde(f.cie(3, []byte("\x00\x01\x78\x10"), initial), u64(start), u64(size))
			return elfFile(AMD64, false, part{name: ".debug_frame", data: f.b})
		}},
		{".debug_frame where the .eh_frame is in another file", func() []byte {
			f := info{debug: true}
			f.fde(f.cie(3, []byte("\x00\x01\x78\x10"), initial), u64(start), u64(size))
			return elfFile(AMD64, false, part{name: ".eh_frame", kind: elf.SHT_NOBITS, addr: frameAddr, data: []byte{1, 2, 3}},
				part{name: ".debug_frame", data: f.b})
		}},
		{"compressed with zlib", func() []byte {
			f := info{debug: true}
			f.fde(f.cie(3, []byte("\x00\x01\x78\x10"), initial), u64(start), u64(size))
			return elfFile(AMD64, false, part{name: ".debug_frame", flags: elf.SHF_COMPRESSED, data: compressed(f.b)})
		}},
		{"compressed with zstd", func() []byte {
			f := info{debug: true}
			f.fde(f.cie(3, []byte("\x00\x01\x78\x10"), initial), u64(start), u64(size))
			// A frame of one segment, with one raw block, the last.
			z := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, byte(len(f.b))}, u32(uint64(len(f.b))<<3 | 1)[:3]...)
			head := slices.Concat(u32(uint64(elf.COMPRESS_ZSTD)), u32(0), u64(uint64(len(f.b))), u64(1))
			return elfFile(AMD64, false, part{name: ".debug_frame", flags: elf.SHF_COMPRESSED, data: slices.Concat(head, z, f.b)})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tab := mustTable(t, tt.file())
			s, e, ok := tab.Function(start + size - 1)
			if s != start || e != start+size || !ok {
				t.Errorf("the function is [%#x, %#x) %v, want [%#x, %#x)", s, e, ok, uint64(start), uint64(start+size))
			}
			if diff := cmp.Diff(want, rules(tab, start, start+size)); diff != "" {
				t.Errorf("rows differ (-want +got):\n%s", diff)
			}
			checkTable(t, tab)
		})
	}
}

func compressed(b []byte) []byte {
	var z bytes.Buffer
	z.Write(slices.Concat(u32(uint64(elf.COMPRESS_ZLIB)), u32(0), u64(uint64(len(b))), u64(1)))
	w, _ := zlib.NewWriterLevel(&z, zlib.BestSpeed)
	_, _ = w.Write(b)
	_ = w.Close()
	return z.Bytes()
}

func TestFunctionsThatAreDeadOrOverlapAreResolved(t *testing.T) {
	t.Parallel()
	var f info
	cie := f.cie(1, []byte("zR\x00\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01"))
	add := func(start, size uint64, program ...byte) {
		f.fde(cie, f.pcrel(start, size), []byte{0}, program)
	}
	add(0, 0x20)                         // removed by the linker
	add(0x10, 0x20)                      // in no executable segment
	add(textAddr+0x300, 0)               // empty
	add(textAddr+0x200, 0x80)            // hides the end of the next
	add(textAddr+0x100, 0x180)           //
	add(textAddr+0x200, 0x40)            // folded with an equal start: the longer counts
	add(textAddr+textSize-0x10, 1<<31-1) // longer than its segment
	f.fde(12345, f.pcrel(textAddr+0x400, 1), []byte{0})
	indirect := f.cie(1, []byte("zR\x00\x01\x78\x10\x01\x9b"))
	f.fde(indirect, f.pcrel(textAddr+0x500, 1), []byte{0})

	tab := mustTable(t, withFrames(AMD64, f.b))
	checkTable(t, tab)
	type function struct{ start, end uint64 }
	var got []function
	for i := range tab.funcs {
		s, e, _ := tab.Function(tab.base + uint64(tab.funcs[i].start))
		got = append(got, function{s, e})
	}
	want := []function{
		{textAddr + 0x100, textAddr + 0x200}, {textAddr + 0x200, textAddr + 0x280}, {textAddr + textSize - 0x10, textAddr + textSize},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(function{})); diff != "" {
		t.Errorf("functions differ (-want +got):\n%s", diff)
	}
	for _, addr := range []uint64{0, 1, 0x10, textAddr, textAddr + 0x280, textAddr + textSize, ^uint64(0)} {
		if s, e, ok := tab.Function(addr); ok {
			t.Errorf("%#x is in function [%#x, %#x), want none", addr, s, e)
		}
		if r := tab.find(addr); r != noRule {
			t.Errorf("%#x has rule %d, want none", addr, r)
		}
	}
}

func TestAFunctionOfMoreThan64KiBHasAllItsRows(t *testing.T) {
	t.Parallel()
	var f info
	cie := f.cie(1, cieAMD64)
	program := []byte{opAdvance2, 0, 1, opDefCFAOffset, 16, opAdvance4, 0, 0, 1, 0, opDefCFAOffset, 24, opAdvance4, 0, 0, 2, 0, opDefCFAOffset, 32}
	f.fde(cie, f.pcrel(textAddr, 0x3f000), []byte{0}, program)
	f.fde(cie, f.pcrel(textAddr+0x3f000, 0x10), []byte{0})
	tab := mustTable(t, withFrames(AMD64, f.b))
	checkTable(t, tab)
	for _, tt := range []struct {
		off  uint64
		want string
	}{
		{0, "rsp+8"},
		{0xff, "rsp+8"},
		{0x100, "rsp+16"},
		{0x100ff, "rsp+16"},
		{0x10100, "rsp+24"},
		{0x300ff, "rsp+24"},
		{0x30100, "rsp+32"},
		{0x3efff, "rsp+32"},
		{0x3f000, "rsp+8"},
	} {
		if got := describe(tab, textAddr+tt.off, []string{"CFA"})[0]; got != tt.want {
			t.Errorf("the CFA at +%#x is %s, want %s", tt.off, got, tt.want)
		}
		wantStart, wantEnd := uint64(textAddr), uint64(textAddr+0x3f000)
		if tt.off >= 0x3f000 {
			wantStart, wantEnd = wantEnd, wantEnd+0x10
		}
		if s, e, _ := tab.Function(textAddr + tt.off); s != wantStart || e != wantEnd {
			t.Errorf("+%#x is in [%#x, %#x), want [%#x, %#x)", tt.off, s, e, wantStart, wantEnd)
		}
	}
}

func TestFilesWithoutATableSaySo(t *testing.T) {
	t.Parallel()
	object := withFrames(AMD64, oneFunction(cieAMD64))
	object[16] = byte(elf.ET_REL)
	old := withFrames(AMD64, oneFunction(cieAMD64))
	old[18] = byte(elf.EM_386)
	big := withFrames(AMD64, oneFunction(cieAMD64))
	big[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	for _, tt := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"no sections", elfFile(AMD64, false), ErrNoTable, ""},
		{"only a CIE", withFrames(AMD64, oneFunction(cieAMD64)[:20]), ErrNoTable, ""},
		{"a text file", bytes.Repeat([]byte("text"), 100), nil, "read ELF header: not an ELF file"},
		{"an empty file", nil, io.ErrUnexpectedEOF, ""},
		{"an object file", object, nil, "read ELF header: ET_REL is neither a program nor a shared library"},
		{"another machine", old, nil, "read ELF header: machine EM_386 is not supported"},
		{"another byte order", big, nil, "read ELF header: not a 64-bit little-endian file"},
		{"damaged compression", elfFile(AMD64, false, part{name: ".debug_frame", flags: elf.SHF_COMPRESSED, data: make([]byte, 64)}), nil, ""},
	} {
		tab, err := ReadTable(bytes.NewReader(tt.file), int64(len(tt.file)), nil)
		if err == nil || tab != nil || tt.want != nil && !errors.Is(err, tt.want) || tt.text != "" && err.Error() != tt.text {
			t.Errorf("%s: error %v, want %v %s", tt.name, err, tt.want, tt.text)
		}
	}
}

// zeros is a file that is as large as it likes.
type zeros struct{ head []byte }

func (z zeros) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(z.head)) {
		copy(b, z.head[off:])
	}
	return len(b), nil
}

func TestHostileFilesCostLittle(t *testing.T) {
	t.Parallel()
	giant := withFrames(AMD64, oneFunction(cieAMD64))
	shoff := len(giant) - 3*shdrSize
	copy(giant[shoff+shdrSize+32:], u64(1<<40)) // the size of .eh_frame

	// Each FDE names a CIE of its own, inside the program of those before it:
	// they take it for an operand. Without a limit, time goes with the square
	// of the size.
	var overlap info
	body := make([]byte, 1<<20)
	copy(body, "\x01\x00\x01\x78\x10")
	for i := 64; i+32 < len(body); i += 32 {
		copy(body[i-2:], []byte{opDefCFAExpression, 17})
		copy(body[i:], u32(uint64(len(body)-i-4)))
		copy(body[i+8:], "\x01\x00\x01\x78\x10")
	}
	overlap.entry(0, body)
	for i := 64; i+32 < len(body); i += 32 {
		overlap.fde(uint64(i+8), u64(textAddr+uint64(i)%textSize), u64(1))
	}
	// A row takes two bytes, and every one has a rule that no other has.
	var many info
	cie := many.cie(1, []byte("\x00\x01\x78\x10\x0c\x07\x08"))
	var program []byte
	for i := range uint64(textSize - 1) {
		program = append(program, opAdvance+1, opDefCFA, 7, byte(i)|0x80, byte(i>>7)|0x80, byte(i>>14))
	}
	many.fde(cie, u64(textAddr), u64(textSize), program)

	var nested info
	nested.fde(nested.cie(1, []byte("\x00\x01\x78\x10\x0c\x07\x08")), u64(textAddr), u64(textSize), bytes.Repeat([]byte{opRememberState}, 1<<20))

	var self info
	self.entry(4, []byte("\x01\x00\x01\x78\x10")) // an FDE that is its own CIE

	bomb := elfFile(AMD64, false, part{name: ".debug_frame", flags: elf.SHF_COMPRESSED, data: compressed(make([]byte, maxSection+1))})

	for _, tt := range []struct {
		name  string
		f     io.ReaderAt
		size  int64
		bytes int
	}{
		{"a section of a terabyte", zeros{giant}, 1 << 41, 0},
		{"overlapping CIEs", bytes.NewReader(withFrames(AMD64, overlap.b)), int64(len(withFrames(AMD64, overlap.b))), 4 << 20},
		{"rules without number", bytes.NewReader(withFrames(AMD64, many.b)), int64(len(withFrames(AMD64, many.b))), 8 << 20},
		{"states without number", bytes.NewReader(withFrames(AMD64, nested.b)), int64(len(withFrames(AMD64, nested.b))), 1 << 10},
		{"an entry that names itself", bytes.NewReader(withFrames(AMD64, self.b)), int64(len(withFrames(AMD64, self.b))), 0},
		{"a decompression bomb", bytes.NewReader(bomb), int64(len(bomb)), 0},
	} {
		start := time.Now()
		tab, err := ReadTable(tt.f, tt.size, nil)
		d := time.Since(start)
		if t.Logf("%s: %v", tt.name, d); d > time.Minute {
			t.Errorf("%s: took %v", tt.name, d)
		}
		switch {
		case tt.bytes == 0:
			if err == nil {
				t.Errorf("%s: no error", tt.name)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tab.Bytes() > tt.bytes:
			t.Errorf("%s: the table has %d bytes, want at most %d", tt.name, tab.Bytes(), tt.bytes)
		default:
			checkTable(t, tab)
		}
	}
}

func TestRowsOfAFileAreLimited(t *testing.T) {
	t.Parallel()
	var f info
	cie := f.cie(1, cieAMD64)
	program := bytes.Repeat([]byte{opAdvance + 1, opDefCFAOffset, 8, opAdvance + 1, opDefCFAOffset, 16}, textSize/2)
	for range maxRows/textSize + 2 {
		f.fde(cie, f.pcrel(textAddr, textSize), []byte{0}, program)
	}
	tab := mustTable(t, withFrames(AMD64, f.b))
	checkTable(t, tab)
	if n := len(tab.rows); n != textSize-1 {
		t.Errorf("the one function has %d rows, want %d", n, textSize-1)
	}
}

func TestReadingATableEndsWhenItIsStopped(t *testing.T) {
	t.Parallel()
	var many, zeros info
	cie := many.cie(1, cieAMD64)
	for i := range 1 << 14 { // by falling address, so that they are sorted
		many.fde(cie, many.pcrel(textAddr+uint64(textSize-1-i), 1), []byte{0}, nil)
	}
	long := oneFunction(cieAMD64, bytes.Repeat([]byte{opDefCFAOffset, 8}, 1<<14)...)
	zeros.b = make([]byte, 1<<18)
	for _, tt := range []struct {
		name   string
		frames []byte
	}{
		{"in many entries", many.b},
		{"in a long program", long},
		{"in entries without a length", zeros.b},
	} {
		file := withFrames(AMD64, tt.frames)
		asked := 0
		_, err := ReadTable(bytes.NewReader(file), int64(len(file)), func(steps int) bool {
			asked += steps
			return true
		})
		if asked < 1<<13 || errors.Is(err, ErrStopped) {
			t.Errorf("%s: asked about %d steps, %v", tt.name, asked, err)
		}
		for at := 1; at <= asked; at += asked / 4 { // the last of them is in putting them in order
			now := 0
			tab, err := ReadTable(bytes.NewReader(file), int64(len(file)), func(steps int) bool {
				now += steps
				return now < at
			})
			if tab != nil || !errors.Is(err, ErrStopped) || now > at+1<<10 {
				t.Errorf("%s: stopped after %d steps, asked about %d: %v, %v", tt.name, at, now, tab, err)
			}
		}
	}
}

// checkTable checks what every table is.
func checkTable(t *testing.T, tab *Table) {
	t.Helper()
	end := uint32(0)
	for i, f := range tab.funcs {
		if f.start >= f.end || f.start < end {
			t.Fatalf("function %d is [%#x, %#x) behind %#x", i, f.start, f.end, end)
		}
		if f.row&continues != 0 && (i == 0 || f.start != end) {
			t.Fatalf("function %d continues none", i)
		}
		end = f.end
		last := uint32(len(tab.rows))
		if i+1 < len(tab.funcs) {
			last = tab.funcs[i+1].first()
		}
		if f.first() >= last || last > uint32(len(tab.rows)) {
			t.Fatalf("function %d has rows %d to %d of %d", i, f.first(), last, len(tab.rows))
		}
		off := -1
		for j, r := range tab.rows[f.first():last] {
			if j == 0 && r.off != 0 || int(r.off) <= off || uint32(r.off) >= f.end-f.start || int(r.rule) >= len(tab.rules) {
				t.Fatalf("function %d [%#x, %#x) has row %+v behind %d, of %d rules", i, f.start, f.end, r, off, len(tab.rules))
			}
			off = int(r.off)
		}
	}
	for i, r := range tab.rules {
		if int(r.first)+int(r.saves) > len(tab.saves) || r.cfa == cfaExpr && int(r.n) >= len(tab.exprs) {
			t.Fatalf("rule %d is %+v, of %d and %d", i, r, len(tab.saves), len(tab.exprs))
		}
	}
	if tab.Bytes() <= 0 {
		t.Fatal("the table takes no memory")
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add(withFrames(AMD64, oneFunction(cieAMD64, opAdvance+1, opDefCFAOffset, 16)))
	f.Add(withFrames(ARM64, oneFunction(cieARM64, opAdvance+1, opNegateRAState)))
	d := info{debug: true}
	d.fde(d.cie(4, []byte("\x00\x08\x00\x01\x78\x10\x0c\x07\x08\x90\x01")), u64(textAddr), u64(64))
	f.Add(elfFile(AMD64, false, part{name: ".debug_frame", flags: elf.SHF_COMPRESSED, data: compressed(d.b)}))
	hdr := append([]byte{1, 0x1b, 0xff, 0xff}, u32(frameAddr-(0x70000+4))...)
	f.Add(elfFile(AMD64, true, part{name: "x", addr: 0x70000, data: hdr}, part{name: "y", addr: frameAddr, data: oneFunction(cieAMD64)}))
	f.Fuzz(func(t *testing.T, file []byte) {
		tab, err := ReadTable(bytes.NewReader(file), int64(len(file)), nil)
		if (tab == nil) != (err != nil) {
			t.Fatalf("table %v, error %v", tab, err)
		}
		if tab != nil {
			checkTable(t, tab)
		}
	})
}

// The section alone: what mutations of a whole file seldom reach.
func FuzzCallFrames(f *testing.F) {
	f.Add(oneFunction(cieAMD64, opAdvance+1, opDefCFAOffset, 16, opRememberState, opAdvance+1, opOffset+6, 2, opAdvance+2, opRestoreState), false)
	f.Add(oneFunction(cieARM64, opAdvance+1, opNegateRAState, opDefCFAExpression, 2, exBreg0+31, 8), false)
	d := info{debug: true, wide: true}
	d.fde(d.cie(4, []byte("\x00\x08\x00\x01\x78\x10\x0c\x07\x08\x90\x01")), u64(textAddr), u64(64))
	f.Add(d.b, true)
	f.Fuzz(func(t *testing.T, b []byte, debug bool) {
		p := part{name: ".eh_frame", addr: frameAddr, data: b}
		if debug {
			p.name = ".debug_frame"
		}
		file := elfFile(AMD64, false, p)
		if tab, err := ReadTable(bytes.NewReader(file), int64(len(file)), nil); err == nil {
			checkTable(t, tab)
		}
	})
}
