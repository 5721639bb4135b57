/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * churn: a program that changes its address space in every way it can.
 *
 *   churn [-t THREADS] [-n OPS_PER_THREAD] [-s SEED] [-m all|mm|nofork|files] [-w] [-W]
 *
 * Threads of one address space do random mapping operations, most of which succeed. What each call
 * must return is known from the workload's own books, so an errno nobody foresaw is a bug, here or
 * in the kernel: it is printed and the exit status is 1.
 *
 * -m  all (default); mm: mmap and munmap of anonymous memory; nofork: all but fork, exec and
 *     thread creation; files: no anonymous memory, no fork
 * -w  waits for one byte on stdin before the first operation
 * -W  at the end prints "done" and waits for EOF on stdin; no mapping changes meanwhile
 *
 * Who owns what. Addresses come from two places, and the difference matters:
 *
 *  - Areas come from mmap(NULL): what one thread unmaps, the kernel hands to the next that asks.
 *    No lock orders these calls. A thread touches only its own areas and forgets an address before
 *    it is unmapped, so that no thread ever hits a mapping that has meanwhile become another's.
 *  - Each thread's yard lies far below everything the kernel places by itself. Only its owner puts
 *    anything there, so holes stay holes, and calls across several mappings and gaps are safe.
 *
 * Given a seed, each thread makes the same choices every time as long as they do not depend on
 * where the kernel puts things.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/aio_abi.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Newer than the C library's headers may be; the numbers are the same on every architecture. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef PR_SET_VMA_ANON_NAME
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum {
	MAX_THREADS = 256,
	MAX_AREAS = 1000, /* of all threads together; about half of the live mappings */
	NSHM = 3,
	NBACKINGS = 5,

	RW = PROT_READ | PROT_WRITE,
	RX = PROT_READ | PROT_EXEC,
};

static const size_t KIB = 1024, MIB = 1024 * 1024;

/*
 * Every thread has 1 GiB of addresses, low enough for 39-bit address spaces and below anything the
 * kernel chooses: mmap goes top down from the stack, or bottom up from a third of the address
 * space.
 */
static const uintptr_t HOMES = 64ULL << 30, HOME = 1ULL << 30;
static const uintptr_t STACK_SLOT = 512ULL << 20; /* the top of the growing mapping, in a home */
static const uintptr_t NOTHING = 768ULL << 20;	  /* never mapped, in a home */

enum mix { MM = 1, FILES = 2, NOFORK = 4, ALL = 8 };

/* What can be mapped from a file descriptor. Fixed before the threads start. */
struct backing {
	int fd;
	size_t size;
	bool readonly;
};

/* Properties that decide what a later call on the pages returns. */
enum {
	MAPPED = 1,
	SHARED = 2,
	ANON = 4,     /* private memory without a file */
	READONLY = 8, /* shared and never writable */
	SYSV = 16,    /* attached by shmat */
	NOCHILD = 32, /* MADV_DONTFORK */
	TOUCH = 64,   /* yard pages: backed, a touch is not a SIGBUS */
};

/*
 * Pages that one thread owns. All of an area lies in one VMA (the VMA may be larger, the kernel
 * merges); calls that make two VMAs of one also make two areas of it.
 */
struct area {
	char *addr;
	size_t len;
	size_t off;	 /* of addr in what backs it, bytes */
	size_t limit;	 /* how much there is to back it, bytes; a touch beyond is a SIGBUS */
	unsigned attach; /* which shmat of this thread it comes from, or 0 */
	unsigned char prot, flags;
};

/* One page of the yard; all zero is a hole. */
struct page {
	unsigned char prot, flags;
};

/* Arguments of an mmap call and what the pages will be. */
struct spec {
	int prot, flags, fd;
	size_t off, limit;
	unsigned char what;
};

struct worker {
	uint64_t rng;
	unsigned id;
	bool child; /* a forked copy: alone in its address space */
	struct area *areas;
	size_t n, cap;
	char *home;
	struct page *yard; /* of the pages from home on */
	size_t npages;
	size_t grown; /* pages of the MAP_GROWSDOWN mapping below home + STACK_SLOT */
	size_t depth; /* bytes of main stack used so far */
	unsigned attaches;
	aio_context_t aio;
	char *huge;
	pid_t forked;
	pthread_t helper;
	bool has_helper;
	unsigned char why; /* the helper's seed */
};

static size_t ps; /* bytes of a page */
static enum mix mix = ALL;
static long ops = 10000;
static struct backing backings[NBACKINGS];
static char dir[512],
	kept[2][560]; /* the temporary directory and the files in it that have names */
static pid_t main_pid;
static int self_pidfd = -1;
static int pkey = -1; /* -1 makes pkey_mprotect a plain mprotect: fine with every CPU */
static bool have_pkey = true, have_aio = true;
static size_t huge_size, stack_limit;
static struct {
	int id;
	size_t len;
} shm[NSHM];
static int nshm;

/*
 * The heap. One lock for all calls, since two threads that ask for "20 pages more than now" would
 * else undo each other. malloc never asks for more: it got its share at the start, and everything
 * above brk_floor is ours.
 */
static pthread_mutex_t brk_lock = PTHREAD_MUTEX_INITIALIZER;
static char *brk_floor;

static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t end_cond = PTHREAD_COND_INITIALIZER;
static unsigned ended;

/* ---- failing ---- */

