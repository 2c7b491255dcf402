"""The engine behind: its address, its key, and what may go wrong on the way there and back.

Its key comes from the environment and goes nowhere but there: not into the log, and not back to a client, whatever it answers.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from logging import WARNING, getLogger
from urllib.parse import urlsplit

import httpx

from affectscope.errors import AffectscopeError
from affectscope.server.errors import RefusedError

KEY = "AFFECTSCOPE_UPSTREAM_KEY"
"""The variable that holds its key."""
SECONDS = 600.0
"""Without a byte from it, after which an answer is given up."""
LARGEST = 64 * 2**20
"""Bytes of an answer, or of one event of a stream."""
HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
"""Headers that concern one connection only."""
OURS = HOP | {"host", "content-length", "content-type", "accept-encoding", "expect", "authorization", "api-key", "x-api-key", "cookie"}  # fmt: skip
"""Of a request, that do not go on: who asks us is no business of the engine behind."""
THEIRS = HOP | {"content-length", "content-encoding", "date", "server", "set-cookie", "content-security-policy", "content-security-policy-report-only",
                "x-content-type-options", "x-frame-options", "referrer-policy", "clear-site-data", "strict-transport-security", "refresh", "location"}  # fmt: skip
"""Of an answer, that do not come back. What a page of this address may do is said by us: people are signed in here."""
_END = re.compile(rb"\r?\n\r?\n|\r\r")
_CONNECT, _LOOK, _FRESH = 5.0, 2.0, 5.0


class Upstream:
    """A client of the engine behind. For one event loop.

    Args:
        url: its base URL, as OpenAI's client takes it.
        key: sent to it as a bearer token; empty for none.
        seconds: see ``SECONDS``.

    Raises:
        AffectscopeError: no URL of HTTP, one that holds a password, or a key that no header can hold.
    """

    def __init__(self, url: str, key: str = "", seconds: float = SECONDS) -> None:
        self.url = checked(url)
        if not (key.isascii() and key.isprintable()):
            raise AffectscopeError(f"{KEY} holds what no header can: set it to the key alone")
        self._key = key.strip().encode()
        getLogger("httpcore").setLevel(WARNING)  # below that it writes down headers, also one that repeats the key
        timeout = httpx.Timeout(seconds, connect=min(_CONNECT, seconds))
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits)
        self._seen, self._there, self._looking = float("-inf"), False, asyncio.Lock()

    async def ask(
        self, method: str, path: str, given: Iterable[tuple[str, str]] = (), content: bytes = b""
    ) -> httpx.Response:
        """Send a request on; the answer's head is there, its body is not read yet.

        Args:
            given: the client's headers; those that are not for the engine behind are left out.

        Raises:
            RefusedError: 502 where it cannot be reached or fails, 504 where it takes too long.
        """
        request = self._client.build_request(method, self.url + path, content=content or None, headers=self._headers(given, bool(content)))  # fmt: skip
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _refused(error) from None  # its words may hold the address
        if answer.is_redirect:
            await answer.aclose()
            raise RefusedError(502, f"the engine behind answers {answer.status_code} and points elsewhere: start with --upstream and the URL that it points to", code="upstream_redirects")  # fmt: skip
        return answer

    async def whole(self, answer: httpx.Response) -> bytes:
        """The body of an answer.

        Raises:
            RefusedError: 502 where it breaks off or is too long, 504 where it takes too long.
        """
        found = bytearray()
        async with aclosing(self._bytes(answer)) as pieces:
            async for piece in pieces:
                found += piece
                if len(found) > LARGEST:
                    raise _too_long()
        return self._without_key(bytes(found))

    async def events(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Server-sent events as they come, each with the empty line behind it. One that breaks off is none.

        Raises:
            RefusedError: as :meth:`whole`.
        """
        held = b""
        async with aclosing(self._bytes(answer)) as pieces:
            async for piece in pieces:
                begin, held = max(0, len(held) - 3), held + piece
                while (end := _END.search(held, begin)) is not None:
                    yield self._without_key(held[: end.end()])
                    begin, held = 0, held[end.end() :]
                if len(held) > LARGEST:
                    raise _too_long()
        if held.strip():
            yield self._without_key(held.rstrip(b"\r\n") + b"\n\n")

    def headers_back(self, answer: httpx.Response) -> dict[str, str]:
        """Headers of an answer that the client gets."""
        key = self._key.decode()
        return {n: v for n, v in answer.headers.items() if n not in THEIRS and not (key and key in v)}

    async def reachable(self) -> bool:
        """Whether it answers at all; looked at every few seconds at most."""
        async with self._looking:
            if time.monotonic() - self._seen > _FRESH:
                try:
                    request = self._client.build_request("GET", f"{self.url}/models", headers=self._headers((), False), timeout=_LOOK)  # fmt: skip
                    answer = await self._client.send(request, stream=True)
                    await answer.aclose()
                    self._there = True
                except httpx.HTTPError:
                    self._there = False
                self._seen = time.monotonic()
        return self._there

    async def close(self) -> None:
        """Let all connections go."""
        await self._client.aclose()

    def _headers(self, given: Iterable[tuple[str, str]], body: bool) -> list[tuple[str, str]]:
        kept = list(given)
        named = {part.strip().lower() for name, value in kept if name.lower() == "connection" for part in value.split(",")}  # fmt: skip
        made = [(name, value) for name, value in kept if name.lower() not in OURS | named]
        made.append(("accept-encoding", "identity"))  # a compressed stream may wait for more before it is told
        if body:
            made.append(("content-type", "application/json"))
        if self._key:
            made.append(("authorization", f"Bearer {self._key.decode()}"))
        return made

    async def _bytes(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in answer.aiter_bytes():
                yield piece
        except httpx.HTTPError as error:
            raise _refused(error) from None
        finally:
            await answer.aclose()

    def _without_key(self, raw: bytes) -> bytes:
        return raw.replace(self._key, b"[key]") if self._key else raw


def checked(url: str) -> str:
    """A base URL without the slash at its end.

    Raises:
        AffectscopeError: it is none of HTTP, names no host, or holds more than an address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise AffectscopeError("--upstream is no http:// or https:// URL: give one such as http://127.0.0.1:8001/v1")
    if parts.username is not None or parts.password is not None:
        raise AffectscopeError(f"--upstream holds a name or password, which others could see: leave it out and set {KEY}")  # fmt: skip
    if parts.query or parts.fragment:
        raise AffectscopeError("--upstream has something behind its path: give the base URL alone, such as http://127.0.0.1:8001/v1")  # fmt: skip
    return url.rstrip("/")


def data_of(event: bytes) -> bytes:
    """The data of a server-sent event; empty for a comment."""
    lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def key_in(environment: Mapping[str, str]) -> str:
    """The key that was set for it; empty for none."""
    return environment.get(KEY, "").strip()


def _refused(error: httpx.HTTPError) -> RefusedError:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return RefusedError(502, "the engine behind cannot be reached: see whether it runs", code="upstream_unreachable")  # fmt: skip
    if isinstance(error, httpx.TimeoutException):
        return RefusedError(504, "the engine behind took too long: try again", code="upstream_timeout")
    return RefusedError(502, "the engine behind broke off its answer: try again", code="upstream_failed")


def _too_long() -> RefusedError:
    return RefusedError(502, f"the engine behind sent more than {LARGEST} bytes at once: ask it for less", code="upstream_too_long")  # fmt: skip
