// Holds memory of malloc in a way that is named, says what malloc itself counts, and
// waits for a line; after each line it goes on with the next way that is named.

#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 1 << 22, THREADS = 31, CHURNING = 8 };

static void **live; // NULL where there is none; not of malloc
static size_t count;
static pthread_barrier_t done, leave;

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void *fill(size_t size)
{
	void *p = malloc(size);
	if (!p)
		abort();
	memset(p, 0x5a, size);
	return p;
}

static void put(void **where, size_t size)
{
	*where = fill(size);
}

static void drop(void **where)
{
	free(*where);
	*where = NULL;
}

// mixed allocates blocks of many sizes, and frees two of three.
static void mixed(void **at, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		put(&at[i],
		    i % 97 ? 1 + next_random(&seed) % 900 : 20000 + next_random(&seed) % 30000);
	for (size_t i = 0; i < n; i++)
		if (next_random(&seed) % 3)
			drop(&at[i]);
}

static void *in_thread(void *arg)
{
	size_t i = (size_t)arg;
	mixed(live + i * 20000, 20000, i + 1);
	pthread_barrier_wait(&done);
	pthread_barrier_wait(&leave);
	return NULL;
}

static void *big(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < 400; i++)
		put(&live[20000 + i], 500000);
	for (size_t i = 0; i < 400; i++)
		if (i % 4 == 1)
			drop(&live[20000 + i]);
	pthread_barrier_wait(&done);
	pthread_barrier_wait(&leave);
	return NULL;
}

// churn allocates and frees for ever.
static void *churn(void *arg)
{
	size_t n = 4000;
	void **at = live + (size_t)arg * n;
	unsigned seed = (size_t)arg + 7;
	for (size_t k = 0;; k++) {
		if (k == 10 * n) // about half of the blocks are there
			pthread_barrier_wait(&done);
		size_t i = next_random(&seed) % n;
		if (at[i])
			drop(&at[i]);
		else
			put(&at[i], next_random(&seed) % 50 ? 1 + next_random(&seed) % 2000
							    : next_random(&seed) % 100000);
		if (next_random(&seed) % 100000 == 0)
			malloc_trim(0);
	}
	return NULL;
}

static void threads(void *(*run)(void *), size_t n)
{
	for (size_t i = 0; i < n; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, run, (void *)i))
			abort();
	}
}

static void hold(const char *way)
{
	unsigned seed = 1;
	if (!strcmp(way, "one")) {
		put(&live[0], 100);
	} else if (!strcmp(way, "mixed")) {
		mixed(live, 100000, 1);
	} else if (!strcmp(way, "fast")) {
		for (size_t i = 0; i < 200000; i++)
			put(&live[i], 24 + 16 * (i % 7));
		for (size_t i = 0; i < 200000; i++)
			if (i % 5)
				drop(&live[i]);
	} else if (!strcmp(way, "fastest")) {
		for (size_t i = 0; i < 2000000; i++)
			put(&live[i], 24);
		for (size_t i = 0; i < 2000000; i++)
			if (i % 10)
				drop(&live[i]);
	} else if (!strcmp(way, "cached")) {
		for (size_t i = 0; i < 64 * 7; i++)
			put(&live[i], 24 + 16 * (i % 64));
		for (size_t i = 0; i < 64 * 7; i++)
			drop(&live[i]);
	} else if (!strcmp(way, "holes")) {
		for (size_t i = 0; i < 3000; i++)
			put(&live[i], i % 2 ? 20000 : 100);
		for (size_t i = 0; i < 3000; i++)
			if (i % 2)
				drop(&live[i]);
	} else if (!strcmp(way, "mapped")) {
		for (size_t i = 0; i < 37; i++)
			put(&live[i], (1 + i) << 20);
		for (size_t i = 0; i < 37; i += 3)
			drop(&live[i]);
	} else if (!strcmp(way, "aligned")) {
		for (size_t i = 0; i < 1000; i++)
			if (posix_memalign(&live[i], 64 << i % 8, 1 + next_random(&seed) % 3000))
				abort();
	} else if (!strcmp(way, "threads")) {
		pthread_barrier_init(&done, NULL, THREADS + 1);
		pthread_barrier_init(&leave, NULL, THREADS + 1);
		threads(in_thread, THREADS);
		pthread_barrier_wait(&done);
	} else if (!strcmp(way, "large-arena")) {
		// More than one heap of 64 MiB in one arena.
		pthread_barrier_init(&done, NULL, 2);
		pthread_barrier_init(&leave, NULL, 2);
		mallopt(M_MMAP_THRESHOLD, 32 << 20);
		threads(big, 1);
		pthread_barrier_wait(&done);
	} else if (!strcmp(way, "foreign-brk")) {
		mixed(live, 20000, 3);
		if (sbrk(12345 * 16) == (void *)-1)
			abort();
		mixed(live + 20000, 20000, 4);
	} else if (!strcmp(way, "no-brk")) {
		mixed(live, 20000, 5);
		// Something that is in the way of the break.
		char *end = sbrk(0);
		char *page = (char *)(((uintptr_t)end + 4095) & ~4095ul);
		if (mmap(page, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			 -1, 0) == MAP_FAILED)
			abort();
		mixed(live + 20000, 60000, 6);
	} else if (!strcmp(way, "trim")) {
		malloc_trim(0);
	} else if (!strcmp(way, "churn")) {
		pthread_barrier_init(&done, NULL, CHURNING + 1);
		threads(churn, CHURNING);
		pthread_barrier_wait(&done);
	} else if (!strcmp(way, "many")) {
		for (size_t i = 0; i < 16000000; i++)
			fill(40 + i % 16);
	} else {
		abort();
	}
}

int main(int argc, char **argv)
{
	static char buffer[4096];
	setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
	live = mmap(NULL, MOST * sizeof(void *), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (live == MAP_FAILED)
		abort();
	for (int i = 1; i < argc; i++) {
		hold(argv[i]);
		size_t bytes = 0, blocks = 0;
		if (strcmp(argv[i], "churn"))
			for (size_t k = 0; k < MOST; k++)
				if (live[k] && malloc_usable_size(live[k]) < 600000) {
					bytes += malloc_usable_size(live[k]) + sizeof(size_t);
					blocks++;
				}
		struct mallinfo2 m = mallinfo2();
		printf("%zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu\n", m.arena, m.ordblks,
		       m.smblks, m.hblks, m.hblkhd, m.fsmblks, m.uordblks, m.fordblks, m.keepcost,
		       bytes, blocks);
		fflush(stdout);
		char c;
		while (read(0, &c, 1) == 1 && c != '\n') {
		}
	}
	return 0;
}
