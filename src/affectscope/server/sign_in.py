"""People in a browser: a key is shown once, and from then on a cookie stands for it. Nothing about it is on the disk.

A cookie goes along with every request, also with those that another site makes a browser send. So it is never sent to us by another
site (``SameSite=Strict``), and whatever changes something must also carry a token that only our own pages can read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field

from affectscope.server.api_keys import ApiKeys, Key
from affectscope.server.errors import RefusedError

COOKIE = "affectscope"
LASTS = 12 * 3600.0
"""Seconds for which a sign-in holds."""
MOST, TRIES = 1000, 30
"""Sign-ins that are held at once, and wrong keys a minute, of all together."""
CSRF_HEADER = "x-csrf-token"
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class SignIn:
    """One browser. ``csrf`` is what its pages send with every change."""

    key: str  # its name
    sha256: str  # and its hash: a key that was made anew under the same name is another
    csrf: str
    until: float = field(default_factory=lambda: time.monotonic() + LASTS)


class SignIns:
    """All browsers that are signed in. For one event loop."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._held: dict[str, SignIn] = {}  # by the hash of the cookie's value
        self._wrong = (float(TRIES), time.monotonic())

    def begin(self, given: str) -> tuple[str, Key]:
        """Sign in with a key: the cookie's value, and the key.

        Raises:
            RefusedError: 401 for an unknown key, 429 after too many of them.
        """
        key = self._keys.find(given)
        if key is None:  # who has a right key is not kept out by those who guess
            left, then = self._wrong
            left = min(float(TRIES), left + (time.monotonic() - then) * TRIES / 60)
            self._wrong = max(left - 1, 0.0), time.monotonic()
            if left < 1:
                raise RefusedError(429, "too many wrong keys: wait a minute", code="rate_limit_exceeded", headers={"Retry-After": "60"})  # fmt: skip
            raise RefusedError(401, "this key is not known, or has expired", code="invalid_api_key")
        self._tidy()
        value = secrets.token_urlsafe(32)
        self._held[_hash(value)] = SignIn(key.name, key.sha256, secrets.token_urlsafe(32))
        return value, key

    def find(self, cookie: str) -> tuple[SignIn, Key] | None:
        """Who a request's cookie stands for. A key that was revoked, or has expired, stands for nobody."""
        held = self._held.get(_hash(_value(cookie)))
        if held is None or held.until < time.monotonic():
            return None
        key = self._keys.named(held.key)
        return (held, key) if key is not None and hmac.compare_digest(key.sha256, held.sha256) else None

    def end(self, cookie: str) -> None:
        """Sign out."""
        self._held.pop(_hash(_value(cookie)), None)

    def _tidy(self) -> None:
        now = time.monotonic()
        self._held = {name: held for name, held in self._held.items() if held.until > now}
        while len(self._held) >= MOST:
            del self._held[min(self._held, key=lambda name: self._held[name].until)]


def require_csrf(method: str, sent: str, held: SignIn) -> None:
    """Refuse a change that one of our own pages did not send.

    Raises:
        RefusedError: 403.
    """
    if method not in SAFE and not hmac.compare_digest(sent.encode(), held.csrf.encode()):
        raise RefusedError(403, f"a browser's request needs the token of its page in {CSRF_HEADER}: reload the page", code="csrf")  # fmt: skip


def _value(cookie: str) -> str:
    """Ours among a request's cookies. Others of the same host may hold anything, and are looked past."""
    parts = (part.strip().partition("=") for part in cookie.split(";"))
    return next((value for name, _, value in parts if name == COOKIE), "")


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
