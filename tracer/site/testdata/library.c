/* A library that maps PAGES pages in a function of the name NAME. */
#include <sys/mman.h>
#include <unistd.h>

static volatile int calls;

__attribute__((noinline)) static void NAME(void)
{
	mmap(NULL, PAGES * (size_t)getpagesize(), PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	calls++;
}

void leak_library(void)
{
	NAME();
	calls++;
}
