/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * hostile: tries to have a mapping believed that is not there, or not the one that is: each case is
 * a way to mislead who follows system calls. The cases need a process of its own each.
 *
 *   hostile CASE DIRECTORY
 *
 * Prints "done" or, where the kernel or the machine has not what the case needs, "unsupported:
 * why", and waits for the end of its input, as its children do, so that what they have can be
 * compared with what was believed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE   4096UL
#define VICTIM 0x20000000UL
#define PAGES  64

static const char *dir;

static void say(const char *s)
{
	if (write(1, s, strlen(s)) < 0)
		_exit(1);
}

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static void hold(void)
{
	char c;

	while (read(0, &c, 1) > 0)
		;
	_exit(0);
}

static void unsupported(const char *why)
{
	say("unsupported: ");
	say(why);
	say("\n");
	hold();
}

/* Ends the case: all that is to be compared stands still from here on. */
static void done(void)
{
	say("done\n");
	hold();
}

static void *map(unsigned long at, unsigned long pages, int prot, int flags, int fd)
{
	void *p = mmap((void *)at, pages * PAGE, prot, MAP_FIXED | flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

static void *victim(int prot)
{
	char *p = map(VICTIM, PAGES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	memset(p, 0xc3, PAGES * PAGE);
	return p;
}

/* Forks a child that stands still once it is there. */
static void bear(void)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (!pid)
		hold();
}

static int new_file(const char *name, unsigned long pages)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT, 0666);
	if (fd < 0 || ftruncate(fd, pages * PAGE))
		fail(path);
	return fd;
}

#if defined(__x86_64__)
static long int80(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return r;
}

static long plain(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r), "+D"(a), "+S"(b), "+d"(c)
			 : "0"(nr)
			 : "rcx", "r11", "memory");
	return r;
}

/* munmap with a third argument of 1 gives ENOSYS, with one of 2 success, and does nothing. */
static void fake_munmap(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof(f) / sizeof(f[0]), f};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0))
		fail("seccomp");
}

static volatile int hits;

static void in_handler(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	hits += plain(SYS_munmap, VICTIM, PAGES * PAGE, 2) == 0;
}

