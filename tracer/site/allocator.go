package site

import (
	"math"
	"regexp"
	"strings"
	"sync"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
)

// libraries are those whose functions hand out memory on behalf of others: who
// called into them is asked.
var libraries = []string{
	"libc.so", "libc-2.", "ld-linux", "ld-musl", "ld-2.", "libc.musl", "ld.so", "libpthread.so", "libpthread-2.",
	"libdl.so", "libdl-2.", "libstdc++.so", "libc++.so", "libc++abi.so", "libgcc_s", "libglib-2.0.so",
	"libjemalloc", "libtcmalloc", "libmimalloc", "libasan", "libtsan", "[vdso]",
}

// names matches names that are one of its expressions. They are compiled when they are
// needed: most commands start without, and to compile them all takes half a millisecond.
type names func() *regexp.Regexp

func (n names) MatchString(s string) bool { return n().MatchString(s) }

// whole is the expressions' names.
func whole(expressions ...string) names {
	return sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:` + strings.Join(expressions, `|`) + `)$`)
	})
}

// Functions that hand out memory in programs that have them built in: libc's in
// static ones, those of runtimes, and the containers of C++, Rust and Go. A
// program's own functions have names of all kinds, so what is matched must be
// reserved, or be where it means something.
var (
	allocators = whole(
		// malloc(3) and its namesakes
		`(__|_)?(libc_)?(malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|valloc|pvalloc|strdup|strndup)(@plt)?`,
		`_int_(malloc|realloc|memalign)`, `_mid_memalign`, `sysmalloc(_mmap)?`, `malloc_consolidate`, `ptmalloc_init`,
		`tcache_init`, `__default_morecore`, `__glibc_morecore`,
		`_?(je|tc|mi|rte|pas|scudo)_\w*alloc\w*`, `_?je_\w*(extent|chunk|pages)\w*`, `_?mi_\w*(segment|arena)\w*`, `tcmalloc::.*`,
		`alloc_(slot|group)`, `__malloc_alloc_meta`, `__libc_malloc_impl`, // musl
		// what servers and tools everybody has call theirs
		`[xz](try)?(m|c|re)alloc(array)?(_usable)?(_internal)?`, `ngx_(alloc|calloc|memalign|palloc\w*|pnalloc|pcalloc|create_pool)`,
		`(AllocSet|Generation|Slab|MemoryContext)Alloc\w*`, `palloc(0|_extended)?`, `repalloc\w*`,
		// through which Go's runtime calls libc, where a program has C in it
		`x_cgo_(mmap|munmap|sys_thread_create|thread_start)`, `_cgo_(sys_thread_start|try_pthread_create)`,
		// system calls
		`(__)?(mmap|mmap64|munmap|mremap|mprotect|brk|sbrk|shmat|syscall|pkey_mprotect)(@plt)?`,
		// threads
		`(__)?pthread_create(_2_1)?(@plt)?`,
		// C++
		`operator new(\[\])?(@plt)?`, `(std|__gnu_cxx)::.*`,
		// V8
		`v8::base::OS::.*`, `v8::internal::(MemoryAllocator|\w*PageAllocator)::.*`,
		// Rust
		`__rust_\w*alloc\w*`, `__rdl_\w*alloc\w*`, `__rg_\w*alloc\w*`,
		// CPython
		`_?Py(Mem|Object)_(Raw|Debug|Gc)?(Malloc|Calloc|Realloc|New|NewVar).*`, `_PyObject_(Malloc|Calloc|Realloc|Arena).*`,
		`pymalloc_alloc`, `_PyMem_\w*`, `_PyObject_GC_\w*`, `PyType_GenericAlloc`, `_PyObject_New\w*`,
	)

	// inside are those of libc and CPython that a program may have named its own as
	// well: they count where one of the above has called them.
	inside = whole(`new_arena`, `allocate_from_new_pool`, `(new|grow|alloc_new|shrink)_heap`, `arena_get(2|_retry)?`, `allocate_stack`, `create_thread`)

	// inRust are namespaces that are free in other languages.
	inRust = whole(`<*(alloc|core|hashbrown)::.*`, `<(std)::.*`)

	// inGo are packages whose names have a dot or a slash, so that no other
	// language has them.
	inGo = whole(`runtime\..*`, `runtime/.*`, `internal/runtime/.*`, `syscall\..*`, `golang\.org/x/sys/unix\..*`, `internal/syscall/.*`)

	// goLibraries are packages of Go's library that copy and collect for others.
	goLibraries = whole(`(bufio|bytes|cmp|errors|fmt|io|iter|maps|reflect|slices|sort|strconv|strings|sync|unicode)[./].*`, `(container|encoding|hash|unicode)/.*`)

	// inJVM are classes of HotSpot.
	inJVM = whole(`os::.*`, `AllocateHeap.*`, `Arena::.*`, `Chunk::.*`, `ChunkPool::.*`, `\w*VirtualSpace::.*`)

	// movers are the parts of garbage collectors that move what others have made: V8's and
	// .NET's; and in the JVM the threads and operations that collect.
	movers      = whole(`v8::internal::(\(anonymous namespace\)::)?\w*(Scaveng|Evacuat|Compact)\w*(<.*>)?::.*`, `(SVR|WKS)::gc_heap::.*`)
	moversInJVM = whole(
		`VM_(Gen|G1|Parallel|GC|X|Z|Shenandoah)\w*::.*`, `(Gang|)Worker(Thread)?::.*`, `GCTaskThread::.*`, `ConcurrentGCThread::.*`,
		`\w*(Generation|MarkSweep|Evacuat|Scaveng|Compact|Relocat)\w*::.*`,
	)
)

// pools are allocators and runtimes that take memory from the kernel in large pieces,
// for whoever asks next, by their functions that do so.
var pools = []struct {
	name   string
	by     names
	soname string // of a file all functions of which do
}{
	{heap.GoHeap, whole(`runtime\.\(\*mheap\)\..*`, `runtime\.sys(Mmap|Map|Alloc|Reserve)\w*(\.abi0)?`), ""},
	{"V8 heap", whole(`v8::internal::MemoryAllocator::.*`), ""},
	{growth.JVMPool, whole(`\w*VirtualSpace::(expand|commit)\w*`), ""},
	{"pymalloc", whole(`_PyObject_Arena\w*`, `_PyMem_Arena\w*`, `new_arena`, `allocate_from_new_pool`, `pymalloc_alloc`), ""},
	{"jemalloc", whole(`_?je_\w*(alloc|extent|chunk|pages)\w*`), "libjemalloc"},
	{"tcmalloc", whole(`tcmalloc::.*`, `tc_\w*alloc\w*`), "libtcmalloc"},
	{muslPool, whole(`alloc_(slot|group)`, `__malloc_alloc_meta`, `expand_heap`), ""},
	{"mimalloc", whole(`_?mi_\w*(alloc|segment|arena)\w*`), "libmimalloc"},
}

const muslPool = "musl's malloc"

// muslsMalloc tells whether a function is a part of musl's allocator by what it exports:
// its library has few other names.
func muslsMalloc(name, module string) bool {
	f, ok := wanted()[name]
	return ok && f != heap.Free && strings.HasPrefix(module, "ld-musl")
}

// glibc's allocator takes small pieces of [heap], which is known by its kind, or of an
// arena, which it opens up by mprotect, and each large one for itself.
var glibc = whole(`(__|_)?(libc_)?(malloc|calloc|realloc|memalign)`, `_int_(malloc|realloc|memalign)`, `_mid_memalign`, `sysmalloc(_mmap)?`)

// inAllocator are functions of allocators that are only called by themselves, or instead of
// one that has handed the call on.
var inAllocator = whole(`_?je_\w+`, `_?mi_\w+`, `tcmalloc::.*`, `tc_\w+`)

// opens are the calls that make reserved memory usable.
var opens = whole(`(__)?(pkey_)?mprotect(@plt)?`)

// poolID is one of the pools: its index and one, 0 for none, and arenas for glibc's.
type poolID uint8

const arenas poolID = math.MaxUint8

func (p poolID) name() string {
	switch p {
	case 0:
		return ""
	case arenas:
		return growth.ArenaPool
	}
	return pools[p-1].name
}

// poolOf is the pool that a function takes memory for.
func poolOf(name, module string) poolID {
	for i, p := range pools {
		if p.by.MatchString(name) || p.name == muslPool && muslsMalloc(name, module) || p.soname != "" && strings.HasPrefix(module, p.soname) {
			return poolID(i + 1)
		}
	}
	return 0
}

// moves tells whether a function is a part of a garbage collector that moves what others
// have made.
func moves(name, module string) bool {
	return movers.MatchString(name) || strings.HasPrefix(module, "libjvm.so") && moversInJVM.MatchString(name)
}

func isLibrary(module string) bool {
	for _, l := range libraries {
		if strings.HasPrefix(module, l) {
			return true
		}
	}
	return false
}

// handsOut tells whether a function is there to hand out memory, by its name, the
// name of its module, and whether it is of Rust.
func handsOut(name, module string, rust bool) bool {
	switch {
	case allocators.MatchString(name), inGo.MatchString(name):
		return true
	case rust:
		return inRust.MatchString(name)
	case strings.HasPrefix(module, "libjvm.so"):
		return inJVM.MatchString(name)
	}
	return false
}
