/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel side and the Go side agree on: the operations and the
 * records of the ring. The Go types are generated from the object's BTF.
 */
#ifndef MAPTRACE_H
#define MAPTRACE_H

/* Operations: what a record is about. Zero is not an operation. */
enum mm_op {
	MM_OP_MMAP = 1,
	MM_OP_MUNMAP,
	MM_OP_BRK,
	MM_OP_MREMAP,
	MM_OP_MPROTECT,
	MM_OP_PKEY_MPROTECT,
	MM_OP_MADVISE,
	MM_OP_PROCESS_MADVISE,
	MM_OP_MLOCK,
	MM_OP_MLOCK2,
	MM_OP_MUNLOCK,
	MM_OP_MLOCKALL,
	MM_OP_MUNLOCKALL,
	MM_OP_SHMAT,
	MM_OP_SHMDT,
	MM_OP_REMAP_FILE_PAGES,
	MM_OP_MBIND,
	MM_OP_MSEAL,
	MM_OP_SET_VMA,
	MM_OP_FORK,
	MM_OP_EXEC,
	MM_OP_EXIT,
	/* The address space itself is gone (exit_mmap). */
	MM_OP_GONE,
	/*
	 * A section of the mmap lock that none of the calls above owns; without
	 * MM_F_SECTION, something that took another's for its own.
	 */
	MM_OP_OTHER,
	/* The stack grew: a section that a page fault made. */
	MM_OP_STACK,
	/* A call that has committed and will return much later. */
	MM_OP_ANNOUNCE,
	/* One VMA of a new image, and the end of such a list. */
	MM_OP_VMA,
	MM_OP_SEEDED,
	/*
	 * Where the heap and the stack lie, which was set by prctl(PR_SET_MM), or by the parent
	 * some time.
	 */
	MM_OP_LAYOUT,
	/* A page fault: only in the ring of stacks, and among the latencies. */
	MM_OP_FAULT,
	/* Another process, or the kernel: only among the latencies. */
	MM_OP_REMOTE,
	/* A write to a watched word: only in the ring of stacks. */
	MM_OP_WRITE,
	/* A block of a malloc heap: only in the ring of blocks. */
	MM_OP_BLOCK,
	/*
	 * Something was made that holds memory without a mapping: a memfd, a System V segment,
	 * an io_uring. Only in the ring of stacks.
	 */
	MM_OP_MEMFD,
	MM_OP_SEGMENT,
	MM_OP_RING,
	MM_OP_COUNT,
};

enum mm_flag {
	/* time is the commit time, taken under the mmap lock. */
	MM_F_STAMPED = 1 << 0,
	/* section is the number of the lock's write section. */
	MM_F_SECTION = 1 << 1,
	/* A struct mm_file follows the call. */
	MM_F_FILE = 1 << 2,
	/* personality(READ_IMPLIES_EXEC). */
	MM_F_READ_EXEC = 1 << 3,
	/* The caller belongs to another address space. */
	MM_F_REMOTE = 1 << 4,
	/* fork: the child shares the parent's address space. */
	MM_F_SHARED = 1 << 5,
	/*
	 * A call, which no fork is: it has let go of no mmap lock, and was seen from its
	 * entry. What would have needed the lock was not executed, whatever the result says.
	 */
	MM_F_NO_LOCK = 1 << 5,
	/* exec: no VMAs follow, the kernel has no iterator. */
	MM_F_UNSEEDED = 1 << 6,
	/* The call made memory larger, and its stack, though asked for, was not sent. */
	MM_F_UNSAMPLED = 1 << 7,
};

enum mm_file_flag {
	MM_FILE_CHARDEV = 1 << 0,
	MM_FILE_REGULAR = 1 << 1,
	/* The VMA was found; all else comes from there. */
	MM_FILE_VMA = 1 << 2,
	/* The VMA has no file. */
	MM_FILE_NONE = 1 << 3,
	/* A mapping the kernel made itself ([vdso]); name is its name. */
	MM_FILE_SPECIAL = 1 << 4,
	/* It is on a mount of the kernel's own, where nobody else gives names. */
	MM_FILE_KERNEL = 1 << 5,
	/* Its file system is tmpfs, or that of anonymous inodes. */
	MM_FILE_SHMEM = 1 << 6,
	MM_FILE_ANON_INODE = 1 << 7,
	/*
	 * Others have changed what a call has mapped since: what is left of it, there and
	 * beyond holes, is of the same file, and, if alike, is the same in all else.
	 */
	MM_FILE_PIECES = 1 << 8,
	MM_FILE_ALIKE = 1 << 9,
};

#define MM_NAME_LEN 80

/* The head of every record. Times are CLOCK_MONOTONIC in ns. */
struct mm_head {
	__u64 time;
	__u64 space; /* the address space's number in this run; never reused */
	__u32 section;
	__u32 tgid;
	__u32 tid;
	__u8 op;
	__u8 flags;
	__u16 nr; /* system call number where op says too little */
};

/*
 * A call: the six arguments as the program gave them, and the result. Where stacks
 * are asked for, one that made memory larger says where it came from, as far as that
 * is known without unwinding: calls that are alike in path, depth and chance had the
 * same probability of being sent with their stack, 2^-chance, whatever became of what
 * they made.
 */
