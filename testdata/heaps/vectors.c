/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * vectors: small vectors that realloc makes longer.
 *
 *   columns   add_sample appends to one of many vectors, and begins a new one when it is long;
 *             none is ever freed
 *   calm      nobody keeps anything
 *
 * The innocents: build_reply makes a vector longer and frees it, log_line does so with one that
 * trim_log frees when it is long. All of them use append.
 */
#include "heaps.h"

struct vector {
	struct vector *next;
	size_t len, room;
	uint64_t *items;
};

APART void append(struct vector *v, uint64_t item)
{
	if (v->len == v->room) {
		v->room = v->room ? 2 * v->room : 4;
		v->items = realloc(v->items, v->room * sizeof *v->items);
		if (!v->items)
			die("realloc");
	}
	v->items[v->len++] = item;
}

APART struct vector *new_vector(void)
{
	struct vector *v = calloc(1, sizeof *v);
	if (!v)
		die("calloc");
	return v;
}

APART void free_vector(struct vector *v)
{
	free(v->items);
	free(v);
}

enum { COLUMNS = 200 };

static struct vector *columns[COLUMNS];

APART size_t add_sample(unsigned n)
{
	struct vector **v = &columns[mix(n) % COLUMNS];
	size_t kept = 0;
	if (!*v || (*v)->len == 256) {
		struct vector *fresh = new_vector();
		fresh->next = *v;
		*v = fresh;
		kept += sizeof *fresh;
	}
	append(*v, n);
	return kept + sizeof(uint64_t);
}

APART size_t build_reply(unsigned n)
{
	struct vector *v = new_vector();
	for (unsigned i = 0, len = 20 + mix(n) % 300; i < len; i++)
		append(v, n + i);
	size_t done = sizeof *v + v->room * sizeof *v->items;
	free_vector(v);
	return done;
}

static struct vector *log_;

APART void trim_log(void)
{
	free_vector(log_);
	log_ = NULL;
}

APART size_t log_line(unsigned n)
{
	if (log_ && log_->len > 3000)
		trim_log();
	if (!log_)
		log_ = new_vector();
	for (unsigned i = 0; i < 16; i++)
		append(log_, n);
	return 16 * sizeof(uint64_t);
}

static size_t request(unsigned n)
{
	return build_reply(n) + log_line(n);
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"columns", "calm"};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	struct load l = {rate, 50, mode == 0 ? add_sample : NULL, request};
	ready();
	serve(&l);
	return 0;
}
