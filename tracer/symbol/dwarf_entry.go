package symbol

import (
	"debug/dwarf"
	"sort"
)

// The forms of attributes, and those that GNU tools added.
const (
	formAddr         = 0x01
	formBlock2       = 0x03
	formBlock4       = 0x04
	formData2        = 0x05
	formData4        = 0x06
	formData8        = 0x07
	formString       = 0x08
	formBlock        = 0x09
	formBlock1       = 0x0a
	formData1        = 0x0b
	formFlag         = 0x0c
	formSdata        = 0x0d
	formStrp         = 0x0e
	formUdata        = 0x0f
	formRefAddr      = 0x10
	formRef1         = 0x11
	formRef2         = 0x12
	formRef4         = 0x13
	formRef8         = 0x14
	formRefUdata     = 0x15
	formIndirect     = 0x16
	formSecOffset    = 0x17
	formExprloc      = 0x18
	formFlagPresent  = 0x19
	formStrx         = 0x1a
	formAddrx        = 0x1b
	formRefSup4      = 0x1c
	formStrpSup      = 0x1d
	formData16       = 0x1e
	formLineStrp     = 0x1f
	formRefSig8      = 0x20
	formImplicit     = 0x21
	formLoclistx     = 0x22
	formRnglistx     = 0x23
	formRefSup8      = 0x24
	formStrx1        = 0x25
	formStrx2        = 0x26
	formStrx3        = 0x27
	formStrx4        = 0x28
	formAddrx1       = 0x29
	formAddrx2       = 0x2a
	formAddrx3       = 0x2b
	formAddrx4       = 0x2c
	formGNUAddrIndex = 0x1f01
	formGNUStrIndex  = 0x1f02
	formGNURefAlt    = 0x1f20
	formGNUStrpAlt   = 0x1f21
)

// kind says what an attribute's number means.
type kind uint8

const (
	kindNone      kind = iota
	kindConst          // a number
	kindAddr           // an address
	kindAddrIndex      // an index into .debug_addr
	kindRef            // an offset in .debug_info
	kindOffset         // an offset in the section the attribute implies
	kindRange          // an index into the unit's offsets in .debug_rnglists
	kindString         // a string at an offset in .debug_info
	kindStr            // in .debug_str
	kindLineStr        // in .debug_line_str
	kindStrIndex       // an index into the unit's offsets in .debug_str_offsets
)

// attribute is the value of one; text is read only when it is wanted.
type attribute struct {
	u    uint64
	kind kind
}

// value decodes a form. Kinds of values that are not used are none.
func (u *unit) value(c *cursor, form uint64, implicit int64) attribute {
	for range 4 {
		if form != formIndirect {
			break
		}
		form = c.uleb()
	}
	switch form {
	case formAddr:
		return attribute{c.uint(u.addrSize), kindAddr}
	case formData1:
		return attribute{uint64(c.u8()), kindConst}
	case formData2:
		return attribute{uint64(c.u16()), kindConst}
	case formData4:
		return attribute{uint64(c.u32()), kindConst}
	case formData8:
		return attribute{c.u64(), kindConst}
	case formUdata:
		return attribute{c.uleb(), kindConst}
	case formSdata:
		return attribute{uint64(c.sleb()), kindConst}
	case formImplicit:
		return attribute{uint64(implicit), kindConst}
	case formString:
		return attribute{c.cstring(), kindString}
	case formStrp:
		return attribute{c.offset(u.is64), kindStr}
	case formLineStrp:
		return attribute{c.offset(u.is64), kindLineStr}
	case formStrx, formGNUStrIndex:
		return attribute{c.uleb(), kindStrIndex}
	case formStrx1, formStrx2, formStrx3, formStrx4:
		return attribute{c.uint(uint8(form - formStrx1 + 1)), kindStrIndex}
	case formAddrx, formGNUAddrIndex:
		return attribute{c.uleb(), kindAddrIndex}
	case formAddrx1, formAddrx2, formAddrx3, formAddrx4:
		return attribute{c.uint(uint8(form - formAddrx1 + 1)), kindAddrIndex}
	case formRefAddr:
		if u.version == 2 {
			return attribute{c.uint(u.addrSize), kindRef}
		}
		return attribute{c.offset(u.is64), kindRef}
	case formRef1:
		return attribute{u.off + uint64(c.u8()), kindRef}
	case formRef2:
		return attribute{u.off + uint64(c.u16()), kindRef}
	case formRef4:
		return attribute{u.off + uint64(c.u32()), kindRef}
	case formRef8:
		return attribute{u.off + c.u64(), kindRef}
	case formRefUdata:
		return attribute{u.off + c.uleb(), kindRef}
	case formSecOffset:
		return attribute{c.offset(u.is64), kindOffset}
	case formRnglistx:
		return attribute{c.uleb(), kindRange}
	case formFlagPresent:
	case formFlag:
		c.skip(1)
	case formBlock1:
		c.skip(uint64(c.u8()))
	case formBlock2:
		c.skip(uint64(c.u16()))
	case formBlock4:
		c.skip(uint64(c.u32()))
	case formBlock, formExprloc:
		c.skip(c.uleb())
	case formRefSup4:
		c.skip(4)
	case formRefSig8, formRefSup8:
		c.skip(8)
	case formData16:
		c.skip(16)
	case formLoclistx:
		c.uleb()
	case formStrpSup, formGNURefAlt, formGNUStrpAlt:
		c.offset(u.is64)
	default:
		c.bad = true
	}
	return attribute{}
}

