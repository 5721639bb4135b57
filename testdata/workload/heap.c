/* SPDX-License-Identifier: Apache-2.0 */
//go:build ignore

/*
 * A heap of blocks, for the tests of its sampling: heap THREADS KEPT_A_SECOND FREED_A_SECOND.
 * keep() keeps 96 bytes each time, churn() frees what it has allocated, after a while;
 * extend() makes one block ever larger. Says how many of each there were at the end of its
 * input.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

struct node {
	struct node *next;
	char text[88];
};

static _Thread_local struct node *kept;
static _Thread_local void *ring[64];
static _Thread_local char *vector;
static _Thread_local size_t length;
static atomic_long keeps, churns, extends;
static atomic_int over;
static double keep_rate, churn_rate;

NOINLINE void keep(void)
{
	struct node *n = malloc(sizeof(*n));

	memset(n->text, 'k', sizeof(n->text));
	n->next = kept;
	kept = n;
	keeps++;
}

NOINLINE void churn(void)
{
	size_t i = churns++ % 64;

	free(ring[i]);
	ring[i] = malloc(96);
	memset(ring[i], 'c', 96);
}

NOINLINE void extend(void)
{
	vector = realloc(vector, length + 64);
	memset(vector + length, 'v', 64);
	length += 64;
	extends++;
}

static void *work(void *arg)
{
	double began = now();
	long kept_so_far = 0, churned = 0;

	(void)arg;
	while (!over) {
		double t = now() - began;

		for (; kept_so_far < t * keep_rate; kept_so_far++) {
			keep();
			if (kept_so_far % 50 == 0)
				extend();
		}
		for (; churned < t * churn_rate; churned++)
			churn();
		usleep(1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1;
	pthread_t t[64];
	char c;

	keep_rate = argc > 2 ? atof(argv[2]) / n : 100;
	churn_rate = argc > 3 ? atof(argv[3]) / n : 1000;
	for (int i = 0; i < n && i < 64; i++)
		pthread_create(&t[i], NULL, work, NULL);
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	over = 1;
	for (int i = 0; i < n && i < 64; i++)
		pthread_join(t[i], NULL);
	printf("%ld %ld %ld\n", keeps, churns, extends);
	return 0;
}
