package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Line is one function of a stack as a person reads it. Names come from files of
// the traced program: they are to be escaped before they are printed.
type Line struct {
	Module   string // the file's last element; "[jit]" where there is none
	Function string // demangled; where there is no name, module+0x with where the function starts
	Linkage  string // as the linker has it: mangled; empty where Function is no symbol's name
	File     string // of the source; empty if it is not known
	Line     int
	Start    int  // the line where the function is declared; 0 if it is not known
	Inlined  bool // into the function of the next line
	// Outer is the function that an inlined one became a part of, where that is not
	// told by the next line; empty otherwise.
	Outer stack.Name
	// Unnamed says that Function is no name but an address.
	Unnamed bool
	// Go says that the file is a program of Go.
	Go bool
}

// Name is the function and where it is: "leak (server.c:88)", "free (libc.so.6)". This is
// the one place that makes names for people.
func (l *Line) Name() stack.Name {
	short := l.short()
	n := stack.Name{Full: l.at(l.Function), Short: l.at(short), Module: l.Module}
	if l.Outer.Full != "" {
		n.Full += " in " + l.Outer.Full
		n.Short += " in " + l.Outer.Short
	}
	return n
}

// short is the function as people read it.
func (l *Line) short() string {
	if l.Unnamed {
		return l.Function
	}
	return symbol.Short(l.Function, l.Linkage, l.Go)
}

// at adds to a function where it is.
func (l *Line) at(function string) string {
	switch {
	case l.File != "" && l.Line == 0:
		return fmt.Sprintf("%s (%s)", function, l.File[strings.LastIndexByte(l.File, '/')+1:])
	case l.File != "":
		return fmt.Sprintf("%s (%s:%d)", function, l.File[strings.LastIndexByte(l.File, '/')+1:], l.Line)
	case l.Unnamed:
		return function
	}
	return fmt.Sprintf("%s (%s)", function, l.Module)
}

// name is the name of a line. The first that is called by a short name has it: others that
// would be called the same have their full name for people too, so that no two places of
// one report are one by their names.
func (s *Sites) name(l *Line) stack.Name {
	const many = 1 << 14
	n := l.Name()
	switch full, ok := s.short[n.Short]; {
	case !ok:
		if len(s.short) >= many {
			clear(s.short)
		}
		s.short[n.Short] = n.Full
	case full != n.Full:
		n.Short = n.Full
	}
	return n
}

// module is the name of the frame's file.
func (f *Frame) module() string {
	if f.Module == nil {
		return stack.JIT
	}
	return f.Module.Name()
}

// function names a frame without its source lines, which are dear: its name, and
// where it starts. Where there is no name, it says so, and makes one.
func (s *Sites) function(f *Frame) (fn symbol.Function, named bool) {
	addr := f.look()
	if f.name != "" {
		return symbol.Function{Name: f.name, Start: f.start}, true
	}
	if f.Module == nil {
		if name, start, _, ok := s.jit(f.pid).Lookup(addr); ok {
			return symbol.Function{Name: name, Start: start}, true
		}
		return symbol.Function{Name: stack.JIT}, false
	}
	m := f.Module
	if m.sym != nil {
		if fn, ok := m.sym.Function(addr); ok {
			return fn, true
		}
		if t := m.unwind(); t != nil {
			if start, _, ok := t.Function(addr); ok {
				return symbol.Function{Name: fmt.Sprintf("%s+%#x", m.Name(), start), Start: start}, false
			}
		}
	}
	return symbol.Function{Name: fmt.Sprintf("%s+%#x", m.Name(), addr), Start: addr}, false
}

// Frames returns the frames of a site, innermost first, and why there are no more. Of
// one that was evicted there is one of the function that it blames, while that is known,
// and no end.
func (s *Sites) Frames(id uint32) ([]Frame, stack.End) {
	if st, ok := s.sites.get(id); ok {
		return st.frames, st.end
	}
	if g, ok := s.groups.get(s.Group(id)); ok {
		return []Frame{g.frame}, 0
	}
	return nil, 0
}

// Stack names the frames of a site, innermost first, with the source lines and
// inlined functions that debug information has.
func (s *Sites) Stack(id uint32) ([]Line, stack.End) {
	frames, end := s.Frames(id)
	var out []Line
	for i := range frames {
		out = s.Lines(out, &frames[i])
	}
	return out, end
}

