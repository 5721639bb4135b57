#!/bin/sh
# needs: nginx python3
mkdir -p html logs
head -c 300000 /dev/urandom >html/index.html
cat >nginx.conf <<C
daemon off;
pid $PWD/nginx.pid;
error_log $PWD/error.log;
worker_processes 2;
events { worker_connections 64; }
http {
	access_log off;
	gzip on;
	gzip_types *;
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
sleep 1
cat >ask.py <<'P'
import socket, time

while True:
    try:
        s = socket.socket(socket.AF_UNIX)
        s.connect("nginx.sock")
        s.sendall(b"GET /index.html HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
        while s.recv(1 << 16):
            pass
        s.close()
    except OSError:
        pass
    time.sleep(0.01)
P
python3 ask.py &
while sleep 2; do nginx -p "$PWD" -c "$PWD/nginx.conf" -s reload 2>/dev/null; done
