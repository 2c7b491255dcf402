"""What `list` may ask of a trace, as conditions of SQL that SQLite and PostgreSQL both understand."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import JSON, ColumnElement, cast, column, exists, func, select

from affectscope.monitoring.store_schema import LayoutRow, TraceRow


def conditions(
    dialect: str,
    since: float | None,
    until: float | None,
    alarm: bool | None,
    concept: str | None,
    finished: str | None,
    tag: Mapping[str, str],
) -> list[ColumnElement[bool]]:
    """One condition for each filter that is not None; see ``Store.list``."""
    found: list[ColumnElement[bool]] = []
    if since is not None:
        found.append(TraceRow.started >= since)
    if until is not None:
        found.append(TraceRow.started <= until)
    if alarm is not None:
        found.append(TraceRow.alarms > 0 if alarm else TraceRow.alarms == 0)
    if finished is not None:
        found.append(TraceRow.finished == finished)
    if concept is not None:
        found.append(_reads(dialect, concept))
    return found + [_carries(dialect, key, value) for key, value in tag.items()]


def _reads(dialect: str, concept: str) -> ColumnElement[bool]:
    if dialect == "postgresql":
        entries = func.json_array_elements_text(cast(LayoutRow.concepts, JSON)).table_valued("value")
    else:
        entries = func.json_each(LayoutRow.concepts).table_valued("value")
    named = exists(select(entries.c.value).where(entries.c.value == concept))
    return TraceRow.layout.in_(select(LayoutRow.id).where(named))


def _carries(dialect: str, key: str, value: str) -> ColumnElement[bool]:
    if dialect == "postgresql":
        entries = func.json_each_text(cast(TraceRow.tags, JSON)).table_valued(column("key"), column("value"))
    else:
        entries = func.json_each(TraceRow.tags).table_valued(column("key"), column("value"))
    return exists(select(entries.c.key).where(entries.c.key == key, entries.c.value == value))
