/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * crowd: 64 threads, each of which handles requests.
 *
 *   all       open_session keeps a little in each of them
 *   one       collect_stats keeps all, in one of them; the others are innocents
 *
 * The innocents: handle_request makes what it frees itself, cache_reply replaces the oldest of a
 * thread's 50 replies.
 */
#include "heaps.h"

enum { THREADS = 64 };

struct item {
	struct item *next;
	char body[];
};

APART struct item *new_item(size_t len)
{
	struct item *i = malloc(sizeof *i + len);
	if (!i)
		die("malloc");
	i->next = NULL;
	return i;
}

static __thread struct item *sessions;

APART size_t open_session(unsigned n)
{
	size_t len = 100 + mix(n) % 400;
	struct item *s = new_item(len);
	memset(s->body, 's', len);
	s->next = sessions;
	sessions = s;
	return sizeof *s + len;
}

static struct item *stats;

APART size_t collect_stats(unsigned n)
{
	size_t len = 120;
	struct item *s = new_item(len);
	memset(s->body, n, len);
	s->next = stats;
	stats = s;
	return sizeof *s + len;
}

APART size_t handle_request(unsigned n)
{
	struct item *parts[12];
	size_t done = 0;
	for (unsigned i = 0; i < 12; i++) {
		size_t len = 40 + mix(n + i) % 500;
		parts[i] = new_item(len);
		memset(parts[i]->body, 'r', len);
		done += sizeof *parts[i] + len;
	}
	for (unsigned i = 0; i < 12; i++)
		free(parts[i]);
	return done;
}

APART size_t cache_reply(unsigned n)
{
	static __thread struct item *replies[50];
	size_t len = 40 + mix(n) % 500;
	free(replies[n % 50]);
	replies[n % 50] = new_item(len);
	memset(replies[n % 50]->body, 'c', len);
	return sizeof(struct item) + len;
}

static size_t request(unsigned n)
{
	return handle_request(n) + cache_reply(n);
}

static pthread_barrier_t warm;

static void *thread(void *arg)
{
	struct load l = *(struct load *)arg;
	for (unsigned i = 0; i < 50; i++)
		cache_reply(i);
	pthread_barrier_wait(&warm);
	/* Not so often: the threads are many. */
	for (; !over(); pause_ms(50))
		work(&l);
	return NULL;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"all", "one"};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	struct load all = {rate / THREADS, 50, open_session, request};
	struct load one = {rate, 2, collect_stats, request};
	struct load none = {rate, 2, NULL, request};
	pthread_t t[THREADS];
	pthread_barrier_init(&warm, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++)
		run_thread(&t[i], thread, mode == 0 ? &all : i == 40 ? &one : &none);
	pthread_barrier_wait(&warm);
	ready();
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}
