/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * vmas: a process with many mappings that does nothing.
 *
 *   vmas N [RESIDENT_MB]
 *
 * Makes N mappings next to each other, of equal size, every second one read-only so that they do
 * not merge; together they hold at least RESIDENT_MB MiB (default 0), of which exactly that much,
 * from the start, is resident in small pages. Then prints "ready" and waits for EOF on stdin.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void __attribute__((noreturn)) die(const char *what)
{
	dprintf(2, "vmas: %s: %s\n", what, strerrorname_np(errno));
	_exit(1);
}

int main(int argc, char **argv)
{
	size_t ps = sysconf(_SC_PAGESIZE);
	long n = argc > 1 ? atol(argv[1]) : 0, mib = argc > 2 ? atol(argv[2]) : 0;
	if (argc < 2 || argc > 3 || n < 1 || mib < 0) {
		dprintf(2, "usage: vmas N [RESIDENT_MB]\n");
		return 2;
	}
	size_t resident = (size_t)mib << 20;
	size_t row = n * ps; /* one page of each */
	size_t each = resident ? (resident + row - 1) / row * ps : ps;
	/* A frame without access keeps the mappings apart from what else there is. */
	char *base = mmap(NULL, n * each + 2 * ps, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		die("mmap");
	base += ps;
	if (mprotect(base, n * each, PROT_READ | PROT_WRITE) < 0)
		die("mprotect");
	/* EINVAL: a kernel without huge pages needs no telling. */
	if (madvise(base, n * each, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
		die("madvise");
	for (size_t at = 0; at < resident; at += ps)
		base[at] = 1;
	for (long i = 1; i < n; i += 2)
		if (mprotect(base + i * each, each, PROT_READ) < 0)
			die("mprotect: perhaps vm.max_map_count is too small");
	if (write(1, "ready\n", 6) != 6)
		die("write");
	char c;
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
