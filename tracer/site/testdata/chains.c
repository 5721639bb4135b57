/*
 * Calls that make memory larger, by ever other ways there: through frames of many
 * shapes, through libc and back, from a thread and from signal handlers. What it
 * does is the same in each run. Nothing is inlined, and there are no tail calls.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACE __attribute__((noipa))

static size_t page;
static _Thread_local unsigned seed;
static _Thread_local volatile int calls;

static unsigned chance(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static void *kept(void *p)
{
	if (!p || p == MAP_FAILED) {
		perror("chains");
		_exit(1);
	}
	calls++;
	return p;
}

PLACE static void *map(size_t len, int prot)
{
	return kept(mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

PLACE static void by_protecting(void)
{
	char *p = map(8 * page, PROT_NONE);
	if (mprotect(p + page, 4 * page, PROT_READ | PROT_WRITE))
		_exit(1);
	calls++;
}

PLACE static void by_moving(void)
{
	char *p = map(4 * page, PROT_READ | PROT_WRITE);
	kept(mremap(p, 4 * page, 64 * page, MREMAP_MAYMOVE));
}

PLACE static void by_malloc(void)
{
	kept(malloc(200000 + chance(100000)));
}

PLACE static void by_realloc(void)
{
	char *p = kept(malloc(150000));
	kept(realloc(p, 600000 + chance(100000)));
}

PLACE static void by_small_pieces(void)
{
	for (int i = 0; i < 70; i++)
		kept(calloc(1, 1000 + chance(1000)));
}

PLACE static void on_signal(int signal)
{
	(void)signal;
	map((1 + chance(9)) * page, PROT_READ | PROT_WRITE);
}

PLACE static void by_signal(void)
{
	raise(SIGUSR1);
	calls++;
}

PLACE static void at_the_end(void)
{
	static void (*const ends[])(void) = {
		by_protecting, by_moving, by_malloc, by_realloc, by_small_pieces, by_signal,
	};
	ends[chance(sizeof(ends) / sizeof(*ends))]();
	calls++;
}

PLACE static void on(unsigned depth);

PLACE static void small_frame(unsigned depth)
{
	on(depth);
	calls++;
}

PLACE static void large_frame(unsigned depth)
{
	volatile char frame[600];
	frame[depth] = 1;
	on(depth);
	calls += frame[depth];
}

PLACE static void moving_frame(unsigned depth)
{
	volatile char *frame = alloca(16 + chance(300));
	frame[0] = 1;
	on(depth);
	calls += frame[0];
}

PLACE static void aligned_frame(unsigned depth)
{
	volatile char frame[64] __attribute__((aligned(64)));
	frame[depth] = 1;
	on(depth);
	calls += frame[depth];
}

/* Keeps much in registers over the call, which must then be saved. */
PLACE static void many_registers(unsigned depth, int a, int b, int c, int d, int e, int f, int g)
{
	int h = a * b, i = c * d, j = e * f;
	on(depth);
	calls += a + b + c + d + e + f + g + h + i + j;
}

/* Two ways through one function, of which one saves registers later. */
PLACE static void early_or_late(unsigned depth)
{
	int n = calls;
	if (depth % 2) {
		on(depth);
		calls++;
		return;
	}
	char frame[100];
	snprintf(frame, sizeof(frame), "%u", depth);
	on(depth);
	calls += frame[0] - '0' + n;
}

static _Thread_local unsigned depth_of_sort;

PLACE static int compare(const void *a, const void *b)
{
	int d = *(const int *)a - *(const int *)b;
	if (depth_of_sort) {
		unsigned depth = depth_of_sort;
		depth_of_sort = 0; /* once */
		on(depth);
	}
	return d;
}

PLACE static void through_libc(unsigned depth)
{
	int v[] = {3, 1, 2, 5, 4};
	depth_of_sort = depth;
	qsort(v, 5, sizeof(*v), compare);
	calls += v[0];
}

PLACE static void on(unsigned depth)
{
	if (depth == 0)
		return at_the_end();
	switch (chance(7)) {
	case 0:
		small_frame(depth - 1);
		break;
	case 1:
		large_frame(depth - 1);
		break;
	case 2:
		moving_frame(depth - 1);
		break;
	case 3:
		aligned_frame(depth - 1);
		break;
	case 4:
		many_registers(depth - 1, 1, 2, 3, 4, 5, 6, 7);
		break;
	case 5:
		early_or_late(depth - 1);
		break;
	default:
		through_libc(depth - 1);
	}
	calls++;
}

static void *work(void *first)
{
	seed = *(unsigned *)first;
	for (int i = 0; i < 30; i++)
		on(chance(12));
	return NULL;
}

int main(void)
{
	unsigned first = 1, second = 2;
	pthread_t t;
	struct sigaction action = {.sa_handler = on_signal};

	page = sysconf(_SC_PAGESIZE);
	if (sigaction(SIGUSR1, &action, NULL) || pthread_create(&t, NULL, work, &second))
		return 1;
	work(&first);
	return pthread_join(t, NULL);
}
