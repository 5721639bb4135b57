/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * refuse: a program that maps and unmaps as fast as it can, and now and then makes a call that the
 * kernel refuses, or stops halfway.
 *
 *   refuse [-t THREADS] [-s SEED] [-r CALLS] [-n CALLS_PER_THREAD] [-W]
 *
 * -r  of how many calls one is refused; 300 by default
 * -n  how many calls a thread makes; without it, until SIGTERM
 * -W  at the end prints "done" and waits for EOF on stdin; no mapping changes meanwhile
 *
 * It prints "at work" when it is.
 *
 * Each thread has a stage: pages far below everything that the kernel places by itself. A scene
 * sets some pages up, makes one call over them, and checks the errno. What it leaves is the next
 * scene's to map over. Where kernels differ in what is left, nobody here keeps books about it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

enum {
	MAX_THREADS = 64,
	STAGE = 64, /* pages */
	RW = PROT_READ | PROT_WRITE,
	ANON = MAP_PRIVATE | MAP_ANONYMOUS,
};

static const uintptr_t STAGES = 64ULL << 30, APART = 1ULL << 30;

struct worker {
	uint64_t rng;
	unsigned id;
};

static size_t ps;
static long calls = -1, rate = 300;
static int readonly_fd, file_fd, zero_fd, socket_fd, pipe_fd, segment;
static atomic_bool over;
static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t end_cond = PTHREAD_COND_INITIALIZER;
static long ended;

static void __attribute__((noreturn)) die(const char *what, int got)
{
	dprintf(2, "refuse: %s: %s\n", what, got ? strerrorname_np(got) : "success");
	_exit(1);
}

