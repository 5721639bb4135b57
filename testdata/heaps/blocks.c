/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * blocks: who keeps and who gives back ask malloc itself for blocks of about the same size.
 *
 *   hundredth take_ticket keeps one block of 256 bytes in a hundred, with equal contents; the
 *             others are freed at once
 *   trickle   count_hit keeps 32 bytes now and then, amid a thousand times as much
 *   large     load_tile keeps blocks of 32 KiB, amid ten times as much
 *   flood     record_frame keeps blocks of 64 KiB, amid as much
 *
 * The innocents: compress_block frees what it allocates, encode_frame leaves that to
 * recycle_frame, four of them later.
 */
#include "heaps.h"

struct block {
	struct block *next;
	char body[];
};

static size_t usual; /* size of a block */

static struct block *kept;

/* Inlined, so that who keeps is the caller. */
static inline __attribute__((always_inline)) struct block *filled(size_t size, int with)
{
	struct block *b = malloc(size);
	if (!b)
		die("malloc");
	memset(b->body, with, size - sizeof *b);
	return b;
}

static inline __attribute__((always_inline)) size_t keep(struct block *b, size_t size)
{
	b->next = kept;
	kept = b;
	return size;
}

APART size_t take_ticket(unsigned n)
{
	struct block *b = filled(256, 't');
	if (n % 100 == 0)
		return keep(b, 256);
	free(b);
	return 0;
}

APART size_t count_hit(unsigned n)
{
	return keep(filled(32, n), 32);
}

APART size_t load_tile(unsigned n)
{
	return keep(filled(32 * 1024, n), 32 * 1024);
}

APART size_t record_frame(unsigned n)
{
	return keep(filled(64 * 1024, n), 64 * 1024);
}

APART size_t compress_block(unsigned n)
{
	size_t in = usual, out = usual / 2 + mix(n) % (usual / 2);
	struct block *a = filled(in, 't'), *b = filled(out, 'c');
	free(a);
	free(b);
	return in + out;
}

static struct block *frames[4];

APART void recycle_frame(unsigned n)
{
	free(frames[n % 4]);
	frames[n % 4] = NULL;
}

APART size_t encode_frame(unsigned n)
{
	recycle_frame(n);
	frames[n % 4] = filled(usual, 't');
	return usual;
}

static size_t request(unsigned n)
{
	return compress_block(n) + encode_frame(n);
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"hundredth", "trickle", "large", "flood"};
	static const size_t sizes[] = {256, 32, 32 * 1024, 64 * 1024};
	static const struct load loads[] = {
		{.times = 300, .keep = take_ticket, .innocent = request},
		{.times = 1000, .keep = count_hit, .innocent = request},
		{.times = 10, .keep = load_tile, .innocent = request},
		{.times = 1, .keep = record_frame, .innocent = request},
	};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	struct load l = loads[mode];
	usual = sizes[mode];
	l.rate = rate;
	ready();
	serve(&l);
	return 0;
}
