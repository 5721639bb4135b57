// SPDX-License-Identifier: Apache-2.0

// nodeleak: a node program that keeps Buffers, beside some innocents.
//
//	nodeleak.js SECONDS BYTES_PER_SECOND
//
// The innocents: arrays that live for a moment, and a Map of fixed size.
'use strict';

const kept = [];
const cache = new Map();
const piece = 256 * 1024;

function leakBuffers(size) {
	let done = 0;
	for (; done < size; done += piece)
		kept.push(Buffer.alloc(piece, 1));
	return done;
}

function churn() {
	return Array.from({ length: 2000 }, (_, i) => String(i));
}

function cachePut(i) {
	cache.set(i % 64, 'x'.repeat(1000) + i);
}

const [seconds, rate] = process.argv.slice(2).map(Number);
if (!(seconds > 0 && rate > 0)) {
	console.error('usage: nodeleak.js SECONDS BYTES_PER_SECOND');
	process.exit(2);
}
console.log('ready');
const began = process.hrtime.bigint();
let done = 0;
let i = 0;
const timer = setInterval(() => {
	const t = Number(process.hrtime.bigint() - began) / 1e9;
	if (t >= seconds) {
		clearInterval(timer);
		return;
	}
	if (t * rate > done)
		done += leakBuffers(t * rate - done);
	churn();
	cachePut(i++);
}, 20);
