/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * timed: known mapping calls, each timed by the program itself.
 *
 *   timed calls N      N times mmap and munmap of private memory, N of shared memory, and N
 *                      munmap of nothing, which fail
 *   timed contend N    the same without the shared memory by one thread, while another maps
 *                      256 MiB with MAP_POPULATE, again and again until the first is done
 *
 * It prints "ready" and waits for a byte on stdin; between that and "done" it makes no other
 * mapping call. After "done" come the times, 8 bytes each in the machine's byte order, in ns:
 * first how many there are of mmap and how many of munmap, then those, then how many of the
 * mmaps the second thread has made, and the times of N getppid. Then it waits for EOF on stdin.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CALLS = 1 << 20, MET_NS = 1000000 };

static const size_t CHUNK = 64 * 1024, MUCH = 256 * 1024 * 1024;

struct times {
	uint64_t n;
	uint64_t *ns;
};

static struct times maps[2], unmaps[2]; /* by thread */
static pthread_barrier_t begin;
static atomic_bool stop;

static void __attribute__((noreturn)) die(const char *what)
{
	dprintf(2, "timed: %s: %s\n", what, strerrorname_np(errno));
	_exit(1);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* All memory is there, touched, before the first call that counts. */
static void prepare(struct times *t, uint64_t most)
{
	size_t len = most * sizeof *t->ns;
	t->ns = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		     -1, 0);
	if (t->ns == MAP_FAILED)
		die("map the times");
}

static void note(struct times *t, uint64_t since)
{
	uint64_t ns = now() - since;
	if (t->n < MAX_CALLS)
		t->ns[t->n++] = ns;
}

static void __attribute__((noinline)) map_and_unmap(int who, size_t len, int flags)
{
	uint64_t at = now();
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
	note(&maps[who], at);
	if (p == MAP_FAILED)
		die("mmap");
	at = now();
	int err = munmap(p, len);
	note(&unmaps[who], at);
	if (err)
		die("munmap");
}

static void *populate(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&begin);
	do
		map_and_unmap(1, MUCH, MAP_PRIVATE | MAP_POPULATE);
	while (!atomic_load(&stop));
	return NULL;
}

static void out(const void *p, size_t len)
{
	for (const char *c = p; len > 0;) {
		ssize_t n = write(1, c, len);
		if (n < 0)
			die("write");
		c += n;
		len -= n;
	}
}

static void print(uint64_t n)
{
	out(&n, sizeof n);
}

int main(int argc, char **argv)
{
	bool met = false, contend = argc == 3 && !strcmp(argv[1], "contend");
	uint64_t n = argc == 3 ? strtoull(argv[2], NULL, 0) : 0;
	if (n < 1 || n > MAX_CALLS / 3 || (!contend && strcmp(argv[1], "calls"))) {
		dprintf(2, "usage: timed calls|contend N\n");
		return 2;
	}
	for (int i = 0; i < 2; i++) {
		prepare(&maps[i], MAX_CALLS);
		prepare(&unmaps[i], MAX_CALLS);
	}
	struct times idles = {0};
	prepare(&idles, MAX_CALLS);
	pthread_t other;
	pthread_barrier_init(&begin, NULL, 2);
	if (contend && (errno = pthread_create(&other, NULL, populate, NULL)))
		die("start a thread");

	char byte;
	out("ready\n", 6);
	if (read(0, &byte, 1) != 1)
		return 1;
	if (contend)
		pthread_barrier_wait(&begin);
	for (uint64_t i = 0; i < n; i++) {
		map_and_unmap(0, CHUNK, MAP_PRIVATE);
		if (!contend)
			map_and_unmap(0, CHUNK, MAP_SHARED);
		uint64_t at = now();
		int err = munmap((void *)1, CHUNK);
		note(&unmaps[0], at);
		if (!err || errno != EINVAL)
			die("munmap of nothing");
		/* Until it has met the other once: it may be done before that has begun. */
		met |= maps[0].ns[i] > MET_NS || unmaps[0].ns[2 * i] > MET_NS;
		if (contend && !met)
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	atomic_store(&stop, true);
	/* At its end the thread's stack is advised away, and kept for another. */
	if (contend)
		pthread_join(other, NULL);
	/* What a call takes that does nothing. */
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = now();
		syscall(SYS_getppid);
		note(&idles, at);
	}
	out("done\n", 5);
	print(maps[0].n + maps[1].n);
	print(unmaps[0].n + unmaps[1].n);
	for (int i = 0; i < 2; i++)
		out(maps[i].ns, maps[i].n * sizeof *maps[i].ns);
	for (int i = 0; i < 2; i++)
		out(unmaps[i].ns, unmaps[i].n * sizeof *unmaps[i].ns);
	print(maps[1].n);
	out(idles.ns, n * sizeof *idles.ns);
	return read(0, &byte, 1) != 0;
}
