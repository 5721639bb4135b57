/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * Does the calls of a program that fuzzkernel has made, and writes what mappings are there then:
 *
 *   calls PROGRAM DIRECTORY [LIST]
 *
 * The first line of PROGRAM is "threads N root 0|1 settle US", each other one "LIST CALL
 * ARGUMENT…". The lists from 0 to N-1 begin at once, each in a thread. The others are what children
 * and signal handlers do. When all threads have come to their end, and all children are gone, the
 * process stands still for US microseconds. Then it copies its /proc/thread-self/maps to
 * DIRECTORY/maps.PID and ends, without changing a mapping between; so does each child that has an
 * address space of its own. With LIST that list alone is done: so the program executes itself.
 *
 * Run by root it becomes nobody. Before that, with "root 1", it opens what only root may, and
 * mounts a noexec file system for itself.
 *
 * Whatever a program does is valid. A process that is killed by it has not written a copy. Threads
 * have neither stacks of their own making nor thread-local storage, so that nothing here changes
 * mappings that was not asked for: behind main() there are system calls and no C library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

enum {
	PAGE = 4096,
	MAX_OPS = 4096,
	MAX_ARGS = 8,
	STACK = 64 << 10,
	MAX_STACKS = 64,
	SEGMENTS = 3,
	SEGMENT_PAGES = 8,
	LIMIT = 10, /* seconds that a process may live */
	MAX_TRIES = 200,
};

/* The descriptors that programs name by their numbers. Those that cannot be opened are closed. */
enum {
	FD_A = 100, /* files on the disk */
	FD_B,
	FD_MEMFD,
	FD_ZERO,
	FD_NOEXEC,
	FD_TCP,
	FD_PACKET,
	FD_SELF, /* read only */
	FD_PERF,
	FD_SECRET,
	FD_TRACE,
	FD_HUGE,
	FD_RACED, /* copies of A, and of what another thread puts there */
	FD_DIR,
	FD_UPROBE,
};

struct op {
	int list, n;
	char name[20];
	long a[MAX_ARGS];
	char how; /* the way into the kernel: the first argument, where it is a letter */
};

static struct op ops[MAX_OPS];
static int n_ops, n_threads, as_root, settle;
static char *program, *directory;
static char maps_text[8 << 20];
static int segment[SEGMENTS];
static int self_list = -1; /* an executed image has this one only */

static int running; /* threads that have not come to their end */
static char stacks[MAX_STACKS][STACK] __attribute__((aligned(PAGE)));
static int stacks_used;

static void run(int list);

/* --- System calls, past the C library --- */

#ifdef __x86_64__

