package symbol

import (
	"path"
	"slices"
	"sort"
)

// lineTable maps a unit's code to positions. File numbers count as the unit's
// version does, from 0 or from 1.
type lineTable struct {
	rows  []row
	dirs  []attribute
	files []lineFile
	base  uint32 // the number of files[0]
	paths map[uint32]string
}

// row says that the code from addr to the next row is of a line. Line 0 begins
// what is of none.
type row struct {
	addr uint64
	file uint32
	line uint32
}

type lineFile struct {
	name attribute
	dir  uint64
}

func (t *lineTable) bytes() int64 {
	return int64(cap(t.rows))*16 + int64(cap(t.dirs))*16 + int64(cap(t.files))*24
}

// find returns the file number and the line of an address, or zeros.
func (t *lineTable) find(addr uint64) (file, line uint32) {
	i := sort.Search(len(t.rows), func(i int) bool { return t.rows[i].addr > addr }) - 1
	if i < 0 {
		return 0, 0
	}
	return t.rows[i].file, t.rows[i].line
}

// fileName returns the path of a file, absolute if the compiler was told so.
func (d *dwarfData) fileName(u *unit, t *lineTable, number uint32) string {
	if name, ok := t.paths[number]; ok {
		return name
	}
	name := d.readFileName(u, t, number)
	if t.paths == nil {
		t.paths = make(map[uint32]string)
	}
	if len(t.paths) < maxMemo {
		t.paths[number] = name
		n := int64(len(name)) + 48
		d.held += n // with the unit
		d.of.bytes.Add(n)
	}
	return name
}

func (d *dwarfData) readFileName(u *unit, t *lineTable, number uint32) string {
	i := number - t.base
	if uint64(i) >= uint64(len(t.files)) {
		return ""
	}
	f := &t.files[i]
	name := d.lineText(u, f.name)
	if name == "" || path.IsAbs(name) {
		return name
	}
	// Directory 0 is the compilation directory; before version 5 it is implied.
	dir := f.dir
	if t.base == 1 {
		dir--
	}
	if (t.base == 0 || f.dir > 0) && dir < uint64(len(t.dirs)) {
		name = path.Join(d.lineText(u, t.dirs[dir]), name)
	}
	if !path.IsAbs(name) {
		name = path.Join(d.text(u, u.dir), name)
	}
	return name
}

// lineText is text whose inline strings are in .debug_line.
func (d *dwarfData) lineText(u *unit, v attribute) string {
	if v.kind == kindString {
		return d.line.string(v.u)
	}
	return d.text(u, v)
}

// program is the header of a line number program.
type program struct {
	version    uint16
	minLength  uint64
	maxOps     uint64
	lineBase   int64
	lineRange  uint64
	opcodeBase uint8
	lengths    []byte
}

// readLines runs a unit's line number program.
func (d *dwarfData) readLines(u *unit) (t lineTable) {
	if !u.hasLines {
		return t
	}
	head := cursor{b: d.line.from(u.lines, 12), order: d.order}
	length, is64 := head.length()
	if head.bad {
		return t
	}
	if length > d.mostUnit() {
		d.of.refusePart(".debug_line")
		return t
	}
	c := cursor{b: d.line.at(u.lines, head.at+length), base: u.lines, order: d.order, at: head.at}
	if c.b == nil {
		return t
	}
	var p program
	if p.version = c.u16(); p.version < 2 || p.version > 5 {
		return t
	}
	v := *u // the forms in the header are sized as the program's header says
	v.is64 = is64
	if p.version >= 5 {
		v.addrSize = c.u8()
		c.skip(1)
	}
	size := c.offset(is64)
	start := c.at + size
	p.minLength, p.maxOps = uint64(c.u8()), 1
	if p.version >= 4 {
		p.maxOps = uint64(c.u8())
	}
	c.skip(1)
	p.lineBase, p.lineRange = int64(int8(c.u8())), uint64(c.u8())
	p.opcodeBase = c.u8()
	if c.bad || p.lineRange == 0 || p.opcodeBase == 0 || start > uint64(len(c.b)) {
		return t
	}
	p.lengths = c.take(uint64(p.opcodeBase - 1))
	if p.version >= 5 {
		t.readPaths(&v, &c)
	} else {
		t.readOldPaths(&c)
	}
	if c.bad {
		return lineTable{}
	}
	c.at = start
	d.run(&c, &p, &t)
	return t
}

// readOldPaths reads the directories and files of versions 2 to 4.
func (t *lineTable) readOldPaths(c *cursor) {
	t.base = 1
	for !c.bad {
		at := c.at
		s := c.cstring()
		if c.at == at+1 {
			break
		}
		t.dirs = append(t.dirs, attribute{s, kindString})
	}
	for !c.bad && t.readOldFile(c) {
	}
}

