/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Blocks of malloc heaps: a sample of those that are allocated while probes are on the
 * functions of the allocator, each with its stack, and what becomes of them. User space
 * puts the probes on for milliseconds (uprobe_multi links, 6.6 and later) and takes
 * them away again; while they are not there, nothing here runs.
 *
 * A call is a sample when it returns, since only then the block's address is known.
 * Where one function of the allocator calls another, the outermost counts.
 */
#ifndef MAPTRACE_HEAP_H
#define MAPTRACE_HEAP_H

volatile const __u32 block_quota = 0; /* samples of a space in a window; 0: none */

/*
 * ns: of a burst is expected what there was in the last one, so that all of its calls have
 * about the same chance, and the samples the same weight.
 */
#define LASTING (30 * 1000000000UL)

/* The call of the allocator that a thread is in. */
struct heap_call {
	__u64 sp; /* when it began; 0: it is in none */
	__u64 size;
	__u64 old;	  /* of realloc(3): the block that there was */
	__u64 old_header; /* the word before it */
	__u64 result;	  /* of posix_memalign(3): where the address will be; else 0 */
	__u64 cookie;	  /* of the probe that has seen it */
	__u64 freed;	  /* the sample that the thread has just freed; 0: none */
	__u64 words[3];	  /* the one before it and its first two, as they were */
	__u64 sampled;	  /* the sample that it has just got; 0: none */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heap_call);
} heap_calls SEC(".maps");

struct block_key {
	__u64 space;
	__u64 addr;
};

/* The samples whose end is waited for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* sized before loading */
	__type(key, struct block_key);
	__type(value, __u8);
} blocks SEC(".maps");

/* What was seen of the heap of a space, by its id. Who has no entry is not sampled. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* sized before loading */
	__type(key, __u64);
	__type(value, struct mm_heap);
} heaps SEC(".maps");

/* As "callers", of calls of allocators. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* sized before loading */
	__type(key, __u32);
	__type(value, struct meter);
} block_meters SEC(".maps");

/* Sized before loading: small unless it is asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} block_ring SEC(".maps");

struct mm_block unused_block __attribute__((unused));
struct mm_contents unused_contents __attribute__((unused));
struct mm_heap unused_heap __attribute__((unused));
enum mm_block_what unused_block_what __attribute__((unused));
enum mm_changed unused_changed __attribute__((unused));
enum mm_heap_function unused_heap_function __attribute__((unused));

#if defined(__TARGET_ARCH_x86)
#define ARG0(ctx)      ((ctx)->di)
#define ARG1(ctx)      ((ctx)->si)
#define ARG2(ctx)      ((ctx)->dx)
#define RESULT(ctx)    ((ctx)->ax)
#define CALL_BYTES     8 /* of the return address */
#define PROBED_AT(ctx) ((ctx)->ip)
#else
#define ARG0(ctx)      ((ctx)->regs[0])
#define ARG1(ctx)      ((ctx)->regs[1])
#define ARG2(ctx)      ((ctx)->regs[2])
#define RESULT(ctx)    ((ctx)->regs[0])
#define CALL_BYTES     0
#define PROBED_AT(ctx) ((ctx)->pc)
#endif

/* Of an instruction, at most (x86). */
#define MOST_INSN_BYTES 15

static __always_inline struct space *heap_space(struct task_struct *task, struct mm_heap **heap)
{
	__u64 key = (__u64)task->mm;
	struct space *sp = key ? bpf_map_lookup_elem(&spaces, &key) : NULL;

	if (!sp)
		return NULL;
	*heap = bpf_map_lookup_elem(&heaps, &sp->id);
	return *heap ? sp : NULL;
}

/*
 * Faults tell how much was done. Those of code do not: where a probe is put or taken off, the
 * kernel has the page come anew.
 */
static __always_inline void count_heap_fault(struct space *sp, __u64 ip, __u64 addr)
{
	struct mm_heap *heap;

	if (addr - ip < MOST_INSN_BYTES)
		return;
	heap = bpf_map_lookup_elem(&heaps, &sp->id);
	if (heap)
		__sync_fetch_and_add(&heap->faults, 1);
}

static __always_inline __u64 word_before(__u64 addr)
{
	__u64 word = 0;

	/* It need not be there: a block may begin a page. */
	bpf_probe_read_user(&word, sizeof(word), (void *)(addr - sizeof(word)));
	return word;
}

