/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * leakscc: a C++ program with one leak and some innocents, as leaks.c.
 *
 *   leakscc MODE SECONDS BYTES_PER_SECOND
 *
 * MODE is "map", vectors kept in a map by name, or "new", arrays that are never deleted. The
 * innocents run on the same thread: a map that is filled and cleared, one of fixed size, and
 * vectors that live for a moment. All of them ask for pieces large enough to be mapped one by one.
 */
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <malloc.h>
#include <map>
#include <string>
#include <thread>
#include <vector>

#define APART __attribute__((noipa))

namespace shop
{

constexpr std::size_t KIB = 1024;

class Sessions
{
      public:
	/* The leak: nobody ever asks for a name again. */
	APART std::size_t leak_map(std::size_t len);

      private:
	std::map<std::string, std::vector<char>> known;
	unsigned long next = 0;
};

std::size_t Sessions::leak_map(std::size_t len)
{
	std::size_t done = 0;
	for (; done < len; done += 256 * KIB)
		known["session " + std::to_string(next++)] = std::vector<char>(256 * KIB, 1);
	return done;
}

static char *volatile last;

APART std::size_t leak_new(std::size_t len)
{
	std::size_t done = 0;
	for (; done < len; done += 256 * KIB) {
		char *p = new char[256 * KIB];
		for (std::size_t at = 0; at < 256 * KIB; at += KIB)
			p[at] = 1;
		last = p;
	}
	return done;
}

APART void churn()
{
	std::vector<char> scratch(256 * KIB, 1);
	last = scratch.data();
}

APART void fill_and_clear()
{
	static std::map<int, std::vector<char>> generation;
	if (generation.size() == 8)
		generation.clear();
	generation[generation.size()] = std::vector<char>(256 * KIB, 1);
}

APART void cache_put(unsigned i)
{
	static std::map<unsigned, std::vector<char>> cache;
	cache[i % 8] = std::vector<char>(256 * KIB, 1);
}

} // namespace shop

static int base_of_first(struct dl_phdr_info *info, std::size_t, void *base)
{
	*static_cast<std::uintptr_t *>(base) = info->dlpi_addr;
	return 1;
}

int main(int argc, char **argv)
{
	const std::string mode = argc == 4 ? argv[1] : "";
	const double duration = argc == 4 ? std::atof(argv[2]) : 0;
	const double rate = argc == 4 ? std::atof(argv[3]) : 0;
	std::uintptr_t base = 0, start = 0;

	if ((mode != "map" && mode != "new") || duration <= 0 || rate <= 0) {
		std::fprintf(stderr, "usage: leakscc map|new SECONDS BYTES_PER_SECOND\n");
		return 2;
	}
	/* Said once, it stays: else a piece that is freed makes the next ones come from the heap.
	 */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	dl_iterate_phdr(base_of_first, &base);
	if (mode == "map") {
		auto method = &shop::Sessions::leak_map;
		__builtin_memcpy(&start, &method, sizeof start); /* the address comes first */
	} else {
		start = reinterpret_cast<std::uintptr_t>(&shop::leak_new);
	}
	std::printf("culprit %s 0x%lx\nready\n",
		    mode == "map" ? "shop::Sessions::leak_map" : "shop::leak_new", start - base);
	std::fflush(stdout);

	using clock = std::chrono::steady_clock;
	shop::Sessions sessions;
	const auto began = clock::now();
	double done = 0;
	for (unsigned i = 0;; i++) {
		const double t = std::chrono::duration<double>(clock::now() - began).count();
		if (t >= duration)
			return 0;
		if (t * rate > done)
			done += mode == "map" ? sessions.leak_map(t * rate - done)
					      : shop::leak_new(t * rate - done);
		shop::churn();
		if (i % 4 == 0)
			shop::fill_and_clear();
		if (i % 4 == 2)
			shop::cache_put(i / 4);
		std::this_thread::sleep_for(std::chrono::milliseconds(20));
	}
}