static inline __attribute__((always_inline)) long raw(long nr, long a, long b, long c, long d,
						      long e, long f)
{
	register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	long ret;

	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

/*
 * What may fault. The handler of SIGSEGV and SIGBUS goes on at the end of the function. int80() is
 * one of them: without IA32 emulation it raises SIGSEGV.
 */
asm("touch:\n"
    "touch_begin:\n"
    "	test %esi, %esi\n"
    "	jnz 1f\n"
    "	movb (%rdi), %al\n"
    "	ret\n"
    "1:	movb %sil, (%rdi)\n"
    "touch_end:\n"
    "	ret\n"
    "int80:\n"
    "	push %rbx\n"
    "	push %rbp\n"
    "	mov %rdi, %rax\n"
    "	mov %rsi, %r10\n"
    "	mov (%r10), %ebx\n"
    "	mov 8(%r10), %ecx\n"
    "	mov 16(%r10), %edx\n"
    "	mov 24(%r10), %esi\n"
    "	mov 32(%r10), %edi\n"
    "	mov 40(%r10), %ebp\n"
    "int80_begin:\n"
    "	int $0x80\n"
    "int80_end:\n"
    "	movslq %eax, %rax\n"
    "	pop %rbp\n"
    "	pop %rbx\n"
    "	ret\n");

#define PC(context)	((context)->uc_mcontext.gregs[REG_RIP])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])

#else /* arm64 */

static inline __attribute__((always_inline)) long raw(long nr, long a, long b, long c, long d,
						      long e, long f)
{
	register long x8 asm("x8") = nr, x0 asm("x0") = a, x1 asm("x1") = b, x2 asm("x2") = c;
	register long x3 asm("x3") = d, x4 asm("x4") = e, x5 asm("x5") = f;

	asm volatile("svc 0"
		     : "+r"(x0)
		     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
		     : "memory");
	return x0;
}

asm("touch:\n"
    "touch_begin:\n"
    "	cbnz w1, 1f\n"
    "	ldrb w2, [x0]\n"
    "	ret\n"
    "1:	strb w1, [x0]\n"
    "touch_end:\n"
    "	ret\n"
    "int80:\n"
    "int80_begin:\n"
    "int80_end:\n"
    "	mov x0, #-38\n"
    "	ret\n");

#define PC(context)	((context)->uc_mcontext.pc)
#define RESULT(context) ((context)->uc_mcontext.regs[0])

#endif

void touch(long addr, int write);
long int80(long nr, const long *args);
extern char touch_begin[], touch_end[], int80_begin[], int80_end[];

#define CALL1(nr, a)	      raw(nr, (long)(a), 0, 0, 0, 0, 0)
#define CALL2(nr, a, b)	      raw(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define CALL3(nr, a, b, c)    raw(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define CALL4(nr, a, b, c, d) raw(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static void on_fault(int sig, siginfo_t *info, void *context)
{
	char *pc = (char *)PC((ucontext_t *)context);

	(void)info;
	if (pc >= touch_begin && pc < touch_end) {
		PC((ucontext_t *)context) = (unsigned long)touch_end;
	} else if (pc >= int80_begin && pc < int80_end) {
		PC((ucontext_t *)context) = (unsigned long)int80_end;
		RESULT((ucontext_t *)context) = -ENOSYS;
	} else {
		CALL1(SYS_exit_group, 128 + sig);
	}
}

static void nap(long us)
{
	struct timespec t = {us / 1000000, us % 1000000 * 1000};

	CALL2(SYS_nanosleep, &t, 0);
}

/* Begins a thread, which has its creator's thread-local storage and must not use it. */
static bool begin(int (*f)(void *), void *arg, int *gone)
{
	int i = __atomic_fetch_add(&stacks_used, 1, __ATOMIC_RELAXED);

	if (i >= MAX_STACKS)
		return false;
	*gone = 1;
	return clone(f, stacks[i] + STACK,
		     CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			     CLONE_SYSVSEM | CLONE_CHILD_CLEARTID,
		     arg, NULL, NULL, gone) > 0;
}

static void wait_for(volatile int *gone)
{
	while (*gone)
		CALL1(SYS_sched_yield, 0);
}

/* --- The end --- */

static char *number(char *to, unsigned long n)
{
	char digits[20];
	int i = 0;

	do
		digits[i++] = '0' + n % 10;
	while (n /= 10);
	while (i)
		*to++ = digits[--i];
	*to = 0;
	return to;
}

/* Copies maps, all of it before the first write. It is done twice: the first time may fault. */
static __attribute__((noreturn)) void finish(void)
{
	char name[40] = "maps.";
	size_t n = 0, w = 0;
	int in, out;
	long r;

	while (CALL4(SYS_wait4, -1, 0, __WALL, 0) > 0)
		;
	nap(settle);
	number(name + 5, CALL1(SYS_getpid, 0));
	for (int again = 0; again < 2; again++) {
		in = CALL4(SYS_openat, AT_FDCWD, "/proc/thread-self/maps", O_RDONLY, 0);
		for (n = 0; n < sizeof(maps_text); n += r) {
			r = CALL3(SYS_read, in, maps_text + n, sizeof(maps_text) - n);
			if (r <= 0)
				break;
		}
		CALL1(SYS_close, in);
	}
	out = CALL4(SYS_openat, FD_DIR, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	for (; w < n; w += r) {
		r = CALL3(SYS_write, out, maps_text + w, n - w);
		if (r <= 0)
			break;
	}
	CALL1(SYS_exit_group, 0);
	__builtin_unreachable();
}

/* The last thread finishes, the others wait for that, or end where they are told to. */
static void end_of_thread(bool leave)
{
	if (__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST) == 0)
		finish();
	if (leave)
		CALL1(SYS_exit, 0);
	for (;;)
		nap(1000000);
}

static int thread_main(void *list)
{
	run((long)list);
	end_of_thread(false);
	return 0;
}

/* --- Calls by their names --- */

static const struct {
	const char *name;
	int nr, ia32;
} calls[] = {
	{"mmap", SYS_mmap, 192},
	{"munmap", SYS_munmap, 91},
	{"mprotect", SYS_mprotect, 125},
	{"pkey_mprotect", SYS_pkey_mprotect, 380},
	{"madvise", SYS_madvise, 219},
	{"mlock", SYS_mlock, 150},
	{"mlock2", SYS_mlock2, 376},
	{"munlock", SYS_munlock, 151},
	{"mlockall", SYS_mlockall, 152},
	{"munlockall", SYS_munlockall, 153},
	{"mremap", SYS_mremap, 163},
	{"mseal", SYS_mseal, 462},
	{"remap_file_pages", SYS_remap_file_pages, 257},
	{"shmdt", SYS_shmdt, 398},
	{"shmat", SYS_shmat, 397},
	{"brk", SYS_brk, 45},
	{"prctl", SYS_prctl, 172},
	{"personality", SYS_personality, 136},
	{"getppid", SYS_getppid, 64}, /* what ptrace turns into another */
};

/*
 * Where each thread's signals find what they are to do. A handler has one list for the process: it
 * runs in whichever thread the signal was sent to.
 */
static volatile int handler_list = -1, handled;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	/*
	 * While a storm of signals lasts, wait for one that comes where a call has just
	 * failed with ENOSYS: its registers look like those within a call.
	 */
	if (handler_list < 0 || (handled < 0 && (long)RESULT((ucontext_t *)context) != -ENOSYS))
		return;
	if (handled > 0)
		return;
	handled = 1;
	run(handler_list);
}

