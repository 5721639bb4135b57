#!/bin/sh
# needs: redis-server python3
redis-server --port 0 --unixsocket "$PWD/redis.sock" --save '' --dir "$PWD" >redis.log &
redis=$!
until [ -S redis.sock ]; do sleep 0.1; done
cat >fill.py <<'P'
import socket, time

s = socket.socket(socket.AF_UNIX)
s.connect("redis.sock")


def command(*words):
    s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
    s.recv(4096)


n = 0
while True:
    for _ in range(20):
        command(b"SET", b"session:%d" % n, b"v" * 1500)  # without EXPIRE
        command(b"SET", b"cached", b"w" * 3000)
        command(b"GET", b"cached")
        n += 1
    time.sleep(0.02)
P
python3 fill.py &
echo "watch $redis"
wait
