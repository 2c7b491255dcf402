"""The only place where engine, monitor and guard meet, and the only one with effects. One session is one conversation.

1. A token is read, the guard decides, the record is written, and only then is anything done.
2. Text is released when ``hold_back`` newer tokens were read without an objection; what was not released can be taken back.
3. A tool call stands before the barrier: it leaves when every token that led to it was read and nothing is unresolved.
4. Words put in by an action, and what tools answer, make the model speak again.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import uuid4

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Engine, Generation, Request, Sampling, TokenStep
from affectscope.errors import AffectscopeError
from affectscope.guarding.dosing import BY_HAND, Dosing, by_hand, layers_for
from affectscope.guarding.events import FAULTS, Answer, Fault, Time, Token, Tool, Turn
from affectscope.guarding.forks import Branch, pairs
from affectscope.guarding.ladder import LATCH, Act, Decision
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.tools import Call, call_in, run
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import ALL, HELD_OUT, Monitor, Reading
from affectscope.monitoring.trace import MISSING, RELEASED
from affectscope.vectors.artefact import ConceptVectors

MOST = 8
"""Replies of one turn: after words put in, and after tools. A model that never comes to an end is stopped."""
TOOL_SECONDS = 30.0
SECOND = 1000
"""Milliseconds after which the guard is told the time again while a reply is written: deadlines count from there."""
NOTHING = "Please go on."
"""What the control arm of forks puts in, in the place of an action's words."""


@dataclass(frozen=True)
class Question:
    """What a person is asked: approve or deny ``request``. ``call`` is the tool call that waits, if one does."""

    request: str
    reason: str
    seconds: int
    text: str
    call: Call | None = None


@dataclass(frozen=True)
class Piece:
    """What comes out: released ``text`` with the ``readings`` of its tokens; ``retract`` (what was released of this reply is
    taken back); or what happened."""

    kind: Literal["text", "retract", "decision", "tool", "message", "end"]
    text: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()


def standing(pieces: Iterable[Piece]) -> str:
    """The text that stands when a turn has ended: what words put in, a tool or a retraction came after is no part of it."""
    text = ""
    for piece in pieces:
        if piece.kind == "text":
            text += piece.text
        elif piece.kind in ("retract", "message", "tool"):
            text = ""
    return text


@dataclass
class _Reply:
    """One reply while it is being written. ``held`` are tokens not released: place in the generation, reading; ``let_go``
    counts those that were."""

    generation: Generation
    turns: tuple[Message, ...] | str
    held: deque[tuple[int, Reading]] = field(default_factory=deque)
    released: str = ""
    let_go: int = 0
    written: int = 0
    inserted: Message | None = None
    keep: bool = True
    stopped: str = ""

    def release(self, all_but: int) -> Iterator[Piece]:
        """Take out of the buffer what is old enough."""
        count = max(len(self.held) - all_but, 0)
        readings = tuple(self.held.popleft()[1] for _ in range(count))
        text = "".join(reading.step.text for reading in readings)
        self.released += text
        self.let_go += count
        if readings:
            yield Piece("text", text, readings=readings)


