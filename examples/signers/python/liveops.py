"""Signs requests to a LiveOps service. One file to copy, Python 3.9 or later, nothing to install.

    client = Client("https://liveops.example", key_id, secret)
    status, answer = client.send("POST", "/v1/events", {"event_id": ...})

docs/signing.md is the scheme.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable, Mapping, Optional

Transport = Callable[[str, str, Mapping[str, str], bytes], "tuple[int, Mapping[str, str], bytes]"]


def canonical_query(raw: str) -> str:
    """Decodes the pairs of a query, encodes them again by RFC 3986 and sorts them. ValueError: the service would refuse it."""
    pairs = []
    for pair in raw.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            pairs.append((_recode(name), _recode(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _recode(part: str) -> str:
    if ";" in part or re.search("%(?![0-9A-Fa-f]{2})", part):
        raise ValueError("the query has a raw semicolon or a bad percent escape")
    return urllib.parse.quote(urllib.parse.unquote_to_bytes(part.replace("+", " ")), safe="-._~")


def canonical(method: str, target: str, timestamp: str, nonce: str, idempotency_key: Optional[str], body: bytes) -> str:
    """The text that is signed. target is the path and the query as they are sent, percent-encoded."""
    path, _, query = target.partition("?")
    digest = hashlib.sha256(body).hexdigest()
    return "\n".join(["v1", method, path, canonical_query(query), timestamp, nonce, idempotency_key or "-", digest])


def signature(secret: str, text: str) -> str:
    """The value of X-Liveops-Signature for a canonical text."""
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return "v1=" + base64.urlsafe_b64encode(mac).decode().rstrip("=")


def sign(key_id: str, secret: str, method: str, target: str, body: bytes, idempotency_key: Optional[str], now: int) -> "dict[str, str]":
    """The headers of a request that is sent now, in unix seconds. Each call makes a new nonce, so sign every try anew."""
    timestamp, nonce = str(now), secrets.token_urlsafe(18)
    headers = {
        "X-Liveops-Key": key_id,
        "X-Liveops-Timestamp": timestamp,
        "X-Liveops-Nonce": nonce,
        "X-Liveops-Signature": signature(secret, canonical(method, target, timestamp, nonce, idempotency_key, body)),
    }
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    return headers


def over_http(method: str, url: str, headers: Mapping[str, str], body: bytes) -> "tuple[int, Mapping[str, str], bytes]":
    """Sends a request once. OSError: there is no answer."""
    request = urllib.request.Request(url, method=method, headers=dict(headers), data=body or None)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, refused.read()


class Client:
    """Sends signed requests, and sends them again while that may help."""

    def __init__(
        self,
        base: str,
        key_id: str,
        secret: str,
        *,
        transport: Transport = over_http,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = 4,
    ):
        self.base, self.key_id, self.secret, self.tries = base.rstrip("/"), key_id, secret, tries
        self._transport, self._clock, self._sleep = transport, clock, sleep
        self._offset = 0  # seconds that the service's clock is ahead of ours

    def send(self, method: str, target: str, value: Any = None, idempotency_key: Optional[str] = None) -> "tuple[int, Any]":
        """Gives the status and the answer. A request that changes something gets an idempotency key if it has none; to try it
        again later, after OSError too, send it with the same one."""
        body = b"" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        if method != "GET" and not idempotency_key:
            idempotency_key = secrets.token_urlsafe(18)
        corrected, tried = False, 0
        while True:
            headers = sign(self.key_id, self.secret, method, target, body, idempotency_key, int(self._clock()) + self._offset)
            headers["Content-Type"] = "application/json"
            try:
                status, answered, content = self._transport(method, self.base + target, headers, body)
            except OSError:
                tried += 1
                if tried >= self.tries:
                    raise
                self._sleep(_backoff(tried))
                continue
            answer = _read(content)
            code = answer.get("code") if isinstance(answer, dict) else None
            if status == 401 and code == "timestamp-out-of-window" and not corrected:
                corrected = True  # once: a second refusal is not the clock's fault
                self._offset = int(answer["server_time"]) - int(self._clock())
                continue
            tried += 1
            later = status in (429, 503) or code == "idempotency-in-flight"
            if not later or tried >= self.tries:
                return status, answer
            self._sleep(_wait(answered.get("Retry-After"), tried))


def _read(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None  # a proxy's page


def _wait(retry_after: Optional[str], tried: int) -> float:
    return float(retry_after) if retry_after and retry_after.isdigit() else _backoff(tried)


def _backoff(tried: int) -> float:
    return 0.25 * 2**tried
