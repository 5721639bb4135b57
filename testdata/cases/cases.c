/* SPDX-License-Identifier: Apache-2.0 */
//go:build ignore

/*
 * Growth that is not what is resident in mappings. "cases WHAT" is one of them, until its
 * input ends:
 *
 *   tables    sparse_set() touches one page of each 2 MiB, at random, and gives it back
 *   memfd     send_frame() maps a new memfd, fills it, unmaps it and forgets the descriptor
 *   written   the same, by write(2): nobody maps it
 *   window    a memfd that is written through a window of 64 KiB, which stays mapped
 *   sysv      post() attaches a new segment, fills it, detaches it and forgets it
 *   cache     cache_page() keeps the memfd that it has filled by write(2); render() closes its
 *             own, ten times as many, made by the same function
 *   rings     open_ring() sets an io_uring up, maps nothing and forgets the descriptor
 *   log       append() writes to a deleted file on tmpfs
 *   update    a process that has forked: update() writes to what it shares with its child
 *   serve     the same, in the child
 *   private   patch() writes to a private mapping of a file, which was read before
 *   reaped    a child that shares much is there, and ends half way
 *   crowd     spawn() makes a child every 300 ms, with 2 MiB each
 *   workers   start_worker() makes such a child by a function by which handle() makes ten that
 *             end at once
 *   collapse  every 50 ms a range of 2 MiB, of which one page is used, becomes a huge page
 *   freed     give_back() writes to 128 KiB more every 50 ms, and gives them back with MADV_FREE
 *   cached    append() writes to a deleted file on a disk, and many files are looked for that
 *             are not there
 *   split     register_buffer() gives every second page of a mapping other advice, one more
 *             each time
 *   reserve   reserve() maps 4 GiB without access, and forgets them
 *   refused   open_segment() asks for 1 MiB that RLIMIT_AS does not permit
 *   pageout   remember() keeps 128 KiB every 50 ms, which is swapped out
 *   hugetlb   fill_page() keeps a page of hugetlbfs every 500 ms
 *   threads   start_thread() makes a thread every 50 ms that ends at once and is never joined
 *   leader    the main thread ends; of another keep() maps 128 KiB every 50 ms
 *   again     the same in a process that executes itself again after 4 s
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define NOINLINE __attribute__((noinline, noclone))
#define KIB	 (1UL << 10)
#define MIB	 (1UL << 20)
#define GIB	 (1UL << 30)
#define HUGE	 (2 * MIB)
#define PAGE	 4096UL

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(3);
	}
}

static char *map(size_t n, int prot, int flags)
{
	char *p = mmap(NULL, n, prot, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED, "mmap");
	return p;
}

/* Until when to go on: the end of the input. */
static int goes_on(int ms)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};

	return !poll(&in, 1, ms);
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

NOINLINE void sparse_set(char *table, size_t slots)
{
	char *slot = table + (size_t)random() % slots * HUGE;

	*slot = 1;
	madvise(slot, PAGE, MADV_DONTNEED);
}

static void tables(void)
{
	const size_t slots = 512 * KIB; /* a terabyte */
	char *table = map(slots * HUGE, PROT_READ | PROT_WRITE, MAP_NORESERVE);

	while (goes_on(10))
		for (int i = 0; i < 8; i++)
			sparse_set(table, slots);
}

NOINLINE int new_memfd(unsigned n)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "frame-%u", n);
	fd = memfd_create(name, 0);
	must(fd >= 0, "memfd_create");
	return fd;
}

