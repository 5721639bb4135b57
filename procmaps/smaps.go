package procmaps

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// Key is the name of a number in smaps, for example "Rss".
type Key struct {
	Name string
	// KB says that the kernel gives the value in KiB (it prints "kB"); without
	// it the value is a plain number, as for THPeligible and ProtectionKey.
	KB bool
}

// Smaps is the content of one smaps or smaps_rollup file. It is safe for
// concurrent reading.
type Smaps struct {
	// Keys are all keys seen, in the order in which the file first shows them.
	Keys []Key
	// Rows are in address order.
	Rows []SmapsRow

	index map[string]int
	vals  []uint64 // the numbers of all rows, one after the other
}

// SmapsRow is one mapping of smaps. Its numbers live in the Smaps it came from.
type SmapsRow struct {
	Mapping
	Flags VmFlags
	// Text holds lines that are neither numbers nor VmFlags, such as the Name
	// of some Android kernels; nil nearly always.
	Text []TextValue

	smaps *Smaps
	at    int // in smaps.vals
	shape *shape
}

// TextValue is a line of smaps whose value is not a number.
type TextValue struct{ Key, Text string }

// shape says which keys a row has. Rows with the same keys share one.
type shape struct {
	keys []int // indexes of Smaps.Keys, in the order of the row
	pos  []int // by index of Smaps.Keys: position in keys, or -1
}

// Index returns the place of the key in Keys.
func (s *Smaps) Index(key string) (int, bool) {
	i, ok := s.index[key]
	return i, ok
}

// Value returns the row's number for Smaps.Keys[key], in KiB if the key says
// so. It reports false when the row has no such line.
func (r *SmapsRow) Value(key int) (uint64, bool) {
	if r.shape == nil || key < 0 || key >= len(r.shape.pos) || r.shape.pos[key] < 0 {
		return 0, false
	}
	return r.smaps.vals[r.at+r.shape.pos[key]], true
}

// Number returns the row's number for the named key, whatever its unit. It
// reports false when the row has no such line.
func (r *SmapsRow) Number(key string) (uint64, bool) {
	if r.smaps == nil {
		return 0, false
	}
	i, ok := r.smaps.index[key]
	if !ok {
		return 0, false
	}
	return r.Value(i)
}

// KB returns the row's number for the named key in KiB. It reports false when
// the row has no such line, or when the key is not an amount of memory.
func (r *SmapsRow) KB(key string) (uint64, bool) {
	if r.smaps == nil {
		return 0, false
	}
	i, ok := r.smaps.index[key]
	if !ok || !r.smaps.Keys[i].KB {
		return 0, false
	}
	return r.Value(i)
}

// SumKB adds the named key over all rows, in KiB.
func (s *Smaps) SumKB(key string) uint64 {
	i, ok := s.index[key]
	if !ok || !s.Keys[i].KB {
		return 0
	}
	var sum uint64
	for r := range s.Rows {
		v, _ := s.Rows[r].Value(i)
		sum += v
	}
	return sum
}

// ParseSmaps parses the text of a smaps file. Malformed text is a [*ParseError]
// that names file. The result does not refer to data.
func ParseSmaps(data []byte, file string) (*Smaps, error) {
	p := newSmapsParser()
	return p.parse(&lines{buf: data, file: file})
}

// ReadSmaps is [ParseSmaps] over a reader: it never holds the whole text, which
// is tens of megabytes for a process with many mappings.
func ReadSmaps(r io.Reader, file string) (*Smaps, error) {
	p := newSmapsParser()
	return p.parse(newLines(r, file))
}

// ParseRollup parses the text of smaps_rollup: one row, over all mappings, whose
// range goes from the start of the first to the end of the last.
func ParseRollup(data []byte, file string) (*SmapsRow, error) {
	p := newSmapsParser()
	p.rollup = true
	s, err := p.parse(&lines{buf: data, file: file})
	if err != nil {
		return nil, err
	}
	if len(s.Rows) != 1 {
		return nil, parseError(file, 1, nil, "want one row")
	}
	return &s.Rows[0], nil
}

type smapsParser struct {
	maps   mapsParser
	rollup bool
	hint   int // about how many rows to expect; 0 for no idea
	s      *Smaps
	shapes map[string]*shape
	flags  map[string]VmFlags
	texts  map[string]bool // keys that are not numbers
	// emit takes a row that is complete, and its numbers; neither is kept then. Its first
	// error ends the parsing.
	emit   func(*SmapsRow, []uint64) error
	failed error

	// The row being read.
	open    bool   // there is one
	skip    bool   // it is dropped: a torn read repeated it
	like    *shape // of the row before: what the next keys will be, almost surely
	same    int    // how many keys were as like said
	differs bool   // a key was not as like said
	keys    []int  // the row's keys, if it differs
}

func newSmapsParser() *smapsParser {
	s := &Smaps{index: make(map[string]int, 32)}
	return &smapsParser{
		s: s, like: &shape{}, shapes: map[string]*shape{}, flags: map[string]VmFlags{}, texts: map[string]bool{},
	}
}

func (p *smapsParser) parse(l *lines) (*Smaps, error) {
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			p.closeRow()
			return p.s, p.failed
		}
		if err != nil {
			return nil, err
		}
		if reason := p.line(line); reason != "" {
			return nil, parseError(l.file, l.n, line, reason)
		}
		if p.failed != nil {
			return nil, p.failed
		}
	}
}