static void clean_up(void)
{
	if (getpid() != main_pid)
		return;
	for (int i = 0; i < 2; i++)
		if (kept[i][0])
			unlink(kept[i]);
	if (dir[0])
		rmdir(dir);
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	char msg[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	dprintf(2, "churn: %s\n", msg);
	clean_up();
	_exit(1);
}

/* The call must have ended with errno want, or well if want is 0. */
static void expect(const char *call, bool failed, int want)
{
	int got = failed ? errno : 0;
	if (got != want)
		die("%s: got %s, want %s", call, got ? strerrorname_np(got) : "success",
		    want ? strerrorname_np(want) : "success");
}

/* The call may have failed, with one of the errnos that follow, ended by 0. Returns whether it did.
 */
static bool may_fail(const char *call, int failed, ...)
{
	int got = errno, e;
	va_list ap;
	if (!failed)
		return false;
	va_start(ap, failed);
	while ((e = va_arg(ap, int)) != 0)
		if (e == got)
			break;
	va_end(ap);
	if (!e)
		die("%s: unexpected %s", call, strerrorname_np(got));
	return true;
}

/* ---- chance ---- */

static uint64_t next(struct worker *w)
{
	uint64_t z = w->rng += 0x9e3779b97f4a7c15; /* splitmix64 */
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* A number below n; n > 0. */
static size_t below(struct worker *w, size_t n)
{
	return next(w) % n;
}

static bool one_in(struct worker *w, size_t n)
{
	return below(w, n) == 0;
}

/* 1 to max, small ones as likely as large ones. */
static size_t some_pages(struct worker *w, size_t max)
{
	size_t bits = 0;
	while ((2UL << bits) <= max)
		bits++;
	size_t hi = 1UL << below(w, bits + 2);
	return 1 + below(w, hi < max ? hi : max);
}

/* A length that the kernel rounds up to len. */
static size_t sloppy(struct worker *w, size_t len)
{
	return one_in(w, 3) ? len - below(w, ps) : len;
}

/* ---- areas ---- */

static struct area *add(struct worker *w, struct area a)
{
	if (w->n == w->cap)
		die("more areas than room was kept for");
	w->areas[w->n] = a;
	return &w->areas[w->n++];
}

static void drop(struct worker *w, struct area *a)
{
	*a = w->areas[--w->n];
}

/* Makes [off, off + len) of an area an area of its own. Other pointers to areas stay valid. */
static void carve(struct worker *w, struct area *a, size_t off, size_t len)
{
	if (off) {
		struct area left = *a;
		left.len = off;
		a->addr += off, a->off += off, a->len -= off;
		add(w, left);
	}
	if (len < a->len) {
		struct area right = *a;
		right.addr += len, right.off += len, right.len -= len;
		a->len = len;
		add(w, right);
	}
}

/* An area, or a part of one made an area: its head, tail or middle. There must be one. */
static struct area *pick_area(struct worker *w)
{
	struct area *a = &w->areas[below(w, w->n)];
	size_t pages = a->len / ps;
	if (pages == 1 || one_in(w, 2))
		return a;
	size_t len = 1 + below(w, pages - 1), off = 0;
	switch (below(w, 3)) {
	case 0:
		break;
	case 1:
		off = pages - len;
		break;
	default:
		off = below(w, pages - len + 1);
	}
	carve(w, a, off * ps, len * ps);
	return a;
}

static void touch_page(char *p, int prot)
{
	if (prot & PROT_WRITE)
		*(volatile char *)p = 1;
	else if (prot & PROT_READ)
		(void)*(volatile char *)p;
}

/* Touches a few pages of an area, never all: what is mapped is not to become resident. */
static void touch(struct worker *w, const struct area *a)
{
	for (size_t i = below(w, 4); i > 0; i--) {
		size_t at = below(w, a->len / ps) * ps;
		if (a->off + at < a->limit)
			touch_page(a->addr + at, a->prot);
	}
}

/* The arguments of an mmap call of len bytes without an address. */
static struct spec pick_spec(struct worker *w, size_t len)
{
	static const int anon_prots[] = {RW, RW, RW, PROT_READ, PROT_NONE, RX, RW | PROT_EXEC};
	static const int prots[] = {RW, RW, PROT_READ, PROT_NONE, PROT_WRITE};
	struct spec s = {.fd = -1, .limit = SIZE_MAX};
	size_t kind = below(w, 10);
	if (mix == MM)
		kind %= 5;
	if (mix == FILES)
		kind = 6 + kind % 4;
	if (kind < 5) {
		s.prot = anon_prots[below(w, sizeof anon_prots / sizeof *anon_prots)];
		s.flags = MAP_PRIVATE | MAP_ANONYMOUS;
		s.what = MAPPED | ANON;
		if (kind == 4) /* a reservation */
			s.prot = PROT_NONE, s.flags |= MAP_NORESERVE;
	} else if (kind == 5) {
		s.prot = prots[below(w, sizeof prots / sizeof *prots)];
		s.flags = MAP_SHARED | MAP_ANONYMOUS;
		s.what = MAPPED | SHARED;
		s.limit = len;
	} else {
		const struct backing *b = &backings[below(w, NBACKINGS)];
		s.fd = b->fd;
		s.off = below(w, b->size / ps + 1) * ps;
		s.limit = b->size;
		s.prot = prots[below(w, sizeof prots / sizeof *prots)];
		s.what = MAPPED;
		s.flags = MAP_PRIVATE;
		if (one_in(w, 2)) {
			s.flags = one_in(w, 4) ? MAP_SHARED_VALIDATE : MAP_SHARED;
			s.what |= SHARED;
			if (b->readonly)
				s.what |= READONLY, s.prot &= ~PROT_WRITE;
		}
	}
	if (one_in(w, 8))
		s.flags |= MAP_NORESERVE;
	if (one_in(w, 16))
		s.flags |= MAP_STACK;
	if (len <= 32 * ps && one_in(w, 8))
		s.flags |= MAP_POPULATE;
	return s;
}

static struct area new_area(char *addr, size_t len, struct spec s)
{
	return (struct area){
		.addr = addr,
		.len = len,
		.off = s.off,
		.limit = s.limit,
		.prot = s.prot,
		.flags = s.what,
	};
}

static size_t area_len(struct worker *w)
{
	return some_pages(w, MIB / ps) * ps;
}

/* An access a thread may ask of pages; not always one that it gets. */
static int pick_prot(struct worker *w, unsigned char what)
{
	static const int prots[] = {RW, RW, PROT_READ, PROT_NONE, PROT_WRITE, RX, RW | PROT_EXEC};
	/* A file may be on a file system mounted noexec. */
	return prots[below(w, what & ANON ? 7 : 5)];
}

static bool refuses(unsigned char what, int prot)
{
	return (what & READONLY) && (prot & PROT_WRITE);
}

/* ---- operations on areas ---- */

static void unmap(struct worker *w, struct area *a)
{
	char *addr = a->addr;
	size_t len = a->len;
	drop(w, a);
	expect("munmap", munmap(addr, sloppy(w, len)) < 0, 0);
}

static void area_unmap(struct worker *w)
{
	unmap(w, pick_area(w));
}

static void area_map(struct worker *w)
{
	size_t len = area_len(w);
	struct spec s = pick_spec(w, len);
	int extra = 0;
	if ((s.what & ANON) && one_in(w, 40))
		extra = MAP_GROWSDOWN;
#ifdef MAP_32BIT
	else if (one_in(w, 40))
		extra = MAP_32BIT;
#endif
	else if (mix != MM && len <= 4 * ps && one_in(w, 16))
		extra = MAP_LOCKED;
	char *p = mmap(NULL, sloppy(w, len), s.prot, s.flags | extra, s.fd, s.off);
	if (extra == MAP_LOCKED) { /* the limit is often 8 MiB */
		if (may_fail("mmap MAP_LOCKED", p == MAP_FAILED, EAGAIN, EPERM, 0))
			return;
	}
	expect("mmap", p == MAP_FAILED, 0);
	touch(w, add(w, new_area(p, len, s)));
}

/*
 * Gives an area back and at once asks for as much: as a rule the kernel has the same place for it,
 * unless another thread was quicker. This is where the order of two threads' calls shows.
 */
static void area_renew(struct worker *w)
{
	struct area *a = pick_area(w);
	size_t len = a->len;
	unmap(w, a);
	struct spec s = pick_spec(w, len);
	char *p = mmap(NULL, len, s.prot, s.flags, s.fd, s.off);
	expect("mmap", p == MAP_FAILED, 0);
	add(w, new_area(p, len, s));
}

static void area_map_over(struct worker *w)
{
	struct area *a = pick_area(w);
	struct spec s = pick_spec(w, a->len);
	if (one_in(w, 8)) {
		char *p = mmap(a->addr, sloppy(w, a->len), s.prot, s.flags | MAP_FIXED_NOREPLACE,
			       s.fd, s.off);
		expect("mmap MAP_FIXED_NOREPLACE over an area", p == MAP_FAILED, EEXIST);
		return;
	}
	char *p = mmap(a->addr, sloppy(w, a->len), s.prot, s.flags | MAP_FIXED, s.fd, s.off);
	expect("mmap MAP_FIXED over an area", p != a->addr, 0);
	*a = new_area(p, a->len, s);
	touch(w, a);
}

static int protect(struct worker *w, char *addr, size_t len, int prot)
{
	if (have_pkey && one_in(w, 8)) {
		int rc = syscall(SYS_pkey_mprotect, addr, len, prot, one_in(w, 2) ? pkey : -1);
		if (rc == 0 || errno != ENOSYS)
			return rc;
		have_pkey = false;
	}
	return mprotect(addr, len, prot);
}

static void area_protect(struct worker *w)
{
	struct area *a = pick_area(w);
	int prot = pick_prot(w, a->flags);
	int want = refuses(a->flags, prot) ? EACCES : 0;
	expect("mprotect", protect(w, a->addr, sloppy(w, a->len), prot) < 0, want);
	if (!want)
		a->prot = prot;
	touch(w, a);
}

static void area_touch(struct worker *w)
{
	touch(w, &w->areas[below(w, w->n)]);
}

/*
 * SysV pieces stay where they were attached, or go to the yard: shmdt finds the pieces of a segment
 * by their distance from its address, and one the kernel moved could by chance lie where another
 * thread's call takes it for its own.
 */
static void area_remap_shrink(struct worker *w)
{
	struct area *a = pick_area(w);
	if (a->len == ps)
		return;
	size_t len = (1 + below(w, a->len / ps - 1)) * ps;
	int flags = one_in(w, 2) ? MREMAP_MAYMOVE : 0;
	char *p = mremap(a->addr, sloppy(w, a->len), sloppy(w, len), flags);
	expect("mremap to less", p != a->addr, 0);
	a->len = len;
}

static void area_remap_grow(struct worker *w)
{
	struct area *a = pick_area(w);
	size_t len = a->len + some_pages(w, 32) * ps;
	if ((a->flags & SYSV) || len > 2 * MIB)
		return;
	if (one_in(w, 3)) {
		char *p = mremap(a->addr, a->len, len, 0);
		if (may_fail("mremap in place", p == MAP_FAILED, ENOMEM, EAGAIN, 0))
			return;
		expect("mremap in place moved", p != a->addr, 0);
	} else {
		char *p = mremap(a->addr, sloppy(w, a->len), sloppy(w, len), MREMAP_MAYMOVE);
		if (may_fail("mremap to more", p == MAP_FAILED, EAGAIN, 0))
			return;
		a->addr = p;
	}
	a->len = len;
	touch(w, a);
}

static void area_remap_dontunmap(struct worker *w)
{
	struct area *a = pick_area(w);
	if (a->flags & SYSV)
		return;
	/* The address is only a hint, but must be there: an odd one is refused. */
	char *p = mremap(a->addr, a->len, a->len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	/* Memory that is not private and anonymous: since 5.13. */
	if (may_fail("mremap MREMAP_DONTUNMAP", p == MAP_FAILED, a->flags & ANON ? 0 : EINVAL, 0))
		return;
	struct area copy = *a;
	copy.addr = p;
	touch(w, a);
	touch(w, add(w, copy));
}

/* An old length of 0 asks for a second mapping of the same shared pages. */
static void area_remap_again(struct worker *w)
{
	struct area *a = pick_area(w);
	if (a->flags & SYSV)
		return;
	char *p = mremap(a->addr, 0, a->len, MREMAP_MAYMOVE);
	expect("mremap of old length 0", p == MAP_FAILED, a->flags & SHARED ? 0 : EINVAL);
	if (!(a->flags & SHARED))
		return;
	struct area copy = *a;
	copy.addr = p;
	touch(w, add(w, copy));
}

/* Moves an area onto another, which it replaces. */
static void area_remap_over(struct worker *w)
{
	struct area *a = pick_area(w), *b = &w->areas[below(w, w->n)];
	if (a == b || (a->flags & SYSV))
		return;
	size_t len = a->len < b->len ? a->len : b->len;
	carve(w, b, one_in(w, 2) ? 0 : b->len - len, len);
	char *p = mremap(a->addr, a->len, len, MREMAP_MAYMOVE | MREMAP_FIXED, b->addr);
	expect("mremap MREMAP_FIXED over an area", p != b->addr, 0);
	*b = *a;
	b->addr = p;
	b->len = len;
	touch(w, b);
	drop(w, a);
}

static void area_advise(struct worker *w)
{
	static const struct {
		const char *name;
		int advice;
		unsigned char set, clear;
	} marks[] = {
		{"madvise MADV_DONTFORK", MADV_DONTFORK, NOCHILD, 0},
		{"madvise MADV_DOFORK", MADV_DOFORK, 0, NOCHILD},
		{"madvise MADV_WIPEONFORK", MADV_WIPEONFORK, 0, 0},
		{"madvise MADV_KEEPONFORK", MADV_KEEPONFORK, 0, 0},
		{"madvise MADV_SEQUENTIAL", MADV_SEQUENTIAL, 0, 0},
		{"madvise MADV_RANDOM", MADV_RANDOM, 0, 0},
		{"madvise MADV_NORMAL", MADV_NORMAL, 0, 0},
		{"madvise MADV_DONTDUMP", MADV_DONTDUMP, 0, 0},
		{"madvise MADV_DODUMP", MADV_DODUMP, 0, 0},
	};
	static const int hints[] = {MADV_DONTNEED, MADV_DONTNEED,   MADV_FREE,
				    MADV_COLD,	   MADV_WILLNEED,   MADV_PAGEOUT,
				    MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_POPULATE_READ};
	struct area *a = pick_area(w);
	if (one_in(w, 2)) {
		size_t i = below(w, sizeof marks / sizeof *marks);
		bool no = marks[i].advice == MADV_WIPEONFORK && !(a->flags & ANON);
		expect(marks[i].name, madvise(a->addr, sloppy(w, a->len), marks[i].advice) < 0,
		       no ? EINVAL : 0);
		a->flags = (a->flags & ~marks[i].clear) | marks[i].set;
		return;
	}
	int advice = hints[below(w, sizeof hints / sizeof *hints)];
	size_t len = a->len;
	if (advice == MADV_POPULATE_READ && len > 16 * ps)
		len = 16 * ps;
	/* Whether advice suits a mapping depends on its kind, locks, the kernel and its build. */
	may_fail("madvise", madvise(a->addr, len, advice) < 0, EINVAL, EBADF, ENOMEM, EFAULT, 0);
}

/* Guard pages appear in no listing, but the call takes the locks that others do. */
static void area_guard(struct worker *w)
{
	struct area *a = pick_area(w);
	if (!(a->flags & ANON))
		return;
	if (may_fail("madvise MADV_GUARD_INSTALL", madvise(a->addr, a->len, MADV_GUARD_INSTALL) < 0,
		     EINVAL, 0))
		return;
	expect("madvise MADV_GUARD_REMOVE", madvise(a->addr, a->len, MADV_GUARD_REMOVE) < 0, 0);
}

static void area_lock(struct worker *w)
{
	struct area *a = pick_area(w);
	if (a->len > 8 * ps)
		carve(w, a, 0, 8 * ps);
	/* What cannot become resident is locked all the same, but the call fails. Now and then. */
	if ((!(a->prot & PROT_READ) || a->off + a->len > a->limit) && !one_in(w, 8))
		return;
	int rc;
	if (one_in(w, 3)) {
		rc = syscall(SYS_mlock2, a->addr, a->len, one_in(w, 2) ? MLOCK_ONFAULT : 0);
	} else { /* from within the first page to within the last */
		size_t head = below(w, ps), tail = below(w, ps - head);
		rc = mlock(a->addr + head, a->len - head - tail);
	}
	/* ENOMEM and EAGAIN are also how it says that pages cannot be made resident. */
	may_fail("mlock", rc < 0, ENOMEM, EAGAIN, EPERM, 0);
	if (!one_in(w, 4))
		expect("munlock", munlock(a->addr, a->len) < 0, 0);
}

static void area_policy(struct worker *w)
{
	enum { DEFAULT = 0, PREFERRED = 1, BIND = 2 };
	struct area *a = pick_area(w);
	unsigned long nodes = 1;
	int mode = below(w, 3);
	unsigned long *mask = mode == DEFAULT ? NULL : &nodes;
	unsigned long maxbit = mode == DEFAULT ? 0 : 8 * sizeof nodes;
	long rc = syscall(SYS_mbind, a->addr, a->len, mode, mask, maxbit, 0);
	/* No NUMA in the kernel; a container's seccomp filter. */
	may_fail("mbind", rc < 0, ENOSYS, EINVAL, EPERM, 0);
}

static void area_name(struct worker *w)
{
	static const char *const names[] = {"pool", "a longer name: 17", "x", NULL};
	struct area *a = pick_area(w);
	int rc = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, a->addr, a->len, names[below(w, 4)]);
	/* EINVAL without CONFIG_ANON_VMA_NAME, EBADF for files. */
	may_fail("prctl PR_SET_VMA", rc < 0, EINVAL, EBADF, 0);
}

static void area_process_madvise(struct worker *w)
{
	static const int advices[] = {MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_DONTNEED};
	if (w->child) /* the descriptor is the parent's, whose memory is none of our business */
		return;
	const struct area *a = pick_area(w), *b = pick_area(w);
	struct iovec v[2] = {{a->addr, a->len}, {b->addr, b->len}};
	long rc = syscall(SYS_process_madvise, self_pidfd, v, 2, advices[below(w, 4)], 0);
	may_fail("process_madvise", rc < 0, EINVAL, EBADF, ENOSYS, EPERM, ENOMEM, 0);
}

/* Lets part of a shared file mapping show another part of the file. */
static void area_remap_file(struct worker *w)
{
	struct area *a = pick_area(w);
	if (!(a->flags & SHARED) || (a->flags & (READONLY | SYSV)))
		return;
	size_t off = below(w, a->limit / ps + 1);
	expect("remap_file_pages", syscall(SYS_remap_file_pages, a->addr, a->len, 0, off, 0) < 0,
	       0);
	a->off = off * ps;
	a->flags &= ~NOCHILD; /* it is a new mapping */
	touch(w, a);
}

static void area_attach(struct worker *w)
{
	if (!nshm)
		return;
	int i = below(w, nshm);
	bool readonly = one_in(w, 3);
	char *p = shmat(shm[i].id, NULL, readonly ? SHM_RDONLY : 0);
	expect("shmat", p == (void *)-1, 0);
	struct area a = {
		.addr = p,
		.len = shm[i].len,
		.limit = shm[i].len,
		.attach = ++w->attaches,
		.prot = readonly ? PROT_READ : RW,
		.flags = MAPPED | SHARED | SYSV | (readonly ? READONLY : 0),
	};
	touch(w, add(w, a));
}

/* shmdt takes what is left of the segment: all pieces that still are where they were attached. */
static void area_detach(struct worker *w)
{
	unsigned attach = 0;
	char *base = NULL;
	for (size_t i = 0; i < w->n; i++) {
		const struct area *a = &w->areas[i];
		if (a->attach && (!attach || one_in(w, 2)))
			attach = a->attach, base = a->addr - a->off;
	}
	if (!attach)
		return;
	for (size_t i = w->n; i-- > 0;)
		if (w->areas[i].attach == attach)
			drop(w, &w->areas[i]);
	expect("shmdt", shmdt(base) < 0, 0);
}

/* ---- operations in the yard ---- */

struct span {
	size_t at, n; /* pages */
};

static char *yard_addr(const struct worker *w, size_t page)
{
	return w->home + page * ps;
}

static struct span pick_span(struct worker *w, size_t max)
{
	size_t n = some_pages(w, max);
	return (struct span){below(w, w->npages - n + 1), n};
}

static bool overlap(struct span a, struct span b)
{
	return a.at < b.at + b.n && b.at < a.at + a.n;
}

/* Pages from the first on that are mapped; 0 if the first is a hole. */
static size_t mapped_run(const struct worker *w, struct span s)
{
	size_t n = 0;
	while (n < s.n && w->yard[s.at + n].flags)
		n++;
	return n;
}

static bool all_holes(const struct worker *w, struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (w->yard[s.at + i].flags)
			return false;
	return true;
}

static void set_span(struct worker *w, struct span s, struct page p)
{
	for (size_t i = 0; i < s.n; i++)
		w->yard[s.at + i] = p;
}

/* Notes what an area is, of which this span is to be a copy. */
static void set_span_area(struct worker *w, struct span s, const struct area *a)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char backed = a->off + i * ps < a->limit ? TOUCH : 0;
		w->yard[s.at + i] = (struct page){a->prot, a->flags | backed};
	}
}