/* A stack for handlers that no thread has touched: to write a frame there faults. */
static void fresh_stack(int i)
{
	stack_t s = {.ss_size = 16 * PAGE};

	s.ss_sp = map(0x400000000UL + i * 0x100000UL, 16, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (sigaltstack(&s, NULL))
		fail("sigaltstack");
}

static void catch_signals(void)
{
	struct sigaction sa = {.sa_sigaction = in_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	if (sigaction(SIGUSR1, &sa, NULL))
		fail("sigaction");
}

static volatile pid_t main_tid;
static volatile int over;

static void *kick(void *arg)
{
	(void)arg;
	while (!over) {
		syscall(SYS_tgkill, getpid(), main_tid, SIGUSR1);
		for (volatile int i = 0; i < 20000; i++)
			;
	}
	return NULL;
}

/* A call that is refused with ENOSYS looks as one that runs while its signal is delivered. */
static void forged_stamp(void)
{
	sigset_t set;
	pthread_t t;

	victim(PROT_READ | PROT_WRITE | PROT_EXEC);
	fake_munmap();
	catch_signals();
	main_tid = syscall(SYS_gettid);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_create(&t, NULL, kick, NULL);
	for (int i = 0; i < 200 && hits < 20; i++) {
		fresh_stack(i);
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
		for (int j = 0; j < 300; j++)
			plain(SYS_munmap, VICTIM, PAGES * PAGE, 1);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
	}
	over = 1;
	pthread_join(t, NULL);
	done();
}

/* A debugger writes into the registers that a thread is about to return with. */
static void forged_registers(void)
{
	pid_t tracer, me = getpid();
	int status;

	victim(PROT_READ | PROT_WRITE | PROT_EXEC);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	catch_signals();
	fresh_stack(0);
	fake_munmap();
	tracer = fork();
	if (!tracer) {
		struct user_regs_struct r;

		if (ptrace(PTRACE_ATTACH, me, 0, 0))
			_exit(2);
		waitpid(me, &status, __WALL);
		ptrace(PTRACE_CONT, me, 0, 0);
		usleep(20000);
		kill(me, SIGUSR1);
		waitpid(me, &status, __WALL);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGUSR1)
			_exit(3);
		ptrace(PTRACE_GETREGS, me, 0, &r);
		r.orig_rax = SYS_munmap;
		r.rax = -ENOSYS;
		r.rdi = VICTIM;
		r.rsi = PAGES * PAGE;
		r.rdx = 2;
		if (ptrace(PTRACE_SETREGS, me, 0, &r))
			_exit(4);
		ptrace(PTRACE_DETACH, me, 0, SIGUSR1);
		hold();
	}
	while (!hits && waitpid(tracer, &status, WNOHANG) == 0)
		plain(SYS_sched_yield, 0, 0, 0);
	if (!hits && WIFEXITED(status) && WEXITSTATUS(status) == 2)
		unsupported("ptrace is not allowed");
	if (!hits)
		fail("the tracer has failed");
	done();
}

static void advice_by_int80(void)
{
	victim(PROT_READ | PROT_WRITE);
	if (int80(219, VICTIM, PAGES * PAGE, MADV_DONTFORK))
		unsupported("no 32-bit system calls");
	bear();
	done();
}

/* A second stack that only a 32-bit call tells of. */
static void second_stack(void)
{
	struct {
		uint32_t addr, len, prot, flags, fd, offset;
	} *a = map(0x10000000, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *low;

	a->addr = 0x20010000;
	a->len = PAGE;
	a->prot = PROT_READ | PROT_WRITE;
	a->flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
	a->fd = -1;
	if (int80(90, (long)a, 0, 0) != (long)a->addr) /* old_mmap */
		unsupported("no 32-bit system calls");
	usleep(200000); /* until that was looked at */
	low = (char *)0x20010000UL;
	for (int i = 1; i < 8; i++)
		*(volatile char *)(low - i * PAGE) = 1;
	done();
}
#else
static void not_here(void)
{
	unsupported("for x86 only");
}
#define forged_stamp	 not_here
#define forged_registers not_here
#define advice_by_int80	 not_here
#define second_stack	 not_here
#endif

static int evil, innocent, shared_fd;
static volatile int flips;

static void *flip(void *arg)
{
	unsigned char v;

	(void)arg;
	flips = 1;
	while (mincore((void *)0x200000000UL, PAGE, &v))
		;
	dup2(innocent, shared_fd);
	return NULL;
}

/* The descriptor of a mapping is another file's by the time that the call returns. */
static void other_descriptor(void)
{
	unsigned long pages = (64UL << 20) / PAGE;
	pthread_t t;
	void *p;

	evil = new_file("evil", pages);
	innocent = new_file("innocent", pages);
	shared_fd = dup(evil);
	p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, evil, 0);
	memset(p, 0, pages * PAGE);
	munmap(p, pages * PAGE);
	pthread_create(&t, NULL, flip, NULL);
	while (!flips)
		;
	map(0x200000000UL, pages, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_POPULATE, shared_fd);
	pthread_join(t, NULL);
	done();
}

static void *advise_once(void *arg)
{
	if (madvise((void *)VICTIM, PAGES * PAGE, MADV_DONTFORK))
		fail("a call that is answered");
	return arg;
}

/* The first call of a thread is not executed: nothing was seen of it before. */
static void first_call_answered(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, VICTIM, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof(f) / sizeof(f[0]), f};
	pthread_t t;

	victim(PROT_READ | PROT_WRITE | PROT_EXEC);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0))
		fail("seccomp");
	pthread_create(&t, NULL, advise_once, NULL);
	pthread_join(t, NULL);
	bear();
	done();
}

