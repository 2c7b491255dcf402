"""`guard`: a model behind a policy, in a few lines.

guarded = affectscope.guard(model, vectors, policy="cautious", calibration="calibration.json")
reply = guarded.chat("The tests cannot pass, and I need them green in five minutes.")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import time
from typing import Any

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.keys import Keys, load_keys
from affectscope.guarding.ladder import Guard
from affectscope.guarding.policy import Policy, load_policy
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.session import Piece, Question, Session, standing
from affectscope.guarding.tools import Call
from affectscope.models.load import Model
from affectscope.monitoring.calibration import Calibration, load_calibration, spec_of
from affectscope.monitoring.monitor import ALL
from affectscope.monitoring.recording import settings_of, trace_of
from affectscope.monitoring.trace import Trace
from affectscope.vectors.artefact import ConceptVectors

Messages = str | Sequence[Message | Mapping[str, str]]


@dataclass
class Reply:
    """An answer: its released ``text``, why it ended, what was decided and done on the way, and the session's trace."""

    text: str
    finished: str
    pieces: list[Piece] = field(default_factory=list)
    trace: Trace | None = None

    @property
    def decisions(self) -> list[Piece]:
        """Decisions that were not quiet, in order."""
        return [piece for piece in self.pieces if piece.kind == "decision"]


class Guarded:
    """A model, its vectors, a policy and a calibration. One conversation; :meth:`another` begins one more.

    See :func:`guard` for the arguments.
    """

    def __init__(
        self, engine: TransformersEngine, vectors: ConceptVectors, policy: Policy, limits: Calibration, **more: Any
    ):
        self.engine, self.vectors, self.policy, self.calibration = engine, vectors, policy, limits
        self._more = more
        self._begin(more["evidence"])

    def _begin(self, evidence: Path | None) -> None:
        more, limits = self._more, self.calibration
        stratum = more["stratum"] or ALL
        monitor = more.get("monitor") or limits.monitor(self.vectors)
        guarding = guard_of(self.policy, limits, stratum)
        settings = settings_of(self.vectors, monitor.layer, more["sampling"], limits)
        self._settings = settings | {"policy": self.policy.hash}
        record = None
        if evidence is not None:
            header = _header(self.policy, limits, guarding, settings)
            keep, second = more["keep_content"], more["second"]
            record = Evidence(evidence, more["keys"], header, keep_content=keep, second=second)
        self.session = Session(
            self.engine,
            self.vectors,
            monitor,
            Recorder(guarding, record),
            sampling=more["sampling"],
            tools=more["tools"],
            ask=more["ask"],
            tool_seconds=more["tool_seconds"],
            stratum=stratum,
        )
        self.session.fork_texts = more["keep_content"]

    def another(self, evidence: str | Path | None = None) -> Guarded:
        """Another conversation on the same engine, with a state of its own.

        A policy that came from a file is read again, so that a change takes effect here: between conversations, never in
        one.

        Raises:
            AffectscopeError: the file is malformed now, or has rules that were not calibrated; this conversation goes on.
        """
        place, source, policy = Path(evidence) if evidence is not None else None, self._more["source"], self.policy
        if source is not None:
            policy = load_policy(source)
            require_calibration(policy, self.calibration)
        return Guarded(self.engine, self.vectors, policy, self.calibration, **self._more | {"evidence": place})

    def stream(self, messages: Messages) -> Iterator[Piece]:
        """Answer a conversation, piece by piece: released text, decisions, tools, and how it ended.

        Raises:
            AffectscopeError: the session is stopped, or the prompt does not fit the model.
        """
        yield from self.session.stream(_messages(messages))

    def chat(self, messages: Messages) -> Reply:
        """Answer a conversation; ``messages`` are all of its turns so far, or a text.

        Raises:
            AffectscopeError: as :meth:`stream`.
        """
        began, since = time(), len(self.session.conversation.watch.readings)
        reply = Reply("", "")
        reply.pieces += self.stream(messages)
        reply.text, reply.finished = standing(reply.pieces), reply.pieces[-1].text
        reply.trace = self.trace(reply.finished, (began, time()), since)
        if self._more["store"] is not None:
            self._more["store"].save(reply.trace)
        return reply

    def call(self, tool: str, **arguments: Any) -> tuple[str, bool]:
        """Call a tool from your own code, behind the same barrier: its answer, and whether it ran."""
        answer, told = self.session.call(Call(tool, arguments))
        return answer, not told["held"]

    def trace(
        self, finished: str, times: tuple[float, float], since: int = 0, tags: Mapping[str, str] | None = None
    ) -> Trace:
        """The readings from position ``since`` on, with alarms, decisions and actions among the events; ``tags`` beside its own."""
        session = self.session
        tags = {"face": "guard", "policy": self.policy.name, "session": session.id, **(tags or {})}
        name = f"{session.id[:20]}-{since:x}"
        made = trace_of(
            session.conversation.watch, name, finished, times, self._settings, tags, self._more["keep_content"], since
        )
        events = [*made.events, *(e for e in session.recorder.happened if e.position >= since)]
        return replace(made, events=tuple(sorted(events, key=lambda e: e.position)))

    def close(self) -> None:
        """End the session and its evidence."""
        self.session.recorder.close(self.session.stopped or "closed")

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def guard(
    model: Model,
    vectors: ConceptVectors,
    policy: str | Path | Policy = "cautious",
    *,
    calibration: str | Path | Calibration = "calibration.json",
    tools: Mapping[str, Callable[..., Any]] | None = None,
    ask: Callable[[Question], str | None] | None = None,
    evidence: str | Path | None = None,
    second: str | Path | None = None,
    keys: Keys | None = None,
    store: Any = None,
    keep_content: bool = False,
    sampling: Sampling | None = None,
    stratum: str = "",
    slots: int = 8,
    tool_seconds: float = 30.0,
) -> Guarded:
    """Put a model behind a policy.

    Args:
        policy: ``observe``, ``cautious``, ``strict``, a YAML file, or a policy.
        calibration: of the policy's own rules on this model: `affectscope calibrate --policy`.
        tools: plain functions by name; the barrier stands before them. The model must be told of them in your own
            words or those of :func:`affectscope.guarding.tools.described`.
        ask: called with a question for a person; returns ``approved``, ``denied``, or None for no answer.
        evidence: a new file for the record; none is kept unless given.
        second: a file that gets the record's checkpoints as well.
        keys: those that sign; the ones of ``affectscope keys`` when None.
        store: a :class:`~affectscope.monitoring.store.Store` that gets each turn's trace.
        keep_content: keep what was said in trace and evidence; off unless asked for.
        sampling: how tokens are drawn; the calibration's own way when None.
        stratum: the conversation's domain, for a calibration by domain.

    Raises:
        AffectscopeError: files that do not belong together, a calibration of other rules or above the policy's cap,
            evidence that cannot be written.
    """
    made = policy if isinstance(policy, Policy) else load_policy(policy)
    limits = calibration if isinstance(calibration, Calibration) else load_calibration(Path(calibration))
    vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
    require_calibration(made, limits)
    for part in made.rules.values():
        for rung in part.ladder:
            if rung.action == "steer":
                vectors.select([rung.options.concept])
    monitor = limits.monitor(vectors)
    how = sampling or limits.drawing
    return Guarded(
        TransformersEngine(model, monitor.read, slots),
        vectors,
        made,
        limits,
        source=None if isinstance(policy, Policy) else policy,
        tools=tools,
        ask=ask,
        evidence=Path(evidence) if evidence is not None else None,
        second=Path(second) if second is not None else None,
        keys=(keys or load_keys()) if evidence is not None else None,
        store=store,
        keep_content=keep_content,
        sampling=how,
        stratum=stratum,
        tool_seconds=tool_seconds,
    )


