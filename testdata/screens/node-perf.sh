#!/bin/sh
# needs: node
node --perf-basic-prof "$SRC/sessions.js" &
echo "watch $!"
wait
