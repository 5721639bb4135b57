/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * reload: a configuration is read again every 2 s, all of it new before the old one is freed.
 *
 *   burst     register_plugin keeps what it makes at each of them: memory grows by steps
 *   calm      it does not
 *
 * The innocents: read_config makes the tree that free_config frees, apply_rule frees what it
 * makes, between the reloads. Nodes are new_node's, texts copy_text's.
 */
#include "heaps.h"

struct node {
	struct node *next;
	char *text;
};

APART void *get(size_t size)
{
	void *p = malloc(size);
	if (!p)
		die("malloc");
	return p;
}

APART char *copy_text(const char *text, size_t len)
{
	char *p = get(len + 1);
	memcpy(p, text, len);
	p[len] = 0;
	return p;
}

APART struct node *new_node(const char *text, size_t len, struct node *next)
{
	struct node *n = get(sizeof *n);
	n->text = copy_text(text, len);
	n->next = next;
	return n;
}

static const char line[] = "listen 0.0.0.0:8080; server_name example.com; location / { proxy_pass "
			   "http://backend; proxy_set_header Host $host; } access_log off;";

static struct node *plugins, *config;

APART size_t register_plugin(unsigned n)
{
	size_t len = 40 + mix(n) % 80;
	plugins = new_node(line, len, plugins);
	return sizeof *plugins + len + 1;
}

APART void free_config(struct node *c)
{
	while (c) {
		struct node *next = c->next;
		free(c->text);
		free(c);
		c = next;
	}
}

APART void read_config(size_t size)
{
	struct node *fresh = NULL;
	for (unsigned n = 0; size > 200; n++) {
		size_t len = 40 + mix(n) % 80;
		fresh = new_node(line, len, fresh);
		size -= sizeof *fresh + len + 1;
	}
	free_config(config);
	config = fresh;
}

APART size_t apply_rule(unsigned n)
{
	struct node *rules = NULL;
	size_t done = 0;
	for (unsigned i = 0; i < 12; i++) {
		size_t len = 40 + mix(n + i) % 80;
		rules = new_node(line, len, rules);
		done += sizeof *rules + len + 1;
	}
	free_config(rules);
	return done;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"burst", "calm"};
	const bool leak = begin(argc, argv, modes, COUNT(modes)) == 0;
	struct load l = {rate, 30, NULL, apply_rule};
	read_config(10 * rate);
	ready();
	unsigned n = 0;
	for (double reload_at = now() + 2, since = now(); !over(); pause_ms(5)) {
		work(&l);
		if (now() < reload_at)
			continue;
		read_config(10 * rate);
		/* Late, it keeps no more than that of the time that it should have taken. */
		double due = now() - since > 2.1 ? 2.1 * rate : (now() - since) * rate;
		while (leak && due > 0 && kept_in_all < (int64_t)MOST) {
			size_t kept = register_plugin(n++);
			due -= kept;
			kept_in_all += kept;
		}
		since = now();
		reload_at = since + 2;
	}
	return 0;
}
