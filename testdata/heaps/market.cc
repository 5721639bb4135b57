/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * market: C++, whose containers allocate.
 *
 *   listeners market::Feed::subscribe appends a callback to a vector, which nobody ever leaves
 *   cycle     market::link_trades makes pairs that refer to each other by shared_ptr
 *   calm      market::Cache::store keeps the last 20,000 of what it is given
 *
 * The innocents: market::parse, market::quote and Cache::store give back all or as much as they
 * take.
 */
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "heaps.h"

namespace market
{

static const void *volatile last;

class Feed
{
      public:
	APART std::size_t subscribe(unsigned n);

      private:
	std::map<unsigned, std::vector<std::function<unsigned(unsigned)>>> callbacks;
};

std::size_t Feed::subscribe(unsigned n)
{
	std::string name = "listener of the feed, with a number: " + std::to_string(n);
	const std::size_t kept = 2 * sizeof(name) + name.size();
	callbacks[n % 1000].emplace_back([name, n](unsigned m) { return name.size() + n + m; });
	return kept;
}

struct Trade {
	std::shared_ptr<Trade> other;
	char text[200];
};

APART std::size_t link_trades(unsigned n)
{
	auto a = std::make_shared<Trade>(), b = std::make_shared<Trade>();
	memset(a->text, 'a' + n % 26, sizeof a->text);
	memset(b->text, 'b', sizeof b->text);
	a->other = b;
	b->other = a;
	return 2 * sizeof *a;
}

APART std::size_t parse(unsigned n)
{
	std::vector<std::string> fields;
	std::size_t done = 0;
	for (unsigned i = 0; i < 8; i++) {
		fields.emplace_back(60 + mix(n + i) % 300, 'p');
		done += fields.back().size();
	}
	last = fields.data();
	return done;
}

APART std::size_t quote(unsigned n)
{
	std::map<unsigned, std::shared_ptr<Trade>> book;
	for (unsigned i = 0; i < 16; i++) {
		auto t = std::make_shared<Trade>();
		memset(t->text, 'q', sizeof t->text);
		book[mix(n + i)] = std::move(t);
	}
	last = book.begin()->second.get();
	return 16 * (sizeof(Trade) + 64);
}

class Cache
{
      public:
	APART std::size_t store(unsigned n);

      private:
	std::list<unsigned> order;
	std::unordered_map<unsigned, std::string> entries;
};

std::size_t Cache::store(unsigned n)
{
	order.push_back(n);
	entries.emplace(n, std::string(100 + mix(n) % 200, 'c'));
	if (order.size() > 20000) {
		entries.erase(order.front());
		order.pop_front();
	}
	return 200 + 80;
}

static Feed feed;
static Cache cache;

static std::size_t subscribe(unsigned n)
{
	return feed.subscribe(n);
}

static std::size_t request(unsigned n)
{
	std::size_t done = parse(n) + quote(n);
	if (n % 4 == 0)
		done += cache.store(n / 4);
	return done;
}

} // namespace market

int main(int argc, char **argv)
{
	static const char *const modes[] = {"listeners", "cycle", "calm"};
	static std::size_t (*const keepers[])(unsigned) = {market::subscribe, market::link_trades,
							   nullptr};
	struct load l = {};
	l.keep = keepers[begin(argc, argv, modes, COUNT(modes))];
	l.rate = rate;
	l.times = 50;
	l.innocent = market::request;
	l.ninnocent = 4 * 20000;
	for (unsigned i = 0; i < 20000; i++)
		market::cache.store(i);
	ready();
	serve(&l);
	return 0;
}
