"""An engine behind, in raw HTTP: it answers as a test wants, also wrongly, and keeps what it was asked."""

import asyncio
import json
import threading

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "behind-1"}


class Behind:
    """``answer(asked, writer)`` is a coroutine function; ``asked`` holds method, path, headers and body."""

    def __init__(self, answer):
        self.answer, self.asked, self.left = answer, [], threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(10)

    async def _run(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**22)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = [tuple(line.split(": ", 1)) for line in head[1:] if line]
            length = next((int(v) for n, v in headers if n.lower() == "content-length"), 0)
            body = await reader.readexactly(length)
            asked = {"method": method, "path": path, "headers": [(n.lower(), v) for n, v in headers], "body": body}
            self.asked.append(asked)
            watching = asyncio.create_task(self._watch(reader))
            await self.answer(asked, writer)
            await writer.drain()
            watching.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()

    async def _watch(self, reader):
        if not await reader.read(1):
            self.left.set()


def whole(status, body, **headers):
    """An answer at once."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", "Content-Length": len(raw), "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + raw


START = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nX-Own: 1\r\n\r\n"  # fmt: skip
END = b"0\r\n\r\n"


def piece(raw):
    """A piece of a chunked body."""
    return f"{len(raw):x}\r\n".encode() + raw + b"\r\n"


def event(value):
    """A server-sent event."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(delta, reason=None, index=0, **more):
    """A chunk of a stream."""
    return event({**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": reason}], **more})


DONE = event(b"[DONE]")


def says(*parts, index=0):
    """The events of a reply in these parts."""
    said = [chunk({"role": "assistant", "content": ""}, index=index), *(chunk({"content": p}, index=index) for p in parts)]  # fmt: skip
    return [*said, chunk({}, "stop", index=index)]


def streams(events, pause=0.0):
    """An answer that sends events, each in a piece of its own."""

    async def answer(_asked, writer):
        writer.write(START)
        for one in events:
            writer.write(piece(one))
            await writer.drain()
            await asyncio.sleep(pause)
        writer.write(END)

    return answer


def gives(raw):
    """An answer of these bytes."""

    async def answer(_asked, writer):
        writer.write(raw)

    return answer
