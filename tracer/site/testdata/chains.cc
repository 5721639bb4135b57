// What chains.c is in C, with what C++ adds: virtual calls, templates, closures,
// containers, and exceptions, where memory is made while the stack is unwound.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define PLACE __attribute__((noipa))

namespace chains {

thread_local unsigned seed;
thread_local volatile int calls;
const size_t page = sysconf(_SC_PAGESIZE);

unsigned chance(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

PLACE void map_pages(size_t n)
{
	if (mmap(nullptr, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		std::abort();
	calls++;
}

PLACE void on(unsigned depth);

struct Maker {
	virtual ~Maker() = default;
	virtual void make(unsigned depth) = 0;
};

struct Plain : Maker {
	PLACE void make(unsigned depth) override
	{
		on(depth);
		calls++;
	}
};

template <size_t size> struct Framed : Maker {
	PLACE void make(unsigned depth) override
	{
		volatile char frame[size];
		frame[depth] = 1;
		on(depth);
		calls += frame[depth];
	}
};

// MapsAtItsEnd makes memory in its destructor.
struct MapsAtItsEnd {
	size_t pages;
	PLACE ~MapsAtItsEnd() { map_pages(pages); }
};

struct Throws : Maker {
	PLACE void make(unsigned depth) override
	{
		try {
			MapsAtItsEnd m{depth + 3};
			calls++;
			throw std::runtime_error("half way");
		} catch (const std::exception &e) {
			map_pages(depth + 2);
			on(depth);
			calls += e.what()[0] == 'h';
		}
	}
};

struct Sorts : Maker {
	PLACE void make(unsigned depth) override
	{
		std::vector<int> v{3, 1, 2};
		bool once = false;
		std::sort(v.begin(), v.end(), [&](int a, int b) {
			if (!once) {
				once = true;
				on(depth);
			}
			return a < b;
		});
		calls += v[0];
	}
};

struct Closes : Maker {
	PLACE void make(unsigned depth) override
	{
		std::string s(40 + depth, 'x');
		std::function<void(unsigned)> f = [s](unsigned d) {
			on(d);
			calls += int(s.size());
		};
		f(depth);
		calls++;
	}
};

PLACE void in_containers()
{
	static thread_local std::vector<std::vector<char>> kept;
	static thread_local std::map<int, std::string> names;
	kept.emplace_back(140000 + chance(100000));
	for (int i = 0; i < 300; i++)
		names[int(names.size())] = std::string(chance(200), 'y');
	calls++;
}

PLACE void on(unsigned depth)
{
	static const std::vector<std::shared_ptr<Maker>> makers{
		std::make_shared<Plain>(),  std::make_shared<Framed<64>>(), std::make_shared<Framed<1000>>(),
		std::make_shared<Throws>(), std::make_shared<Sorts>(),	    std::make_shared<Closes>(),
	};
	if (depth == 0) {
		chance(2) ? in_containers() : map_pages(1 + chance(9));
		calls++;
		return;
	}
	makers[chance(unsigned(makers.size()))]->make(depth - 1);
	calls++;
}

void work(unsigned first)
{
	seed = first;
	for (int i = 0; i < 30; i++)
		on(chance(9));
}

} // namespace chains

int main()
{
	std::thread t(chains::work, 2);
	chains::work(1);
	t.join();
}
