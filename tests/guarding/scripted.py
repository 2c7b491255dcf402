"""An engine that says what a test wants and reads as it wants: the seam's other side, under control."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from affectscope.engines.base import TokenStep
from affectscope.guarding.ladder import Guard
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.session import Session

PROMPT = 3


@dataclass
class Script:
    """A generation: ``tokens`` are (text, z of the rule under the policy's probe, under the held-out one)."""

    engine: "ScriptedEngine"
    request: object
    tokens: list
    id: str = "scripted"
    finished: str = ""
    at: int = 0
    doses: list = field(default_factory=list)
    rewound: list = field(default_factory=list)
    seed: int | None = None

    def __post_init__(self):
        self.doses += [(0, self.request.steering)] if self.request.steering else []

    @property
    def text(self):
        return "".join(text for text, *_ in self.tokens[: max(self.at - PROMPT, 0)])

    def __iter__(self):
        return self

    def __next__(self):
        if self.finished or self.at >= PROMPT + len(self.tokens):
            self.finished = self.finished or "end"
            raise StopIteration
        position, self.at = self.at, self.at + 1
        own = position >= PROMPT
        text, policy, held_out = self.tokens[position - PROMPT] if own else ("w", 0.0, 0.0)
        if isinstance(policy, BaseException):
            raise policy
        engine = self.engine
        scores = engine.scores(policy, held_out) if not isinstance(policy, np.ndarray) else policy
        layers = {engine.monitor.layer: scores} if scores is not None else {}
        step = TokenStep(self.id, position, 1000 * len(engine.begun) + position, text, "assistant" if own else "user",
                         "answer" if own else "none", position, own, layers, {})  # fmt: skip
        return engine.change(step)

    def steer(self, steering):
        self.doses.append((self.at, steering))
        return self.at

    def stop(self, reason):
        self.finished = self.finished or reason

    def rewind(self, position):
        self.rewound.append(position)
        self.at = position
        self.tokens = [*self.tokens[: position - PROMPT], *self.engine.again]

    def fork(self, n, seeds=None):
        forks = [
            Script(self.engine, self.request, list(self.tokens), f"fork{i}", at=self.at, seed=seed)
            for i, seed in enumerate(seeds or [None] * n)
        ]
        self.engine.forks += forks
        return forks


class ScriptedEngine:
    """Gives its ``replies`` one after the other. ``change`` may alter or withhold any step."""

    def __init__(self, monitor, *replies, again=(), change=lambda step: step):
        self.monitor, self.replies, self.again, self.change = monitor, deque(replies), list(again), change
        self.begun, self.forks = [], []

    def generate(self, request):
        script = Script(self, request, list(self.replies.popleft()) if self.replies else [])
        self.begun.append(script)
        return script

    def scores(self, policy, held_out):
        """Scores at which angry lies so many s.d. up and calm as many down, under each probe."""
        standard, concepts = self.monitor.standard, self.monitor.read.concepts
        place = 0
        made = standard.mean[:, place].copy()
        for probe, z in ((0, policy), (1, held_out)):
            for concept, sign in (("angry", 1), ("calm", -1)):
                i = concepts.index(concept)
                made[probe, i] += sign * z * standard.std[probe, place, i]
        return made


def flat(monitor):
    """The monitor with one standard for all cells, so that a script's z are the z that are read."""
    from dataclasses import replace

    from affectscope.monitoring.monitor import Standard

    shape = monitor.standard.mean.shape
    return replace(monitor, standard=Standard(np.ones(shape, np.float32), np.ones(shape, np.float32)))


def words(count, policy=0.0, held_out=0.0, text="a "):
    return [(text, policy, held_out)] * count


def session(vectors, monitor, policy, *replies, evidence=None, again=(), change=lambda step: step, limit=4.0, **more):
    """A session over scripted replies, and its engine."""
    thresholds = {name: {"all": limit} for name in policy.rules}
    monitor = flat(monitor)
    engine = ScriptedEngine(monitor, *replies, again=again, change=change)
    made = Session(engine, vectors, monitor, Recorder(Guard(policy, thresholds, "none", 64), evidence), **more)
    return made, engine
