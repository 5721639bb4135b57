#!/bin/sh
# needs: javac java
javac -d . "$SRC/Sessions.java"
java -Xmx1g -cp . Sessions &
echo "watch $!"
wait
