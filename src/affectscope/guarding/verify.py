"""Check a file of evidence without trusting who wrote it: the chain, the signatures, and every decision again.

Reads line by line in flat memory, and stops at the first line that fails.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rfc8785

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import from_json
from affectscope.guarding.evidence import BEGINNING, FORMAT, canonical, digest, signed_part
from affectscope.guarding.keys import signed_by
from affectscope.guarding.ladder import CLOSED, OPEN, Guard, State
from affectscope.guarding.policy import Policy

EVENT, EFFECT = "event", "effect"


@dataclass(frozen=True)
class Verified:
    """What was found. ``failed`` is the number of the first line that fails, counted from 1; None when all hold.

    ``notes`` say what holds only under a condition, and what this file cannot prove.
    """

    lines: int
    decisions: int
    acts: int
    checkpoints: int
    failed: int | None
    cause: str
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every line holds."""
        return self.failed is None


@dataclass
class _Reader:
    """What is known while reading on."""

    public: str
    signed: str = ""
    guard: Guard | None = None
    state: State | None = None
    prev: str = BEGINNING
    number: int = 0
    decisions: int = 0
    acts: int = 0
    checkpoints: int = 0
    closed: bool = False
    content: str = ""
    undone: Counter[tuple[str, str]] = field(default_factory=Counter)


def verify(path: Path, public: str = "", checkpoints: Path | None = None) -> Verified:
    """Verify a file.

    Args:
        public: the key that must have signed, in hexadecimal; the file's own when empty.
        checkpoints: the second place's file.

    Raises:
        AffectscopeError: the file cannot be read, or is no evidence of this version.
    """
    outside = _outside(checkpoints, path.name) if checkpoints else {}
    reader, failed, cause = _Reader(public), None, ""
    try:
        with path.open("rb") as file:
            for line in file:
                if cause := _line(reader, line, outside):
                    failed = reader.number + 1
                    break
                reader.number += 1
    except OSError as error:
        raise AffectscopeError(f"cannot read {path}: {error.strerror}; check the path") from error
    if failed is None and not reader.number:
        raise AffectscopeError(f"{path} is empty: no evidence was written")
    if failed is None and outside and max(outside) >= reader.number:
        failed, cause = (
            reader.number + 1,
            f"lines are missing at the end: the second place knows line {max(outside) + 1}",
        )
    return Verified(
        reader.number,
        reader.decisions,
        reader.acts,
        reader.checkpoints,
        failed,
        cause,
        tuple(_notes(reader, public, outside)),
    )


def _line(reader: _Reader, raw: bytes, outside: Mapping[int, tuple[str, str]]) -> str:
    """Take a line; why it fails, or an empty text."""
    if not raw.endswith(b"\n"):
        return "the line has no end: it was cut while being written"
    line = raw[:-1]
    try:
        values = json.loads(line)
    except ValueError:
        return "it is not JSON"
    if not isinstance(values, dict):
        return "it is not a JSON object"
    first = reader.number == 0
    if reader.closed:
        return "there is something behind the closing record"
    if line != (rfc8785.dumps(values) if first else canonical(values)):
        return "it is not in canonical form: it was written by something else, or edited"
    if values.get("n") != reader.number:
        return f"it says that it is line {values.get('n')}: lines were taken out or moved"
    if values.get("prev") != reader.prev:
        return "the line before it is not the one that it was bound to: one of the two was changed"
    if (known := outside.get(reader.number)) and known != (reader.prev, values.get("signature")):
        return "the second place holds another checkpoint here: the file was written anew"
    problem = _first(reader, values) if first else _kind(reader, values)
    reader.prev = digest(line)
    return problem


def _first(reader: _Reader, values: Mapping[str, Any]) -> str:
    """The header: what decisions are replayed from."""
    if values.get("format") != FORMAT:
        raise AffectscopeError(
            f"this is no {FORMAT} file but {values.get('format', 'something else')!r}: use the affectscope that wrote it"
        )
    try:
        policy = Policy.model_validate(values["policy"])
        thresholds = {r: {s: float(v) for s, v in by.items()} for r, by in values["thresholds"].items()}
        reader.guard = Guard(policy, thresholds, values["strata"], values["horizon"])
        reader.signed, reader.content = values["public"], values["content"]
    except (KeyError, TypeError, ValueError, AffectscopeError) as error:
        return f"its header cannot be read ({error})"
    if values.get("policy_hash") != policy.hash:
        return "the policy is not the one of its hash"
    if reader.public and reader.signed != reader.public:
        return "it names another public key than the one given"
    reader.state = reader.guard.start()
    return ""


def _kind(reader: _Reader, values: Mapping[str, Any]) -> str:
    kind = values.get("kind")
    if kind == EVENT:
        return _event(reader, values)
    if kind == EFFECT:
        wanted = (str(values.get("act")), str(values.get("rule")))
        if not values.get("later"):
            if not reader.undone[wanted]:
                return f"the effect {wanted[0]!r} follows from no decision before it"
            reader.undone[wanted] -= 1
        reader.acts += 1
        return ""
    if kind in ("checkpoint", "close"):
        if not signed_by(reader.signed, str(values.get("signature")), signed_part(values["n"], reader.prev)):
            return "the signature is not that of the key: it was signed by another, or the chain was changed"
        reader.checkpoints += 1
        reader.closed = kind == "close"
        return ""
    return "" if kind == "note" else f"a line of the unknown kind {kind!r}"


def _event(reader: _Reader, values: Mapping[str, Any]) -> str:
    """Decide again, and compare."""
    assert reader.guard is not None
    assert reader.state is not None
    try:
        event = from_json(values["of"])
        reader.state, decision = reader.guard.decide(reader.state, event)
    except (AffectscopeError, KeyError, TypeError, IndexError, ValueError) as error:
        return f"its event cannot be replayed ({error})"
    reader.decisions += 1
    told, quiet = values.get("decision"), decision is OPEN or decision is CLOSED
    if quiet and told is None:
        return ""
    plain = decision.plain()
    if told != (None if quiet else plain):
        return (
            f"the decision is not the one that the policy gives: {_short(told)} stands there, {_short(plain)} follows"
        )
    reader.undone.update((act["action"], act["rule"]) for act in plain["acts"])
    return ""


def _short(decision: Any) -> str:
    if not decision:
        return "nothing"
    if not isinstance(decision, dict):
        return "something else"
    return f"{decision.get('verdict')} ({', '.join(act['action'] for act in decision['acts']) or 'no action'})"


def _outside(path: Path, name: str) -> dict[int, tuple[str, str]]:
    """Checkpoints of the second place, by line number."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["n"]: (row["prev"], row["signature"]) for row in rows if row["evidence"] == name}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AffectscopeError(
            f"cannot read the checkpoints {path} ({error}): give the file of the second place"
        ) from error


def _notes(reader: _Reader, public: str, outside: Mapping[int, Any]) -> Iterator[str]:
    """What the result rests on."""
    if not public:
        yield "signatures were checked with the key that the file itself names: give --pubkey to know whose it is"
    if not reader.closed and not outside:
        yield "there is no closing record: cannot exclude that lines at the end are missing"
    yield "whoever holds the signing key can leave out events, or a whole session, and sign what remains"
    if reader.content == "hmac":
        yield "content stands as keyed fingerprints: it can be compared with a text, not read"