// line takes a head line or a "Key:   value" line. Only the first word of the
// latter ends in a colon.
func (p *smapsParser) line(line []byte) (reason string) {
	// The key expected next is found by comparing with it alone.
	if !p.differs && p.same < len(p.like.keys) {
		i := p.like.keys[p.same]
		name := p.s.Keys[i].Name
		if n := len(name); len(line) > n && line[n] == ':' && string(line[:n]) == name {
			return p.number(i, line[n+1:])
		}
	}
	n := bytes.IndexAny(line, " :")
	if n <= 0 || line[n] == ' ' {
		return p.head(line)
	}
	if !p.open {
		return "a key before the first mapping"
	}
	name, value := line[:n], line[n+1:]
	if string(name) == "VmFlags" {
		return p.vmFlags(trimBlanks(value))
	}
	i, known := p.s.index[string(name)]
	if !known {
		text := trimBlanks(value)
		// What was text once stays text, even if it looks like a number.
		if p.texts[string(name)] || len(text) == 0 || text[0] < '0' || text[0] > '9' {
			p.text(string(name), text)
			return ""
		}
		i = len(p.s.Keys)
		p.s.Keys = append(p.s.Keys, Key{Name: string(name), KB: bytes.HasSuffix(text, []byte(" kB"))})
		p.s.index[p.s.Keys[i].Name] = i
	}
	if !p.differs {
		p.differs, p.keys = true, append(p.keys[:0], p.like.keys[:p.same]...)
	}
	if slices.Contains(p.keys, i) {
		return "the mapping has this key twice"
	}
	p.keys = append(p.keys, i)
	return p.number(i, value)
}

// number takes the value of the key with the given index.
func (p *smapsParser) number(key int, value []byte) (reason string) {
	v, unit, ok := cutDec(trimBlanks(value))
	if !ok {
		return "bad number"
	}
	switch {
	case p.s.Keys[key].KB && string(unit) != " kB":
		return "want a number of kB"
	case !p.s.Keys[key].KB && len(unit) != 0:
		return "want a number without a unit"
	}
	if !p.differs {
		p.same++
	}
	if !p.skip {
		p.s.vals = append(p.s.vals, v)
	}
	return ""
}

// trimBlanks drops what stands between a key and its value: spaces, but tabs before
// THPeligible's in some kernels.
func trimBlanks(value []byte) []byte {
	i := 0
	for i < len(value) && (value[i] == ' ' || value[i] == '\t') {
		i++
	}
	return value[i:]
}

func (p *smapsParser) vmFlags(value []byte) (reason string) {
	f, ok := p.flags[string(value)]
	if !ok {
		if f, ok = ParseVmFlags(string(value)); !ok {
			return "bad VmFlags"
		}
		p.flags[f.text] = f
		p.flags[string(value)] = f
	}
	if !p.skip {
		p.row().Flags = f
	}
	return ""
}

func (p *smapsParser) text(name string, text []byte) {
	p.texts[name] = true
	if !p.skip {
		r := p.row()
		r.Text = append(r.Text, TextValue{name, string(text)})
	}
}

func (p *smapsParser) row() *SmapsRow { return &p.s.Rows[len(p.s.Rows)-1] }

// head starts the next row.
func (p *smapsParser) head(line []byte) (reason string) {
	p.closeRow()
	var m Mapping
	if reason := p.maps.row(line, &m); reason != "" {
		// The range of a rollup is empty when the process has no mapping.
		if !p.rollup || m.Start != 0 || m.End != 0 || !bytes.HasPrefix(line, []byte("00000000-00000000 ---p ")) {
			return reason
		}
		m.Name = "[rollup]"
	}
	p.open, p.skip = true, !p.rollup && !p.maps.place(&m)
	if p.skip {
		if p.maps.mend {
			return ""
		}
		return "addresses go backwards"
	}
	if len(p.s.Rows) == 1 && p.hint > 0 {
		n := p.hint + p.hint/16
		p.s.Rows = slices.Grow(p.s.Rows, n)
		p.s.vals = slices.Grow(p.s.vals, n*len(p.s.Keys))
	}
	p.s.Rows = append(p.s.Rows, SmapsRow{Mapping: m, smaps: p.s, at: len(p.s.vals)})
	return ""
}

// closeRow gives the row that ends its shape.
func (p *smapsParser) closeRow() {
	if !p.open {
		return
	}
	switch {
	case p.differs:
		p.like = p.shapeOf(p.keys)
	case p.same < len(p.like.keys):
		p.like = p.shapeOf(p.like.keys[:p.same])
	}
	if !p.skip {
		r := p.row()
		r.shape = p.like
		if p.emit != nil {
			p.failed = p.emit(r, p.s.vals[r.at:])
			p.s.Rows, p.s.vals = p.s.Rows[:0], p.s.vals[:0]
		}
	}
	p.open, p.same, p.differs = false, 0, false
}

func (p *smapsParser) shapeOf(keys []int) *shape {
	id := make([]byte, 0, 64)
	for _, k := range keys {
		id = append(id, byte(k), byte(k>>8), byte(k>>16))
	}
	sh, ok := p.shapes[string(id)]
	if !ok {
		sh = &shape{keys: slices.Clone(keys), pos: make([]int, len(p.s.Keys))}
		for i := range sh.pos {
			sh.pos[i] = -1
		}
		for i, k := range keys {
			sh.pos[k] = i
		}
		p.shapes[string(id)] = sh
	}
	return sh
}
