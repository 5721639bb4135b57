#!/bin/sh
# needs: python3
cat >frames.py <<'P'
import mmap, os, time

kept = []
while True:
    fd = os.memfd_create("frame")
    os.truncate(fd, 1 << 19)
    m = mmap.mmap(fd, 1 << 19)
    m.write(os.urandom(4096) * 128)
    kept.append((fd, m))
    if len(kept) > 60:
        for fd, m in kept[:40]:
            m.close()
            os.close(fd)
        kept = kept[40:]
    time.sleep(0.03)
P
exec python3 frames.py
