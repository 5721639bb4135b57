/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/*
 * The kernel side of maptrace: every change of a traced address space, in the
 * order in which the changes took effect.
 *
 * A mapping call is sent when it returns (tp_btf/sys_exit, the one place that
 * has its arguments and its result), stamped with what the mmap lock's release
 * inside the call noted (tp_btf/mmap_lock_released runs with the lock still
 * held): the time, and the number of the lock's write section. A write section
 * that no decoded call owns is sent by itself as MM_OP_OTHER. So every section
 * of a traced address space is reported by somebody, and user space can count.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "maptrace.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading. */
volatile const bool follow = true;	  /* trace the children of traced processes */
volatile const bool has_vma_iter = false; /* bpf_iter_task_vma is there (6.7) */
volatile const __u32 stack_bytes = 0;	  /* of user stack to copy */
volatile const __u32 stack_quota = 0;	  /* stacks of a space's growth in a window; 0: none */
volatile const __u32 fault_quota = 0;	  /* and of its page faults */
volatile const __u32 caller_mask = 0;	  /* of an index into "callers" and "block_meters" */
volatile const __u32 page_shift = 12;	  /* of the kernel's pages */
volatile const __u32 piece_shift = 0;	  /* of a piece of memory, whose faults are noted */
volatile const bool watches = false;	  /* somebody asks how many threads began */
volatile const bool latency = false;	  /* the programs of latency.h are there */
volatile const bool nested = false;	  /* the reader is not in the initial pid namespace */

#define MAX_SPACES 16384
#define MAX_TASKS  65536

#define MOST_MOUNTS 4 /* of files on one another */

#define MAX_STACK   65536
#define MAX_RETURNS 8				/* that uprobes have replaced */
#define STACK_PIECE 4096			/* no page is smaller */
#define WINDOW	    (1000000000UL / MM_WINDOWS) /* ns: what quotas are for */
#define CALLERS	    16	/* of them may use a space's quota up between them */
#define PATH_BYTES  512 /* of stack in which a call's path is looked for */
#define PATH_PIECE  16	/* words of it that are read at once */

#define EBUSY		  16
#define ENOMEM		  12
#define ENOSYS		  38
#define S_IFMT		  0170000
#define S_IFCHR		  0020000
#define S_IFREG		  0100000
#define SB_KERNMOUNT	  (1 << 22)
#define TMPFS_MAGIC	  0x01021994
#define ANON_INODE_MAGIC  0x09041934
#define READ_IMPLIES_EXEC 0x0400000
#define VM_LOCKED	  0x2000
#define PROT_WRITE	  0x2
#define MAP_SHARED	  0x01
#define MAP_ANONYMOUS	  0x20
#define MAP_LOCKED	  0x2000
#define MAP_POPULATE	  0x8000
#define MAP_HUGETLB	  0x40000
#define MCL_FUTURE	  2
#define PR_SET_VMA	  0x53564d41
#define IPC_PRIVATE	  0
#define IPC_NEW		  03000 /* IPC_CREAT | IPC_EXCL */
#define PTRACE_POKEUSR	  6
#define PTRACE_SETREGS	  13
#define PTRACE_SETREGSET  0x4205
#define PTRACE_SET_CALL	  0x4212 /* PTRACE_SET_SYSCALL_INFO */

/* How often something came in a window of time, which says how much of it is taken. */
struct meter {
	__u64 began; /* the window, ns */
	__u32 seen;  /* so far */
	__u32 base;  /* the chance that it began with */
};

/* Everything the kernel side knows of one address space. */
struct space {
	__u64 id;
	__u64 brk;	 /* as of the last release that may have followed a change of it */
	__u64 start_brk; /* as last told, as is start_stack */
	__u64 start_stack;
	__u64 stack_vm;	     /* pages of stack, as of the last report */
	__u64 total_vm;	     /* mapped pages, as the last section left them */
	__u32 map_count;     /* mappings, as of the last call; 0: none was seen */
	__u32 last;	     /* the last section reported or kept for a report */
	__u32 relaid;	     /* its layout was set since its image began */
	struct meter calls;  /* that made memory larger */
	struct meter stacks; /* of these, those that their caller's meter has passed */
	struct meter rare;   /* forks, refused calls and splits */
	struct meter faults;
	struct meter blocks;
};

/*
 * The meters of callers, by a hash of the address space and of where calls come
 * from. Those that share one share its quota.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* sized before loading */
	__type(key, __u32);
	__type(value, struct meter);
} callers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* tens of thousands are rarely there */
	__uint(max_entries, MAX_SPACES);
	__type(key, __u64); /* the mm_struct's address; removed by exit_mmap's last section */
	__type(value, struct space);
} spaces SEC(".maps");

/* How many threads have begun in an address space, by its id, if "watches". */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SPACES);
	__type(key, __u64);
	__type(value, __u64);
} births SEC(".maps");

/*
 * Where page faults were since the reader last took them out. A piece is what one
 * entry of a page middle directory maps: no fault brings in pages beyond it, but
 * for larger pages of hugetlbfs.
 */
struct piece {
	__u64 space;
	__u64 number; /* address >> piece_shift */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* sized before loading */
	__type(key, struct piece);
	__type(value, __u8);
} pieces SEC(".maps");

/* The traced processes: what fork extends, exit shrinks, and exec asks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* tens of thousands are rarely there */
	__uint(max_entries, MAX_TASKS);
	__type(key, __u32);   /* tgid, as the reader's pid namespace numbers it */
	__type(value, __u64); /* number of the address space; 0 until it is known */
} tasks SEC(".maps");

/*
 * What the lock's release told, kept until the call returns. A thread that has one
 * with "space" set was in a call before, so that its next one is seen from its entry.
 */
struct pending {
	__u64 space;
	__u64 time;
	__u64 old_brk;
	__s64 pages;   /* by how many the section changed what is mapped */
	__u64 args[2]; /* of the call that it belongs to, as is nr */
	__u32 section;
	__u16 nr;
	__u8 flags;
	__u8 have;
	__u8 commits; /* the release ended a write section */
	__u8 over;    /* "overs" has a call that has returned and looks as if it ran */
	__u8 pad[2];
	/* Set at the return, as in mm_call. */
	__u32 stack;
	__u16 path;
	__u8 depth;
	__u8 chance;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pending);
} pendings SEC(".maps");

/* The call that a thread had last, if it left registers that look as if it ran. */
struct over {
	__u64 args[6];
	__u64 nr;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct over);
} overs SEC(".maps");

/*
 * The threads whose registers another has written, by their number: what these say
 * of a call may be untrue. "meddled" is how many there were, so that nobody looks
 * for them where there are none; more than fit make every thread one of them.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_TASKS);
	__type(key, __u32); /* the thread's number in the initial namespace */
	__type(value, __u8);
} puppets SEC(".maps");

__u32 meddled;
__u32 unknown_puppets;

/* What the thread waits for and holds, and what its call has so far: latency.h. */
struct lat_task {
	__u64 mm;	  /* whose lock the next fields are about */
	__u64 asked;	  /* when the thread began to wait for it; 0: it does not */
	__u64 taken;	  /* when it got it; 0: it has not got it */
	__u64 downgraded; /* when it kept it for reading only; 0: it did not */
	__u64 waited;	  /* for it, in vain or not, since the last release */
	__u64 began;	  /* the call that it is in; 0: in none of ours */
	__u64 entered;	  /* when the call that has just ended had begun */
	__u64 duration;	  /* of that call */
	__u64 wait;
	__u64 hold;
	__u64 write_hold;
	__u64 longest;
	__u32 locks;
	__u8 write; /* it got it for writing */
	__u8 mute;  /* it is us who take it */
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct lat_task);
} lat_tasks SEC(".maps");

/* Sized before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MM_C_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Sized before loading: small unless stacks are asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} stacks SEC(".maps");

/*
 * Where a stack is put together, one for each CPU. A record of the true size is
 * sent from here, which lets fewer be dropped than to reserve the largest. Not a
 * per-CPU array: their values end at 32 KiB.
 */
struct scratch {
	__u64 busy;
	struct mm_block block;
	struct mm_stack head;
	__u8 data[MAX_STACK];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

__u64 last_space;
__u32 last_stack;

/* The reader's pid namespace: noted when it lists tasks, and only if nested. */
struct pid_namespace *reader_ns;
__u32 reader_level;

/* For bpf2go: the records are in the BTF only if something names them. */
struct mm_call unused_call __attribute__((unused));
struct mm_file_call unused_file_call __attribute__((unused));
struct mm_vma unused_vma __attribute__((unused));
struct mm_task unused_task __attribute__((unused));
struct mm_stack unused_stack __attribute__((unused));
struct mm_timing unused_timing __attribute__((unused));
enum mm_op unused_op __attribute__((unused));
enum mm_flag unused_flag __attribute__((unused));
enum mm_file_flag unused_file_flag __attribute__((unused));
enum mm_counter unused_counter __attribute__((unused));
enum mm_limit unused_limit __attribute__((unused));

extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task,
				 __u64 addr) __ksym __attribute__((weak));
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) __ksym
	__attribute__((weak));
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) __ksym __attribute__((weak));

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		*n += 1;
}

