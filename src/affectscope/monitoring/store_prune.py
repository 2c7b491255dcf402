"""Retention: which traces go, and the files that no trace names.

A trace's age counts from the later of ``started`` and ``ended``, so that a clock that jumped back inside an episode does
not make it look old; "the last" are the last *saved*, which no clock decides. Rows go first, in one transaction, then
their files: a process killed between leaves files that the next call removes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Engine, case, delete, select

from affectscope.errors import AffectscopeError
from affectscope.files import disk_errors
from affectscope.monitoring.store_database import Place, one_line, writing
from affectscope.monitoring.store_readings import names_of
from affectscope.monitoring.store_schema import TraceRow

ORPHAN_SECONDS = 3600.0
"""Files younger than this may belong to a trace that is just being saved."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: ids of traces, names of files that no trace named, and bytes of all files."""

    traces: tuple[str, ...]
    orphans: tuple[str, ...]
    freed: int


def prune(
    engine: Engine,
    place: Place,
    mark: str,
    ids: tuple[str, ...],
    older_than: float | None,
    keep: int | None,
    dry_run: bool,
) -> Pruned:
    """See ``Store.prune``.

    Raises:
        AffectscopeError: an unknown id, a negative age or number, or files that cannot be removed.
    """
    if (older_than is not None and not older_than >= 0) or (keep is not None and keep < 0):
        raise AffectscopeError("an age and a number to keep are 0 or more: give --older-than and --keep so")
    with one_line(place.name), writing(engine) as connection:
        columns = (TraceRow.number, TraceRow.id, TraceRow.readings, _last_moment().label("last"))
        rows = connection.execute(select(*columns).order_by(TraceRow.number.desc())).all()
        if unknown := (named := set(ids)) - {row.id for row in rows}:
            raise AffectscopeError(f"there is no trace {min(unknown)} in {place.name}: see `affectscope traces list`")
        before = None if older_than is None else time.time() - older_than
        going = [
            row for place_in_time, row in enumerate(rows)
            if row.id in named or _too_old(place_in_time, row.last, before, keep)
        ]  # fmt: skip
        if not dry_run:
            for start in range(0, len(going), 500):  # SQLite takes a limited number of values in one statement
                numbers = [row.number for row in going[start : start + 500]]
                connection.execute(delete(TraceRow).where(TraceRow.number.in_(numbers)))
            connection.commit()
    known = {row.readings for row in rows}
    orphans = [path for path in _files(place.readings, mark) if path.name not in known and _at_rest(path)]
    freed = sum(_remove(path, dry_run) for path in [*(place.readings / row.readings for row in going), *orphans])
    return Pruned(tuple(row.id for row in going), tuple(sorted(path.name for path in orphans)), freed)


def _last_moment() -> ColumnElement[float]:
    return case((TraceRow.ended > TraceRow.started, TraceRow.ended), else_=TraceRow.started)


def _too_old(newer: int, last: float, before: float | None, keep: int | None) -> bool:
    """Whether retention drops a trace after which ``newer`` others were saved."""
    if keep is not None and newer < keep:
        return False
    return last < before if before is not None else keep is not None


def _files(folder: Path, mark: str) -> list[Path]:
    """This store's readings, and what its writers left that were killed while they wrote; nothing else that lies there."""
    if not folder.is_dir():
        return []
    ours = names_of(mark)
    return [path for path in folder.iterdir() if ours.fullmatch(path.name)]


def _at_rest(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > ORPHAN_SECONDS
    except FileNotFoundError:
        return False


def _remove(path: Path, dry_run: bool) -> int:
    """Bytes of a file that is removed, or would be; 0 where another process was faster."""
    with disk_errors(path, "--store"):
        try:
            size = path.stat().st_size
            if not dry_run:
                path.unlink()
        except FileNotFoundError:
            return 0
        return size
