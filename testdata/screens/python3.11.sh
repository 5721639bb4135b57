#!/bin/sh
# needs: python3.11
python3.11 "$SRC/sessions.py" &
echo "watch $!"
wait
