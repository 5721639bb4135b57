/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * lru: a cache that is full from the start, and in which old entries leave as new ones enter.
 *
 *   leak      track_visit keeps a record beside it, through the same wrappers
 *   calm      there is only the cache
 *
 * An entry stays for 10 seconds on average, and some for a minute. The other innocents: answer
 * frees what it makes.
 */
#include "heaps.h"

struct entry {
	struct entry *next;
	size_t len;
	char body[];
};

APART struct entry *xalloc(size_t size)
{
	struct entry *e = malloc(size);
	if (!e)
		die("malloc");
	e->next = NULL;
	return e;
}

APART struct entry *new_entry(size_t len)
{
	struct entry *e = xalloc(sizeof *e + len);
	e->len = len;
	memset(e->body, 'e', len);
	return e;
}

static struct entry *visits;

APART size_t track_visit(unsigned n)
{
	size_t len = 60 + mix(n) % 200;
	struct entry *v = new_entry(len);
	v->next = visits;
	visits = v;
	return sizeof *v + len;
}

static struct entry **cache;
static unsigned slots;

APART void evict(unsigned slot)
{
	free(cache[slot]);
	cache[slot] = NULL;
}

APART size_t cache_store(unsigned n)
{
	size_t len = 60 + mix(n) % 200;
	unsigned slot = mix(n * 3 + 1) % slots; /* so that some stay for longer */
	evict(slot);
	cache[slot] = new_entry(len);
	return sizeof(struct entry) + len;
}

APART size_t answer(unsigned n)
{
	struct entry *parts[10];
	size_t done = 0;
	for (unsigned i = 0; i < 10; i++) {
		size_t len = 60 + mix(n + i) % 400;
		parts[i] = new_entry(len);
		done += sizeof *parts[i] + len;
	}
	for (unsigned i = 0; i < 10; i++)
		free(parts[i]);
	return done;
}

/* Of nine bytes one enters the cache. */
static size_t request(unsigned n)
{
	size_t done = answer(n);
	for (unsigned i = 0; i < 2; i++)
		done += cache_store(2 * n + i);
	return done;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"leak", "calm"};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	const double times = 30;
	struct load l = {rate, times, mode == 0 ? track_visit : NULL, request};
	slots = 10 * rate * times / 9 / 176 / 0.9;
	cache = calloc(slots, sizeof *cache);
	if (!cache)
		die("calloc");
	for (unsigned i = 0; i < slots; i++) /* it is full */
		cache[i] = new_entry(60 + mix(i) % 200);
	ready();
	serve(&l);
	return 0;
}
