/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * calm: nobody leaks.
 *
 *   fill      cache_page fills a cache that is full after some ten seconds, and replaces its
 *             oldest entries from then on
 *   pools     pool_take takes blocks that pool_reset frees all at once, every 3 s
 *   fragment  place makes blocks of very different sizes, of which any one may live for seconds;
 *             what lives at once is bounded, and the heap settles at more than that
 *   waves     hold_batch holds more and more, and drop_batch gives all of it back, every 8 s
 */
#include "heaps.h"

struct block {
	struct block *next;
	size_t len;
	char body[];
};

APART struct block *new_block(size_t len)
{
	struct block *b = malloc(sizeof *b + len);
	if (!b)
		die("malloc");
	b->len = len;
	memset(b->body, 'b', len);
	return b;
}

/* ---- fill ---- */

static struct block **cache;
static unsigned slots;

APART size_t cache_page(unsigned n)
{
	size_t len = 100 + mix(n) % 800;
	struct block **b = &cache[n % slots];
	free(*b);
	*b = new_block(len);
	return sizeof **b + len;
}

APART size_t format_page(unsigned n)
{
	size_t len = 100 + mix(n) % 800;
	struct block *a = new_block(len), *b = new_block(2 * len);
	free(a);
	free(b);
	return 2 * sizeof *a + 3 * len;
}

static size_t fill(unsigned n)
{
	return cache_page(n) + format_page(n);
}

/* ---- pools and waves ---- */

static struct block *taken;

APART void pool_reset(void)
{
	while (taken) {
		struct block *next = taken->next;
		free(taken);
		taken = next;
	}
}

static double reset_at;

APART size_t pool_take(unsigned n)
{
	size_t len = 16 + mix(n) % 300;
	struct block *b = new_block(len);
	b->next = taken;
	taken = b;
	return sizeof *b + len;
}

static size_t pools(unsigned n)
{
	if (n % 64 == 0 && now() >= reset_at) {
		pool_reset();
		reset_at = now() + 3;
	}
	return pool_take(n);
}

APART void drop_batch(void)
{
	pool_reset();
}

APART size_t hold_batch(unsigned n)
{
	size_t len = 500 + mix(n) % 3000;
	struct block *b = new_block(len);
	b->next = taken;
	taken = b;
	return sizeof *b + len;
}

static size_t waves(unsigned n)
{
	if (n % 16 == 0 && now() >= reset_at) {
		drop_batch();
		reset_at = now() + 8;
	}
	size_t done = hold_batch(n);
	for (unsigned i = 0; i < 4; i++)
		done += format_page(4 * n + i);
	return done;
}

/* ---- fragment ---- */

enum { PLACES = 40000 };

static struct block *places[PLACES];

APART size_t place(unsigned n)
{
	/* Half of them have 24 bytes or more, a quarter 48, and so on to 6144. */
	size_t len = 24u << __builtin_ctz(mix(n) | 256);
	len += mix(n * 7) % len;
	struct block **b = &places[mix(n * 5 + 3) % PLACES];
	free(*b);
	*b = new_block(len);
	return sizeof **b + len;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"fill", "pools", "fragment", "waves"};
	static size_t (*const innocents[])(unsigned) = {fill, pools, place, waves};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	struct load l = {rate, 1, NULL, innocents[mode]};
	reset_at = now() + 3;
	/* A quarter of fill's bytes are cached: of 516 a piece, 10 s of them. */
	slots = 10 * rate / 4 / 516;
	cache = calloc(slots + 1, sizeof *cache);
	if (!cache)
		die("calloc");
	for (unsigned i = 0; mode == 2 && i < PLACES; i++)
		place(i);
	ready();
	serve(&l);
	return 0;
}
