package export

import (
	"compress/gzip"
	"encoding/binary"
	"io"
)

// The messages of a profile, as far as they are used here, named as in proto/profile.proto
// of github.com/google/pprof. They are encoded by hand, as runtime/pprof does it: that
// module's own package initializes 150 KB at every start, whatever the command.
type (
	profile struct {
		sampleTypes       []valueType
		samples           []*sample
		mappings          []*mapping
		locations         []*location
		functions         []*function
		timeNanos         int64
		periodType        valueType
		period            int64
		comments          []string
		defaultSampleType string
	}

	valueType struct{ kind, unit string }

	sample struct {
		locations []*location // innermost first
		values    []int64     // one for each sample type
		memory    string      // the value of the label "memory"
	}

	mapping struct {
		id                                                          uint64
		start, limit, offset                                        uint64
		file, buildID                                               string
		hasFunctions, hasFilenames, hasLineNumbers, hasInlineFrames bool
	}

	location struct {
		id      uint64
		mapping *mapping
		address uint64
		lines   []line // the last is of the function that the others were inlined into
	}

	line struct {
		function *function
		line     int64
	}

	function struct {
		id                         uint64
		name, systemName, filename string
		startLine                  int64
	}
)

// write writes the profile in its compressed form.
func (p *profile) write(out io.Writer) error {
	z := gzip.NewWriter(out)
	if _, err := z.Write(p.encode()); err != nil {
		return err
	}
	return z.Close()
}

func (p *profile) encode() []byte {
	e := &encoder{numbers: map[string]uint64{"": 0}, texts: []string{""}}
	for _, t := range p.sampleTypes {
		e.valueType(1, t)
	}
	for _, s := range p.samples {
		e.message(2, func() {
			e.packed(1, len(s.locations), func(i int) uint64 { return s.locations[i].id })
			e.packed(2, len(s.values), func(i int) uint64 { return uint64(s.values[i]) })
			e.message(3, func() {
				e.text(1, "memory")
				e.text(2, s.memory)
			})
		})
	}
	for _, m := range p.mappings {
		e.message(3, func() {
			e.number(1, m.id)
			e.number(2, m.start)
			e.number(3, m.limit)
			e.number(4, m.offset)
			e.text(5, m.file)
			e.text(6, m.buildID)
			e.truth(7, m.hasFunctions)
			e.truth(8, m.hasFilenames)
			e.truth(9, m.hasLineNumbers)
			e.truth(10, m.hasInlineFrames)
		})
	}
	for _, l := range p.locations {
		e.message(4, func() {
			e.number(1, l.id)
			e.number(2, l.mapping.id)
			e.number(3, l.address)
			for _, line := range l.lines {
				e.message(4, func() {
					e.number(1, line.function.id)
					e.number(2, uint64(line.line))
				})
			}
		})
	}
	for _, f := range p.functions {
		e.message(5, func() {
			e.number(1, f.id)
			e.text(2, f.name)
			e.text(3, f.systemName)
			e.text(4, f.filename)
			e.number(5, uint64(f.startLine))
		})
	}
	e.number(9, uint64(p.timeNanos))
	e.valueType(11, p.periodType)
	e.number(12, uint64(p.period))
	e.packed(13, len(p.comments), func(i int) uint64 { return e.index(p.comments[i]) })
	e.text(14, p.defaultSampleType)
	for _, s := range e.texts { // which all the others are in by now
		e.bytes(6, []byte(s))
	}
	return e.buf
}

// encoder writes messages of protocol buffers. Texts are indices into the profile's
// table of them.
type encoder struct {
	buf     []byte
	numbers map[string]uint64
	texts   []string
}

// index is the place of a text in the table.
func (e *encoder) index(s string) uint64 {
	n, ok := e.numbers[s]
	if !ok {
		n = uint64(len(e.texts))
		e.numbers[s], e.texts = n, append(e.texts, s)
	}
	return n
}

// The wire types of fields.
const (
	wireNumber = 0
	wireBytes  = 2
)

func (e *encoder) tag(field, wire uint64) { e.buf = binary.AppendUvarint(e.buf, field<<3|wire) }

// number writes a field, and nothing for its default.
func (e *encoder) number(field, v uint64) {
	if v != 0 {
		e.tag(field, wireNumber)
		e.buf = binary.AppendUvarint(e.buf, v)
	}
}

func (e *encoder) text(field uint64, s string) { e.number(field, e.index(s)) }

func (e *encoder) truth(field uint64, v bool) {
	if v {
		e.number(field, 1)
	}
}

func (e *encoder) bytes(field uint64, b []byte) {
	e.tag(field, wireBytes)
	e.buf = append(binary.AppendUvarint(e.buf, uint64(len(b))), b...)
}

// message writes a field that is what fields writes.
func (e *encoder) message(field uint64, fields func()) {
	outer := e.buf
	e.buf = nil
	fields()
	inner := e.buf
	e.buf = outer
	e.bytes(field, inner)
}

// packed writes a list of n numbers.
func (e *encoder) packed(field uint64, n int, at func(int) uint64) {
	var b []byte
	for i := range n {
		b = binary.AppendUvarint(b, at(i))
	}
	if n > 0 {
		e.bytes(field, b)
	}
}

func (e *encoder) valueType(field uint64, t valueType) {
	e.message(field, func() {
		e.text(1, t.kind)
		e.text(2, t.unit)
	})
}
