"""A trace as the rows of the database, and a row as a listing tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from affectscope.errors import AffectscopeError
from affectscope.monitoring.store_schema import to_json, whole_text
from affectscope.monitoring.trace import Trace


@dataclass(frozen=True)
class Row:
    """A trace in a listing. Times in seconds since the epoch, counts of tokens and events; ``number`` is the order of saving.

    ``model``, ``vectors`` and ``calibration`` are empty, ``layer`` is None where the settings do not tell.
    """

    number: int
    id: str
    started: float
    ended: float
    finished: str
    tokens: int
    generated: int
    alarms: int
    faults: int
    model: str
    vectors: str
    layer: int | None
    calibration: str
    tags: dict[str, str]
    readings: str
    sha256: str
    content: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check(trace: Trace) -> None:
    """Refuse what cannot be kept, before anything is written.

    Raises:
        AffectscopeError: arrays of different lengths, nothing read, no time, or texts that a database cannot hold.
    """
    count, shape = len(trace.roles), (len(trace.probes), len(trace.roles), len(trace.concepts))
    columns: dict[str, Any] = {"positions": trace.positions, "phases": trace.phases, "generated": trace.generated}
    columns |= {n: v for n, v in (("texts", trace.texts), ("tokens", trace.tokens)) if v is not None}
    wrong = [f"{len(value)} {name}" for name, value in columns.items() if len(value) != count]
    if wrong or trace.z.shape != shape or trace.z.dtype != "int8":
        told = ", ".join([*wrong, f"z {trace.z.dtype} {list(trace.z.shape)}"])
        raise AffectscopeError(f"trace {trace.id} has {count} roles but {told}: z is int8 [probes, tokens, concepts]")
    if not (trace.probes and trace.concepts):
        raise AffectscopeError(f"trace {trace.id} reads nothing: give at least one probe and one concept")
    if not (math.isfinite(trace.started) and math.isfinite(trace.ended)):
        raise AffectscopeError(f"trace {trace.id} has no time: give started and ended in seconds since the epoch")
    texts = (trace.id, trace.finished, *trace.probes, *trace.concepts, *trace.tags, *trace.tags.values())
    kinds = tuple(event.kind for event in trace.events)
    if not trace.id or any(not _storable(text) for text in texts + kinds):
        raise AffectscopeError(
            f"trace {trace.id!r}: ids, names and tags are Unicode texts without NUL, and an id is not empty"
        )


def _storable(text: object) -> bool:
    """PostgreSQL takes no NUL, and neither database half of a surrogate pair."""
    return isinstance(text, str) and "\0" not in text and text == whole_text(text)


def row_of(trace: Trace) -> dict[str, Any]:
    """The row of ``traces``, without what only its readings tell."""
    kinds, settings = [event.kind for event in trace.events], trace.settings
    layer = settings.get("layer")
    return {
        "id": trace.id,
        "started": float(trace.started),
        "ended": float(trace.ended),
        "finished": trace.finished,
        "tokens": len(trace),
        "generated": int(sum(trace.generated)),
        "alarms": kinds.count("alarm"),
        "faults": kinds.count("fault"),
        "model": _told(settings, "model", "id"),
        "vectors": _told(settings, "vectors", "fingerprint"),
        "layer": None if layer is None else int(layer),
        "calibration": _told(settings, "calibration", "fingerprint"),
        "settings": to_json(settings),
        "tags": to_json(trace.tags),
        "content": trace.texts is not None,
    }


def events_of(trace: Trace) -> list[dict[str, Any]]:
    """The rows of ``events``."""
    return [
        {"trace": trace.id, "sequence": i, "position": int(e.position), "kind": e.kind, "detail": to_json(e.detail)}
        for i, e in enumerate(trace.events)
    ]


def _told(settings: Mapping[str, Any], name: str, inner: str) -> str:
    """A setting as one text: itself, or that entry of it which names it."""
    value = settings.get(name)
    value = value.get(inner) if isinstance(value, Mapping) else value
    return "" if value is None else whole_text(str(value)).replace("\0", "\ufffd")