/* Leaves the lock that our own looking at VMAs takes out of the latencies. */
static __always_inline void lat_mute(struct task_struct *task, bool mute)
{
	struct lat_task *l;

	if (!latency)
		return;
	l = bpf_task_storage_get(&lat_tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (l)
		l->mute = mute;
}

/* The reader polls: a wake-up a record would cost the traced program 2-3x. */
static __always_inline void submit(void *rec)
{
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
}

static __always_inline void *reserve(__u64 size)
{
	void *rec = bpf_ringbuf_reserve(&events, size, 0);

	if (!rec)
		count(MM_C_DROPPED);
	return rec;
}

/* What a process is called at a level of nested pid namespaces, its own at most. */
static __always_inline struct upid *numbered(struct pid *pid, __u32 level)
{
	return (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid);
}

/*
 * A thread's number in the reader's pid namespace, and that of its process; 0
 * where it has none: namespaces see into those below them, and nowhere else.
 * kernel/pid.c: pid_nr_ns.
 */
static __always_inline __u32 tid_of(struct task_struct *task)
{
	struct upid *name;
	struct pid *pid;

	if (!nested)
		return task->pid;
	pid = BPF_CORE_READ(task, thread_pid);
	if (!pid || !reader_ns || BPF_CORE_READ(pid, level) < reader_level)
		return 0;
	name = numbered(pid, reader_level);
	return BPF_CORE_READ(name, ns) == reader_ns ? BPF_CORE_READ(name, nr) : 0;
}

static __always_inline __u32 tgid_of(struct task_struct *task)
{
	return nested ? tid_of(BPF_CORE_READ(task, group_leader)) : task->tgid;
}

/* A process' number in its own pid namespace, which may be below the reader's. */
static __always_inline __u32 inner_of(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level;

	if (!pid)
		return 0;
	level = BPF_CORE_READ(pid, level);
	return BPF_CORE_READ(numbered(pid, level), nr);
}

/*
 * The system call the current thread is in, or -1: in a page fault from user
 * mode, in kernel threads, whose registers say nothing, and when the call's
 * work is done. The way back to user mode writes signal frames and rseq areas,
 * and may fault, with the call's registers still there; but for the result.
 */
static __always_inline long current_call(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
	/* arch/x86/entry/entry_64.S sets it, do_syscall_64 replaces it */
	return (long)regs->ax == -ENOSYS ? (int)regs->orig_ax : -1;
#else
	/* arch/arm64/kernel/syscall.c; a result may equal the argument: see commits() */
	return regs->regs[0] == regs->orig_x0 ? regs->syscallno : -1;
#endif
}

/* 32-bit calls have other numbers and layouts: their sections are "other". */
static __always_inline bool is_compat(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return task->thread_info.status & 0x2; /* TS_COMPAT */
#else
	return task->thread_info.flags & (1UL << 22); /* TIF_32BIT */
#endif
}

/* What family a system call belongs to. */
enum class {
	NOT_OURS = 0,
	IS_MAKER = 253, /* of what holds memory without a mapping */
	IS_PTRACE = 254,
	IS_CLONE = 255, /* others: enum mm_op */
};

#if defined(__TARGET_ARCH_x86)
#define NR_SHMGET	29
#define NR_MEMFD_CREATE 319
#else
#define NR_SHMGET	194
#define NR_MEMFD_CREATE 279
#endif
#define NR_IO_URING_SETUP 425

/*
 * arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h.
 * Not static: a global function is verified by itself, once, and not again with
 * each result on each path of its callers, which took most of the start.
 */
__noinline __u32 classify(long nr)
{
	switch (nr) {
#if defined(__TARGET_ARCH_x86)
	case 9:
		return MM_OP_MMAP;
	case 10:
		return MM_OP_MPROTECT;
	case 11:
		return MM_OP_MUNMAP;
	case 12:
		return MM_OP_BRK;
	case 25:
		return MM_OP_MREMAP;
	case 28:
		return MM_OP_MADVISE;
	case 30:
		return MM_OP_SHMAT;
	case 67:
		return MM_OP_SHMDT;
	case 149:
		return MM_OP_MLOCK;
	case 150:
		return MM_OP_MUNLOCK;
	case 151:
		return MM_OP_MLOCKALL;
	case 152:
		return MM_OP_MUNLOCKALL;
	case 157:
		return MM_OP_SET_VMA;
	case 216:
		return MM_OP_REMAP_FILE_PAGES;
	case 237:
		return MM_OP_MBIND;
	case 325:
		return MM_OP_MLOCK2;
	case 329:
		return MM_OP_PKEY_MPROTECT;
	case 56:
	case 57:
	case 58:
		return IS_CLONE;
	case NR_SHMGET:
	case NR_MEMFD_CREATE:
		return IS_MAKER;
	case 26: /* of a 32-bit program; else msync */
	case 101:
	case 0x40000000 + 521: /* x32 */
		return IS_PTRACE;
#else
	case 222:
		return MM_OP_MMAP;
	case 226:
		return MM_OP_MPROTECT;
	case 215:
		return MM_OP_MUNMAP;
	case 214:
		return MM_OP_BRK;
	case 216:
		return MM_OP_MREMAP;
	case 233:
		return MM_OP_MADVISE;
	case 196:
		return MM_OP_SHMAT;
	case 197:
		return MM_OP_SHMDT;
	case 228:
		return MM_OP_MLOCK;
	case 229:
		return MM_OP_MUNLOCK;
	case 230:
		return MM_OP_MLOCKALL;
	case 231:
		return MM_OP_MUNLOCKALL;
	case 167:
		return MM_OP_SET_VMA;
	case 234:
		return MM_OP_REMAP_FILE_PAGES;
	case 235:
		return MM_OP_MBIND;
	case 284:
		return MM_OP_MLOCK2;
	case 288:
		return MM_OP_PKEY_MPROTECT;
	case 220:
		return IS_CLONE;
	case NR_SHMGET:
	case NR_MEMFD_CREATE:
		return IS_MAKER;
	case 26: /* of a 32-bit program; else inotify_init1 */
	case 117:
		return IS_PTRACE;
#endif
	case NR_IO_URING_SETUP:
		return IS_MAKER;
	case 435:
		return IS_CLONE;
	case 440:
		return MM_OP_PROCESS_MADVISE;
	case 462:
		return MM_OP_MSEAL;
	}
	return NOT_OURS;
}

/* The family of a call if it is one that maps, or copies what is mapped. */
static __always_inline __u32 mapping_call(long nr)
{
	__u32 op = classify(nr);

	return op == IS_PTRACE || op == IS_MAKER ? NOT_OURS : op;
}

/* The kernel looks at 32 bits of the number (do_syscall_64), whatever is in the others. */
static __always_inline long call_nr(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return (int)regs->orig_ax;
#else
	return regs->syscallno;
#endif
}

static __always_inline void call_args(struct pt_regs *regs, __u64 *args)
{
#if defined(__TARGET_ARCH_x86)
	args[0] = regs->di;
	args[1] = regs->si;
	args[2] = regs->dx;
	args[3] = regs->r10;
	args[4] = regs->r8;
	args[5] = regs->r9;
#else
	args[0] = regs->orig_x0;
	args[1] = regs->regs[1];
	args[2] = regs->regs[2];
	args[3] = regs->regs[3];
	args[4] = regs->regs[4];
	args[5] = regs->regs[5];
#endif
}

static __always_inline bool sections_numbered(void)
{
	return bpf_core_field_exists(((struct mm_struct___seqcount *)0)->mm_lock_seq) ||
	       bpf_core_field_exists(((struct mm_struct___int *)0)->mm_lock_seq);
}

/*
 * The number of the section that a release ends. The tracepoint precedes the
 * counter's step at the end of a write section, and follows it after a
 * downgrade (include/linux/mmap_lock.h: mmap_write_unlock, mmap_write_downgrade).
 */
static __always_inline __u32 section_at_release(struct mm_struct *mm, bool write)
{
	if (bpf_core_field_exists(((struct mm_struct___seqcount *)0)->mm_lock_seq))
		return (((struct mm_struct___seqcount *)mm)->mm_lock_seq.sequence - 1) >> 1;
	if (bpf_core_field_exists(((struct mm_struct___int *)0)->mm_lock_seq))
		return ((struct mm_struct___int *)mm)->mm_lock_seq - (write ? 0 : 1);
	return 0;
}

/*
 * A number that is odd, or changes, while somebody has the lock for writing. Iterators that
 * lock one VMA at a time pass over those that a writer has locked (kernel/bpf/task_iter.c);
 * others have the lock themselves.
 */
static __always_inline __u32 lock_sequence(struct mm_struct *mm)
{
	if (bpf_core_field_exists(((struct mm_struct___seqcount *)0)->mm_lock_seq))
		return ((struct mm_struct___seqcount *)mm)->mm_lock_seq.sequence;
	return 0;
}

/* The first section whose release is sure to be seen by programs that run now. */
static __always_inline __u32 next_section(struct mm_struct *mm)
{
	if (bpf_core_field_exists(((struct mm_struct___seqcount *)0)->mm_lock_seq))
		return (((struct mm_struct___seqcount *)mm)->mm_lock_seq.sequence + 1) >> 1;
	if (bpf_core_field_exists(((struct mm_struct___int *)0)->mm_lock_seq))
		return ((struct mm_struct___int *)mm)->mm_lock_seq + 1;
	return 0;
}

static __always_inline void fill_head(struct mm_head *h, struct task_struct *task, __u64 space,
				      __u32 op)
{
	h->space = space;
	h->tgid = tgid_of(task);
	h->tid = tid_of(task);
	h->op = op;
}

/* Begins the record of something that happens now. */
static __always_inline struct mm_call *begin_call(struct task_struct *task, __u64 space, __u32 op)
{
	struct mm_call *c = reserve(sizeof(*c));

	if (!c)
		return NULL;
	__builtin_memset(c, 0, sizeof(*c));
	fill_head(&c->head, task, space, op);
	c->head.time = bpf_ktime_get_ns();
	return c;
}

/* A section seen at its release, sent from there. */
static __always_inline void send_section(struct task_struct *task, __u64 space, __u32 op,
					 __u32 section, __u64 nr, bool write, bool remote,
					 __u64 grown)
{
	struct mm_call *c = begin_call(task, space, op);

	if (!c)
		return;
	c->head.section = section;
	c->head.flags = MM_F_STAMPED | (sections_numbered() ? MM_F_SECTION : 0) |
			(remote ? MM_F_REMOTE : 0);
	c->head.nr = (__u16)nr;
	c->args[0] = nr;
	c->args[1] = write;
	c->args[2] = grown;
	submit(c);
}

/*
 * Makes an address space known. The caller owns a reference to it, so that it
 * cannot go (and its address be used again) before the entry is there.
 */
static __always_inline __u64 space_of(struct mm_struct *mm)
{
	__u64 key = (__u64)mm;
	struct space *sp = bpf_map_lookup_elem(&spaces, &key);
	struct space new = {};

	if (sp)
		return sp->id;
	new.id = __sync_fetch_and_add(&last_space, 1) + 1;
	new.brk = mm->brk;
	new.start_brk = mm->start_brk;
	new.start_stack = mm->start_stack;
	new.stack_vm = mm->stack_vm;
	new.total_vm = mm->total_vm;
	if (bpf_map_update_elem(&spaces, &key, &new, BPF_NOEXIST)) {
		/* Full, or another CPU was first. */
		sp = bpf_map_lookup_elem(&spaces, &key);
		if (sp)
			return sp->id;
		count(MM_C_NO_SPACE);
		return 0;
	}
	return new.id;
}

/* Calls that give the write lock back by way of a read lock. */
static __always_inline bool commits_by_read(__u32 op)
{
	return op == MM_OP_MUNMAP || op == MM_OP_BRK || op == MM_OP_MREMAP;
}

/*
 * Whether a release inside a call ends the call's write section. Page faults on
 * the call's arguments release the lock too, for reading.
 */
static __always_inline bool commits(struct space *sp, __u32 op, __u32 section, bool write)
{
	if (write)
		return true;
	return commits_by_read(op) && (!sections_numbered() || section != sp->last);
}

/* Whether a call goes on for long after it has committed. */
static __always_inline bool populates(struct task_struct *task, struct mm_struct *mm, __u32 op)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 args[6];

	if (op == MM_OP_MLOCK || op == MM_OP_MLOCKALL)
		return true;
	if (op != MM_OP_MMAP && op != MM_OP_BRK && op != MM_OP_MREMAP && op != MM_OP_SHMAT)
		return false;
	if (mm->def_flags & VM_LOCKED)
		return true;
	if (op != MM_OP_MMAP)
		return false;
	call_args(regs, args);
	return args[3] & (MAP_POPULATE | MAP_LOCKED);
}