// Lines appends the functions of a frame to dst, innermost first.
func (s *Sites) Lines(dst []Line, f *Frame) []Line {
	module := f.module()
	isGo := f.isGo()
	if f.Module != nil && f.Module.sym != nil {
		var buf [8]symbol.Line
		lines := f.Module.sym.Lines(f.look(), buf[:0])
		if f.inner && len(lines) > 0 {
			lines = lines[:1]
		}
		for i, l := range lines {
			named := true
			if l.Function == "" {
				var fn symbol.Function
				fn, named = s.function(f)
				l.Function, l.Linkage = fn.Name, fn.Linkage
			}
			dst = append(dst, Line{
				Module: module, Function: l.Function, Linkage: l.Linkage, File: l.File, Line: l.Line, Start: l.Start,
				Inlined: i < len(lines)-1, Unnamed: !named, Go: isGo,
			})
		}
		if len(lines) > 0 {
			return dst
		}
	}
	if sc, ok := f.scriptOf(); ok {
		return append(dst, Line{Module: module, Function: sc.function, File: sc.file, Line: sc.line})
	}
	fn, named := s.function(f)
	return append(dst, Line{Module: module, Function: fn.Name, Linkage: fn.Linkage, Unnamed: !named, Go: isGo})
}

// groupKey is a function of a module.
type groupKey struct {
	module uint32
	pid    int // of code without a file
	start  uint64
	name   string
}

// Group implements attribution.Sites: all sites that blame one function are one. It is 0 for
// stacks that end within an allocator: who has called it is not known.
func (s *Sites) Group(id uint32) uint32 {
	if st := s.grouped(id); st != nil && st.blame < 0 {
		return 0
	} else if st != nil {
		return st.group.number
	}
	if p, ok := s.past.get(id); ok {
		s.groups.get(p.group)
		return p.group
	}
	if _, ok := s.groups.get(id); !ok && s.evicted(id) {
		return forgotten
	}
	return id
}

// grouped is a site with frames, with its group; nil if there is none.
func (s *Sites) grouped(id uint32) *site {
	st, ok := s.sites.get(id)
	if !ok || len(st.frames) == 0 {
		return nil
	}
	if st.asked && st.blame < 0 {
		return st
	}
	st.asked = true
	if st.group != nil {
		if _, kept := s.groups.get(st.group.number); !kept {
			st.group = s.keep(st.group)
		}
		return st
	}
	blame, asked := s.blame(st.frames)
	if st.blame = int32(blame); asked {
		st.pool = s.poolOf(st.frames[:blame])
	} else { // a stack that was cut, say
		st.pool = s.poolOf(st.frames)
	}
	if blame < 0 {
		return st
	}
	st.moves = slices.ContainsFunc(st.frames, func(f Frame) bool {
		fn, _ := s.function(&f)
		return moves(fn.Name, f.module())
	})
	f := &st.frames[st.blame]
	fn, _ := s.function(f)
	key := groupKey{pid: f.pid, start: fn.Start, name: fn.Name}
	if sc, ok := f.scriptOf(); ok { // it may be compiled more than once
		key.start, key.name = uint64(sc.line), sc.function+":"+sc.file
	}
	if f.Module != nil {
		key.module = f.Module.number
	}
	st.group = s.keep(&group{number: id, key: key, frame: *f})
	return st
}

// keep returns the group of a function: the one that is known, or this one.
func (s *Sites) keep(g *group) *group {
	if known := s.byFunc[g.key]; known != nil {
		s.groups.get(known.number)
		return known
	}
	s.byFunc[g.key] = g
	s.groups.put(g.number, g)
	return g
}

// evicted tells whether there was a site whose frames are not kept any more.
func (s *Sites) evicted(id uint32) bool {
	if id < forgotten || id > s.last {
		return false
	}
	_, ok := s.sites.get(id)
	return !ok
}

// Pool implements attribution.Sites: the name of the allocator or runtime that took the
// memory of a site, to hand it out in pieces to whoever asks for some; "" if whoever is
// blamed has it for itself.
func (s *Sites) Pool(id uint32) string {
	if st := s.grouped(id); st != nil {
		return st.pool.name()
	}
	p, _ := s.past.get(id)
	return p.pool.name()
}

