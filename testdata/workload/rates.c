/* SPDX-License-Identifier: Apache-2.0 */
//go:build ignore

/*
 * Makes memory at given rates and rhythms, keeps some of it, and says in the end what
 * each of its functions holds. Each argument is an actor:
 *
 *     FUNCTION:HOW:SIZE:RATE:ON:OFF:KEEP:LIFE:TOUCH
 *
 * FUNCTION is 0 to 9: who is to be named. HOW is mmap, malloc, shared, deep (mmap below
 * a stack of changing depth) or grow (one mapping that mremap makes larger). RATE is in
 * pieces a second while the actor is on, ON ms of every ON + OFF. Of KEEP pieces it
 * keeps one for good (0: none), and each other until LIFE more have been made. TOUCH is
 * the percentage of a piece's pages that it writes to.
 *
 * It begins when it can read a byte. After argv[1] ms it stands still, prints a line "FUNCTION
 * MAPPED RESIDENT SLOWEST FASTEST" for each function, and waits for the end of its input.
 * The last two are the least and the most of MAPPED that it has gained in a second.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ACTORS	  16
#define FUNCTIONS 10
#define LIVES	  4096

struct piece {
	char *at;
	size_t mapped, resident;
};

struct actor {
	int function, keep, life, touch;
	long rate, on, off;
	size_t size;
	char how[16];
	struct piece lives[LIVES];
	long made;
	struct piece whole; /* of grow */
	long long mapped, resident;
	pthread_t thread;
};

static struct actor actors[ACTORS];
static long page, deadline;

#define STEP_US 100000 /* between two samples */
#define SAMPLES 1024
static long long samples[SAMPLES][FUNCTIONS];
static int sampled;

static long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static size_t whole_pages(size_t n)
{
	return (n + page - 1) / page * page;
}

/* Each makes a piece, by code of its own. */
#define MAKER(n)                                                                                   \
	__attribute__((noinline)) void *make_##n(const char *how, size_t size)                     \
	{                                                                                          \
		void *p;                                                                           \
                                                                                                   \
		if (how[0] == 'm' && how[1] == 'a')                                                \
			p = malloc(size);                                                          \
		else                                                                               \
			p = mmap(NULL, size, PROT_READ | PROT_WRITE,                               \
				 MAP_ANONYMOUS | (how[0] == 's' ? MAP_SHARED : MAP_PRIVATE), -1,   \
				 0);                                                               \
		asm volatile("" : : "r"(p) : "memory");                                            \
		return p;                                                                          \
	}                                                                                          \
	__attribute__((noinline)) void *enlarge_##n(void *old, size_t from, size_t to)             \
	{                                                                                          \
		void *p = mremap(old, from, to, MREMAP_MAYMOVE);                                   \
                                                                                                   \
		asm volatile("" : : "r"(p) : "memory");                                            \
		return p;                                                                          \
	}
MAKER(0)
MAKER(1)
MAKER(2)
MAKER(3)
MAKER(4)
MAKER(5)
MAKER(6)
MAKER(7)
MAKER(8)
MAKER(9)
#define TEN(f)                                                                                     \
	{                                                                                          \
		f##0, f##1, f##2, f##3, f##4, f##5, f##6, f##7, f##8, f##9                         \
	}
static void *(*const makers[])(const char *, size_t) = TEN(make_);
static void *(*const enlargers[])(void *, size_t, size_t) = TEN(enlarge_);

__attribute__((noinline)) static void *make(struct actor *a, int depth)
{
	char pad[64];
	void *p;

	memset(pad, depth, sizeof(pad));
	asm volatile("" : : "r"(pad) : "memory");
	p = depth > 0 ? make(a, depth - 1) : makers[a->function](a->how, a->size);
	asm volatile("" : : "r"(p) : "memory");
	return p;
}

static void drop(struct actor *a, struct piece *p)
{
	if (!p->at)
		return;
	if (!strcmp(a->how, "malloc"))
		free(p->at);
	else
		munmap(p->at, p->mapped);
	p->at = NULL;
}

static size_t touch(struct actor *a, char *at, size_t from, size_t to)
{
	size_t pages = (to - from) / page * a->touch / 100;

	for (size_t i = 0; i < pages; i++)
		at[from + i * page] = 1;
	return pages * page;
}

