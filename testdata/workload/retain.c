/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * A heap that grows by 1 MiB a second, by the clock:
 *
 *   retain  read_line gives back all of the line before but its beginning. What is free then
 *           is a little too small for a line, so that malloc keeps it to no purpose
 *   leak    read_line keeps whole lines
 *
 * The second argument is who does so: main, in the heap, or thread, in an arena of malloc's; the
 * third for how many seconds.
 * Beside it check_line takes as much, and gives it back at once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define APART __attribute__((noipa))
#define LINE  1000
#define RATE  (1024 * 1024 / LINE) /* lines a second */

struct line {
	struct line *next;
	char text[];
};

static struct line *lines;
static int whole;

APART void read_line(void)
{
	struct line *l = malloc(LINE);
	if (!l)
		abort();
	memset(l->text, 'x', LINE - sizeof *l);
	if (lines && !whole && !(lines = realloc(lines, sizeof *lines + 8)))
		abort();
	l->next = lines;
	lines = l;
}

APART void check_line(void)
{
	char *copy = malloc(LINE / 10);
	if (!copy)
		abort();
	memset(copy, 'y', LINE / 10);
	free(copy);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double seconds;

static void *serve(void *unused)
{
	double began = now();
	for (unsigned long done = 0; now() < began + seconds; usleep(10000))
		for (; done < RATE * (now() - began); done++) {
			read_line();
			check_line();
		}
	return unused;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	seconds = atof(argv[3]);
	whole = !strcmp(argv[1], "leak");
	puts("ready");
	fflush(stdout);
	if (strcmp(argv[2], "thread")) {
		serve(NULL);
		return 0;
	}
	pthread_t t;
	if (pthread_create(&t, NULL, serve, NULL))
		return 1;
	pthread_join(t, NULL);
	return 0;
}
