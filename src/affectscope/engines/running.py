"""The engine for a server: a thread of its own runs the passes, and readers in many threads wait for their steps.

1. A pass is one token of every episode whose reader has decided: so the loop waits for those who still decide, as long as
   the last pass took, for a pass without them costs nearly as much as one with them.
2. Who is late is not waited for again until it asks: a slow reader costs the others nothing.
3. An error in a pass ends the episodes that were in it, and no others; their readers get it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary

from affectscope.engines.base import TokenStep
from affectscope.engines.cache import Segment
from affectscope.engines.episode import Episode
from affectscope.engines.local import LocalGeneration
from affectscope.engines.prefixes import Scores
from affectscope.engines.readout import Readout
from affectscope.engines.threads import release_threads
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model

GATHER = 0.01
"""Seconds that a pass waits at least for readers who still decide."""
PREFILL = 256
"""Prompt tokens of one pass while others write: a long prompt stops nobody for long."""
_STALL = 1.0


class RunningEngine(TransformersEngine):
    """A :class:`TransformersEngine` that runs by itself until :meth:`close`; its generations may be read from any thread."""

    def __init__(
        self, model: Model, read: Readout | None = None, slots: int = 8, reuse: bool = True, gather: float = GATHER
    ) -> None:
        super().__init__(model, read, slots, reuse)
        self.prefill = PREFILL
        self.changed = threading.Condition(self.lock)
        self._gather, self._late, self._closed = gather, set[str](), False
        self._undecided = set[str]()  # whose readers the pass to come still waits for
        self.knocking = set[
            str
        ]()  # whose readers wait for the lock: a pass that did not let them in would be followed by another
        self._readers: WeakValueDictionary[str, RunningGeneration] = WeakValueDictionary()
        self._took = 0.0
        release_threads()  # of the thread that loaded the model: the loop has its own
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def enter(self, episode: Episode) -> LocalGeneration:
        """Put an episode behind those that wait.

        Raises:
            AffectscopeError: the engine is closed.
        """
        if self._closed:
            raise AffectscopeError("the engine is closed: start another")
        found = super().enter(episode)
        with self.changed:
            self.changed.notify_all()
        return found

    def advance(self) -> None:
        """Wait until something has happened; the loop does the work."""
        with self.changed:
            self.changed.wait(_STALL)

    def close(self) -> None:
        """End the loop, and every episode that still runs, with the reason ``closed``."""
        with self.changed:
            self._closed = True
            for episode in [*(e for e in self._slots if e is not None), *self._waiting]:
                self.end(episode, "closed")
            self.changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive() and not self._closed

    def let_in(self, episode: Episode) -> None:
        """Its reader has the lock. Who was waited for only because of that is not waited for any more."""
        self.knocking.discard(episode.id)
        if not (self.knocking or self._undecided):
            self.changed.notify_all()

    def asked(self, episode: Episode) -> None:
        """Its reader has decided and waits for the next step. The loop is woken by the last one only: each waking costs all others."""
        self._undecided.discard(episode.id)
        if not self._undecided:
            self.changed.notify_all()

    def end(self, episode: Episode, reason: str) -> None:
        """End an episode, whose reader then knows; nobody waits for it any more."""
        super().end(episode, reason)
        self.asked(episode)
        self._tell_reader(episode)

    def _tell(self, episode: Episode, segment: Segment, read: Sequence[Scores]) -> None:
        """See the engine; also for steps that are taken over and not run."""
        super()._tell(episode, segment, read)
        self._tell_reader(episode)

    def _tell_reader(self, episode: Episode) -> None:
        if (reader := self._readers.get(episode.id)) is not None:
            reader.news.notify_all()

    def _handle(self, episode: Episode) -> LocalGeneration:
        made = self._readers[episode.id] = RunningGeneration(self, episode)
        return made

    def _loop(self) -> None:
        with self.changed:
            try:
                while not self._closed:
                    if not self._gathered():
                        continue
                    began = time.monotonic()
                    try:
                        self._pass()
                    except Exception as error:  # whatever it is: the readers must know, and others may still be served
                        for episode in self.passing or [e for e in self._slots if e is not None]:
                            episode.error = error
                            self.end(episode, "error")
                    self._took = time.monotonic() - began
                    self.changed.notify_all()
            finally:  # also when ending an episode failed: then nothing runs any more, and all must know
                self._closed = True
                self.changed.notify_all()
                for reader in list(self._readers.values()):
                    reader.news.notify_all()

    def _gathered(self) -> bool:
        """Wait until a pass is due: all episodes that are not late have decided, or the time for it is over."""
        self._admit()
        active = [e for e in self._slots if e is not None]
        self._late &= {e.id for e in active if not e.ready}
        if not any(e.ready for e in active):
            self.changed.wait(_STALL)
            return False
        until = time.monotonic() + max(self._gather, self._took)
        # What another writes comes when it comes: nobody decides there, and nobody waits for it.
        self._undecided = {e.id for e in active if not (e.ready or e.given)} - self._late
        while not self._closed:
            left = until - time.monotonic()
            if not (self._undecided or self.knocking):
                return True
            if left <= 0:
                self._late |= self._undecided
                self._undecided = set()
                return True
            self.changed.wait(left)
        return False


class RunningGeneration(LocalGeneration):
    """A generation of a :class:`RunningEngine`."""

    def __init__(self, engine: TransformersEngine, episode: Episode) -> None:
        super().__init__(engine, episode)
        assert isinstance(engine, RunningEngine)
        self.news = threading.Condition(engine.lock)  # its own: a step of one reply wakes one reader
        self._mine = deque[TokenStep]()  # steps that are there already: a prompt's are fetched at once, not one a lock

    def take(self) -> TokenStep | None:
        """A step that is there already, or None."""
        if not self._mine:
            with self._engine.lock:
                self._mine, self.episode.queue = self.episode.queue, self._mine
                self.episode.wanted = self.episode.wanted or not self._mine
                self.episode.taken = time.monotonic()
        return self._mine.popleft() if self._mine else None

    def rewind(self, position: int) -> None:
        """Forget the reply from ``position`` on and go on from there.

        Raises:
            AffectscopeError: a position outside the reply.
        """
        super().rewind(position)
        self._mine = deque(step for step in self._mine if step.position < position)

    def __next__(self) -> TokenStep:
        if self._mine:
            return self._mine.popleft()
        engine = self._engine
        assert isinstance(engine, RunningEngine)
        engine.knocking.add(self.episode.id)
        with engine.changed:
            engine.let_in(self.episode)
            while True:
                if (step := self.take()) is not None:
                    return step
                if self.episode.finished:
                    if (error := self.episode.error) is not None:
                        self.episode.error = None
                        raise error
                    raise StopIteration
                if not engine.alive:
                    raise AffectscopeError("the engine has stopped: start the server again")
                engine.asked(self.episode)
                self._before_pass()
                self.news.wait(_STALL)