// entry holds the attributes of one entry that matter here.
type entry struct {
	tag dwarf.Tag

	name, linkage, origin        attribute
	low, high, ranges            attribute
	declLine, callFile, callLine attribute
	lines, dir                   attribute
	strBase, addrBase, rangeBase attribute
}

func (e *entry) reset(a *abbreviation) { *e = entry{tag: a.tag} }

// Attributes that debug/dwarf has no names for.
const (
	attrMIPSLinkageName = 0x2007
	attrGNURangesBase   = 0x2132
	attrGNUAddrBase     = 0x2133
)

func (d *dwarfData) readAttributes(u *unit, c *cursor, a *abbreviation, e *entry) {
	for i := range a.attributes {
		s := &a.attributes[i]
		v := u.value(c, s.form, s.implicit)
		switch s.attr {
		case dwarf.AttrName:
			e.name = v
		case dwarf.AttrLinkageName, attrMIPSLinkageName:
			e.linkage = v
		case dwarf.AttrAbstractOrigin, dwarf.AttrSpecification:
			e.origin = v
		case dwarf.AttrLowpc:
			e.low = v
		case dwarf.AttrHighpc:
			e.high = v
		case dwarf.AttrRanges:
			e.ranges = v
		case dwarf.AttrDeclLine:
			e.declLine = v
		case dwarf.AttrCallFile:
			e.callFile = v
		case dwarf.AttrCallLine:
			e.callLine = v
		case dwarf.AttrStmtList:
			e.lines = v
		case dwarf.AttrCompDir:
			e.dir = v
		case dwarf.AttrStrOffsetsBase:
			e.strBase = v
		case dwarf.AttrAddrBase, attrGNUAddrBase:
			e.addrBase = v
		case dwarf.AttrRnglistsBase, attrGNURangesBase:
			e.rangeBase = v
		}
	}
}

func (d *dwarfData) skipAttributes(u *unit, c *cursor, a *abbreviation) {
	if a.fixed > 0 {
		c.skip(a.fixed)
		return
	}
	for i := range a.attributes {
		u.value(c, a.attributes[i].form, 0)
	}
}

// abbreviation describes the entries of one kind.
type abbreviation struct {
	code       uint64
	tag        dwarf.Tag
	children   bool
	attributes []specification
	fixed      uint64 // bytes of the attributes, if that is known and not 0
}

type specification struct {
	attr     dwarf.Attr
	form     uint64
	implicit int64
}

// abbreviationTable is ordered by code, which producers count from 1.
type abbreviationTable []abbreviation

