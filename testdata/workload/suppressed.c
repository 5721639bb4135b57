/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * suppressed: mapping calls that seccomp answers, between others that are executed.
 *
 *   suppressed THREADS CALLS
 *
 * Each thread makes CALLS calls at random. One whose sixth argument, which most of them have not,
 * is one of three numbers is not executed: its result is 0 (SECCOMP_RET_ERRNO), its number or
 * first argument (SECCOMP_RET_TRAP), or what another thread says (SECCOMP_RET_USER_NOTIF), which
 * is its first argument. A fourth number has a call refused with ENOSYS while a signal comes, for
 * whose frame there is a new stack. Prints how many of the first three kinds there were, which
 * changed nothing, as "suppressed N", and waits for EOF on stdin. Exits with 77 where the kernel
 * cannot do that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

enum { PAGES = 64, MAX_THREADS = 64, STACK = 64 * 1024 };
enum how { EXECUTED, ANSWERED = 0x5ecc01, TRAPPED, NOTIFIED, REFUSED };

static long ps, calls;
static int listener = -1;
static bool patient; /* a call that waits for its answer is not interrupted */
static pthread_barrier_t installed;
static atomic_long suppressed;
static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t end_cond = PTHREAD_COND_INITIALIZER;
static long ended;

static void __attribute__((noreturn)) die(const char *what)
{
	dprintf(2, "suppressed: %s: %s\n", what, strerrorname_np(errno));
	_exit(1);
}

/* Answers calls, in a thread that has no filter. */
static void *answer(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&installed);
	for (;;) {
		struct seccomp_notif req = {0};
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			die("receive a call");
		}
		struct seccomp_notif_resp resp = {.id = req.id, .val = req.data.args[0]};
		if ((uint32_t)req.data.args[5] == REFUSED) {
			resp.val = 0;
			resp.error = -ENOSYS;
			if (patient && syscall(SYS_tgkill, getpid(), req.pid, SIGUSR1) < 0)
				die("tgkill");
		}
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 && errno != ENOENT)
			die("answer a call");
	}
	return NULL;
}

