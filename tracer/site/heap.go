package site

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// allocatorFunctions are the names that all allocators have for functions, but for a
// prefix.
var allocatorFunctions = sync.OnceValue(func() map[string]heap.Function {
	return map[string]heap.Function{
		"malloc": heap.Malloc, "calloc": heap.Calloc, "realloc": heap.Realloc, "reallocarray": heap.ReallocArray, "memalign": heap.AlignedAlloc,
		"aligned_alloc": heap.AlignedAlloc, "posix_memalign": heap.PosixMemalign, "valloc": heap.Malloc, "pvalloc": heap.Malloc,
		"free": heap.Free, "cfree": heap.Free,
	}
})

// prefixes are of those that have names of their own, and so leave malloc(3) to others.
// What they have beside is in ownFunctions.
var prefixes = []string{"", "je_", "_rjem_", "tc_", "mi_", "tcmalloc_"}

// ownFunctions are what single allocators have beside. Their operators do not call malloc,
// as those of C++'s library do.
var ownFunctions = sync.OnceValue(func() map[string]heap.Function {
	return map[string]heap.Function{
		// jemalloc
		"mallocx": heap.Malloc, "rallocx": heap.Realloc, "sdallocx": heap.Free, "dallocx": heap.Free,
		// mimalloc
		"mi_zalloc": heap.Malloc, "mi_malloc_small": heap.Malloc, "mi_zalloc_small": heap.Malloc, "mi_new": heap.Malloc, "mi_new_nothrow": heap.Malloc,
		"mi_malloc_aligned": heap.Malloc, "mi_zalloc_aligned": heap.Malloc, "mi_mallocn": heap.Calloc, "mi_reallocn": heap.ReallocArray, "mi_reallocf": heap.Realloc,
		"mi_free_size": heap.Free, "mi_free_aligned": heap.Free, "mi_free_size_aligned": heap.Free,
		// tcmalloc
		"tc_new": heap.Malloc, "tc_newarray": heap.Malloc, "tc_new_nothrow": heap.Malloc, "tc_newarray_nothrow": heap.Malloc, "tc_delete": heap.Free,
		"tc_deletearray": heap.Free, "tc_delete_sized": heap.Free, "tc_deletearray_sized": heap.Free, "tc_free_sized": heap.Free,
		// C++: operator new and delete, of arrays, aligned, sized and without exceptions
		"_Znwm": heap.Malloc, "_Znam": heap.Malloc, "_ZnwmRKSt9nothrow_t": heap.Malloc, "_ZnamRKSt9nothrow_t": heap.Malloc,
		"_ZnwmSt11align_val_t": heap.Malloc, "_ZnamSt11align_val_t": heap.Malloc,
		"_ZnwmSt11align_val_tRKSt9nothrow_t": heap.Malloc, "_ZnamSt11align_val_tRKSt9nothrow_t": heap.Malloc,
		"_ZdlPv": heap.Free, "_ZdaPv": heap.Free, "_ZdlPvm": heap.Free, "_ZdaPvm": heap.Free, "_ZdlPvRKSt9nothrow_t": heap.Free, "_ZdaPvRKSt9nothrow_t": heap.Free,
		"_ZdlPvSt11align_val_t": heap.Free, "_ZdaPvSt11align_val_t": heap.Free, "_ZdlPvmSt11align_val_t": heap.Free, "_ZdaPvmSt11align_val_t": heap.Free,
		"free_sized": heap.Free, "free_aligned_sized": heap.Free,
	}
})

// throwing are those of them that may throw an exception. Their returns must not be probed:
// the kernel puts an address of its own in the place of the return address, and an exception
// that comes to it ends the program (std::terminate). They are seen to return at the
// instructions that do so. What they leave to others to return is not sampled: the fast path
// of an allocator is in such a function as a whole.
var throwing = []string{
	"_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t", "tc_new", "tc_newarray", "mi_new",
}

// often are those of all that programs call the most. They come first: probes are put on and
// taken off one after the other, and each waits for the lock of the address space, so that the
// last ones stay the longest.
var often = []string{"malloc", "calloc", "realloc", "free", "_Znwm", "_Znam", "_ZdlPv", "_ZdlPvm", "_ZdaPv"}

// wanted are all names of functions of allocators, with what they do. They are made when
// they are needed: most commands start without.
var wanted = sync.OnceValue(func() map[string]heap.Function {
	all := make(map[string]heap.Function)
	for _, prefix := range prefixes {
		for name, f := range allocatorFunctions() {
			all[prefix+name] = f
		}
	}
	for _, prefix := range []string{"je_", "_rjem_"} {
		for _, name := range []string{"mallocx", "rallocx", "sdallocx", "dallocx"} {
			all[prefix+name] = ownFunctions()[name]
		}
	}
	maps.Copy(all, ownFunctions())
	return all
})

// Allocators finds the functions of the allocators that a process has mapped. The tree is
// its address space. Where none is found there is none with names.
func (s *Sites) Allocators(pid int, tree *space.Space) (all []heap.Allocator) {
	seen := make(map[*Module]bool)
	for e := range tree.Extents(space.All) {
		if e.File == 0 || e.Mode&procmaps.Exec == 0 {
			continue
		}
		m := rowOf(tree, e)
		module := s.modules.at(pid, &m)
		if module.sym == nil || seen[module] {
			continue
		}
		seen[module] = true
		if points := module.allocator(); len(points) > 0 {
			all = append(all, heap.Allocator{Mapping: m, Points: points})
		}
	}
	return all
}

