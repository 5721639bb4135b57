#!/bin/sh
# needs: python3
cat >writer.py <<'P'
import os, tempfile, time

held = []
while True:
    f = tempfile.TemporaryFile(dir="/dev/shm")
    f.write(os.urandom(1 << 16) * 8)
    f.flush()
    held.append(f)
    if len(held) > 100:
        for f in held[:60]:
            f.close()
        held = held[60:]
    time.sleep(0.03)
P
exec python3 writer.py
