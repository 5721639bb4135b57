/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * loop: one operation over and over, for benchmarks.
 *
 *   loop [-c COUNTER_FILE] [-s SECONDS | -n OPS_PER_THREAD] MODE
 *
 * MODE says what one operation is:
 *   churn      mmap of 64 KiB, a touch of its first page, munmap; two mapping calls, one page fault
 *   churnt:T   the same, by each of T threads of one address space
 *   malloc     malloc of 64 bytes, a touch, free, but of one in 4,096: the heap grows, or nobody
 *              would look who keeps it
 *   serve      what a request may cost a server: 5,000 steps of computing, 20 pieces of 64 to
 *              2,048 bytes allocated and freed, and for every 256 requests 256 KiB mapped, touched
 *              and unmapped; 128 bytes of each request are leaked. All of it takes some 5 µs
 *   getppid    the cheapest system call, made directly
 *   faults     a touch of one page that is not there, of 32 MiB without huge pages; after every
 *              32 MiB one madvise(MADV_DONTNEED), whose price is thus spread over the touches
 *
 * Without -s and -n it runs until SIGTERM. At the end it prints "OPS ops NS ns/op": the operations
 * of all threads together, and the time one operation took the thread that made it.
 *
 * -c names a file that is made anew, with one cache line of 64 bytes per thread. Its first 8 bytes,
 * an integer in the machine's byte order, are the operations the thread has finished, always up to
 * date: a benchmark maps the file and sees the progress between any two moments. The file has its
 * full length before the first operation.
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
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256 };

static const size_t CHUNK = 64 * 1024, FAULTS = 32 * 1024 * 1024;

/* A cache line for each thread: counting must not make the threads wait for each other. */
struct line {
	_Alignas(64) _Atomic uint64_t done;
};

static struct line *lines;
static atomic_bool stop;
static uint64_t limit = UINT64_MAX; /* operations of each thread */
static bool (*one)(uint64_t i);	    /* the operation; false: errno says why not */

static size_t ps;
static char *fault_area;

static void __attribute__((noreturn)) die(const char *what)
{
	dprintf(2, "loop: %s: %s\n", what, strerrorname_np(errno));
	_exit(1);
}

static bool churn(uint64_t i)
{
	(void)i;
	char *p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	*(volatile char *)p = 1;
	return munmap(p, CHUNK) == 0;
}

static void *leaked;

static bool allocate(uint64_t i)
{
	enum { KEPT = 4096 };
	void **volatile p = malloc(64);

	if (!p)
		return false;
	*p = leaked;
	if (i % KEPT)
		free(p);
	else
		leaked = p;
	return true;
}

__attribute__((noipa)) static bool leak_of_request(void)
{
	void **p = malloc(128);
	if (!p)
		return false;
	*p = leaked;
	leaked = p;
	return true;
}

static bool serve(uint64_t i)
{
	enum { PIECES = 20, WORK = 5000, LARGE = 256 * 1024 };
	char *pieces[PIECES];
	volatile uint64_t hash = i;

	for (int p = 0; p < PIECES; p++) {
		pieces[p] = malloc(64 + (i * 31 + p * 97) % 1985);
		if (!pieces[p])
			return false;
		pieces[p][0] = 1;
	}
	for (int n = 0; n < WORK; n++)
		hash = hash * 31 + n;
	for (int p = 0; p < PIECES; p++)
		free(pieces[p]);
	if (i % 256 == 0) {
		char *large = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);
		if (large == MAP_FAILED)
			return false;
		for (size_t at = 0; at < LARGE; at += ps)
			((volatile char *)large)[at] = 1;
		if (munmap(large, LARGE) < 0)
			return false;
	}
	return leak_of_request();
}

static bool getppid_directly(uint64_t i)
{
	(void)i;
	syscall(SYS_getppid);
	return true;
}

static bool fault(uint64_t i)
{
	size_t at = i % (FAULTS / ps) * ps;
	if (at == 0 && i > 0 && madvise(fault_area, FAULTS, MADV_DONTNEED) < 0)
		return false;
	((volatile char *)fault_area)[at] = 1;
	return true;
}

