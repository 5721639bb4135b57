/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * libplugin: plugin_open_channel keeps a channel, plugin_ping frees what it makes; both by
 * channel_alloc. It is stripped: what it exports has names, channel_alloc has none.
 */
#include "heaps.h"

struct channel {
	struct channel *next;
	char buffer[];
};

static struct channel *channels;

static APART struct channel *channel_alloc(size_t len)
{
	struct channel *c = malloc(sizeof *c + len);
	if (!c)
		die("malloc");
	memset(c->buffer, 'c', len);
	return c;
}

APART size_t plugin_open_channel(unsigned n)
{
	size_t len = 300 + mix(n) % 400;
	struct channel *c = channel_alloc(len);
	c->next = channels;
	channels = c;
	return sizeof *c + len;
}

APART size_t plugin_ping(unsigned n)
{
	size_t len = 300 + mix(n) % 400;
	free(channel_alloc(len));
	return sizeof(struct channel) + len;
}