NOINLINE void send_frame(unsigned n)
{
	int fd = new_memfd(n);
	char *p;

	must(!ftruncate(fd, 128 * KIB), "ftruncate");
	p = mmap(NULL, 128 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(p != MAP_FAILED, "mmap");
	memset(p, 1, 128 * KIB);
	munmap(p, 128 * KIB);
}

static void append(int fd)
{
	static char text[128 * KIB];

	memset(text, 1, sizeof(text));
	must(write(fd, text, sizeof(text)) == (ssize_t)sizeof(text), "write");
}

NOINLINE void cache_page(unsigned n)
{
	append(new_memfd(n));
}

NOINLINE void render(unsigned n)
{
	int fd = new_memfd(n);

	append(fd);
	must(!close(fd), "close");
}

static void cache(void)
{
	for (unsigned n = 0; goes_on(50); n++) {
		for (int i = 0; i < 10; i++)
			render(n);
		cache_page(n);
	}
}

NOINLINE void open_ring(void)
{
	struct io_uring_params p = {0};

	must(syscall(SYS_io_uring_setup, 1024, &p) >= 0, "io_uring_setup");
}

NOINLINE void window(void)
{
	int fd = new_memfd(0);
	char *p = NULL;

	for (off_t at = 0; goes_on(25); at += 64 * KIB) {
		if (p)
			munmap(p, 64 * KIB);
		must(!ftruncate(fd, at + 64 * (off_t)KIB), "ftruncate");
		p = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
		must(p != MAP_FAILED, "mmap");
		memset(p, 1, 64 * KIB);
	}
}

NOINLINE int post(void)
{
	int id = shmget(IPC_PRIVATE, 128 * KIB, IPC_CREAT | 0600);
	char *p;

	must(id >= 0, "shmget");
	p = shmat(id, NULL, 0);
	must(p != (char *)-1, "shmat");
	memset(p, 1, 128 * KIB);
	shmdt(p);
	return id;
}

static void sysv(void)
{
	static int ids[4096];
	unsigned n = 0;

	while (goes_on(50) && n < sizeof(ids) / sizeof(ids[0]))
		ids[n++] = post();
	while (n > 0)
		shmctl(ids[--n], IPC_RMID, NULL);
}

static void tmp_log(void)
{
	char name[] = "/dev/shm/maptrace-case-XXXXXX";
	int fd = mkstemp(name);

	must(fd >= 0, "mkstemp");
	unlink(name);
	while (goes_on(50))
		append(fd);
}

static void cached(void)
{
	char name[] = "/var/tmp/maptrace-case-XXXXXX", absent[64];
	int fd = mkstemp(name);

	must(fd >= 0, "mkstemp");
	unlink(name);
	for (unsigned n = 0; goes_on(50); n++) {
		append(fd);
		for (unsigned i = 0; i < 200; i++) {
			snprintf(absent, sizeof(absent), "%s.%u.%u", name, n, i);
			must(access(absent, F_OK), "a file that must not be there");
		}
	}
}

NOINLINE void update(char *page)
{
	memset(page, 2, PAGE);
}

enum { cache_bytes = 96 << 20 };

/* A process and its child, which share a cache; one of them writes to it. */
static void forked(int child_writes)
{
	char *cache = map(cache_bytes, PROT_READ | PROT_WRITE, 0);
	int lives[2];
	pid_t child;

	madvise(cache, cache_bytes, MADV_NOHUGEPAGE);
	memset(cache, 1, cache_bytes);
	must(!pipe(lives), "pipe");
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		close(lives[1]);
		struct pollfd in = {.fd = lives[0], .events = POLLIN};

		for (size_t at = 0; !poll(&in, 1, 10); at += 4 * PAGE)
			for (size_t i = 0; child_writes && i < 4 && at + i * PAGE < cache_bytes;
			     i++)
				update(cache + at + i * PAGE);
		_exit(0);
	}
	close(lives[0]);
	ready();
	for (size_t at = 0; goes_on(10); at += 4 * PAGE)
		for (size_t i = 0; !child_writes && i < 4 && at + i * PAGE < cache_bytes; i++)
			update(cache + at + i * PAGE);
	close(lives[1]);
	waitpid(child, NULL, 0);
}

NOINLINE void patch(char *page)
{
	*page = 2;
}

