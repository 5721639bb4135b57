package procmaps

import (
	"bytes"
	"errors"
	"io"
)

// ParseMaps parses the text of a maps file. Malformed text is a [*ParseError]
// that names file. The result does not refer to data, and equal names share one
// string; besides those, parsing costs a fixed number of allocations.
func ParseMaps(data []byte, file string) ([]Mapping, error) {
	rows := make([]Mapping, 0, bytes.Count(data, []byte{'\n'}))
	p := mapsParser{}
	return p.all(&lines{buf: data, file: file}, rows)
}

// ScanMaps parses a maps file row by row, in constant memory but for the names.
// The mapping given to fn is valid until fn returns; a copy may be kept. The
// first error, of the reader, of the text or of fn, ends the scan.
func ScanMaps(r io.Reader, file string, fn func(*Mapping) error) error {
	p := mapsParser{}
	return p.scan(newLines(r, file), fn)
}

// mapsParser turns rows of maps, and the head lines of smaps, into mappings.
type mapsParser struct {
	names interner
	// mend cuts rows that begin before the last one ended. Reading a live
	// process is not atomic: the kernel lets go of its lock after about a page
	// of text, and when the mapping it goes on with was merged or grew
	// meanwhile, the row repeats addresses that were already printed.
	mend bool
	end  uint64 // of the last row
}

// all appends every row to rows.
func (p *mapsParser) all(l *lines, rows []Mapping) ([]Mapping, error) {
	err := p.scan(l, func(m *Mapping) error {
		rows = append(rows, *m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (p *mapsParser) scan(l *lines, fn func(*Mapping) error) error {
	var m Mapping
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if reason := p.row(line, &m); reason != "" {
			return parseError(l.file, l.n, line, reason)
		}
		if !p.place(&m) {
			if p.mend {
				continue
			}
			return parseError(l.file, l.n, line, "addresses go backwards")
		}
		if err := fn(&m); err != nil {
			return err
		}
	}
}

// place checks that the row follows the last one, mending it where allowed, and
// reports whether it holds addresses of its own.
func (p *mapsParser) place(m *Mapping) bool {
	if m.Start < p.end {
		if !p.mend || m.End <= p.end {
			return false
		}
		m.cutBefore(p.end)
	}
	p.end = m.End
	return true
}

// cutBefore drops the part below addr, which must lie inside the mapping.
func (m *Mapping) cutBefore(addr uint64) {
	// maps shows device and offset 0 for memory without a file. The inode is no
	// sign: that of the first System V segment is 0.
	if m.Dev != (Device{}) {
		m.Offset += addr - m.Start
	}
	m.Start = addr
}

// row parses one line; an empty reason is success. The form is that of
// fs/proc/task_mmu.c:show_map_vma():
//
//	7f5c1c021000-7f5c20000000 ---p 00000000 00:00 0                          [anon: arena]
func (p *mapsParser) row(line []byte, m *Mapping) (reason string) {
	var ok bool
	if m.Start, line, ok = cutHex(line, '-', 16); !ok {
		return "bad start address"
	}
	if m.End, line, ok = cutHex(line, ' ', 16); !ok {
		return "bad end address"
	}
	if m.End <= m.Start {
		return "the range is empty"
	}
	if len(line) < 5 || line[4] != ' ' {
		return "bad permissions"
	}
	if m.Mode, ok = parseMode(line[:4]); !ok {
		return "bad permissions"
	}
	if m.Offset, line, ok = cutHex(line[5:], ' ', 16); !ok {
		return "bad offset"
	}
	var major, minor uint64
	if major, line, ok = cutHex(line, ':', 8); !ok {
		return "bad device"
	}
	if minor, line, ok = cutHex(line, ' ', 8); !ok {
		return "bad device"
	}
	m.Dev = Device{uint32(major), uint32(minor)}
	if m.Inode, line, ok = cutDec(line); !ok {
		return "bad inode"
	}
	// The kernel prints a space after the inode even when no name follows, but
	// copies of maps often lost it. A row that was cut shows by its missing newline.
	if len(line) > 0 && line[0] != ' ' {
		return "no space after the inode"
	}
	m.Name = p.names.intern(trimPadding(line))
	return ""
}

// trimPadding drops the spaces before the name. No name starts with a space:
// it is an absolute path, a bracketed word, or begins with the file's class.
func trimPadding(line []byte) []byte {
	i := 0
	for i < len(line) && line[i] == ' ' {
		i++
	}
	return line[i:]
}

func parseMode(b []byte) (Mode, bool) {
	var m Mode
	for i, c := range []byte("rwx") {
		switch b[i] {
		case c:
			m |= 1 << i
		case '-':
		default:
			return 0, false
		}
	}
	switch b[3] {
	case 's':
		m |= Shared
	case 'p':
	default:
		return 0, false
	}
	return m, true
}

// hexDigit gives the value of a lower-case hex digit, and 0xff for other bytes.
var hexDigit = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		t[c] = uint8(i)
	}
	return t
}()

// cutHex reads 1 to limit hex digits that end at sep, and returns what follows sep.
func cutHex(b []byte, sep byte, limit int) (v uint64, rest []byte, ok bool) {
	for i, c := range b {
		d := hexDigit[c]
		if d > 15 {
			return v, b[i+1:], c == sep && i > 0
		}
		if i == limit {
			return 0, nil, false
		}
		v = v<<4 | uint64(d)
	}
	return 0, nil, false
}

// cutDec reads decimal digits, at least one, and returns what follows them.
func cutDec(b []byte) (v uint64, rest []byte, ok bool) {
	const limit = 1<<64 - 1
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		if v > (limit-d)/10 {
			return 0, nil, false
		}
		v = v*10 + d
	}
	return v, b[i:], i > 0
}
