package symbol

import (
	"cmp"
	"debug/dwarf"
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"unsafe"
)

// This reader of DWARF 2 to 5 reads what names an address and nothing else, a
// unit at a time and straight from the file. The standard library's holds all
// sections in memory, and takes what a header claims: the 32-bit count of
// directories in a line table is enough to end the process.

// Limits on debug information. One unit is a source file, a Go package or, with
// link-time optimization, a program.
const (
	maxUnits      = 1 << 19
	maxUnitBytes  = 256 << 20
	maxAbbrevs    = 64 << 20 // bytes of all tables
	maxAttributes = 1 << 18  // of one table
	maxScopes     = 4 << 20  // ranges of one unit's functions
	maxRows       = 4 << 20  // of one unit's line table
	maxUnitCache  = 64 << 20 // bytes of decoded units that are kept
	maxDIEDepth   = 1 << 12
	maxIndexWork  = 256 << 20 // bytes of abbreviations looked at for the index
)

// dwarfData is the debug information of a module.
type dwarfData struct {
	of    *Module
	code  []span
	order binary.ByteOrder

	info, line, str, lineStr, strOffsets, addr, ranges, rangeLists blob

	abbrevBytes []byte // .debug_abbrev, which is looked at again and again

	units []unit
	index []unitRange
	cache map[int]*decodedUnit
	held  int64 // by the cache
	names map[uint64]naming
	work  int64 // bytes of abbreviations looked at so far, to bound the index
}

// unit is the header of one unit of .debug_info, with what its first entry says.
type unit struct {
	off, first, end uint64 // of the header, the first entry, the end
	abbrev          uint64
	version         uint16
	addrSize        uint8
	is64            bool // 64-bit DWARF

	low                            uint64
	lines                          uint64 // offset in .debug_line
	strBase, addrBase, rangeBase   uint64
	hasLow, hasLines, hasRangeBase bool
	dir                            attribute // the compilation directory
}

// unitRange says that a unit has the code at [lo,hi).
type unitRange struct {
	lo, hi uint64
	unit   int
}

// decodedUnit is what a unit says about its code.
type decodedUnit struct {
	functions []functionRange
	scopes    []scope
	lines     lineTable
	bytes     int64
}

// functionRange is a piece of code of a function, whose own scope and those of
// the calls inlined into it are scopes[first:last], outer before inner.
type functionRange struct {
	lo, hi      uint64
	first, last int
}

// scope is a piece of code of a function or of an inlined call. It is empty for
// a call of which only what is inlined further is known to have code.
type scope struct {
	lo, hi uint64
	entry  uint64 // offset of its entry in .debug_info
	parent int32  // the scope that it was inlined into; -1 for a function
	file   uint32 // position of the call
	line   uint32
}

// What those take in memory.
const (
	functionBytes = int64(unsafe.Sizeof(functionRange{}))
	scopeBytes    = int64(unsafe.Sizeof(scope{}))
	rowBytes      = int64(unsafe.Sizeof(row{}))
)

// readDWARF indexes the debug information of a file; nil when it has none, or it
// is more than is read of any.
func (m *Module) readDWARF(h *header) *dwarfData {
	if h.section(".debug_info") == nil && h.section(".zdebug_info") == nil {
		return nil
	}
	d := &dwarfData{of: m, code: h.code, order: h.order, cache: make(map[int]*decodedUnit), names: make(map[uint64]naming)}
	budget := m.opts.MaxDWARF
	all := budget
	var abbrev blob
	for _, s := range []struct {
		name string
		into *blob
	}{
		{"info", &d.info},
		{"abbrev", &abbrev},
		{"line", &d.line},
		{"str", &d.str},
		{"line_str", &d.lineStr},
		{"str_offsets", &d.strOffsets},
		{"addr", &d.addr},
		{"ranges", &d.ranges},
		{"rnglists", &d.rangeLists},
	} {
		var err error
		if *s.into, err = m.debugSection(h, s.name, &budget); err != nil {
			return nil
		}
	}
	if abbrev.size > maxAbbrevs {
		m.refusePart(".debug_abbrev") // which may be .zdebug_abbrev
		return nil
	}
	d.abbrevBytes = abbrev.at(0, abbrev.size)
	budget -= int64(len(d.abbrevBytes)) - abbrev.held
	m.bytes.Add(all - budget)
	d.readUnits()
	if len(d.index) == 0 {
		m.bytes.Add(budget - all)
		return nil
	}
	return d
}

