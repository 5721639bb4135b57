/*
 * The source of the committed libraries, which are small enough to be mutated:
 *
 *	F="-O2 -fPIC -shared -nostdlib -ffile-prefix-map=$PWD=/src
 *	   -Wl,-z,max-page-size=16,-z,noseparate-code"
 *	gcc $F -gdwarf-4 -o dwarf4.so small.c
 *	gcc $F -gdwarf-5 -o dwarf5.so small.c
 *	gcc $F -gdwarf-5 -gz -o compressed.so small.c
 */
extern int puts(const char *);

static inline __attribute__((always_inline)) int twice(int n)
{
	puts("twice");
	return 2 * n;
}

static __attribute__((noinline)) int once(int n)
{
	return puts("once") + n;
}

int both(int n)
{
	return once(n) + twice(n + 1);
}
