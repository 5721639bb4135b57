package render

import (
	"bytes"
	"strconv"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/space"
)

// Text prints events as lines of aligned columns.
type Text struct {
	Clock Clock
	Paths bool // whole paths instead of their last element
}

// AppendHeader appends the headings.
func (t *Text) AppendHeader(dst []byte) []byte {
	return append(dst, "TIME            PID/TID     OP       ADDRESS          SIZE MODE MAPPING\n"...)
}

// pad appends spaces until dst is width longer than it was at from, and one more.
func pad(dst []byte, from, width int) []byte {
	for len(dst)-from < width {
		dst = append(dst, ' ')
	}
	return append(dst, ' ')
}

// Append appends the line of an event.
func (t *Text) Append(dst []byte, e *Event) []byte {
	dst = t.Clock.Time(e.Time).AppendFormat(dst, "15:04:05.000000")
	dst = append(dst, ' ')
	from := len(dst)
	if e.PID != 0 {
		dst = appendIDs(dst, e.PID, e.NSPID, e.TID)
	}
	dst = pad(dst, from, 11)
	from = len(dst)
	dst = append(dst, e.Op...)
	if e.Range.Empty() && !e.Mapped && e.Errno == 0 && !e.Suppressed {
		dst = append(pad(dst, from, 8), table.Escape(e.Detail)...)
		if e.Polled {
			dst = append(append(append(dst, "  ("...), byPolling...), ')')
		}
		return endLine(dst)
	}
	dst = pad(dst, from, 8)
	dst = appendAddress(dst, e.Range.Start)
	dst = append(dst, ' ')
	var size [24]byte
	s := appendSize(size[:0], e)
	for range 8 - len(s) {
		dst = append(dst, ' ')
	}
	dst = append(append(dst, s...), ' ')
	from = len(dst)
	switch {
	case e.Mapped:
		dst = append(dst, e.Now.Mode.String()...)
	case len(e.Displaced) > 0:
		dst = append(dst, e.Displaced[0].Mode.String()...)
	}
	dst = pad(dst, from, 4)
	switch {
	case e.Errno != 0:
		dst = append(dst, "= "...)
		dst = append(dst, errnoName(e.Errno)...)
	case e.Suppressed:
		dst = append(dst, "= 0x"...)
		dst = strconv.AppendUint(dst, uint64(e.Result), 16)
		dst = append(dst, ", suppressed by seccomp"...)
	case e.Mapped || len(e.Displaced) > 0:
		dst = append(dst, Name(e.Name(), t.Paths)...)
	default:
		dst = append(dst, '-')
	}
	dst = endLine(t.appendNotes(dst, e))
	for _, frame := range e.Stack {
		dst = append(dst, stackIndent...)
		dst = endLine(append(dst, table.Escape(frame)...))
	}
	return dst
}

// byPolling marks what was seen by looking at /proc.
const byPolling = "seen by polling"

// appendIDs appends process and thread: 1234/1235, or, where the process goes by
// another number in its own pid namespace, 1234(7)/1235. A thread that is not known
// is a dash.
func appendIDs(dst []byte, pid, inner, tid int) []byte {
	dst = strconv.AppendInt(dst, int64(pid), 10)
	if inner != 0 {
		dst = append(strconv.AppendInt(append(dst, '('), int64(inner), 10), ')')
	}
	dst = append(dst, '/')
	if tid == 0 {
		return append(dst, '-')
	}
	return strconv.AppendInt(dst, int64(tid), 10)
}

// stackIndent puts the functions of a stack below the operation of their call.
const stackIndent = "                            "

// endLine ends a line without spaces before its end.
func endLine(dst []byte) []byte {
	return append(bytes.TrimRight(dst, " "), '\n')
}

func appendAddress(dst []byte, addr uint64) []byte {
	from := len(dst)
	dst = strconv.AppendUint(dst, addr, 16)
	if n := 12 - (len(dst) - from); n > 0 {
		digits := string(dst[from:])
		dst = dst[:from]
		for range n {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	}
	return dst
}

// appendSize appends the change in KiB with its sign, or the size of the range
// where nothing came or went.
func appendSize(dst []byte, e *Event) []byte {
	switch {
	case e.Delta > 0:
		dst = append(dst, '+')
		dst = strconv.AppendInt(dst, e.Delta>>10, 10)
	case e.Delta < 0:
		dst = strconv.AppendInt(dst, e.Delta>>10, 10)
	default:
		dst = strconv.AppendUint(dst, e.Range.Len()>>10, 10)
	}
	return append(dst, 'K')
}

// appendNotes appends what became of what was there, and other details.
func (t *Text) appendNotes(dst []byte, e *Event) []byte {
	n := 0
	note := func() {
		if n == 0 {
			dst = append(dst, "  ("...)
		} else {
			dst = append(dst, "; "...)
		}
		n++
	}
	if e.Detail != "" {
		note()
		dst = append(dst, table.Escape(e.Detail)...)
	}
	if !e.From.Empty() && e.From != e.Range {
		note()
		dst = append(dst, "from "...)
		dst = appendAddress(dst, e.From.Start)
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, e.From.Len()>>10, 10)
		dst = append(dst, 'K')
	}
	const most = 3
	told := 0
	for i := range e.Displaced {
		d := &e.Displaced[i]
		switch {
		case d.How == space.Moved:
			continue // told as "from"
		case !e.Mapped && len(e.Displaced) == 1 && !d.Partial:
			continue // the line itself is about it
		}
		if told++; told > most {
			continue
		}
		note()
		dst = t.appendDisplaced(dst, d)
	}
	if told > most {
		note()
		dst = append(dst, "and "...)
		dst = strconv.AppendInt(dst, int64(told-most), 10)
		dst = append(dst, " more"...)
	}
	if e.Late {
		note()
		dst = append(dst, "late"...)
	}
	if e.Polled {
		note()
		dst = append(dst, byPolling...)
	}
	if n > 0 {
		dst = append(dst, ')')
	}
	return dst
}

// appendDisplaced appends what became of one piece.
func (t *Text) appendDisplaced(dst []byte, d *space.Displaced) []byte {
	if d.How == space.Protected {
		dst = append(dst, "was "...)
		dst = append(dst, d.Mode.String()...)
	} else {
		dst = append(dst, d.How.String()...)
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, d.Len()>>10, 10)
		dst = append(dst, "K "...)
		dst = append(dst, d.Mode.String()...)
		dst = append(dst, ' ')
		dst = append(dst, Name(d.Name, t.Paths)...)
	}
	if d.Partial {
		dst = append(dst, ", split"...)
	}
	return dst
}