static void clear_span(struct worker *w, struct span s)
{
	set_span(w, s, (struct page){0});
}

static void unmap_span(struct worker *w, struct span s)
{
	expect("munmap in the yard", munmap(yard_addr(w, s.at), sloppy(w, s.n * ps)) < 0, 0);
	clear_span(w, s);
}

/* Whole mappings, parts, several with the gaps between, or nothing at all: munmap takes it. */
static void yard_unmap(struct worker *w)
{
	unmap_span(w, pick_span(w, w->npages / 4));
}

static void yard_map(struct worker *w)
{
	struct span at = pick_span(w, w->npages / 8);
	size_t len = at.n * ps;
	char *addr = yard_addr(w, at.at);
	struct spec s = pick_spec(w, len);
	struct area a = new_area(addr, len, s);
	char *p;
	switch (below(w, 5)) {
	case 0:
		p = mmap(addr, sloppy(w, len), s.prot, s.flags | MAP_FIXED_NOREPLACE, s.fd, s.off);
		if (!all_holes(w, at)) {
			expect("mmap MAP_FIXED_NOREPLACE in the yard", p == MAP_FAILED, EEXIST);
			return;
		}
		if ((s.flags & MAP_TYPE) == MAP_SHARED_VALIDATE) { /* too new a flag for it */
			expect("mmap MAP_SHARED_VALIDATE MAP_FIXED_NOREPLACE", p == MAP_FAILED,
			       EOPNOTSUPP);
			return;
		}
		expect("mmap MAP_FIXED_NOREPLACE in a hole", p != addr, 0);
		break;
	case 1: /* a mere hint, not always page aligned, taken when there is room */
		p = mmap(addr + (one_in(w, 2) ? below(w, ps) : 0), len, s.prot, s.flags, s.fd,
			 s.off);
		expect("mmap with a hint", p == MAP_FAILED, 0);
		if (p == addr)
			break;
		if (p >= w->home && p < w->home + HOME)
			die("mmap with a hint: %p taken for %p", p, addr);
		a.addr = p;
		touch(w, add(w, a));
		return;
	default: /* over mappings and gaps alike */
		p = mmap(addr, sloppy(w, len), s.prot, s.flags | MAP_FIXED, s.fd, s.off);
		expect("mmap MAP_FIXED in the yard", p != addr, 0);
	}
	set_span_area(w, at, &a);
}