struct mm_call {
	struct mm_head head;
	__s64 ret;
	__u64 args[6];
	/*
	 * By how many pages its section changed what is mapped, 0 without one; of a fork,
	 * how many the child has mapped; of MM_OP_SEEDED how many VMAs there are.
	 */
	__s64 pages;
	__u32 stack; /* number of the mm_stack that was sent before; 0: none was */
	__u16 path;  /* hash of the program counter and of return addresses on the stack */
	__u8 depth;  /* hash of the stack pointer */
	__u8 chance;
};

struct mm_file {
	__u64 inode;
	__u64 vm_start;
	__u64 vm_end;
	__u64 vm_flags;
	__u64 offset;
	__u64 size;  /* of the file, in bytes */
	__u64 block; /* of the file system; of hugetlbfs, the size of its pages */
	__u32 dev;   /* the kernel's: major << 20 | minor */
	__u32 flags;
	__u32 section; /* the first that cannot have changed what was found */
	__u32 pad;
	char name[MM_NAME_LEN]; /* basename, NUL-terminated, cut to fit */
};

struct mm_file_call {
	struct mm_call call;
	struct mm_file file;
};

/* One VMA of a fresh image. */
struct mm_vma {
	struct mm_head head;
	struct mm_file file;
};

/* A line of the task iterator: one traced process and its address space. */
struct mm_task {
	__u64 space;
	__u64 start_time; /* CLOCK_BOOTTIME, ns */
	__u64 start_brk;
	__u64 brk;
	__u64 start_stack;
	__u32 section; /* the first section sure to be reported */
	__u32 tgid;
	__u32 flags; /* MM_F_SECTION when sections are numbered */
	char comm[16];
	__u32 inner; /* the process' number in its own pid namespace */
};

/*
 * A record of the ring of stacks: the registers a thread will have in user mode,
 * and its stack from the stack pointer up. "op" is that of the call whose record
 * names it, or one of those that are only there.
 */
#define MM_REGS	 33
#define MM_CHAIN 64

struct mm_stack {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u64 space;
	__u64 addr; /* of the fault, or the watched word; the inode or segment that was made */
	__u32 id;   /* not 0; wraps */
	__u32 tgid;
	__u32 tid;
	__u32 size;    /* bytes of stack that follow */
	__u32 chained; /* of chain, how many */
	__u8 op;
	__u8 cut;    /* the copy ended because it was long enough */
	__u8 chance; /* of a fault: its probability of being sent was 2^-chance */
	__u8 pad;
	/* x86: DWARF's 0 to 16, rip last; arm64: x0 to x30, sp, pc. */
	__u64 regs[MM_REGS];
	/*
	 * The program counters along the frame pointers, as the kernel follows them:
	 * they may lead to another stack than the one that is copied.
	 */
	__u64 chain[MM_CHAIN];
};

/* The functions of an allocator, by where they have what matters. */
enum mm_heap_function {
	MM_HEAP_MALLOC,		   /* (size) */
	MM_HEAP_CALLOC,		   /* (number, size) */
	MM_HEAP_REALLOC,	   /* (block, size) */
	MM_HEAP_REALLOCARRAY,	   /* (block, number, size) */
	MM_HEAP_ALIGNED,	   /* (alignment, size) */
	MM_HEAP_POSIX_MEMALIGN,	   /* (where to put the address, alignment, size) */
	MM_HEAP_NEW,		   /* (size); seen to return only where it does so itself */
	MM_HEAP_FUNCTION_BITS = 8, /* of a cookie; the others number the burst */
};

/* The words of a block that freeing it has changed. */
enum mm_changed {
	MM_CHANGED_BEFORE = 1, /* the one before it */
	MM_CHANGED_FIRST = 2,
	MM_CHANGED_SECOND = 4,
};

/* What a record of the ring of blocks is about. */
enum mm_block_what {
	MM_BLOCK_BORN,	 /* it was allocated; an mm_stack follows, with its stack */
	MM_BLOCK_FREED,	 /* it was seen to be freed */
	MM_BLOCK_REUSED, /* its address was given out again, so it was freed before */
	MM_BLOCK_MOVED,	 /* it was realloc(3)ated: it is at "addr" now, with another size */
	/*
	 * What freeing it has left: "header" is its second word, and "size" has the bits of
	 * mm_changed. Told by the thread's next call of the allocator, so nobody has the block
	 * yet.
	 */
	MM_BLOCK_MARK,
	/*
	 * What was in it when its thread called the allocator next, and it was surely there: an
	 * mm_contents.
	 */
	MM_BLOCK_CONTENTS,
};

struct mm_block {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u64 space;
	__u64 addr;
	__u64 size; /* as it was asked for, bytes */
	__u64 old;  /* of realloc(3): where it was, 0 if nowhere */
	/* The words before the block, and before the old one: of glibc, their chunks' sizes. */
	__u64 header;
	__u64 old_header;
	/* The block's first word when the call returned; of MM_BLOCK_MARK: when it was freed. */
	__u64 first;
	__u8 what;
	__u8 chance; /* its probability of being sent was 2^-chance */
	__u8 pad[6];
};