/* Where the heap ends is set by prctl, with the lock held for reading only. */
static void moved_break(void)
{
	struct prctl_mm_map m = {.exe_fd = -1};
	unsigned long v[52] = {0}, base;
	char text[4096], *at;
	FILE *f = fopen("/proc/self/stat", "r");
	size_t n = fread(text, 1, sizeof(text) - 1, f);

	text[n] = 0;
	fclose(f);
	at = strrchr(text, ')') + 2;
	for (int i = 3; i < 52 && at; i++, at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL)
		v[i] = strtoul(at, NULL, 10);
	m.start_code = v[26];
	m.end_code = v[27];
	m.start_stack = v[28];
	m.start_data = v[45];
	m.end_data = v[46];
	m.start_brk = v[47];
	m.arg_start = v[48];
	m.arg_end = v[49];
	m.env_start = v[50];
	m.env_end = v[51];
	base = m.start_brk + (64UL << 20);
	m.brk = base;
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &m, sizeof(m), 0))
		unsupported("PR_SET_MM_MAP is not there");
	if ((unsigned long)syscall(SYS_brk, base + 32 * PAGE) != base + 32 * PAGE)
		fail("brk");
	done();
}

static void advice_by_pidfd(void)
{
	struct iovec v = {(void *)VICTIM, PAGES * PAGE};
	int fd = syscall(SYS_pidfd_open, getpid(), 0);

	victim(PROT_READ | PROT_WRITE);
	if (syscall(SYS_process_madvise, fd, &v, 1UL, MADV_DONTFORK, 0U) < 0)
		unsupported("process_madvise gives no fork advice");
	close(fd);
	bear();
	done();
}

static void advice_by_uring(void)
{
	struct io_uring_params p = {0};
	struct io_uring_sqe *s;
	int fd = syscall(SYS_io_uring_setup, 4, &p);
	char *sq;

	if (fd < 0)
		unsupported("no io_uring");
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE,
		  MAP_SHARED, fd, IORING_OFF_SQ_RING);
	s = mmap(NULL, p.sq_entries * sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 IORING_OFF_SQES);
	if (sq == MAP_FAILED || s == MAP_FAILED)
		fail("mmap of a ring");
	victim(PROT_READ | PROT_WRITE);
	memset(s, 0, sizeof(*s));
	s->opcode = IORING_OP_MADVISE;
	s->addr = VICTIM;
	s->len = PAGES * PAGE;
	s->fadvise_advice = MADV_DONTFORK;
	((unsigned *)(sq + p.sq_off.array))[0] = 0;
	(*(unsigned *)(sq + p.sq_off.tail))++;
	if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		fail("io_uring_enter");
	close(fd);
	usleep(200000); /* until that was looked at */
	bear();
	done();
}

static unsigned long stack_low(void)
{
	unsigned long lo = 0, hi;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof(line), f))
		if (strstr(line, "[stack]"))
			sscanf(line, "%lx-%lx", &lo, &hi);
	fclose(f);
	return lo;
}

static void touch_below(unsigned long low)
{
	for (int i = 1; i <= 16; i++)
		*(volatile char *)(low - i * PAGE) = 1;
}

/* A hole makes two of the stack, of which each can grow. */
static void stack_with_a_hole(void)
{
	char big[64 * PAGE];
	unsigned long low;

	memset(big, 1, sizeof(big));
	low = stack_low();
	if (munmap((void *)(low + 4 * PAGE), 8 * PAGE))
		fail("munmap");
	*(volatile char *)(low + 11 * PAGE) = 1; /* the upper half */
	done();
}

/* A copy of a page of the stack can grow as well. */
static void stack_copied_away(void)
{
	char big[64 * PAGE];
	unsigned long low, to = 0x30010000;

	memset(big, 1, sizeof(big));
	low = stack_low();
	if (mremap((void *)low, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | 4 /* DONTUNMAP */,
		   to) == MAP_FAILED)
		unsupported("no MREMAP_DONTUNMAP");
	touch_below(to);
	done();
}

/* What is neither a regular file nor a device need not be of huge pages. */
static void mapped_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char *p = mmap((void *)VICTIM, 8 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);

	if (p == MAP_FAILED)
		unsupported("a socket cannot be mapped");
	map(VICTIM + 8 * PAGE, 600, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
	    -1);
	mremap(p, 8 * PAGE, 4 * PAGE, 0);
	mremap(p, 4 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x30000000);
	done();
}