// readUnits walks over the units and notes which code each has.
func (d *dwarfData) readUnits() {
	for off := uint64(0); len(d.units) < maxUnits; {
		u, next, ok := d.unitAt(off)
		if next <= off {
			break
		}
		off = next
		if ok {
			d.units = append(d.units, u)
		}
	}
	d.units = slices.Clip(d.units)
	for i := range d.units {
		if d.work > maxIndexWork {
			break
		}
		for _, r := range d.readRoot(&d.units[i]) {
			if covered(d.code, r.start) && r.end > r.start && len(d.index) < maxScopes {
				d.index = append(d.index, unitRange{r.start, r.end, i})
			}
		}
	}
	if !sortPaid(d.of, slices.SortFunc, d.index, func(a, b unitRange) int { return cmp.Or(cmp.Compare(a.lo, b.lo), a.unit-b.unit) }) {
		d.index = nil
		return
	}
	d.index = slices.Clip(d.index)
	d.of.bytes.Add(int64(len(d.units))*144 + int64(len(d.index))*24)
}

// unitAt decodes the header at off; next is 0 at the end.
func (d *dwarfData) unitAt(off uint64) (u unit, next uint64, ok bool) {
	c := cursor{b: d.info.from(off, 40), order: d.order}
	length, is64 := c.length()
	if c.bad || length == 0 || length > d.info.size-off-min(c.at, d.info.size-off) {
		return unit{}, 0, false
	}
	u = unit{off: off, end: off + c.at + length, is64: is64}
	u.version = c.u16()
	kind := uint8(1)
	if u.version >= 5 {
		kind, u.addrSize = c.u8(), c.u8()
	}
	u.abbrev = c.offset(is64)
	if u.version < 5 {
		u.addrSize = c.u8()
	}
	const (
		compile, partial, skeleton, splitCompile = 1, 3, 4, 5
	)
	switch kind {
	case compile, partial:
	case skeleton, splitCompile:
		c.u64()
	default: // type units have no code
		return unit{}, u.end, false
	}
	u.first = off + c.at
	ok = !c.bad && u.version >= 2 && u.version <= 5 && (u.addrSize == 4 || u.addrSize == 8) && u.first < u.end
	return u, u.end, ok
}

// readRoot reads a unit's first entry into u, and returns the unit's code.
func (d *dwarfData) readRoot(u *unit) []span {
	const usual = 512
	e, ok := d.entryAt(u, u.first, usual)
	if !ok || e.tag != dwarf.TagCompileUnit && e.tag != dwarf.TagSkeletonUnit && e.tag != dwarf.TagPartialUnit {
		return nil
	}
	if u.version >= 5 { // as for units of a split file
		u.strBase = 8
		if u.is64 {
			u.strBase = 16
		}
	}
	if v := e.strBase; v.kind != kindNone {
		u.strBase = v.u
	}
	u.addrBase = e.addrBase.u
	u.rangeBase, u.hasRangeBase = e.rangeBase.u, e.rangeBase.kind != kindNone
	u.lines, u.hasLines = e.lines.u, e.lines.kind != kindNone
	u.dir = e.dir
	u.low, u.hasLow = d.address(u, e.low)
	return d.spans(u, &e, nil, maxScopes)
}

// lines appends the functions at addr as Module.Lines describes.
func (d *dwarfData) lines(addr uint64, buf []Line) []Line {
	i := sort.Search(len(d.index), func(i int) bool { return d.index[i].lo > addr }) - 1
	// Units overlap where something is shared, and in faulty files.
	for n := 0; i >= 0 && n < 16; i, n = i-1, n+1 {
		if addr >= d.index[i].hi {
			continue
		}
		if out := d.linesOf(d.index[i].unit, addr, buf); len(out) > len(buf) {
			return out
		}
	}
	return buf
}

