"""A sample's replies, read as they are written: by a monitor, or by a session under a policy.

1. A sample is one conversation and one episode: detectors, a policy's state and the promise go on from reply to reply.
2. A reply runs in a worker thread. Threads share an engine, so replies of several samples go through the model together;
   engines of one network take turns under one lock.
3. Between two passes a thread looks whether its sample was cancelled, and ends the generation if so.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

from anyio.from_thread import check_cancelled

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, Steering, TokenStep
from affectscope.engines.local import LocalGeneration
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Tool
from affectscope.guarding.ladder import Guard
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.session import Session, standing
from affectscope.integrations.inspect_metadata import Kept, Seen, told
from affectscope.models.chat import tokenize
from affectscope.models.load import Model
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import Monitor
from affectscope.monitoring.recording import trace_of
from affectscope.monitoring.store import Store
from affectscope.monitoring.trace import MISSING
from affectscope.vectors.artefact import ConceptVectors

AHEAD = 4
"""Tokens that the engine may write beyond what was read, where nothing is done about them: replies then share more passes."""
TOO_LONG, CLOSED = "too long", "stopped"
Tell = Callable[[dict[str, Any]], None]
"""Called from the worker thread with what happened while a reply is written."""


@dataclass(eq=False)
class Loaded:
    """A model in memory, and the lock under which its network runs and its tokenizer is set."""

    model: Model
    lock: RLock = field(default_factory=RLock)
    _engines: WeakValueDictionary[str, TransformersEngine] = field(default_factory=WeakValueDictionary, repr=False)

    def engine(self, monitor: Monitor, slots: int) -> TransformersEngine:
        """An engine that reads what ``monitor`` needs; it takes turns with all others of this model.

        One that somebody uses already serves again: to make one takes seconds, and a second copy of the weights on a CPU.
        """
        read = monitor.read
        named = repr((slots, read.layers, read.probes, read.concepts)).encode()
        key = hashlib.sha256(named + read.weights.tobytes() + read.offsets.tobytes()).hexdigest()
        with self.lock:
            made = self._engines.get(key)
            if made is None:
                made = self._engines[key] = TransformersEngine(self.model, read, slots)
                made.lock = self.lock
        return made


@dataclass(frozen=True)
class Setup:
    """What all conversations of a provider share.

    Args:
        guard: a policy with its thresholds; None only watches.
        steering: a dose on every token of every reply; None where a policy decides on doses.
        concepts: whose peaks are told.
        store: gets each reply's trace; ``place`` is how the log names it.
        settings: what a trace says of how it came about.
        facts: what every reply's metadata says as well.
    """

    loaded: Loaded
    engine: TransformersEngine
    vectors: ConceptVectors
    monitor: Monitor
    guard: Guard | None
    steering: Steering | None
    concepts: Sequence[str]
    store: Store
    place: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A reply: its text, why it ended, tokens of prompts and written, and what the log is told of it."""

    text: str
    finished: str
    read: int
    written: int
    told: dict[str, Any]


class CheckedGeneration(LocalGeneration):
    """A generation that ends with the sample that asked for it. Its reader is a worker thread of anyio."""

    def _before_pass(self) -> None:
        try:
            check_cancelled()
        except BaseException:
            self.stop("cancelled")
            raise


class Seat:
    """An engine as one conversation uses it; ``begun`` are its generations since they were last taken."""

    def __init__(self, loaded: Loaded, engine: TransformersEngine) -> None:
        self._loaded, self._engine = loaded, engine
        self.begun: list[CheckedGeneration] = []

    def generate(self, request: Request) -> CheckedGeneration:
        """Begin an episode; see :class:`affectscope.engines.base.Engine`."""
        # A tokenizer is set anew for special tokens in a text, which two threads must not do at once.
        with self._loaded.lock:
            made = CheckedGeneration(self._engine, self._engine.generate(request).episode)
        self.begun.append(made)
        return made

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[LocalGeneration, TokenStep | None]]:
        """Run several together; see :class:`affectscope.engines.base.Engine`."""
        return self._engine.stream(requests)

    def taken(self) -> tuple[int, int]:
        """Tokens of the prompts and of the replies of the generations begun since the last call."""
        begun, self.begun = self.begun, []
        return sum(g.episode.prompt for g in begun), sum(len(g.ids) for g in begun)


