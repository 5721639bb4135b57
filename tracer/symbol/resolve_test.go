package symbol

import (
	"fmt"

	"github.com/maptrace/maptrace/procmaps"
)

// Place is what is known about an address in a process.
type Place struct {
	// Module is nil for code that no file holds, as a JIT compiler makes it.
	Module *Module
	// Addr is the address in the module's own numbering; the address itself
	// without a module.
	Addr uint64
	// Function has an empty name when the address has none. Its Start is in the
	// same numbering as Addr.
	Function Function
	// Lines are the functions at the address, as by Module.Lines.
	Lines []Line
}

// Process resolves addresses of one process. It is safe for concurrent use.
type Process struct {
	cache *Cache
	pid   int
	jit   *PerfFile
}

// Process returns a resolver for a process. It opens nothing yet.
func (c *Cache) Process(pid int) *Process {
	return &Process{cache: c, pid: pid, jit: c.PerfFile(pid)}
}

// Close releases what belongs to the process alone; modules stay in the cache.
func (p *Process) Close() error { return p.jit.Close() }

// Resolve says what is at pc, which lies in the mapping m. When call is set, pc
// is the address to which a call returns, and what is named is the call. The
// lines are appended to buf. The error says why there is no module; there may be
// a name from a JIT compiler's map all the same.
func (p *Process) Resolve(m *procmaps.Mapping, pc uint64, call bool, buf []Line) (Place, error) {
	at := pc
	if call && at > m.Start {
		at--
	}
	place := Place{Addr: at}
	var err error
	if m.Inode != 0 || m.Name == "[vdso]" {
		var mod *Module
		mod, err = p.cache.Module(p.pid, m)
		if err == nil {
			bias, ok := mod.Bias(m.Start, m.Offset)
			if !ok {
				return place, fmt.Errorf("resolve %#x in %q: no segment of the file is mapped there", pc, m.Name)
			}
			place.Module, place.Addr = mod, at-bias
			place.Function, _ = mod.Function(place.Addr)
			place.Lines = mod.Lines(place.Addr, buf)
			return place, nil
		}
	}
	if name, start, size, ok := p.jit.Lookup(at); ok {
		place.Function = Function{Name: name, Start: start, Size: size}
		place.Lines = append(buf, Line{Function: name})
	}
	return place, err
}
