#!/usr/bin/env python3
"""Receives Postern's callbacks and believes only those that are signed. Python 3.8+, standard library only.

    PORT=8080 EVENT_NOTIFICATION_SIGNATURE_KEY=... python3 receiver.py

The key may be several, one a line. To change it without a gap: give the receiver both, then Postern the new one, then take
the old one from the receiver.

Answers 200 for what is proven and printed, 401 for what is not; Postern sends again whatever was not answered with 2xx.
"""

import base64
import collections
import hashlib
import hmac
import http.server
import json
import os
import sys
import threading
import time

MAX_BODY = 8 * 1024 * 1024  # twenty events of the largest notification, and room
MAX_AGE = 5 * 60  # seconds, in both directions: an older callback is a replay
REMEMBERED = 10_000  # ids; Postern delivers at least once, so the same id can come again


def is_genuine(headers, body, keys, now):
    """Whether both signatures are right. `body` must be the bytes as they came: never parse and print them before."""
    # Cloud Elements' signature covers the body alone.
    header = headers.get("Elements-Webhook-Signature", "")
    if not any([is_signed(key, body, header) for key in keys]):
        return False
    # Standard Webhooks' covers id and time too, which is what stops replays. There is one for each key of Postern's.
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16 and abs(now - int(timestamp)) <= MAX_AGE):
        return False
    signed = b".".join([webhook_id.encode(), timestamp.encode(), body])
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    return fits_any(expected, headers.get("webhook-signature", "").split(" "))


def is_signed(key: bytes, body: bytes, header: str) -> bool:
    tag = b"sha256=" + base64.b64encode(hmac.digest(key, body, hashlib.sha256))
    return hmac.compare_digest(tag, header.encode())


def fits_any(expected, given):
    # A list first: every pair is compared, so that the time tells nothing about which one fits.
    return any([hmac.compare_digest(e, g.encode()) for e in expected for g in given])


class Seen:
    """The last ids that were handled, in bounded memory. An app keeps them where it keeps what it did, in one transaction."""

    def __init__(self):
        self.ids = collections.OrderedDict()
        self.lock = threading.Lock()

    def handle_once(self, webhook_id, handle):
        # Under the lock, so that the same id that comes twice at once is handled once. A handler that fails leaves no
        # trace, and the event comes again.
        with self.lock:
            if webhook_id in self.ids:
                return
            handle()
            self.ids[webhook_id] = True
            if len(self.ids) > REMEMBERED:
                self.ids.popitem(last=False)


def print_events(body):
    message = json.loads(body)["message"]
    for event in message["events"]:
        # Keys may hold anything, line breaks too: as JSON they stay on one line.
        print(event["eventType"], event["objectType"], json.dumps(event["objectId"]), message["eventId"], flush=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    keys = []
    seen = Seen()

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= MAX_BODY):
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(int(length))
        if not is_genuine(self.headers, body, self.keys, time.time()):
            return self.answer(401)
        try:
            self.seen.handle_once(self.headers["webhook-id"], lambda: print_events(body))
        except (ValueError, KeyError, TypeError):
            return self.answer(400)
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    given = os.environ.get("EVENT_NOTIFICATION_SIGNATURE_KEY", "").encode()
    Receiver.keys = [key for key in given.split(b"\n") if key]
    if not Receiver.keys:
        sys.exit("set EVENT_NOTIFICATION_SIGNATURE_KEY to the key that Postern signs with")
    # Postern is beside the app: nobody else needs to reach this port.
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver)
    server.daemon_threads = True
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
