#!/bin/sh
# needs: redis-server redis-cli python3
redis-server --port 0 --unixsocket "$PWD/redis.sock" --save '' --dir "$PWD" >redis.log &
sleep 1
cat >fill.py <<'P'
import random, socket, time

s = socket.socket(socket.AF_UNIX)
s.connect("redis.sock")
s.settimeout(5)
n = 0
while True:
    for _ in range(50):
        key, value = b"k%d" % random.randrange(100000), b"v" * random.randrange(50, 900)
        s.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
        s.recv(100)
    n += 1
    time.sleep(0.01)
P
python3 fill.py &
while sleep 3; do redis-cli -s redis.sock bgsave >/dev/null; done