static void install(void)
{
	/* Other calls have what is left in the register for their sixth argument. */
	static const int ours[] = {SYS_mmap,	SYS_munmap, SYS_mprotect, SYS_mremap, SYS_brk,
				   SYS_madvise, SYS_mlock,  SYS_munlock,  SYS_shmdt};
	enum { N = sizeof ours / sizeof *ours };
	struct sock_filter code[N + 11] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	for (int i = 0; i < N; i++)
		code[1 + i] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ours[i], N - i, 0);
	const struct sock_filter rest[] = {
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ANSWERED, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TRAPPED, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NOTIFIED, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REFUSED, 3, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	memcpy(&code[1 + N], rest, sizeof rest);
	struct sock_fprog prog = {.len = sizeof code / sizeof *code, .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(77);
	const unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
	listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			   flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
	patient = listener >= 0;
	if (!patient) /* before 5.19 */
		listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	if (listener < 0)
		_exit(77);
	pthread_barrier_wait(&installed);
}

static void interrupted(int sig)
{
	(void)sig; /* the call's result is what the kernel left */
}

/* One call: its number, and its first five arguments. The sixth says how. */
static void call(enum how how, long nr, long a, long b, long c, long d, long e)
{
	/* An executed mmap has an offset of 0, and so EXECUTED for its sixth. */
	long ret = syscall(nr, a, b, c, d, e, (long)how);
	if (how == EXECUTED || (how == REFUSED && ret < 0 && errno == ENOSYS))
		return;
	atomic_fetch_add(&suppressed, 1);
	long want = how == ANSWERED ? 0 : how == NOTIFIED ? a : ret;
	if (ret != want || ret < 0) {
		dprintf(2, "suppressed: call %ld: %ld, %s\n", nr, ret, strerrorname_np(errno));
		_exit(1);
	}
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/*
 * The frame of the signal is written to a stack whose first page is not there, with the
 * registers of a call that has no result yet: ENOSYS is what the kernel has in its place.
 */
static void signalled(long at, long len, void *stack)
{
	if (mmap(stack, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		die("map a stack");
	call(REFUSED, SYS_munmap, at, len, 0, 0, 0);
	call(ANSWERED, SYS_munmap, at, len + ps, 0, 0, 0);
}

static void step(char *area, void *seg, void *stack, uint64_t *rng)
{
	static const enum how hows[] = {EXECUTED, ANSWERED, EXECUTED, TRAPPED, EXECUTED, NOTIFIED};
	enum how how = hows[next(rng) % 6];
	long at = (long)area + next(rng) % (PAGES / 2) * ps, len = (1 + next(rng) % 4) * ps;
	int prot = next(rng) & 1 ? PROT_READ : PROT_READ | PROT_WRITE;

	switch (next(rng) % 21) {
	case 0:
	case 1:
		call(how, SYS_munmap, at, len, 0, 0, 0);
		break;
	case 2:
	case 3:
	case 4:
		call(how, SYS_mmap, at, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
		break;
	case 5:
		call(how, SYS_mmap, at, len, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1);
		break;
	case 6:
		call(how, SYS_mprotect, at, len, prot, 0, 0);
		break;
	case 7: /* moves it, to where something may be */
		call(how, SYS_mremap, at, ps, ps, MREMAP_MAYMOVE | MREMAP_FIXED,
		     (long)area + (PAGES / 2 + next(rng) % (PAGES / 2)) * ps);
		break;
	case 8: /* the same size: nothing to do, with the lock held */
		call(how, SYS_mremap, at, ps, ps, 0, 0);
		break;
	case 9: /* a question, which has the lock too */
		call(how, SYS_brk, 0, 0, 0, 0, 0);
		break;
	case 10:
		call(how, SYS_madvise, at, len, next(rng) & 1 ? MADV_DONTFORK : MADV_DOFORK, 0, 0);
		break;
	case 11:
		call(how, SYS_mlock, at, len, 0, 0, 0);
		break;
	case 12:
		call(how, SYS_munlock, at, len, 0, 0, 0);
		break;
	case 13:
		call(how, SYS_mlock, at, 0, 0, 0, 0); /* has the lock all the same */
		break;
	case 14:
		call(how, SYS_shmdt, (long)seg, 0, 0, 0, 0);
		break;
	case 15: /* these need no lock, for they ask for nothing */
		call(EXECUTED, SYS_mprotect, at, 0, prot, 0, 0);
		break;
	case 16:
		call(EXECUTED, SYS_madvise, at, 0, MADV_DONTFORK, 0, 0);
		break;
	case 17:
		call(EXECUTED, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, 0, 0);
		break;
	case 18:
		call(EXECUTED, SYS_mbind, at, 0, 0, 0, 0);
		break;
	case 20:
		signalled(at, len, stack);
		break;
	case 19: /* looks at pages only */
		call(EXECUTED, SYS_madvise, at, len, MADV_DONTNEED, 0, 0);
		break;
	}
}

static void *work(void *arg)
{
	uint64_t rng = (uintptr_t)arg * 0x9e3779b97f4a7c15 + 1;
	/* Makes the thread known: of its first call nobody knows when it began. */
	char *area =
		mmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int id = shmget(IPC_PRIVATE, ps, IPC_CREAT | 0600);
	void *seg = shmat(id, NULL, 0);
	if (area == MAP_FAILED || id < 0 || seg == (void *)-1)
		die("map");
	shmctl(id, IPC_RMID, NULL);
	stack_t alt = {.ss_size = STACK};
	alt.ss_sp = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (alt.ss_sp == MAP_FAILED || sigaltstack(&alt, NULL) < 0)
		die("map a stack");
	for (long i = 0; i < calls; i++)
		step(area, seg, alt.ss_sp, &rng);
	pthread_mutex_lock(&end_lock);
	ended++;
	pthread_cond_signal(&end_cond);
	pthread_mutex_unlock(&end_lock);
	for (;;) /* its stack stays */
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	long threads = argc == 3 ? atol(argv[1]) : 0;
	calls = argc == 3 ? atol(argv[2]) : 0;
	if (threads < 1 || threads > MAX_THREADS || calls < 1) {
		dprintf(2, "usage: suppressed THREADS CALLS\n");
		return 2;
	}
	ps = sysconf(_SC_PAGESIZE);
	struct sigaction sa = {.sa_handler = interrupted, .sa_flags = SA_ONSTACK};
	sigaction(SIGSYS, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	pthread_barrier_init(&installed, NULL, 2);
	pthread_t t;
	if (pthread_create(&t, NULL, answer, NULL))
		die("pthread_create");
	install();
	for (long i = 1; i <= threads; i++)
		if (pthread_create(&t, NULL, work, (void *)i))
			die("pthread_create");
	pthread_mutex_lock(&end_lock);
	while (ended < threads)
		pthread_cond_wait(&end_cond, &end_lock);
	pthread_mutex_unlock(&end_lock);
	dprintf(1, "suppressed %ld\n", atomic_load(&suppressed));
	char c;
	while (read(0, &c, 1) > 0)
		;
	_exit(0);
}
