package site

import (
	"io"
	"testing"

	"github.com/maptrace/maptrace/tracer/stack"
)

func TestNamesOfFunctionsThatHandOutMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		module string
		rust   bool
		yes    []string
		no     []string
	}{
		{
			module: "server",
			yes: []string{
				"malloc", "calloc", "realloc", "__libc_malloc", "malloc@plt", "posix_memalign", "strdup", "_int_malloc",
				"sysmalloc", "mmap", "__mmap64", "mprotect", "brk", "sbrk", "syscall", "pthread_create",
				"je_malloc", "je_arena_malloc_hard", "mi_heap_malloc", "_mi_os_alloc", "tc_malloc", "rte_malloc_socket",
				"operator new", "operator new[]", "std::vector<int, std::allocator<int> >::push_back",
				"std::__cxx11::basic_string<char>::reserve", "__gnu_cxx::new_allocator<int>::allocate",
				"__rust_alloc", "__rdl_realloc",
				"runtime.mallocgc", "runtime.(*mheap).sysAlloc", "syscall.Mmap", "golang.org/x/sys/unix.Mmap",
				"xmalloc", "xrealloc", "zmalloc", "zmalloc_usable", "ztrymalloc_usable_internal", "zrealloc", "zcalloc",
				"ngx_palloc", "ngx_palloc_small", "ngx_create_pool", "palloc", "palloc0", "repalloc", "MemoryContextAlloc", "AllocSetAlloc",
				"PyObject_Malloc", "_PyObject_New", "PyType_GenericAlloc", "_PyMem_RawMalloc", "PyMem_RawRealloc",
			},
			no: []string{
				"stdlib_thing", "my_malloc_stats", "malloc_cache_of_mine", "mallocate", "xmalloc_pool", "zmalloc_get_rss", "pallocate", "ngx_create_pool_of_mine", "zalloc", "brk_handler", "mmap_file",
				"std", "stdx::vector<int>::push_back", "app::std::thing",
				"operator newt", "server::operator new", "newton",
				"Arena::grow", "Chunk::next_chop", "Chunk::append", "os::malloc", "os::Window::draw", "AllocateHeap",
				"core::Engine::load", "alloc::Pool::grow", "hashbrown::thing", "runtime::start", "runtime_init", "syscalls_init",
				"main.leak", "github.com/a/runtime.Leak", "PyLeak", "PyMemory_grow", "tc_row", "je_suis", "mi_row", "",
			},
		},
		{
			module: "libjvm.so",
			yes:    []string{"os::malloc", "os::pd_commit_memory", "Arena::grow", "Chunk::next_chop", "AllocateHeap", "malloc", "VirtualSpace::expand_by", "G1PageBasedVirtualSpace::commit"},
			no:     []string{"Universe::initialize", "Compile::Compile", "osr::malloc", "ArenaUser::f"},
		},
		{
			module: "server", rust: true,
			yes: []string{
				"alloc::raw_vec::finish_grow", "<alloc::vec::Vec<T> as core::clone::Clone>::clone", "core::ptr::drop_in_place",
				"hashbrown::raw::RawTable<T, A>::reserve_rehash", "<std::io::Cursor<T> as std::io::Write>::write", "std::thread::spawn",
			},
			no: []string{"server::alloc::grow", "<server::Pool as core::ops::Drop>::drop", "allocator::grow", "corelib::f"},
		},
	} {
		for _, name := range c.yes {
			if !handsOut(name, c.module, c.rust) {
				t.Errorf("%s in %s (rust %v) is blamed", name, c.module, c.rust)
			}
		}
		for _, name := range c.no {
			if handsOut(name, c.module, c.rust) {
				t.Errorf("%s in %s (rust %v) is passed over", name, c.module, c.rust)
			}
		}
	}
}

func TestLibrariesAreToldByTheirNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"libc.so.6", "libc-2.31.so", "ld-linux-x86-64.so.2", "ld-musl-aarch64.so.1", "libstdc++.so.6.0.30", "libpthread.so.0",
		"libdl.so.2", "libjemalloc.so.2", "libglib-2.0.so.0.7400.6", "[vdso]", "libc.musl-x86_64.so.1",
	} {
		if !isLibrary(name) {
			t.Errorf("%s is blamed", name)
		}
	}
	for _, name := range []string{"server", "libclient.so", "libc-client.so.2007e", "libdlib.so.19", "libcrypto.so.3", "mylibc.so", "libpthreadpool.so", ""} {
		if isLibrary(name) {
			t.Errorf("%s is passed over", name)
		}
	}
}

// stackOf makes a site of code without files, whose frames have names.
func stackOf(s *Sites, names ...string) uint32 {
	s.frames = s.frames[:0]
	for i := range names {
		s.frames = append(s.frames, Frame{pid: 1 << 26, Addr: uint64(s.last)<<16 + uint64(i)})
	}
	id := s.intern(stack.EndRoot)
	frames, _ := s.Frames(id)
	for i, name := range names {
		frames[i].name = name // there is no compiler's map
	}
	return id
}

func TestTheInnermostFunctionThatIsNotThereToHandOutMemoryIsBlamed(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	for _, c := range []struct {
		want  string
		stack []string
	}{
		{"leak", []string{"leak", "main"}},
		{"leak", []string{"mmap", "leak", "main"}},
		{"leak", []string{"__brk", "sbrk", "sysmalloc", "_int_malloc", "malloc", "operator new", "std::vector<int>::push_back", "leak", "main"}},
		{"leak", []string{"mmap", "os_pages_map", "je_pages_map", "pac_alloc_impl", "je_large_palloc", "je_malloc_default", "leak", "main"}},
		{"leak", []string{"malloc", "leak", "std::function<void ()>::operator()", "main"}},
		// All are: who has called them is not known.
		{"", []string{"mmap", "malloc"}},
	} {
		if l, ok := s.Blamed(stackOf(s, c.stack...)); ok != (c.want != "") || l.Function != c.want {
			t.Errorf("%q blames %q, want %q", c.stack, l.Function, c.want)
		}
	}
}

func TestMemoryThatIsHandedOutInPiecesIsOfItsAllocator(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	for _, c := range []struct {
		want  string
		stack []string
	}{
		{"", []string{"mmap", "leak", "main"}},
		{"", []string{"mprotect", "leak", "main"}},
		{"musl's malloc", []string{"mmap", "alloc_slot", "__libc_malloc_impl", "malloc", "leak", "main"}},
		{"", []string{"mmap", "sysmalloc_mmap", "_int_malloc", "malloc", "leak", "main"}}, // for a single block
		{"malloc arenas", []string{"__mprotect", "sysmalloc", "_int_malloc", "malloc", "leak", "main"}},
		{"malloc arenas", []string{"mprotect", "malloc", "operator new", "std::map<int, int>::operator[]", "leak", "main"}},
		{"Go heap", []string{"runtime.sysMmap", "runtime.(*mheap).grow", "runtime.mallocgc", "main.leak", "main.main"}},
		{"Go heap", []string{"runtime.sysMmap.abi0", "runtime.sysAllocOS", "runtime.persistentalloc1", "main.leak", "main.main"}},
		{"Go heap", []string{"mmap", "x_cgo_mmap", "runtime.mmap.func1", "runtime.mmap", "runtime.sysMap", "runtime.(*mheap).grow", "main.leak", "main.main"}},
		{"Go heap", []string{"runtime.sysMmap.abi0"}}, // a stack that was cut
		{"malloc arenas", []string{"mprotect", "malloc"}},
		{"", []string{"syscall.Syscall6", "syscall.mmap", "syscall.Mmap", "main.leak", "main.main"}},
		{"jemalloc", []string{"mmap", "je_pages_map", "je_extent_alloc_mmap", "je_malloc", "leak", "main"}},
		{"tcmalloc", []string{"mmap", "tcmalloc::MmapSysAllocator::Alloc", "tcmalloc::PageHeap::GrowHeap", "tc_malloc", "leak", "main"}},
		{"V8 heap", []string{"mprotect", "v8::base::OS::SetPermissions", "v8::internal::MemoryAllocator::AllocatePage", "v8::internal::PagedSpaceBase::TryExpandImpl", "main"}},
		{"", []string{"mmap", "v8::base::OS::Allocate", "v8::internal::BackingStore::AllocateWasmMemory", "main"}}, // for a single block
		{"mimalloc", []string{"mmap", "_mi_segment_alloc", "_mi_malloc_generic", "mi_malloc", "leak", "main"}},
	} {
		if got := s.Pool(stackOf(s, c.stack...)); got != c.want {
			t.Errorf("%q is of %q, want %q", c.stack, got, c.want)
		}
	}
}