/* Whether what can be read can be executed depends on the mount. */
static void implied_exec(void)
{
	char path[512];
	int fd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", MS_NOEXEC, NULL))
		unsupported("file systems cannot be mounted");
	snprintf(path, sizeof(path), "%s/f", dir);
	fd = open(path, O_RDWR | O_CREAT, 0666);
	if (fd < 0 || ftruncate(fd, 16 * PAGE))
		fail(path);
	map(0x20000000, 4, PROT_READ, MAP_SHARED, fd);
	map(0x20400000, 4, PROT_READ, MAP_SHARED, memfd_create("x", 0));
	personality(personality(0xffffffff) | READ_IMPLIES_EXEC);
	map(0x20100000, 4, PROT_READ, MAP_SHARED, fd);
	map(0x20200000, 4, PROT_READ, MAP_PRIVATE, fd);
	mprotect((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE);
	syscall(SYS_remap_file_pages, 0x20400000, PAGE, 0, 0, 0);
	map(0x20300000, 4, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	done();
}

/* Files that are called as the kernel calls what has no name. */
static void borrowed_names(void)
{
	static const char *const names[] = {"[heap]", "memfd:x", "SYSV00000000", "[anon:x]",
					    "anon_hugepage"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		map(0x20000000 + i * 0x100000, 4, PROT_READ, i % 2 ? MAP_SHARED : MAP_PRIVATE,
		    new_file(names[i], 4));
	done();
}

/* Files of a stacked file system are mapped as those of another. */
static void stacked_files(void)
{
	char o[2048], path[600];
	int fd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, "tmpfs", 0, NULL))
		unsupported("file systems cannot be mounted");
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%c", dir, "lumw"[i]);
		mkdir(path, 0777);
	}
	close(new_file("l/lower", 4));
	snprintf(o, sizeof(o), "lowerdir=%s/l,upperdir=%s/u,workdir=%s/w", dir, dir, dir);
	snprintf(path, sizeof(path), "%s/m", dir);
	if (mount("none", path, "overlay", 0, o))
		unsupported("no overlayfs");
	snprintf(path, sizeof(path), "%s/m/lower", dir);
	fd = open(path, O_RDONLY);
	map(0x20000000, 4, PROT_READ, MAP_SHARED, fd);
	map(0x20100000, 4, PROT_READ | PROT_WRITE, MAP_SHARED, new_file("m/upper", 4));
	done();
}

/* A file has the name of where it is mounted. */
static void mounted_file(void)
{
	char source[512], target[512];
	int fd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		unsupported("file systems cannot be mounted");
	close(new_file("source", 4));
	close(new_file("target", 4));
	snprintf(source, sizeof(source), "%s/source", dir);
	snprintf(target, sizeof(target), "%s/target", dir);
	if (mount(source, target, NULL, MS_BIND, NULL))
		unsupported("a file cannot be mounted on another");
	fd = open(target, O_RDONLY);
	map(0x20000000, 4, PROT_READ, MAP_SHARED, fd);
	done();
}

/* A file is renamed, and another takes its name. */
static void renamed_file(void)
{
	char from[512], to[512];
	int fd = new_file("before", 4);

	map(0x20000000, 4, PROT_READ, MAP_SHARED, fd);
	snprintf(from, sizeof(from), "%s/before", dir);
	snprintf(to, sizeof(to), "%s/after", dir);
	if (rename(from, to))
		fail("rename");
	map(0x20100000, 4, PROT_READ, MAP_SHARED, new_file("before", 4));
	done();
}

