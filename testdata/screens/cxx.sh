#!/bin/sh
# needs: g++
g++ -std=c++17 -O2 -g -o exchange "$SRC/../leaks/server.cc"
./exchange orders 3600 1000000 >exchange.log &
echo "watch $!"
wait