static void private_file(void)
{
	char name[] = "/var/tmp/maptrace-case-XXXXXX";
	const size_t pages = 16 * KIB;
	int fd = mkstemp(name);
	char *p, sum = 0;

	must(fd >= 0, "mkstemp");
	unlink(name);
	for (size_t i = 0; i < pages * PAGE / (128 * KIB); i++)
		append(fd);
	p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	must(p != MAP_FAILED, "mmap");
	for (size_t i = 0; i < pages; i++)
		sum += ((volatile char *)p)[i * PAGE];
	must(sum == (char)pages, "what was written");
	ready();
	for (size_t i = 0; goes_on(10);)
		for (int n = 0; n < 4 && i < pages; n++)
			patch(p + i++ * PAGE);
}

static void reaped(void)
{
	char *cache = map(cache_bytes, PROT_READ | PROT_WRITE, 0);
	char *churn = map(MIB, PROT_READ | PROT_WRITE, 0);
	pid_t child;

	memset(cache, 1, cache_bytes);
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	ready();
	for (int i = 0; goes_on(100); i++) {
		/* Page faults that make nothing larger. */
		memset(churn, 1, MIB);
		madvise(churn, MIB, MADV_DONTNEED);
		if (i == 100) {
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
		}
	}
}

NOINLINE pid_t new_process(void)
{
	pid_t child = fork();

	must(child >= 0, "fork");
	return child;
}

static void serve(const int *lives)
{
	close(lives[1]);
	char *own = malloc(2 * MIB);

	must(own != NULL, "malloc");
	for (size_t i = 0; i < 2 * MIB; i += PAGE)
		((volatile char *)own)[i] = 1;
	struct pollfd in = {.fd = lives[0], .events = POLLIN};

	poll(&in, 1, -1);
	_exit(0);
}

NOINLINE void spawn(const int *lives)
{
	pid_t child = fork();

	must(child >= 0, "fork");
	if (!child)
		serve(lives);
}

NOINLINE void start_worker(const int *lives)
{
	if (!new_process())
		serve(lives);
}

NOINLINE void handle(void)
{
	pid_t child = new_process();

	if (!child)
		_exit(0);
	must(waitpid(child, NULL, 0) == child, "waitpid");
}

static void crowd(int shared)
{
	int lives[2];

	must(!pipe(lives), "pipe");
	while (goes_on(300)) {
		if (!shared) {
			spawn(lives);
			continue;
		}
		for (int i = 0; i < 10; i++)
			handle();
		start_worker(lives);
	}
	close(lives[0]);
	close(lives[1]);
	while (wait(NULL) > 0)
		;
}

static void collapse(void)
{
	const size_t ranges = 512;
	char *p = map((ranges + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_NORESERVE);

	p = (char *)(((size_t)p + HUGE - 1) & ~(HUGE - 1));
	madvise(p, ranges * HUGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < ranges; i++)
		p[i * HUGE] = 1;
	madvise(p, ranges * HUGE, MADV_HUGEPAGE);
	ready();
	for (size_t i = 0; goes_on(100);) {
		if (i == ranges)
			continue;
		if (!madvise(p + i * HUGE, HUGE, MADV_COLLAPSE))
			i++;
		else /* there may be no huge page now */
			must(errno != EINVAL, "MADV_COLLAPSE");
	}
}

NOINLINE void register_buffer(char *page)
{
	must(!madvise(page, PAGE, MADV_DONTFORK), "madvise");
}

static void split(void)
{
	const size_t pages = 16 * KIB;
	char *p = map(2 * pages * PAGE, PROT_READ | PROT_WRITE, MAP_NORESERVE);

	for (size_t i = 0; goes_on(10); i++)
		if (i < pages)
			register_buffer(p + 2 * i * PAGE);
}

NOINLINE void reserve(void)
{
	map(4096 * MIB, PROT_NONE, MAP_NORESERVE);
}

NOINLINE void *open_segment(void)
{
	void *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED || errno == ENOMEM, "mmap");
	return p;
}

static void refused(void)
{
	const struct rlimit few = {.rlim_cur = 64 * MIB, .rlim_max = 64 * MIB};

	must(!setrlimit(RLIMIT_AS, &few), "setrlimit");
	while (open_segment() != MAP_FAILED)
		;
	ready();
	while (goes_on(100))
		must(open_segment() == MAP_FAILED, "a mapping beyond the limit");
}