/* Begins a record about a sample that has no stack. */
static __always_inline void begin_block(struct mm_block *b, struct space *sp, __u32 what,
					__u64 addr)
{
	__builtin_memset(b, 0, sizeof(*b));
	b->time = bpf_ktime_get_ns();
	b->space = sp->id;
	b->addr = addr;
	b->what = what;
}

/* Tells what has become of a sample. */
static __noinline int send_end(struct space *sp, __u32 what, __u64 addr, struct heap_call *call)
{
	struct mm_block *b = bpf_ringbuf_reserve(&block_ring, sizeof(*b), 0);

	if (!b) {
		count(MM_C_BLOCK_DROPPED);
		return 0;
	}
	begin_block(b, sp, what, addr);
	if (call) {
		b->size = call->size;
		b->old = call->old;
		b->header = word_before(addr);
	}
	submit(b);
	return 0;
}

/* Sends a sample with its stack, and has its end waited for. */
static __noinline int send_block(struct task_struct *task, struct space *sp, __u64 addr,
				 struct heap_call *call, __u32 chance)
{
	struct block_key key = {sp->id, addr};
	__u32 cpu = bpf_get_smp_processor_id(), size;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);
	__u8 one = 1;

	if (!s)
		return 0;
	if (__sync_lock_test_and_set(&s->busy, 1)) {
		count(MM_C_BLOCK_DROPPED);
		return 0;
	}
	s->block.time = bpf_ktime_get_ns();
	s->block.space = sp->id;
	s->block.addr = addr;
	s->block.size = call->size;
	s->block.old = call->old;
	s->block.header = word_before(addr);
	s->block.old_header = call->old_header;
	s->block.first = 0;
	bpf_probe_read_user(&s->block.first, sizeof(s->block.first), (void *)addr);
	s->block.what = MM_BLOCK_BORN;
	s->head.id = 0;
	s->head.chained = 0;
	s->block.chance = chance;
	size = fill_stack(s, task, sp, MM_OP_BLOCK, addr, chance);
	if (bpf_map_update_elem(&blocks, &key, &one, BPF_ANY) ||
	    bpf_ringbuf_output(&block_ring, &s->block, sizeof(s->block) + sizeof(s->head) + size,
			       BPF_RB_NO_WAKEUP)) {
		bpf_map_delete_elem(&blocks, &key);
		count(MM_C_BLOCK_DROPPED);
	} else {
		call->sampled = addr;
	}
	__sync_lock_test_and_set(&s->busy, 0);
	return 0;
}

/*
 * Decides whether a call is a sample, and returns 1 if so. Where there are many, each place
 * that they come from has a quota of its own, as those of "callers" have.
 */
static __noinline int sample_block(struct task_struct *task, struct space *sp, __u64 addr,
				   struct heap_call *call)
{
	__u32 index = caller_index(sp, caller_hash(task)), chance = 0, more = 0;
	__u32 quota = block_quota / CALLERS;
	__u64 now = bpf_ktime_get_ns();
	struct meter *m;

	m = bpf_map_lookup_elem(&block_meters, &index);
	if (!m)
		return 0;
	chance = meter_chance_of(m, now, quota ? quota : 1, LASTING);
	more = meter_chance_of(&sp->blocks, now, block_quota, LASTING);
	m->seen++;
	if (!taken(chance))
		return 0;
	sp->blocks.seen++;
	if (!taken(more))
		return 0;
	chance += more;
	send_block(task, sp, addr, call, chance < MM_TOP_CHANCE ? chance : MM_TOP_CHANCE);
	return 1;
}

/* Reads the word before a block and its first two; returns 0 if they are there. */
static __always_inline long first_words(__u64 *words, __u64 addr)
{
	return bpf_probe_read_user(words, 3 * sizeof(*words), (void *)(addr - sizeof(*words)));
}

/* Tells what the freeing of the thread's last sample has left of it. */
static __noinline int note_mark(struct space *sp, struct heap_call *c)
{
	__u64 words[3], addr = c->freed;
	struct mm_block *b;

	c->freed = 0;
	if (first_words(words, addr))
		return 0;
	b = bpf_ringbuf_reserve(&block_ring, sizeof(*b), 0);
	if (!b) {
		count(MM_C_BLOCK_DROPPED);
		return 0;
	}
	begin_block(b, sp, MM_BLOCK_MARK, addr);
	b->header = words[2];
	b->first = c->words[1];
	b->size = (words[0] != c->words[0] ? MM_CHANGED_BEFORE : 0) |
		  (words[1] != c->words[1] ? MM_CHANGED_FIRST : 0) |
		  (words[2] != c->words[2] ? MM_CHANGED_SECOND : 0);
	submit(b);
	return 0;
}