/*
 * Whether what is kept belongs to the call that a thread is in, and not to one
 * before whose return was not seen.
 */
static __always_inline bool belongs(struct pending *p, struct pt_regs *regs, long nr)
{
	__u64 args[6];

	call_args(regs, args);
	return p->nr == (__u16)nr && p->args[0] == args[0] && p->args[1] == args[1];
}

/*
 * Whether the registers are as a call left them that has returned with ENOSYS, which
 * is also what they hold while a call runs. Then they do not say which it is.
 */
static __always_inline bool is_over(struct task_struct *task, struct pending *p,
				    struct pt_regs *regs, long nr)
{
	__u64 args[6], diff;
	struct over *o;

	if (!p->over)
		return false;
	o = bpf_task_storage_get(&overs, task, 0, 0);
	if (!o)
		return true; /* that it had no room is no proof */
	call_args(regs, args);
	diff = o->nr ^ (__u64)nr;
	for (int i = 0; i < 6; i++)
		diff |= args[i] ^ o->args[i];
	return !diff;
}

/* Whether another has written the thread's registers. */
static __always_inline bool is_puppet(struct task_struct *task)
{
	__u32 tid = task->pid;

	return meddled && (unknown_puppets || bpf_map_lookup_elem(&puppets, &tid));
}

/* Lets go of what is kept of a call that will not report itself. */
static __noinline int disown(struct task_struct *task, struct pending *p)
{
	p->have = 0;
	if (p->flags & MM_F_SECTION)
		send_section(task, p->space, MM_OP_OTHER, p->section, p->nr, true,
			     p->flags & MM_F_REMOTE, 0);
	return 0;
}

/* Says that a section was taken by who did not make it. */
static __noinline int send_stolen(struct task_struct *task, __u64 space, long nr)
{
	struct mm_call *c = begin_call(task, space, MM_OP_OTHER);

	if (!c)
		return 0;
	c->head.flags = MM_F_STAMPED;
	c->head.nr = (__u16)nr;
	submit(c);
	return 0;
}

/* Tells where the heap and the stack of an address space lie. */
static __always_inline void send_layout(struct task_struct *task, __u64 space, struct mm_struct *mm)
{
	struct mm_call *c = begin_call(task, space, MM_OP_LAYOUT);

	if (!c)
		return;
	c->args[0] = mm->start_brk;
	c->args[1] = mm->brk;
	c->args[2] = mm->start_stack;
	submit(c);
}

/*
 * prctl(PR_SET_MM) sets where the heap ends, and where it and the stack begin, with
 * the lock held for reading: no section tells (kernel/sys.c: prctl_set_mm_map).
 */
static __always_inline void note_layout(struct task_struct *task, struct space *sp,
					struct mm_struct *mm)
{
	if (sp->brk == mm->brk && sp->start_brk == mm->start_brk &&
	    sp->start_stack == mm->start_stack)
		return;
	sp->brk = mm->brk;
	sp->start_brk = mm->start_brk;
	sp->start_stack = mm->start_stack;
	sp->relaid = 1;
	send_layout(task, sp->id, mm);
}

/* include/trace/events/mmap_lock.h: mmap_lock_released, with the lock still held */
static __always_inline int released(struct mm_struct *mm, bool write)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 key = (__u64)mm;
	struct space *sp = bpf_map_lookup_elem(&spaces, &key);
	__u32 op = NOT_OURS, section;
	struct pending *p;
	struct pt_regs *regs;
	__u64 args[6];
	bool own;
	long nr;

	if (!sp)
		return 0;
	if (write && mm->mm_users.counter == 0) {
		/* mm/mmap.c: exit_mmap, the last section of an address space. */
		__u64 id = sp->id;

		send_section(task, id, MM_OP_GONE, 0, 0, true, false, 0);
		if (watches)
			bpf_map_delete_elem(&births, &id);
		bpf_map_delete_elem(&spaces, &key);
		return 0;
	}
	section = section_at_release(mm, write);
	own = task->mm == mm;
	nr = own || write ? current_call(task) : -1;
	if (own && nr >= 0 && !is_compat(task))
		op = mapping_call(nr);
	if (!own) {
		/* process_madvise is the call that asks for another's memory. */
		nr = current_call(task);
		if (task->mm && !is_compat(task) && classify(nr) == MM_OP_PROCESS_MADVISE)
			op = MM_OP_PROCESS_MADVISE;
	}
	if (op != NOT_OURS && is_puppet(task))
		op = NOT_OURS;
	if (op != NOT_OURS) {
		bool commit = commits(sp, op, section, write);

		p = bpf_task_storage_get(&pendings, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!p) {
			count(MM_C_NO_STAMP);
			goto unowned;
		}
		regs = (struct pt_regs *)bpf_task_pt_regs(task);
		if (is_over(task, p, regs, nr))
			goto unowned;
		if (p->have && !belongs(p, regs, nr))
			disown(task, p);
		/*
		 * A call that downgrades lets go of the lock once. If that ends no section,
		 * another has taken its section for its own.
		 */
		if (!commit && !p->have && commits_by_read(op))
			send_stolen(task, sp->id, nr);
		if (!p->have || (commit && !p->commits)) {
			call_args(regs, args);
			p->have = 1;
			p->commits = commit;
			p->nr = (__u16)nr;
			p->args[0] = args[0];
			p->args[1] = args[1];
			p->space = sp->id;
			p->time = bpf_ktime_get_ns();
			p->section = section;
			p->flags = MM_F_STAMPED;
			p->pages = 0;
			if (commit && sections_numbered())
				p->flags |= MM_F_SECTION;
			if (!own)
				p->flags |= MM_F_REMOTE;
			if (!commit)
				goto unchanged;
			sp->last = section;
			sp->stack_vm = mm->stack_vm;
			p->pages = mm->total_vm - sp->total_vm;
			sp->total_vm = mm->total_vm;
			if (op == MM_OP_BRK) {
				p->old_brk = sp->brk;
				sp->brk = mm->brk;
			}
			/* Others may have set it while they read, beside a call that downgraded. */
			note_layout(task, sp, mm);
			if (op != IS_CLONE && populates(task, mm, op))
				send_section(task, sp->id, MM_OP_ANNOUNCE, section, nr, write, !own,
					     0);
			return 0;
		}
	}
