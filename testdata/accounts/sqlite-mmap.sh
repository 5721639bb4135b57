#!/bin/sh
# needs: python3
cat >mapped.py <<'P'
import sqlite3, time

db = sqlite3.connect("mapped.db")
db.execute("pragma mmap_size=268435456")
db.execute("pragma synchronous=off")
db.execute("create table if not exists t(id integer primary key, pad text)")
i = 0
while True:
    db.executemany("insert or replace into t values(?, ?)", [((i * 211 + k) % 100000, "x" * 700) for k in range(300)])
    db.commit()
    db.execute("select sum(length(pad)) from t where id between ? and ?", (i % 90000, i % 90000 + 9000)).fetchall()
    i += 1
    time.sleep(0.03)
P
exec python3 mapped.py
