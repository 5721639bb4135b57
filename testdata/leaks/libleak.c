/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/* libleak: what a careless native extension does. pyleak.py loads it. */
#include <stdlib.h>
#include <string.h>

static void *kept;

/* Forgets len bytes or a little more, in pieces of 256 KiB; returns how many, or 0 without memory.
 */
__attribute__((noipa)) size_t leak_native(size_t len)
{
	const size_t piece = 256 * 1024; /* mapped each, not from the heap that python churns */
	size_t done = 0;
	for (; done < len; done += piece) {
		void **p = malloc(piece);
		if (!p)
			return 0;
		memset(p, 1, piece);
		*p = kept;
		kept = p;
	}
	return done;
}