/* mprotect works up from the start and stops, with the work done, at the first gap or refusal. */
static void yard_protect(struct worker *w)
{
	struct span at = pick_span(w, w->npages / 4);
	int prot = pick_prot(w, 0);
	int want = 0;
	size_t done;
	for (done = 0; done < at.n; done++) {
		unsigned char what = w->yard[at.at + done].flags;
		if (!what)
			want = ENOMEM;
		else if (refuses(what, prot))
			want = EACCES;
		if (want)
			break;
	}
	int rc = protect(w, yard_addr(w, at.at), sloppy(w, at.n * ps), prot);
	expect("mprotect in the yard", rc < 0, want);
	for (size_t i = 0; i < done; i++)
		w->yard[at.at + i].prot = prot;
}

static void yard_touch(struct worker *w)
{
	for (int i = 0; i < 8; i++) {
		size_t at = below(w, w->npages);
		if (w->yard[at].flags & TOUCH)
			touch_page(yard_addr(w, at), w->yard[at].prot);
	}
}

/* A run of like pages: most often one VMA, though equal neighbours need not have merged. */
static bool pick_like(struct worker *w, struct span *s)
{
	*s = pick_span(w, 64);
	if (!w->yard[s->at].flags)
		return false;
	size_t n = 1;
	while (n < s->n && !memcmp(&w->yard[s->at], &w->yard[s->at + n], sizeof *w->yard))
		n++;
	s->n = n;
	return true;
}

