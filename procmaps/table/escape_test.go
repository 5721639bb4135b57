package table

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing to do", "/usr/lib/libc.so.6 (deleted)", "/usr/lib/libc.so.6 (deleted)"},
		{"nothing at all", "", ""},
		{"a terminal sequence", "a\x1b[31mred", `a\x1b[31mred`},
		{"a one-byte terminal sequence", "a\x9b31m", `a\x9b31m`},
		{"the same in UTF-8", "a\u009b31m", `a\xc2\x9b31m`},
		{"newline, tab, return, delete and NUL", "\n\t\r\x7f\x00", `\x0a\x09\x0d\x7f\x00`},
		{"letters of other alphabets stay", "été 日本 я", "été 日本 я"},
		{"broken UTF-8 after good", "é\xc3", `é\xc3`},
		{"the replacement character itself stays", "\ufffd", "\ufffd"},
		{"text that turns the direction", "a\u202eb", `a\xe2\x80\xaeb`},
		{"a space that is not a space", "a\u00a0b", `a\xc2\xa0b`},
		{"a backslash stays", `c\012lit`, `c\012lit`},
	}
	for _, tt := range tests {
		if got := Escape(tt.in); got != tt.want {
			t.Errorf("%s: Escape(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
		if got := string(appendEscaped([]byte("x"), tt.in)); got != "x"+tt.want {
			t.Errorf("%s: appendEscaped(%q) = %q, want %q", tt.name, tt.in, got, "x"+tt.want)
		}
	}
}

func TestEscapeAllocatesNothingForPlainNames(t *testing.T) {
	name := strings.Repeat("/plain/ete", 20)
	if n := testing.AllocsPerRun(100, func() { _ = Escape(name) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[31m\xff\u202eé")
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		if !utf8.ValidString(got) || strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Fatalf("Escape(%q) = %q is not printable", s, got)
		}
		if Escape(got) != got {
			t.Fatalf("Escape(%q) = %q changes when escaped again", s, got)
		}
	})
}
