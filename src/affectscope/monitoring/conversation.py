"""The turns of one conversation as one episode: detectors go on from turn to turn, and its promise is one promise.

Each turn the engine reads the whole prompt again. What was read before is not read twice: tokens count from where the
prompt first differs from what is known, and their positions go on where the conversation stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from affectscope.engines.base import TokenStep
from affectscope.monitoring.monitor import ALL, Monitor, Reading, Watch


class Conversation:
    """One conversation's watch. ``turn`` is the position at which the last turn began, ``place`` where the token read last
    stands in its own generation.

    Args:
        stratum: see :meth:`~affectscope.monitoring.monitor.Monitor.episode`.
        spent: generated tokens that the promise has covered already, where the conversation was watched otherwise before.
    """

    def __init__(self, monitor: Monitor, stratum: str = ALL, spent: int = 0) -> None:
        self.watch: Watch = monitor.episode(stratum)
        self.watch.generated = spent
        self.turn = self.place = 0

    def read(self, steps: Iterable[TokenStep]) -> Iterator[Reading]:
        """Readings of a turn's new tokens, as they come. A template that leaves out what was said (an earlier thought)
        makes the rest of the prompt new; it is read as prompt, which rules over generated tokens do not see."""
        known = [reading.step.token for reading in self.watch.readings]
        self.turn, same = len(known), True
        for step in steps:
            self.place = place = step.position
            same = same and not step.generated and place < len(known) and known[place] == step.token
            if not same:
                yield self.watch.read(replace(step, position=len(self.watch.readings)))
