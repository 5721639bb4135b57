// Memory that containers and new make for the function that uses them.
#include <cstddef>
#include <memory>
#include <vector>

static volatile int calls;

namespace core
{ // as many programs have one
__attribute__((noinline)) static void fill(std::vector<char> &v)
{
	for (std::size_t i = 0; i < (1u << 21); i++)
		v.push_back(char(i));
	calls++;
}

struct Arena {
	std::unique_ptr<char[]> block;

	__attribute__((noinline)) void grow()
	{
		block.reset(new char[3u << 20]);
		block[0] = char(calls++);
	}
};
} // namespace core

int main()
{
	std::vector<char> v;
	core::Arena a;

	core::fill(v);
	a.grow();
	return v[calls] == a.block[1];
}
