/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * host: a program whose leak is in a library that it is linked with (plugin.c).
 *
 *   plugin    plugin_open_channel keeps what it makes
 *
 * The innocents: plugin_ping, and here host_poll, which frees what it makes.
 */
#include "heaps.h"

size_t plugin_open_channel(unsigned n);
size_t plugin_ping(unsigned n);

APART size_t host_poll(unsigned n)
{
	char *events[20];
	size_t done = 0;
	for (unsigned i = 0; i < 20; i++) {
		size_t len = 100 + mix(n + i) % 700;
		events[i] = malloc(len);
		if (!events[i])
			die("malloc");
		memset(events[i], 'e', len);
		done += len;
	}
	for (unsigned i = 0; i < 20; i++)
		free(events[i]);
	return done;
}

static size_t request(unsigned n)
{
	return plugin_ping(n) + host_poll(n);
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"plugin"};
	begin(argc, argv, modes, COUNT(modes));
	struct load l = {rate, 50, plugin_open_channel, request};
	ready();
	serve(&l);
	return 0;
}
