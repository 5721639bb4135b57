/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * slabs: objects of 64 bytes from a pool, which asks malloc for 16 KiB at a time and frees none.
 *
 *   objects   watch_key takes objects that nobody gives back, so that the pool asks for more
 *
 * The innocents: lookup takes objects and gives them back by object_put, and both are the more
 * likely to be who makes the pool ask for more; scan frees what it gets from malloc itself.
 */
#include "heaps.h"

struct object {
	struct object *next;
	char body[56];
};

static struct object *unused;

APART void slab_refill(void)
{
	const unsigned n = 16 * 1024 / sizeof(struct object);
	struct object *o = malloc(n * sizeof *o);
	if (!o)
		die("malloc");
	for (unsigned i = 0; i < n; i++) {
		o[i].next = unused;
		unused = &o[i];
	}
}

APART struct object *object_get(void)
{
	if (!unused)
		slab_refill();
	struct object *o = unused;
	unused = o->next;
	memset(o->body, 0, sizeof o->body);
	return o;
}

APART void object_put(struct object *o)
{
	o->next = unused;
	unused = o;
}

static struct object *watched;

APART size_t watch_key(unsigned n)
{
	struct object *o = object_get();
	memset(o->body, 'k', sizeof o->body);
	o->body[0] = n;
	o->next = watched;
	watched = o;
	return sizeof *o;
}

APART size_t lookup(unsigned n)
{
	struct object *got[40];
	for (unsigned i = 0; i < 40; i++) {
		got[i] = object_get();
		memset(got[i]->body, n, sizeof got[i]->body);
	}
	for (unsigned i = 0; i < 40; i++)
		object_put(got[i]);
	return sizeof(struct object) * 40;
}

APART size_t scan(unsigned n)
{
	size_t len = 100 + mix(n) % 4000;
	char *p = malloc(len);
	if (!p)
		die("malloc");
	memset(p, 's', len);
	free(p);
	return len;
}

static size_t request(unsigned n)
{
	return lookup(n) + scan(n);
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"objects"};
	begin(argc, argv, modes, COUNT(modes));
	struct load l = {rate, 100, watch_key, request};
	ready();
	serve(&l);
	return 0;
}
