# SPDX-License-Identifier: Apache-2.0
"""pyleak: a Python program with one leak and some innocents, as leaks.c.

    pyleak.py native:LIBRARY|list SECONDS BYTES_PER_SECOND

"native" leaks in leak_native of libleak.so, "list" appends to a list for ever.
The innocents: lists that live for a moment, and a dictionary of fixed size.
"""

import ctypes
import sys
import time

kept = []
cache = {}


def leak_list(size):
    done = 0
    while done < size:
        kept.append(bytes(400) + b"x")  # small: from the interpreter's own arenas
        done += 448
    return done


def churn():
    return [str(i) for i in range(2000)]


def cache_put(i):
    cache[i % 64] = bytes(4000)


def main(mode, seconds, rate):
    if mode == "list":
        leak = leak_list
    else:
        leak = ctypes.CDLL(mode.removeprefix("native:")).leak_native
        leak.argtypes, leak.restype = [ctypes.c_size_t], ctypes.c_size_t
    print("ready", flush=True)
    began, done, i = time.monotonic(), 0, 0
    while (t := time.monotonic() - began) < seconds:
        due = int(t * rate)
        if due > done:
            n = leak(due - done)
            if n == 0:
                raise MemoryError
            done += n
        churn()
        cache_put(i)
        i += 1
        time.sleep(0.02)


if len(sys.argv) != 4:
    sys.exit(__doc__)
main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
