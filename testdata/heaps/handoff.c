/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * handoff: two threads make messages, and two others, who get them by a queue, free them.
 *
 *   audit     receive_order gives one order in a hundred to audit_order, which keeps it; the other
 *             orders, and all news, are freed
 *   mail      make_mail's messages are filed by file_mail, and never looked at again
 *   calm      nobody keeps anything
 *
 * The innocents: make_news and make_quote, freed by receive_news.
 */
#include "heaps.h"

enum kind { NEWS, QUOTE, ORDER, MAIL };

struct message {
	struct message *next;
	enum kind kind;
	unsigned n;
	char body[];
};

APART struct message *new_message(enum kind kind, unsigned n, size_t len)
{
	struct message *m = malloc(sizeof *m + len);
	if (!m)
		die("malloc");
	m->kind = kind;
	m->n = n;
	return m;
}

/* ---- the queue ---- */

enum { LONGEST = 2000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct message *first, **last = &first;
static unsigned queued;
static bool closed;

static void put(struct message *m)
{
	m->next = NULL;
	pthread_mutex_lock(&lock);
	while (queued >= LONGEST)
		pthread_cond_wait(&changed, &lock);
	*last = m;
	last = &m->next;
	if (queued++ == 0)
		pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* Takes all that there is, in the order in which it came; NULL at the end. */
static struct message *take(void)
{
	pthread_mutex_lock(&lock);
	while (!first && !closed)
		pthread_cond_wait(&changed, &lock);
	struct message *m = first;
	first = NULL;
	last = &first;
	queued = 0;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return m;
}

/* ---- who makes messages ---- */

APART size_t make_news(unsigned n)
{
	size_t len = 60 + mix(n) % 300;
	struct message *m = new_message(NEWS, n, len);
	memset(m->body, 'n', len);
	put(m);
	return sizeof *m + len;
}

APART size_t make_quote(unsigned n)
{
	struct message *m = new_message(QUOTE, n, 176);
	memset(m->body, 'o', 176);
	put(m);
	return sizeof *m + 176;
}

/* Every hundredth is kept, by who receives it. */
APART size_t make_order(unsigned n)
{
	struct message *m = new_message(ORDER, n, 176);
	memset(m->body, 'o', 176);
	put(m);
	return n % 100 ? 0 : sizeof(struct message) + 176;
}

APART size_t make_mail(unsigned n)
{
	size_t len = 200 + mix(n) % 300;
	struct message *m = new_message(MAIL, n, len);
	memset(m->body, 'm', len);
	put(m);
	return sizeof(struct message) + len;
}

static size_t make_others(unsigned n)
{
	return make_news(n) + make_quote(n);
}

/* ---- who gets them ---- */

static __thread struct message *audited, *filed;

APART void audit_order(struct message *m)
{
	m->next = audited;
	m->body[0] = 'A';
	audited = m;
}

APART void receive_order(struct message *m)
{
	if (m->n % 100 == 0)
		audit_order(m);
	else
		free(m);
}

APART void file_mail(struct message *m)
{
	m->next = filed;
	m->body[0] = 'F';
	filed = m;
}

APART void receive_news(struct message *m)
{
	free(m);
}

static void *receive(void *arg)
{
	for (struct message *m; (m = take());) {
		while (m) {
			struct message *next = m->next;
			if (m->kind == ORDER)
				receive_order(m);
			else if (m->kind == MAIL)
				file_mail(m);
			else
				receive_news(m);
			m = next;
		}
	}
	return arg;
}

static void *send(void *arg)
{
	struct load l = *(struct load *)arg;
	serve(&l);
	return NULL;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"audit", "mail", "calm"};
	static size_t (*const keepers[])(unsigned) = {make_order, make_mail, NULL};
	unsigned mode = begin(argc, argv, modes, COUNT(modes));
	struct load l = {rate / 2, mode == 0 ? 300 : 50, keepers[mode], make_others};
	pthread_t senders[2], receivers[2];
	for (unsigned i = 0; i < 2; i++) {
		run_thread(&receivers[i], receive, NULL);
		run_thread(&senders[i], send, &l);
	}
	ready();
	for (unsigned i = 0; i < 2; i++)
		pthread_join(senders[i], NULL);
	pthread_mutex_lock(&lock);
	closed = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(receivers[i], NULL);
	return 0;
}