/* Words of a block; those beyond its end are not its own. */
#define MM_WORDS 8

struct mm_contents {
	struct mm_block block;
	__u64 words[MM_WORDS];
};

/* How often the functions of an allocator were called while they were probed. */
struct mm_heap {
	__u64 allocs;
	__u64 leaves;  /* of the allocs, those seen at the instruction that returns */
	__u64 samples; /* of the allocs */
	__u64 frees;
	__u64 faults; /* page faults of the space but for those of code, probed or not */
};

/* What both sides know of sampling. */
enum mm_limit {
	MM_WINDOWS = 8,	    /* of which a second has so many a quota is for each */
	MM_TOP_CHANCE = 24, /* the least probability is 2^-MM_TOP_CHANCE */
};

/* Counters, summed over the CPUs by the reader. */
enum mm_counter {
	MM_C_DROPPED,  /* records the ring had no room for */
	MM_C_NO_STAMP, /* no task storage to keep a commit stamp in */
	MM_C_NO_SPACE, /* an address space that did not fit the table */
	MM_C_NO_TASK,  /* a process that did not fit the table */
	/* Calls that made memory larger and have no stack, by the reason. */
	MM_C_STACK_CHANCE,  /* there were too many, and it was not taken by chance */
	MM_C_STACK_DROPPED, /* the ring of stacks had no room */
	MM_C_STACK_BUSY,    /* the CPU's scratch buffer was in use */
	MM_C_FAULTS,	    /* page faults of traced processes, sampled or not */
	MM_C_TOUCHES,	    /* pieces of memory that did not fit the table of touched ones */
	MM_C_TIMINGS,	    /* timings the ring had no room for */
	MM_C_NO_TIMING,	    /* no task storage to measure in */
	MM_C_BLOCK_DROPPED, /* blocks of heaps, or their ends, that could not be told */
	MM_C_COUNT,
};

/*
 * How long something took, of all that there was: numbers by bucket. Below
 * MM_LAT_SUB ns a bucket is one value; above, MM_LAT_SUB of equal width make an
 * octave, so that none is wider than an eighth of its least value. The last also
 * holds what is longer, 18 minutes.
 */
#define MM_LAT_SUB_BITS 3
#define MM_LAT_SUB	(1 << MM_LAT_SUB_BITS)
#define MM_LAT_TOP	39 /* the last octave's power of two */
#define MM_LAT_BUCKETS	((MM_LAT_TOP - MM_LAT_SUB_BITS + 2) * MM_LAT_SUB)

struct mm_lat_hist {
	__u64 sum; /* ns */
	__u64 max;
	__u64 count[MM_LAT_BUCKETS];
};

/*
 * The bucket of a number of ns. In plain shifts: the BPF targets of the
 * compilers in use have no instruction for the highest bit.
 */
static inline __attribute__((always_inline)) __u32 mm_lat_bucket(__u64 v)
{
	__u32 e = 0;

	if (v < MM_LAT_SUB)
		return v;
	for (__u32 step = 32; step; step >>= 1) {
		if (v >> (e + step))
			e += step;
	}
	if (e > MM_LAT_TOP)
		return MM_LAT_BUCKETS - 1;
	return (e - MM_LAT_SUB_BITS + 1) * MM_LAT_SUB +
	       ((v >> (e - MM_LAT_SUB_BITS)) & (MM_LAT_SUB - 1));
}

/*
 * Everything of one operation. Of a call, duration is from its entry to its
 * return, wait and hold are the sums of what it spent waiting for mmap locks and
 * holding them; they count calls that asked for one. Outside of the calls
 * (MM_OP_FAULT, MM_OP_OTHER, MM_OP_EXIT, MM_OP_REMOTE) each hold counts by
 * itself, and there is no duration.
 */
struct mm_lat {
	__u64 failed;
	__u64 slow;	  /* of at least the slow limit */
	__u64 write_hold; /* of the time held, that for writing */
	__u64 longest;	  /* single hold */
	struct mm_lat_hist duration;
	struct mm_lat_hist wait;
	struct mm_lat_hist hold;
};

/* Calls that were passed over, and what they took together. */
struct mm_lat_carry {
	__u64 calls;
	__u64 duration;
	__u64 wait;
	__u64 hold;
};

/*
 * A record of the ring of timings: a call with its times, in ns. "head.time" is
 * its entry; "stack" as in mm_call. "skipped" are the calls of its operation, as slow
 * or not, that this CPU has passed over since its last record of them. A call's
 * probability of being sent was 2^-chance.
 */
struct mm_timing {
	struct mm_head head;
	__s64 ret;
	__u64 args[6];
	__u64 duration;
	__u64 wait;
	__u64 hold;
	__u64 write_hold;
	__u64 longest;
	struct mm_lat_carry skipped;
	__u32 stack;
	__u32 locks; /* how often it got a lock */
	__u32 pad;
	__u8 slow; /* it is at least as long as the slow limit */
	__u8 chance;
	__u16 pad2;
};

#endif
