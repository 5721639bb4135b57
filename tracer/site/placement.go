package site

import "github.com/maptrace/maptrace/procmaps"

// part is a piece of a file that is mapped as code: where, and what it shows of the
// file.
type part struct {
	procmaps.Range
	offset uint64 // of the start, in the file
}

// mapped notes that a part of the module is somewhere in memory. Pieces at the same
// distance from what they show of the file are one part, whatever they were cut into,
// so a module has no more than its file has segments of code: one, mostly.
func (m *Module) mapped(bias uint64, p part) {
	if len(m.parts) == 0 {
		m.bias = bias
	}
	p.Start, p.End = p.Start-bias, p.End-bias
	for i := range m.parts {
		known := &m.parts[i]
		if known.offset-known.Start != p.offset-p.Start {
			continue
		}
		if p.Start < known.Start {
			known.Start, known.offset = p.Start, p.offset
		}
		known.End = max(known.End, p.End)
		return
	}
	m.parts = append(m.parts, p)
}

// Memory returns where the instruction of a frame was in memory, and the mapping it
// was in, which shows the file from an offset on. It is as in the process where a
// stack first led through the file: others have it elsewhere. Code without a file has
// an empty mapping.
func (f *Frame) Memory() (addr uint64, in procmaps.Range, offset uint64) {
	at := f.look()
	if f.Module == nil {
		return at, procmaps.Range{}, 0
	}
	bias := f.Module.bias
	for _, p := range f.Module.parts {
		// A hole in one part may be another: the smaller has it.
		if p.Contains(at) && (in.Empty() || p.Len() < in.Len()) {
			in, offset = procmaps.Range{Start: p.Start + bias, End: p.End + bias}, p.offset
		}
	}
	return at + bias, in, offset
}