/* A ring of io_uring of this process; a child makes one of its own. */
static struct {
	int fd, lock;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
	struct io_uring_params p;
} ring = {.fd = -1};

static long ring_madvise(long addr, long len, long advice)
{
	struct io_uring_params *p = &ring.p;
	struct io_uring_cqe *cqe;
	unsigned *tail, *head;
	long ret = -EINVAL;

	while (__atomic_exchange_n(&ring.lock, 1, __ATOMIC_ACQUIRE))
		CALL1(SYS_sched_yield, 0);
	if (ring.fd < 0) {
		memset(p, 0, sizeof(*p));
		ring.fd = CALL2(SYS_io_uring_setup, 4, p);
		if (ring.fd < 0)
			goto out;
		ring.sq = (char *)raw(SYS_mmap, 0, p->sq_off.array + p->sq_entries * 4, 3,
				      MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
		ring.cq = (char *)raw(SYS_mmap, 0, p->cq_off.cqes + p->cq_entries * sizeof(*cqe), 3,
				      MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_CQ_RING);
		ring.sqe = (void *)raw(SYS_mmap, 0, p->sq_entries * sizeof(*ring.sqe), 3,
				       MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
	}
	if ((long)ring.sq < 0 || (long)ring.cq < 0 || (long)ring.sqe < 0)
		goto out;
	tail = (unsigned *)(ring.sq + p->sq_off.tail);
	head = (unsigned *)(ring.cq + p->cq_off.head);
	memset(ring.sqe, 0, sizeof(*ring.sqe));
	ring.sqe->opcode = IORING_OP_MADVISE;
	ring.sqe->addr = addr;
	ring.sqe->len = len;
	ring.sqe->fadvise_advice = advice;
	((unsigned *)(ring.sq + p->sq_off.array))[*tail & (p->sq_entries - 1)] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	ret = raw(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
	if (ret == 1) {
		cqe = (void *)(ring.cq + p->cq_off.cqes);
		ret = cqe[*head & (p->cq_entries - 1)].res;
		__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	}
out:
	__atomic_store_n(&ring.lock, 0, __ATOMIC_RELEASE);
	return ret;
}

static long call(const struct op *o, int i)
{
	const long *a = o->a;
	long ia32[6];

	if (calls[i].nr == SYS_shmat && a[0] >= 0 && a[0] < SEGMENTS)
		((long *)a)[0] = segment[a[0]];
	switch (o->how) {
	case 'i':
		memcpy(ia32, a, sizeof(ia32));
		if (calls[i].nr == SYS_mmap)
			ia32[5] /= PAGE;
		return int80(calls[i].ia32, ia32);
	case 'x':
		return raw(calls[i].nr | 0x40000000, a[0], a[1], a[2], a[3], a[4], a[5]);
	case 'u':
		return ring_madvise(a[0], a[1], a[2]);
	case 'p': {
		struct iovec v = {(void *)a[0], a[1]};
		int fd = CALL2(SYS_pidfd_open, CALL1(SYS_getpid, 0), 0);
		long ret = raw(SYS_process_madvise, fd, (long)&v, 1, a[2], 0, 0);

		CALL1(SYS_close, fd);
		return ret;
	}
	}
	return raw(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int find_call(const char *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		if (!strcmp(calls[i].name, name))
			return i;
	}
	return -1;
}

/* --- What is more than a call --- */

static void as_child(int list)
{
	struct itimerval limit = {.it_value.tv_sec = LIMIT};

	ring.fd = -1;
	ring.lock = 0;
	running = 1;
	CALL3(SYS_setitimer, ITIMER_REAL, &limit, 0);
	run(list);
	finish();
}

static void do_fork(const struct op *o)
{
	static const long none[6];

	if ((o->how == 'i' ? int80(2, none) : raw(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0)) == 0)
		as_child(o->a[0]);
}

static int sharer(void *list)
{
	run((long)list);
	while (CALL4(SYS_wait4, -1, 0, __WALL, 0) > 0)
		;
	CALL1(SYS_exit_group, 0);
	return 0;
}

/* A process in the same address space: its end is not that of the address space. */
static void do_share(long list, long flags)
{
	int i = __atomic_fetch_add(&stacks_used, 1, __ATOMIC_RELAXED);

	if (i < MAX_STACKS)
		clone(sharer, stacks[i] + STACK, CLONE_VM | flags | SIGCHLD, (void *)list);
}

static void do_exec(long list)
{
	char digits[24];
	char *argv[] = {"calls", program, directory, digits, NULL}, *envp[] = {NULL};

	number(digits, list);
	CALL3(SYS_execve, "/proc/self/exe", argv, envp);
}

/* Refuses a call, if it has that first argument, or pretends it was done: errno 0. */
static void do_deny(long nr, long arg, long error)
{
	struct sock_filter any[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arg, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof(any) / sizeof(*any), any};

	if (!arg) /* whichever */
		any[3].code = BPF_JMP | BPF_JA, any[3].k = 0;
	raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	raw(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&p, 0, 0, 0);
}

/* Says that the heap begins anew at so many pages from here. */
static void do_setmm(long pages)
{
	static char stat[4096];
	struct prctl_mm_map m = {.exe_fd = -1};
	unsigned long v[60] = {0};
	int fd = CALL4(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY, 0);
	long n = CALL3(SYS_read, fd, stat, sizeof(stat) - 1);
	char *s = stat;

	CALL1(SYS_close, fd);
	if (n <= 0)
		return;
	stat[n] = 0;
	s = strrchr(stat, ')');
	for (int i = 3; s && *s && i < 60;) {
		s = strchr(s, ' ');
		if (!s)
			break;
		v[i] = 0;
		for (s++; *s >= '0' && *s <= '9'; s++)
			v[i] = v[i] * 10 + *s - '0';
		i++;
	}
	m.start_code = v[26], m.end_code = v[27], m.start_stack = v[28];
	m.start_data = v[45], m.end_data = v[46], m.start_brk = v[47];
	m.arg_start = v[48], m.arg_end = v[49], m.env_start = v[50], m.env_end = v[51];
	m.brk = (CALL1(SYS_brk, 0) & -PAGE) + pages * PAGE;
	if (pages > 4096)
		m.start_brk = m.brk;
	raw(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&m, sizeof(m), 0, 0);
}

struct storm {
	int tid;
	volatile int over, gone;
};

static int kicker(void *arg)
{
	struct storm *s = arg;

	while (!s->over) {
		CALL3(SYS_tgkill, CALL1(SYS_getpid, 0), s->tid, SIGUSR1);
		for (volatile int i = 0; i < 20000; i++)
			;
	}
	return 0;
}

/*
 * Does a call again and again while signals come, whose frames are put where no page is yet, until
 * one has come right after the call.
 */
static void do_storm(const struct op *o, long area)
{
	struct storm s = {.tid = CALL1(SYS_gettid, 0)};
	unsigned long set = 1UL << (SIGUSR1 - 1);
	int i = find_call(o->name);

	if (i < 0 || handler_list < 0)
		return;
	raw(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, 8, 0, 0);
	handled = -1;
	if (!begin(kicker, &s, (int *)&s.gone))
		return;
	for (int tries = 0; handled < 0 && tries < MAX_TRIES; tries++) {
		stack_t alt = {.ss_size = 16 * PAGE};

		alt.ss_sp = (void *)raw(SYS_mmap, area + tries * 32L * PAGE, 16 * PAGE, 3,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		CALL2(SYS_sigaltstack, &alt, 0);
		raw(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, 8, 0, 0);
		for (int n = 0; n < 300 && handled < 0; n++)
			call(o, i);
		raw(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, 8, 0, 0);
	}
	s.over = 1;
	wait_for(&s.gone);
	raw(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, 8, 0, 0);
}

struct race {
	long addr;
	int fd;
	volatile int ready, over, gone;
};

static int racer(void *arg)
{
	struct race *r = arg;
	unsigned char in;

	r->ready = 1;
	while (!r->over && CALL3(SYS_mincore, r->addr, PAGE, &in) < 0)
		;
	CALL3(SYS_dup3, r->fd, FD_RACED, 0);
	return 0;
}

/* Maps one file while another takes its descriptor, as soon as the mapping is there. */
static void do_race(const struct op *o)
{
	struct race r = {.addr = o->a[0], .fd = o->a[5]};

	CALL3(SYS_dup3, o->a[4], FD_RACED, 0);
	CALL2(SYS_munmap, o->a[0], o->a[1]);
	if (!begin(racer, &r, (int *)&r.gone))
		return;
	while (!r.ready)
		CALL1(SYS_sched_yield, 0);
	raw(SYS_mmap, o->a[0], o->a[1], o->a[2], o->a[3] | MAP_POPULATE | MAP_FIXED, FD_RACED, 0);
	r.over = 1; /* the mapping may have been refused */
	wait_for(&r.gone);
}

#ifdef __x86_64__

/*
 * A child whose calls are changed: mode 1 replaces the results of every second call by success, 2
 * replaces such calls by nothing and says success, 3 halves their lengths, 4 turns every getppid
 * into a munmap of its arguments and 5 into a madvise, 6 says that they failed.
 */
static void do_traced(long list, long mode)
{
	int us = CALL1(SYS_getpid, 0), status, nth = 0;
	int pid = raw(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
	bool entry = true;
	struct user_regs_struct reg;
	unsigned long was = 0;

	if (pid < 0)
		return;
	if (!pid) {
		/* Nothing else would end it once it has stopped and its tracer is gone. */
		raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
		if (CALL1(SYS_getppid, 0) != us)
			CALL1(SYS_exit_group, 0);
		raw(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0, 0, 0);
		CALL2(SYS_kill, CALL1(SYS_getpid, 0), SIGSTOP);
		as_child(list);
	}
	raw(SYS_wait4, pid, (long)&status, __WALL, 0, 0, 0);
	raw(SYS_ptrace, PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL, 0, 0);
	for (long sig = 0;;) {
		raw(SYS_ptrace, PTRACE_SYSCALL, pid, 0, sig, 0, 0);
		if (raw(SYS_wait4, pid, (long)&status, __WALL, 0, 0, 0) < 0 || WIFEXITED(status) ||
		    WIFSIGNALED(status))
			return;
		sig = 0;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			sig = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
			continue;
		}
		raw(SYS_ptrace, PTRACE_GETREGS, pid, 0, (long)&reg, 0, 0);
		if (entry) {
			bool known = false;

			was = reg.orig_rax;
			for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
				known |= (unsigned long)calls[i].nr == was;
			if (!known || ++nth % 2)
				was = ~0UL;
			else if (mode == 2)
				reg.orig_rax = SYS_getpid;
			else if (mode == 3)
				reg.rsi = (reg.rsi / 2 + PAGE - 1) & -PAGE;
			else if (was == SYS_getppid && mode == 4)
				reg.orig_rax = SYS_munmap;
			else if (was == SYS_getppid && mode == 5)
				reg.orig_rax = SYS_madvise;
		} else if (was != ~0UL && (mode == 1 || mode == 2)) {
			reg.rax = was == SYS_mmap ? reg.rdi : 0;
		} else if (was != ~0UL && mode == 6) {
			reg.rax = -ENOMEM;
		}
		raw(SYS_ptrace, PTRACE_SETREGS, pid, 0, (long)&reg, 0, 0);
		entry = !entry;
	}
}

#else

static void do_traced(long list, long mode)
{
	(void)mode;
	if (raw(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0) == 0)
		as_child(list);
}

#endif

static void do_uffd(long addr, long len)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
	struct uffdio_register reg = {{addr, len}, UFFDIO_REGISTER_MODE_MISSING, 0};
	int fd = CALL1(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return;
	CALL3(SYS_ioctl, fd, UFFDIO_API, &api);
	CALL3(SYS_ioctl, fd, UFFDIO_REGISTER, &reg);
}

static char vdso_text[1 << 20];

static void do_vdso(const char *name, long to)
{
	int fd = CALL4(SYS_openat, AT_FDCWD, "/proc/thread-self/maps", O_RDONLY, 0);
	unsigned long v[2] = {0, 0};
	long n = 0, r;
	char *s;

	while ((r = CALL3(SYS_read, fd, vdso_text + n, sizeof(vdso_text) - 1 - n)) > 0)
		n += r;
	CALL1(SYS_close, fd);
	vdso_text[n] = 0;
	s = strstr(vdso_text, name);
	if (!s)
		return;
	while (s > vdso_text && s[-1] != '\n')
		s--;
	for (int i = 0; i < 2; i++, s++) {
		for (; *s != '-' && *s != ' '; s++)
			v[i] = v[i] * 16 + (*s <= '9' ? *s - '0' : *s - 'a' + 10);
	}
	raw(SYS_mremap, v[0], v[1] - v[0], v[1] - v[0], MREMAP_MAYMOVE | MREMAP_FIXED, to, 0);
}

/* Grows this thread's stack; only that of the first one grows. */
static __attribute__((noinline)) int deep(long kib)
{
	volatile char frame[1024];

	if (frame >= stacks[0] && frame < stacks[MAX_STACKS])
		return 0;
	frame[0] = kib;
	return kib > 0 ? deep(kib - 1) + frame[0] : 0;
}

/* Where a uprobe may be; what it stands on cannot be emulated. */
__attribute__((noinline, used)) void probed(void)
{
#ifdef __x86_64__
	asm volatile(".globl probed_here\nprobed_here: lea (%%rip), %%rax; nop" ::: "rax");
#else
	asm volatile(".globl probed_here\nprobed_here: add x2, x2, #1; nop" ::: "x2");
#endif
}
extern char probed_here[];

static const char *const names[] = {"", "one", "two", NULL};

static void do_op(const struct op *o)
{
	static const char *const special[] = {"[vdso]", "[vvar]"};
	const long *a = o->a;
	int i = find_call(o->name);

	if (i >= 0)
		call(o, i);
	else if (!strcmp(o->name, "fork"))
		do_fork(o);
	else if (!strcmp(o->name, "vfork"))
		do_share(a[0], CLONE_VFORK);
	else if (!strcmp(o->name, "share"))
		do_share(a[0], 0);
	else if (!strcmp(o->name, "exec"))
		do_exec(a[0]);
	else if (!strcmp(o->name, "traced"))
		do_traced(a[0], a[1]);
	else if (!strcmp(o->name, "wait"))
		CALL4(SYS_wait4, -1, 0, __WALL | __WNOTHREAD, 0); /* not those that others trace */
	else if (!strcmp(o->name, "leave"))
		end_of_thread(true);
	else if (!strcmp(o->name, "pause"))
		nap(a[0]);
	else if (!strcmp(o->name, "touch"))
		touch(a[0], a[1]);
	else if (!strcmp(o->name, "fill")) /* the kernel touches it */
		CALL3(SYS_read, FD_ZERO, a[0], a[1]);
	else if (!strcmp(o->name, "sbrk"))
		(o->how == 'i' ? int80(45, (long[6]){(CALL1(SYS_brk, 0) & -PAGE) + a[0]})
			       : CALL1(SYS_brk, (CALL1(SYS_brk, 0) & -PAGE) + a[0]));
	else if (!strcmp(o->name, "name"))
		raw(SYS_prctl, PR_SET_VMA, 0, a[0], a[1], (long)names[a[2] & 3], 0);
	else if (!strcmp(o->name, "setmm"))
		do_setmm(a[0]);
	else if (!strcmp(o->name, "handler"))
		handler_list = a[0], handled = 0;
	else if (!strcmp(o->name, "altstack"))
		CALL2(SYS_sigaltstack, (&(stack_t){.ss_sp = (void *)a[0], .ss_size = a[1]}), 0);
	else if (!strcmp(o->name, "raise"))
		CALL3(SYS_tgkill, CALL1(SYS_getpid, 0), CALL1(SYS_gettid, 0), SIGUSR1);
	else if (!strcmp(o->name, "race"))
		do_race(o);
	else if (!strcmp(o->name, "uffd"))
		do_uffd(a[0], a[1]);
	else if (!strcmp(o->name, "vdso"))
		do_vdso(special[a[0] & 1], a[1]);
	else if (!strcmp(o->name, "deep"))
		deep(a[0] & 1023);
	else if (!strcmp(o->name, "probe"))
		probed();
	else if (!strcmp(o->name, "busy")) {
		for (long n = 0; n < a[3]; n++)
			CALL3(SYS_madvise, a[0], a[1], a[2]);
	}
}

static void run(int list)
{
	for (int i = 0; i < n_ops; i++) {
		struct op o = ops[i];

		if (o.list != list)
			continue;
		if (!strncmp(o.name, "deny-", 5)) {
			int c = find_call(o.name + 5);

			if (c >= 0)
				do_deny(o.how == 'i' ? calls[c].ia32 : calls[c].nr, o.a[0], o.a[1]);
		} else if (!strncmp(o.name, "storm-", 6)) {
			long area = o.a[0];

			memmove(o.name, o.name + 6, sizeof(o.name) - 6);
			memmove(o.a, o.a + 1, sizeof(o.a) - sizeof(*o.a));
			do_storm(&o, area);
		} else {
			do_op(&o);
		}
	}
}

/* --- The beginning --- */

static void parse(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[400], how[2];

	if (!f || !fgets(line, sizeof(line), f) ||
	    sscanf(line, "threads %d root %d settle %d", &n_threads, &as_root, &settle) != 3)
		exit(2);
	while (n_ops < MAX_OPS && fgets(line, sizeof(line), f)) {
		struct op *o = &ops[n_ops];
		char *s = line;
		int used;

		if (sscanf(s, "%d %19s%n", &o->list, o->name, &used) != 2)
			exit(2);
		s += used;
		o->how = 's';
		if (sscanf(s, " %1[sixup]%n", how, &used) == 1) {
			o->how = how[0];
			s += used;
		}
		while (o->n < MAX_ARGS) {
			char *end;
			long v = strtoul(s, &end, 0);

			if (end == s)
				break;
			o->a[o->n++] = v;
			s = end;
		}
		n_ops++;
	}
	fclose(f);
}

static void put(int fd, int as)
{
	if (fd >= 0) {
		dup2(fd, as);
		close(fd);
	}
}

static int file(const char *name, off_t size)
{
	int fd = openat(FD_DIR, name, O_RDWR | O_CREAT, 0666);

	if (fd >= 0 && ftruncate(fd, size))
		exit(2);
	return fd;
}

/* Mounts for this process and its children only. */
static void mount_as_root(void)
{
	char path[512];

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return;
	snprintf(path, sizeof(path), "%s/noexec", directory);
	if (!mkdir(path, 0777))
		mount("fuzz", path, "tmpfs", MS_NOEXEC, NULL);
	snprintf(path, sizeof(path), "%s/tracing", directory);
	if (!mkdir(path, 0777))
		mount("fuzz", path, "tracefs", 0, NULL);
}

/* What only root may. */
static void open_as_root(void)
{
	struct tpacket_req req = {4 * PAGE, 4, 2048, 32};
	struct perf_event_attr attr = {.size = sizeof(attr), .sample_period = 1};
	char maps[512];
	unsigned long base = 0;
	FILE *f;
	int fd;

	put(file("noexec/f", 64 * PAGE), FD_NOEXEC);
	put(openat(FD_DIR, "tracing/per_cpu/cpu0/trace_pipe_raw", O_RDONLY | O_NONBLOCK), FD_TRACE);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd >= 0 && !setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)))
		put(fd, FD_PACKET);
	f = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	if (f) {
		if (fscanf(f, "%u", &attr.type) != 1)
			attr.type = 0;
		fclose(f);
		f = fopen("/proc/self/maps", "r");
		if (f && fgets(maps, sizeof(maps), f))
			base = strtoul(maps, NULL, 16);
		if (f)
			fclose(f);
		attr.uprobe_path = (unsigned long)"/proc/self/exe";
		attr.probe_offset = (unsigned long)probed_here - base;
		put(syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0), FD_UPROBE);
	}
}

static void open_all(void)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
				       .size = sizeof(attr),
				       .config = PERF_COUNT_SW_TASK_CLOCK,
				       .disabled = 1,
				       .exclude_kernel = 1,
				       .exclude_hv = 1};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(any);
	int l, fd;

	if (as_root)
		mount_as_root();
	put(open(directory, O_RDONLY | O_DIRECTORY), FD_DIR);
	if (as_root)
		open_as_root();
	if (geteuid() == 0 && (syscall(SYS_setresgid, 65534, 65534, 65534) ||
			       syscall(SYS_setresuid, 65534, 65534, 65534)))
		exit(2);
	prctl(PR_SET_DUMPABLE, 1);
	put(file("a", 64 << 20), FD_A);
	put(file("b", 64 << 20), FD_B);
	fd = memfd_create("memfd", 0);
	if (fd >= 0 && ftruncate(fd, 64 * PAGE))
		exit(2);
	put(fd, FD_MEMFD);
	put(open("/dev/zero", O_RDWR), FD_ZERO);
	put(open("/proc/self/exe", O_RDONLY), FD_SELF);
	put(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0), FD_PERF);
	fd = syscall(SYS_memfd_secret, 0);
	if (fd >= 0 && !ftruncate(fd, 16 * PAGE))
		put(fd, FD_SECRET);
	fd = memfd_create("huge", MFD_HUGETLB);
	if (fd >= 0 && !ftruncate(fd, 8 << 20))
		put(fd, FD_HUGE);
	l = socket(AF_INET, SOCK_STREAM, 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (!bind(l, (void *)&any, len) && !getsockname(l, (void *)&any, &len) && !listen(l, 1) &&
	    !connect(fd, (void *)&any, len))
		put(fd, FD_TCP);
	for (int i = 0; i < SEGMENTS; i++) {
		segment[i] = shmget(IPC_PRIVATE, SEGMENT_PAGES * PAGE, 0600);
		/* It goes with the last that has it. */
		if (segment[i] >= 0 && shmat(segment[i], NULL, 0) != (void *)-1)
			shmctl(segment[i], IPC_RMID, NULL);
	}
}

int main(int argc, char **argv)
{
	struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction usr1 = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	static int gone;

	if (argc < 3)
		return 2;
	program = argv[1], directory = argv[2];
	parse(program);
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	sigaction(SIGUSR1, &usr1, NULL);
	alarm(LIMIT);
	if (argc > 3) {
		self_list = atoi(argv[3]);
		n_threads = 0;
		running = 1;
		run(self_list);
		end_of_thread(false);
	}
	open_all();
	running = n_threads;
	for (long i = 1; i < n_threads; i++)
		begin(thread_main, (void *)i, &gone);
	thread_main(0);
}