NOINLINE void give_back(char *p)
{
	memset(p, 1, 128 * KIB);
	must(!madvise(p, 128 * KIB, MADV_FREE), "MADV_FREE");
}

static void freed(void)
{
	const size_t all = GIB;
	char *p = map(all, PROT_READ | PROT_WRITE, MAP_NORESERVE);

	for (size_t at = 0; goes_on(50); at += 128 * KIB)
		give_back(p + at % all);
}

NOINLINE void remember(void)
{
	char *p = map(128 * KIB, PROT_READ | PROT_WRITE, 0);

	for (size_t i = 0; i < 128 * KIB; i++)
		p[i] = (char)random();
	must(!madvise(p, 128 * KIB, MADV_PAGEOUT), "MADV_PAGEOUT");
}

NOINLINE void fill_page(void)
{
	char *p = map(HUGE, PROT_READ | PROT_WRITE, MAP_HUGETLB);

	*p = 1;
}

static void *end_at_once(void *arg)
{
	volatile char stack[20000];

	memset((void *)stack, 1, sizeof(stack));
	return arg;
}

NOINLINE void start_thread(void)
{
	pthread_t t;

	must(!pthread_create(&t, NULL, end_at_once, NULL), "pthread_create");
}

NOINLINE void keep(void)
{
	memset(map(128 * KIB, PROT_READ | PROT_WRITE, 0), 1, 128 * KIB);
}

static void *keep_on(void *arg)
{
	(void)arg;
	ready();
	while (goes_on(50))
		keep();
	exit(0);
}

static void leaderless(void)
{
	pthread_t t;

	must(!pthread_create(&t, NULL, keep_on, NULL), "pthread_create");
	pthread_exit(NULL);
}

static void again(void)
{
	for (int n = 0; goes_on(50); n++) {
		keep();
		if (n == 80)
			execl("/proc/self/exe", "cases", "further", NULL);
	}
}

static void memfds(void)
{
	for (unsigned n = 0; goes_on(50); n++)
		send_frame(n);
}

static void written(void)
{
	for (unsigned n = 0; goes_on(50); n++)
		append(new_memfd(n));
}

static void update_here(void)
{
	forked(0);
}

static void update_in_child(void)
{
	forked(1);
}

static void children(void)
{
	crowd(0);
}

static void workers(void)
{
	crowd(1);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	static const struct {
		const char *what;
		void (*run)(void);
		int every; /* ms: it is run again and again, else once */
		int says;  /* itself when it is ready */
	} cases[] = {
		{"tables", tables, 0, 0},
		{"memfd", memfds, 0, 0},
		{"written", written, 0, 0},
		{"window", window, 0, 0},
		{"sysv", sysv, 0, 0},
		{"cache", cache, 0, 0},
		{"rings", open_ring, 50, 0},
		{"log", tmp_log, 0, 0},
		{"update", update_here, 0, 1},
		{"serve", update_in_child, 0, 1},
		{"private", private_file, 0, 1},
		{"reaped", reaped, 0, 1},
		{"crowd", children, 0, 0},
		{"workers", workers, 0, 0},
		{"collapse", collapse, 0, 1},
		{"freed", freed, 0, 0},
		{"cached", cached, 0, 0},
		{"split", split, 0, 0},
		{"reserve", reserve, 50, 0},
		{"refused", refused, 0, 1},
		{"pageout", remember, 50, 0},
		{"hugetlb", fill_page, 500, 0},
		{"threads", start_thread, 50, 0},
		{"leader", leaderless, 0, 1},
		{"again", again, 0, 0},
		{"further", keep, 50, 0},
	};
	/* clang-format on */

	for (unsigned i = 0; argc == 2 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].what))
			continue;
		if (!cases[i].says)
			ready();
		if (!cases[i].every)
			cases[i].run();
		while (cases[i].every && goes_on(cases[i].every))
			cases[i].run();
		return 0;
	}
	return 2;
}
