/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * Many processes, many stacks, and many calls for one row of maps.
 *
 *   crowd node IDLE CHURN LEAK   so many processes that do nothing, that map and unmap all the
 *                                time, and that leak 640 KiB a second
 *   crowd short N                N processes in a row, each of which maps 1 MiB and ends
 *   crowd stacks N RATE          N calls of mmap and munmap, each from another stack, RATE a
 *                                second; up to 2^20 are different
 *   crowd pages N RATE           N calls of mmap, each of the page after that of the call before,
 *                                RATE a second
 *
 * All begin when they can read a byte, print a line "done" at their end, and wait for the end of
 * their input.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 20 /* functions between main and the call: two choices each */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* Part of whoever calls it, who is to be blamed. */
static inline __attribute__((always_inline)) void *map(size_t bytes)
{
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < bytes; i += 4096)
		at[i] = 1;
	return at;
}

static void unmap(void *at, size_t bytes)
{
	if (munmap(at, bytes))
		fail("munmap");
}

static void nap(long ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};

	nanosleep(&t, NULL); /* a signal may end it early: nothing depends on that */
}

static __attribute__((noinline)) void idle(void)
{
	for (;;)
		pause();
}

static __attribute__((noinline)) void churn(void)
{
	for (;;) {
		size_t bytes = 65536 + (size_t)(rand() % 16) * 65536;

		unmap(map(bytes), bytes);
		nap(5000000);
	}
}

static __attribute__((noinline)) void leak_here(void)
{
	for (;;) {
		map(65536);
		nap(100000000);
	}
}

static void many(int n, void (*role)(void))
{
	const pid_t parent = getpid();

	for (int i = 0; i < n; i++) {
		switch (fork()) {
		case -1:
			fail("fork");
			break;
		case 0:
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent) /* it has ended before */
				_exit(1);
			srand((unsigned)getpid());
			role();
		}
	}
}

static void brief(const char *self, long n)
{
	char *argv[] = {(char *)self, "brief", NULL}, *envp[] = {NULL};

	for (long i = 0; i < n; i++) {
		pid_t pid;
		int status;

		if (posix_spawn(&pid, self, NULL, NULL, argv, envp))
			fail("posix_spawn");
		if (waitpid(pid, &status, 0) != pid || status)
			fail("waitpid");
	}
}

static void down(unsigned path, int depth);

/*
 * Each does something after its call, so that none is a jump, and something of its own, or the
 * compiler makes one of both.
 */
static __attribute__((noinline)) void left(unsigned path, int depth)
{
	down(path, depth);
	__asm__ volatile("# left");
}

static __attribute__((noinline)) void right(unsigned path, int depth)
{
	down(path, depth);
	__asm__ volatile("# right");
}

static inline __attribute__((always_inline)) void down(unsigned path, int depth)
{
	if (depth == 0)
		unmap(map(4096), 4096);
	else if (path & 1)
		left(path >> 1, depth - 1);
	else
		right(path >> 1, depth - 1);
}

static void stack(long i)
{
	down((unsigned)i, DEPTH);
}

static void page(long i)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	char *at = (char *)0x100000000000 + i * size; /* where nothing else is */

	if (mmap(at, size, PROT_READ | PROT_WRITE, flags, -1, 0) != at)
		fail("mmap");
}

static void paced(long n, long rate, void (*call)(long))
{
	const long slice = rate / 100 + 1; /* calls in a hundredth of a second */
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	for (long i = 0; i < n; i++) {
		call(i);
		if (i % slice == 0) {
			next.tv_nsec += 10000000;
			if (next.tv_nsec >= 1000000000) {
				next.tv_sec++;
				next.tv_nsec -= 1000000000;
			}
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		}
	}
}

int main(int argc, char **argv)
{
	char c;

	if (argc == 2 && !strcmp(argv[1], "brief")) {
		unmap(map(1 << 20), 1 << 20);
		return 0;
	}
	if (read(0, &c, 1) != 1)
		fail("read");
	if (argc == 5 && !strcmp(argv[1], "node")) {
		many(atoi(argv[2]), idle);
		many(atoi(argv[3]), churn);
		many(atoi(argv[4]), leak_here);
	} else if (argc == 3 && !strcmp(argv[1], "short")) {
		brief("/proc/self/exe", atol(argv[2]));
	} else if (argc == 4 && !strcmp(argv[1], "stacks")) {
		paced(atol(argv[2]), atol(argv[3]), stack);
	} else if (argc == 4 && !strcmp(argv[1], "pages")) {
		paced(atol(argv[2]), atol(argv[3]), page);
	} else {
		fputs("usage: crowd node IDLE CHURN LEAK | short N | stacks N RATE | "
		      "pages N RATE\n",
		      stderr);
		return 2;
	}
	puts("done");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		;
	return 0;
}