func (t *lineTable) readOldFile(c *cursor) bool {
	at := c.at
	s := c.cstring()
	if c.at == at+1 || c.bad {
		return false
	}
	t.files = append(t.files, lineFile{attribute{s, kindString}, c.uleb()})
	c.uleb()
	c.uleb()
	return true
}

// readPaths reads the directories and files of version 5.
func (t *lineTable) readPaths(u *unit, c *cursor) {
	for pass := range 2 {
		type field struct{ content, form uint64 }
		format := make([]field, c.u8())
		for i := range format {
			format[i] = field{c.uleb(), c.uleb()}
		}
		count := c.uleb()
		// An entry takes a byte at least; a claim of more would cost us memory.
		if count > 0 && len(format) == 0 || count > uint64(len(c.b))-c.at {
			c.bad = true
		}
		for ; count > 0 && !c.bad; count-- {
			const contentPath, contentDir = 1, 2
			var f lineFile
			at := c.at
			for _, x := range format {
				v := u.value(c, x.form, 0)
				switch x.content {
				case contentPath:
					f.name = v
				case contentDir:
					f.dir = v.u
				}
			}
			if c.at == at {
				c.bad = true
			}
			if pass == 0 {
				t.dirs = append(t.dirs, f.name)
			} else {
				t.files = append(t.files, f)
			}
		}
	}
}

// run collects the rows of a line number program that begins at c.
func (d *dwarfData) run(c *cursor, p *program, t *lineTable) {
	const (
		extended, opCopy, advancePC, advanceLine, setFile, setColumn = 0, 1, 2, 3, 4, 5
		constAddPC, fixedAdvancePC                                   = 8, 9
		endSequence, setAddress, defineFile                          = 1, 2, 3
	)
	var addr, op uint64
	file, line := uint32(1), int64(1)
	start := len(t.rows) // of the sequence
	advance := func(n uint64) {
		if p.maxOps > 1 {
			addr += p.minLength * ((op + n) / p.maxOps)
			op = (op + n) % p.maxOps
			return
		}
		addr += p.minLength * n
	}
	emit := func() {
		r := row{addr, file, uint32(max(line, 0))}
		if n := len(t.rows); n > start && t.rows[n-1].addr == addr {
			t.rows[n-1] = r // only the last row of an address has code
			return
		} else if n > start && t.rows[n-1].file == file && t.rows[n-1].line == r.line {
			return
		}
		t.rows = append(t.rows, r)
	}
	most := int(min(maxRows, d.of.opts.MaxTable/rowBytes))
	for !c.bad && c.at < uint64(len(c.b)) && len(t.rows) < most && d.of.steps(1) {
		code := c.u8()
		if code >= p.opcodeBase {
			n := uint64(code - p.opcodeBase)
			advance(n / p.lineRange)
			line += p.lineBase + int64(n%p.lineRange)
			emit()
			continue
		}
		switch code {
		case extended:
			length := c.uleb()
			next := c.at + length
			if length == 0 || next > uint64(len(c.b)) || next < c.at {
				c.bad = true
				break
			}
			switch c.u8() {
			case endSequence:
				line = 0
				emit()
				if len(t.rows) > start && !covered(d.code, t.rows[start].addr) {
					t.rows = t.rows[:start] // of code that the linker left out
				}
				start = len(t.rows)
				addr, op, file, line = 0, 0, 1, 1
			case setAddress:
				addr, op = c.uint(uint8(length-1)), 0
			case defineFile:
				t.readOldFile(c)
			}
			c.at = next
		case opCopy:
			emit()
		case advancePC:
			advance(c.uleb())
		case advanceLine:
			line += c.sleb()
		case setFile:
			file = uint32(c.uleb())
		case constAddPC:
			advance(uint64(255-p.opcodeBase) / p.lineRange)
		case fixedAdvancePC:
			addr += uint64(c.u16())
			op = 0
		default:
			for n := p.lengths[code-1]; n > 0 && !c.bad; n-- {
				c.uleb()
			}
		}
	}
	if len(t.rows) >= most {
		d.of.refusePart(".debug_line")
	}
	t.rows = t.rows[:start] // a sequence that does not end is of no use
	// The end of a sequence yields to the beginning of another at its address.
	if !sortPaid(d.of, slices.SortStableFunc, t.rows, func(a, b row) int {
		switch {
		case a.addr != b.addr:
			if a.addr < b.addr {
				return -1
			}
			return 1
		case (a.line == 0) == (b.line == 0):
			return 0
		case a.line == 0:
			return -1
		}
		return 1
	}) {
		t.rows = nil
	}
	t.rows = slices.Clip(t.rows)
}
