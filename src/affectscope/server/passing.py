"""An answer of the engine behind on its way to the client, and the readings beside it, which never hold it up.

1. Each choice has a reading of its own: a thread, a place among those that run, an end that keeps its trace.
2. What comes from behind is heard and sent on at once. Readings come when they are made, in chunks without choices.
3. The end of a stream waits for the readings only where they were asked for. A client that leaves ends both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from logging import getLogger
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from affectscope.engines.base import Sampling
from affectscope.files import json_text
from affectscope.server.api_keys import Key
from affectscope.server.asking import Asked
from affectscope.server.errors import RefusedError
from affectscope.server.rereading import LEFT, Proxied, Reread
from affectscope.server.routes_openai import cancel
from affectscope.server.said import Said, conversation, prompts
from affectscope.server.schema import MOST_CHOICES, VERSION, Affect
from affectscope.server.state import State
from affectscope.server.upstream import Upstream, data_of

logger = getLogger(__name__)
BROKEN = "broken"
"""How a reply ended that the engine behind broke off."""
_ROOM = 8  # events from behind that wait for a slow client
_DONE = b"[DONE]"
_HEAD = ("id", "object", "created", "model", "system_fingerprint")


class Passed(BaseModel):
    """A request that passes. Only ``affect`` is ours; all else is for the engine behind to understand, and of it this much is seen."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Any = None
    messages: Any = None
    prompt: Any = None
    n: Any = None
    echo: Any = None
    affect: Affect | None = None

    @property
    def replies(self) -> int:
        """How many replies come."""
        each = self.n if isinstance(self.n, int) and self.n > 1 else 1
        return each * (max(1, len(prompts(self.prompt))) if self.messages is None else 1)