unowned:
	if (write) {
		sp->last = section;
		sp->brk = mm->brk;
		sp->stack_vm = mm->stack_vm;
		sp->total_vm = mm->total_vm;
		send_section(task, sp->id, MM_OP_OTHER, section, nr, true, !own, 0);
		return 0;
	}
unchanged:
	if (!write && section == sp->last)
		note_layout(task, sp, mm);
	if (!write && (__s64)(mm->stack_vm - sp->stack_vm) > 0) {
		/*
		 * mm/mmap.c: expand_stack downgrades before it lets go. Who sees the
		 * growth first reports it. Less of it is the doing of a call that has
		 * downgraded and is about to report itself: to report that here would
		 * take its section from it, and leave it without a place in the order.
		 */
		__u64 grown = mm->stack_vm - sp->stack_vm;

		sp->last = section;
		sp->stack_vm = mm->stack_vm;
		sp->total_vm = mm->total_vm;
		send_section(task, sp->id, MM_OP_STACK, section, nr, false, !own, grown);
		return 0;
	}
	if (!write && own && nr >= 0 && op == NOT_OURS && is_compat(task)) {
		/* A 32-bit munmap, brk or mremap that downgraded: 91, 45, 163 on x86 and arm. */
		if (nr == 91 || nr == 45 || nr == 163) {
			sp->brk = mm->brk;
			sp->total_vm = mm->total_vm;
			send_section(task, sp->id, MM_OP_OTHER, section, nr, false, false, 0);
		}
	}
	return 0;
}

/* 6.16 and later: (mm, write). */
SEC("tp_btf/mmap_lock_released")
int mm_released(__u64 *ctx)
{
	return released((struct mm_struct *)ctx[0], ctx[1] & 0xff);
}

/* Before: (mm, memcg_path, write). */
SEC("tp_btf/mmap_lock_released")
int mm_released3(__u64 *ctx)
{
	return released((struct mm_struct *)ctx[0], ctx[2] & 0xff);
}

/*
 * Whether a file is what a stacked file system maps in another's place. The flag is not in
 * BTF, and was another before 6.14, as the type of mm_lock_seq was.
 */
static __always_inline bool is_backing(struct file *file)
{
	bool since = bpf_core_field_exists(((struct mm_struct___seqcount *)0)->mm_lock_seq);

	return bpf_core_type_exists(struct backing_file) &&
	       BPF_CORE_READ(file, f_mode) & (since ? 1 << 24 : 1 << 25);
}

/*
 * The dentry whose name a path ends with: a file that is mounted itself has that of its mount
 * point (fs/d_path.c: __prepend_path), which may be one, too.
 */
static __always_inline struct dentry *named_dentry(struct vfsmount *mnt, struct dentry *dentry)
{
	for (int i = 0; i < MOST_MOUNTS && mnt; i++) {
		struct mount *m = (void *)mnt - bpf_core_field_offset(struct mount, mnt), *parent;

		if (dentry != BPF_CORE_READ(mnt, mnt_root))
			break;
		parent = BPF_CORE_READ(m, mnt_parent);
		if (parent == m)
			break;
		dentry = BPF_CORE_READ(m, mnt_mountpoint);
		mnt = (void *)parent + bpf_core_field_offset(struct mount, mnt);
	}
	return dentry;
}

static __always_inline void read_file(struct mm_file *out, struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct super_block *sb;
	__u64 magic;
	__u32 type;

	if (is_backing(file)) {
		/* include/linux/fs.h: file_user_inode, of whose file maps tells */
		if (bpf_core_field_exists(((struct backing_file *)0)->user_path)) {
			dentry = BPF_CORE_READ((struct backing_file *)file, user_path.dentry);
			mnt = BPF_CORE_READ((struct backing_file *)file, user_path.mnt);
		}
		inode = BPF_CORE_READ(dentry, d_inode);
	}
	sb = BPF_CORE_READ(inode, i_sb);
	type = BPF_CORE_READ(inode, i_mode) & S_IFMT;
	magic = BPF_CORE_READ(sb, s_magic);

	out->inode = BPF_CORE_READ(inode, i_ino);
	out->size = BPF_CORE_READ(inode, i_size);
	out->dev = BPF_CORE_READ(sb, s_dev);
	out->block = BPF_CORE_READ(sb, s_blocksize);
	if (type == S_IFREG)
		out->flags |= MM_FILE_REGULAR;
	if (type == S_IFCHR)
		out->flags |= MM_FILE_CHARDEV;
	if (BPF_CORE_READ(sb, s_flags) & SB_KERNMOUNT)
		out->flags |= MM_FILE_KERNEL;
	if (magic == TMPFS_MAGIC)
		out->flags |= MM_FILE_SHMEM;
	if (magic == ANON_INODE_MAGIC)
		out->flags |= MM_FILE_ANON_INODE;
	dentry = named_dentry(mnt, dentry);
	bpf_probe_read_kernel_str(out->name, sizeof(out->name), BPF_CORE_READ(dentry, d_name.name));
}

static __always_inline void read_vma(struct mm_file *out, struct vm_area_struct *vma)
{
	struct file *file = vma->vm_file;

	out->vm_start = vma->vm_start;
	out->vm_end = vma->vm_end;
	out->vm_flags = vma->vm_flags;
	out->flags |= MM_FILE_VMA;
	if (file) {
		out->offset = vma->vm_pgoff; /* in pages: user space knows their size */
		read_file(out, file);
		return;
	}
	out->flags |= MM_FILE_NONE;
	if (vma->vm_ops) {
		/* mm/mmap.c: special_mapping_vmops, or nothing anybody names */
		struct vm_special_mapping *sm = vma->vm_private_data;
		const char *name = BPF_CORE_READ(sm, name);

		if (bpf_probe_read_kernel_str(out->name, sizeof(out->name), name) > 1)
			out->flags |= MM_FILE_SPECIAL;
	}
}

/* A look at the VMA at an address. */
struct look {
	struct mm_file *file;
	__u64 addr;
};

static long vma_found(struct task_struct *task, struct vm_area_struct *vma, struct look *l)
{
	(void)task;
	read_vma(l->file, vma);
	return 0;
}

static long try_vma(__u32 i, struct look *l)
{
	(void)i;
	return bpf_find_vma(bpf_get_current_task_btf(), l->addr, vma_found, l, 0) != -EBUSY;
}

static long name_found(struct task_struct *task, struct vm_area_struct *vma, struct look *l)
{
	(void)task;
	l->file->vm_start = vma->vm_start;
	l->file->vm_end = vma->vm_end;
	l->file->flags |= MM_FILE_VMA;
	if (bpf_core_field_exists(((struct vm_area_struct___named *)0)->anon_name)) {
		struct anon_vma_name *n =
			BPF_CORE_READ((struct vm_area_struct___named *)vma, anon_name);

		if (n)
			bpf_probe_read_kernel_str(l->file->name, sizeof(l->file->name), n->name);
	}
	return 0;
}

static long try_name(__u32 i, struct look *l)
{
	(void)i;
	return bpf_find_vma(bpf_get_current_task_btf(), l->addr, name_found, l, 0) != -EBUSY;
}

/* It only tries to take the lock, which others may hold just now, for a microsecond. */
#define TRIES 32

/* A file record: mmap of a file, of shared or huge memory; shmat. */
static __always_inline bool has_file(__u32 op, __u64 *args, long ret)
{
	if (ret < 0 && ret > -4096)
		return false;
	if (op == MM_OP_SHMAT)
		return true;
	if (op != MM_OP_MMAP)
		return false;
	return !(args[3] & MAP_ANONYMOUS) || (args[3] & (MAP_SHARED | MAP_HUGETLB));
}

