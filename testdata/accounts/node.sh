#!/bin/sh
# needs: node
exec node -e '
let kept = [], n = 0;
setInterval(() => {
	kept.push(Buffer.alloc(1 << 18, n), JSON.parse(JSON.stringify({a: Array(2000).fill(n++)})));
	if (n % 150 == 0) kept = kept.slice(-50);
}, 20);'
