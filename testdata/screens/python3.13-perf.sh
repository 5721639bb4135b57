#!/bin/sh
# needs: python3.13
python3.13 -X perf "$SRC/sessions.py" &
echo "watch $!"
wait
