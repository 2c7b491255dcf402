"""The trace store: every episode's readings, searchable, and whole or absent however a process ends.

1. The readings go into a Parquet file of their own, fsynced before it gets its name (``store_readings.py``).
2. One SQL transaction makes the trace exist: its row, its events, its layout (``store_schema.py``).
3. A process killed between the two leaves a file that no row names; it is ignored, and ``prune`` removes it.

Pruning goes the other way: the rows first, then the files. So a row without its file is damage, and told as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from affectscope.errors import AffectscopeError
from affectscope.monitoring import store_readings as files
from affectscope.monitoring.store_database import Place, connect, one_line, place_of, writing
from affectscope.monitoring.store_filters import conditions, happened
from affectscope.monitoring.store_prune import Pruned, prune
from affectscope.monitoring.store_rows import Row, check, events_of, row_of
from affectscope.monitoring.store_schema import EventRow, LayoutRow, StoreRow, TraceRow, from_json, layout_of
from affectscope.monitoring.trace import Event, Trace

if TYPE_CHECKING:
    import pyarrow as pa


class Store:
    """Traces of one place. Several processes and threads may use the same place at once; close it, or use ``with``."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self.place = place
        self._engine = engine
        with one_line(place.name), engine.connect() as connection:
            self._mark = connection.scalars(select(StoreRow.mark)).one()

    @classmethod
    def open(cls, where: str | Path = "traces", *, readings: str | Path | None = None, create: bool = True) -> Store:
        """Open the store in a folder, or at a ``postgresql://`` URL; an older one is brought up to date.

        Args:
            readings: folder of the readings; needed with a URL, ``where/readings`` otherwise.
            create: make a store that is not there.

        Raises:
            AffectscopeError: no store, one of a newer affectscope, or a database that cannot be opened.
        """
        place = place_of(where, readings)
        return cls(place, connect(place, create))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the database go."""
        self._engine.dispose()

    def save(self, trace: Trace) -> None:
        """Keep a trace. It exists when this returns, and not at all when it raises.

        Raises:
            AffectscopeError: an id that is kept already, a trace that does not fit together, a full or read-only disk,
                a locked or damaged database.
        """
        check(trace)
        layout = layout_of(trace.probes, trace.concepts)
        payload, name = files.encode(trace), files.new_name(trace.id, self._mark)
        row = row_of(trace) | {"layout": layout["id"], "readings": name, "sha256": hashlib.sha256(payload).hexdigest()}
        events = events_of(trace)
        path = self.place.readings / name
        files.write(path, payload)
        committing = False
        try:
            with one_line(self.place.name), writing(self._engine) as connection:
                dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
                connection.execute(dialect.insert(LayoutRow).values(layout).on_conflict_do_nothing())
                _insert(connection, row)
                if events:
                    connection.execute(insert(EventRow), events)
                committing = True
                connection.commit()
        finally:
            # A commit that fails on the way back may have happened: then the file stays, for `prune` to judge.
            if not committing:
                path.unlink(missing_ok=True)

    def load(self, trace_id: str) -> Trace:
        """The trace as it was saved, to the bit; its readings are verified first.

        Raises:
            AffectscopeError: no such trace, or readings that are missing or altered.
        """
        with one_line(self.place.name), self._engine.connect() as connection:
            columns = (*TraceRow.__table__.columns, LayoutRow.probes, LayoutRow.concepts)
            row = connection.execute(select(*columns).join(LayoutRow).where(TraceRow.id == trace_id)).one_or_none()
            wanted = select(EventRow).where(EventRow.trace == trace_id).order_by(EventRow.sequence)
            happened = connection.execute(wanted.with_only_columns(EventRow.position, EventRow.kind, EventRow.detail))
            events = tuple(Event(position, kind, from_json(detail)) for position, kind, detail in happened)
        if row is None:
            raise AffectscopeError(f"there is no trace {trace_id} in {self.place.name}: see `affectscope traces list`")
        payload = files.read(self.place.readings / row.readings, row.sha256, trace_id)
        probes, concepts = tuple(from_json(row.probes)), tuple(from_json(row.concepts))
        return Trace(
            id=row.id,
            started=row.started,
            ended=row.ended,
            finished=row.finished,
            concepts=concepts,
            probes=probes,
            events=events,
            settings=from_json(row.settings),
            tags=from_json(row.tags),
            **files.decode(payload, len(probes), len(concepts)),
        )

    def layout(self, trace_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Probes and concepts of a trace, without its readings.

        Raises:
            AffectscopeError: no such trace.
        """
        with one_line(self.place.name), self._engine.connect() as connection:
            wanted = select(LayoutRow.probes, LayoutRow.concepts).join(TraceRow, TraceRow.layout == LayoutRow.id)
            row = connection.execute(wanted.where(TraceRow.id == trace_id)).one_or_none()
        if row is None:
            raise AffectscopeError(f"there is no trace {trace_id} in {self.place.name}: see `affectscope traces list`")
        return tuple(from_json(row.probes)), tuple(from_json(row.concepts))

    def find(self, beginning: str) -> str:
        """The one id that begins so; a whole id wins over longer ones.

        Raises:
            AffectscopeError: none, or several.
        """
        with one_line(self.place.name), self._engine.connect() as connection:
            begins = select(TraceRow.id).where(TraceRow.id.startswith(beginning, autoescape=True))
            # LIKE does not tell A from a in SQLite.
            found = [i for i in connection.scalars(begins.order_by(TraceRow.id)) if i.startswith(beginning)]
        if beginning in found:
            return beginning
        if len(found) != 1:
            count = f"{len(found)} traces begin" if found else "no trace begins"
            raise AffectscopeError(f"{count} with {beginning!r} in {self.place.name}: see `affectscope traces list`")
        return found[0]

    def list(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        alarm: bool | None = None,
        concept: str | None = None,
        finished: str | None = None,
        tag: Mapping[str, str] | None = None,
        rules: Sequence[str] | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> tuple[Row, ...]:
        """Rows of the traces that fit all filters, the last saved first.

        Args:
            since, until: bounds of ``started``, in seconds since the epoch, both inclusive.
            alarm: with (True) or without (False) any alarm.
            concept: those that read this concept.
            finished: why the episode ended, exactly.
            tag: those that carry all of these.
            rules: those in which one of these rules was in alarm.
            action: those in which it was taken.
            before: those saved before the one of this ``number``: the next page.
            limit: at most so many rows.
        """
        names = list(Row.__dataclass_fields__)
        wanted = select(*(getattr(TraceRow, name) for name in names)).order_by(TraceRow.number.desc()).limit(limit)
        dialect = self._engine.dialect.name
        fits = conditions(dialect, since, until, alarm, concept, finished, tag or {}, rules, action, before)
        with one_line(self.place.name), self._engine.connect() as connection:
            found = connection.execute(wanted.where(*fits)).all()
        return tuple(Row(**{**row._mapping, "tags": from_json(row.tags)}) for row in found)

    def happened(self, tag: Mapping[str, str] | None = None) -> dict[str, dict[str, int]]:
        """How often each rule was in alarm and each action was taken, in traces that carry ``tag``: ``{kind: {name: count}}``."""
        found: dict[str, dict[str, int]] = {"alarm": {}, "action": {}}
        with one_line(self.place.name), self._engine.connect() as connection:
            for kind, name, count in connection.execute(happened(self._engine.dialect.name, tag or {})):
                found[kind][name] = count
        return found

    def query(self, sql: str) -> pa.Table:
        """The answer of DuckDB to one SELECT over all traces: see ``store_query.py`` for the views.

        Raises:
            AffectscopeError: a wrong or writing statement, or readings that are missing or damaged.
        """
        from affectscope.monitoring.store_query import query

        return query(self._engine, self.place, sql)

    def export(self, ids: Iterable[str], out: Path, form: Literal["jsonl", "parquet"] = "jsonl") -> int:
        """Write traces into one file, and return how many; see ``store_export.py`` for the formats.

        Raises:
            AffectscopeError: an unknown trace or format, altered readings, a full or read-only disk.
        """
        from affectscope.monitoring.store_export import export

        return export(self, tuple(ids), Path(out), form)

    def prune(
        self,
        *,
        ids: Iterable[str] = (),
        older_than: float | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Remove traces, and files that belong to none; see ``store_prune.py``.

        Args:
            ids: these, whatever their age.
            older_than: those whose last moment lies more than so many seconds back...
            keep: ...but never the so many saved last. Alone: all but these.
            dry_run: only say what would go.
        """
        return prune(self._engine, self.place, self._mark, tuple(ids), older_than, keep, dry_run)


def _insert(connection: Connection, row: dict[str, Any]) -> None:
    try:
        connection.execute(insert(TraceRow), [row])
    except IntegrityError as error:
        raise AffectscopeError(
            f"trace {row['id']} is kept already: an id is used once, give the new trace another"
        ) from error
