package attribution

import (
	"path"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Runtime is what runs the process, with its version where a file's name has it, by the
// names of its program and of the files that it maps.
func (p *Process) Runtime() (r stack.Runtime, version string) {
	names := []string{path.Base(p.Exe)}
	for i := range p.Findings {
		if f := &p.Findings[i]; f.What == growth.File {
			names = append(names, path.Base(f.Name))
		}
	}
	for _, name := range names {
		if r, version = stack.RuntimeOf(name); r != stack.Native {
			return r, version
		}
	}
	return stack.Native, ""
}
