#!/bin/sh
# needs: initdb pgbench su
chmod 755 .
id maptracepg >/dev/null 2>&1 || useradd -r -M maptracepg
mkdir data && chown maptracepg data
as() { su maptracepg -s /bin/sh -c "$*"; }
as "$(command -v initdb) -D $PWD/data -A trust" >initdb.log
as "$(command -v postgres) -D $PWD/data -k $PWD/data -h '' -p 7799 -c shared_buffers=64MB -c fsync=off" >postgres.log 2>&1 &
for i in 1 2 3 4 5 6 7 8 9; do
	sleep 0.5
	pgbench -h "$PWD/data" -p 7799 -U maptracepg -i -s 4 postgres >pgbench.log 2>&1 && break
done
exec pgbench -h "$PWD/data" -p 7799 -U maptracepg -c 8 -j 1 -R 300 -T 3600 postgres >>pgbench.log 2>&1