class Readings:
    """All readings of one answer.

    Args:
        columns: places of the concepts that were asked for.

    Raises:
        RefusedError: 400 for more replies than are read, 429 where the queue has no room.
    """

    def __init__(self, state: State, key: Key, wanted: Passed, chat: bool, columns: Sequence[int]) -> None:
        assert isinstance(state.served, Proxied)
        count = wanted.replies
        if count > MOST_CHOICES:
            raise RefusedError(400, f"{count} replies are more than are read at once: ask for at most {MOST_CHOICES}", param="n")  # fmt: skip
        assert state.served.monitor is not None
        self.asked = wanted.affect is not None
        self.items: asyncio.Queue[bytes | int | RefusedError | None] = asyncio.Queue()
        self._concepts = [state.served.monitor.read.concepts[i] for i in columns]
        texts = _prompts(wanted, count)
        self._saids = [Said(len(text) if wanted.echo else 0) for text in texts]
        messages, left_out = conversation(wanted.messages)
        self.choices: list[Reread] = []
        self._tasks: list[asyncio.Task[None]] = []
        for index, ticket in enumerate(state.admission.join(key.name, count)):
            asked = Asked(messages if chat else texts[index], Sampling(), 0, None, frozenset(), wanted.affect)
            choice = Reread(state, key, asked, ticket, columns, index=index, left_out=left_out)
            choice.heard.model = wanted.model if isinstance(wanted.model, str) else ""
            self.choices.append(choice)
            self._tasks.append(self._begin(choice, state.served.readings))

    def _begin(self, choice: Reread, running: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        """Its reading, which may outlive the answer."""
        task = asyncio.create_task(self._follow(choice))
        running.add(task)

        def over(task: asyncio.Task[None]) -> None:
            running.discard(task)
            choice.ticket.give_back()  # also where it was cancelled before it had begun

        task.add_done_callback(over)
        return task

    async def begun(self) -> None:
        """Wait until the first reading has its place and its session.

        Raises:
            RefusedError: the session may not go on.
        """
        begun = asyncio.create_task(self.choices[0].begun.wait())
        await asyncio.wait({begun, self._tasks[0]}, return_when=asyncio.FIRST_COMPLETED)
        await cancel([begun])
        if (refused := self.choices[0].refused) is not None:
            raise refused

    def hear(self, answer: Mapping[str, Any]) -> None:
        """A chunk of a stream, or an answer at once."""
        model = answer.get("model")
        some = answer.get("choices")
        for one in some if isinstance(some, list) else ():
            index = one.get("index", 0) if isinstance(one, Mapping) else None
            if not isinstance(index, int) or not 0 <= index < len(self.choices):
                continue
            heard = self.choices[index].heard
            heard.model = model if isinstance(model, str) and model else heard.model
            part = one.get("delta", one.get("message", one))
            heard.say(self._saids[index].push(part) if isinstance(part, Mapping) else "")
            if isinstance(reason := one.get("finish_reason"), str):
                heard.say(self._saids[index].end())
                heard.end(reason)

    def end(self, finished: str = "end") -> None:
        """Nothing more comes."""
        for choice in self.choices:
            choice.heard.end(finished)

    @property
    def finished(self) -> bool:
        """Whether every reply has come to its end."""
        return all(choice.heard.finished for choice in self.choices)

    @property
    def done(self) -> bool:
        """Whether all is read and kept."""
        return all(task.done() for task in self._tasks)

    def cannot(self, cause: str) -> None:
        """Something that came cannot be read."""
        for choice in self.choices:
            choice.failed = choice.failed or cause

    async def over(self) -> None:
        """Wait until all is read and kept."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def leave(self) -> None:
        """The client left, or nothing came: read no more, and keep what was read."""
        self.end(LEFT)
        await cancel(self._tasks)

    def chunk(self, index: int) -> dict[str, Any] | None:
        """The readings of a choice that were not told yet."""
        choice = self.choices[index]
        rows, choice.rows = choice.rows, []
        if not rows or not (self._concepts or any(reading.events for reading in rows)):
            choice.sent += len(rows)
            return None
        made = choice.assembler.rows(rows, choice.sent)
        choice.sent += len(rows)
        return {"index": index, "concepts": self._concepts, **made, "behind": choice.heard.behind, "source": choice.source}  # fmt: skip

    def whole(self) -> dict[str, Any]:
        """The vendor object of an answer at once."""
        told = []
        for choice in self.choices:
            rows = choice.assembler.rows(choice.assembler.readings, 0) if self._concepts else {}
            told.append({"index": choice.index, **choice.summary(), **rows})
        return {"v": VERSION, "concepts": self._concepts, "source": self.choices[0].source, "choices": told}

    async def _follow(self, choice: Reread) -> None:
        try:
            async with aclosing(choice.deltas()) as deltas:
                async for delta in deltas:
                    if self.asked and delta.readings:
                        if not choice.rows:
                            self.items.put_nowait(choice.index)
                        choice.rows += delta.readings
        except RefusedError as refused:
            choice.refused, choice.failed = refused, refused.message
        except Exception as error:  # whatever it is: the text goes on without its reading, and that is told
            choice.failed = f"the reading failed: {type(error).__name__}"
            logger.exception("a reading failed")
        finally:
            choice.heard.deaf = True
            self.items.put_nowait(choice.index)


class Passing:
    """A stream of the engine behind, and what is told of it."""

    def __init__(self, upstream: Upstream, answer: httpx.Response, readings: Readings) -> None:
        self._upstream, self._answer, self._readings = upstream, answer, readings
        self._room = asyncio.Semaphore(_ROOM)
        self._pumping: list[asyncio.Task[None]] = []
        self._head: dict[str, Any] = {}  # what chunks have in common
        self._closed = self._over = False

    async def lines(self) -> AsyncIterator[bytes]:
        """The stream, to its end or until nobody reads it."""
        readings, error, last = self._readings, None, b""
        self._pumping = [asyncio.create_task(self._pump())]
        try:
            while not self._over or (readings.asked and not readings.done):
                item = await readings.items.get()
                if isinstance(item, int):
                    if line := self._told(item):
                        yield line
                elif isinstance(item, bytes):
                    self._room.release()
                    if readings.asked and data_of(item).strip() == _DONE:
                        last = item
                    else:
                        yield item
                else:
                    error, self._over = item, True
            for choice in readings.choices if readings.asked else ():
                if line := self._told(choice.index):
                    yield line
                yield self._line({"index": choice.index, **choice.summary()})
            if error is not None:
                yield _event(error.body)
            elif last:
                yield last
        finally:
            await self.close()

    async def close(self) -> None:
        """Ask the engine behind for no more, and read no more unless all has come. Again is nothing."""
        await cancel(self._pumping)
        await self._answer.aclose()
        if not self._over:
            await self._readings.leave()

    async def _pump(self) -> None:
        readings = self._readings
        try:
            async with aclosing(self._upstream.events(self._answer)) as events:
                async for event in events:
                    await self._room.acquire()
                    self._hear(data_of(event).strip())
                    readings.items.put_nowait(event)
            if not (self._closed or readings.finished):
                raise RefusedError(502, "the engine behind ended its answer too early: try again", code="upstream_failed")  # fmt: skip
        except RefusedError as error:
            readings.end(BROKEN)
            readings.items.put_nowait(error)
        else:
            readings.end()
            readings.items.put_nowait(None)

    def _hear(self, data: bytes) -> None:
        """What an event says; it goes on whatever it is."""
        if not data:
            return
        if data == _DONE:
            self._closed = True
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            self._readings.cannot("the engine behind sent a chunk that is no JSON object")
            return
        self._closed = self._closed or "error" in chunk
        self._head = self._head or {name: chunk[name] for name in _HEAD if name in chunk}
        self._readings.hear(chunk)

    def _told(self, index: int) -> bytes:
        chunk = self._readings.chunk(index)
        return self._line(chunk) if chunk is not None else b""

    def _line(self, affect: Mapping[str, Any]) -> bytes:
        return _event({**self._head, "choices": [], "affect": affect})


def _event(value: Mapping[str, Any]) -> bytes:
    return f"data: {json_text(dict(value))}\n\n".encode()


def _prompts(wanted: Passed, count: int) -> list[str]:
    """The prompt of each reply."""
    some = prompts(wanted.prompt) or [""]
    return [some[index * len(some) // count] for index in range(count)]
