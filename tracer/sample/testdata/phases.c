/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * phases SEED PHASES FILE: memory of many kinds, used at random.
 *
 * Stops itself (SIGSTOP) before the first phase and after each. In every third phase there is a
 * child that has written to some of what it inherited, and has stopped as well; it is killed in the
 * next. FILE is made, and 8 MiB long.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t MIB = 1024 * 1024;

static size_t ps;
static unsigned seed;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "phases: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static size_t chance(size_t n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % n;
}

/* What is mapped. Huge memory is only written to: what reads of it get is another matter. */
static struct area {
	char *at;
	size_t len;
	bool huge, anon;
} areas[32];
static int nareas;

static void add(void *at, size_t len, bool huge, bool anon)
{
	if (at == MAP_FAILED)
		die("mmap");
	areas[nareas++] = (struct area){at, len, huge, anon};
}

static void *map(size_t len, int flags, int fd)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static void use(char *at, size_t len, bool write)
{
	for (size_t i = 0; i < len; i += ps) {
		volatile char *p = at + i;
		if (write)
			*p = 1;
		else
			(void)*p;
	}
}

/* A random part of a random area. */
static struct area part(void)
{
	struct area a = areas[chance(nareas)];
	size_t pages = a.len / ps, first = chance(pages);
	a.at += first * ps;
	a.len = (1 + chance(pages - first)) * ps;
	return a;
}

static void do_something(void)
{
	struct area a = part();
	switch (chance(8)) {
	case 0:
	case 1:
	case 2:
		use(a.at, a.len, a.huge || chance(2));
		break;
	case 3:
		if (madvise(a.at, a.len, MADV_DONTNEED))
			die("MADV_DONTNEED");
		break;
	case 4: /* pages stay where nothing may be done with them */
		use(a.at, a.len, true);
		if (mprotect(a.at, a.len, PROT_NONE) ||
		    mprotect(a.at, a.len / 2 / ps * ps + ps, PROT_READ | PROT_WRITE) ||
		    mprotect(a.at, a.len, PROT_READ | PROT_WRITE))
			die("mprotect");
		break;
	case 5: { /* longer, and somewhere else */
		struct area *all = &areas[chance(nareas)];
		if (!all->anon || all->huge || all->len > 16 * MIB)
			break;
		char *p = mremap(all->at, all->len, 2 * all->len, MREMAP_MAYMOVE);
		if (p == MAP_FAILED && errno == EFAULT)
			break; /* it is in pieces by now */
		if (p == MAP_FAILED)
			die("mremap");
		all->at = p;
		all->len *= 2;
		use(p + all->len - ps, ps, true);
		break;
	}
	case 6: /* the heap: what is below the break stays */
		if (sbrk((1 + chance(MIB / ps)) * ps) == (void *)-1)
			die("sbrk");
		char *end = sbrk(0);
		use(end - ps, ps, true);
		break;
	default:
		if (nareas < 32) {
			size_t len = (16 + chance(1024)) * ps;
			char *p = map(len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
			add(p, len, false, true);
			use(p, len / 2, true);
			/* Ever other modes, so that it is not always one with its neighbour. */
			if (chance(2) && mprotect(p, len, PROT_READ | PROT_WRITE | PROT_EXEC))
				die("mprotect");
		}
	}
}

static void make_areas(const char *path)
{
	int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int mem = memfd_create("phases", MFD_CLOEXEC);
	if (file < 0 || mem < 0 || ftruncate(file, 8 * MIB) || ftruncate(mem, 8 * MIB))
		die(path);
	add(map(16 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1), 16 * MIB, false, true);
	if (madvise(areas[0].at, areas[0].len, MADV_NOHUGEPAGE) && errno != EINVAL)
		die("MADV_NOHUGEPAGE");
	add(map(32 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1), 32 * MIB, true, true);
	if (madvise(areas[1].at, areas[1].len, MADV_HUGEPAGE) && errno != EINVAL)
		die("MADV_HUGEPAGE");
	add(map(8 * MIB, MAP_SHARED, file), 8 * MIB, false, false);
	add(map(8 * MIB, MAP_PRIVATE, file), 8 * MIB, false, false);
	add(map(8 * MIB, MAP_SHARED, mem), 8 * MIB, false, false);
	add(map(4 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1), 4 * MIB, false, false);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: phases SEED PHASES FILE\n");
		return 2;
	}
	seed = atoi(argv[1]);
	ps = sysconf(_SC_PAGESIZE);
	make_areas(argv[3]);
	raise(SIGSTOP);
	for (int phase = 0, phases = atoi(argv[2]); phase < phases; phase++) {
		pid_t child = 0;
		for (int i = 0; i < 6; i++)
			do_something();
		if (phase % 3 == 2) {
			child = fork();
			if (child < 0)
				die("fork");
			for (int i = 0; i < 4; i++)
				do_something(); /* both do, with what they share */
			if (child == 0) {
				raise(SIGSTOP);
				_exit(0);
			}
			if (waitpid(child, NULL, WUNTRACED) != child)
				die("waitpid");
		}
		raise(SIGSTOP);
		if (child && (kill(child, SIGKILL) || waitpid(child, NULL, 0) != child))
			die("kill");
	}
	return 0;
}
