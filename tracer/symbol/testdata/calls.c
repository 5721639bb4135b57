/* Functions for the tests: inlined ones, static ones, a PLT call, assembly. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline __attribute__((always_inline)) int inner(int x)
{
	char *p = malloc(x + 16);

	memset(p, x, x + 16);
	x += p[x / 2];
	free(p);
	return x;
}

static inline __attribute__((always_inline)) int middle(int x)
{
	for (int i = 0; i < 3; i++)
		x = inner(x) + i;
	return x;
}

static __attribute__((noinline)) int local(int x)
{
	return middle(x) * 3 + inner(x + 1);
}

__attribute__((noinline)) int outer(int x)
{
	if (x > 100)
		abort();
	return local(x) + middle(x);
}

__asm__(".text\n"
	".globl bare\n"
	"bare:\n" /* neither a size nor a type */
	"	nop\n"
	"	nop\n"
	"	ret\n"
	".globl after\n"
	".type after, @function\n"
	"after:\n"
	"	ret\n"
	".size after, . - after\n");

int main(int argc, char **argv)
{
	(void)argv;
	printf("%d\n", outer(argc));
	fflush(stdout);
	if (argc > 1)
		pause();
	return 0;
}