static uint64_t next(struct worker *w)
{
	uint64_t z = w->rng += 0x9e3779b97f4a7c15; /* splitmix64 */
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* The call must have ended with one of these errnos; 0 is success, and a second 0 says nothing. */
static void must(const char *what, bool failed, int want, int or)
{
	int got = failed ? errno : 0;
	if (got != want && (! or || got != or))
		die(what, got);
}

static char *page(const struct worker *w, size_t n)
{
	return (char *)STAGES + w->id * APART + n * ps;
}

static void map(struct worker *w, size_t at, size_t n, int prot, int flags, int fd)
{
	char *p = mmap(page(w, at), n * ps, prot, flags | MAP_FIXED, fd, 0);
	must("mmap of a stage", p != page(w, at), 0, 0);
}

static void anon(struct worker *w, size_t at, size_t n, int prot)
{
	map(w, at, n, prot, ANON, -1);
}

static void hole(struct worker *w, size_t at, size_t n)
{
	must("munmap of a stage", munmap(page(w, at), n * ps) < 0, 0, 0);
}

/* Two pages that no kernel makes one mapping of. */
static void two(struct worker *w, size_t at)
{
	anon(w, at, 1, RW);
	anon(w, at + 1, 1, PROT_READ);
}

static void *remap(struct worker *w, size_t from, size_t n, size_t to_n, int flags, size_t to)
{
	return mremap(page(w, from), n * ps, to_n * ps, flags, page(w, to));
}

/* ---- mremap ---- */

static void remap_several(struct worker *w)
{
	two(w, 0);
	must("mremap of two mappings", remap(w, 0, 2, 3, MREMAP_MAYMOVE, 0) == MAP_FAILED, EFAULT,
	     0);
}

/* Before 6.17 the target is gone then. */
static void remap_several_to(struct worker *w)
{
	two(w, 0);
	anon(w, 8, 4, RW);
	must("mremap of two mappings to another length",
	     remap(w, 0, 2, 3, MREMAP_MAYMOVE | MREMAP_FIXED, 8) == MAP_FAILED, EFAULT, 0);
}

static void remap_shrinks(struct worker *w)
{
	two(w, 0);
	anon(w, 2, 2, RW);
	anon(w, 8, 4, PROT_READ);
	must("mremap of three mappings to fewer pages",
	     remap(w, 0, 4, 2, MREMAP_MAYMOVE | MREMAP_FIXED, 8) == MAP_FAILED, EFAULT, 0);
}

/* What is cut off may be anything, holes too. */
static void remap_cuts_holes(struct worker *w)
{
	anon(w, 0, 1, RW);
	hole(w, 1, 1);
	anon(w, 2, 2, PROT_READ);
	must("mremap that cuts off a hole", remap(w, 0, 4, 1, 0, 0) == MAP_FAILED, 0, 0);
}

/* Since 6.17 the mappings and the gap between them move; before, the target is gone. */
static void remap_moves_several(struct worker *w)
{
	two(w, 0);
	hole(w, 2, 1);
	anon(w, 3, 1, RW);
	anon(w, 8, 6, PROT_READ);
	must("mremap of several to as many pages",
	     remap(w, 0, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, 8) == MAP_FAILED, 0, EFAULT);
}

/* A file that chooses its own place is not moved with others: since 6.17 the first page has moved.
 */
static void remap_moves_one(struct worker *w)
{
	size_t target = next(w) % 2 * 3;
	anon(w, 0, 1, RW);
	map(w, 1, 1, RW, MAP_PRIVATE, zero_fd);
	hole(w, 8, 3);
	if (target)
		anon(w, 8, target, PROT_READ);
	must("mremap of memory and a device",
	     remap(w, 0, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, 8) == MAP_FAILED, EFAULT, 0);
}

static void remap_nothing(struct worker *w)
{
	hole(w, 0, 1);
	anon(w, 1, 1, RW);
	anon(w, 8, 2, PROT_READ);
	must("mremap of a hole and a mapping",
	     remap(w, 0, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, 8) == MAP_FAILED, EFAULT, 0);
}

static void remap_onto_itself(struct worker *w)
{
	anon(w, 0, 4, RW);
	must("mremap onto itself",
	     remap(w, 0, 3, 3, MREMAP_MAYMOVE | MREMAP_FIXED, 1) == MAP_FAILED, EINVAL, 0);
}

/* Before 6.17 the target is gone then. */
static void remap_duplicates(struct worker *w)
{
	anon(w, 0, 1, RW);
	anon(w, 8, 2, PROT_READ);
	must("mremap of private memory with length 0",
	     remap(w, 0, 0, 2, MREMAP_MAYMOVE | MREMAP_FIXED, 8) == MAP_FAILED, EINVAL, 0);
}

static void remap_in_place(struct worker *w)
{
	anon(w, 0, 1, RW);
	anon(w, 1, 1, PROT_READ);
	must("mremap in place without room", remap(w, 0, 1, 2, 0, 0) == MAP_FAILED, ENOMEM, 0);
}

static void remap_keeps(struct worker *w)
{
	two(w, 0);
	anon(w, 8, 2, RW);
	must("mremap of two mappings, keeping them",
	     remap(w, 0, 2, 2, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 8) == MAP_FAILED, EFAULT, 0);
}

/* ---- mmap ---- */

static void file_over(struct worker *w, const char *what, int fd, int flags, int want)
{
	anon(w, 0, 4, PROT_READ);
	hole(w, next(w) % 4, 1);
	void *p = mmap(page(w, 1), 2 * ps, RW, flags | MAP_FIXED, fd, 0);
	must(what, p == MAP_FAILED, want, 0);
}

static void map_readonly(struct worker *w)
{
	file_over(w, "mmap of a read-only file for writing", readonly_fd, MAP_SHARED, EACCES);
}

/* A pipe cannot be mapped, and is not asked. A socket is, when the place has been made free. */
static void map_pipe(struct worker *w)
{
	file_over(w, "mmap of a pipe", pipe_fd, MAP_PRIVATE, ENODEV);
}

static void map_socket(struct worker *w)
{
	file_over(w, "mmap of a socket", socket_fd, MAP_SHARED, ENODEV);
}

static void map_over(struct worker *w)
{
	anon(w, 0, 2, RW);
	void *p = mmap(page(w, 1), 2 * ps, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	must("mmap MAP_FIXED_NOREPLACE", p == MAP_FAILED, EEXIST, 0);
}

static void map_too_much(struct worker *w)
{
	anon(w, 0, 2, RW);
	void *p = mmap(page(w, 0), 1UL << 62, PROT_NONE, ANON | MAP_FIXED, -1, 0);
	must("mmap of everything", p == MAP_FAILED, ENOMEM, 0);
}

/* ---- the others ---- */

/* With a gap it stops there, what is before is done. */
static void protect_gap(struct worker *w)
{
	two(w, 0);
	anon(w, 2, 1, PROT_NONE);
	hole(w, 3, 1);
	anon(w, 4, 2, RW);
	must("mprotect over a gap", mprotect(page(w, 0), 6 * ps, next(w) % 8) < 0, ENOMEM, 0);
}

static void protect_hole(struct worker *w)
{
	hole(w, 0, 1);
	anon(w, 1, 2, RW);
	must("mprotect from a hole", mprotect(page(w, 0), 2 * ps, PROT_READ) < 0, ENOMEM, 0);
}

static void protect_readonly(struct worker *w)
{
	two(w, 0);
	map(w, 2, 2, PROT_READ, MAP_SHARED, readonly_fd);
	anon(w, 4, 1, PROT_NONE);
	must("mprotect of a read-only file for writing", mprotect(page(w, 0), 5 * ps, RW) < 0,
	     EACCES, 0);
}

/* One file that may be written and one that may not. */
static void protect_files(struct worker *w)
{
	anon(w, 0, 1, PROT_NONE);
	map(w, 1, 1, PROT_READ, MAP_SHARED, file_fd);
	map(w, 2, 1, PROT_READ, MAP_SHARED, readonly_fd);
	must("mprotect of two files for writing", mprotect(page(w, 0), 3 * ps, RW) < 0, EACCES, 0);
}

static void protect_down(struct worker *w)
{
	anon(w, 0, 2, RW);
	must("mprotect PROT_GROWSDOWN of what does not grow",
	     mprotect(page(w, 1), ps, PROT_READ | PROT_GROWSDOWN) < 0, EINVAL, 0);
}

static void unmap_kernel(struct worker *w)
{
	must("munmap beyond the end", munmap(page(w, 0), 1UL << 62) < 0, EINVAL, 0);
}

static void advise_file(struct worker *w)
{
	two(w, 0);
	hole(w, 2, 1);
	anon(w, 3, 1, PROT_NONE);
	map(w, 4, 1, PROT_READ, MAP_PRIVATE, readonly_fd);
	anon(w, 5, 1, RW);
	must("madvise MADV_WIPEONFORK of a file", madvise(page(w, 0), 6 * ps, MADV_WIPEONFORK) < 0,
	     EINVAL, 0);
}

static void advise_gap(struct worker *w)
{
	two(w, 0);
	hole(w, 2, 1);
	anon(w, 3, 1, RW);
	must("madvise MADV_DONTFORK over a gap", madvise(page(w, 0), 4 * ps, MADV_DONTFORK) < 0,
	     ENOMEM, 0);
}

/* EINVAL: a kernel without names. */
static void name_file(struct worker *w)
{
	two(w, 0);
	hole(w, 2, 1);
	map(w, 3, 1, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
	map(w, 4, 1, PROT_READ, MAP_PRIVATE, readonly_fd);
	anon(w, 5, 1, RW);
	must("a name for a file",
	     prctl(PR_SET_VMA, 0, page(w, 0), 6 * ps, next(w) % 2 ? "first" : "second") < 0, EBADF,
	     EINVAL);
}

static void name_gap(struct worker *w)
{
	two(w, 0);
	hole(w, 2, 1);
	anon(w, 3, 1, RW);
	must("a name over a gap", prctl(PR_SET_VMA, 0, page(w, 0), 4 * ps, "gap") < 0, ENOMEM,
	     EINVAL);
}

static void rearrange(struct worker *w)
{
	anon(w, 0, 2, RW);
	must("remap_file_pages of private memory",
	     syscall(SYS_remap_file_pages, page(w, 0), ps, 0, 1, 0) < 0, EINVAL, 0);
}

static void lock_gap(struct worker *w)
{
	anon(w, 0, 1, RW);
	hole(w, 1, 1);
	must("mlock over a gap", mlock(page(w, 0), 2 * ps) < 0, ENOMEM, EAGAIN);
	must("munlock over a gap", munlock(page(w, 0), 2 * ps) < 0, ENOMEM, 0);
}

static void attach_over(struct worker *w)
{
	anon(w, 0, 2, RW);
	if (segment >= 0)
		must("shmat over memory", shmat(segment, page(w, 0), 0) == (void *)-1, EINVAL, 0);
	must("shmdt of no segment", shmdt(page(w, 0)) < 0, EINVAL, 0);
}

static void break_down(struct worker *w)
{
	(void)w;
	char *now = (char *)syscall(SYS_brk, 0);
	if ((char *)syscall(SYS_brk, 1) != now)
		die("brk(1) moved the break", 0);
}

static void (*const scenes[])(struct worker *) = {
	remap_several,	 remap_several_to, remap_shrinks,     remap_cuts_holes, remap_moves_several,
	remap_moves_one, remap_nothing,	   remap_onto_itself, remap_duplicates, remap_in_place,
	remap_keeps,	 map_readonly,	   map_pipe,	      map_socket,	map_over,
	map_too_much,	 protect_gap,	   protect_hole,      protect_readonly, protect_files,
	protect_down,	 unmap_kernel,	   advise_file,	      advise_gap,	name_file,
	name_gap,	 rearrange,	   lock_gap,	      attach_over,	break_down,
};

static void *work(void *arg)
{
	struct worker *w = arg;
	long due = 0, begun = 1000;
	for (long n = 0;
	     (calls < 0 || n < calls) && !atomic_load_explicit(&over, memory_order_relaxed);
	     n += 2) {
		char *p = mmap(NULL, ps, RW, ANON, -1, 0);
		must("mmap", p == MAP_FAILED, 0, 0);
		must("munmap", munmap(p, ps) < 0, 0, 0);
		if (w->id == 0 && begun && n >= begun) {
			begun = 0;
			if (write(1, "at work\n", 8) != 8)
				die("write", errno);
		}
		if (n < due)
			continue;
		due += rate;
		scenes[next(w) % (sizeof scenes / sizeof *scenes)](w);
	}
	pthread_mutex_lock(&end_lock);
	ended++;
	pthread_cond_broadcast(&end_cond);
	pthread_mutex_unlock(&end_lock);
	while (w->id != 0)
		pause();
	return NULL;
}

static void stop(int sig)
{
	(void)sig;
	atomic_store(&over, true);
}

static void set_up(void)
{
	int pipe_fds[2];
	char path[512];
	const char *tmp = getenv("TMPDIR");
	ps = sysconf(_SC_PAGESIZE);
	snprintf(path, sizeof path, "%s/refuse-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	file_fd = mkostemp(path, O_CLOEXEC);
	if (file_fd >= 0)
		unlink(path);
	readonly_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	zero_fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (file_fd < 0 || readonly_fd < 0 || zero_fd < 0 || socket_fd < 0 ||
	    pipe2(pipe_fds, O_CLOEXEC) < 0 || ftruncate(file_fd, 4 * ps) < 0)
		die("open", errno);
	pipe_fd = pipe_fds[0];
	segment = shmget(IPC_PRIVATE, 2 * ps, IPC_CREAT | 0600); /* a kernel may have none */
	if (segment >= 0) {
		void *p = shmat(segment, NULL, 0);
		shmctl(segment, IPC_RMID, NULL); /* gone with this process */
		if (p == (void *)-1)
			segment = -1;
	}
	signal(SIGTERM, stop);
}

static void usage(void)
{
	dprintf(2, "usage: refuse [-t THREADS] [-s SEED] [-r CALLS] [-n CALLS_PER_THREAD] [-W]\n");
	_exit(2);
}

int main(int argc, char **argv)
{
	static struct worker ws[MAX_THREADS];
	long threads = 1;
	uint64_t seed = 1;
	bool wait_after = false;
	char c;
	for (int o; (o = getopt(argc, argv, "t:s:r:n:W")) != -1;) {
		switch (o) {
		case 't':
			threads = atol(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			rate = atol(optarg);
			break;
		case 'n':
			calls = atol(optarg);
			break;
		case 'W':
			wait_after = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || threads < 1 || threads > MAX_THREADS || rate < 1)
		usage();
	set_up();
	for (long i = 0; i < threads; i++) {
		ws[i].id = i;
		ws[i].rng = seed * 1000003 + i;
		/* Nothing of ours must be there, or it would be mapped over. */
		char *p = mmap(page(&ws[i], 0), STAGE * ps, PROT_NONE, ANON | MAP_FIXED_NOREPLACE,
			       -1, 0);
		must("mmap of a stage", p != page(&ws[i], 0), 0, 0);
	}
	for (long i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, work, &ws[i]))
			die("pthread_create", EAGAIN);
	}
	work(&ws[0]);
	pthread_mutex_lock(&end_lock);
	while (ended < threads)
		pthread_cond_wait(&end_cond, &end_lock);
	pthread_mutex_unlock(&end_lock);
	if (wait_after) {
		if (write(1, "done\n", 5) != 5)
			die("write", errno);
		while (read(0, &c, 1) > 0)
			;
	}
	_exit(0);
}
