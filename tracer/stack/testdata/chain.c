/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

// Writes samples of its own stack, and what libgcc makes of them, to the file
// that the first argument names. The second is the case: see main. The format
// is read by run in real_linux_test.go.

#define _GNU_SOURCE
#include <alloca.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { max_frames = 2048 };

static int out;
static uint64_t stack_end;
static uint64_t max_copy = 1 << 20;
volatile int sink;

static void put(const void *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(out, p, n);
		if (k <= 0)
			_exit(3);
		p = (const char *)p + k;
		n -= k;
	}
}

static void put64(uint64_t v)
{
	put(&v, sizeof(v));
}

// The registers in DWARF's numbering, and pc and sp.
static void put_registers(const ucontext_t *uc, uint64_t *pc, uint64_t *sp)
{
#if defined(__x86_64__)
	static const int regs[] = {
		REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
		REG_R8,	 REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};
	for (int i = 0; i < 33; i++)
		put64(i < 16 ? uc->uc_mcontext.gregs[regs[i]] : 0);
	*pc = uc->uc_mcontext.gregs[REG_RIP];
	*sp = uc->uc_mcontext.gregs[REG_RSP];
#else
	for (int i = 0; i < 33; i++)
		put64(i < 31 ? uc->uc_mcontext.regs[i] : 0);
	*pc = uc->uc_mcontext.pc;
	*sp = uc->uc_mcontext.sp;
#endif
	put64(*pc);
	put64(*sp);
}

// One sample: registers, stack, and the frames that libgcc finds from here.
static void put_sample(const ucontext_t *uc, void **frames, int n)
{
	uint64_t pc, sp;

	put_registers(uc, &pc, &sp);
	uint64_t len = stack_end - sp;
	if (sp > stack_end) // another stack: to the end of its page
		len = -sp & (sysconf(_SC_PAGESIZE) - 1);
	uint64_t cut = len > max_copy;
	if (cut)
		len = max_copy;
	put64(cut);
	put64(len);
	put((void *)sp, len);
	put64(n);
	put(frames, n * sizeof(void *));
}

// The innermost frame of all cases but "step" and "fault".
static NOINLINE void capture(void)
{
	static void *frames[max_frames];
	ucontext_t uc;

	int n = backtrace(frames, max_frames);
	getcontext(&uc);
	put_sample(&uc, frames, n);
	sink++;
}

// Frames of several kinds, as deep as asked for.

NOINLINE int small(int n)
{
	capture();
	return n + sink;
}

NOINLINE int saves_many(int n, int a, int b, int c, int d)
{
	int r = small(n + a) * b + c;
	sink = r + n * a + b * d - c;
	return r + small(sink + d) + a * b * c;
}

NOINLINE int variable(int n)
{
	char *p = alloca(n * 16 + 1);
	memset(p, n, n * 16 + 1);
	int r = saves_many(n, 1, 2, 3, 4);
	return r + p[n];
}

NOINLINE int realigned(int n)
{
	char buf[128] __attribute__((aligned(64)));
	char *p = alloca(n + 1);
	memset(buf, n, sizeof(buf));
	memset(p, n, n + 1);
	int r = variable(n);
	return r + buf[n & 127] + p[n];
}

NOINLINE int recurse(int n)
{
	int r = n ? recurse(n - 1) : realigned(3);
	return r + sink;
}

static int ascending(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int compare(const void *a, const void *b)
{
	static int once;
	if (!once++)
		recurse(2);
	return ascending(a, b);
}

// Through a function of another library.
NOINLINE int through_library(void)
{
	int v[] = { 3, 1, 2 };
	qsort(v, 3, sizeof(v[0]), compare);
	return v[0] + sink;
}

static void on_signal(int sig)
{
	recurse(sig & 3);
}

NOINLINE int raises(int n)
{
	raise(SIGUSR1);
	return n + sink;
}

// The context that was interrupted, in a function that may have no frame.
static void on_fault(int sig, siginfo_t *info, void *uc)
{
	static void *frames[max_frames];

	(void)info;
	int n = backtrace(frames, max_frames);
	put_sample(uc, frames, n);
	if (sig == SIGSEGV)
		_exit(0);
}

NOINLINE int faults(volatile int *p)
{
	return *p;
}

NOINLINE int calls_null(int (*volatile f)(int))
{
	return f(1) + sink;
}

static void on_null(int sig, siginfo_t *info, void *uc)
{
	(void)info;
	(void)uc;
	recurse(sig & 1);
	_exit(0);
}

static void handle(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };
	sigaction(sig, &sa, NULL);
}

// Each instruction from here is a sample.
NOINLINE int steps(int n)
{
#if defined(__x86_64__)
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
#endif
	int v[] = { 3, 1 };
	char buf[64] __attribute__((aligned(64)));
	snprintf(buf, sizeof(buf), "%d", n);
	n += atoi(buf) + abs(sink) + (getpid() == 0);
	qsort(v, 2, sizeof(v[0]), ascending);
#if defined(__x86_64__)
	__asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
#endif
	return n + v[0] + buf[1];
}

static void *thread(void *arg)
{
	pthread_attr_t attr;
	void *addr;
	size_t size;

	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &addr, &size);
	stack_end = (uint64_t)addr + size;
	recurse(2);
	return arg;
}

static void find_stack(void)
{
	char line[512];
	uint64_t here = (uint64_t)line, start, end;
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= here && here < end)
			stack_end = end;
	if (f)
		fclose(f);
}

static void put_maps(void)
{
	char buf[4096];
	ssize_t n, size = 0;
	static char all[1 << 20];
	int fd = open("/proc/self/maps", O_RDONLY);

	while ((n = read(fd, buf, sizeof(buf))) > 0 && size + n < (ssize_t)sizeof(all)) {
		memcpy(all + size, buf, n);
		size += n;
	}
	close(fd);
	put64(size);
	put(all, size);
}

int main(int argc, char **argv)
{
	void *warm[4];

	if (argc != 3)
		return 2;
	out = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
	find_stack();
	backtrace(warm, 4); // loads libgcc
	put_maps();
	const char *which = argv[2];
	if (!strcmp(which, "plain")) {
		recurse(3);
	} else if (!strcmp(which, "deep")) {
		recurse(300);
	} else if (!strcmp(which, "cut")) {
		max_copy = 4096;
		recurse(300);
	} else if (!strcmp(which, "library")) {
		through_library();
	} else if (!strcmp(which, "signal")) {
		signal(SIGUSR1, on_signal);
		raises(1);
	} else if (!strcmp(which, "altstack")) {
		stack_t ss = { .ss_size = 1 << 20 };
		ss.ss_sp = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		sigaltstack(&ss, NULL);
		struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
		sigaction(SIGUSR1, &sa, NULL);
		stack_end = (uint64_t)ss.ss_sp + ss.ss_size;
		raises(1);
	} else if (!strcmp(which, "fault")) {
		handle(SIGSEGV, on_fault, 0);
		faults(NULL);
	} else if (!strcmp(which, "null")) {
		handle(SIGSEGV, on_null, 0);
		calls_null(NULL);
	} else if (!strcmp(which, "thread")) {
		pthread_t t;
		pthread_create(&t, NULL, thread, NULL);
		pthread_join(t, NULL);
	} else if (!strcmp(which, "step")) {
		handle(SIGTRAP, on_fault, 0);
		steps(argc);
	} else {
		return 2;
	}
	return 0;
}
