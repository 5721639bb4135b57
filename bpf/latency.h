/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How long mapping calls take, and how long the mmap lock is waited for and held.
 * These programs are loaded only when they are asked for. They are attached before
 * the others of the same tracepoints, which the kernel runs in that order: what
 * the others take is then in no figure.
 *
 * Everything is counted here, in histograms for each CPU, so no figure depends on
 * what a ring has room for. Calls are sent one by one, with their stack, if they
 * are slow, and a sample of the others.
 */
#ifndef MAPTRACE_LATENCY_H
#define MAPTRACE_LATENCY_H

volatile const __u64 lat_slow = 0;  /* ns: what a slow call takes at least */
volatile const __u32 lat_quota = 0; /* calls of one operation in a window, slow or not */
__u64 lat_worst = 0; /* ns: calls that take at least this are all sent; raised from user space */

#define PF_EXITING 0x4

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MM_OP_COUNT);
	__type(key, __u32);
	__type(value, struct mm_lat);
} lats SEC(".maps");

/* By operation and whether the call is slow: those since the last that was sent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * MM_OP_COUNT);
	__type(key, __u32);
	__type(value, struct mm_lat_carry);
} lat_carries SEC(".maps");

/* And how often there were any, on all CPUs together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * MM_OP_COUNT);
	__type(key, __u32);
	__type(value, struct meter);
} lat_meters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} timings SEC(".maps");

/*
 * Adds and maxima are atomic though each CPU has its own: kernels differ in
 * whether a program of a tracepoint can be preempted by another thread's.
 */
static __always_inline void lat_max(__u64 *max, __u64 v)
{
	for (int i = 0; i < 4; i++) {
		__u64 old = *max;

		if (v <= old || __sync_val_compare_and_swap(max, old, v) == old)
			break;
	}
}

static __noinline int tally(struct mm_lat_hist *h, __u64 v)
{
	__u64 b = mm_lat_bucket(v);

	/* One register to compare and to add: older verifiers do not see two as the same. */
	asm volatile("" : "+r"(b));
	if (b >= MM_LAT_BUCKETS)
		return 0;
	__sync_fetch_and_add(&h->count[b], 1);
	__sync_fetch_and_add(&h->sum, v);
	lat_max(&h->max, v);
	return 0;
}

static __always_inline void tally_lock(struct mm_lat *m, __u64 wait, __u64 hold, __u64 write_hold,
				       __u64 longest)
{
	tally(&m->wait, wait);
	tally(&m->hold, hold);
	__sync_fetch_and_add(&m->write_hold, write_hold);
	lat_max(&m->longest, longest);
}

/* include/trace/events/syscalls.h: sys_enter (regs, id) */
SEC("tp_btf/sys_enter")
int mm_lat_enter(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	__u32 op = mapping_call((long)ctx[1]);
	struct task_struct *task;
	struct lat_task *l;
	__u64 args[6], key;

	if (op == NOT_OURS)
		return 0;
	task = bpf_get_current_task_btf();
	key = (__u64)task->mm;
	if (!bpf_map_lookup_elem(&spaces, &key) || is_compat(task))
		return 0;
	call_args(regs, args);
	if (op == MM_OP_SET_VMA && args[0] != PR_SET_VMA)
		return 0;
	l = bpf_task_storage_get(&lat_tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!l) {
		count(MM_C_NO_TIMING);
		return 0;
	}
	l->waited = 0;
	l->wait = 0;
	l->hold = 0;
	l->write_hold = 0;
	l->longest = 0;
	l->locks = 0;
	l->began = bpf_ktime_get_ns();
	return 0;
}

/* include/trace/events/mmap_lock.h: mmap_lock_start_locking */
static __always_inline int lat_start(struct mm_struct *mm)
{
	__u64 key = (__u64)mm;
	struct lat_task *l;

	if (!bpf_map_lookup_elem(&spaces, &key))
		return 0;
	l = bpf_task_storage_get(&lat_tasks, bpf_get_current_task_btf(), 0,
				 BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!l) {
		count(MM_C_NO_TIMING);
		return 0;
	}
	l->mm = key;
	l->taken = 0;
	l->downgraded = 0;
	l->asked = bpf_ktime_get_ns();
	return 0;
}

/*
 * mmap_lock_acquire_returned: the lock was got, or not (a try, a signal). A
 * downgrade tells the same without having asked.
 */
static __always_inline int lat_acquired(struct mm_struct *mm, bool write, bool success)
{
	__u64 now = bpf_ktime_get_ns();
	struct lat_task *l = bpf_task_storage_get(&lat_tasks, bpf_get_current_task_btf(), 0, 0);

	if (!l || l->mm != (__u64)mm)
		return 0;
	if (!l->asked) {
		if (l->taken && !write)
			l->downgraded = now;
		return 0;
	}
	l->waited += now - l->asked;
	l->asked = 0;
	if (success) {
		l->write = write;
		l->taken = now;
	}
	return 0;
}

/* What a lock is taken for outside of the calls that are measured. */
static __always_inline __u32 lat_purpose(struct task_struct *task, struct mm_struct *mm)
{
	if (mm->mm_users.counter == 0 || (task->flags & PF_EXITING))
		return MM_OP_EXIT;
	if (task->mm != mm)
		return MM_OP_REMOTE;
	return current_call(task) < 0 ? MM_OP_FAULT : MM_OP_OTHER;
}

