/*
 * What the tests of sites trace. Each place maps a number of pages of its own,
 * by which its calls are known. Nothing here is inlined or a tail call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACE __attribute__((noinline, noclone))
#define MAP(pages)                                                                                 \
	mmap(NULL, (pages) * (size_t)getpagesize(), PROT_READ | PROT_WRITE,                        \
	     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)

static volatile int calls;

PLACE static void leak_twice(void)
{
	MAP(1011);
	calls++;
	MAP(1013);
	calls++;
}

PLACE static void leak_once(void)
{
	MAP(1017);
	calls++;
}

PLACE static void leak_malloc(void)
{
	char *volatile p = malloc(1300 * (size_t)getpagesize());

	p[0] = 1;
	calls++;
}

PLACE static void middle(void (*leak)(void))
{
	leak();
	calls++;
}

PLACE static void outer(void (*leak)(void))
{
	middle(leak);
	calls++;
}

static int in_fork(void)
{
	pid_t child = fork();

	outer(leak_once);
	if (child == 0)
		return 0;
	return waitpid(child, NULL, 0) != child;
}

#ifdef __x86_64__
/* push rbp; mov rbp, rsp; call rdi; pop rbp; ret */
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
#else
/* stp x29, x30, [sp, #-16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], #16; ret */
static const unsigned char code[] = {0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0x00, 0x00,
				     0x3f, 0xd6, 0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6};
#endif

static int in_jit(int shared, useconds_t linger)
{
	char name[64];
	FILE *map;
	void *at;
	int fd = shared ? (int)memfd_create("doublemapper", 0) : -1;

	if (shared && (ftruncate(fd, getpagesize()) || write(fd, code, sizeof(code)) < 0))
		return 1;
	at = mmap(NULL, getpagesize(), PROT_READ | (shared ? PROT_EXEC : PROT_WRITE),
		  shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	if (at == MAP_FAILED)
		return 1;
	if (!shared) {
		memcpy(at, code, sizeof(code));
		if (mprotect(at, getpagesize(), PROT_READ | PROT_EXEC))
			return 1;
	}
	__builtin___clear_cache((char *)at, (char *)at + sizeof(code));
	snprintf(name, sizeof(name), "/tmp/perf-%d.map", getpid());
	map = fopen(name, "w");
	if (!map)
		return 1;
	fprintf(map, "%lx %zx compiled\n", (unsigned long)at, sizeof(code));
	fclose(map);
	((void (*)(void (*)(void)))at)(leak_once);
	calls++;
	usleep(linger); /* the names are needed until the stack was read */
	return unlink(name);
}

static int in_libraries(int n, char **paths)
{
	for (int i = 0; i < n; i++) {
		void *lib = dlopen(paths[i], RTLD_NOW);
		void (*leak)(void) = lib ? (void (*)(void))dlsym(lib, "leak_library") : NULL;

		if (!leak) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		printf("%p\n", (void *)leak);
		if (n == 1 && unlink(paths[i]))
			return 1;
		leak();
		usleep(300000);
		dlclose(lib);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "fork"))
		return in_fork();
	if (!strcmp(mode, "jit") || !strcmp(mode, "jit-shared"))
		return in_jit(mode[3] != 0, argc > 2 ? atoi(argv[2]) : 300000);
	if (!strcmp(mode, "libraries"))
		return in_libraries(argc - 2, argv + 2);
	outer(leak_twice);
	outer(leak_once);
	middle(leak_malloc);
	usleep(300000);
	return 0;
}
