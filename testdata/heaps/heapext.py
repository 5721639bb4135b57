# SPDX-License-Identifier: Apache-2.0
"""heapext.py: a Python program with an extension in C, as heaps.h says.

    heapext.py leak|calm SECONDS BYTES_PER_SECOND

"leak": heapext.parse forgets a node of 166 bytes every third time. "calm": it does not. The
innocents: the other calls of the extension, and Python's own objects, small and large, of which
a dictionary keeps the last 500.
"""

import json
import sys
import time

import heapext

TIMES = 30  # as many bytes are allocated and given back
NODE = 166
MOST = 1 << 30

cache = {}


def render_page(n):
    text = json.dumps([{"name": "item %d" % i, "price": i} for i in range(n % 20 + 5)])
    return 3 * len(text)


def cache_put(n):
    cache[n % 500] = bytes(600 + n * 37 % 3000)
    return len(cache[n % 500])


def main(mode, seconds, rate):
    for n in range(500):
        cache_put(n)
    print("ready", flush=True)
    leak = mode == "leak"
    began = last = time.monotonic()
    keep_due = churn_due = kept = n = 0
    while (t := time.monotonic()) - began < seconds:
        passed, last = min(t - last, 0.1), t  # what is late is made up for at most 100 ms
        keep_due += passed * rate
        churn_due += passed * rate * TIMES
        while keep_due > 0 and kept < MOST:
            for _ in range(3):
                churn_due -= heapext.parse(n, leak)
                n += 1
            keep_due -= NODE
            kept += NODE
        while churn_due > 0:
            churn_due -= heapext.digest(n) + render_page(n) + cache_put(n)
            n += 1
        time.sleep(0.005)


if len(sys.argv) != 4 or sys.argv[1] not in ("leak", "calm"):
    sys.exit(__doc__)
main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
