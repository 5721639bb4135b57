/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * leaks: a program with one leak and some innocents.
 *
 *   leaks MODE SECONDS BYTES_PER_SECOND
 *
 * Prints "culprit NAME OFFSET", the function that leaks and its address in the file (as a debugger
 * knows it before the program is loaded), then "ready", leaks for so many seconds and exits.
 * MODE is one of the names at the end of this file; "none" has the innocents alone.
 *
 * The innocents map memory themselves, in a thread of their own, so that no allocator mixes what
 * is theirs with what is leaked. All that they ever hold at once is less than 7 MiB:
 *
 *   warm_up       grows by 2 MiB in the first second, and then never again
 *   churn         maps, touches and unmaps 256 KiB
 *   cache_put     replaces the oldest of 32 pieces of 64 KiB
 *   gc_allocate   maps pieces of 64 KiB until there are 32, which gc_collect then unmaps
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

/* Functions that must keep their name and their frame. */
#define APART __attribute__((noipa))

static const size_t KIB = 1024, MIB = 1024 * 1024;

static size_t ps;	/* bytes of a page */
static double duration; /* seconds */
static size_t rate;	/* bytes a second */

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "leaks: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void touch(char *p, size_t len)
{
	for (size_t at = 0; at < len; at += ps)
		((volatile char *)p)[at] = 1;
}

/* ---- culprits: each leaks len bytes or a little more, and returns how many ---- */

static void *kept; /* a list of all that malloc gave */

static void keep(void *p)
{
	if (!p)
		die("malloc");
	*(void **)p = kept;
	kept = p;
}

/* Small pieces: the heap grows by brk. */
APART size_t leak_brk(size_t len)
{
	size_t done = 0;
	for (; done < len; done += 2 * KIB)
		keep(malloc(2 * KIB - 16));
	return done;
}

/* Pieces that malloc maps one by one. */
APART size_t leak_bigmalloc(size_t len)
{
	size_t done = 0;
	for (; done < len; done += 256 * KIB) {
		char *p = malloc(256 * KIB);
		keep(p);
		touch(p, 256 * KIB);
	}
	return done;
}

/* One piece that realloc makes longer, by mremap. */
APART size_t leak_realloc(size_t len)
{
	static char *log;
	static size_t size;
	size_t more = (len + 128 * KIB) / (128 * KIB) * (128 * KIB);
	log = realloc(log, size + more);
	if (!log)
		die("realloc");
	memset(log + size, 1, more);
	size += more;
	return more;
}

APART size_t leak_mmap(size_t len)
{
	size_t done = 0;
	for (; done < len; done += 64 * KIB) {
		char *p = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
		if (p == MAP_FAILED)
			die("mmap");
		touch(p, 64 * KIB);
	}
	return done;
}

/* Small pieces in a thread that is not the first: its arena grows by mprotect. */
APART size_t leak_arena(size_t len)
{
	size_t done = 0;
	for (; done < len; done += 2 * KIB)
		keep(malloc(2 * KIB - 16));
	return done;
}

/* Makes the file longer and maps what is new. Inlined, so that the culprit is the caller. */
static inline __attribute__((always_inline)) size_t extend(int fd, size_t *size, size_t len)
{
	size_t more = (len + 64 * KIB) / (64 * KIB) * (64 * KIB);
	if (ftruncate(fd, *size + more) < 0)
		die("ftruncate");
	char *p = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_SHARED, fd, *size);
	if (p == MAP_FAILED)
		die("mmap");
	touch(p, more);
	*size += more;
	return more;
}

/* A file in the working directory, without a name as soon as it is there. */
APART size_t leak_file(size_t len)
{
	static int fd = -1;
	static size_t size;
	char name[] = "leak-XXXXXX";
	if (fd < 0 && ((fd = mkstemp(name)) < 0 || unlink(name) < 0))
		die(name);
	return extend(fd, &size, len);
}

APART size_t leak_memfd(size_t len)
{
	static int fd = -1;
	static size_t size;
	if (fd < 0 && (fd = memfd_create("leak", MFD_CLOEXEC)) < 0)
		die("memfd_create");
	return extend(fd, &size, len);
}

static char *pool;
static size_t pool_size, pool_used;

