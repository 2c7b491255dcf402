"""From a session's pieces to what a client is sent: text without the stop string, tool calls whole, readings beside their text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from affectscope.guarding.session import Piece
from affectscope.guarding.tools import Call, call_in
from affectscope.monitoring.monitor import Reading
from affectscope.monitoring.trace import restore
from affectscope.server.schema import VERSION

FINISH = {"end": "stop", "stop": "stop", "length": "length"}
"""OpenAI's ``finish_reason`` by ours; the guard's are all ``content_filter``."""
_BREAK = "\n\n"
TAG = "<tool_call>"


@dataclass(frozen=True)
class Delta:
    """Something to send: new ``text``, the readings of its tokens, or what happened (``affect``)."""

    text: str = ""
    readings: tuple[Reading, ...] = ()
    affect: Mapping[str, Any] = field(default_factory=dict)


class Stops:
    """Keeps back what may be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._kept, self.found = tuple(stops), "", False

    def push(self, text: str) -> str:
        """What may go now."""
        if self.found or not self._stops:
            return "" if self.found else text
        whole = self._kept + text
        cuts = [at for stop in self._stops if (at := whole.find(stop)) >= 0]
        if cuts:
            self.found, self._kept = True, ""
            return whole[: min(cuts)]
        longest = max((n for stop in self._stops for n in range(1, len(stop)) if whole.endswith(stop[:n])), default=0)
        self._kept = whole[len(whole) - longest :]
        return whole[: len(whole) - longest]

    def flush(self) -> str:
        """What was kept back, now that nothing more comes."""
        kept, self._kept = self._kept, ""
        return kept


class Assembler:
    """One choice. Feed it pieces; it gives what may be sent, and knows at the end how the reply ended.

    Args:
        stops: the request's stop strings.
        tools: names that the model was told of; a reply that begins as a call is kept until it is whole.
        whole: keep all text until the end, for a policy that may take it back.
        columns: of the concepts whose readings are sent, in the monitor's order.
    """

    def __init__(self, stops: Sequence[str], tools: frozenset[str], whole: bool, columns: Sequence[int]) -> None:
        self._given, self._tools, self._whole, self._columns = tuple(stops), tools, whole, list(columns)
        self._stops = Stops(stops)
        self._held: list[Delta] = []
        self._mark = 0  # where in it the reply under way begins
        self.text = self.said = self.refusal = ""
        self.tokens = 0
        self.finished = ""
        self.call: Call | None = None
        self.call_id = ""
        self.happened: list[dict[str, Any]] = []
        self.readings: list[Reading] = []

    def push(self, piece: Piece) -> Iterator[Delta]:
        """What may be sent because of a piece."""
        if piece.kind == "text":
            yield from self._say(self._stops.push(piece.text), piece.readings)
        elif piece.kind == "retract":
            yield from self._retract(piece)
        elif piece.kind == "message":
            yield from self._say(self._stops.flush(), ())
            if self._may_be_call():  # it was cut short before the barrier saw it
                self._drop()
            self._mark = len(self._held)
            self._stops = Stops(self._given)
            if self.text or any(d.text for d in self._held):
                yield from self._say(_BREAK, ())
            self.said = ""  # a call is one reply by itself
        elif piece.kind == "decision":
            self.happened.append({"kind": "decision", **piece.detail})
            yield Delta(affect={"decision": dict(piece.detail)})
        elif piece.kind == "end":
            self.finished = piece.text
            yield from self._say(self._stops.flush(), ())

    def tool_call(self) -> Call | None:
        """The call that the reply is, if the model was told of such a tool. After the end."""
        found = call_in(self.said) if self._tools and self.finished in FINISH else None
        return found if found is not None and found.name in self._tools else None

    def close(self, call: Call | None = None, refused: str = "") -> Iterator[Delta]:
        """Let go of what was kept: as text, or with a call in its place, or, ``refused``, with neither. After the end."""
        if refused or (call is None and self.finished not in FINISH and self._may_be_call()):
            self.refusal = refused  # a call that was not let out leaves no trace of itself, in text or beside it
            self._drop()
        if call is None or refused:
            yield from self._let_go()
            return
        self.call, self.call_id = call, f"call_{uuid4().hex[:24]}"
        called, self._held = self._held[self._mark :], self._held[: self._mark]
        yield from self._let_go()
        yield from (replace(delta, text="") for delta in called)

    @property
    def reason(self) -> str:
        """OpenAI's word for how it ended."""
        if self.call is not None:
            return "tool_calls"
        if self.refusal:
            return "content_filter"
        return FINISH.get(self.finished, "content_filter")

    def rows(self, readings: Sequence[Reading], first: int) -> dict[str, Any]:
        """Readings as the vendor object holds them; ``tok`` counts the reply's tokens from its first."""
        probe = 0
        z = [[_plain(restore(r.z[probe, i])) for i in self._columns] for r in readings]
        alarms = [dict(e.detail) | {"at": e.position} for r in readings for e in r.events if e.kind == "alarm"]
        faults = [dict(e.detail) | {"at": e.position} for r in readings for e in r.events if e.kind == "fault"]
        return {
            "v": VERSION,
            "tok": [first, first + len(readings)],
            "text": [r.step.text for r in readings],
            "z": z,
            **({"alarms": alarms} if alarms else {}),
            **({"faults": faults} if faults else {}),
        }

    def _say(self, text: str, readings: tuple[Reading, ...]) -> Iterator[Delta]:
        self.said += text
        self.tokens += len(readings)
        self.readings += readings
        if not text and not readings:
            return
        self._held.append(Delta(text, readings))
        if not self._whole and not self._may_be_call():
            yield from self._let_go()

    def _may_be_call(self) -> bool:
        """Whether the reply is, or may still become, a call: that leaves whole or not at all."""
        said = self.said.lstrip()
        return bool(self._tools) and (said[:1] == "{" or TAG.startswith(said[: len(TAG)]) or TAG in said)

    def _drop(self) -> None:
        """Forget what was kept of the reply under way, its readings too: they spell it."""
        dropped = sum(len(delta.readings) for delta in self._held[self._mark :])
        del self._held[self._mark :], self.readings[len(self.readings) - dropped :]

    def _let_go(self) -> Iterator[Delta]:
        held, self._held, self._mark = self._held, [], 0
        for delta in held:
            self.text += delta.text
            yield delta

    def _retract(self, piece: Piece) -> Iterator[Delta]:
        self._held, self._mark = [], 0
        self.readings.clear()
        taken, self.text, self.said = len(self.text), "", ""
        self._stops = Stops(self._given)
        self.happened.append({"kind": "retract", "characters": len(piece.text)})
        yield Delta(affect={"retract": taken})


def tool_calls(assembler: Assembler, streamed: bool) -> list[dict[str, Any]] | None:
    """OpenAI's form of the call that left, if one did."""
    call = assembler.call
    if call is None:
        return None
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)}
    made = {"id": assembler.call_id, "type": "function", "function": function}
    return [{"index": 0, **made} if streamed else made]


def _plain(z: Any) -> float | None:
    value = float(z)
    return None if value != value else value