static void *work(void *arg)
{
	_Atomic uint64_t *done = &((struct line *)arg)->done;
	for (uint64_t i = 0; i < limit && !atomic_load_explicit(&stop, memory_order_relaxed);) {
		if (!one(i))
			die("the operation failed");
		atomic_store_explicit(done, ++i, memory_order_relaxed);
	}
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
	atomic_store(&stop, true);
}

static void open_counters(const char *path, unsigned threads)
{
	size_t len = threads * sizeof *lines;
	int fd = -1, flags = MAP_SHARED | MAP_ANONYMOUS;
	if (path) {
		flags = MAP_SHARED;
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, len) < 0)
			die(path);
	}
	lines = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (lines == MAP_FAILED)
		die("map the counters");
	if (path)
		close(fd);
	/* The first store to each page of a file asks the file system; not in the loop, please. */
	for (unsigned i = 0; i < threads; i++)
		atomic_store(&lines[i].done, 0);
}

static void usage(void)
{
	dprintf(2, "usage: loop [-c COUNTER_FILE] [-s SECONDS | -n OPS_PER_THREAD] "
		   "churn|churnt:T|malloc|serve|getppid|faults\n");
	_exit(2);
}

static unsigned parse_mode(const char *mode)
{
	if (!strcmp(mode, "getppid")) {
		one = getppid_directly;
	} else if (!strcmp(mode, "malloc")) {
		one = allocate;
	} else if (!strcmp(mode, "serve")) {
		one = serve;
	} else if (!strcmp(mode, "faults")) {
		one = fault;
		fault_area = mmap(NULL, FAULTS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);
		if (fault_area == MAP_FAILED)
			die("map 32 MiB");
		/* EINVAL: a kernel without huge pages needs no telling. */
		if (madvise(fault_area, FAULTS, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
			die("MADV_NOHUGEPAGE");
	} else if (!strcmp(mode, "churn")) {
		one = churn;
	} else if (!strncmp(mode, "churnt:", 7)) {
		long threads = atol(mode + 7);
		if (threads < 1 || threads > MAX_THREADS)
			usage();
		one = churn;
		return threads;
	} else {
		usage();
	}
	return 1;
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static pthread_t ids[MAX_THREADS];
	const char *counters = NULL;
	double length = 0;
	for (int o; (o = getopt(argc, argv, "c:s:n:")) != -1;) {
		switch (o) {
		case 'c':
			counters = optarg;
			break;
		case 's':
			length = strtod(optarg, NULL);
			break;
		case 'n':
			limit = strtoull(optarg, NULL, 0);
			break;
		default:
			usage();
		}
	}
	if (optind + 1 != argc || length < 0 || (length > 0 && limit != UINT64_MAX))
		usage();
	ps = sysconf(_SC_PAGESIZE);
	unsigned threads = parse_mode(argv[optind]);
	open_counters(counters, threads);

	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	if (length > 0) {
		struct itimerspec at = {.it_value.tv_sec = (time_t)length,
					.it_value.tv_nsec = (length - (time_t)length) * 1e9};
		timer_t timer;
		if (timer_create(CLOCK_MONOTONIC, NULL, &timer) < 0 ||
		    timer_settime(timer, 0, &at, NULL) < 0)
			die("set the timer");
	}

	double start = seconds();
	for (unsigned i = 1; i < threads; i++) {
		errno = pthread_create(&ids[i], NULL, work, &lines[i]);
		if (errno)
			die("start a thread");
	}
	work(&lines[0]);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(ids[i], NULL);
	double took = seconds() - start;
	uint64_t done = 0;
	for (unsigned i = 0; i < threads; i++)
		done += atomic_load(&lines[i].done);
	dprintf(1, "%llu ops %.1f ns/op\n", (unsigned long long)done,
		done ? took * 1e9 * threads / done : 0);
	return 0;
}
