package site

import (
	"regexp"
	"strings"
)

// libraries are those whose functions hand out memory on behalf of others: who
// called into them is asked.
var libraries = []string{
	"libc.so", "libc-", "ld-linux", "ld-musl", "libc.musl", "ld.so", "libpthread", "libstdc++", "libc++", "libgcc_s",
	"libjemalloc", "libtcmalloc", "libmimalloc", "libasan", "libtsan", "libdl", "[vdso]",
}

// allocators are the functions that do so in programs that have them built in:
// libc's in static ones, those of runtimes, and the containers of C++ and Rust.
var allocators = regexp.MustCompile(`^(` + strings.Join([]string{
	// malloc(3), its insides and its namesakes
	`(__|_)?(libc_)?(malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|valloc|pvalloc|strdup|strndup)(@plt|\.part\.\d+|\.constprop\.\d+)?`,
	`_int_(malloc|realloc|memalign)`, `_mid_memalign.*`, `sysmalloc.*`, `tcache_init.*`, `(new|grow|alloc_new)_heap.*`,
	`malloc_consolidate`, `ptmalloc_init.*`, `arena_get.*`, `(__)?default_morecore`, `__glibc_morecore`,
	`(je|tc|mi|rte|pas|scudo)_\w*alloc\w*`,
	// system calls
	`(__)?(mmap|mmap64|munmap|mremap|mprotect|brk|sbrk|shmat|syscall|pkey_mprotect)(@plt)?`, `__mmap64?`, `__brk`, `__sbrk`, `__mprotect`,
	// threads, in static programs
	`(__)?pthread_create.*`, `allocate_stack.*`,
	// C++
	`operator new.*`, `std::.*`, `__gnu_cxx::.*`, `void std::.*`,
	// Rust
	`<?(alloc|core|std|hashbrown)::.*`, `__rust_\w*alloc\w*`, `__rdl_\w*alloc\w*`, `__rg_\w*alloc\w*`, `<(alloc|core|std|hashbrown)::.*`,
	// Go
	`runtime\..*`, `runtime/.*`, `internal/runtime/.*`, `syscall\..*`, `golang\.org/x/sys/unix\..*`, `internal/syscall/.*`,
	// JVM
	`os::.*`, `AllocateHeap.*`, `Arena::.*`, `Chunk::.*`,
	// CPython
	`_?Py(Mem|Object)_(Raw|Debug|Gc)?(Malloc|Calloc|Realloc|New|NewVar).*`, `_PyObject_(Malloc|Calloc|Realloc|Arena).*`, `_PyMem_\w*`,
	`new_arena`, `allocate_from_new_pool`, `pymalloc_\w*`, `_PyObject_GC_\w*`, `PyType_GenericAlloc`, `_PyObject_New\w*`,
}, `|`) + `)$`)

func isLibrary(module string) bool {
	for _, l := range libraries {
		if strings.HasPrefix(module, l) {
			return true
		}
	}
	return false
}
