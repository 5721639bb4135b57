/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * A program that asks operator new for more than there is, again and again, and lives: to be
 * run with an allocator whose operator throws by itself. open_session() keeps what it makes,
 * render() does not. It ends with its input, and fails if nothing was thrown.
 */
#include <cstdio>
#include <cstring>
#include <new>
#include <poll.h>

#define NOINLINE __attribute__((noinline, noclone))

struct session {
	session *next;
	char body[180];
};

static session *sessions;
static volatile size_t too_much = size_t(1) << 60;

NOINLINE void open_session(unsigned n)
{
	auto *s = new session;
	memset(s->body, int(n), sizeof(s->body));
	s->next = sessions;
	sessions = s;
}

NOINLINE void render(unsigned n)
{
	session *parts[40];
	for (auto &s : parts) {
		s = new session;
		memset(s->body, int(n), sizeof(s->body));
	}
	for (auto *s : parts)
		delete s;
}

NOINLINE bool load(unsigned n)
{
	try {
		char *image = static_cast<char *>(operator new(too_much));
		image[0] = char(n);
	} catch (const std::bad_alloc &) {
		return false;
	}
	return true;
}

int main()
{
	struct pollfd in = {};
	in.events = POLLIN;
	unsigned thrown = 0;

	puts("ready");
	fflush(stdout);
	for (unsigned n = 0; !poll(&in, 1, 2); n++) {
		for (unsigned i = 0; i < 4; i++) {
			open_session(n);
			for (unsigned k = 0; k < 10; k++)
				render(k);
			thrown += !load(n);
		}
	}
	return thrown > 0 ? 0 : 1;
}