/* What is attached for reading can never be written to, whatever was found to be mapped there. */
static void readonly_segment(void)
{
	int id = shmget(IPC_PRIVATE, 4 * PAGE, 0600);

	map(VICTIM, 4, PROT_READ, MAP_SHARED, memfd_create("x", 0));
	map(VICTIM + 4 * PAGE, 4, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (id < 0 || shmat(id, (void *)VICTIM, SHM_RDONLY | SHM_REMAP) == (void *)-1)
		fail("shmat");
	mprotect((void *)VICTIM, 8 * PAGE, PROT_READ | PROT_WRITE); /* EACCES */
	mprotect((void *)(VICTIM + 4 * PAGE), 4 * PAGE, PROT_READ);
	mprotect((void *)(VICTIM + 2 * PAGE), 4 * PAGE, PROT_READ | PROT_WRITE);
	shmctl(id, IPC_RMID, NULL);
	done();
}

/* Private memory of /dev/zero is anonymous: where it is moved to tells its offset. */
static void moved_zero(void)
{
	int fd = open("/dev/zero", O_RDWR);

	for (int i = 0; i < 3; i++) {
		unsigned long at = 0x20000000 + i * 0x100000;
		char *p = map(at, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);

		if (i == 1) /* once touched it keeps its own */
			memset(p, 1, 8 * PAGE);
		if (mremap(p, 8 * PAGE, (i == 2 ? 4 : 8) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   at + 0x2000000) == MAP_FAILED)
			fail("mremap");
	}
	bear();
	done();
}

/* Where a mapping begins that is amid others like it is what only the kernel knows. */
static void alike_below(void)
{
	for (int i = 0; i < 4; i++) {
		unsigned long at = 0x20000000 + i * 0x100000;
		char *p = map(at + 8 * PAGE, 4, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1);

		if (i % 2) /* such as do not merge with it */
			memset(p, 1, 4 * PAGE);
		p = map(at, 8, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | (i < 2 ? MAP_GROWSDOWN : 0), -1);
		if (i % 2)
			memset(p, 1, 8 * PAGE);
		mprotect((void *)(at + 10 * PAGE), PAGE, PROT_READ | PROT_GROWSDOWN);
	}
	done();
}

/* What is mapped of anonymous inodes has one inode number, whatever it is. */
static void one_inode(void)
{
	struct perf_event_attr event = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.size = sizeof(event),
	};
	union bpf_attr array = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = 4,
		.value_size = 64,
		.max_entries = 64,
		.map_flags = BPF_F_MMAPABLE,
	};

	int perf = syscall(SYS_perf_event_open, &event, 0, -1, -1, 0);
	int bpf = syscall(SYS_bpf, BPF_MAP_CREATE, &array, sizeof(array));

	if (perf < 0 || bpf < 0)
		unsupported("perf events or BPF maps");
	map(0x20000000, 1, PROT_READ, MAP_SHARED, perf);
	map(0x20100000, 1, PROT_READ, MAP_SHARED, bpf);
	map(0x20200000, 1, PROT_READ, MAP_SHARED, perf);
	done();
}

int main(int argc, char **argv)
{
	/* clang-format off */
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"forged-stamp", forged_stamp},
		{"forged-registers", forged_registers},
		{"first-call-answered", first_call_answered},
		{"other-descriptor", other_descriptor},
		{"moved-break", moved_break},
		{"advice-by-int80", advice_by_int80},
		{"advice-by-pidfd", advice_by_pidfd},
		{"advice-by-uring", advice_by_uring},
		{"stack-with-a-hole", stack_with_a_hole},
		{"stack-copied-away", stack_copied_away},
		{"second-stack", second_stack},
		{"mapped-socket", mapped_socket},
		{"implied-exec", implied_exec},
		{"borrowed-names", borrowed_names},
		{"stacked-files", stacked_files},
		{"mounted-file", mounted_file},
		{"renamed-file", renamed_file},
		{"readonly-segment", readonly_segment},
		{"moved-zero", moved_zero},
		{"alike-below", alike_below},
		{"one-inode", one_inode},
	};
	/* clang-format on */

	if (argc == 1) {
		for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			puts(cases[i].name);
		return 0;
	}
	if (argc != 3) {
		fprintf(stderr, "usage: %s CASE DIRECTORY\n", argv[0]);
		return 2;
	}
	dir = argv[2];
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!strcmp(argv[1], cases[i].name))
			cases[i].run();
	fprintf(stderr, "%s: no such case\n", argv[1]);
	return 2;
}
