/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * deep: everybody asks for memory through five wrappers, which fill in what they make.
 *
 *   index     index_term keeps every node that it makes
 *   fifth     sample_term keeps one in five; the others are freed at once, and the next has the
 *             same address and contents
 *   drip      note_error keeps 16 bytes now and then, amid a thousand times as much
 *
 * The innocents: parse_query makes and frees a tree, render_page makes nodes that drop_page frees
 * 20 ms later, remember_query replaces the oldest of 400.
 */
#include "heaps.h"

struct node {
	struct node *next;
	uint32_t refs, len;
};

static void *xmalloc(size_t size) APART;
static void *pool_get(size_t size) APART;
static struct node *arena_new(size_t size) APART;
static struct node *make_node(size_t len) APART;
static struct node *make_text(const char *text, size_t len) APART;

static void *xmalloc(size_t size)
{
	void *p = malloc(size);
	if (!p)
		die("malloc");
	return p;
}

static size_t pool_used;

static void *pool_get(size_t size)
{
	void *p = xmalloc((size + 15) / 16 * 16);
	pool_used += size;
	return p;
}

static struct node *arena_new(size_t size)
{
	struct node *n = pool_get(sizeof *n + size);
	n->next = NULL;
	return n;
}

static struct node *make_node(size_t len)
{
	struct node *n = arena_new(len);
	n->refs = 1;
	n->len = len;
	return n;
}

static struct node *make_text(const char *text, size_t len)
{
	struct node *n = make_node(len);
	memcpy(n + 1, text, len);
	return n;
}

static const char words[] = "a quick brown fox jumps over the lazy dog, and over it again, "
			    "until both of them are tired of it; then they go home and sleep";

/* ---- who keeps ---- */

static struct node *terms;

APART size_t index_term(unsigned n)
{
	size_t len = 8 + mix(n) % 33;
	struct node *t = make_text(words + n % 64, len);
	t->next = terms;
	terms = t;
	return sizeof *t + len;
}

APART size_t sample_term(unsigned n)
{
	struct node *t = make_text(words, 100);
	if (n % 5) {
		free(t);
		return 0;
	}
	t->next = terms;
	terms = t;
	return sizeof *t + 100;
}

struct error {
	struct error *next;
	uint64_t code;
};

static struct error *errors;

APART size_t note_error(unsigned n)
{
	struct error *e = pool_get(sizeof *e);
	e->code = n;
	e->next = errors;
	errors = e;
	return sizeof *e;
}

/* ---- innocents ---- */

APART size_t parse_query(unsigned n)
{
	struct node *root = make_node(16);
	size_t done = sizeof *root + 16;
	for (unsigned i = 0; i < 24; i++) {
		size_t len = 8 + mix(n + i) % 56;
		struct node *t = make_text(words, len);
		t->next = root->next;
		root->next = t;
		done += sizeof *t + len;
	}
	while (root) {
		struct node *next = root->next;
		free(root);
		root = next;
	}
	return done;
}

static struct node *pages[4]; /* by the 5 ms in which they were made */

APART size_t render_page(unsigned n)
{
	size_t done = 0;
	for (unsigned i = 0; i < 8; i++) {
		size_t len = 16 + mix(n * 8 + i) % 48;
		struct node *t = make_text(words, len);
		t->next = pages[0];
		pages[0] = t;
		done += sizeof *t + len;
	}
	return done;
}

APART void drop_page(void)
{
	struct node *t = pages[3];
	memmove(pages + 1, pages, sizeof pages - sizeof *pages);
	pages[0] = NULL;
	while (t) {
		struct node *next = t->next;
		free(t);
		t = next;
	}
}

APART size_t remember_query(unsigned n)
{
	static struct node *queries[400];
	size_t len = 16 + mix(n) % 48;
	free(queries[n % 400]);
	queries[n % 400] = make_text(words, len);
	return sizeof(struct node) + len;
}

static size_t request(unsigned n)
{
	size_t done = parse_query(n) + render_page(n);
	if (n % 8 == 0)
		done += remember_query(n / 8);
	return done;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"index", "fifth", "drip"};
	static const struct load loads[] = {
		{.times = 100, .keep = index_term, .innocent = request},
		{.times = 100, .keep = sample_term, .innocent = request},
		{.times = 1000, .keep = note_error, .innocent = request},
	};
	struct load l = loads[begin(argc, argv, modes, COUNT(modes))];
	l.rate = rate;
	for (unsigned i = 0; i < 400; i++)
		remember_query(i);
	ready();
	for (; !over(); pause_ms(5)) {
		drop_page();
		work(&l);
	}
	return 0;
}