/* madvise skips gaps, does the rest, and then says ENOMEM. */
static void yard_advise(struct worker *w)
{
	static const int hints[] = {MADV_DONTNEED, MADV_FREE,	MADV_COLD,
				    MADV_HUGEPAGE, MADV_REMOVE, MADV_POPULATE_WRITE};
	struct span at;
	if (!pick_like(w, &at) || one_in(w, 2))
		at = pick_span(w, w->npages / 8);
	char *addr = yard_addr(w, at.at);
	if (one_in(w, 2)) {
		int advice = hints[below(w, sizeof hints / sizeof *hints)];
		if (advice == MADV_POPULATE_WRITE && at.n > 8)
			at.n = 8;
		/* EACCES, EPERM, EOPNOTSUPP: MADV_REMOVE depends on the file and its system. */
		may_fail("madvise in the yard", madvise(addr, at.n * ps, advice) < 0, ENOMEM,
			 EINVAL, EBADF, EFAULT, EACCES, EPERM, EOPNOTSUPP, 0);
		return;
	}
	bool hide = one_in(w, 2);
	expect("madvise MADV_DONTFORK or MADV_DOFORK in the yard",
	       madvise(addr, at.n * ps, hide ? MADV_DONTFORK : MADV_DOFORK) < 0,
	       mapped_run(w, at) == at.n ? 0 : ENOMEM);
	for (size_t i = at.at; i < at.at + at.n; i++) {
		if (!w->yard[i].flags)
			continue;
		w->yard[i].flags &= ~NOCHILD;
		w->yard[i].flags |= hide ? NOCHILD : 0;
	}
}

/* Both stop at the first gap, what comes before it done. */
static void yard_lock(struct worker *w)
{
	struct span at;
	bool lock = one_in(w, 3);
	if (!pick_like(w, &at) || one_in(w, 6))
		at = pick_span(w, w->npages / 8);
	if (!lock) {
		expect("munlock in the yard", munlock(yard_addr(w, at.at), at.n * ps) < 0,
		       mapped_run(w, at) == at.n ? 0 : ENOMEM);
		return;
	}
	if (at.n > 8)
		at.n = 8;
	struct page first = w->yard[at.at];
	if ((!(first.prot & PROT_READ) || !(first.flags & TOUCH)) && !one_in(w, 8))
		return; /* as with areas, most of the time */
	may_fail("mlock in the yard", mlock(yard_addr(w, at.at), at.n * ps) < 0, ENOMEM, EAGAIN,
		 EPERM, 0);
}

/* Moves what should be one mapping elsewhere in the yard, onto whatever is there. */
static void yard_remap(struct worker *w)
{
	struct span from;
	if (!pick_like(w, &from))
		return;
	size_t n = from.n;
	if (one_in(w, 4))
		n = 1 + below(w, n);
	else if (one_in(w, 4))
		n += some_pages(w, 16);
	struct span to = {below(w, w->npages - n + 1), n};
	char *old = yard_addr(w, from.at), *new = yard_addr(w, to.at);
	bool keep = n == from.n && one_in(w, 4);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0);
	char *p = mremap(old, from.n * ps, n * ps, flags, new);
	if (overlap(from, to)) {
		expect("mremap onto itself", p == MAP_FAILED, EINVAL);
		return;
	}
	if (may_fail("mremap in the yard", p == MAP_FAILED, EFAULT, EAGAIN, EINVAL, 0)) {
		/* Depending on the kernel's age the target is gone by now. */
		unmap_span(w, from);
		unmap_span(w, to);
		return;
	}
	expect("mremap in the yard moved elsewhere", p != new, 0);
	struct page was = w->yard[from.at];
	if (!keep)
		clear_span(w, from);
	set_span(w, to, was);
	if (n > from.n && !(was.flags & ANON)) /* beyond the end of the file, perhaps */
		was.flags &= ~TOUCH, set_span(w, (struct span){to.at + from.n, n - from.n}, was);
}

/*
 * Moves a stretch of several mappings and gaps. Before 6.17 this fails with the target unmapped;
 * since, it succeeds, or fails half done. Either way the only book that stays right is an empty
 * one.
 */
static void yard_remap_many(struct worker *w)
{
	struct span from = pick_span(w, w->npages / 8), to = pick_span(w, w->npages / 8);
	to.n = from.n;
	if (to.at + to.n > w->npages || overlap(from, to))
		return;
	char *new = yard_addr(w, to.at);
	char *p = mremap(yard_addr(w, from.at), from.n * ps, to.n * ps,
			 MREMAP_MAYMOVE | MREMAP_FIXED, new);
	if (!may_fail("mremap of several", p == MAP_FAILED, EFAULT, EINVAL, EAGAIN, 0))
		expect("mremap of several moved elsewhere", p != new, 0);
	unmap_span(w, from);
	unmap_span(w, to);
}

/* Leaves the yard's pages mapped and moves their content where the kernel likes. */
static void yard_move_out(struct worker *w)
{
	struct span s;
	if (!pick_like(w, &s) || !(w->yard[s.at].flags & ANON))
		return;
	struct page page = w->yard[s.at];
	char *p = mremap(yard_addr(w, s.at), s.n * ps, s.n * ps, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
			 NULL);
	if (may_fail("mremap out of the yard", p == MAP_FAILED, EFAULT, 0))
		return;
	struct area a = {
		.addr = p,
		.len = s.n * ps,
		.limit = SIZE_MAX,
		.prot = page.prot,
		.flags = page.flags & ~TOUCH,
	};
	touch(w, add(w, a));
}

/* Moves an area into the yard, sometimes with another length. */
static void yard_move_in(struct worker *w)
{
	struct area *a = pick_area(w);
	size_t n = a->len / ps;
	if (one_in(w, 4))
		n = 1 + below(w, n);
	else if (one_in(w, 4) && !(a->flags & SYSV))
		n += some_pages(w, 16);
	if (n > w->npages / 2)
		return;
	struct span to = {below(w, w->npages - n + 1), n};
	char *p =
		mremap(a->addr, a->len, n * ps, MREMAP_MAYMOVE | MREMAP_FIXED, yard_addr(w, to.at));
	if (may_fail("mremap into the yard", p == MAP_FAILED, n * ps > a->len ? EAGAIN : 0, 0)) {
		unmap_span(w, to); /* locked memory, and no more allowed; see yard_remap */
		return;
	}
	expect("mremap into the yard moved elsewhere", p != yard_addr(w, to.at), 0);
	set_span_area(w, to, a);
	drop(w, a);
}

static void yard_attach(struct worker *w)
{
	if (!nshm)
		return;
	int i = below(w, nshm);
	struct span s = {0, shm[i].len / ps};
	if (s.n > w->npages)
		return;
	s.at = below(w, w->npages - s.n + 1);
	bool readonly = one_in(w, 3), replace = one_in(w, 2);
	int flags = (readonly ? SHM_RDONLY : 0) | (replace ? SHM_REMAP : 0);
	bool fits = replace || all_holes(w, s);
	char *p = shmat(shm[i].id, yard_addr(w, s.at), flags);
	expect("shmat in the yard", p == (void *)-1, fits ? 0 : EINVAL);
	if (!fits)
		return;
	set_span(w, s,
		 (struct page){
			 .prot = readonly ? PROT_READ : RW,
			 .flags = MAPPED | SHARED | SYSV | TOUCH | (readonly ? READONLY : 0),
		 });
}

/* ---- operations elsewhere ---- */

/* A private MAP_GROWSDOWN mapping with room below, grown by touching what is not mapped yet. */
static void grow_down(struct worker *w)
{
	char *top = w->home + STACK_SLOT, *low = top - w->grown * ps;
	size_t len = w->grown * ps;
	if (!w->grown) {
		w->grown = some_pages(w, 4);
		low = top - w->grown * ps;
		char *p = mmap(low, w->grown * ps, RW,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE,
			       -1, 0);
		expect("mmap MAP_GROWSDOWN", p != low, 0);
		return;
	}
	switch (below(w, 8)) {
	case 0:
		expect("munmap of what grew", munmap(low, len) < 0, 0);
		w->grown = 0;
		break;
	case 1: /* reaches down to the start of the mapping by itself */
		expect("mprotect PROT_GROWSDOWN",
		       mprotect(top - ps, ps, PROT_READ | PROT_GROWSDOWN) < 0, 0);
		expect("mprotect of what grew", mprotect(low, len, RW) < 0, 0);
		break;
	default:
		if (w->grown < 48 && (w->grown + 8) * ps <= stack_limit) {
			w->grown += some_pages(w, 8);
			touch_page(top - w->grown * ps, RW);
		}
	}
}

