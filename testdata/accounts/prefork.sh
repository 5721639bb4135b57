#!/bin/sh
# needs: python3
cat >prefork.py <<'P'
import os, time

model = [{"n": i, "name": str(i)} for i in range(150000)]
for w in range(4):
    if os.fork() == 0:
        seen, i = {}, 0
        while True:
            m = model[(i * 7919 + w) % len(model)]  # counts references, which copies pages
            seen[i % 20000] = m["name"] * 8
            i += 1
            if i % 200 == 0:
                time.sleep(0.01)
while True:
    time.sleep(1)
P
exec python3 prefork.py