static __always_inline void fill_call(struct mm_call *c, struct task_struct *task,
				      struct pending *p, __u32 op, __u64 *args, long ret)
{
	fill_head(&c->head, task, p->space, op);
	c->head.time = p->time;
	c->head.section = p->section;
	c->head.flags = p->flags;
	if (task->personality & READ_IMPLIES_EXEC)
		c->head.flags |= MM_F_READ_EXEC;
	c->ret = ret;
	c->stack = p->stack;
	c->path = p->path;
	c->depth = p->depth;
	c->chance = p->chance;
	c->pages = p->pages;
	__builtin_memcpy(c->args, args, sizeof(c->args));
	if (op == MM_OP_BRK)
		c->args[1] = p->old_brk;
}

/*
 * Looks at what is where a call has mapped a file. If others have changed that since, the
 * first piece of a file is read; MM_FILE_PIECES says that there are no others but of the
 * same mapping of the same file, and MM_FILE_ALIKE that they are also alike in all else.
 * Not static, as classify.
 */
__noinline int look_at(__u64 start, __u64 end, struct mm_file *out)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 inode = 0, pgoff = 0, at = 0, flags = 0;
	__u32 sequence;
	bool others, alike = true; /* others: there may be some of another file */
	struct bpf_iter_task_vma it;
	struct vm_area_struct *vma;
	struct look l = {.file = out, .addr = start};

	if (!out)
		return 0;
	lat_mute(task, true);
	bpf_loop(TRIES, try_vma, &l, 0);
	if (!has_vma_iter || out->vm_end >= end)
		goto found;
	sequence = lock_sequence(task->mm);
	__builtin_memset(out, 0, sizeof(*out));
	out->flags = MM_FILE_VMA | MM_FILE_NONE;
	bpf_iter_task_vma_new(&it, task, start);
	while ((vma = bpf_iter_task_vma_next(&it))) {
		if (vma->vm_start >= end)
			break;
		if (!vma->vm_file)
			continue;
		out->flags = 0;
		read_vma(out, vma);
		inode = (__u64)BPF_CORE_READ(vma, vm_file, f_inode);
		pgoff = vma->vm_pgoff;
		at = vma->vm_start;
		flags = vma->vm_flags;
		break;
	}
	bpf_iter_task_vma_destroy(&it);
	/* No count of turns is kept: see mm_exec. */
	others = true;
	bpf_iter_task_vma_new(&it, task, start);
	while ((vma = bpf_iter_task_vma_next(&it))) {
		if (vma->vm_start >= end) {
			others = false; /* that there are no more is no proof */
			break;
		}
		if (!vma->vm_file)
			continue;
		if ((__u64)BPF_CORE_READ(vma, vm_file, f_inode) != inode ||
		    (vma->vm_pgoff - pgoff) << page_shift != vma->vm_start - at)
			break;
		alike = alike && vma->vm_flags == flags;
	}
	bpf_iter_task_vma_destroy(&it);
	if (!others && !(sequence & 1) && sequence == lock_sequence(task->mm))
		out->flags |= MM_FILE_PIECES | (alike ? MM_FILE_ALIKE : 0);
found:
	lat_mute(task, false);
	out->section = next_section(task->mm);
	return 0;
}

/*
 * Sends a call that maps what its arguments do not tell. What it has mapped, and how, the
 * VMA says: the arguments name a descriptor, which by now may be another file's.
 */
static __noinline int send_file_call(struct task_struct *task, struct pending *p, __u32 op,
				     __u64 *args, long ret)
{
	struct mm_file_call *c = reserve(sizeof(*c));

	if (!c)
		return 0;
	__builtin_memset(c, 0, sizeof(*c));
	fill_call(&c->call, task, p, op, args, ret);
	c->call.head.flags |= MM_F_FILE;
	look_at(ret, op == MM_OP_MMAP ? ret + args[1] : 0, &c->file);
	submit(c);
	return 0;
}

/* Looks at the name of the VMA at an address. Not static, as classify. */
__noinline int look_at_name(__u64 addr, struct mm_file *out)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct look l = {.file = out, .addr = addr};

	if (!out)
		return 0;
	lat_mute(task, true);
	bpf_loop(TRIES, try_name, &l, 0);
	lat_mute(task, false);
	out->section = next_section(task->mm);
	return 0;
}

/* PR_SET_VMA_ANON_NAME. User memory, where the name came from, may hold another by now. */
static __noinline int send_name(struct task_struct *task, struct pending *p, __u64 *args, long ret)
{
	struct mm_file_call *c = reserve(sizeof(*c));

	if (!c)
		return 0;
	__builtin_memset(c, 0, sizeof(*c));
	fill_call(&c->call, task, p, MM_OP_SET_VMA, args, ret);
	c->call.head.flags |= MM_F_FILE;
	if (!(p->flags & MM_F_NO_LOCK))
		look_at_name(args[2], &c->file);
	submit(c);
	return 0;
}

/*
 * The chance with which the next of something is to be taken, as the k of 2^-k: all
 * that a window has at first, up to the quota, then ever less, so that no more than
 * about three times the quota is taken however much there is. A window begins with
 * what the one before it needed, if that began less than "lasts" ns ago. Threads that race may
 * count one for two. Whoever asks counts in "seen".
 */
static __always_inline __u32 meter_chance_of(struct meter *m, __u64 now, __u32 quota, __u64 lasts)
{
	__u64 passed = now - m->began;
	__u32 base = 0, k;

	if (passed > WINDOW) {
		if (passed < lasts) {
			for (; base < MM_TOP_CHANCE && m->seen >> base > quota; base++)
				;
		}
		m->began = now;
		m->seen = 0;
		m->base = base;
	}
	k = base = m->base;
	for (int i = 0; i < MM_TOP_CHANCE && k < MM_TOP_CHANCE; i++) {
		if ((__u64)m->seen >> (base + i) < quota)
			break;
		k += i < 3 ? 1 : 2;
	}
	return k < MM_TOP_CHANCE ? k : MM_TOP_CHANCE;
}

/* The same of what goes on all the time. */
static __always_inline __u32 meter_chance(struct meter *m, __u64 now, __u32 quota)
{
	return meter_chance_of(m, now, quota, 2 * WINDOW);
}

/* By chance, so that the program's own rhythm has no part in what is taken. */
static __always_inline bool taken(__u32 chance)
{
	return !(bpf_get_prandom_u32() & ((1U << chance) - 1));
}

static __always_inline void read_regs(__u64 *out, struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
	out[0] = regs->ax;
	out[1] = regs->dx;
	out[2] = regs->cx;
	out[3] = regs->bx;
	out[4] = regs->si;
	out[5] = regs->di;
	out[6] = regs->bp;
	out[7] = regs->sp;
	out[8] = regs->r8;
	out[9] = regs->r9;
	out[10] = regs->r10;
	out[11] = regs->r11;
	out[12] = regs->r12;
	out[13] = regs->r13;
	out[14] = regs->r14;
	out[15] = regs->r15;
	out[16] = regs->ip;
#else
	for (int i = 0; i < 31; i++)
		out[i] = regs->regs[i];
	out[31] = regs->sp;
	out[32] = regs->pc;
#endif
}

/*
 * Copies the current thread's user stack, up to stack_bytes of it, into s. The
 * first read ends at a page's end, the others are whole pages: one that reaches
 * into a page that is not there fails as a whole.
 */
static __noinline __u32 copy_stack(struct scratch *s, __u64 sp)
{
	__u32 done = 0, n = STACK_PIECE - (sp & (STACK_PIECE - 1)), left = stack_bytes;

	for (int i = 0; i <= MAX_STACK / STACK_PIECE && left; i++) {
		if (n > left)
			n = left;
		asm volatile("" : "+r"(n)); /* the compiler must not leave out the check */
		if (n > STACK_PIECE || done > MAX_STACK - STACK_PIECE) {
			s->head.cut = 1;
			return done;
		}
		if (bpf_probe_read_user(&s->data[done], n, (void *)(sp + done)))
			return done;
		done += n;
		/* Not "limit - done": 6.1 thinks that a known limit may be below done. */
		left -= n;
		n = STACK_PIECE;
	}
	s->head.cut = 1;
	return done;
}

/*
 * Puts back the return addresses that uprobes, ours or others', have replaced by that of
 * their trampoline: kernel/events/uprobes.c: prepare_uretprobe. On arm64 it is in a
 * register at first, and where it is saved is not known.
 */
#if defined(__TARGET_ARCH_x86)
static __noinline int restore_returns(struct scratch *s, struct task_struct *task, __u32 size)
{
	struct return_instance *ri;

	if (!bpf_core_field_exists(task->utask) || !task->utask)
		return 0;
	ri = BPF_CORE_READ(task, utask, return_instances);
	for (int i = 0; i < MAX_RETURNS && ri; i++) {
		__u64 at = BPF_CORE_READ(ri, stack) - s->head.regs[7];

		if (at < size && at <= MAX_STACK - sizeof(at))
			*(__u64 *)&s->data[at] = BPF_CORE_READ(ri, orig_ret_vaddr);
		ri = BPF_CORE_READ(ri, next);
	}
	return 0;
}
#endif

