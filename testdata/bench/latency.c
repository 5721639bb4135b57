/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * latency N RESIDENT_MB: a process with N mappings next to each other, of equal size, every second
 * one read-only so that they do not merge, which together have RESIDENT_MB MiB resident in small
 * pages. Prints "ready". Then, for each line on stdin, maps and unmaps a page for so many seconds
 * and prints how often, and how many ns its calls of mmap took: in the middle, 99.9 % of them at
 * most, and at most. The quantiles are exact to 1/32.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUB = 32, BUCKETS = 64 * SUB };

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "latency: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Buckets of equal width between powers of two; those below SUB are exact. */
static unsigned bucket(uint64_t ns)
{
	if (ns < SUB)
		return ns;
	unsigned shift = 63 - __builtin_clzll(ns) - 5;
	return shift * SUB + (ns >> shift);
}

/* The most that is in a bucket. */
static uint64_t most_in(unsigned b)
{
	if (b < 2 * SUB)
		return b;
	unsigned shift = b / SUB - 1;
	return ((uint64_t)(b % SUB + SUB + 1) << shift) - 1;
}

static uint64_t quantile(const uint64_t *counts, uint64_t total, double q)
{
	uint64_t seen = 0;
	for (unsigned b = 0; b < BUCKETS; b++)
		if ((seen += counts[b]) >= q * total)
			return most_in(b);
	return 0;
}

static void measure(double seconds, size_t ps)
{
	static uint64_t counts[BUCKETS];
	uint64_t total = 0, most = 0, end = now() + seconds * 1e9;
	memset(counts, 0, sizeof counts);
	for (uint64_t t = now(); t < end; total++) {
		char *p =
			mmap(NULL, ps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		uint64_t after = now();
		if (p == MAP_FAILED)
			die("mmap");
		counts[bucket(after - t)]++;
		if (after - t > most)
			most = after - t;
		if (munmap(p, ps) < 0)
			die("munmap");
		t = now();
	}
	printf("%llu %llu %llu %llu\n", (unsigned long long)total,
	       (unsigned long long)quantile(counts, total, 0.5),
	       (unsigned long long)quantile(counts, total, 0.999), (unsigned long long)most);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	size_t ps = sysconf(_SC_PAGESIZE);
	long n = argc == 3 ? atol(argv[1]) : 0, mib = argc == 3 ? atol(argv[2]) : 0;
	double seconds;
	if (n < 1 || mib < 1) {
		fprintf(stderr, "usage: latency N RESIDENT_MB\n");
		return 2;
	}
	size_t resident = (size_t)mib << 20, row = n * ps;
	size_t each = (resident + row - 1) / row * ps;
	char *base = mmap(NULL, n * each, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		die("mmap");
	/* EINVAL: a kernel without huge pages needs no telling. */
	if (madvise(base, n * each, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
		die("madvise");
	for (size_t at = 0; at < resident; at += ps)
		base[at] = 1;
	for (long i = 1; i < n; i += 2)
		if (mprotect(base + i * each, each, PROT_READ) < 0)
			die("mprotect: perhaps vm.max_map_count is too small");
	puts("ready");
	fflush(stdout);
	while (scanf("%lf", &seconds) == 1)
		measure(seconds, ps);
	return 0;
}
