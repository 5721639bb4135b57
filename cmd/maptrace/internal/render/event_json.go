package render

import (
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendJSON appends the line that encoding Object through JSONWriter would
// give. It is written by hand because a busy program makes 300,000 changes a
// second, and whoever prints them takes the processor from it.
func (e *Event) AppendJSON(dst []byte, clock Clock) []byte {
	dst = append(dst, `{"event":`...)
	dst = appendString(dst, e.Op)
	dst = append(dst, `,"time":"`...)
	dst = clock.Time(e.Time).AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	dst = appendNumber(dst, `,"pid":`, uint64(e.PID))
	dst = appendNumber(dst, `,"tid":`, uint64(e.TID))
	dst = appendNumber(dst, `,"space":`, e.Space)
	if !e.Range.Empty() {
		dst = appendHex(append(dst, `,"address":`...), e.Range.Start)
	}
	dst = appendNumber(dst, `,"size":`, e.Range.Len())
	if e.Delta != 0 {
		dst = strconv.AppendInt(append(dst, `,"delta":`...), e.Delta, 10)
	}
	if e.Mapped {
		dst = appendText(dst, `,"mode":`, e.Now.Mode.String())
		dst = appendText(dst, `,"kind":`, e.Now.Kind.String())
		dst = appendText(dst, `,"mapping":`, e.Now.Name)
	}
	if !e.From.Empty() {
		dst = appendHex(append(dst, `,"from":`...), e.From.Start)
		dst = appendNumber(dst, `,"from_size":`, e.From.Len())
	}
	for i := range e.Displaced {
		d := &e.Displaced[i]
		if i == 0 {
			dst = append(dst, `,"displaced":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"how":`...), d.How.String())
		dst = appendHex(append(dst, `,"address":`...), d.Start)
		dst = strconv.AppendUint(append(dst, `,"size":`...), d.Len(), 10)
		dst = appendString(append(dst, `,"mode":`...), d.Mode.String())
		dst = appendString(append(dst, `,"kind":`...), d.Kind.String())
		dst = appendText(dst, `,"mapping":`, d.Name)
		if d.Partial {
			dst = append(dst, `,"split":true`...)
		}
		dst = append(dst, '}')
	}
	if len(e.Displaced) > 0 {
		dst = append(dst, ']')
	}
	if e.Errno != 0 {
		dst = appendText(dst, `,"errno":`, errnoName(e.Errno))
	}
	dst = appendNumber(dst, `,"child":`, uint64(e.Child))
	dst = appendText(dst, `,"comm":`, e.Comm)
	dst = appendNumber(dst, `,"lost":`, e.Lost)
	switch {
	case e.Ended && e.Signal != 0:
		dst = appendNumber(dst, `,"signal":`, uint64(e.Signal))
	case e.Ended:
		dst = strconv.AppendInt(append(dst, `,"status":`...), int64(e.Status), 10)
	}
	dst = appendText(dst, `,"detail":`, e.Detail)
	if e.Late {
		dst = append(dst, `,"late":true`...)
	}
	return append(dst, '}', '\n')
}

// appendNumber appends a member, and nothing for zero.
func appendNumber(dst []byte, key string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, key...), v, 10)
}

// appendText appends a member, and nothing for no text.
func appendText(dst []byte, key, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, key...), s)
}

func appendHex(dst []byte, v uint64) []byte {
	dst = strconv.AppendUint(append(dst, `"0x`...), v, 16)
	return append(dst, '"')
}

// appendString appends s quoted, as encoding/json and JSONWriter do together:
// what is not printable is escaped, and so is what is special in HTML.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ' && c < 0x7f && c != '<' && c != '>' && c != '&':
			dst = append(dst, c)
		case c < utf8.RuneSelf:
			dst = appendShort(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = appendRune(dst, r, n)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

// appendShort appends an ASCII character that cannot stand for itself.
func appendShort(dst []byte, c byte) []byte {
	switch c {
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return fmt.Appendf(dst, `\u%04x`, c)
}

// appendRune appends a character beyond ASCII that took n bytes.
func appendRune(dst []byte, r rune, n int) []byte {
	switch {
	case r == utf8.RuneError && n == 1:
		return append(dst, `\ufffd`...)
	case unicode.IsPrint(r):
		return utf8.AppendRune(dst, r)
	case r <= 0xffff:
		return fmt.Appendf(dst, `\u%04x`, r)
	}
	hi, lo := utf16.EncodeRune(r)
	return fmt.Appendf(dst, `\u%04x\u%04x`, hi, lo)
}
