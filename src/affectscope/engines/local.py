"""The handle of one episode that a :class:`~affectscope.engines.transformers.TransformersEngine` runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from affectscope.engines.base import Steering, TokenStep
from affectscope.engines.episode import Episode, check_steering

if TYPE_CHECKING:
    from affectscope.engines.transformers import TransformersEngine


class LocalGeneration:
    """A generation of :class:`TransformersEngine`; see :class:`affectscope.engines.base.Generation`."""

    def __init__(self, engine: TransformersEngine, episode: Episode) -> None:
        self._engine, self.episode = engine, episode

    @property
    def id(self) -> str:
        """The episode's name."""
        return self.episode.id

    @property
    def finished(self) -> str:
        """Why it ended; empty while it runs."""
        return self.episode.finished

    @property
    def text(self) -> str:
        """The reply so far."""
        return self.episode.reply

    @property
    def ids(self) -> list[int]:
        """Token ids of the reply so far, the end token included."""
        return self.episode.ids[self.episode.prompt :]

    @property
    def seed(self) -> int:
        """What its draws begin from."""
        return self.episode.sampler.seed

    def __iter__(self) -> Iterator[TokenStep]:
        return self

    def __next__(self) -> TokenStep:
        while True:
            if (step := self.take()) is not None:
                return step
            if self.episode.finished:
                raise StopIteration
            self._before_pass()
            self._engine.advance()

    def _before_pass(self) -> None:
        """For a reader that may have to give up instead of waiting for the next step."""

    def take(self) -> TokenStep | None:
        """A step that is there already, or None."""
        with self._engine.lock:
            if not self.episode.queue:
                self.episode.wanted = True
                return None
            self.episode.taken = time.monotonic()
            return self.episode.queue.popleft()

    def steer(self, steering: Steering | None) -> int:
        """Dose from the next token on; see the protocol.

        Raises:
            AffectscopeError: the dose does not fit the model.
        """
        check_steering(self._engine.model, steering)
        with self._engine.lock:
            self.episode.doses.append((self.episode.told, steering))
            return self.episode.told

    def stop(self, reason: str) -> None:
        """End it now."""
        with self._engine.lock:
            if not self.episode.finished:
                self._engine.end(self.episode, reason)

    def fork(self, n: int, seeds: Sequence[int] | None = None) -> list[LocalGeneration]:
        """``n`` more with the same past; without ``seeds`` each draws on as this one would."""
        with self._engine.lock:
            return [self._engine.fork(self.episode, seeds[i] if seeds else None) for i in range(n)]

    def rewind(self, position: int) -> None:
        """Forget the reply from ``position`` on and go on from there.

        Raises:
            AffectscopeError: a position outside the reply.
        """
        with self._engine.lock:
            self._engine.rewind(self.episode, position)
