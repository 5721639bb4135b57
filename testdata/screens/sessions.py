# SPDX-License-Identifier: Apache-2.0
"""sessions: a service that keeps each session, amid requests that keep nothing."""

import json
import time

sessions = {}


class Session:
    def __init__(self, number, user):
        self.number, self.user = number, user
        self.cart = [f"item {number} {i}" for i in range(20)]


def parse(number):
    return json.loads(json.dumps({"number": number, "items": list(range(200))}))


def render(request):
    return "".join(f"<li>{n}</li>" for n in request["items"])


def login(number):
    sessions[number] = Session(number, f"user {number}")


def serve(number):
    request = parse(number)
    if number % 2 == 0:
        login(number)
    return render(request)


number = 0
while True:
    for _ in range(20):
        serve(number)
        number += 1
    time.sleep(0.02)
