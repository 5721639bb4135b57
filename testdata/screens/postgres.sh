#!/bin/sh
# needs: initdb postgres psql python3 su
chmod 755 .
id maptracepg >/dev/null 2>&1 || useradd -r -M maptracepg
mkdir data && chown maptracepg data
as() { su maptracepg -s /bin/sh -c "$*"; }
as "$(command -v initdb) -D $PWD/data -A trust" >initdb.log
as "$(command -v postgres) -D $PWD/data -k $PWD/data -h '' -p 7798 -c fsync=off" >postgres.log 2>&1 &
# A session that prepares a statement for each request, and forgets to deallocate it.
cat >ask.py <<'P'
import time

print("select 'backend ' || pg_backend_pid();", flush=True)
n = 0
while True:
    for _ in range(10):
        print(f"prepare s{n} as select relname, relkind, {n} from pg_class where oid = $1 and relname <> 's{n}';", flush=True)
        print("select count(*) from pg_class where relkind = 'r';", flush=True)
        n += 1
    time.sleep(0.1)
P
until psql -h "$PWD/data" -p 7798 -U maptracepg -Atc 'select 1' postgres >/dev/null 2>&1; do sleep 0.2; done
python3 ask.py | psql -h "$PWD/data" -p 7798 -U maptracepg -At postgres >psql.log 2>&1 &
until grep -q '^backend ' psql.log; do sleep 0.2; done
echo "watch $(sed -n 's/^backend //p' psql.log)"
wait
