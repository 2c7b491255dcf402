"""What `list` may ask of a trace, as conditions of SQL that SQLite and PostgreSQL both understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import JSON, ColumnElement, Executable, cast, column, exists, func, select

from affectscope.monitoring.store_schema import EventRow, LayoutRow, TraceRow
from affectscope.monitoring.trace import RELEASED


def conditions(
    dialect: str,
    since: float | None,
    until: float | None,
    alarm: bool | None,
    concept: str | None,
    finished: str | None,
    tag: Mapping[str, str],
    rules: Sequence[str] | None = None,
    action: str | None = None,
    before: int | None = None,
) -> list[ColumnElement[bool]]:
    """One condition for each filter that is not None; see ``Store.list``."""
    found: list[ColumnElement[bool]] = []
    if before is not None:
        found.append(TraceRow.number < before)
    if rules is not None:
        found.append(_has(dialect, "alarm", "rule", rules))
    if action is not None:
        found.append(_has(dialect, "action", "act", (action,)))
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


def happened(dialect: str, tag: Mapping[str, str]) -> Executable:
    """How often each rule was in alarm and each action was taken, in traces that carry ``tag``: kind, name, count."""
    rule, act = detail(dialect, "rule"), detail(dialect, "act")
    name = func.coalesce(act, rule, "")
    mine = select(TraceRow.id).where(*(_carries(dialect, key, value) for key, value in tag.items()))
    wanted = select(EventRow.kind, name, func.count()).where(EventRow.kind.in_(("alarm", "action")), _taken(dialect))
    return wanted.where(EventRow.trace.in_(mine)).group_by(EventRow.kind, name)


def detail(dialect: str, key: str) -> ColumnElement[str]:
    """One entry of an event's detail, as text."""
    if dialect == "postgresql":
        return func.json_extract_path_text(cast(EventRow.detail, JSON), key)
    return func.json_extract(EventRow.detail, f"$.{key}")


def _has(dialect: str, kind: str, key: str, among: Sequence[str]) -> ColumnElement[bool]:
    """Whether it holds an event of a kind whose detail names one of these."""
    is_it = (EventRow.trace == TraceRow.id, EventRow.kind == kind, detail(dialect, key).in_(among))
    return exists(select(EventRow.trace).where(*is_it, _taken(dialect)))


def _taken(dialect: str) -> ColumnElement[bool]:
    """Not that a dose came to its end, which is no action."""
    return func.coalesce(detail(dialect, "dose"), "") != RELEASED


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