static __attribute__((noinline)) unsigned deep(size_t bytes)
{
	volatile char frame[2048];
	frame[0] = 1;
	if (bytes <= sizeof frame)
		return frame[0];
	return deep(bytes - sizeof frame) + frame[0];
}

/* Makes the main thread's stack grow: each time a little deeper than ever before. */
static void grow_stack(struct worker *w)
{
	if (w->id != 0)
		return;
	w->depth += below(w, 64 * KIB);
	if (w->depth > stack_limit)
		w->depth = stack_limit;
	deep(w->depth);
}

static char *page_up(char *p)
{
	return p + (-(uintptr_t)p & (ps - 1));
}

static void heap(struct worker *w)
{
	if (!w->child)
		pthread_mutex_lock(&brk_lock);
	char *now = (char *)syscall(SYS_brk, 0), *to;
	switch (below(w, 8)) {
	case 0: /* no such break: it stays where it was */
		to = (char *)syscall(SYS_brk, 1);
		if (to != now)
			die("brk(1) moved the break from %p to %p", now, to);
		break;
	case 1: /* a piece of the heap with another access, and a hole in it, for a moment */
		to = page_up(brk_floor) + ps;
		if (now < to + 3 * ps)
			break;
		to += below(w, (now - to) / ps - 1) * ps;
		expect("mprotect in the heap", mprotect(to, ps, PROT_READ) < 0, 0);
		expect("mprotect in the heap", mprotect(to, ps, RW) < 0, 0);
		expect("munmap in the heap", munmap(to, ps) < 0, 0);
		to = mmap(to, ps, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		expect("mmap in the heap", to == MAP_FAILED, 0);
		break;
	case 2:
	case 3: /* down; the break need not be page aligned */
		to = brk_floor + below(w, now - brk_floor + 1);
		expect("brk down", brk(to) < 0, 0);
		break;
	default:
		to = now + 1 + below(w, 64 * ps);
		if (to > brk_floor + 4 * MIB)
			to = brk_floor;
		expect("brk up", brk(to) < 0, 0);
		if (to > now)
			to[-1] = 1;
	}
	if (!w->child)
		pthread_mutex_unlock(&brk_lock);
}

/* A ring that the kernel maps by itself. */
static void aio(struct worker *w)
{
	if (!have_aio || w->child)
		return;
	if (w->aio) {
		expect("io_destroy", syscall(SYS_io_destroy, w->aio) < 0, 0);
		w->aio = 0;
	} else if (may_fail("io_setup", syscall(SYS_io_setup, 1 + below(w, 256), &w->aio) < 0,
			    EAGAIN, ENOSYS, ENOMEM, EPERM, 0)) {
		have_aio = errno == EAGAIN;
		w->aio = 0;
	}
}

/* A huge page nobody touches: there need be none. The kernel maps more than it was asked for. */
static void huge(struct worker *w)
{
	if (w->huge) {
		expect("munmap of a huge page", munmap(w->huge, huge_size) < 0, 0);
		w->huge = NULL;
		return;
	}
	if (!huge_size)
		return;
	char *p = mmap(NULL, huge_size / 2, RW,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	if (!may_fail("mmap MAP_HUGETLB", p == MAP_FAILED, ENOMEM, EINVAL, ENOSYS, EPERM, ENODEV,
		      0))
		w->huge = p;
}

static void *raw_mmap(void *addr, size_t len, int prot, int flags, int fd, size_t off)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);
}

/* Calls that fail. None may have an effect. */
static void fail_mmap(struct worker *w)
{
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS;
	char *hole = w->home + NOTHING;
	bool failed;
	switch (below(w, 10)) {
	case 0:
		failed = raw_mmap(NULL, 0, RW, anon, -1, 0) == MAP_FAILED;
		expect("mmap of length 0", failed, EINVAL);
		break;
	case 1:
		failed = raw_mmap(NULL, ps, RW, MAP_PRIVATE, 1 << 20, 0) == MAP_FAILED;
		expect("mmap of a bad descriptor", failed, EBADF);
		break;
	case 2:
		failed = raw_mmap(NULL, ps, RW, MAP_PRIVATE, backings[0].fd, 100) == MAP_FAILED;
		expect("mmap at an odd offset", failed, EINVAL);
		break;
	case 3:
		failed = raw_mmap(NULL, ps, RW, MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
		expect("mmap without a type", failed, EINVAL);
		break;
	case 4:
		failed = raw_mmap(NULL, 1UL << 62, PROT_NONE, anon, -1, 0) == MAP_FAILED;
		expect("mmap of everything", failed, ENOMEM);
		break;
	case 5:
		failed = raw_mmap(hole + 1, ps, RW, anon | MAP_FIXED, -1, 0) == MAP_FAILED;
		expect("mmap MAP_FIXED at an odd address", failed, EINVAL);
		break;
	case 6:
		failed = raw_mmap(NULL, ps, RW, MAP_SHARED, backings[2].fd, 0) == MAP_FAILED;
		expect("mmap of a read-only file for writing", failed, EACCES);
		break;
	case 7:
		expect("munmap at an odd address", munmap(hole + 1, ps) < 0, EINVAL);
		break;
	case 8:
		expect("munmap of length 0", munmap(hole, 0) < 0, EINVAL);
		break;
	default:
		expect("munmap of nothing", munmap(hole, 16 * ps) < 0, 0);
	}
}

static void fail_other(struct worker *w)
{
	char *hole = w->home + NOTHING, *top = w->home + STACK_SLOT;
	switch (below(w, 13)) {
	case 0:
		expect("mprotect at an odd address", mprotect(hole + 1, ps, RW) < 0, EINVAL);
		break;
	case 1:
		expect("mprotect of nothing", mprotect(hole, ps, RW) < 0, ENOMEM);
		break;
	case 2: /* grows down and up at once */
		expect("mprotect with an odd access",
		       mprotect(hole, ps, PROT_GROWSDOWN | PROT_GROWSUP) < 0, EINVAL);
		break;
	case 3:
		expect("mremap of nothing", mremap(hole, ps, 2 * ps, MREMAP_MAYMOVE) == MAP_FAILED,
		       EFAULT);
		break;
	case 4:
		expect("mremap with odd flags", mremap(hole, ps, 2 * ps, 1 << 20) == MAP_FAILED,
		       EINVAL);
		break;
	case 5:
		expect("mremap to nothing", mremap(hole, ps, 0, MREMAP_MAYMOVE) == MAP_FAILED,
		       EINVAL);
		break;
	case 6:
		expect("mremap MREMAP_FIXED alone",
		       mremap(hole, ps, ps, MREMAP_FIXED, hole + 4 * ps) == MAP_FAILED, EINVAL);
		break;
	case 7:
		expect("madvise with odd advice", madvise(hole, ps, 12345) < 0, EINVAL);
		break;
	case 8:
		expect("madvise of nothing", madvise(hole, ps, MADV_DONTNEED) < 0, ENOMEM);
		break;
	case 9:
		expect("shmdt of nothing", shmdt(hole) < 0, EINVAL);
		break;
	case 10:
		expect("munlock of nothing", munlock(hole, ps) < 0, ENOMEM);
		break;
	case 11:
		if (w->grown) /* a real mapping, an end that wraps around */
			expect("madvise past the end", madvise(top - ps, -ps, MADV_NORMAL) < 0,
			       EINVAL);
		break;
	default:
		expect("shmat of a bad id", shmat(-1, NULL, 0) == (void *)-1, EINVAL);
	}
}

/* ---- processes and threads ---- */

static void run(struct worker *w, long n);

static void await_child(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid: %s", strerrorname_np(errno));
	if (status)
		die("a child ended with status %#x", status);
}

/* Ends what runs beside the thread. */
static void reap(struct worker *w)
{
	if (w->forked)
		await_child(w->forked);
	w->forked = 0;
	if (w->has_helper)
		pthread_join(w->helper, NULL);
	w->has_helper = false;
}

/* In a child made by fork: the books, less what the kernel did not copy. */
static void become_child(struct worker *w)
{
	w->child = true;
	w->forked = 0;
	w->has_helper = false;
	for (size_t i = w->n; i-- > 0;)
		if (w->areas[i].flags & NOCHILD)
			drop(w, &w->areas[i]);
	for (size_t i = 0; i < w->npages; i++)
		if (w->yard[i].flags & NOCHILD)
			w->yard[i] = (struct page){0};
}

static void fork_child(struct worker *w)
{
	if (w->child)
		return;
	if (w->forked) {
		reap(w);
		return;
	}
	long n = below(w, 40);
	/*
	 * The kernel copies the break before it takes the lock under which it copies the mappings:
	 * a heap that grows in between leaves a child whose break can never move again.
	 */
	pthread_mutex_lock(&brk_lock);
	w->forked = fork();
	if (w->forked != 0)
		pthread_mutex_unlock(&brk_lock);
	if (w->forked < 0)
		die("fork: %s", strerrorname_np(errno));
	if (w->forked == 0) {
		become_child(w);
		next(w); /* other choices than the parent's */
		run(w, n);
		_exit(0);
	}
}

/* A child that borrows the parent's address space, changes it, and ends or becomes another program.
 */
static __attribute__((noinline)) void vfork_child(struct worker *w)
{
	static char *const argv[] = {"churn", "-x", NULL}, *const env[] = {NULL};
	if (w->child)
		return;
	const size_t len = area_len(w);
	const bool exec = one_in(w, 2);
	char *volatile got = NULL;
	pid_t pid = vfork();
	if (pid < 0)
		die("vfork: %s", strerrorname_np(errno));
	if (pid == 0) {
		got = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (exec)
			execve("/proc/self/exe", argv, env);
		_exit(exec);
	}
	await_child(pid);
	expect("mmap in a vfork child", got == MAP_FAILED, 0);
	touch(w, add(w, (struct area){
				.addr = got,
				.len = len,
				.limit = SIZE_MAX,
				.prot = RW,
				.flags = MAPPED | ANON,
			}));
}

static void spawn_child(struct worker *w)
{
	static char *const argv[] = {"churn", "-x", NULL}, *const env[] = {NULL};
	pid_t pid;
	if (w->child)
		return;
	int e = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, env);
	if (e)
		die("posix_spawn: %s", strerrorname_np(e));
	await_child(pid);
}