func TestCollectorsThatMoveObjectsAreToldByTheirNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		module, name string
		want         bool
	}{
		{"node", "v8::internal::Scavenger::ScavengePage", true},
		{"node", "v8::internal::Scavenger::EvacuateInPlaceInternalizableString<v8::internal::FullHeapObjectSlot>", true},
		{"node", "v8::internal::EvacuateVisitorBase::RawMigrateObject<(v8::internal::EvacuateVisitorBase::MigrationMode)0>", true},
		{"node", "v8::internal::(anonymous namespace)::ElementsAccessorBase<A, B>::Fill", false},
		{"node", "v8::internal::Runtime_MapGrow", false},
		{"libcoreclr.so", "WKS::gc_heap::relocate_phase", true},
		{"libjvm.so", "DefNewGeneration::copy_to_survivor_space", true},
		{"libjvm.so", "VM_GenCollectForAllocation::doit", true},
		{"libjvm.so", "GangWorker::loop", true},
		{"libjvm.so", "WorkerThread::run", true},
		{"libjvm.so", "Unsafe_AllocateMemory0", false},
		{"libjvm.so", "JavaThread::run", false},
		{"server", "WorkerThread::run", false},
		{"server", "shop::Scavenger::run", false},
		{"server", "", false},
	} {
		if got := moves(c.name, c.module); got != c.want {
			t.Errorf("%s of %s: %v, want %v", c.name, c.module, got, c.want)
		}
	}
}

func TestASiteMovesObjectsIfAnyOfItsFramesDoes(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	if !s.Moves(stackOf(s, "memcpy", "v8::internal::Scavenger::ScavengePage", "main")) || s.Moves(stackOf(s, "memcpy", "main")) || s.Moves(0) {
		t.Error("who moves objects is not known")
	}
}

func TestInsidesOfLibcArePassedOverOnlyBelowIt(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	m := &Module{Path: "/bin/static", number: 1}
	frames := func(names ...string) []Frame {
		var out []Frame
		for i, name := range names {
			out = append(out, Frame{Module: m, Addr: uint64(i), name: name})
		}
		return out
	}
	for _, c := range []struct {
		want  int
		stack []string
	}{
		{5, []string{"mprotect", "grow_heap", "sysmalloc", "_int_malloc", "malloc", "leak", "main"}},
		{6, []string{"mmap", "alloc_new_heap", "new_heap", "arena_get2", "malloc", "operator new", "leak", "main"}},
		{3, []string{"mmap", "allocate_stack", "pthread_create", "start_workers", "main"}},
		{4, []string{"mmap", "new_arena", "allocate_from_new_pool", "_PyObject_Malloc", "list_append", "main"}},
		// The program's own functions of these names.
		{1, []string{"mmap", "new_arena", "parse", "main"}},
		{1, []string{"mprotect", "grow_heap", "collect", "main"}},
		{1, []string{"mmap", "new_heap", "vm_start", "main"}},
		{1, []string{"mmap", "allocate_stack", "start_fiber", "main"}},
	} {
		if got, _ := s.blame(frames(c.stack...)); got != c.want {
			t.Errorf("%q blames %q, want %q", c.stack, c.stack[got], c.stack[c.want])
		}
	}
}

func TestPoolsAreToldByWhoTakesTheMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, module, want string }{
		{"runtime.(*mheap).grow", "server", "Go heap"},
		{"runtime.mallocgc", "server", ""}, // it asks the heap
		{"runtime.(*mheaps).grow", "server", ""},
		{"main.(*mheap).grow", "server", ""},
		{"_PyObject_ArenaMmap", "python3.12", "pymalloc"},
		{"new_arena", "python3.12", "pymalloc"},
		{"PyObject_Malloc", "python3.12", ""}, // large blocks are malloc's
		{"je_extent_alloc_mmap", "server", "jemalloc"},
		{"os_pages_map", "libjemalloc.so.2", "jemalloc"},
		{"tcmalloc::SystemAlloc", "libtcmalloc.so.4", "tcmalloc"},
		{"mi_segment_alloc", "server", "mimalloc"},
		{"_mi_arena_alloc", "server", "mimalloc"},
		{"malloc", "libc.so.6", ""},
		{"mmap", "libc.so.6", ""},
		{"", "", ""},
	} {
		if got := poolOf(c.name, c.module).name(); got != c.want {
			t.Errorf("%s of %s takes memory for %q, want %q", c.name, c.module, got, c.want)
		}
	}
}

// TestNobodyIsNamedForAFunctionOfAScriptThatIsNotKnown has stacks as node's, of code with and
// without names.
func TestNobodyIsNamedForAFunctionOfAScriptThatIsNotKnown(t *testing.T) {
	t.Parallel()
	node, libc := &Module{Path: "/usr/bin/node", Err: io.EOF, number: 1}, &Module{Path: "/lib/libc.so.6", Err: io.EOF, number: 2}
	for _, tt := range []struct {
		name, code string // of what runs
		module     *Module
		want       [2]string // of the interpreter and of that
		serves     bool      // the interpreter
	}{
		{"code without a name", "", node, [2]string{"", ""}, false},
		{"a script", "JS:*keep /a.js:1:1", node, [2]string{"", "keep (a.js:1)"}, true},
		{"the interpreter's own script", "JS:*listOnTimeout node:internal/timers:1:1", node, [2]string{"", ""}, false},
		{"other code with a name", "Lapp/Keeper;::keep", node, [2]string{"", "Lapp/Keeper;::keep ([jit])"}, false},
		{"what is no interpreter", "", libc, [2]string{"libc.so.6+0x10", ""}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{})
			defer s.Close()
			s.frames = []Frame{{Module: tt.module, Addr: 16}, {pid: 1 << 26, Addr: 32}}
			id := s.intern(stack.EndRoot)
			frames, _ := s.Frames(id)
			frames[1].name = tt.code // there is no compiler's map
			for depth, want := range tt.want {
				if got := s.PlaceName(id, depth).Short; got != want {
					t.Errorf("%d is %q, want %q", depth, got, want)
				}
			}
			if got := s.Path(id)[0].Serves; got != tt.serves {
				t.Errorf("the innermost serves: %v", got)
			}
			for _, depth := range []int{-1, len(frames)} {
				if got := s.PlaceName(id, depth); got != (stack.Name{}) {
					t.Errorf("%d is %v", depth, got)
				}
			}
		})
	}
}

// TestAnInterpretersFunctionIsNotNamed has a stack as of a python without -X perf: all of it is the
// interpreter's, but for an extension.
func TestAnInterpretersFunctionIsNotNamed(t *testing.T) {
	t.Parallel()
	python, ext := &Module{Path: "/usr/bin/python3.11", Err: io.EOF, number: 1}, &Module{Path: "/lib/heapext.so", Err: io.EOF, number: 2}
	s := New(Options{})
	defer s.Close()
	s.frames = []Frame{{Module: python, Addr: 16}, {Module: ext, Addr: 16}, {Module: python, Addr: 32}}
	id := s.intern(stack.EndRoot)
	for depth, want := range []string{"", "heapext.so+0x10", ""} {
		if got := s.PlaceName(id, depth).Short; got != want {
			t.Errorf("%d is %q, want %q", depth, got, want)
		}
	}
}
