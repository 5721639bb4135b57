/* SPDX-License-Identifier: Apache-2.0 */
//go:build ignore

/*
 * What may go wrong in a process whose allocator is probed. Each line of its input is
 * something to do, which is answered by "ok", "ok PID", or what was wrong. Meanwhile a thread
 * allocates and frees all the time. own_malloc() calls a hook, as allocators do.
 */
#define _GNU_SOURCE
#include <execinfo.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

extern char **environ;

static _Thread_local void (*hook)(void);
static char self[4096];
static int works = 1;

NOINLINE void *own_malloc(size_t size)
{
	char *p = malloc(size + 16);

	if (hook)
		hook();
	return p + 16;
}

NOINLINE void own_free(void *p)
{
	free((char *)p - 16);
}

NOINLINE void use(size_t size)
{
	char *p = own_malloc(size);

	memset(p, 1, size);
	own_free(p);
}

/* Calls the allocator with a hook set. */
NOINLINE void with(void (*h)(void))
{
	hook = h;
	use(100);
	hook = NULL;
}

static void *churn(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (size_t n = 0; works; n++)
		use(32 + n % 64);
	return arg;
}

static int ended(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

/* A child that works, and does so again when its input ends. */
static pid_t child;
static int until[2], begun[2];

static void in_fork(void)
{
	char c;

	if (pipe(until) || pipe(begun))
		return;
	child = fork();
	if (child)
		return;
	hook = NULL;
	close(until[1]);
	for (int i = 0; i < 1000; i++)
		use(100);
	if (write(begun[1], "", 1) != 1)
		_exit(1);
	while (read(until[0], &c, 1) > 0)
		;
	for (int i = 0; i < 1000; i++)
		use(100);
}

static int good;

static void in_spawn(void)
{
	char *args[] = {self, "child", NULL};
	pid_t pid;

	good = !posix_spawn(&pid, self, NULL, NULL, args, environ) && ended(pid);
}

static void in_vfork(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl(self, self, "child", NULL);
		_exit(1);
	}
	good = pid > 0 && ended(pid);
}

static void in_exec(void)
{
	execl(self, self, NULL);
}
static void in_exit(void)
{
	_exit(0);
}

static sigjmp_buf back;
static void in_jump(void)
{
	siglongjmp(back, 1);
}

static void in_thread_exit(void)
{
	syscall(SYS_exit, 0);
}
static void in_pthread_exit(void)
{
	pthread_exit(NULL);
}

static void *run(void *h)
{
	with(*(void (**)(void))h);
	return h;
}

static int threads(void (*h)(void))
{
	pthread_t t;

	for (int i = 0; i < 20; i++)
		if (pthread_create(&t, NULL, run, &h) || pthread_join(t, NULL))
			return 0;
	return 1;
}

/* What backtrace(3) is right: through callers of ours, or to the page of the kernel's. */
static char *uprobes;

static int right(void **frames, int n, void *caller)
{
	for (int i = 0; i < n; i++)
		if (frames[i] == caller)
			return 1;
	return n > 0 && uprobes && (char *)frames[n - 1] >= uprobes &&
	       (char *)frames[n - 1] < uprobes + 4096;
}

static void find_uprobes(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned long start;

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[uprobes]") && sscanf(line, "%lx", &start) == 1)
			uprobes = (char *)start;
	if (f)
		fclose(f);
}

static void *caller;

static void in_backtrace(void)
{
	void *frames[64];
	int n = backtrace(frames, 64);

	good = right(frames, n, caller);
}

NOINLINE void traced(void (*h)(void))
{
	caller = __builtin_return_address(0);
	with(h);
	__asm__ volatile("" ::: "memory");
}

static atomic_long unwound, wrong;

static void on_profile(int sig)
{
	void *frames[64];
	int n = backtrace(frames, 64);

	(void)sig;
	unwound++;
	if (!right(frames, n, caller))
		wrong++;
}

NOINLINE void profiled(void)
{
	struct itimerval every = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};

	caller = __builtin_return_address(0);
	signal(SIGPROF, on_profile);
	setitimer(ITIMER_PROF, &every, NULL);
	while (unwound < 100)
		use(100);
	setitimer(ITIMER_PROF, &never, NULL);
	__asm__ volatile("" ::: "memory");
}

/* Threads that may call nothing but what an allocator calls. */
static atomic_int lived;

static void *confined(void *strict)
{
#define ALLOW(nr)                                                                                  \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit),
		ALLOW(SYS_brk),
		ALLOW(SYS_mmap),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = {sizeof(f) / sizeof(*f), f};

	own_free(own_malloc(100));
	if (strict ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)
		   : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
			     prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		syscall(SYS_exit, 1);
	for (int i = 0; i < 2000; i++)
		use(100);
	lived = 1;
	syscall(SYS_exit, 0);
	return NULL;
}