static void *help(void *arg)
{
	struct worker me = {.rng = (uintptr_t)arg};
	for (size_t i = below(&me, 16); i > 0; i--) {
		size_t len = area_len(&me);
		char *p = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		expect("mmap in a helper", p == MAP_FAILED, 0);
		p[0] = 1;
		expect("munmap in a helper", munmap(p, len) < 0, 0);
	}
	return NULL;
}

/* A thread that lives for a moment, with a stack of another size than the last one's. */
static void start_thread(struct worker *w)
{
	if (w->child)
		return;
	if (w->has_helper) {
		reap(w);
		return;
	}
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * KIB + below(w, 8) * 64 * KIB);
	int e = pthread_create(&w->helper, &attr, help, (void *)(uintptr_t)next(w));
	pthread_attr_destroy(&attr);
	if (e && e != EAGAIN)
		die("pthread_create: %s", strerrorname_np(e));
	w->has_helper = !e;
}

/* ---- the mix ---- */

enum needs { NOTHING_YET, AN_AREA };

static const struct {
	void (*fn)(struct worker *);
	enum needs needs;
	unsigned weight;
	unsigned mixes;
} menu[] = {
	{area_map, NOTHING_YET, 300, MM | FILES | NOFORK | ALL},
	{area_unmap, AN_AREA, 200, MM | FILES | NOFORK | ALL},
	{area_renew, AN_AREA, 150, MM | FILES | NOFORK | ALL},
	{area_map_over, AN_AREA, 60, MM | FILES | NOFORK | ALL},
	{area_touch, AN_AREA, 40, MM | FILES | NOFORK | ALL},
	{area_protect, AN_AREA, 80, FILES | NOFORK | ALL},
	{area_remap_shrink, AN_AREA, 20, FILES | NOFORK | ALL},
	{area_remap_grow, AN_AREA, 40, FILES | NOFORK | ALL},
	{area_remap_dontunmap, AN_AREA, 15, FILES | NOFORK | ALL},
	{area_remap_again, AN_AREA, 15, FILES | NOFORK | ALL},
	{area_remap_over, AN_AREA, 20, FILES | NOFORK | ALL},
	{area_advise, AN_AREA, 50, FILES | NOFORK | ALL},
	{area_guard, AN_AREA, 5, NOFORK | ALL},
	{area_lock, AN_AREA, 40, FILES | NOFORK | ALL},
	{area_policy, AN_AREA, 10, FILES | NOFORK | ALL},
	{area_name, AN_AREA, 10, NOFORK | ALL},
	{area_process_madvise, AN_AREA, 10, NOFORK | ALL},
	{area_remap_file, AN_AREA, 30, FILES | NOFORK | ALL},
	{area_attach, NOTHING_YET, 20, NOFORK | ALL},
	{area_detach, NOTHING_YET, 15, NOFORK | ALL},
	{yard_map, NOTHING_YET, 120, MM | FILES | NOFORK | ALL},
	{yard_unmap, NOTHING_YET, 50, MM | FILES | NOFORK | ALL},
	{yard_touch, NOTHING_YET, 30, MM | FILES | NOFORK | ALL},
	{yard_protect, NOTHING_YET, 50, FILES | NOFORK | ALL},
	{yard_advise, NOTHING_YET, 30, FILES | NOFORK | ALL},
	{yard_lock, NOTHING_YET, 15, FILES | NOFORK | ALL},
	{yard_remap, NOTHING_YET, 30, FILES | NOFORK | ALL},
	{yard_remap_many, NOTHING_YET, 10, FILES | NOFORK | ALL},
	{yard_move_out, NOTHING_YET, 15, NOFORK | ALL},
	{yard_move_in, AN_AREA, 20, FILES | NOFORK | ALL},
	{yard_attach, NOTHING_YET, 10, NOFORK | ALL},
	{grow_down, NOTHING_YET, 20, NOFORK | ALL},
	{grow_stack, NOTHING_YET, 10, NOFORK | ALL},
	{heap, NOTHING_YET, 80, NOFORK | ALL},
	{aio, NOTHING_YET, 2, NOFORK | ALL},
	{huge, NOTHING_YET, 5, NOFORK | ALL},
	{fail_mmap, NOTHING_YET, 20, MM | FILES | NOFORK | ALL},
	{fail_other, NOTHING_YET, 20, FILES | NOFORK | ALL},
	{fork_child, NOTHING_YET, 4, ALL},
	{vfork_child, NOTHING_YET, 6, ALL},
	{spawn_child, NOTHING_YET, 1, ALL},
	{start_thread, NOTHING_YET, 10, ALL},
};

static void run(struct worker *w, long n)
{
	unsigned total = 0;
	for (size_t i = 0; i < sizeof menu / sizeof *menu; i++)
		total += menu[i].mixes & mix ? menu[i].weight : 0;
	while (n-- > 0) {
		/* A step makes four areas more at most. Full books are half emptied at once. */
		if (w->n + 4 > w->cap)
			while (w->n > w->cap / 2)
				unmap(w, &w->areas[below(w, w->n)]);
		size_t i = 0, dice = below(w, total);
		for (;; i++) {
			if (!(menu[i].mixes & mix))
				continue;
			if (dice < menu[i].weight)
				break;
			dice -= menu[i].weight;
		}
		if (menu[i].needs == AN_AREA && !w->n)
			area_map(w);
		else
			menu[i].fn(w);
	}
}

