#!/bin/sh
# needs: python3.13
python3.13 "$SRC/sessions.py" &
echo "watch $!"
wait