// allocator is the functions of allocators in a module, by where they are.
func (m *Module) allocator() []heap.Point {
	if m.searched {
		return m.points
	}
	m.searched = true
	// Those of a shared library are used by others if it exports them; a program may have
	// them for itself.
	found := m.sym.Named(slices.Sorted(maps.Keys(wanted())), !strings.Contains(m.Name(), ".so"))
	own := slices.ContainsFunc(found, func(n symbol.Named) bool {
		return strings.HasSuffix(n.Name, "mallocx") || n.Name == "mi_malloc" || n.Name == "tc_malloc"
	})
	whole := slices.ContainsFunc(found, func(n symbol.Named) bool { return strings.HasSuffix(n.Name, "malloc") })
	if !whole {
		return nil // it has some function of that name, or frees what others allocate
	}
	throws, usual := make(map[uint64]bool), make(map[uint64]bool) // by offset: one place may have several names
	for _, n := range found {
		if slices.Contains(throwing, n.Name) {
			throws[n.Offset] = true
		}
		if slices.Contains(often, n.Name) {
			usual[n.Offset] = true
		}
	}
	var buf [probeBytes]byte
	last := uint64(math.MaxUint64)
	for _, n := range found {
		_, special := ownFunctions()[n.Name]
		if special && !own {
			continue // they call malloc
		}
		if n.Offset == last {
			continue // another name for it
		}
		last = n.Offset
		function := wanted()[n.Name]
		var points []heap.Point
		if throws[n.Offset] {
			if points = m.leaves(n); len(points) == 0 {
				continue // where it returns is not known
			}
			function = heap.ThrowingNew
		}
		skip, emulated := probePoint(m.sym.Code(n.Offset, buf[:]), arch(), function == heap.Free)
		points = append(points, heap.Point{Offset: n.Offset + uint64(skip), Function: function, Stepped: !emulated})
		if usual[n.Offset] {
			m.points = append(points, m.points...)
		} else {
			m.points = append(m.points, points...)
		}
	}
	return m.points
}

// leaves are the instructions by which a function returns, none if they are not known.
func (m *Module) leaves(n symbol.Named) (points []heap.Point) {
	code := m.sym.Code(n.Offset, make([]byte, min(n.Size, mostCode)))
	if uint64(len(code)) < n.Size {
		return nil
	}
	for _, at := range returns(code, arch()) {
		points = append(points, heap.Point{Offset: n.Offset + uint64(at), Function: heap.Leave, Stepped: true})
	}
	return points
}

// returning tells whether a pc is that of an instruction by which a function of an allocator
// returns and is probed: it has not returned yet.
func (s *Sites) returning(pc uint64) bool {
	e, ok := s.tree.At(pc)
	p := s.place(pc)
	return ok && p.module != nil && slices.ContainsFunc(p.module.points, func(at heap.Point) bool {
		return at.Function == heap.Leave && at.Offset == pc-e.Start+e.Offset
	})
}

// GoProgram is the file with Go's runtime that a process executes, the program or a library
// of it, and its bias, false if there is none. The tree is its address space.
func (s *Sites) GoProgram(pid int, tree *space.Space) (m *symbol.Module, bias uint64, ok bool) {
	s.pid, s.tree = pid, tree
	clear(s.found)
	for e := range tree.Extents(space.All) {
		if e.File == 0 || e.Mode&procmaps.Exec == 0 {
			continue
		}
		if p := s.place(e.Start); p.module != nil && p.module.sym != nil && p.module.sym.IsGo() {
			return p.module.sym, p.bias, true
		}
	}
	return nil, 0, false
}

// mostPaths is how many stacks are remembered as functions.
const mostPaths = 8192

// Path implements attribution.Sites: the functions of a site, innermost first, those that
// are inlined into others as well.
func (s *Sites) Path(id uint32) []heap.Place {
	if p, ok := s.paths[id]; ok {
		return p
	}
	var path []heap.Place
	frames, end := s.Frames(id)
	for i := range frames {
		f := &frames[i]
		fn, _ := s.function(f)
		for k, l := range s.Lines(nil, f) {
			at := f.Addr
			if k > 0 { // something is inlined there: Addr is where that is
				at = uint64(l.Line)
			}
			path = append(path, heap.Place{
				Function: l.Module + "\x00" + l.Function, At: at,
				Serves: isLibrary(l.Module) || handsOut(l.Function, l.Module, fn.Rust) || f.isGo() && goLibraries.MatchString(l.Function) || below(frames[i:]),
			})
		}
	}
	if end != stack.EndRoot {
		path = append(path, heap.Place{Cut: true})
	}
	if len(s.paths) >= mostPaths || s.paths == nil {
		s.paths = make(map[uint32][]heap.Place)
	}
	s.paths[id] = path
	return path
}

// isGo tells whether the frame's file has code of Go's.
func (f *Frame) isGo() bool { return f.Module != nil && f.Module.sym != nil && f.Module.sym.IsGo() }

// PlaceName implements attribution.Names: one of the functions of Path, for people; none where
// an interpreter, or code that was compiled while it ran, stands for whichever function of a
// script that is.
func (s *Sites) PlaceName(id uint32, depth int) stack.Name {
	frames, _ := s.Frames(id)
	for i := range frames {
		lines := s.Lines(nil, &frames[i])
		switch {
		case depth < 0: // of a stack without functions
			return stack.Name{}
		case depth >= len(lines):
			depth -= len(lines)
		case s.anyScript(&frames[i]):
			return stack.Name{}
		default:
			return s.name(&lines[depth])
		}
	}
	return stack.Name{}
}

// anyScript tells whether a frame stands for a function of a script, or what was inlined into
// one of the interpreter's own, of which the name is not known.
func (s *Sites) anyScript(f *Frame) bool {
	if f.Module != nil {
		return stack.Interprets(f.module())
	}
	if script, ok := f.scriptOf(); ok {
		return script.internal
	}
	_, named := s.function(f)
	return !named
}
