package site

import (
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// AllocatorFunction is what a function of an allocator does, by where its arguments are.
type AllocatorFunction uint8

// The functions.
const (
	Malloc        AllocatorFunction = iota // (size)
	Calloc                                 // (number, size)
	Realloc                                // (block, size)
	ReallocArray                           // (block, number, size)
	AlignedAlloc                           // (alignment, size)
	PosixMemalign                          // (result, alignment, size)
	Free                                   // (block, …)
)

// AllocatorPoint is where a function of an allocator begins.
type AllocatorPoint struct {
	Offset   uint64 // in the file, bytes
	Function AllocatorFunction
}

// Allocator is a file with the functions of an allocator, as a process has mapped it.
type Allocator struct {
	Mapping procmaps.Mapping // of the code, or a part of it
	Points  []AllocatorPoint
}

// allocatorFunctions are the names that all allocators have for functions, but for a
// prefix.
var allocatorFunctions = map[string]AllocatorFunction{
	"malloc": Malloc, "calloc": Calloc, "realloc": Realloc, "reallocarray": ReallocArray, "memalign": AlignedAlloc,
	"aligned_alloc": AlignedAlloc, "posix_memalign": PosixMemalign, "valloc": Malloc, "pvalloc": Malloc,
	"free": Free, "cfree": Free,
}

// prefixes are of those that have names of their own, and so leave malloc(3) to others.
// What they have beside is in ownFunctions.
var prefixes = []string{"", "je_", "_rjem_", "tc_", "mi_", "tcmalloc_"}

// ownFunctions are what single allocators have beside. Their operators do not call malloc,
// as those of C++'s library do.
var ownFunctions = map[string]AllocatorFunction{
	// jemalloc
	"mallocx": Malloc, "rallocx": Realloc, "sdallocx": Free, "dallocx": Free,
	// mimalloc
	"mi_zalloc": Malloc, "mi_malloc_small": Malloc, "mi_zalloc_small": Malloc, "mi_new": Malloc, "mi_new_nothrow": Malloc,
	"mi_malloc_aligned": Malloc, "mi_zalloc_aligned": Malloc, "mi_mallocn": Calloc, "mi_reallocn": ReallocArray, "mi_reallocf": Realloc,
	"mi_free_size": Free, "mi_free_aligned": Free, "mi_free_size_aligned": Free,
	// tcmalloc
	"tc_new": Malloc, "tc_newarray": Malloc, "tc_new_nothrow": Malloc, "tc_newarray_nothrow": Malloc, "tc_delete": Free,
	"tc_deletearray": Free, "tc_delete_sized": Free, "tc_deletearray_sized": Free, "tc_free_sized": Free,
	// C++: operator new and delete, of arrays, aligned, sized and without exceptions
	"_Znwm": Malloc, "_Znam": Malloc, "_ZnwmRKSt9nothrow_t": Malloc, "_ZnamRKSt9nothrow_t": Malloc,
	"_ZnwmSt11align_val_t": Malloc, "_ZnamSt11align_val_t": Malloc,
	"_ZnwmSt11align_val_tRKSt9nothrow_t": Malloc, "_ZnamSt11align_val_tRKSt9nothrow_t": Malloc,
	"_ZdlPv": Free, "_ZdaPv": Free, "_ZdlPvm": Free, "_ZdaPvm": Free, "_ZdlPvRKSt9nothrow_t": Free, "_ZdaPvRKSt9nothrow_t": Free,
	"_ZdlPvSt11align_val_t": Free, "_ZdaPvSt11align_val_t": Free, "_ZdlPvmSt11align_val_t": Free, "_ZdaPvmSt11align_val_t": Free,
	"free_sized": Free, "free_aligned_sized": Free,
}

// wanted are all names of functions of allocators, with what they do.
var wanted, wantedNames = func() (map[string]AllocatorFunction, []string) {
	all := make(map[string]AllocatorFunction)
	for _, prefix := range prefixes {
		for name, f := range allocatorFunctions {
			all[prefix+name] = f
		}
		for name, f := range ownFunctions {
			if prefix == "je_" || prefix == "_rjem_" {
				if strings.HasSuffix(name, "allocx") {
					all[prefix+name] = f
				}
			}
		}
	}
	names := make([]string, 0, len(all)+len(ownFunctions))
	for name, f := range ownFunctions {
		all[name] = f
	}
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return all, names
}()

// Allocators finds the functions of the allocators that a process has mapped. The tree is
// its address space. Where none is found there is none with names.
func (s *Sites) Allocators(pid int, tree *space.Space) (all []Allocator) {
	seen := make(map[*Module]bool)
	for e := range tree.Extents(space.All) {
		if e.File == 0 || e.Mode&procmaps.Exec == 0 {
			continue
		}
		f := tree.File(e.File)
		m := procmaps.Mapping{Range: e.Range, Mode: e.Mode, Offset: e.Offset, Dev: f.Dev, Inode: f.Inode, Name: e.Name}
		module := s.modules.at(pid, &m)
		if module.sym == nil || seen[module] {
			continue
		}
		seen[module] = true
		if points := module.allocator(); len(points) > 0 {
			all = append(all, Allocator{m, points})
		}
	}
	return all
}

// allocator is the functions of allocators in a module, by where they are.
func (m *Module) allocator() []AllocatorPoint {
	if m.searched {
		return m.points
	}
	m.searched = true
	// Those of a shared library are used by others if it exports them; a program may have
	// them for itself.
	found := m.sym.Named(wantedNames, !strings.Contains(m.Name(), ".so"))
	own := slices.ContainsFunc(found, func(n symbol.Named) bool {
		return strings.HasSuffix(n.Name, "mallocx") || n.Name == "mi_malloc" || n.Name == "tc_malloc"
	})
	whole := slices.ContainsFunc(found, func(n symbol.Named) bool { return strings.HasSuffix(n.Name, "malloc") })
	if !whole {
		return nil // it has some function of that name, or frees what others allocate
	}
	for _, n := range found {
		_, special := ownFunctions[n.Name]
		if special && !own {
			continue // they call malloc
		}
		p := AllocatorPoint{n.Offset, wanted[n.Name]}
		if len(m.points) == 0 || m.points[len(m.points)-1].Offset != p.Offset {
			m.points = append(m.points, p)
		}
	}
	return m.points
}