/* Fills in the current thread's stack, and returns how many bytes of it follow the head. */
static __always_inline __u32 fill_stack(struct scratch *s, struct task_struct *task,
					struct space *sp, __u32 op, __u64 addr, __u32 chance)
{
	__u32 size;

	s->head.time = bpf_ktime_get_ns();
	s->head.space = sp->id;
	s->head.addr = addr;
	s->head.tgid = tgid_of(task);
	s->head.tid = tid_of(task);
	s->head.op = op;
	s->head.cut = 0;
	s->head.chance = chance;
	read_regs(s->head.regs, task);
#if defined(__TARGET_ARCH_x86)
	size = copy_stack(s, s->head.regs[7]);
#else
	size = copy_stack(s, s->head.regs[31]);
#endif
	if (size > MAX_STACK)
		size = MAX_STACK;
	s->head.size = size;
#if defined(__TARGET_ARCH_x86)
	restore_returns(s, task, size);
#endif
	return size;
}

/*
 * Sends the current thread's stack, and returns its number, 0 if it could not. It is global,
 * so that it is verified once for each program: it takes a hundred thousand steps, and more
 * than one state leads to it.
 */
__noinline __u32 send_stack(struct space *sp, __u32 op, __u64 addr, __u32 chance)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 cpu = bpf_get_smp_processor_id(), size, id;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);
	long chained;

	if (!s || !sp)
		return 0;
	if (__sync_lock_test_and_set(&s->busy, 1)) {
		count(MM_C_STACK_BUSY); /* preempted, or a fault amid another copy */
		return 0;
	}
	id = __sync_fetch_and_add(&last_stack, 1) + 1; /* one of 2^32 is 0, and has none */
	s->head.id = id;
	chained = bpf_get_task_stack(task, s->head.chain, sizeof(s->head.chain), BPF_F_USER_STACK);
	s->head.chained = chained > 0 ? chained / sizeof(__u64) : 0;
	size = fill_stack(s, task, sp, op, addr, chance);
	if (bpf_ringbuf_output(&stacks, &s->head, sizeof(s->head) + size, BPF_RB_NO_WAKEUP)) {
		count(MM_C_STACK_DROPPED);
		id = 0;
	}
	__sync_lock_test_and_set(&s->busy, 0);
	return id;
}

/* Whether a call that succeeded has made memory, or made memory writable. */
static __always_inline bool grows(__u32 op, __u64 *args, long ret, __u64 old_brk)
{
	if (ret < 0 && ret > -4096)
		return false;
	switch (op) {
	case MM_OP_MMAP:
	case MM_OP_SHMAT:
		return true;
	case MM_OP_BRK:
		return (__u64)ret > old_brk;
	case MM_OP_MREMAP:
		return args[2] > args[1];
	case MM_OP_MPROTECT:
	case MM_OP_PKEY_MPROTECT:
		return args[2] & PROT_WRITE;
	}
	return false;
}

/* Whether a call was refused memory, or room for another mapping. */
static __always_inline bool was_refused(__u32 op, __u64 *args, long ret)
{
	return op == MM_OP_BRK ? args[0] > (__u64)ret : ret == -ENOMEM;
}

/* Whether there are more mappings than at the call before: by this one, or by another thread. */
static __always_inline bool more_mappings(struct space *sp, struct mm_struct *mm)
{
	__u32 before = sp->map_count, now = mm->map_count;

	sp->map_count = now;
	return before && now > before;
}

/* Where uprobes have replaced the innermost return address, and what it was. */
static __always_inline void replaced_return(struct task_struct *task, __u64 *at, __u64 *orig)
{
#if defined(__TARGET_ARCH_x86)
	struct return_instance *ri;

	if (!bpf_core_field_exists(task->utask) || !task->utask)
		return;
	ri = BPF_CORE_READ(task, utask, return_instances);
	if (!ri)
		return;
	*at = BPF_CORE_READ(ri, stack);
	*orig = BPF_CORE_READ(ri, orig_ret_vaddr);
#else
	(void)task;
	(void)at;
	(void)orig;
#endif
}

/*
 * Says where a call comes from, as far as that is known without unwinding. What lies
 * on the stack and is an address of the program's own code is most likely a return
 * address; where calls come through a library, those that follow its frames tell them
 * apart. Wrong ones do no harm: they make more callers of one. The low 16 bits are a hash
 * of these, the 8 above of the stack pointer.
 */
static __noinline __u32 caller_hash(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 words[PATH_PIECE], ip, sp, start, len, hash, at = 0, orig = 0;
	struct mm_struct *mm = task->mm;
	const __u64 prime = 0x9e3779b97f4a7c15UL;

#if defined(__TARGET_ARCH_x86)
	ip = regs->ip;
	sp = regs->sp;
	hash = ip * prime;
#else
	ip = regs->pc;
	sp = regs->sp;
	hash = (ip ^ regs->regs[30]) * prime; /* the link register: often where it returns to */
#endif
	start = mm->start_code;
	len = mm->end_code - start;
	/* The innermost return that uprobes have replaced: an allocator's, mostly. */
	replaced_return(task, &at, &orig);
	for (__u32 i = 0; i < PATH_BYTES / sizeof(words); i++) {
		if (bpf_probe_read_user(words, sizeof(words), (void *)(sp + i * sizeof(words))))
			break; /* the stack ends here, or is not there */
		for (int j = 0; j < PATH_PIECE; j++) {
			__u64 word =
				sp + i * sizeof(words) + j * sizeof(word) == at ? orig : words[j];

			if (word - start < len)
				hash = (hash ^ word) * prime;
		}
	}
	return (hash >> 48) | (sp * prime >> 56) << 16;
}

/* Where the meter of a caller is, in "callers" and "block_meters". */
static __always_inline __u32 caller_index(struct space *sp, __u32 hash)
{
	return ((__u32)sp->id * 40503 ^ hash << 8 ^ hash >> 16) & caller_mask;
}

/*
 * Decides whether the stack of a call is wanted that makes memory larger, and notes with what
 * chance. Where there are more than the space's quota, callers have quotas of their own, so
 * that one who calls seldom is not lost among those who call all the time.
 */
__noinline int growth_wanted(struct space *sp, struct pending *p, __u32 caller)
{
	__u32 index, quota = stack_quota / CALLERS, chance = 0, more = 0;
	__u64 now = bpf_ktime_get_ns();
	struct meter *m;

	if (!sp || !p)
		return 0;
	p->path = caller;
	p->depth = caller >> 16;
	index = caller_index(sp, caller);
	m = bpf_map_lookup_elem(&callers, &index);
	if (!m)
		return 0;
	if (meter_chance(&sp->calls, now, stack_quota)) {
		chance = meter_chance(m, now, quota ? quota : 1);
		more = meter_chance(&sp->stacks, now, stack_quota);
		m->seen++;
	}
	sp->calls.seen++;
	/* All calls of a stratum say the same, taken or not. */
	p->chance = chance + more < MM_TOP_CHANCE ? chance + more : MM_TOP_CHANCE;
	if (!taken(chance))
		return 0;
	sp->stacks.seen++;
	return taken(p->chance - chance);
}

/*
 * The same for what makes no memory, and is told for what else it does: a fork, a call that was
 * refused, one that splits a mapping. All of an address space have one quota.
 */
__noinline int rare_wanted(struct space *sp, struct pending *p)
{
	__u32 chance;

	if (!sp || !p)
		return 0;
	chance = meter_chance(&sp->rare, bpf_ktime_get_ns(), stack_quota);
	sp->rare.seen++;
	p->chance = chance < MM_TOP_CHANCE ? chance : MM_TOP_CHANCE;
	return taken(p->chance);
}

/* Sends the stack of a call, if it is wanted, and notes its number. */
static __noinline int note_stack(struct task_struct *task, struct pending *p, __u32 op, __u64 *args,
				 long ret)
{
	bool larger = grows(op, args, ret, p->old_brk), more;
	__u64 key = (__u64)task->mm;
	struct space *sp;
	int wanted;

	sp = bpf_map_lookup_elem(&spaces, &key);
	if (!sp)
		return 0;
	more = more_mappings(sp, task->mm);
	if (larger)
		wanted = growth_wanted(sp, p, caller_hash(task));
	else if (more || was_refused(op, args, ret))
		wanted = rare_wanted(sp, p);
	else
		return 0;
	if (larger)
		p->flags |= MM_F_UNSAMPLED;
	if (wanted)
		p->stack = send_stack(sp, op, 0, p->chance);
	else
		count(MM_C_STACK_CHANCE);
	if (p->stack)
		p->flags &= ~MM_F_UNSAMPLED;
	return 0;
}

/* The inode of a descriptor of the current process, 0 if it has none. */
static __always_inline __u64 inode_of(struct task_struct *task, __u64 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **at = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), at + fd))
		return 0;
	return BPF_CORE_READ(file, f_inode, i_ino);
}

/*
 * Sends the stack of a call that has made a memfd, a System V segment or an io_uring, if it is
 * wanted. Not static, as classify.
 */
