/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * server: a server all of whose memory is from one malloc heap, with one leak.
 *
 *   server MODE SECONDS BYTES_PER_SECOND
 *
 * Prints "culprit NAME OFFSET" and "ready", as leaks.c, and leaks so many bytes a second of
 * sessions: with "logins" each that login makes, with "fifth" one in five of those that
 * new_session makes; the others are freed at once, and the next has the same address and contents.
 *
 * The innocents allocate a hundred times as much:
 *
 *   render        makes pieces of pages that release_pages frees 20 ms later
 *   parse         makes strings that it frees itself
 *   cache_put     replaces the oldest of 500 entries
 *
 * Everybody asks xmalloc for memory, by pool_alloc.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Functions that must keep their name and their frame. */
#define APART __attribute__((noipa))

enum { SESSION = 1200, TIMES = 100, TICKS_A_SECOND = 200, LIFE = 4 /* ticks */ };

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "server: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* ---- what everybody uses ---- */

APART void *xmalloc(size_t size)
{
	void *p = malloc(size);
	if (!p)
		die("malloc");
	return p;
}

APART void *pool_alloc(size_t size)
{
	return xmalloc((size + 15) / 16 * 16);
}

/* ---- the culprits: each returns how many bytes it keeps ---- */

struct session {
	struct session *next;
	char body[SESSION - sizeof(struct session *)];
};

static struct session *sessions; /* nobody ever ends one */

APART size_t login(unsigned n)
{
	struct session *s = pool_alloc(sizeof *s);
	memset(s->body, 'a' + n % 26, sizeof s->body);
	s->next = sessions;
	sessions = s;
	return sizeof *s;
}

APART size_t new_session(unsigned n)
{
	struct session *s = pool_alloc(sizeof *s);
	memset(s->body, 'x', sizeof s->body);
	if (n % 5) {
		free(s);
		return 0;
	}
	s->next = sessions;
	sessions = s;
	return sizeof *s;
}

/* ---- innocents ---- */

struct piece {
	struct piece *next;
	char text[];
};

static struct piece *pages[LIFE];

/* A piece of a page, which is needed until it is sent. */
APART size_t render(unsigned n)
{
	size_t len = 200 + n * 131 % 2800;
	struct piece *p = pool_alloc(sizeof *p + len);
	memset(p->text, 'r', len);
	p->next = pages[0];
	pages[0] = p;
	return len;
}

APART void release_pages(void)
{
	struct piece *p = pages[LIFE - 1];
	memmove(pages + 1, pages, sizeof pages - sizeof *pages);
	pages[0] = NULL;
	while (p) {
		struct piece *next = p->next;
		free(p);
		p = next;
	}
}

APART size_t parse(unsigned n)
{
	char *words[16];
	size_t done = 0;
	for (unsigned i = 0; i < 16; i++) {
		size_t len = 50 + (n + i) * 37 % 700;
		words[i] = pool_alloc(len);
		memset(words[i], 'p', len);
		done += len;
	}
	for (unsigned i = 0; i < 16; i++)
		free(words[i]);
	return done;
}

APART size_t cache_put(unsigned n)
{
	static char *entries[500];
	size_t len = 100 + n * 53 % 400;
	free(entries[n % 500]);
	entries[n % 500] = pool_alloc(len);
	memset(entries[n % 500], 'c', len);
	return len;
}

/* ---- the program ---- */

static const struct {
	const char *mode, *name;
	size_t (*leak)(unsigned);
} culprits[] = {
	{"logins", "login", login},
	{"fifth", "new_session", new_session},
};

/* One request: what the server does for each, and now and then a session. */
static size_t request(unsigned n)
{
	size_t done = render(n) + parse(n);
	if (n % 16 == 0)
		done += cache_put(n / 16);
	return done;
}

static int base_of_first(struct dl_phdr_info *info, size_t size, void *base)
{
	(void)size;
	*(uintptr_t *)base = info->dlpi_addr;
	return 1;
}

int main(int argc, char **argv)
{
	const struct timespec tick = {.tv_nsec = 1000 * 1000 * 1000 / TICKS_A_SECOND};
	const double duration = argc == 4 ? atof(argv[2]) : 0;
	const size_t rate = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	size_t (*leak)(unsigned) = NULL;
	uintptr_t base = 0;

	for (size_t i = 0; argc == 4 && i < sizeof culprits / sizeof *culprits; i++) {
		if (strcmp(argv[1], culprits[i].mode))
			continue;
		leak = culprits[i].leak;
		dl_iterate_phdr(base_of_first, &base);
		printf("culprit %s 0x%lx\n", culprits[i].name, (uintptr_t)leak - base);
	}
	if (!leak || duration <= 0 || rate == 0) {
		fprintf(stderr, "usage: server MODE SECONDS BYTES_PER_SECOND\n");
		return 2;
	}
	puts("ready");
	fflush(stdout);
	const double start = now();
	size_t kept = 0, churned = 0;
	unsigned requests = 0, made = 0;
	for (double t; (t = now() - start) < duration;) {
		release_pages();
		/* A busy machine makes it late: then it serves fewer, and keeps as much. */
		for (size_t most = churned + (size_t)TIMES * rate / TICKS_A_SECOND;
		     churned < most;) {
			churned += request(requests++);
			if (kept < (size_t)(t * rate) && requests % 8 == 0)
				kept += leak(made++);
		}
		while (kept < (size_t)(t * rate))
			kept += leak(made++);
		nanosleep(&tick, NULL);
	}
	return 0;
}