/* mmap_lock_released, with the lock still held */
static __always_inline int lat_release(struct mm_struct *mm)
{
	__u64 now = bpf_ktime_get_ns(), hold, write_hold = 0;
	struct task_struct *task = bpf_get_current_task_btf();
	struct lat_task *l = bpf_task_storage_get(&lat_tasks, task, 0, 0);
	struct mm_lat *m;
	__u32 op;

	if (!l || l->mm != (__u64)mm || !l->taken)
		return 0;
	hold = now - l->taken;
	if (l->write)
		write_hold = (l->downgraded ? l->downgraded : now) - l->taken;
	l->taken = 0;
	if (l->mute) {
		l->waited = 0;
		return 0;
	}
	if (l->began) {
		l->hold += hold;
		l->write_hold += write_hold;
		if (hold > l->longest)
			l->longest = hold;
		l->locks++;
		return 0;
	}
	op = lat_purpose(task, mm);
	m = bpf_map_lookup_elem(&lats, &op);
	if (m)
		tally_lock(m, l->waited, hold, write_hold, hold);
	l->waited = 0;
	return 0;
}

/* 6.16 and later: (mm, write), (mm, write, success), (mm, write). */
SEC("tp_btf/mmap_lock_start_locking")
int mm_lat_start(__u64 *ctx)
{
	return lat_start((struct mm_struct *)ctx[0]);
}

SEC("tp_btf/mmap_lock_acquire_returned")
int mm_lat_got(__u64 *ctx)
{
	return lat_acquired((struct mm_struct *)ctx[0], ctx[1] & 0xff, ctx[2] & 0xff);
}

SEC("tp_btf/mmap_lock_released")
int mm_lat_release(__u64 *ctx)
{
	return lat_release((struct mm_struct *)ctx[0]);
}

/* Before, all with the memory cgroup's path after the mm. */
SEC("tp_btf/mmap_lock_acquire_returned")
int mm_lat_got4(__u64 *ctx)
{
	return lat_acquired((struct mm_struct *)ctx[0], ctx[2] & 0xff, ctx[3] & 0xff);
}

static __always_inline void carry(struct mm_lat_carry *c, __u64 calls, __u64 duration, __u64 wait,
				  __u64 hold)
{
	__sync_fetch_and_add(&c->calls, calls);
	__sync_fetch_and_add(&c->duration, duration);
	__sync_fetch_and_add(&c->wait, wait);
	__sync_fetch_and_add(&c->hold, hold);
}

/*
 * Sends a call with its stack, and what was passed over before it. Returns false if it
 * could not. The chance is with the key, (chance << 8 | op), for want of arguments.
 */
static __noinline bool send_timing(struct task_struct *task, struct lat_task *l,
				   struct mm_lat_carry *c, __u32 op_chance, long ret)
{
	__u64 key = (__u64)task->mm;
	struct space *sp = bpf_map_lookup_elem(&spaces, &key);
	__u32 op = op_chance & 0xff;
	struct mm_timing *t;

	if (!sp)
		return false;
	t = bpf_ringbuf_reserve(&timings, sizeof(*t), 0);
	if (!t) {
		count(MM_C_TIMINGS);
		return false;
	}
	__builtin_memset(t, 0, sizeof(*t));
	fill_head(&t->head, task, sp->id, op);
	t->head.time = l->entered;
	t->ret = ret;
	call_args((struct pt_regs *)bpf_task_pt_regs(task), t->args);
	t->duration = l->duration;
	t->wait = l->wait;
	t->hold = l->hold;
	t->write_hold = l->write_hold;
	t->longest = l->longest;
	t->locks = l->locks;
	t->slow = l->duration >= lat_slow;
	t->chance = op_chance >> 8;
	t->skipped.calls = __sync_lock_test_and_set(&c->calls, 0);
	t->skipped.duration = __sync_lock_test_and_set(&c->duration, 0);
	t->skipped.wait = __sync_lock_test_and_set(&c->wait, 0);
	t->skipped.hold = __sync_lock_test_and_set(&c->hold, 0);
	t->stack = send_stack(sp, op, 0, t->chance);
	submit(t);
	return true;
}

SEC("tp_btf/sys_exit")
int mm_lat_exit(__u64 *ctx)
{
	__u64 now = bpf_ktime_get_ns(), duration;
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	struct mm_lat_carry *c;
	struct task_struct *task;
	struct meter *meter;
	struct lat_task *l;
	long ret = ctx[1];
	struct mm_lat *m;
	__u32 op, key, chance = 0;

	op = mapping_call(call_nr(regs));
	if (op == NOT_OURS)
		return 0;
	task = bpf_get_current_task_btf();
	l = bpf_task_storage_get(&lat_tasks, task, 0, 0);
	if (!l || !l->began)
		return 0;
	duration = now - l->began;
	l->duration = duration;
	l->entered = l->began;
	l->began = 0;
	if (op == IS_CLONE) {
		/* What makes threads changes no mapping; vfork waits for its child. */
		if (!l->write_hold)
			return 0;
		op = MM_OP_FORK;
	}
	m = bpf_map_lookup_elem(&lats, &op);
	if (!m)
		return 0;
	l->wait = l->waited;
	l->waited = 0;
	tally(&m->duration, duration);
	if (l->locks || l->wait)
		tally_lock(m, l->wait, l->hold, l->write_hold, l->longest);
	if (ret < 0 && ret > -4096)
		__sync_fetch_and_add(&m->failed, 1);
	key = 2 * op;
	if (duration >= lat_slow) {
		__sync_fetch_and_add(&m->slow, 1);
		key++;
	}
	c = bpf_map_lookup_elem(&lat_carries, &key);
	meter = bpf_map_lookup_elem(&lat_meters, &key);
	if (!c || !meter)
		return 0;
	if (duration < lat_worst)
		chance = meter_chance(meter, now, lat_quota);
	meter->seen++;
	if (!taken(chance) || !send_timing(task, l, c, chance << 8 | op, ret))
		carry(c, 1, duration, l->wait, l->hold);
	return 0;
}

#endif