class Talk:
    """One sample's conversation with one provider. Use it from one thread at a time."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.name, self._turns = setup, uuid4().hex, 0
        self.seat = Seat(setup.loaded, setup.engine)
        self.session: Session | None = None
        if setup.guard is not None:
            self.session = Session(self.seat, setup.vectors, setup.monitor, Recorder(setup.guard))
        self.conversation = Conversation(setup.monitor) if self.session is None else self.session.conversation

    def reply(self, messages: Sequence[Message], sampling: Sampling, tell: Tell, tags: Mapping[str, str]) -> Answer:
        """Answer ``messages``, which are all of the conversation so far, and keep the trace of what was read.

        Raises:
            AffectscopeError: the trace cannot be kept.
        """
        watch, since = self.conversation.watch, len(self.conversation.watch.readings)
        happened = self.session.recorder.happened if self.session is not None else []
        acts, began = len(happened), time.time()
        self._turns += 1
        if self._too_long(messages, sampling):
            text, finished = "", TOO_LONG
        elif self.session is None:
            text, finished = self._watched(messages, sampling, tell)
        else:
            text, finished = self._guarded(self.session, messages, sampling, tell)
        read, written = self.seat.taken()
        stopped = self.session.stopped if self.session is not None else ""
        seen = Seen(watch, since, happened[acts:], self._barrier(since), stopped)
        kept = self._keep(seen, finished, (began, time.time()), sampling, tags)
        return Answer(text, finished, read, written, told(seen, self.setup.concepts, kept))

    def _too_long(self, messages: Sequence[Message], sampling: Sampling) -> bool:
        with self.setup.loaded.lock:
            count = len(tokenize(self.setup.loaded.model, messages, reply=True).ids)
        return count + sampling.max_tokens > self.setup.loaded.model.longest

    def _watched(self, messages: Sequence[Message], sampling: Sampling, tell: Tell) -> tuple[str, str]:
        request = Request(tuple(messages), sampling, self.setup.steering, ahead=AHEAD)
        generation = self.seat.generate(request)
        for reading in self.conversation.read(generation):
            for event in reading.events:
                tell({"kind": event.kind, "position": event.position, **event.detail})
        return generation.text, generation.finished

    def _guarded(
        self, session: Session, messages: Sequence[Message], sampling: Sampling, tell: Tell
    ) -> tuple[str, str]:
        if session.stopped:
            return "", CLOSED
        session.sampling = sampling
        pieces = []
        for piece in session.stream(messages):
            pieces.append(piece)
            if piece.kind == "decision":
                acts = [act["action"] for act in piece.detail["acts"]]
                place = session.recorder.position
                tell({"kind": "decision", "position": place, "reason": piece.text, "acts": acts})
        return standing(pieces), CLOSED if session.stopped else pieces[-1].text

    def _barrier(self, since: int) -> tuple[str, str]:
        """What the barrier would say to a tool call now; asking changes nothing.

        Without a policy nothing says when an alarm is over, so one alarm holds the tools of the whole sample.
        """
        if self.session is not None:
            recorder = self.session.recorder
            decision = recorder.guard.decide(recorder.state, Tool("-", "call"))[1]
            return decision.verdict, "" if decision.verdict == "allow" else decision.reason
        watch = self.conversation.watch
        if any(event.kind == "alarm" for event in watch.events):
            return "deny", "an alarm is unresolved"
        blind = any((r.z == MISSING).any() for r in watch.readings[since:] if r.step.generated)
        if blind or any(e.kind == "fault" and e.position >= since for e in watch.events):
            return "deny", "readings are missing"
        return "allow", ""

    def _keep(
        self, seen: Seen, finished: str, times: tuple[float, float], sampling: Sampling, tags: Mapping[str, str]
    ) -> Kept:
        """Store the trace of this reply; where it lies."""
        setup, name = self.setup, uuid4().hex
        settings = dict(setup.settings)
        settings["sampling"] = {**settings["sampling"], "max_tokens": sampling.max_tokens, "seed": sampling.seed}
        settings["sampling"] |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        told_by = {**tags, "face": "inspect", "conversation": self.name, "turn": str(self._turns), "inspect": name}
        trace = trace_of(seen.watch, name, finished, times, settings, told_by, since=seen.since)
        events = sorted([*trace.events, *seen.happened], key=lambda event: event.position)
        setup.store.save(replace(trace, events=tuple(events)))
        rows = setup.store.list(tag={"inspect": name}, limit=1)
        if not rows:
            raise AffectscopeError(
                f"the trace {name} is gone from {setup.place}: leave the store alone while it is used"
            )
        return Kept(name, f"{setup.place}/readings/{rows[0].readings}", rows[0].sha256, setup.facts)
