/* SPDX-License-Identifier: Apache-2.0 */
//go:build ignore

/*
 * Crashes as its argument says, or, with "wait", prints addresses of each kind, one a line
 * with its name before it, and waits until its input ends.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096

struct item {
	char before[24];
	int value;
};

static volatile int sink;
static pthread_barrier_t begun;
static void *stack;

__attribute__((noinline)) static int read_item(const struct item *item)
{
	return item->value;
}

__attribute__((noinline)) static int descend(int n)
{
	volatile char frame[PAGE];

	frame[0] = n;
	return sink ? 0 : descend(n + 1) + frame[0];
}

static void *map(size_t size, int prot)
{
	void *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

/* Two pages of a file that has less than one. */
static char *map_file(void)
{
	FILE *f = tmpfile();
	void *p;

	if (!f || ftruncate(fileno(f), 100))
		exit(1);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void *thread(void *unused)
{
	char here = 0;

	(void)unused;
	stack = &here;
	printf("tid %lx\n", (unsigned long)syscall(SYS_gettid));
	pthread_barrier_wait(&begun);
	pause();
	return NULL;
}

static void wait_for_end(void)
{
	pthread_attr_t attr;
	size_t size;
	void *low;
	pthread_t t;
	char *touched = map(PAGE, PROT_READ | PROT_WRITE);

	*touched = 1;
	pthread_barrier_init(&begun, NULL, 2);
	if (pthread_create(&t, NULL, thread, NULL))
		exit(1);
	pthread_barrier_wait(&begun);
	if (pthread_getattr_np(t, &attr) || pthread_attr_getstack(&attr, &low, &size))
		exit(1);
	printf("code %lx\ndata %lx\ntouched %lx\nnone %lx\nfile %lx\nstack %lx\nlow %lx\n",
	       (unsigned long)(void *)read_item, (unsigned long)&sink, (unsigned long)touched,
	       (unsigned long)map(PAGE, PROT_NONE), (unsigned long)map_file(), (unsigned long)stack,
	       (unsigned long)low);
	printf("end\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "wait";
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	/* What may not be raised stays as it is. */
	if (strcmp(how, "wait") && setrlimit(RLIMIT_CORE, &all))
		perror("setrlimit");
	if (!strcmp(how, "wait"))
		wait_for_end();
	else if (!strcmp(how, "null"))
		sink = read_item(NULL);
	else if (!strcmp(how, "code"))
		*(volatile char *)(void *)read_item = 1;
	else if (!strcmp(how, "execute"))
		((void (*)(void))map(PAGE, PROT_READ | PROT_WRITE))();
	else if (!strcmp(how, "stack"))
		sink = descend(0);
	else if (!strcmp(how, "canonical"))
		sink = read_item((const struct item *)0x4142434445464748);
	else if (!strcmp(how, "file"))
		map_file()[PAGE] = 1;
	else if (!strcmp(how, "abort"))
		abort();
	return 0;
}
