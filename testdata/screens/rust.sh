#!/bin/sh
# needs: rustc
rustc --edition 2021 -C opt-level=2 -g -o leaks-rs "$SRC/../leaks/leaks.rs"
./leaks-rs vec 3600 1000000 >leaks.log &
echo "watch $!"
wait