/* Tells what the thread has put into its last sample by now. */
static __noinline int send_contents(struct space *sp, struct heap_call *c)
{
	struct block_key key = {sp->id, c->sampled};
	struct mm_contents *m;

	c->sampled = 0;
	if (!bpf_map_lookup_elem(&blocks, &key))
		return 0;
	m = bpf_ringbuf_reserve(&block_ring, sizeof(*m), 0);
	if (!m) {
		count(MM_C_BLOCK_DROPPED);
		return 0;
	}
	begin_block(&m->block, sp, MM_BLOCK_CONTENTS, key.addr);
	if (bpf_probe_read_user(m->words, sizeof(m->words), (void *)key.addr)) {
		/* It may end with the heap. */
		__builtin_memset(m->words, 0, sizeof(m->words));
		bpf_probe_read_user(m->words, 2 * sizeof(m->words[0]), (void *)key.addr);
	}
	submit(m);
	return 0;
}

static __always_inline __u32 function_of(__u64 cookie)
{
	return cookie & ((1 << MM_HEAP_FUNCTION_BITS) - 1);
}

/*
 * Notes the entry of a function that allocates. The cookie says which it is
 * (mm_heap_function). Returns whether its return is to be seen.
 */
static __always_inline bool call_begins(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 cookie = bpf_get_attach_cookie(ctx);
	struct mm_heap *heap;
	struct space *sp = heap_space(task, &heap);
	struct heap_call *c;

	if (!sp)
		return false;
	c = bpf_task_storage_get(&heap_calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!c) {
		count(MM_C_BLOCK_DROPPED);
		return false;
	}
	if (c->freed)
		note_mark(sp, c);
	if (c->sampled)
		send_contents(sp, c);
	/* One that did not return, by longjmp or as its probe was gone, is above us. */
	if (c->sp > ctx->sp &&
	    c->cookie >> MM_HEAP_FUNCTION_BITS == cookie >> MM_HEAP_FUNCTION_BITS &&
	    function_of(c->cookie) != MM_HEAP_NEW)
		return false;
	c->sp = ctx->sp;
	c->cookie = cookie;
	c->old = 0;
	c->old_header = 0;
	c->result = 0;
	switch (function_of(cookie)) {
	case MM_HEAP_CALLOC:
		c->size = ARG0(ctx) * ARG1(ctx);
		break;
	case MM_HEAP_REALLOC:
		c->old = ARG0(ctx);
		c->size = ARG1(ctx);
		break;
	case MM_HEAP_REALLOCARRAY:
		c->old = ARG0(ctx);
		c->size = ARG1(ctx) * ARG2(ctx);
		break;
	case MM_HEAP_ALIGNED:
		c->size = ARG1(ctx);
		break;
	case MM_HEAP_POSIX_MEMALIGN:
		c->result = ARG0(ctx);
		c->size = ARG2(ctx);
		break;
	default:
		c->size = ARG0(ctx);
	}
	if (c->old)
		c->old_header = word_before(c->old);
	return true;
}

/*
 * Takes the return of one. It is seen after it, or, of MM_HEAP_NEW, at the instruction that
 * returns: "popped" says whether the return address was taken from the stack.
 */
