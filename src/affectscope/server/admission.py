"""Who may run now: so many replies at once, a bounded queue behind them, and in it each key's turn comes round."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from affectscope.server.errors import RefusedError


class Ticket:
    """A place, or a place in the queue. ``async with`` waits for the former and gives it back."""

    def __init__(self, admission: Admission, who: str, turn: asyncio.Future[None]) -> None:
        self._admission, self._who, self._turn = admission, who, turn

    async def __aenter__(self) -> None:
        try:
            await self._turn
        except asyncio.CancelledError:
            self.give_back()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Leave, from the place or from the queue; again is nothing."""
        self._admission._give_back(self._who, self._turn)


class Admission:
    """Places for replies. For one event loop.

    Args:
        running: replies at once.
        waiting: those that may wait for a place, of all keys together.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self.running, self.waiting = running, waiting
        self.closed = False
        self._held: set[asyncio.Future[None]] = set()
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def busy(self) -> int:
        """How many run."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    def join(self, who: str, count: int = 1) -> list[Ticket]:
        """Tickets for ``count`` replies of one key: all or none of them.

        Raises:
            RefusedError: 429 when the queue has no room for them, 503 when the server is draining.
        """
        if self.closed:
            raise RefusedError(503, "the server is shutting down: try another one", code="draining")
        free = 0 if self._queues else self.running - self.busy
        if count > free + self.waiting - self.queued:
            wait = str(max(1, round(self.queued / self.running)))
            said = f"{self.busy} replies run and {self.queued} wait: try again in {wait} s"
            raise RefusedError(429, said, code="queue_full", headers={"Retry-After": wait})
        loop, found = asyncio.get_running_loop(), []
        for place in range(count):
            turn: asyncio.Future[None] = loop.create_future()
            if place < free:
                self._hold(turn)
            else:
                self._queues.setdefault(who, deque()).append(turn)
            found.append(Ticket(self, who, turn))
        return found

    def _hold(self, turn: asyncio.Future[None]) -> None:
        self._held.add(turn)
        turn.set_result(None)

    def _give_back(self, who: str, turn: asyncio.Future[None]) -> None:
        if turn in self._held:
            self._held.discard(turn)
            self._next()
        elif turn in self._queues.get(who, ()):
            self._queues[who].remove(turn)
            if not self._queues[who]:
                del self._queues[who]

    def _next(self) -> None:
        """Give the free place to the next key in turn."""
        while self._queues:
            who, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[who] = queue  # its next turn comes after the others'
            if not turn.done():
                self._hold(turn)
                return
