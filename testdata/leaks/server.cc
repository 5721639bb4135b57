/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * servercc: an exchange in C++, all of whose memory is from one malloc heap, with one leak.
 *
 *   servercc orders SECONDS BYTES_PER_SECOND
 *
 * Book::add keeps each order in a map that nobody ever takes one out of. The innocents allocate a
 * hundred times as much in the same thread: parse makes strings and quote vectors, which both are
 * gone when they return; recent keeps the last 500 texts.
 */
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <link.h>
#include <map>
#include <string>
#include <thread>
#include <vector>

#define APART __attribute__((noipa))

namespace exchange
{

constexpr std::size_t TIMES = 100, TICKS_A_SECOND = 200;

static const void *volatile last;

class Book
{
      public:
	/* The leak: an order stays when it is done. */
	APART std::size_t add(unsigned n);

      private:
	std::map<unsigned, std::string> orders;
};

std::size_t Book::add(unsigned n)
{
	std::string &text = orders[n];
	text.reserve(700);
	for (unsigned i = 0; i < 700; i++)
		text.push_back(static_cast<char>('a' + (n + i) % 26));
	return 700 + 80;
}

APART std::size_t parse(unsigned n)
{
	std::size_t done = 0;
	std::vector<std::string> fields;
	for (unsigned i = 0; i < 8; i++) {
		fields.emplace_back(60 + (n + i) * 37 % 900, 'p');
		done += fields.back().size();
	}
	last = fields.data();
	return done;
}

APART std::size_t quote(unsigned n)
{
	std::map<unsigned, std::vector<unsigned>> levels;
	for (unsigned i = 0; i < 16; i++)
		levels[i * 7919 % 16] = std::vector<unsigned>(20 + (n + i) * 13 % 200, n);
	last = &levels;
	return 16 * 120 * sizeof(unsigned);
}

APART std::size_t recent(unsigned n)
{
	static std::deque<std::string> texts;
	texts.emplace_back(100 + n * 53 % 400, 'r');
	if (texts.size() > 500)
		texts.pop_front();
	return 300;
}

} // namespace exchange

static int base_of_first(struct dl_phdr_info *info, std::size_t, void *base)
{
	*static_cast<std::uintptr_t *>(base) = info->dlpi_addr;
	return 1;
}

int main(int argc, char **argv)
{
	using namespace exchange;
	using clock = std::chrono::steady_clock;
	const double duration = argc == 4 ? std::atof(argv[2]) : 0;
	const double rate = argc == 4 ? std::atof(argv[3]) : 0;
	std::uintptr_t base = 0, start = 0;

	if (argc != 4 || std::string(argv[1]) != "orders" || duration <= 0 || rate <= 0) {
		std::fprintf(stderr, "usage: servercc orders SECONDS BYTES_PER_SECOND\n");
		return 2;
	}
	dl_iterate_phdr(base_of_first, &base);
	auto method = &Book::add;
	__builtin_memcpy(&start, &method, sizeof start); /* the address comes first */
	std::printf("culprit exchange::Book::add 0x%lx\nready\n", start - base);
	std::fflush(stdout);

	Book book;
	const auto began = clock::now();
	std::size_t kept = 0, churned = 0;
	unsigned made = 0;
	for (unsigned requests = 0;;) {
		const double t = std::chrono::duration<double>(clock::now() - began).count();
		if (t >= duration)
			return 0;
		/* A busy machine makes it late: then it serves fewer, and keeps as much. */
		for (const auto most = churned + std::size_t(TIMES * rate / TICKS_A_SECOND);
		     churned < most; requests++) {
			churned += parse(requests) + quote(requests);
			if (requests % 8 == 0)
				churned += recent(requests / 8);
			if (kept < t * rate)
				kept += book.add(made++);
		}
		while (kept < t * rate)
			kept += book.add(made++);
		std::this_thread::sleep_for(std::chrono::milliseconds(1000 / TICKS_A_SECOND));
	}
}