func (d *dwarfData) linesOf(unit int, addr uint64, buf []Line) []Line {
	u, t := &d.units[unit], d.decoded(unit)
	file, line := t.lines.find(addr)
	found := int32(-1) // the innermost scope is the last: outer ones come before
	j := sort.Search(len(t.functions), func(i int) bool { return t.functions[i].lo > addr }) - 1
	for n := 0; j >= 0 && n < maxNested; j, n = j-1, n+1 {
		if f := t.functions[j]; addr < f.hi {
			if !d.of.steps(f.last - f.first) {
				return buf
			}
			for k := f.first; k < f.last; k++ {
				if t.scopes[k].lo <= addr && addr < t.scopes[k].hi {
					found = int32(k)
				}
			}
			break
		}
	}
	if found < 0 && line != 0 {
		return append(buf, Line{File: d.fileName(u, &t.lines, file), Line: int(line)})
	}
	for found >= 0 {
		s := &t.scopes[found]
		n := d.name(s.entry)
		buf = append(buf, Line{
			Function: n.name, Linkage: n.linkage, File: d.fileName(u, &t.lines, file), Line: int(line), Start: int(n.line),
		})
		file, line, found = s.file, s.line, s.parent
	}
	return buf
}

// decoded returns what a unit says, from the cache if it is there.
func (d *dwarfData) decoded(i int) *decodedUnit {
	if t := d.cache[i]; t != nil {
		return t
	}
	if d.held > maxUnitCache {
		clear(d.cache)
		d.of.bytes.Add(-d.held)
		d.held = 0
	}
	t := &decodedUnit{}
	u := &d.units[i]
	// What was decoded before something malformed is of use.
	guard(func() { d.decode(u, t) })
	guard(func() { t.lines = d.readLines(u) })
	if !sortPaid(d.of, slices.SortFunc, t.functions, func(a, b functionRange) int {
		return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.first, b.first), cmp.Compare(a.hi, b.hi))
	}) {
		t.functions = nil
	}
	t.bytes = int64(cap(t.functions))*functionBytes + int64(cap(t.scopes))*scopeBytes + t.lines.bytes() + 128
	d.cache[i] = t
	d.held += t.bytes
	d.of.bytes.Add(t.bytes)
	return t
}

// decode collects the functions of a unit and the calls inlined into them.
func (d *dwarfData) decode(u *unit, t *decodedUnit) {
	if u.end-u.first > d.mostUnit() {
		d.of.refusePart(".debug_info")
		return
	}
	table := d.abbreviations(u.abbrev)
	c := cursor{b: d.info.at(u.first, u.end-u.first), order: d.order, base: u.first}
	if len(c.b) == 0 {
		return
	}
	// What is open: the function whose code an entry is in, and the scope. Both
	// are -1 outside of functions with code.
	type open struct{ function, scope int }
	outside := open{-1, -1}
	var stack []open
	var spans []span
	most := d.mostScopes()
	var functions []span // the ranges t.functions[start:end] of each
	var entry entry
	for !c.bad && c.at < uint64(len(c.b)) && len(t.scopes) < most && d.of.steps(1) {
		off := c.base + c.at
		code := c.uleb()
		if code == 0 {
			if len(stack) == 0 {
				break
			}
			closed, within := stack[len(stack)-1], outside
			if stack = stack[:len(stack)-1]; len(stack) > 0 {
				within = stack[len(stack)-1]
			}
			if closed.function >= 0 && closed.function != within.function {
				t.close(functions[closed.function])
			}
			continue
		}
		a := table.find(code)
		if a == nil {
			break
		}
		here := outside
		if len(stack) > 0 {
			here = stack[len(stack)-1]
		}
		inlined := a.tag == dwarf.TagInlinedSubroutine
		if a.tag != dwarf.TagSubprogram && (!inlined || here.function < 0) {
			d.skipAttributes(u, &c, a)
		} else {
			entry.reset(a)
			d.readAttributes(u, &c, a, &entry)
			spans = d.spans(u, &entry, spans[:0], most-len(t.scopes))
			first := len(t.scopes)
			s := scope{entry: off, parent: -1}
			if inlined {
				s.parent, s.file, s.line = int32(here.scope), uint32(entry.callFile.u), uint32(entry.callLine.u)
			}
			for _, r := range spans {
				if s.lo, s.hi = r.start, r.end; r.end > r.start && covered(d.code, r.start) {
					t.scopes = append(t.scopes, s)
				}
			}
			switch {
			case inlined && len(t.scopes) == first:
				s.lo, s.hi = 0, 0
				t.scopes = append(t.scopes, s)
				here.scope = first
			case inlined:
				here.scope = first
			case len(t.scopes) == first: // a declaration, or inlined everywhere
				here = outside
			default:
				here = open{len(functions), first}
				from := len(t.functions)
				for _, s := range t.scopes[first:] {
					t.functions = append(t.functions, functionRange{s.lo, s.hi, first, len(t.scopes)})
				}
				functions = append(functions, span{uint64(from), uint64(len(t.functions))})
			}
		}
		if a.children {
			if len(stack) >= maxDIEDepth {
				break
			}
			stack = append(stack, here)
		} else if len(stack) == 0 {
			break
		}
	}
	if len(t.scopes) >= most {
		d.of.refusePart(".debug_info")
	}
	for _, o := range stack { // of a unit that ends early
		if o.function >= 0 {
			t.close(functions[o.function])
		}
	}
	t.functions, t.scopes = slices.Clip(t.functions), slices.Clip(t.scopes)
}

