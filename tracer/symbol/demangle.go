package symbol

import (
	"cmp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ianlancetaylor/demangle"
)

// Names of C++ can be of any length: a template's arguments are in them. Longer
// mangled ones are left alone, longer demangled ones are cut by the library.
const (
	maxMangled     = 16 << 10
	maxReadableLog = 12 // 4096 bytes
)

// demangled makes a name of C++ or Rust readable: without parameters, hashes and
// the suffixes of the copies and pieces that compilers make of a function. Of
// other names only those suffixes are removed.
func demangled(name string) string {
	if !strings.HasPrefix(name, "_Z") && !strings.HasPrefix(name, "_R") || len(name) > maxMangled {
		return withoutClones(name)
	}
	if path, ok := legacyRust(name); ok {
		if readable, ok := readableRust(path); ok {
			return readable
		}
	}
	readable := name
	guard(func() {
		readable = demangle.Filter(name, demangle.NoParams, demangle.NoEnclosingParams, demangle.NoABITags,
			demangle.MaxLength(maxReadableLog))
	})
	return cmp.Or(readable, name) // some have no more than a suffix
}

// The suffixes of GCC and LLVM, which a number may follow.
var cloneSuffixes = []string{".cold", ".constprop", ".isra", ".part", ".lto_priv", ".llvm"}

func withoutClones(name string) string {
	dot := strings.IndexByte(name, '.')
	if dot <= 0 {
		return name
	}
	for _, suffix := range cloneSuffixes {
		if rest, ok := strings.CutPrefix(name[dot:], suffix); ok && (rest == "" || rest[0] == '.') {
			return name[:dot]
		}
	}
	return name
}

// ofRust tells whether a mangled name is of Rust: it has its prefix, or is in the
// form that was the only one before.
func ofRust(name string) bool {
	_, legacy := legacyRust(name)
	return legacy || strings.HasPrefix(name, "_R")
}

// legacyRust returns the path in a name of Rust's older form, which looks like C++ but
// ends with a hash: the parts of the path, each after its length.
func legacyRust(name string) (path string, ok bool) {
	const start, digits = "17h", 16
	name, ok = strings.CutPrefix(name, "_ZN")
	i := strings.LastIndex(name, start)
	if !ok || i < 0 || len(name) < i+len(start)+digits+1 {
		return "", false
	}
	hash, end := name[i+len(start):][:digits], name[i+len(start)+digits:]
	return name[:i], strings.Trim(hash, "0123456789abcdef") == "" && (end == "E" || strings.HasPrefix(end, "E."))
}

// readableRust decodes a path of Rust's older form. The library takes a part's own first
// underscore for one that ends the length, as the newer form has it: std::env::_var
// would be std::env::var, which is another function.
func readableRust(path string) (readable string, ok bool) {
	var b strings.Builder
	for path != "" && b.Len() < 1<<maxReadableLog {
		digits := len(path) - len(strings.TrimLeft(path, "0123456789"))
		n, err := strconv.Atoi(path[:digits])
		if err != nil || n < 1 || n > len(path)-digits {
			return "", false
		}
		if b.Len() > 0 {
			b.WriteString("::")
		}
		unescape(&b, path[digits:digits+n])
		path = path[digits+n:]
	}
	return b.String(), b.Len() > 0
}

// What Rust writes for characters that C's identifiers do not have. The others are
// "u", the number of the character in hexadecimal, between dollars as well.
var rustEscapes = map[string]string{
	"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ",",
}

// unescape decodes one part of a path.
func unescape(b *strings.Builder, part string) {
	// Nothing begins with a dollar.
	if strings.HasPrefix(part, "_$") {
		part = part[1:]
	}
	for {
		i := strings.IndexAny(part, "$.")
		if i < 0 {
			b.WriteString(part)
			return
		}
		b.WriteString(part[:i])
		part = part[i:]
		if rest, ok := strings.CutPrefix(part, ".."); ok {
			b.WriteString("::")
			part = rest
			continue
		}
		escape, rest, ok := strings.Cut(part[1:], "$")
		if char := unescaped(escape); part[0] == '$' && ok && char != "" {
			b.WriteString(char)
			part = rest
			continue
		}
		b.WriteByte(part[0])
		part = part[1:]
	}
}

// unescaped returns the character that an escape stands for, "" where it is none.
func unescaped(escape string) string {
	if char, ok := rustEscapes[escape]; ok {
		return char
	}
	hex, ok := strings.CutPrefix(escape, "u")
	n, err := strconv.ParseUint(hex, 16, 21)
	if !ok || err != nil || hex != strings.ToLower(hex) || !utf8.ValidRune(rune(n)) || unicode.IsControl(rune(n)) {
		return ""
	}
	return string(rune(n))
}
