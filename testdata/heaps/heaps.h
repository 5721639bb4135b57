/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the programs in C and C++ share: how they are called, and how fast they go.
 *
 *   PROGRAM MODE SECONDS BYTES_PER_SECOND
 *
 * Prints "ready", keeps so many bytes a second of small blocks amid innocents who allocate and
 * give back so many times as much, and exits after the seconds. The clock says how much is due;
 * what was not done in time, as the machine was busy, is made up for at most 100 ms, of who keeps
 * and of the innocents alike.
 */
#ifndef HEAPS_H
#define HEAPS_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Functions that must keep their name and their frame. */
#define APART __attribute__((noipa))

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define MIB  (1024.0 * 1024.0)
#define MOST (1024 * MIB) /* what a program keeps at most */

static void __attribute__((noreturn, unused)) die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(1);
}

static inline double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* What a number is made of another by, so that sizes do not come in a rhythm. */
static inline unsigned mix(unsigned n)
{
	n *= 2654435761u;
	n ^= n >> 15;
	n *= 2246822519u;
	return n ^ n >> 13;
}

/* ---- how fast ---- */

static double end_at; /* of the program, by now() */
static double rate;   /* bytes a second that are to be kept, of all threads */
static int64_t kept_in_all;

struct load {
	double rate;		      /* bytes a second that are kept */
	double times;		      /* as much goes through the innocents */
	size_t (*keep)(unsigned);     /* returns how many bytes it kept, 0 for none */
	size_t (*innocent)(unsigned); /* returns how many it allocated */

	double last, keep_due, innocent_due;
	unsigned nkeep, ninnocent;
};

/* Does what is due since it was called last, the one amid the other. */
static inline void work(struct load *l)
{
	double t = now(), passed = l->last ? t - l->last : 0;
	l->last = t;
	if (passed > 0.1)
		passed = 0.1;
	if (l->keep && __atomic_load_n(&kept_in_all, __ATOMIC_RELAXED) < (int64_t)MOST)
		l->keep_due += passed * l->rate;
	l->innocent_due += passed * l->rate * l->times;
	while (l->keep_due > 0 || l->innocent_due > 0) {
		if (l->innocent_due > 0)
			l->innocent_due -= l->innocent(l->ninnocent++);
		if (l->keep_due > 0 && l->keep_due * l->times >= l->innocent_due) {
			size_t kept = l->keep(l->nkeep++);
			l->keep_due -= kept;
			__atomic_fetch_add(&kept_in_all, (int64_t)kept, __ATOMIC_RELAXED);
		}
	}
}

static inline bool over(void)
{
	return now() >= end_at;
}

static inline void pause_ms(unsigned ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&t, NULL);
}

/* Works until the end, some 200 times a second. */
static inline void serve(struct load *l)
{
	for (; !over(); pause_ms(5))
		work(l);
}

static inline void run_thread(pthread_t *t, void *(*f)(void *), void *arg)
{
	if ((errno = pthread_create(t, NULL, f, arg)))
		die("pthread_create");
}

/* ---- how they are called ---- */

/* Reads the arguments and returns which of the modes was asked for. */
static inline unsigned begin(int argc, char **argv, const char *const *modes, unsigned n)
{
	const double seconds = argc == 4 ? atof(argv[2]) : 0;
	rate = argc == 4 ? atof(argv[3]) : 0;
	for (unsigned i = 0; seconds > 0 && rate > 0 && i < n; i++) {
		if (strcmp(argv[1], modes[i]))
			continue;
		end_at = now() + seconds;
		return i;
	}
	fprintf(stderr, "usage: %s MODE SECONDS BYTES_PER_SECOND\n", argv[0]);
	exit(2);
}

/* Says that the work begins: caches that are to be full are. */
static inline void ready(void)
{
	puts("ready");
	fflush(stdout);
}

#endif