// Moves implements attribution.Sites: it tells whether a site is a garbage collector that
// moves what others have made. Of a site whose frames are not kept it is not known.
func (s *Sites) Moves(id uint32) bool {
	st := s.grouped(id)
	return st != nil && st.moves
}

func (s *Sites) poolOf(frames []Frame) poolID {
	for i := range frames {
		f := &frames[i]
		fn, _ := s.function(f)
		if pool := poolOf(fn.Name, f.module()); pool != 0 {
			return pool
		}
		if !glibc.MatchString(fn.Name) {
			continue
		}
		if first, _ := s.function(&frames[0]); opens.MatchString(first.Name) {
			return arenas
		}
		return 0 // if a runtime has asked it, it is for a single block
	}
	return 0
}

// Blamed is the function that a site blames: the innermost that is not there to
// hand out memory. ok is false for a site without frames, and for one that was evicted
// so long ago that its function is not known any more.
func (s *Sites) Blamed(id uint32) (l Line, ok bool) {
	var f *Frame
	if st := s.grouped(id); st != nil && st.blame < 0 {
		return Line{}, false
	} else if st != nil {
		f = &st.frames[st.blame]
	} else if g, ok := s.groups.get(s.Group(id)); ok {
		f = &g.frame
	} else {
		return Line{}, false
	}
	fn, _ := s.function(f)
	lines := s.Lines(nil, f)
	for _, l := range lines {
		if !handsOut(l.Function, l.Module, fn.Rust) {
			// Not what was inlined into it, such as a container's code.
			if outer := &lines[len(lines)-1]; l.Inlined && outer.Function != l.Function {
				l.Outer = stack.Name{Full: outer.Function, Short: outer.short()}
			}
			return l, true
		}
	}
	return lines[len(lines)-1], true
}

// notKept is what is said of stacks that were evicted.
const notKept = "its stack is no longer kept"

// Function implements attribution.Names: the function that a site blames; no name for a
// site without frames.
func (s *Sites) Function(id uint32) stack.Name {
	l, ok := s.Blamed(id)
	switch {
	case ok:
		return s.name(&l)
	case s.evicted(id):
		return stack.Plain("an unknown place (" + notKept + ")")
	}
	return stack.Name{}
}

// StackNames implements attribution.Names: the functions that led to a site, innermost first,
// and why there are no more; end is "" for a whole stack.
func (s *Sites) StackNames(id uint32) (frames []stack.Name, end string) {
	lines, why := s.Stack(id)
	for i := range lines {
		frames = append(frames, s.name(&lines[i]))
	}
	switch {
	case s.evicted(id):
		end = notKept
	case why != stack.EndRoot:
		end = why.String()
	}
	return frames, end
}

// blame returns the index of the frame to blame: the innermost that is not there
// to hand out memory, or, where all are, as in a library that loads another, the
// innermost that does not have the name of one that is; -1 if there is none. Asked tells
// whether there is one that asked for memory.
func (s *Sites) blame(frames []Frame) (i int, asked bool) {
	inLibrary, within := -1, s.allocating(frames)
	for i := range frames {
		switch {
		case i <= within:
		case s.serves(frames[i:]), below(frames[i:]):
		case !isLibrary(frames[i].module()):
			return i, true
		case inLibrary < 0:
			inLibrary = i
		}
	}
	return inLibrary, false
}

// allocating is the index of the outermost frame of an allocator, by the names that all of
// them have: what it has called is a part of it, whatever its name. It is -1 if there is
// none.
func (s *Sites) allocating(frames []Frame) int {
	for i := len(frames) - 1; i >= 0; i-- {
		fn, _ := s.function(&frames[i])
		if f, ok := wanted()[cmp.Or(fn.Linkage, fn.Name)]; ok && f != heap.Free || inAllocator.MatchString(fn.Name) {
			return i
		}
	}
	return -1
}

// serves tells whether the first of some frames is there to hand out memory.
func (s *Sites) serves(frames []Frame) bool {
	for i := range frames {
		f := &frames[i]
		if f.Module != frames[0].Module {
			return false
		}
		fn, _ := s.function(f)
		if handsOut(fn.Name, f.module(), fn.Rust) {
			return true
		}
		if f.Module == nil || !inside.MatchString(fn.Name) {
			return false
		}
	}
	return false
}
