/* SPDX-License-Identifier: Apache-2.0 */
//go:build ignore

/*
 * A server that forgets to close one session in five, which new_session() makes and handle()
 * frees; render() makes and frees much more. It ends with its input.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

struct session {
	struct session *next;
	char body[1200];
};

static struct session *forgotten;

NOINLINE struct session *new_session(unsigned n)
{
	struct session *s = malloc(sizeof(*s));

	if (!s)
		abort();
	memset(s->body, 'x', sizeof(s->body));
	snprintf(s->body, sizeof(s->body), "session %u", n);
	return s;
}

NOINLINE void render(unsigned n)
{
	char *part[50];

	for (unsigned i = 0; i < 50; i++) {
		size_t size = 200 + n * i % 3000;

		part[i] = malloc(size);
		if (!part[i])
			abort();
		memset(part[i], 'r', size);
	}
	for (unsigned i = 0; i < 50; i++)
		free(part[i]);
}

NOINLINE void handle(unsigned n)
{
	struct session *s = new_session(n);

	render(n);
	if (n % 5 == 0) { /* written to after others were made */
		s->next = forgotten;
		forgotten = s;
	} else {
		free(s);
	}
}

int main(void)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};

	puts("ready");
	fflush(stdout);
	for (unsigned n = 0; !poll(&in, 1, 2);)
		for (unsigned i = 0; i < 20; i++)
			handle(n++);
	return 0;
}
