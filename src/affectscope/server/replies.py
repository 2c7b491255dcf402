"""One reply under way: a session in a thread of its own, what it gives in a bounded queue, and a reader that may be slow or leave.

Nothing is dropped: when the queue is full the session waits, the engine goes on with the others, and what was read stays read.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar, cast

from affectscope.monitoring.monitor import Reading

ROOM = 64
"""Items that wait for a slow reader."""
Item = TypeVar("Item")
Each = Callable[[Reading], None]
PATIENCE = 60.0
"""Seconds after which a reader that takes nothing counts as one that left: its place is wanted by others."""
_LOOK = 0.2
_DONE = object()


class LeftError(Exception):
    """Nobody reads any more."""


class Reply(Generic[Item]):
    """What a session in a thread gives, for ``async for``.

    Args:
        work: called in the thread with a function that must be given every reading; it makes the items.
        at_end: called in the thread when they have ended, however they did.
        name: of the thread.
    """

    def __init__(
        self,
        work: Callable[[Each], Iterator[Item]],
        at_end: Callable[[BaseException | None], None],
        name: str,
    ) -> None:
        self._work, self._at_end = work, at_end
        self._queue: queue.Queue[object] = queue.Queue(ROOM)
        self._left = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def leave(self) -> None:
        """Nobody reads on: the session ends at its next token."""
        self._left.set()

    async def ended(self) -> None:
        """Wait until the thread has ended and all is kept."""
        while self._thread.is_alive():
            await asyncio.sleep(_LOOK / 4)

    @property
    def left(self) -> bool:
        """Whether nobody reads on."""
        return self._left.is_set()

    async def items(self) -> AsyncGenerator[Item, None]:
        """The items as they come.

        Raises:
            Exception: what the session raised.
        """
        self._thread.start()
        try:
            while True:
                self._more.clear()
                try:
                    found = self._queue.get_nowait()
                except queue.Empty:
                    if not self._thread.is_alive() and self._queue.empty():  # it gave this reader up
                        return
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._more.wait(), PATIENCE)
                    continue
                if found is _DONE:
                    return
                if isinstance(found, BaseException):
                    raise found
                yield cast(Item, found)
        finally:
            self.leave()

    def _run(self) -> None:
        error: BaseException | None = None
        items = self._work(self._seen)
        try:
            for item in items:
                self._put(item)
        except LeftError as left:
            error = left
        except BaseException as raised:  # whatever it is, the reader must get it
            error = raised
        finally:
            if (close := getattr(items, "close", None)) is not None:
                close()
            try:
                self._at_end(error)
            except BaseException as raised:
                error = error or raised
            self._finish(_DONE if error is None else error)

    def _seen(self, _reading: Reading) -> None:
        if self._left.is_set():
            raise LeftError

    def _put(self, item: object) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            if self._left.is_set() or time.monotonic() > until:
                raise LeftError
            try:
                self._queue.put(item, timeout=_LOOK)
                break
            except queue.Full:
                continue
        self._wake()

    def _finish(self, item: object) -> None:
        with suppress(LeftError):
            self._put(item)
        self._wake()  # also a reader that was given up

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._more.set)
        except RuntimeError:  # the loop is closed: there is no reader
            self._left.set()
