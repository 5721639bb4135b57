#!/bin/sh
# needs: python3
cat >wal.py <<'P'
import sqlite3, time

db = sqlite3.connect("wal.db")
db.execute("pragma journal_mode=wal")
db.execute("pragma synchronous=off")
db.execute("create table if not exists t(id integer primary key, pad text)")
i = 0
while True:
    db.executemany("insert or replace into t values(?, ?)", [((i * 37 + k) % 60000, "x" * 400) for k in range(200)])
    db.commit()
    db.execute("select count(*), max(pad) from t where id > ?", (i % 50000,)).fetchall()
    i += 1
    time.sleep(0.02)
P
exec python3 wal.py
