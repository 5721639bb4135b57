package stack

import "encoding/binary"

// reader takes little-endian values off the front of b. Past the end it
// returns zeros and sets bad, so that a caller may look once, at the end.
type reader struct {
	b   []byte
	off int
	bad bool
}

func (r *reader) left() int { return len(r.b) - r.off }

func (r *reader) take(n uint64) []byte {
	if n > uint64(r.left()) {
		r.bad = true
		r.off = len(r.b)
		return nil
	}
	b := r.b[r.off : r.off+int(n)]
	r.off += int(n)
	return b
}

func (r *reader) u8() uint8 {
	if r.off >= len(r.b) {
		r.bad = true
		return 0
	}
	v := r.b[r.off]
	r.off++
	return v
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// uleb reads an unsigned LEB128 number. Bits above the 64th are lost, as in
// libgcc; a number of any length ends.
func (r *reader) uleb() uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		c := r.u8()
		if shift < 64 {
			v |= uint64(c&0x7f) << shift
		}
		if c&0x80 == 0 {
			return v
		}
	}
}

// sleb reads a signed LEB128 number.
func (r *reader) sleb() int64 {
	var v uint64
	shift := uint(0)
	for {
		c := r.u8()
		if shift < 64 {
			v |= uint64(c&0x7f) << shift
		}
		shift += 7
		if c&0x80 != 0 {
			continue
		}
		if c&0x40 != 0 && shift < 64 {
			v |= ^uint64(0) << shift
		}
		return int64(v)
	}
}

// str reads a string up to its zero.
func (r *reader) str() string {
	for i := r.off; i < len(r.b); i++ {
		if r.b[i] == 0 {
			s := string(r.b[r.off:i])
			r.off = i + 1
			return s
		}
	}
	r.bad = true
	r.off = len(r.b)
	return ""
}

// The pointer encodings of .eh_frame (LSB, "DWARF exception header encoding").
const (
	encAbs     = 0x00
	encULEB    = 0x01
	encU2      = 0x02
	encU4      = 0x03
	encU8      = 0x04
	encSLEB    = 0x09
	encS2      = 0x0a
	encS4      = 0x0b
	encS8      = 0x0c
	encFormat  = 0x0f
	encPCRel   = 0x10
	encTextRel = 0x20
	encDataRel = 0x30
	encAligned = 0x50
	encBase    = 0x70
	encIndir   = 0x80
	encOmit    = 0xff
)

// bases are what encoded pointers may be relative to.
type bases struct {
	section uint64 // address of byte 0 of the section
	text    uint64
	data    uint64 // the global offset table; for .eh_frame_hdr, itself
}

// value reads a number in the format of enc, its base left out.
func (r *reader) value(enc uint8) uint64 {
	switch enc & encFormat {
	case encAbs, encU8, encS8:
		return r.u64()
	case encULEB:
		return r.uleb()
	case encU2:
		return uint64(r.u16())
	case encU4:
		return uint64(r.u32())
	case encSLEB:
		return uint64(r.sleb())
	case encS2:
		return uint64(int16(r.u16()))
	case encS4:
		return uint64(int32(r.u32()))
	}
	r.bad = true
	return 0
}

// pointer reads an encoded pointer. ok is false for one whose value is only
// known in a running program: an indirect one, or one relative to a function.
func (r *reader) pointer(enc uint8, at bases) (v uint64, ok bool) {
	if enc == encOmit {
		return 0, false
	}
	if enc&encBase == encAligned {
		// An absolute pointer at the next multiple of its size.
		r.take(-(at.section + uint64(r.off)) & 7)
		return r.u64(), !r.bad
	}
	pc := at.section + uint64(r.off)
	v = r.value(enc)
	switch enc & encBase {
	case 0:
	case encPCRel:
		v += pc
	case encTextRel:
		v += at.text
	case encDataRel:
		v += at.data
	default:
		return 0, false
	}
	return v, enc&encIndir == 0 && !r.bad
}
