/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * texts: the blocks are those that the C library allocates for its callers.
 *
 *   intern    intern_symbol keeps what strdup gives, in a table that realloc makes larger
 *   log       eight threads; append_line keeps what asprintf gives
 *
 * The innocents: split_line frees what strdup gives, format_reply what asprintf gives.
 */
#define _GNU_SOURCE
#include "heaps.h"

static const char line[] = "The common name of each of them is longer than anybody would think it "
			   "has to be, and there is always one more of them than there are names";

static __thread char **table;
static __thread size_t symbols;

/* Inlined, so that who keeps is the caller. */
static inline __attribute__((always_inline)) void enter(char *text)
{
	if ((symbols & (symbols - 1)) == 0) {
		table = realloc(table, (symbols ? 2 * symbols : 1) * sizeof *table);
		if (!table)
			die("realloc");
	}
	table[symbols++] = text;
}

APART size_t intern_symbol(unsigned n)
{
	char *s = strdup(line + sizeof line - 20 - mix(n) % 50);
	if (!s)
		die("strdup");
	s[0] = 'A' + n % 26;
	enter(s);
	return strlen(s) + 1 + sizeof *table;
}

APART size_t append_line(unsigned n)
{
	char *s;
	int len = asprintf(&s, "[%u] %s", n, line + mix(n) % 100);
	if (len < 0)
		die("asprintf");
	enter(s);
	return len + 1 + sizeof *table;
}

APART size_t split_line(unsigned n)
{
	char *words[16];
	size_t done = 0;
	for (unsigned i = 0; i < 16; i++) {
		words[i] = strdup(line + sizeof line - 20 - mix(n + i) % 50);
		if (!words[i])
			die("strdup");
		done += strlen(words[i]) + 1;
	}
	for (unsigned i = 0; i < 16; i++)
		free(words[i]);
	return done;
}

APART size_t format_reply(unsigned n)
{
	size_t done = 0;
	for (unsigned i = 0; i < 4; i++) {
		char *s;
		int len = asprintf(&s, "[%u] %s", n, line + mix(n + i) % 100);
		if (len < 0)
			die("asprintf");
		free(s);
		done += len + 1;
	}
	return done;
}

static size_t request(unsigned n)
{
	return split_line(n) + format_reply(n);
}

static void *thread(void *arg)
{
	struct load l = *(struct load *)arg;
	serve(&l);
	return NULL;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"intern", "log"};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	pthread_t threads[8];
	const unsigned n = mode == 0 ? 1 : COUNT(threads);
	struct load l = {rate / n, 100, mode == 0 ? intern_symbol : append_line, request};
	ready();
	for (unsigned i = 0; i < n; i++)
		run_thread(&threads[i], thread, &l);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