static void enlarge(struct actor *a)
{
	struct piece *w = &a->whole;
	size_t to = w->mapped + whole_pages(a->size);

	if (!w->at) {
		w->at = makers[a->function]("mmap", to);
	} else {
		w->at = enlargers[a->function](w->at, w->mapped, to);
	}
	if (w->at == MAP_FAILED)
		exit(1);
	a->resident += touch(a, w->at, w->mapped, to);
	a->mapped += to - w->mapped;
	w->mapped = to;
}

static void one(struct actor *a)
{
	struct piece p = {}, *slot;

	a->made++;
	if (!strcmp(a->how, "grow")) {
		enlarge(a);
		return;
	}
	p.at = make(a, strcmp(a->how, "deep") ? 0 : a->made % 23);
	if (!p.at || p.at == MAP_FAILED)
		exit(1);
	p.mapped = whole_pages(a->size);
	if (!strcmp(a->how, "malloc")) {
		/* glibc's chunk: its size before it, and the rest of the page in front. */
		p.mapped = ((size_t *)p.at)[-1] & ~(size_t)7;
		p.resident = touch(a, p.at - 16, page, p.mapped) + page;
	} else {
		p.resident = touch(a, p.at, 0, p.mapped);
	}
	if (a->keep && a->made % a->keep == 0) {
		a->mapped += p.mapped;
		a->resident += p.resident;
		return;
	}
	slot = &a->lives[a->made % (a->life + 1)];
	drop(a, slot);
	*slot = p;
}

static void *act(void *arg)
{
	struct actor *a = arg;
	long began = now_us(), period = (a->on + a->off) * 1000, done = 0;

	for (long now = began; now < deadline; now = now_us()) {
		long at = now - began, on = at / period * a->on * 1000, in = at % period;
		long due = (on + (in < a->on * 1000 ? in : a->on * 1000)) * a->rate / 1000000;

		/* What it could not do in time it leaves out: the machine may be slow. */
		if (due > done + a->rate / 10 + 1)
			done = due - a->rate / 10 - 1;
		if (done >= due)
			usleep(200);
		for (; done < due; done++)
			one(a);
	}
	for (int i = 0; i < LIVES; i++)
		drop(a, &a->lives[i]);
	return NULL;
}

/* What the functions hold, from time to time. */
static void sample(int n)
{
	for (long next = now_us() + STEP_US; next < deadline && sampled < SAMPLES;
	     next += STEP_US) {
		while (now_us() < next)
			usleep(1000);
		for (int i = 0; i < n; i++)
			samples[sampled][actors[i].function] += actors[i].mapped;
		sampled++;
	}
}

static long long gained(int function, bool most)
{
	const int second = 1000000 / STEP_US;
	long long best = -1;

	for (int i = second; i < sampled; i++) {
		long long n = samples[i][function] - samples[i - second][function];

		if (best < 0 || (n > best) == most)
			best = n;
	}
	return best < 0 ? 0 : best;
}

int main(int argc, char **argv)
{
	long long mapped[FUNCTIONS] = {}, resident[FUNCTIONS] = {};
	char c;

	page = sysconf(_SC_PAGESIZE);
	mallopt(M_MMAP_THRESHOLD, 128 << 10); /* or it follows the sizes that are freed */
	if (argc < 3 || argc - 2 > ACTORS)
		return 2;
	if (read(0, &c, 1) != 1)
		return 1;
	deadline = now_us() + atol(argv[1]) * 1000;
	for (int i = 2; i < argc; i++) {
		struct actor *a = &actors[i - 2];

		if (sscanf(argv[i], "%d:%15[a-z]:%zu:%ld:%ld:%ld:%d:%d:%d", &a->function, a->how,
			   &a->size, &a->rate, &a->on, &a->off, &a->keep, &a->life, &a->touch) != 9)
			return 2;
		if (a->function < 0 || a->function >= FUNCTIONS || a->life >= LIVES || a->on < 1)
			return 2;
		if (pthread_create(&a->thread, NULL, act, a))
			return 1;
	}
	sample(argc - 2);
	for (int i = 0; i < argc - 2; i++) {
		struct actor *a = &actors[i];

		pthread_join(a->thread, NULL);
		mapped[a->function] += a->mapped;
		resident[a->function] += a->resident;
	}
	for (int i = 0; i < FUNCTIONS; i++)
		printf("%d %lld %lld %lld %lld\n", i, mapped[i], resident[i], gained(i, false),
		       gained(i, true));
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
