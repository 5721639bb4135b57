#!/bin/sh
# needs: nginx python3
mkdir -p html logs
head -c 30000 /dev/urandom >html/index.html
cat >nginx.conf <<C
daemon off;
pid $PWD/nginx.pid;
error_log $PWD/error.log;
worker_processes 1;
worker_rlimit_nofile $(ulimit -Hn);
events { worker_connections 15000; }
http {
	access_log off;
	client_header_timeout 1h;
	client_body_temp_path $PWD/logs;
	proxy_temp_path $PWD/logs;
	fastcgi_temp_path $PWD/logs;
	uwsgi_temp_path $PWD/logs;
	scgi_temp_path $PWD/logs;
	server { listen unix:$PWD/nginx.sock; root $PWD/html; }
}
C
chmod 755 . html
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
nginx=$!
until [ -S nginx.sock ]; do sleep 0.1; done
# Clients that begin a request and never end it, beside some that do.
cat >ask.py <<'P'
import resource, socket, time

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = []


def ask(text):
    s = socket.socket(socket.AF_UNIX)
    s.connect("nginx.sock")
    s.sendall(text)
    return s


while True:
    for _ in range(2):
        kept.append(ask(b"GET /index.html HTTP/1.1\r\nCookie: " + b"c" * 7000))
        s = ask(b"GET /index.html HTTP/1.0\r\n\r\n")
        while s.recv(1 << 16):
            pass
        s.close()
    time.sleep(0.02)
P
python3 ask.py &
until pgrep -P "$nginx" >worker; do sleep 0.1; done
echo "watch $(cat worker)"
wait