// mostUnit is how many bytes a unit may have, or its line table: all of them are read at
// once.
func (d *dwarfData) mostUnit() uint64 { return uint64(min(maxUnitBytes, d.of.opts.MaxDWARF)) }

// mostScopes is how many scopes a unit may have, if each is of a function of its own.
func (d *dwarfData) mostScopes() int {
	return int(min(maxScopes, d.of.opts.MaxTable/(scopeBytes+functionBytes)))
}

// close notes that the scopes of a function, which has the given ranges, end here.
func (t *decodedUnit) close(ranges span) {
	for i := ranges.start; i < ranges.end; i++ {
		t.functions[i].last = len(t.scopes)
	}
}

// naming is what debug information says about a function wherever it is inlined.
type naming struct {
	name, linkage string
	line          uint32 // where it is declared
}

// name returns the name of the function that an entry is about, which an inlined
// call and a function outside its class have in another entry.
func (d *dwarfData) name(off uint64) naming {
	if n, ok := d.names[off]; ok {
		return n
	}
	var linkage, plain string
	var line uint64
	for at, hops := off, 0; hops < 8; hops++ {
		i := sort.Search(len(d.units), func(i int) bool { return d.units[i].off > at }) - 1
		if i < 0 || at < d.units[i].first || at >= d.units[i].end {
			break
		}
		const usual = 128
		u := &d.units[i]
		e, ok := d.entryAt(u, at, usual)
		if !ok {
			break
		}
		if linkage == "" {
			linkage = d.text(u, e.linkage)
		}
		if plain == "" {
			plain = d.text(u, e.name)
		}
		// That of the definition comes before that of its class' declaration.
		if line == 0 && e.declLine.kind == kindConst && e.declLine.u <= math.MaxInt32 {
			line = e.declLine.u
		}
		// What is made of a constructor has a linkage name of its own, and is declared
		// elsewhere.
		if linkage != "" && line != 0 || e.origin.kind != kindRef || e.origin.u == at {
			break
		}
		at = e.origin.u
	}
	n := naming{name: plain, linkage: plain, line: uint32(line)}
	if linkage != "" {
		n.name, n.linkage = demangled(linkage), linkage
	}
	if len(d.names) >= maxMemo {
		clear(d.names)
	}
	d.names[off] = n
	d.of.bytes.Add(int64(len(n.name)+len(n.linkage)) + 88)
	return n
}

// entryAt decodes the one entry at off. It looks at a few bytes first, since
// entries are short but may hold a long name.
func (d *dwarfData) entryAt(u *unit, off, usual uint64) (entry, bool) {
	for size := usual; ; size *= 16 {
		size = min(size, u.end-off)
		c := cursor{b: d.info.at(off, size), order: d.order, base: off}
		code := c.uleb()
		if c.bad || code == 0 {
			return entry{}, false
		}
		a, ok := d.abbreviation(u.abbrev, code)
		if !ok {
			return entry{}, false
		}
		var e entry
		e.reset(&a)
		d.readAttributes(u, &c, &a, &e)
		if !c.bad {
			return e, true
		}
		if size == u.end-off || size > maxName {
			return entry{}, false
		}
	}
}