__noinline int note_made(long nr, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 key = (__u64)task->mm;
	struct space *sp = bpf_map_lookup_elem(&spaces, &key);
	__u32 op = nr == NR_IO_URING_SETUP ? MM_OP_RING
		   : nr == NR_SHMGET	   ? MM_OP_SEGMENT
					   : MM_OP_MEMFD;
	struct pending p = {};
	__u64 args[6];

	if (!sp || ret < 0)
		return 0;
	if (op == MM_OP_SEGMENT) {
		call_args((struct pt_regs *)bpf_task_pt_regs(task), args);
		if ((__u32)args[0] != IPC_PRIVATE && (args[2] & IPC_NEW) != IPC_NEW)
			return 0; /* it may have been there before */
	}
	if (rare_wanted(sp, &p))
		send_stack(sp, op, op == MM_OP_SEGMENT ? ret : inode_of(task, ret), p.chance);
	else
		count(MM_C_STACK_CHANCE);
	return 0;
}

#include "heap.h"

/* Notes in which piece of memory a page fault is. */
static __always_inline void note_piece(struct space *sp, __u64 addr)
{
	struct piece p = {sp->id, addr >> piece_shift};
	__u8 one = 1;

	/* Most are where another just was, and an update takes a lock. */
	if (!bpf_map_lookup_elem(&pieces, &p) && bpf_map_update_elem(&pieces, &p, &one, BPF_ANY))
		count(MM_C_TOUCHES);
}

/* PERF_COUNT_SW_PAGE_FAULTS, each one, on each CPU. */
SEC("perf_event")
int mm_fault(struct bpf_perf_event_data *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 key = (__u64)task->mm, addr = ctx->addr;
	struct space *sp;
	__u32 chance;

	if (!key)
		return 0;
	sp = bpf_map_lookup_elem(&spaces, &key);
	if (!sp)
		return 0;
	count(MM_C_FAULTS);
	if (block_quota)
		count_heap_fault(sp, ctx->ip, addr);
	note_piece(sp, addr);
	chance = meter_chance(&sp->faults, bpf_ktime_get_ns(), fault_quota);
	sp->faults.seen++;
	if (taken(chance))
		send_stack(sp, MM_OP_FAULT, addr, chance);
	return 0;
}

/*
 * PERF_TYPE_BREAKPOINT: a traced thread, or the kernel for it, has written to a
 * watched word. Any result but 0 lets the kernel go on and count the write against
 * the event's limit (kernel/events/core.c:__perf_event_overflow).
 */
SEC("perf_event")
int mm_written(struct bpf_perf_event_data *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 key = (__u64)task->mm;
	struct space *sp = bpf_map_lookup_elem(&spaces, &key);

	if (sp)
		send_stack(sp, MM_OP_WRITE, ctx->addr, 0);
	return 1;
}

/* Notes the registers of a call that has returned, if they look as if it ran. */
static __always_inline struct pending *note_over(struct task_struct *task, struct pending *p,
						 struct pt_regs *regs, long nr, long ret)
{
#if defined(__TARGET_ARCH_x86)
	bool over = ret == -ENOSYS;
#else
	bool over = (__u64)ret == regs->orig_x0;
#endif
	__u64 key = (__u64)task->mm;
	struct over *o;

	if (over && !p && bpf_map_lookup_elem(&spaces, &key))
		p = bpf_task_storage_get(&pendings, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!p)
		return p;
	p->over = over;
	if (over) {
		o = bpf_task_storage_get(&overs, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (o) {
			o->nr = nr;
			call_args(regs, o->args);
		}
	}
	return p;
}

/* How many threads of one tracer are looked through for one of them. */
#define MOST_TRACED 4096

/* A search for a thread among those that another traces. */
struct search {
	struct list_head *head, *at;
	__u32 level;
	int called;
	__u32 tid; /* 0 until it is found */
};

static long is_it(__u32 i, struct search *s)
{
	struct list_head *at = s->at;
	struct task_struct *t =
		(void *)at - bpf_core_field_offset(struct task_struct, ptrace_entry);
	struct pid *pid = BPF_CORE_READ(t, thread_pid);
	struct upid *name = numbered(pid, s->level);

	(void)i;
	if (!at || at == s->head)
		return 1;
	if (BPF_CORE_READ(name, nr) == s->called) {
		s->tid = BPF_CORE_READ(t, pid);
		return 1;
	}
	s->at = BPF_CORE_READ(at, next);
	return 0;
}

/*
 * Notes that the current thread has written another's registers, whom it calls by a
 * number of its own pid namespace. Not static, as classify.
 */
__noinline int note_puppet(int called)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct search s = {.called = called};
	struct list_head *head;
	__u8 one = 1;

	s.level = BPF_CORE_READ(task, thread_pid, level);
	head = (void *)task + bpf_core_field_offset(struct task_struct, ptraced);
	s.head = head;
	s.at = BPF_CORE_READ(head, next);
	bpf_loop(MOST_TRACED, is_it, &s, 0);
	if (!s.tid || bpf_map_update_elem(&puppets, &s.tid, &one, BPF_ANY))
		unknown_puppets = 1;
	meddled = 1;
	return 0;
}

/* Whether a request of ptrace(2) can change what a thread's registers say. */
static __always_inline bool writes_registers(__u64 request)
{
	return request == PTRACE_POKEUSR || request == PTRACE_SETREGS ||
	       request == PTRACE_SETREGSET || request == PTRACE_SET_CALL;
}

/* include/trace/events/syscalls.h: sys_exit (regs, ret) */
SEC("tp_btf/sys_exit")
int mm_sys_exit(__u64 *ctx)
{
	struct task_struct *task;
	struct pending *p, call = {};
	struct space *sp;
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	long ret = ctx[1], nr;
	__u64 args[6], key;
	bool compat, was_over;
	__u32 op;
	struct mm_call *c;

	nr = call_nr(regs);
	op = classify(nr);
	if (op == NOT_OURS)
		return 0;
	task = bpf_get_current_task_btf();
	compat = is_compat(task);
	if (op == IS_PTRACE) {
		call_args(regs, args);
		if (compat) { /* ebx, ecx */
#if defined(__TARGET_ARCH_x86)
			args[0] = regs->bx;
			args[1] = regs->cx;
#endif
		}
		if (compat == (nr == 26) && !ret && writes_registers(args[0]))
			note_puppet(args[1]);
		return 0;
	}
	if (op == IS_MAKER) {
		if (stack_quota && !compat)
			note_made(nr, ret);
		return 0;
	}
	/* The release noted whose space it was: most calls need no other look-up. */
	p = bpf_task_storage_get(&pendings, task, 0, 0);
	if (p && p->have && (compat || !belongs(p, regs, nr)))
		disown(task, p);
	if (compat)
		return 0;
	was_over = p && is_over(task, p, regs, nr);
	p = note_over(task, p, regs, nr, ret);
	if (p && p->have) {
		call = *p;
		p->have = 0;
	}
	if (op == IS_CLONE) {
		/* A fork that failed after it had copied: its section has no other owner. */
		if (call.have && ret < 0 && (call.flags & MM_F_SECTION))
			send_section(task, call.space, MM_OP_OTHER, call.section, nr, true, false,
				     0);
		return 0;
	}
	if (!call.have) {
		bool puppet = is_puppet(task);

		key = (__u64)task->mm;
		sp = bpf_map_lookup_elem(&spaces, &key);
		if (!sp)
			return 0;
		call.time = bpf_ktime_get_ns();
		call.space = sp->id;
		if (!p)
			p = bpf_task_storage_get(&pendings, task, 0,
						 BPF_LOCAL_STORAGE_GET_F_CREATE);
		/* The first call that is seen of a thread may have begun before it was traced. */
		if (p && p->space == sp->id && !was_over && !puppet)
			call.flags = MM_F_NO_LOCK;
		else if (p)
			p->space = sp->id;
	}
	call_args(regs, args);
	if (op == MM_OP_SET_VMA && args[0] != PR_SET_VMA) {
		/* The other prctls: an own section of theirs is nobody's else. */
		if (call.flags & MM_F_SECTION)
			send_section(task, call.space, MM_OP_OTHER, call.section, nr, true, false,
				     0);
		return 0;
	}
	if (op == MM_OP_SET_VMA)
		return send_name(task, &call, args, ret);
	if (stack_quota && !(call.flags & MM_F_NO_LOCK))
		note_stack(task, &call, op, args, ret);
	if (has_file(op, args, ret) && !(call.flags & MM_F_NO_LOCK)) {
		send_file_call(task, &call, op, args, ret);
		/* Looking for the VMA took the lock, and its release was noted. */
		p = bpf_task_storage_get(&pendings, task, 0, 0);
		if (p)
			p->have = 0;
		return 0;
	}
	c = reserve(sizeof(*c));
	if (!c)
		return 0;
	__builtin_memset(c, 0, sizeof(*c));
	fill_call(c, task, &call, op, args, ret);
	if (op == MM_OP_PROCESS_MADVISE) {
		/* The first range, where the caller named it. */
		__u64 iov[2] = {};

		if (args[2])
			bpf_probe_read_user(iov, sizeof(iov), (void *)args[1]);
		c->args[4] = iov[0];
		c->args[5] = iov[1];
	}
	submit(c);
	return 0;
}

