#!/bin/sh
# needs: g++
cat >main.cc <<'C'
#include <chrono>
#include <deque>
#include <string>
#include <thread>
#include <vector>
static void work(int seed)
{
	std::deque<std::string> queue;
	for (unsigned i = seed;; i++) {
		queue.emplace_back(i * 131 % 30000, 'x');
		if (queue.size() > 800)
			queue.erase(queue.begin(), queue.begin() + i % 500);
		if (i % 20 == 0)
			std::this_thread::sleep_for(std::chrono::milliseconds(2));
	}
}
int main()
{
	std::vector<std::thread> all;
	for (int i = 0; i < 4; i++)
		all.emplace_back(work, i);
	for (auto &t : all)
		t.join();
}
C
g++ -O2 -pthread -o main main.cc
for lib in /usr/lib/*/libjemalloc.so.2; do [ -e "$lib" ] && export LD_PRELOAD="$lib"; done
exec ./main
