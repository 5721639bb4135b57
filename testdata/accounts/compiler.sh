#!/bin/sh
# needs: g++
cat >all.cc <<'C'
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
int main()
{
	std::map<std::string, std::vector<int>> m;
	std::regex r("a(b|c)*");
	m["a"].push_back(std::regex_match("abc", r));
	for (auto &e : m) std::cout << e.first << e.second.size() << "\n";
}
C
while :; do g++ -O2 -o all all.cc; done
