package table

import (
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendJSON appends a row as a JSON object with the columns' keys. Values that
// are not known are left out, and numbers are as the column has them, whatever
// its text form.
func AppendJSON[R any](dst []byte, columns []Column[R], r R) []byte {
	dst = append(dst, '{')
	for i := range columns {
		c := &columns[i]
		v := c.Value(r)
		if !v.Known() {
			continue
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = AppendJSONString(dst, c.Key)
		dst = append(dst, ':')
		dst = v.appendJSON(dst)
	}
	return append(dst, '}')
}

func (v Value) appendJSON(dst []byte) []byte {
	switch v.kind {
	case kindText:
		return AppendJSONString(dst, v.text)
	case kindFloat:
		// The plain form has one decimal; here nothing is rounded.
		return strconv.AppendFloat(dst, v.float(), 'g', -1, 64)
	}
	return v.Append(dst)
}

// AppendJSONString appends s quoted, as encoding/json does, with every character
// that is not printable escaped too: names come from traced programs, and some
// terminals obey the control characters that JSON lets through. A byte that is
// part of no UTF-8 becomes the text \xNN, as [Escape] has it, so that names which differ
// in such bytes differ.
func AppendJSONString(dst []byte, s string) []byte {
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
			if r == utf8.RuneError && n == 1 {
				dst = fmt.Appendf(dst, `\\x%02x`, c)
			} else {
				dst = appendRune(dst, r)
			}
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

// appendRune appends a character.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case unicode.IsPrint(r):
		return utf8.AppendRune(dst, r)
	case r <= 0xffff:
		return fmt.Appendf(dst, `\u%04x`, r)
	}
	hi, lo := utf16.EncodeRune(r)
	return fmt.Appendf(dst, `\u%04x\u%04x`, hi, lo)
}

// Name is what a traced program has named: encoding/json writes it as [AppendJSONString]
// does.
type Name string

// MarshalJSON implements json.Marshaler.
func (n Name) MarshalJSON() ([]byte, error) { return AppendJSONString(nil, string(n)), nil }

// JSONWriter passes on lines of JSON as encoding/json writes them, with every
// character that is not printable escaped as [AppendJSONString] does. Each Write must
// end at the end of a character.
func JSONWriter(w io.Writer) io.Writer { return &jsonWriter{w: w} }

type jsonWriter struct {
	w   io.Writer
	buf []byte
}

func (j *jsonWriter) Write(p []byte) (int, error) {
	j.buf = j.buf[:0]
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r == '\n' {
			j.buf = append(j.buf, '\n')
		} else {
			j.buf = appendRune(j.buf, r)
		}
		i += n
	}
	if _, err := j.w.Write(j.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}
