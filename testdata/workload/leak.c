/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * leak: a small server without clients that leaks.
 *
 *   leak [-r REQUESTS_PER_SECOND] [-d SECONDS]
 *
 * It handles RATE x SECONDS requests (by default 100 a second for 10 seconds), at an even pace; -d
 * 0 means until it is killed. The faults are in its design, and their size is known:
 *
 *   leak      handle_request -> cache_put -> leak_chunk: every 4th request keeps a 64 KiB mapping,
 *             touched whole, for good: 16 KiB a request
 *   heap      handle_request -> session_new: every request keeps 1,000 bytes of malloc, which come
 *             from the brk heap
 *   file      handle_request -> journal_write -> journal_extend: every 16th request makes the
 *             mapping of a file 64 KiB longer
 *   honest    handle_request -> parse: every request maps 128 KiB, uses it and unmaps it
 *
 * It prints nothing and exits with status 0, or 1 after a message. It never ends a thread, forks or
 * sets a signal handler.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
	CHUNK = 64 * 1024, /* leaked, and added to the file mapping */
	SCRATCH = 128 * 1024,
	SESSION = 1000,
};

/*
 * Functions that must be seen in stacks: not inlined, and not left by a jump, which the compiler
 * makes of a call at the end; hence the barrier after each such call.
 */
#define VISIBLE __attribute__((noinline))
#define STAY()	__asm__ volatile("" ::: "memory")

static void __attribute__((noreturn)) die(const char *what)
{
	dprintf(2, "leak: %s: %s\n", what, strerrorname_np(errno));
	_exit(1);
}

static char *map(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* ---- honest work ---- */

VISIBLE static void parse(uint64_t request)
{
	char *scratch = map(SCRATCH);
	memset(scratch, (int)request, SCRATCH / 4);
	STAY();
	munmap(scratch, SCRATCH);
	STAY();
}

/* ---- the leak: a cache without an end ---- */

struct entry {
	struct entry *older;
};

static struct entry *cache;

VISIBLE static struct entry *leak_chunk(void)
{
	char *p = map(CHUNK);
	memset(p, 1, CHUNK);
	STAY();
	return (struct entry *)p;
}

VISIBLE static void cache_put(void)
{
	struct entry *e = leak_chunk();
	e->older = cache;
	cache = e;
	STAY();
}

/* ---- the heap: sessions that nobody closes ---- */

struct session {
	struct session *older;
	char data[SESSION - sizeof(struct session *)];
};

static struct session *sessions;

VISIBLE static void session_new(uint64_t request)
{
	struct session *s = malloc(sizeof *s);
	if (!s)
		die("malloc");
	memset(s->data, (int)request, sizeof s->data);
	s->older = sessions;
	sessions = s;
	STAY();
}

/* ---- the file: a journal that is never cut ---- */

static struct {
	int fd;
	char *map;
	size_t len, used;
} journal;

VISIBLE static void journal_extend(void)
{
	size_t len = journal.len + CHUNK;
	if (ftruncate(journal.fd, len) < 0)
		die("extend the journal");
	if (journal.map)
		journal.map = mremap(journal.map, journal.len, len, MREMAP_MAYMOVE);
	else
		journal.map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, journal.fd, 0);
	if (journal.map == MAP_FAILED)
		die("map the journal");
	journal.len = len;
	STAY();
}

VISIBLE static void journal_write(uint64_t request)
{
	enum { RECORD = CHUNK / 16 };
	if (journal.used == journal.len)
		journal_extend();
	memcpy(journal.map + journal.used, &request, sizeof request);
	journal.used += RECORD;
	STAY();
}

static void journal_open(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[512];
	snprintf(path, sizeof path, "%s/leak-journal-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	journal.fd = mkostemp(path, O_CLOEXEC);
	if (journal.fd < 0)
		die("make the journal");
	unlink(path); /* it is killed more often than it ends */
}

/* ---- the server ---- */

VISIBLE static void handle_request(uint64_t request)
{
	parse(request);
	session_new(request);
	if (request % 4 == 0)
		cache_put();
	journal_write(request);
	STAY();
}

static void usage(void)
{
	dprintf(2, "usage: leak [-r REQUESTS_PER_SECOND] [-d SECONDS]\n");
	_exit(2);
}

int main(int argc, char **argv)
{
	double rate = 100, length = 10;
	for (int o; (o = getopt(argc, argv, "r:d:")) != -1;) {
		switch (o) {
		case 'r':
			rate = strtod(optarg, NULL);
			break;
		case 'd':
			length = strtod(optarg, NULL);
			break;
		default:
			usage();
		}
	}
	if (optind != argc || !(rate > 0) || !(length >= 0))
		usage();
	mallopt(M_MMAP_THRESHOLD, 1024 * 1024); /* all of malloc from the brk heap */
	journal_open();

	struct timespec start, at;
	clock_gettime(CLOCK_MONOTONIC, &start);
	uint64_t requests = length > 0 ? (uint64_t)(rate * length + 0.5) : UINT64_MAX;
	for (uint64_t i = 0; i < requests; i++) {
		/* By the clock, not by pauses: being slowed makes it late, not slower for good. */
		double due = i / rate;
		at.tv_sec = start.tv_sec + (time_t)due;
		at.tv_nsec = start.tv_nsec + (long)((due - (time_t)due) * 1e9);
		if (at.tv_nsec >= 1000000000)
			at.tv_sec++, at.tv_nsec -= 1000000000;
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
			;
		handle_request(i);
	}
	return 0;
}
