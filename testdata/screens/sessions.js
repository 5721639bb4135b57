// SPDX-License-Identifier: Apache-2.0

// sessions: a service that keeps each session, amid requests that keep nothing.
'use strict';

const sessions = new Map();

class Session {
	constructor(number, user) {
		this.number = number;
		this.user = user;
		this.cart = Array.from({ length: 20 }, (_, i) => `item ${number} ${i}`);
	}
}

function parse(number) {
	return JSON.parse(JSON.stringify({ number, items: Array.from({ length: 200 }, (_, i) => i) }));
}

function render(request) {
	return request.items.map((n) => `<li>${n}</li>`).join('');
}

function login(number) {
	sessions.set(number, new Session(number, `user ${number}`));
}

function serve(number) {
	const request = parse(number);
	if (number % 2 === 0)
		login(number);
	return render(request);
}

let number = 0;
setInterval(() => {
	for (let i = 0; i < 20; i++)
		serve(number++);
}, 20);
