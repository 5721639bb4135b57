package table

import (
	"unicode"
	"unicode/utf8"
)

// Escape returns s with every byte that is not part of a printable character of
// valid UTF-8 written as \xNN, so that a name chosen by a traced program cannot
// steer a terminal. Spaces stay; newlines and tabs do not. Backslashes stay as
// they are, so the result is for people and cannot be turned back reliably. It
// allocates only when there is something to escape.
func Escape(s string) string {
	for i := 0; i < len(s); {
		n, ok := printable(s[i:])
		if !ok {
			return string(appendEscaped([]byte(s[:i]), s[i:]))
		}
		i += n
	}
	return s
}

// appendEscaped appends Escape(s) to dst and returns the extended slice.
func appendEscaped(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(s); {
		n, ok := printable(s[i:])
		if ok {
			dst = append(dst, s[i:i+n]...)
		} else {
			for _, c := range []byte(s[i : i+n]) {
				dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
			}
		}
		i += n
	}
	return dst
}

// printable looks at the first character of s and returns its length in bytes.
func printable(s string) (n int, ok bool) {
	if c := s[0]; c < utf8.RuneSelf {
		return 1, ' ' <= c && c < 0x7f
	}
	r, n := utf8.DecodeRuneInString(s)
	return n, (r != utf8.RuneError || n > 1) && unicode.IsPrint(r)
}
