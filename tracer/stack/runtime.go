package stack

import "strings"

// Runtime is what runs a program whose functions the symbols of its files do not name.
type Runtime uint8

// The runtimes that are known. Native is a program of machine code.
const (
	Native Runtime = iota
	CPython
	Node
	JVM
	Ruby
	PHP
	BEAM
	DotNET
)

// runtimes are the names of their programs, and of the libraries that programs embed, without
// versions and what stands behind these.
var runtimes = map[string]Runtime{
	"python": CPython, "libpython": CPython, "node": Node, "nodejs": Node, "libnode": Node, "java": JVM, "libjvm": JVM,
	"ruby": Ruby, "libruby": Ruby, "libruby-": Ruby, "php": PHP, "php-fpm": PHP, "php-cgi": PHP, "libphp": PHP,
	"beam": BEAM, "dotnet": DotNET, "libcoreclr": DotNET,
}

// RuntimeOf is the runtime that a file of a name is the program or the library of, with the
// version that is in the name: "python3.11", "libruby-3.1.so.3.1".
func RuntimeOf(name string) (r Runtime, version string) {
	const digits = "0123456789."
	name, _, library := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(name, ".smp"), "-dbg"), ".so")
	// Builds of Python have letters behind the version.
	if plain := strings.TrimRight(name, "dmut"); plain != strings.TrimRight(plain, digits) {
		name = plain
	}
	base := strings.TrimRight(name, digits)
	if r = runtimes[base]; r == Native || library != strings.HasPrefix(base, "lib") {
		return Native, ""
	}
	return r, name[len(base):]
}

// JIT is what the place of code goes by that no file holds, and the code itself if it has no
// name.
const JIT = "[jit]"

// Interprets tells whether the code of a file is a runtime's, by the file's name: what its
// functions do is done for those of the program that it runs.
func Interprets(module string) bool {
	r, _ := RuntimeOf(module)
	return r != Native
}

// OfRuntime tells whether a function is a runtime's own, or code that a runtime has compiled of
// which it does not say whose it is: it may be any function of the program.
func (n Name) OfRuntime() bool { return n.Full == JIT || Interprets(n.Module) }
