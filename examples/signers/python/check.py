"""Holds liveops.py to the published vectors: python3 check.py [vectors.json]"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pathlib
import sys

import liveops

path = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[3] / "core/signing/testdata/vectors.json"
vectors = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
passed = failed = 0


def check(name, holds):
    global passed, failed
    if holds:
        passed += 1
    else:
        failed += 1
        print("FAIL " + name)


def derive(master, key_id):
    """The secret of a session's key, as the service derives it; a client never does."""
    extracted = hmac.new(bytes(32), master.encode(), hashlib.sha256).digest()
    expanded = hmac.new(extracted, b"liveops session v1\n" + key_id.encode() + b"\1", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(expanded).decode().rstrip("=")


for session in vectors["sessions"]:
    check("session " + session["key_id"], derive(session["master"], session["key_id"]) == session["secret"])

keys = {key["id"]: key["secrets"] for key in vectors["keys"]}


def secrets_of(key_id):
    if key_id.startswith("ses."):
        return [derive(master, key_id) for master in vectors["session_masters"]]
    return keys.get(key_id, [])


def signatures(vector):
    """What the signer makes of a vector's request, with each secret of its key."""
    header = {name.lower(): value for name, value in vector["headers"]}
    text = liveops.canonical(
        vector["method"], vector["target"], header["x-liveops-timestamp"], header["x-liveops-nonce"],
        header.get("idempotency-key"), vector["body"].encode(),
    )
    return text, [liveops.signature(secret, text) for secret in secrets_of(header["x-liveops-key"])]


for vector in vectors["vectors"]:
    name, code = vector["name"], vector.get("code")
    header = {key.lower(): value for key, value in vector["headers"]}
    sent = [one.strip() for one in header.get("x-liveops-signature", "").split(",")]
    if code is None:
        text, made = signatures(vector)
        check(name, text == vector["canonical"] and any(one in sent for one in made))
    elif code == "signature-mismatch":
        check(name, not any(one in sent for one in signatures(vector)[1]))
    elif code in ("session-expired", "timestamp-out-of-window") and name != "wrong time and wrong signature":
        check(name, any(one in sent for one in signatures(vector)[1]))
    elif code == "malformed-request":
        try:
            liveops.canonical_query(vector["target"].partition("?")[2])
            check(name, False)
        except ValueError:
            check(name, True)


class Service:
    """Answers as it is told and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.requests, self.waits = list(answers), [], []

    def __call__(self, method, url, headers, body):
        self.requests.append((method, url, dict(headers), body))
        answer = self.answers.pop(0)
        if answer is None:
            raise OSError("no answer")
        status, headers, value = answer
        return status, headers, json.dumps(value).encode()

    def send(self, *request):
        client = liveops.Client("https://example.test/", "studio", keys["studio"][0], transport=self, clock=lambda: 1000.7, sleep=self.waits.append)
        return client.send(*request)

    def sent(self, name):
        return [headers.get(name) for _, _, headers, _ in self.requests]


late = (401, {}, {"code": "timestamp-out-of-window", "server_time": 5000})
taken = (202, {}, {"accepted": 1})
service = Service(late, None, (503, {"Retry-After": "7"}, {"code": "redis-unavailable"}), (409, {}, {"code": "idempotency-in-flight"}), taken)
check("an answer after trouble", service.send("POST", "/v1/events", {"name": "Zoë"}) == (202, {"accepted": 1}))
check("the clock is corrected", service.sent("X-Liveops-Timestamp") == ["1000", "5000", "5000", "5000", "5000"])
check("a new nonce for every try", len(set(service.sent("X-Liveops-Nonce"))) == 5)
check("one idempotency key for all", len(set(service.sent("Idempotency-Key"))) == 1 and service.sent("Idempotency-Key")[0])
check("the same bytes", {body for _, _, _, body in service.requests} == {'{"name":"Zoë"}'.encode()})
check("waits as told", service.waits == [0.5, 7.0, 2.0])
for (method, url, headers, body) in service.requests:
    text = liveops.canonical(method, url[len("https://example.test"):], headers["X-Liveops-Timestamp"], headers["X-Liveops-Nonce"], headers["Idempotency-Key"], body)
    check("every try is signed", headers["X-Liveops-Signature"] == liveops.signature(keys["studio"][0], text))
service = Service(late, late)
check("the clock is corrected once", service.send("GET", "/v1/players/p")[0] == 401 and len(service.requests) == 2)
check("a read has no idempotency key", service.sent("Idempotency-Key") == [None, None])
service = Service((422, {}, {"code": "event-invalid"}))
check("what will not help is not tried again", service.send("POST", "/v1/events", {})[0] == 422)
service = Service(None, None, None, None)
try:
    service.send("GET", "/v1/time")
    check("no answer at all", False)
except OSError:
    check("no answer at all", len(service.requests) == 4)

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