/* One whose system calls its own handler makes, as Wine's are. */
static volatile char selector;
static atomic_long refused;

static void on_refused(int sig)
{
	(void)sig;
	selector = 0; /* SYSCALL_DISPATCH_FILTER_ALLOW */
	refused++;
}

static void *dispatching(void *arg)
{
	struct sigaction sa = {.sa_handler = on_refused};

	sigaction(SIGSYS, &sa, NULL);
	own_free(own_malloc(100));
	if (prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &selector))
		return NULL;
	selector = 1; /* SYSCALL_DISPATCH_FILTER_BLOCK */
	for (int i = 0; i < 2000 && !refused; i++)
		use(100);
	selector = 0;
	prctl(59, 0, 0, 0, 0);
	lived = 1;
	return arg;
}

/* One that has a signal amid the allocator, whose handler allocates on a stack above. */
static void on_stack_above(int sig)
{
	(void)sig;
	hook = NULL;
	use(100);
}

static void in_signal(void)
{
	raise(SIGUSR1);
}

static void *two_stacks(void *above)
{
	stack_t ss = {.ss_sp = above, .ss_size = 1 << 18};
	struct sigaction sa = {.sa_handler = on_stack_above, .sa_flags = SA_ONSTACK};

	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	with(in_signal);
	lived = 1;
	return NULL;
}

static int stacks(void)
{
	char *both =
		mmap(NULL, 1 << 19, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t a;
	pthread_t t;

	pthread_attr_init(&a);
	pthread_attr_setstack(&a, both, 1 << 18);
	if (pthread_create(&t, &a, two_stacks, both + (1 << 18)))
		return 0;
	pthread_join(t, NULL);
	return lived;
}

/* Waits amid the allocator for the next line. */
static void in_wait(void)
{
	char line[64];

	puts("ok");
	good = fgets(line, sizeof(line), stdin) != NULL;
}

static int thread(void *(*f)(void *), void *arg)
{
	pthread_t t;

	lived = 0;
	if (pthread_create(&t, NULL, f, arg))
		return 0;
	pthread_join(t, NULL);
	return lived;
}

static int does(const char *what)
{
	static const struct {
		const char *name;
		void (*in)(void);
	} hooks[] = {
		{"spawn", in_spawn}, {"vfork", in_vfork}, {"exec", in_exec},
		{"exit", in_exit},   {"wait", in_wait},
	};
	char c;

	good = 0;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(*hooks); i++)
		if (!strcmp(what, hooks[i].name)) {
			with(hooks[i].in);
			return good;
		}
	if (!strcmp(what, "fork")) {
		with(in_fork);
		if (child == 0)
			_exit(7);
		close(begun[1]);
		if (read(begun[0], &c, 1) != 1)
			return 0;
		printf("%d\n", child);
		return 1;
	}
	if (!strcmp(what, "reap")) {
		close(until[1]);
		return ended(child);
	}
	if (!strcmp(what, "jump")) {
		for (volatile int i = 0; i < 2000; i++)
			if (!sigsetjmp(back, 0))
				with(in_jump);
		hook = NULL;
		return 1;
	}
	if (!strcmp(what, "thread exit"))
		return threads(in_thread_exit);
	if (!strcmp(what, "pthread_exit"))
		return threads(in_pthread_exit);
	if (!strcmp(what, "backtrace")) {
		find_uprobes();
		traced(in_backtrace);
		return good;
	}
	if (!strcmp(what, "profile")) {
		find_uprobes();
		unwound = wrong = 0;
		profiled();
		return !wrong;
	}
	if (!strcmp(what, "strict"))
		return thread(confined, self);
	if (!strcmp(what, "filter"))
		return thread(confined, NULL);
	if (!strcmp(what, "dispatch")) {
		refused = 0;
		return thread(dispatching, NULL) && !refused;
	}
	if (!strcmp(what, "two stacks"))
		return stacks();
	return 0;
}

int main(int argc, char **argv)
{
	char line[64];
	pthread_t t;
	void *frames[4];

	if (argc > 1 && !strcmp(argv[1], "child")) {
		for (int i = 0; i < 1000; i++)
			use(100);
		return 7;
	}
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return 1;
	setlinebuf(stdout);
	backtrace(frames, 4); /* it loads a library at first */
	pthread_create(&t, NULL, churn, NULL);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		puts(does(line) ? "ok" : "wrong");
	}
	works = 0;
	pthread_join(t, NULL);
	return 0;
}