func (t abbreviationTable) find(code uint64) *abbreviation {
	if i := code - 1; i < uint64(len(t)) && t[i].code == code {
		return &t[i]
	}
	i := sort.Search(len(t), func(i int) bool { return t[i].code >= code })
	if i < len(t) && t[i].code == code {
		return &t[i]
	}
	return nil
}

// abbreviations decodes the table at off, as far as it is not malformed.
func (d *dwarfData) abbreviations(off uint64) abbreviationTable {
	c := d.abbrevCursor(off, maxAbbrevs)
	var t abbreviationTable
	for n := 0; n < maxAttributes; {
		a := readAbbreviation(&c, true)
		if c.bad || a.code == 0 {
			break
		}
		n += len(a.attributes) + 1
		if !d.of.steps(len(a.attributes) + 1) {
			break
		}
		t = append(t, a)
	}
	sort.SliceStable(t, func(i, j int) bool { return t[i].code < t[j].code })
	return t
}

// abbreviation finds one of the table at off.
func (d *dwarfData) abbreviation(off, code uint64) (abbreviation, bool) {
	const most = 1 << 20
	c := d.abbrevCursor(off, most)
	defer func() {
		d.work += int64(c.at)
		d.of.steps(int(c.at))
	}()
	for {
		start := c
		a := readAbbreviation(&c, false)
		if c.bad || a.code == 0 {
			return abbreviation{}, false
		}
		if a.code == code {
			a = readAbbreviation(&start, true)
			return a, !start.bad
		}
	}
}

func (d *dwarfData) abbrevCursor(off, most uint64) cursor {
	all := d.abbrevBytes
	all = all[min(off, uint64(len(all))):]
	return cursor{b: all[:min(most, uint64(len(all)))], order: d.order}
}

// readAbbreviation decodes one, and keeps its attributes when they are wanted.
func readAbbreviation(c *cursor, keep bool) abbreviation {
	a := abbreviation{code: c.uleb()}
	if a.code == 0 {
		return a
	}
	a.tag, a.children = dwarf.Tag(c.uleb()), c.u8() != 0
	known := true
	for n := 0; !c.bad; n++ {
		s := specification{attr: dwarf.Attr(c.uleb()), form: c.uleb()}
		if s.attr == 0 && s.form == 0 {
			break
		}
		if n == 1<<12 {
			c.bad = true
		}
		if s.form == formImplicit {
			s.implicit = c.sleb()
		}
		if keep {
			a.attributes = append(a.attributes, s)
			size, ok := fixedSize(s.form)
			a.fixed += size
			known = known && ok
		}
	}
	if !known {
		a.fixed = 0
	}
	return a
}

// fixedSize returns the size of the forms that have one in every unit.
func fixedSize(form uint64) (uint64, bool) {
	switch form {
	case formFlagPresent, formImplicit:
		return 0, true
	case formData1, formRef1, formFlag, formStrx1, formAddrx1:
		return 1, true
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2, true
	case formStrx3, formAddrx3:
		return 3, true
	case formData4, formRef4, formStrx4, formAddrx4, formRefSup4:
		return 4, true
	case formData8, formRef8, formRefSig8, formRefSup8:
		return 8, true
	case formData16:
		return 16, true
	}
	return 0, false
}

// text reads a string.
func (d *dwarfData) text(u *unit, v attribute) string {
	switch v.kind {
	case kindString:
		return d.info.string(v.u)
	case kindStr:
		return d.str.string(v.u)
	case kindLineStr:
		return d.lineStr.string(v.u)
	case kindStrIndex:
		size := uint64(4)
		if u.is64 {
			size = 8
		}
		if v.u >= d.strOffsets.size {
			return ""
		}
		c := cursor{b: d.strOffsets.at(u.strBase+v.u*size, size), order: d.order}
		if off := c.offset(u.is64); !c.bad {
			return d.str.string(off)
		}
	}
	return ""
}

