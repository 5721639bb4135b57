#!/bin/sh
# needs: gcc
gcc -O2 -g -o server-c "$SRC/../leaks/server.c"
./server-c fifth 3600 1000000 >server.log &
echo "watch $!"
wait