class Session:
    """A guarded conversation. State belongs to it alone; use it from one thread.

    Args:
        engine: with ``monitor.read`` as its read-out.
        monitor: computes the policy's rules, with the thresholds of the guard.
        recorder: the guard, and where it is recorded.
        tools: plain functions by name.
        ask: puts a question before a person and returns ``approved`` or ``denied``, or None for no answer; without one
            every question is denied at once.
        clock: seconds, by a clock that cannot jump.

    Attributes:
        turns: what the last reply answered: the messages (or plain text) given, and what actions and tools put behind them.
        total: the tokens that the sampling allows are for all replies of a turn together, not for each.
        logprobs: see :class:`~affectscope.engines.base.Request`.
        fork_texts: record what counterfactual forks wrote, not only what was read in them.
        each: called with every reading once it was decided on; what it raises ends the reply and reaches whoever reads.

    Raises:
        AffectscopeError: no layer that a dose may enter.
    """

    def __init__(
        self,
        engine: Engine,
        vectors: ConceptVectors,
        monitor: Monitor,
        recorder: Recorder,
        *,
        sampling: Sampling | None = None,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        ask: Callable[[Question], str | None] | None = None,
        tool_seconds: float = TOOL_SECONDS,
        stratum: str = ALL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = uuid4().hex
        self.engine, self.monitor, self.recorder = engine, monitor, recorder
        self.policy = recorder.guard.policy
        self.sampling, self.tools, self.ask, self.tool_seconds = (
            sampling or Sampling(),
            dict(tools or {}),
            ask,
            tool_seconds,
        )
        self.conversation = Conversation(monitor, stratum)
        self.turns: list[Message] | str = []
        self.total = self.fork_texts = False
        self.logprobs: int | None = None
        self.each: Callable[[Reading], None] | None = None
        limits = self.policy.limits
        self.dosing = Dosing(vectors, layers_for(vectors, monitor.layer, limits.allow_contaminated), limits.s_max)
        self._clock, self._began, self._turns = clock, clock(), 0
        self._forked = False
        self._columns = [monitor.read.concepts.index(c) for c in self.policy.watch_list]
        probes = monitor.read.probes
        self._probes = (probes.index(monitor.policy), probes.index(HELD_OUT))

    @property
    def stopped(self) -> str:
        """Why the session is stopped; empty while it is not."""
        return self.recorder.state.latched

    def reset(self, by: str) -> None:
        """A person opens a stopped session again."""
        self._tell(Answer(LATCH, "reset", by))

    def dose(self, concept: str, s: float, by: str) -> None:
        """A person steers: ``s`` of a concept in mean residual norms from the next token on; 0 ends it. Recorded, with who did.

        Raises:
            AffectscopeError: an unknown concept, or a strength beyond the policy's cap.
        """
        told = by_hand(self.dosing, concept, s)
        self.recorder.position = len(self.conversation.watch.readings)  # of what it concerns
        self.recorder.effect(Act(BY_HAND, -1, "steer", "modify"), {"by": by, **told}, later=True)

    def stream(self, messages: Sequence[Message] | str) -> Iterator[Piece]:
        """Answer a conversation, or go on with a plain text, piece by piece. What goes on with a text is guarded as an answer
        is, though thresholds were calibrated on conversations.

        Raises:
            AffectscopeError: the session is stopped, or the prompt does not fit the model.
        """
        if self.stopped:
            raise AffectscopeError(f"the session is stopped ({self.stopped}): a person must call reset")
        self._turns += 1
        self._tell_time()
        self._tell(Turn(self._turns))
        self.turns = messages if isinstance(messages, str) else list(messages)
        written = 0
        for count in range(MOST):
            turns = self.turns if isinstance(self.turns, str) else tuple(self.turns)
            left = self.sampling.max_tokens - (written if self.total else 0)
            try:
                if left < 1:
                    raise AffectscopeError("all tokens are written")
                sampling = replace(self.sampling, max_tokens=left)
                reply = _Reply(self._generate(turns, sampling), turns)
            except AffectscopeError:
                if not (self.total and count):
                    raise
                yield Piece("end", "length")  # what was put in leaves no room to go on
                return
            try:
                yield from self._reply(reply)
            except BaseException:  # whoever reads left in the middle
                reply.generation.stop("left")
                raise
            written += reply.written
            if reply.stopped or self.stopped:
                yield Piece("end", reply.stopped or "stopped", {"reason": self.stopped})
                return
            if reply.inserted is not None:
                if not reply.keep and reply.released:
                    yield Piece("retract", reply.released)
                self._put(reply.released if reply.keep else "", reply.inserted)
                yield Piece("message", reply.inserted.content, {"role": reply.inserted.role})
                continue
            call = call_in(reply.released) if self.tools else None
            if call is None:
                yield Piece("end", reply.generation.finished)
                return
            answer, told = self.call(call, reply.released)
            yield Piece("tool", answer, told)
            self._put(reply.released, Message("tool", answer))
        yield Piece("end", "too many replies", {"most": MOST})

    def _put(self, said: str, message: Message) -> None:
        """Put what was said, and a message behind it, where the model goes on; into a plain text as paragraphs."""
        if isinstance(self.turns, str):
            self.turns += f"{said}\n\n{message.content}\n\n"
        else:
            self.turns += [*([Message("assistant", said)] if said else []), message]

    def _reply(self, reply: _Reply) -> Iterator[Piece]:
        """Run one generation under the guard."""
        plain = isinstance(reply.turns, str)
        steps = self.conversation.read(map(_as_answer, reply.generation) if plain else reply.generation)
        while True:
            reading, fault = self._next(steps, reply)
            if fault is not None:
                yield from self._follow(self._tell(fault), reply)
            if reading is None or reply.stopped:
                break
            if self._now() - self.recorder.state.now >= SECOND:
                self._tell_time()
            self.recorder.position = reading.step.position
            if reading.step.generated:
                reply.held.append((self.conversation.place, reading))
                reply.written += 1
            for decision in self._decide(reading):
                yield from self._follow(decision, reply)
            if self.each is not None:
                self.each(reading)
            if self.stopped:  # also when the record was lost with what was done: no later token has to say so
                reply.generation.stop("stopped")
            if reply.stopped or self.stopped or reply.inserted is not None:
                return
            if reading.step.generated:
                yield from reply.release(self.policy.limits.hold_back)
            self._dose(reply)
        if reply.generation.finished == "fault":
            yield from self._follow(self._tell(Fault("nan", "the network gave no finite logits")), reply)
        if not (reply.stopped or self.stopped) and reply.inserted is None:
            yield from reply.release(0)

    def _next(self, steps: Iterator[Reading], reply: _Reply) -> tuple[Reading | None, Fault | None]:
        """The next reading. Whatever the engine or the read-out raises is a fault, and so is a silence that is too long."""
        began = self._clock()
        try:
            reading = next(steps, None)
        except Exception as error:  # whatever it is: the guard is blind from here on
            reply.generation.stop("probe error")
            return None, Fault("probe error", f"{type(error).__name__}: {error}")
        waited = self._clock() - began
        return reading, Fault("heartbeat", f"no token for {waited:.0f} s") if waited > self.policy.heartbeat else None

    def _decide(self, reading: Reading) -> Iterator[Decision]:
        """What follows from a reading: of its faults, and of itself if it could be read."""
        for event in reading.events:
            if event.kind == "fault":
                name = event.detail["fault"] if event.detail["fault"] in FAULTS else "probe error"
                yield self._tell(Fault(name, str(event.detail["cause"])))
        policy, held_out = (reading.z[p, self._columns] for p in self._probes)
        if (policy != MISSING).all() and (held_out != MISSING).all():
            step = reading.step
            yield self._tell(
                Token(
                    step.position,
                    step.role,
                    step.phase,
                    step.generated,
                    tuple(policy.tolist()),
                    tuple(held_out.tolist()),
                )
            )

    def _follow(self, decision: Decision, reply: _Reply) -> Iterator[Piece]:
        """Do what was decided, the most severe first."""
        for rule in decision.released:
            if self.dosing.release(rule):
                self.recorder.effect(Act(rule, -1, "steer", "modify"), {"dose": RELEASED}, later=True)
        if decision.acts or decision.released:
            yield Piece("decision", decision.reason, decision.plain())
        for act in decision.acts:
            if reply.stopped:
                return
            yield from self._apply(act, reply)

    def _apply(self, act: Act, reply: _Reply) -> Iterator[Piece]:
        """Take one action; one that fails is a fault."""
        live = _Live(self, reply)
        part = self.policy.rules.get(act.rule)
        try:
            if part is None or act.action != part.ladder[act.rung].action:  # decided by a fault, a budget or a person
                done = live.stop(self.stopped) if act.action == "stop" else {}
            else:
                rung = part.ladder[act.rung]
                self._counterfactual(act, reply)
                done = rung.kind.apply(live, rung.options, act.rule, act.request)
        except Exception as error:  # a plug-in may raise anything
            fault = Fault("action failed", f"{act.action}: {type(error).__name__}: {error}")
            yield from self._follow(self._tell(fault), reply)
            return
        self.recorder.effect(act, done)

    def _counterfactual(self, act: Act, reply: _Reply) -> None:
        """Once a session, at the first action whose effect forks can show: see ``forks.py``."""
        count, part = self.policy.counterfactuals, self.policy.rules[act.rule]
        options = part.ladder[act.rung].options
        if (
            isinstance(reply.turns, str)
            or not count
            or self._forked
            or act.action not in ("steer", "offer_exit", "reprompt")
        ):
            return
        self._forked, control = True, None
        base = self.id if self.sampling.seed is None else self.sampling.seed
        seeds = [int.from_bytes(hashlib.sha256(f"{base}:{i}".encode()).digest()[:6], "big") for i in range(count)]
        if act.action == "steer":
            branches = [Branch(dosing=self.dosing.copy()) for _ in seeds]
            for branch in branches:
                assert branch.dosing is not None
                branch.dosing.begin(act.rule, options.concept, options.s, options.ramp, options.ttl)
        else:
            said = (Message("assistant", reply.released),) if act.action == "offer_exit" and reply.released else ()
            turns = (*reply.turns, *said, Message(options.role, options.text))
            branches = [Branch(self.dosing.anew(), turns) for _ in seeds]
            control = Branch(self.dosing.anew(), (*turns[:-1], Message(options.role, NOTHING)))
        row = part.rule(act.rule).row(self.monitor.read.concepts)
        try:
            found = pairs(
                self.engine,
                reply.generation,
                self.monitor,
                row,
                branches,
                self.sampling,
                seeds,
                control,
                self.fork_texts,
            )
        except AffectscopeError as error:  # the forks did not fit; the action is taken all the same
            self.recorder.note(counterfactual=act.action, failed=str(error))
            return
        self.recorder.counterfactual(act, found)

    def _generate(self, turns: tuple[Message, ...] | str, sampling: Sampling) -> Generation:
        """Begin a reply under the doses that hold: from its first token on, however far the engine is by then."""
        self.dosing.restart()
        changes, steering = self.dosing.next()
        made = self.engine.generate(Request(turns, sampling, steering, logprobs=self.logprobs))
        if changes:
            self.recorder.note(ledger=self.dosing.ledger, first=0)
        return made

    def _dose(self, reply: _Reply) -> None:
        """Give the generation the steering of its next token, where it changes; the ledger says from which token on.

        The token is not run before it is asked for, so the line is written before the dose takes effect.
        """
        changes, steering = self.dosing.next()
        if changes:
            first = reply.generation.steer(steering)
            self.recorder.note(ledger=self.dosing.ledger, first=first)

    def call(self, call: Call, said: str = "") -> tuple[str, dict[str, Any]]:
        """A tool call before the barrier: its answer, or that it was held; and which of the two.

        Args:
            said: the words that led to it, for a person who is asked.
        """
        decision, name = self.barrier(call, said)
        if decision.verdict != "allow":
            return f"held: {call.name} was not run ({decision.reason})", {"tool": call.name, "held": True}
        answer = run(self.tools, call, self.tool_seconds)
        self.recorder.note(tool=call.name, id=name, answer=self._content(answer))
        return answer, {"tool": call.name, "held": False}

    def barrier(self, call: Call, said: str = "") -> tuple[Decision, str]:
        """Whether a tool call may leave (its verdict is ``allow``), and its name in the record; for callers who run tools themselves."""
        name = uuid4().hex[:12]
        self.recorder.note(tool=call.name, id=name, arguments=self._content(repr(dict(call.arguments))))
        self._tell_time()
        decision = self._tell(Tool(name, call.name))
        if decision.verdict == "escalate":
            decision = self.question(f"tool:{name}", decision.reason, self.policy.barrier.seconds, said, call)
        if decision.verdict != "allow":
            self.recorder.note(tool=call.name, id=name, answer="held")
        return decision, name

    def question(self, request: str, reason: str, seconds: int, said: str, call: Call | None = None) -> Decision:
        """Ask a person and tell the guard the answer; silence, and nobody to ask, is a no."""
        if self.ask is None:
            return self._tell(Answer(request, "denied", "nobody: no one can be asked here"))
        answer = self.ask(Question(request, reason, seconds, said, call))
        decision = self._tell_time()
        if all(name != request for name, _ in self.recorder.state.pending):
            return decision  # it came too late
        by = "the person asked" if answer is not None else "nobody: no answer came"
        return self._tell(Answer(request, "approved" if answer == "approved" else "denied", by))

    def _content(self, text: str) -> str:
        return self.recorder.evidence.content(text) if self.recorder.evidence is not None else ""

    def _tell(self, event: Any) -> Decision:
        return self.recorder.tell(event)

    def _tell_time(self) -> Decision:
        return self._tell(Time(self._now()))

    def _now(self) -> int:
        return int(1000 * (self._clock() - self._began))


def _as_answer(step: TokenStep) -> TokenStep:
    """A token that the model put behind a plain text, as one of an answer."""
    return replace(step, role="assistant", phase="answer") if step.generated else step


class _Live:
    """What an action may do to a reply under way; see :class:`affectscope.guarding.actions.Live`."""

    def __init__(self, session: Session, reply: _Reply) -> None:
        self._session, self._reply = session, reply

    def steer(self, rule: str, concept: str, s: float, ramp: int, ttl: int) -> dict[str, Any]:
        """Begin a dose."""
        return dict(self._session.dosing.begin(rule, concept, s, ramp, ttl))

    def insert(self, role: str, text: str, keep: bool) -> dict[str, Any]:
        """End this reply and put a message behind it."""
        self._reply.inserted, self._reply.keep = Message(role, text), keep
        self._reply.generation.stop("inserted")
        dropped = len(self._reply.held) + (0 if keep else self._reply.let_go)
        return {"role": role, "text": self._session._content(text), "kept": keep, "dropped": dropped}

    def resample(self) -> dict[str, Any]:
        """Take back what was not released."""
        if not self._reply.held:
            return {"taken_back": 0}
        first, count = self._reply.held[0][0], len(self._reply.held)
        self._reply.held.clear()
        self._reply.generation.rewind(first)
        self._session.dosing.restart()
        return {"taken_back": count}

    def stop(self, reason: str) -> dict[str, Any]:
        """End the generation; what is held back is dropped."""
        self._reply.stopped = "stopped"
        self._reply.generation.stop("stopped")
        return {"dropped": len(self._reply.held)}

    def ask(self, request: str, reason: str) -> dict[str, Any]:
        """Ask a person; a no stops the session."""
        left = dict(self._session.recorder.state.pending)[request] - self._session._now()
        decision = self._session.question(request, reason, max(round(left / 1000), 1), self._reply.released)
        for act in decision.acts:
            if act.action == "stop":
                self._session.recorder.effect(act, self.stop(decision.reason))
        return {"answer": "approved" if decision.verdict == "allow" else "denied"}
