#!/bin/sh
# needs: javac java jcmd
javac -d . "$SRC/Sessions.java"
java -Xmx1g -cp . Sessions &
java=$!
until jcmd "$java" Compiler.perfmap >jcmd.log 2>&1; do sleep 0.2; done
sleep 5
jcmd "$java" Compiler.perfmap >jcmd.log
echo "watch $java"
wait
