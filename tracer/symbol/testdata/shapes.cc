// C++ for the tests: templates, classes in namespaces, exceptions, lambdas.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace shapes {

template <typename T>
class Box {
public:
	explicit Box(T v) : value(v) {}
	T grow(int n);

private:
	T value;
	std::vector<T> all;
};

template <typename T>
T Box<T>::grow(int n)
{
	for (int i = 0; i < n; i++)
		all.push_back(value);
	return all.back();
}

struct Table {
	std::map<std::string, int> names;
	__attribute__((noinline)) explicit Table(int n)
	{
		while (n-- > 0)
			names[std::to_string(n)] = n;
	}
	int operator[](const std::string &name)
	{
		if (name.empty())
			throw name;
		return names[name]++;
	}
};

namespace {
__attribute__((noinline)) int hidden(Table &t, const char *s)
{
	auto twice = [&](int n) { return t[s] + n; };
	return twice(1) + twice(2);
}
}

} // namespace shapes

int main(int argc, char **argv)
{
	shapes::Box<std::string> box(argv[0]);
	shapes::Box<double> number(argc);
	shapes::Table table(argc);
	std::printf("%s %f %d\n", box.grow(argc).c_str(), number.grow(argc), shapes::hidden(table, argv[0]));
	return 0;
}
