package attribution

import (
	"path"
	"regexp"

	"github.com/maptrace/maptrace/tracer/growth"
)

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

// runtimes are the names of their programs, or of the libraries that programs embed. A
// version is the first group.
var runtimes = []struct {
	is   Runtime
	name *regexp.Regexp
}{
	{CPython, regexp.MustCompile(`^(?:lib)?python(\d\.\d+)?[dmut]*(?:\.so.*)?$`)},
	{Node, regexp.MustCompile(`^(?:node|nodejs|libnode\.so.*)$`)},
	{JVM, regexp.MustCompile(`^(?:java|libjvm\.so)$`)},
	{Ruby, regexp.MustCompile(`^(?:lib)?ruby-?(\d\.\d+)?(?:\.so.*)?$`)},
	{PHP, regexp.MustCompile(`^(?:lib)?php(?:-fpm|-cgi)?(\d\.\d+)?(?:\.so.*)?$`)},
	{BEAM, regexp.MustCompile(`^beam(?:\.smp)?$`)},
	{DotNET, regexp.MustCompile(`^(?:dotnet|libcoreclr\.so)$`)},
}

// Runtime is what runs the process, with its version where a file's name has it, by the
// names of its program and of the files that it maps.
func (p *Process) Runtime() (r Runtime, version string) {
	names := []string{path.Base(p.Exe)}
	for i := range p.Findings {
		if f := &p.Findings[i]; f.What == growth.File {
			names = append(names, path.Base(f.Name))
		}
	}
	for _, name := range names {
		if r, version = RuntimeOf(name); r != Native {
			return r, version
		}
	}
	return Native, ""
}

// RuntimeOf is the runtime that a file of a name is the program or the library of, with the
// version that is in the name.
func RuntimeOf(name string) (r Runtime, version string) {
	for i := range runtimes {
		if m := runtimes[i].name.FindStringSubmatch(name); m != nil {
			if len(m) > 1 {
				version = m[1]
			}
			return runtimes[i].is, version
		}
	}
	return Native, ""
}