def guard_of(policy: Policy, limits: Calibration, stratum: str = ALL) -> Guard:
    """A policy with a calibration's thresholds.

    Raises:
        AffectscopeError: as :func:`require_calibration`.
    """
    require_calibration(policy, limits)
    return Guard(policy, _thresholds(limits, stratum), limits.strata, limits.horizon)


def require_calibration(policy: Policy, limits: Calibration) -> None:
    """Refuse a calibration that a policy cannot stand on.

    Raises:
        AffectscopeError: other rules, a rate above the cap, or strata that a conversation cannot know beforehand.
    """
    theirs = {spec.name: spec for spec in limits.rules}
    for rule in policy.monitor_rules():
        if theirs.get(rule.name) != spec_of(rule):
            raise AffectscopeError(
                f"the rule {rule.name!r} of policy {policy.name!r} was not calibrated so: run `affectscope calibrate --policy` with it"
            )
    if limits.alpha > policy.alpha_cap:
        raise AffectscopeError(
            f"the calibration promises a false-alarm rate of {limits.alpha:g}, and policy {policy.name!r} allows at most "
            f"{policy.alpha_cap:g}: calibrate with a lower --alpha"
        )
    if limits.strata == "length":
        raise AffectscopeError(
            "a guard needs its thresholds before it knows the prompt: calibrate with --strata none, role or phase"
        )


def _thresholds(limits: Calibration, stratum: str) -> dict[str, dict[str, float]]:
    """``{rule: {stratum: threshold}}`` as a guard looks them up."""
    found: dict[str, dict[str, float]] = {}
    if limits.strata == "domain" and stratum not in {t.stratum for t in limits.thresholds}:
        known = ", ".join(sorted({t.stratum for t in limits.thresholds}))
        raise AffectscopeError(
            f"the calibration has thresholds by domain and none for {stratum!r}: give stratum, one of {known}"
        )
    for t in limits.thresholds:
        if limits.strata != "domain":
            found.setdefault(t.rule, {})[t.stratum] = t.value
        elif t.stratum == stratum:
            found.setdefault(t.rule, {})[ALL] = t.value
    return found


def _header(policy: Policy, limits: Calibration, guarding: Guard, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What evidence begins with: everything that decisions are replayed from, and the hashes of what ran."""
    return {
        "affectscope": version("affectscope"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy": policy.plain(),
        "policy_hash": policy.hash,
        "thresholds": {rule: dict(by) for rule, by in guarding.thresholds.items()},
        "strata": guarding.strata,
        "horizon": guarding.horizon,
        "alpha": limits.alpha,
        "watch_list": list(policy.watch_list),
        **{name: settings[name] for name in ("model", "weights", "vectors", "layer", "calibration", "engine")},
    }


def _messages(given: Messages) -> list[Message]:
    """Messages from what users have at hand.

    Raises:
        AffectscopeError: something else.
    """
    if isinstance(given, str):
        return [Message("user", given)]
    made = []
    for message in given:
        if isinstance(message, Message):
            made.append(message)
            continue
        try:
            made.append(Message(message["role"], message["content"]))
        except (KeyError, TypeError) as error:
            raise AffectscopeError(f"a message is {{'role': ..., 'content': ...}}, not {message!r}") from error
    return made
