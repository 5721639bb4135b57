package symbol

import (
	"strings"

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
	readable := name
	guard(func() {
		readable = demangle.Filter(name, demangle.NoParams, demangle.NoEnclosingParams, demangle.NoABITags,
			demangle.MaxLength(maxReadableLog))
	})
	return readable
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

// ofRust tells whether a mangled name is of Rust: it has its prefix, or, as it was
// before that, looks like C++ but ends with a hash.
func ofRust(name string) bool {
	const hash = len("17h0123456789abcdefE")
	if strings.HasPrefix(name, "_R") {
		return true
	}
	name = withoutClones(name)
	if !strings.HasPrefix(name, "_ZN") || len(name) <= hash {
		return false
	}
	end := name[len(name)-hash:]
	return strings.HasPrefix(end, "17h") && end[hash-1] == 'E' && strings.Trim(end[3:hash-1], "0123456789abcdef") == ""
}
