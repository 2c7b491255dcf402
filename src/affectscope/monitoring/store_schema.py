"""The tables of the trace store, and how plain values lie in them.

- ``traces``: one row an episode, in the order of saving (``number``), which no clock can shuffle.
- ``events``: its alarms and faults.
- ``layouts``: what the bytes of a reading are, probes and concepts. Thousands of traces share one, and 171 names a
  trace would weigh as much as ten tokens.
- ``store``: one row, the mark that this store's files carry in their names.

Plain values are JSON text and not a JSON type: PostgreSQL and SQLite then keep the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Double, ForeignKey, Integer, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from affectscope.errors import AffectscopeError

HEAD = "0001"
"""Newest revision in ``migrations/versions``: a database that has it opens without Alembic being imported."""
_FLOAT = "$float"
_HALF = re.compile("[\ud800-\udfff]")


class Base(DeclarativeBase):
    """Parent of the tables; its metadata is what the migrations must arrive at."""


class StoreRow(Base):
    """``mark`` stands in the names of this store's files, so that no store prunes what lies beside them."""

    __tablename__ = "store"

    mark: Mapped[str] = mapped_column(Text, primary_key=True)


class LayoutRow(Base):
    """``probes`` and ``concepts`` are JSON lists; ``id`` is the SHA-256 of both."""

    __tablename__ = "layouts"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    probes: Mapped[str] = mapped_column(Text)
    concepts: Mapped[str] = mapped_column(Text)


class TraceRow(Base):
    """One episode. ``readings`` is the name of its Parquet file and ``sha256`` that file's; times in seconds since the epoch."""

    __tablename__ = "traces"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    id: Mapped[str] = mapped_column(Text, unique=True)
    started: Mapped[float] = mapped_column(Double, index=True)
    ended: Mapped[float] = mapped_column(Double)
    finished: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int]
    generated: Mapped[int]
    alarms: Mapped[int]
    faults: Mapped[int]
    model: Mapped[str] = mapped_column(Text)
    vectors: Mapped[str] = mapped_column(Text)
    layer: Mapped[int | None]
    calibration: Mapped[str] = mapped_column(Text)
    layout: Mapped[str] = mapped_column(ForeignKey("layouts.id"))
    settings: Mapped[str] = mapped_column(Text)
    tags: Mapped[str] = mapped_column(Text)
    readings: Mapped[str] = mapped_column(Text, unique=True)
    sha256: Mapped[str] = mapped_column(Text)
    content: Mapped[bool]


class EventRow(Base):
    """The ``sequence``-th event of a trace, from 0."""

    __tablename__ = "events"

    trace: Mapped[str] = mapped_column(ForeignKey("traces.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)


def layout_of(probes: Sequence[str], concepts: Sequence[str]) -> dict[str, str]:
    """The row of ``layouts`` for these probes and concepts."""
    first, second = to_json(list(probes)), to_json(list(concepts))
    return {"id": hashlib.sha256(f"{first}\n{second}".encode()).hexdigest(), "probes": first, "concepts": second}


def to_json(value: object) -> str:
    """Plain values as ASCII JSON that :func:`from_json` gives back exactly: NaN and Inf as ``{"$float": "nan"}``.

    Tuples come back as lists, keys as strings, numpy numbers and arrays as Python's, and half a surrogate pair (a file
    name that is not UTF-8 has some), which no JSON reader takes, as U+FFFD.

    Raises:
        AffectscopeError: a value that JSON has no word for.
    """
    try:
        return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AffectscopeError(f"a trace keeps plain values only ({error}): give numbers, texts, lists") from error


def whole_text(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair."""
    return _HALF.sub("\ufffd", text)


def from_json(text: str) -> Any:
    """The value that :func:`to_json` wrote."""
    return json.loads(text, object_hook=_restored)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if isinstance(value, Mapping):
        return {whole_text(str(key)): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _restored(found: dict[str, Any]) -> Any:
    return float(found[_FLOAT]) if found.keys() == {_FLOAT} and found[_FLOAT] in ("nan", "inf", "-inf") else found