static __noinline int call_returns(struct pt_regs *ctx, bool popped)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 addr = RESULT(ctx);
	struct block_key key;
	struct heap_call *c;
	struct mm_heap *heap;
	struct space *sp = heap_space(task, &heap);
	bool known = false;
	__u8 one = 1;

	if (!sp)
		return 0;
	c = bpf_task_storage_get(&heap_calls, task, 0, 0);
	if (!c || !c->sp || c->sp + (popped ? CALL_BYTES : 0) != ctx->sp)
		return 0; /* of one that another has called, or that began before the probes */
	c->sp = 0;
	if (c->result && (addr || bpf_probe_read_user(&addr, sizeof(addr), (void *)c->result)))
		return 0;
	key.space = sp->id;
	if (c->old) {
		key.addr = c->old;
		if (!addr && c->size)
			return 0; /* refused: the block is what it was */
		known = !bpf_map_delete_elem(&blocks, &key);
	}
	if (!addr) {
		if (known)
			send_end(sp, MM_BLOCK_FREED, c->old, NULL);
		return 0;
	}
	__sync_fetch_and_add(&heap->allocs, 1);
	if (!popped)
		__sync_fetch_and_add(&heap->leaves, 1);
	key.addr = addr;
	if (known) {
		if (addr != c->old && !bpf_map_delete_elem(&blocks, &key))
			send_end(sp, MM_BLOCK_REUSED, addr, NULL);
		if (!bpf_map_update_elem(&blocks, &key, &one, BPF_ANY))
			send_end(sp, MM_BLOCK_MOVED, addr, c);
		return 0;
	}
	if (addr != c->old && !bpf_map_delete_elem(&blocks, &key))
		send_end(sp, MM_BLOCK_REUSED, addr, NULL); /* its end was not seen */
	if (sample_block(task, sp, addr, c))
		__sync_fetch_and_add(&heap->samples, 1);
	return 0;
}

/*
 * Tells whether the return of a call must not be probed.
 *
 * On x86 a return probe comes back by a system call (6.11 and later). If the thread has
 * system calls made by a handler of its own, as Wine does, or they are made by who traces
 * it, that is taken for one of the program's, and ends it.
 *
 * A call on the stack for signals may have interrupted another that is probed. If that stack
 * is above the other, the kernel takes the other for one that was left by longjmp, and sends
 * SIGILL when it returns (arch_uretprobe_is_alive).
 */
static __always_inline bool must_not_return(struct task_struct *task, __u64 sp)
{
	const __u64 minded =
		1UL << bpf_core_enum_value(enum syscall_work_bit, SYSCALL_WORK_BIT_SYSCALL_TRACE) |
		1UL << bpf_core_enum_value(enum syscall_work_bit, SYSCALL_WORK_BIT_SYSCALL_EMU) |
		1UL << bpf_core_enum_value(enum syscall_work_bit,
					   SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH);

	if (bpf_core_field_exists(task->thread_info.syscall_work) &&
	    task->thread_info.syscall_work & minded)
		return true;
	return task->sas_ss_size && sp - task->sas_ss_sp <= task->sas_ss_size;
}

/* The entry of a function that allocates, and its return if this returned 0 (6.13+). */
SEC("uprobe.session")
int mm_heap_call(struct pt_regs *ctx)
{
	if (bpf_get_func_ip(ctx) != PROBED_AT(ctx)) {
		call_returns(ctx, true);
		return 0;
	}
	if (must_not_return(bpf_get_current_task_btf(), ctx->sp))
		return 1;
	return call_begins(ctx) ? 0 : 1;
}

/* The same where there are no sessions, or the return must not be probed. */
SEC("uprobe.multi")
int mm_heap_enter(struct pt_regs *ctx)
{
	call_begins(ctx);
	return 0;
}

SEC("uprobe.multi")
int mm_heap_return(struct pt_regs *ctx)
{
	return call_returns(ctx, true);
}

/* The instruction that returns from one whose return must not be probed. */
SEC("uprobe.multi")
int mm_heap_leave(struct pt_regs *ctx)
{
	return call_returns(ctx, false);
}

/* The entry of a function that frees. */
SEC("uprobe.multi")
int mm_heap_free(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct block_key key = {0, ARG0(ctx)};
	struct mm_heap *heap;
	struct space *sp = heap_space(task, &heap);
	struct heap_call *c;

	if (!sp || !key.addr)
		return 0;
	__sync_fetch_and_add(&heap->frees, 1);
	c = bpf_task_storage_get(&heap_calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (c) {
		if (c->freed && c->freed != key.addr) /* else one function has called another */
			note_mark(sp, c);
		if (c->sampled && c->sampled != key.addr)
			send_contents(sp, c);
		c->sampled = 0;
	}
	key.space = sp->id;
	if (bpf_map_delete_elem(&blocks, &key))
		return 0;
	send_end(sp, MM_BLOCK_FREED, key.addr, NULL);
	if (c && !first_words(c->words, key.addr))
		c->freed = key.addr;
	return 0;
}

#endif
