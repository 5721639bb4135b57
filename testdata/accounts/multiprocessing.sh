#!/bin/sh
# needs: python3
cat >pool.py <<'P'
import multiprocessing, time

def work(n):
    data = [bytearray(1 << 16) for _ in range(n % 100)]
    time.sleep(0.01)
    return len(data), bytes(1 << 14)

if __name__ == "__main__":
    table = {i: str(i) for i in range(200000)}
    with multiprocessing.Pool(4, maxtasksperchild=50) as pool:
        results = []
        for r in pool.imap_unordered(work, iter(int, 1), chunksize=4):
            results.append(r)
            if len(results) > 5000:
                results = []
P
exec python3 pool.py