static bool is_mapped(char *p)
{
	unsigned char resident;
	return mincore(p, ps, &resident) == 0;
}

/* The books must be right, or some thread has unmapped what was not its own. */
static void check_books(const struct worker *w)
{
	for (size_t i = 0; i < w->n; i++)
		for (size_t at = 0; at < w->areas[i].len; at += ps)
			if (!is_mapped(w->areas[i].addr + at))
				die("%p of an area is gone", w->areas[i].addr + at);
	for (size_t i = 0; i < w->npages; i++)
		if (is_mapped(yard_addr(w, i)) != !!w->yard[i].flags)
			die("%p of a yard is not as it should be", yard_addr(w, i));
}

/* Works, and then stands still without leaving: a thread that ends unmaps its stack. */
static void *work(void *arg)
{
	struct worker *w = arg;
	run(w, ops);
	reap(w);
	check_books(w);
	pthread_mutex_lock(&end_lock);
	ended++;
	pthread_cond_broadcast(&end_cond);
	pthread_mutex_unlock(&end_lock);
	while (w->id != 0)
		pause();
	return NULL;
}

/* ---- start ---- */

static int open_file(char *path, const char *name, size_t size)
{
	snprintf(path, sizeof kept[0], "%s/%s", dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size) < 0)
		die("create %s: %s", path, strerrorname_np(errno));
	return fd;
}

static int open_memfd(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size) < 0)
		die("memfd %s: %s", name, strerrorname_np(errno));
	return fd;
}

static void open_backings(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[sizeof kept[0]];
	snprintf(dir, sizeof dir, "%s/churn-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		int e = errno;
		dir[0] = 0;
		die("make a directory: %s", strerrorname_np(e));
	}
	backings[0] = (struct backing){open_file(kept[0], "data", 2 * MIB), 2 * MIB, false};
	/* Two blanks, and a last page that is not full. */
	size_t odd = 64 * KIB + 100;
	backings[1] = (struct backing){open_file(path, "gone  away", odd), odd, false};
	unlink(path);
	close(open_file(kept[1], "fixed", 256 * KIB));
	int fd = open(kept[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("open %s: %s", kept[1], strerrorname_np(errno));
	backings[2] = (struct backing){fd, 256 * KIB, true};
	backings[3] = (struct backing){open_memfd("large", MIB), MIB, false};
	backings[4] = (struct backing){open_memfd("small", 3 * ps), 3 * ps, false};
}

/* Segments without a key, marked for removal while this process holds them: nothing can leak. */
static void open_shm(void)
{
	const size_t lens[NSHM] = {ps, 64 * KIB, MIB};
	for (int i = 0; i < NSHM; i++) {
		int id = shmget(IPC_PRIVATE, lens[i], IPC_CREAT | 0600);
		if (id < 0)
			return; /* a kernel without, or a full system */
		void *p = shmat(id, NULL, 0);
		shmctl(id, IPC_RMID, NULL);
		if (p == (void *)-1)
			return;
		shm[nshm].id = id;
		shm[nshm++].len = lens[i];
	}
}

static size_t read_huge_size(void)
{
	char buf[8192];
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	buf[n] = 0;
	char *p = strstr(buf, "Hugepagesize:");
	return p ? strtoul(p + 13, NULL, 10) * KIB : 0;
}

static void set_up(unsigned threads, uint64_t seed, struct worker *ws)
{
	struct rlimit lim;
	open_backings();
	if (mix & (NOFORK | ALL)) {
		open_shm();
		huge_size = read_huge_size();
		self_pidfd = syscall(SYS_pidfd_open, getpid(), 0);
		/* Threads and children made from here on inherit the right to use it. */
		pkey = syscall(SYS_pkey_alloc, 0, 0);
	}
	getrlimit(RLIMIT_STACK, &lim);
	stack_limit = 4 * MIB;
	if (lim.rlim_cur != RLIM_INFINITY && lim.rlim_cur / 2 < stack_limit)
		stack_limit = lim.rlim_cur / 2;
	for (unsigned i = 0; i < threads; i++) {
		struct worker *w = &ws[i];
		w->id = i;
		w->rng = seed * 1000003 + i;
		w->cap = MAX_AREAS / threads;
		if (w->cap > 400)
			w->cap = 400;
		if (w->cap < 16)
			w->cap = 16;
		w->areas = calloc(w->cap, sizeof *w->areas);
		w->npages = 4 * MIB / ps / (threads <= 4 ? 1 : threads <= 16 ? 2 : 8);
		if (w->npages < 64)
			w->npages = 64;
		w->yard = calloc(w->npages, sizeof *w->yard);
		w->home = (char *)HOMES + i * HOME;
		if (!w->areas || !w->yard)
			die("no memory");
		/* Nothing of ours must be there, or it would be mapped over. */
		char *p = mmap(w->home, HOME, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
			       -1, 0);
		expect("mmap of a thread's home", p != w->home, 0);
		munmap(p, HOME);
	}
	/*
	 * The little that malloc still gives, to the C library for new threads, comes from one
	 * arena, out of a reserve made here; it never gives back, so it never moves the break.
	 */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_MMAP_THRESHOLD, 4 * MIB);
	void *volatile reserve = malloc(2 * MIB); /* volatile: or the compiler drops the pair */
	free(reserve);
	brk_floor = sbrk(0);
}

static void usage(void)
{
	dprintf(2, "usage: churn [-t THREADS] [-n OPS_PER_THREAD] [-s SEED] "
		   "[-m all|mm|nofork|files] [-w] [-W]\n");
	_exit(2);
}

static enum mix parse_mix(const char *s)
{
	if (!strcmp(s, "all"))
		return ALL;
	if (!strcmp(s, "mm"))
		return MM;
	if (!strcmp(s, "nofork"))
		return NOFORK;
	if (!strcmp(s, "files"))
		return FILES;
	usage();
	return ALL;
}

int main(int argc, char **argv)
{
	static struct worker ws[MAX_THREADS];
	long threads = 1;
	uint64_t seed = 1;
	bool wait_before = false, wait_after = false;
	char c;
	if (argc > 1 && !strcmp(argv[1], "-x")) /* what children exec */
		return 0;
	for (int o; (o = getopt(argc, argv, "t:n:s:m:wW")) != -1;) {
		switch (o) {
		case 't':
			threads = atol(optarg);
			break;
		case 'n':
			ops = atol(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			mix = parse_mix(optarg);
			break;
		case 'w':
			wait_before = true;
			break;
		case 'W':
			wait_after = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || threads < 1 || threads > MAX_THREADS || ops < 0)
		usage();
	main_pid = getpid();
	ps = sysconf(_SC_PAGESIZE);
	set_up(threads, seed, ws);
	if (wait_before && read(0, &c, 1) < 0)
		die("read stdin: %s", strerrorname_np(errno));

	for (long i = 1; i < threads; i++) {
		pthread_t t;
		int e = pthread_create(&t, NULL, work, &ws[i]);
		if (e)
			die("pthread_create: %s", strerrorname_np(e));
	}
	work(&ws[0]);
	pthread_mutex_lock(&end_lock);
	while (ended < threads)
		pthread_cond_wait(&end_cond, &end_lock);
	pthread_mutex_unlock(&end_lock);

	if (wait_after) {
		if (write(1, "done\n", 5) != 5)
			die("write: %s", strerrorname_np(errno));
		while (read(0, &c, 1) > 0)
			;
	}
	clean_up();
	_exit(0);
}