/* Maps at once all that touch_slowly will ever use, and as much again. */
APART void reserve_pool(void)
{
	pool_size = (2 * duration * rate + 64 * MIB) / ps * ps;
	pool = mmap(NULL, pool_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool == MAP_FAILED)
		die("mmap");
	if (madvise(pool, pool_size, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
		die("madvise");
}

/* Nothing is mapped any more, but pages come into use one after the other. */
APART size_t touch_slowly(size_t len)
{
	size_t done = 0;
	for (; done < len && pool_used < pool_size; done += ps, pool_used += ps)
		((volatile char *)pool)[pool_used] = 1;
	return done;
}

APART size_t leak_shm(size_t len)
{
	size_t done = 0;
	for (; done < len; done += 256 * KIB) {
		int id = shmget(IPC_PRIVATE, 256 * KIB, IPC_CREAT | 0600);
		if (id < 0)
			die("shmget");
		char *p = shmat(id, NULL, 0);
		if (p == (char *)-1)
			die("shmat");
		if (shmctl(id, IPC_RMID, NULL) < 0) /* goes with the last that has it attached */
			die("shmctl");
		touch(p, 256 * KIB);
	}
	return done;
}

/* Uses the larger part of its stack, and then never ends. */
APART void *idle_thread(void *arg)
{
	char used[192 * 1024];
	touch(used, sizeof used);
	for (;;)
		pause();
	return arg;
}

/* Threads that nobody waits for; each keeps its stack. */
APART size_t leak_threads(size_t len)
{
	size_t done = 0;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	if ((errno = pthread_attr_setstacksize(&attr, 256 * KIB)))
		die("pthread_attr_setstacksize");
	for (; done < len; done += 192 * KIB) {
		pthread_t t;
		if ((errno = pthread_create(&t, &attr, idle_thread, NULL)))
			die("pthread_create");
	}
	pthread_attr_destroy(&attr);
	return done;
}

static size_t none(size_t len)
{
	return len;
}

/* ---- innocents ---- */

static inline __attribute__((always_inline)) char *map_piece(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	touch(p, len);
	return p;
}

static void unmap_piece(char *p, size_t len)
{
	if (munmap(p, len) < 0)
		die("munmap");
}

APART void warm_up(void)
{
	map_piece(64 * KIB);
}

APART void churn(void)
{
	char *p = map_piece(256 * KIB);
	unmap_piece(p, 256 * KIB);
}

APART void cache_put(void)
{
	static char *slots[32];
	static unsigned next;
	char *p = map_piece(64 * KIB);
	if (slots[next])
		unmap_piece(slots[next], 64 * KIB);
	slots[next] = p;
	next = (next + 1) % 32;
}

static char *young[32];
static unsigned nyoung;

APART void gc_collect(void)
{
	while (nyoung > 0)
		unmap_piece(young[--nyoung], 64 * KIB);
}

APART void gc_allocate(void)
{
	if (nyoung == 32)
		gc_collect();
	young[nyoung++] = map_piece(64 * KIB);
}

static void *innocents(void *arg)
{
	const struct timespec tick = {.tv_nsec = 20 * 1000 * 1000};
	double start = now();
	unsigned warm = 0;
	for (unsigned i = 0;; i++) {
		double t = now() - start;
		for (; warm < 32 && warm < t * 32; warm++)
			warm_up();
		churn();
		if (i % 2 == 0)
			cache_put();
		gc_allocate();
		nanosleep(&tick, NULL);
	}
	return arg;
}

/* ---- the program ---- */

static const struct {
	const char *mode, *name;
	size_t (*leak)(size_t);
} culprits[] = {
#define CULPRIT(mode, f)                                                                           \
	{                                                                                          \
		mode, #f, f                                                                        \
	}
	CULPRIT("brk", leak_brk),
	CULPRIT("bigmalloc", leak_bigmalloc),
	CULPRIT("realloc", leak_realloc),
	CULPRIT("mmap", leak_mmap),
	CULPRIT("arena", leak_arena),
	CULPRIT("file", leak_file),
	CULPRIT("memfd", leak_memfd),
	CULPRIT("touch", touch_slowly),
	CULPRIT("shm", leak_shm),
	CULPRIT("threads", leak_threads),
	CULPRIT("none", none),
};

static size_t (*leak)(size_t);

/* Leaks what is due by now, 50 times a second. */
static void *serve(void *arg)
{
	const struct timespec tick = {.tv_nsec = 20 * 1000 * 1000};
	double start = now();
	size_t done = 0;
	for (double t; (t = now() - start) < duration;) {
		size_t due = t * rate;
		if (due > done)
			done += leak(due - done);
		nanosleep(&tick, NULL);
	}
	return arg;
}

static int base_of_first(struct dl_phdr_info *info, size_t size, void *base)
{
	(void)size;
	*(uintptr_t *)base = info->dlpi_addr;
	return 1;
}

int main(int argc, char **argv)
{
	uintptr_t base = 0;
	pthread_t t;

	ps = sysconf(_SC_PAGESIZE);
	duration = argc == 4 ? atof(argv[2]) : 0;
	rate = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	for (size_t i = 0; argc == 4 && i < sizeof culprits / sizeof *culprits; i++) {
		if (strcmp(argv[1], culprits[i].mode))
			continue;
		leak = culprits[i].leak;
		dl_iterate_phdr(base_of_first, &base);
		printf("culprit %s 0x%lx\n", culprits[i].name, (uintptr_t)leak - base);
	}
	if (!leak || duration <= 0 || rate == 0) {
		fprintf(stderr, "usage: leaks MODE SECONDS BYTES_PER_SECOND\n");
		return 2;
	}
	if (leak == touch_slowly)
		reserve_pool();
	if ((errno = pthread_create(&t, NULL, innocents, NULL)))
		die("pthread_create");
	puts("ready");
	fflush(stdout);
	if (leak != leak_arena) {
		serve(NULL);
		return 0;
	}
	if ((errno = pthread_create(&t, NULL, serve, NULL)) || (errno = pthread_join(t, NULL)))
		die("thread");
	return 0;
}
