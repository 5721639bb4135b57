#!/bin/sh
# needs: go
(cd "$SRC/../leaks/goserver" && go build -o "$OLDPWD/goserver" .)
./goserver sessions 3600 2000000 >goserver.log &
echo "watch $!"
wait
