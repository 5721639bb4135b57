#!/bin/sh
# needs: gcc
cat >main.c <<'C'
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void)
{
	const size_t huge = 2 << 20, all = 64 * huge;
	char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(p, all, MADV_HUGEPAGE);
	for (size_t i = 0;; i++) {
		char *at = p + i * 7 % 64 * huge;

		memset(at, (int)i, huge);
		if (i % 3 == 0)
			madvise(p + i * 5 % 64 * huge, huge, MADV_DONTNEED);
		if (i % 5 == 0)
			mlock(at, 8 * 4096);
		usleep(20000);
	}
}
C
gcc -O1 -o main main.c && exec ./main