/* Counts one that begins to use an address space, of this process or another. */
static __noinline int count_birth(__u64 space)
{
	__u64 *n = bpf_map_lookup_elem(&births, &space), one = 1;

	if (n)
		__sync_fetch_and_add(n, 1);
	else if (bpf_map_update_elem(&births, &space, &one, BPF_NOEXIST)) {
		n = bpf_map_lookup_elem(&births, &space); /* another was first */
		if (n)
			__sync_fetch_and_add(n, 1);
	}
	return 0;
}

/* include/trace/events/sched.h: sched_process_fork (parent, child); current is the parent */
SEC("tp_btf/sched_process_fork")
int mm_fork(__u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	struct mm_struct *mm = parent->mm, *child_mm = child->mm;
	__u32 tgid = tgid_of(child);
	__u64 key = (__u64)mm, child_space = 0;
	struct pt_regs *regs;
	struct pending *p;
	struct space *sp;
	struct mm_call *c;
	struct pending call = {};
	__u32 stack = 0;
	bool traced;

	if (!mm || (parent->tgid == child->tgid && !watches))
		return 0;
	sp = bpf_map_lookup_elem(&spaces, &key);
	if (!sp)
		return 0;
	if (watches && child_mm == mm)
		count_birth(sp->id);
	if (parent->tgid == child->tgid)
		return 0;
	__u32 ptgid = tgid_of(parent);
	traced = follow && bpf_map_lookup_elem(&tasks, &ptgid);
	if (traced && child_mm) {
		child_space = space_of(child_mm);
		if (bpf_map_update_elem(&tasks, &tgid, &child_space, BPF_ANY))
			count(MM_C_NO_TASK);
	}
	p = bpf_task_storage_get(&pendings, parent, 0, 0);
	regs = (struct pt_regs *)bpf_task_pt_regs(parent);
	if (p && p->have && !belongs(p, regs, call_nr(regs)))
		disown(parent, p);
	if (stack_quota && rare_wanted(sp, &call))
		stack = send_stack(sp, MM_OP_FORK, 0, call.chance);
	c = begin_call(parent, sp->id, MM_OP_FORK);
	if (!c)
		goto out;
	c->stack = stack;
	if (p && p->have) {
		c->head.time = p->time;
		c->head.section = p->section;
		c->head.flags = p->flags;
	}
	c->args[0] = tgid;
	c->args[1] = child_space;
	if (child_mm == mm)
		c->head.flags |= MM_F_SHARED;
	else if (child_mm)
		c->args[2] = next_section(child_mm);
	if (child_mm)
		c->pages = child_mm->total_vm; /* it has not run yet */
	c->args[3] = child->start_boottime;
	c->args[4] = inner_of(child);
	submit(c);
	/* No section tells whether the parent's was set before or after. */
	if (sp->relaid && child_space && child_mm && child_mm != mm)
		send_layout(child, child_space, child_mm);
out:
	if (p)
		p->have = 0;
	return 0;
}

/* sched_process_exec (task, old_pid, bprm): the new image stands, nothing of it has run */
SEC("tp_btf/sched_process_exec")
int mm_exec(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct task_struct *self = bpf_get_current_task_btf();
	struct mm_struct *mm = task->mm;
	__u32 tgid = tgid_of(task);
	__u64 *old = bpf_map_lookup_elem(&tasks, &tgid);
	__u64 key = (__u64)mm;
	struct space *sp;
	struct bpf_iter_task_vma it;
	struct vm_area_struct *vma;
	struct mm_file_call *c;
	__u64 id, old_id, now;

	if (!old || !mm)
		return 0;
	old_id = *old;
	id = space_of(mm);
	bpf_map_update_elem(&tasks, &tgid, &id, BPF_ANY);
	sp = bpf_map_lookup_elem(&spaces, &key);
	if (sp) {
		/* It was made known while the image was being set up. */
		sp->brk = mm->brk;
		sp->start_brk = mm->start_brk;
		sp->start_stack = mm->start_stack;
		sp->stack_vm = mm->stack_vm;
		sp->total_vm = mm->total_vm;
	}
	now = bpf_ktime_get_ns();
	c = reserve(sizeof(*c));
	if (!c)
		return 0;
	__builtin_memset(c, 0, sizeof(*c));
	fill_head(&c->call.head, task, id, MM_OP_EXEC);
	c->call.head.time = now;
	c->call.head.flags = MM_F_FILE | (sections_numbered() ? MM_F_SECTION : 0) |
			     (has_vma_iter ? 0 : MM_F_UNSEEDED);
	c->call.args[0] = old_id;
	c->call.args[1] = mm->start_brk;
	c->call.args[2] = mm->brk;
	c->call.args[3] = mm->start_stack;
	c->call.args[4] = next_section(mm);
	bpf_probe_read_kernel_str(c->file.name, sizeof(task->comm), task->comm);
	submit(c);
	if (!has_vma_iter)
		return 0;

	lat_mute(self, true);
	bpf_iter_task_vma_new(&it, self, 0);
	while ((vma = bpf_iter_task_vma_next(&it))) {
		struct mm_vma *v = reserve(sizeof(*v));

		/*
		 * No count of rows or losses is kept: a value that changes from
		 * turn to turn keeps the verifier from seeing the loop's end.
		 */
		if (!v)
			continue;
		__builtin_memset(v, 0, sizeof(*v));
		fill_head(&v->head, task, id, MM_OP_VMA);
		v->head.time = now;
		read_vma(&v->file, vma);
		submit(v);
	}
	bpf_iter_task_vma_destroy(&it);
	lat_mute(self, false);

	struct mm_call *end = reserve(sizeof(*end));

	if (!end)
		return 0;
	__builtin_memset(end, 0, sizeof(*end));
	fill_head(&end->head, task, id, MM_OP_SEEDED);
	end->head.time = now;
	end->pages = mm->map_count;
	submit(end);
	return 0;
}

/* sched_process_exit (task, ...), for each thread */
SEC("tp_btf/sched_process_exit")
int mm_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = tgid_of(task);
	__u64 *space = bpf_map_lookup_elem(&tasks, &tgid);
	struct mm_struct *mm = task->mm;
	__u64 key = (__u64)mm;
	struct space *sp;
	struct mm_call *c;

	if (meddled) {
		__u32 tid = task->pid;

		bpf_map_delete_elem(&puppets, &tid);
	}
	if (!space || task->signal->live.counter != 0)
		return 0;
	sp = mm ? bpf_map_lookup_elem(&spaces, &key) : NULL;
	c = begin_call(task, *space, MM_OP_EXIT);
	if (c) {
		c->args[0] = task->signal->group_exit_code ? task->signal->group_exit_code
							   : task->exit_code;
		/*
		 * Its threads have all returned from their calls: whatever section was
		 * before this is reported, or never will be. Before 6.16 the address space
		 * has been let go by now.
		 */
		if (sp && sp->id == *space && sections_numbered()) {
			c->head.section = next_section(mm);
			c->head.flags = MM_F_SECTION;
		}
		submit(c);
	}
	bpf_map_delete_elem(&tasks, &tgid);
	return 0;
}

/* Makes the address spaces of the processes in tasks known, and lists them. */
SEC("iter/task")
int mm_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mm_task row = {};
	struct mm_struct *mm;
	__u64 *space;
	__u32 tgid;

	if (nested) {
		struct pid *self = BPF_CORE_READ(bpf_get_current_task_btf(), thread_pid);

		reader_level = BPF_CORE_READ(self, level);
		reader_ns = BPF_CORE_READ(numbered(self, reader_level), ns);
	}
	if (!task)
		return 0;
	tgid = tgid_of(task);
	space = bpf_map_lookup_elem(&tasks, &tgid);
	mm = task->mm;
	if (!space || !mm)
		return 0;
	if (*space) {
		/*
		 * Known, and its address space with it: only fork and exec change that,
		 * and exec is not done with the new one before it says so.
		 */
		__u64 key = (__u64)mm;
		struct space *sp = bpf_map_lookup_elem(&spaces, &key);

		if (!sp)
			return 0;
		row.space = sp->id;
	} else {
		row.space = space_of(mm);
	}
	if (task->pid != task->tgid && task->group_leader->mm)
		return 0; /* its leader stands for it */
	*space = row.space;
	row.section = next_section(mm);
	row.flags = sections_numbered() ? MM_F_SECTION : 0;
	row.start_time = BPF_CORE_READ(task, group_leader, start_boottime);
	row.start_brk = mm->start_brk;
	row.brk = mm->brk;
	row.start_stack = mm->start_stack;
	row.tgid = tgid;
	row.inner = inner_of(task);
	bpf_probe_read_kernel_str(row.comm, sizeof(row.comm), task->comm);
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}

#include "latency.h"
