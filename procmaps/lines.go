package procmaps

import (
	"bytes"
	"errors"
	"io"
)

// lines cuts text into lines, from memory or from a reader.
type lines struct {
	r    io.Reader // nil: everything is in buf
	file string
	buf  []byte
	pos  int // of the first byte not yet given out
	n    int // number of the line given out last
}

// bufSize holds a few rows of smaps. More would not help: a read of maps or
// smaps returns at most about a page, whatever the size of the buffer.
const bufSize = 16 << 10

func newLines(r io.Reader, file string) *lines {
	return &lines{r: r, file: file, buf: make([]byte, 0, bufSize)}
}

// next returns the next line without its newline; it is valid until the next
// call. At the end it returns io.EOF. Text after the last newline is malformed:
// the kernel ends every line, so the text was cut.
func (l *lines) next() ([]byte, error) {
	seen := l.pos // no newline in buf[l.pos:seen]
	for {
		if i := bytes.IndexByte(l.buf[seen:], '\n'); i >= 0 {
			line := l.buf[l.pos : seen+i]
			l.pos = seen + i + 1
			l.n++
			return line, nil
		}
		seen = len(l.buf)
		if l.r == nil {
			return nil, l.end()
		}
		if l.pos > 0 {
			rest := copy(l.buf, l.buf[l.pos:])
			l.buf, l.pos, seen = l.buf[:rest], 0, rest
		}
		if len(l.buf) == cap(l.buf) {
			l.buf = append(make([]byte, 0, 2*cap(l.buf)), l.buf...)
		}
		n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		if errors.Is(err, io.EOF) {
			l.r = nil
		} else if err != nil {
			return nil, err
		}
	}
}

func (l *lines) end() error {
	if rest := l.buf[l.pos:]; len(rest) > 0 {
		return parseError(l.file, l.n+1, rest, "the last line has no newline")
	}
	return io.EOF
}

// interner keeps one copy of equal strings, so that rows neither cost an
// allocation each nor keep the text they were read from alive.
type interner struct {
	seen map[string]string
	last string
}

func (in *interner) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	// Neighbouring rows mostly name the same file.
	if string(b) == in.last {
		return in.last
	}
	s, ok := in.seen[string(b)]
	if !ok {
		if in.seen == nil {
			in.seen = make(map[string]string, 64)
		}
		s = string(b)
		in.seen[s] = s
	}
	in.last = s
	return s
}
