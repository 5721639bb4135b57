// An allocator whose operator new throws by itself, as those of jemalloc and tcmalloc do. It
// waits for the end of its input.
#include <cstdio>
#include <cstdlib>
#include <new>

static char memory[1 << 16];

extern "C" {
// Not inlined, so that what calls it has a frame.
__attribute__((noipa)) void *mallocx(size_t size, int)
{
	return size < sizeof(memory) ? memory : nullptr;
}
void *je_malloc(size_t size)
{
	return mallocx(size, 1);
}
}

void *operator new(size_t size)
{
	if (void *p = mallocx(size, 2))
		return p;
	throw std::bad_alloc();
}

void *operator new(size_t size, const std::nothrow_t &) noexcept
{
	return mallocx(size, 3);
}
void operator delete(void *) noexcept
{
}
void operator delete(void *, size_t) noexcept
{
}

int main()
{
	volatile size_t size = 100;

	delete static_cast<char *>(operator new(size));
	puts("ready");
	fflush(stdout);
	return getchar() != EOF;
}
