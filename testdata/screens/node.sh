#!/bin/sh
# needs: node
node "$SRC/sessions.js" &
echo "watch $!"
wait