// address returns the address that an attribute stands for.
func (d *dwarfData) address(u *unit, v attribute) (uint64, bool) {
	switch v.kind {
	case kindAddr:
		return v.u, true
	case kindAddrIndex:
		if v.u >= d.addr.size {
			return 0, false
		}
		c := cursor{b: d.addr.at(u.addrBase+v.u*uint64(u.addrSize), uint64(u.addrSize)), order: d.order}
		addr := c.uint(u.addrSize)
		return addr, !c.bad
	}
	return 0, false
}

// spans appends the code of an entry, at most limit pieces.
func (d *dwarfData) spans(u *unit, e *entry, out []span, limit int) []span {
	low, ok := d.address(u, e.low)
	if ok && e.high.kind != kindNone && limit > 0 {
		high := low + e.high.u
		if e.high.kind != kindConst {
			if high, ok = d.address(u, e.high); !ok {
				return out
			}
		}
		return append(out, span{low, high})
	}
	if e.ranges.kind == kindNone {
		return out
	}
	if u.version < 5 {
		return d.oldRanges(u, e.ranges.u, out, limit)
	}
	off := e.ranges.u
	if e.ranges.kind == kindRange {
		size := uint64(4)
		if u.is64 {
			size = 8
		}
		if off >= d.rangeLists.size {
			return out
		}
		c := cursor{b: d.rangeLists.at(u.rangeBase+off*size, size), order: d.order}
		if off = u.rangeBase + c.offset(u.is64); c.bad {
			return out
		}
	}
	return d.newRanges(u, off, out, limit)
}

// rangeWindow is how many bytes of a list of ranges are read at first.
const rangeWindow = 256

// oldRanges reads a list of DWARF 2 to 4.
func (d *dwarfData) oldRanges(u *unit, off uint64, out []span, limit int) []span {
	base, last := u.low, ^uint64(0)
	if u.addrSize == 4 {
		last = 1<<32 - 1
	}
	first := len(out)
	for size := uint64(rangeWindow); ; size *= 16 {
		out = out[:first]
		c := cursor{b: d.ranges.from(off, size), order: d.order}
		for len(out)-first < limit {
			lo, hi := c.uint(u.addrSize), c.uint(u.addrSize)
			switch {
			case c.bad && uint64(len(c.b)) == size && size < maxUnitBytes:
			case c.bad, lo == 0 && hi == 0:
				return out
			case lo == last:
				base = hi
				continue
			default:
				out = append(out, span{base + lo, base + hi})
				continue
			}
			break
		}
		if !c.bad {
			return out
		}
		base = u.low
	}
}

// newRanges reads a list of DWARF 5.
func (d *dwarfData) newRanges(u *unit, off uint64, out []span, limit int) []span {
	const (
		endOfList, baseAddressx, startxEndx, startxLength, offsetPair, baseAddress, startEnd, startLength = 0, 1, 2, 3, 4, 5, 6, 7
	)
	first := len(out)
	for size := uint64(rangeWindow); ; size *= 16 {
		out = out[:first]
		base := u.low
		c := cursor{b: d.rangeLists.from(off, size), order: d.order}
		indexed := func() uint64 {
			addr, ok := d.address(u, attribute{c.uleb(), kindAddrIndex})
			c.bad = c.bad || !ok
			return addr
		}
		ended := false
		for !ended && len(out)-first < limit {
			var s span
			switch op := c.u8(); op {
			case endOfList:
				ended = true
				continue
			case baseAddressx:
				base = indexed()
				continue
			case startxEndx:
				s.start = indexed()
				s.end = indexed()
			case startxLength:
				s.start = indexed()
				s.end = s.start + c.uleb()
			case offsetPair:
				s.start = base + c.uleb()
				s.end = base + c.uleb()
			case baseAddress:
				base = c.uint(u.addrSize)
				continue
			case startEnd:
				s.start = c.uint(u.addrSize)
				s.end = c.uint(u.addrSize)
			case startLength:
				s.start = c.uint(u.addrSize)
				s.end = s.start + c.uleb()
			default:
				return out
			}
			if c.bad {
				break
			}
			out = append(out, s)
		}
		if !c.bad || uint64(len(c.b)) < size || size >= maxUnitBytes {
			return out
		}
	}
}
