"""`affectscope traces`: what the trace store holds, on a terminal and for machines.

Tables fit 80 columns; whatever a trace holds is shown without control characters.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectscope.errors import AffectscopeError
from affectscope.options import STORE, JsonOpt, ReadingsOpt, StoreOpt

if TYPE_CHECKING:
    from affectscope.monitoring.store import Store
    from affectscope.monitoring.trace import Trace

traces = typer.Typer(
    name="traces", help="List, show, query, export and prune the traces of a store.", no_args_is_help=True
)
IdArg = Annotated[str, typer.Argument(metavar="ID", help="Id of a trace, or how it begins.")]
IdsArg = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of traces, or how they begin.")]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SHOWN = 8
"""Concepts and events that `show` tells of."""


@traces.callback()
def settings(ctx: typer.Context) -> None:
    """List, show, query, export and prune the traces of a store."""
    flat = {k: v for k, v in (ctx.default_map or {}).items() if not isinstance(v, dict)}
    nested = {k: v for k, v in (ctx.default_map or {}).items() if isinstance(v, dict)}
    ctx.default_map = {name: flat | nested.get(name, {}) for name in getattr(ctx.command, "commands", {})}


@traces.command("list")
def listing(
    since: Annotated[
        str, typer.Option(help="Started then or later: 2026-01-31, 2026-01-31T12:00, or 2d for ago.")
    ] = "",
    until: Annotated[str, typer.Option(help="Started then or earlier.")] = "",
    alarm: Annotated[bool | None, typer.Option("--alarm/--no-alarm", help="With, or without, an alarm.")] = None,
    concept: Annotated[str | None, typer.Option("--concept", "-c", help="Those that read this concept.")] = None,
    finished: Annotated[str | None, typer.Option(help="Why the episode ended, such as length.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; several must all fit.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0 for all.")] = 50,
    store: StoreOpt = STORE,
    readings: ReadingsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List traces, the last saved first."""
    with _open(store, readings) as opened:
        rows = opened.list(
            since=_moment(since, "--since"),
            until=_moment(until, "--until"),
            alarm=alarm,
            concept=concept,
            finished=finished,
            tag=_tags(tag or []),
            limit=limit or None,
        )
    if as_json:
        return _json([row.as_dict() for row in rows])
    head = ("id", "started", "finished", ">tokens", ">alarms", ">faults", "model")
    told = [(r.id[:12], _time(r.started), r.finished, r.tokens, r.alarms, r.faults, r.model) for r in rows]
    _table(head, told, one_line=True)
    print(f"{len(rows)} trace(s)" + (f"; --limit is {limit}" if limit and len(rows) == limit else ""))


@traces.command()
def show(trace_id: IdArg, store: StoreOpt = STORE, readings: ReadingsOpt = None, as_json: JsonOpt = False) -> None:
    """Show one trace: its facts, what happened, and the concepts highest over its generated tokens. Verifies it."""
    with _open(store, readings) as opened:
        trace = opened.load(opened.find(trace_id))
    facts = _facts(trace)
    if as_json:
        return _json(facts)
    told = [(name, facts[name]) for name in ("id", "finished", "tokens", "generated", "content")]
    told[1:1] = [(name, _time(facts[name])) for name in ("started", "ended")]
    told += [(f"{kind} {key}", _short(value)) for kind in ("settings", "tags") for key, value in facts[kind].items()]
    _table((), told)
    print()
    _table(("position", "kind", "detail"), [
        (e["position"], e["kind"], ", ".join(f"{k} {_short(v)}" for k, v in e["detail"].items()))
        for e in facts["events"][:SHOWN]
    ])  # fmt: skip
    print(f"{len(facts['events'])} event(s); mean and highest z over the {facts['over']} tokens:")
    for probe, found in facts["z"].items():
        print()
        rows = [(c, f"{v['mean']:+.2f}", f"{v['highest']:+.2f}", v["at"]) for c, v in list(found.items())[:SHOWN]]
        _table((probe, ">mean z", ">highest z", ">at position"), rows)


@traces.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT.")],
    store: StoreOpt = STORE,
    readings: ReadingsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Ask DuckDB about all traces at once, in the views traces, events, readings and z.

    affectscope traces query "select trace, avg(z) from z where concept = 'desperate' and generated group by trace"
    """
    with _open(store, readings) as opened:
        found = opened.query(sql)
    rows = [{k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()} for row in found.to_pylist()]
    if as_json:
        return _json(rows)
    _table(found.column_names, [tuple(_short(v) for v in row.values()) for row in rows])
    print(f"{len(rows)} row(s)")


@traces.command()
def export(
    ids: IdsArg = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; .parquet tells the format.")] = Path(
        "traces.jsonl"
    ),
    form: Annotated[str, typer.Option("--format", help="jsonl or parquet; told by --out when not given.")] = "",
    store: StoreOpt = STORE,
    readings: ReadingsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Write traces, all when no id is given, into one file of JSON Lines or Parquet. Verifies them."""
    wanted: Any = form or ("parquet" if out.suffix == ".parquet" else "jsonl")
    with _open(store, readings) as opened:
        chosen = [opened.find(i) for i in ids] if ids else [row.id for row in reversed(opened.list())]
        count = opened.export(chosen, out, wanted)
    if as_json:
        return _json({"out": str(out), "format": wanted, "traces": count})
    print(f"{out}: {count} trace(s)")


@traces.command()
def prune(
    ids: IdsArg = None,
    older_than: Annotated[str, typer.Option(help="Age, such as 90s, 12h, 30d, 8w.")] = "",
    keep: Annotated[
        int | None, typer.Option(min=0, help="Never drop the so many saved last; alone: all others go.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOpt = STORE,
    readings: ReadingsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Remove traces by id or age, and files that a killed process left. Without options only the latter."""
    age = _seconds(older_than, "--older-than") if older_than else None
    with _open(store, readings) as opened:
        gone = opened.prune(ids=[opened.find(i) for i in ids or []], older_than=age, keep=keep, dry_run=dry_run)
    if as_json:
        return _json({"traces": gone.traces, "orphans": gone.orphans, "freed": gone.freed, "dry_run": dry_run})
    verb = "would go" if dry_run else "removed"
    print(f"{verb}: {len(gone.traces)} trace(s), {len(gone.orphans)} left-over file(s), {gone.freed / 1e6:.1f} MB")


def _open(store: str, readings: Path | None) -> Store:
    from affectscope.monitoring.store import Store

    return Store.open(store, readings=readings, create=False)


def _facts(trace: Trace) -> dict[str, Any]:
    """What `show` tells: facts, events, and for each probe the concepts by mean z over generated tokens, highest first."""
    import numpy as np

    from affectscope.monitoring.trace import restore

    over = trace.generated if trace.generated.any() else np.ones(len(trace), bool)
    read, tables = trace.positions[over], {}
    for probe, z in zip(trace.probes, restore(trace.z)[:, over], strict=True):
        seen = [(c, column) for c, column in zip(trace.concepts, z.T, strict=True) if not np.isnan(column).all()]
        told = [
            (c, {
                "mean": round(float(np.nanmean(column)), 3),
                "highest": round(float(np.nanmax(column)), 3),
                "at": int(read[np.nanargmax(column)]),
            })
            for c, column in seen
        ]  # fmt: skip
        tables[probe] = dict(sorted(told, key=lambda pair: -pair[1]["mean"]))
    return {
        "id": trace.id,
        "started": trace.started,
        "ended": trace.ended,
        "finished": trace.finished,
        "tokens": len(trace),
        "generated": int(trace.generated.sum()),
        "content": trace.texts is not None,
        "settings": dict(trace.settings),
        "tags": dict(trace.tags),
        "events": [{"position": e.position, "kind": e.kind, "detail": dict(e.detail)} for e in trace.events],
        "over": "generated" if trace.generated.any() else "read",
        "z": tables,
    }


def _seconds(text: str, option: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if not found:
        raise AffectscopeError(f"{option} {text!r} is no duration: write 90s, 30m, 12h, 30d or 8w")
    return float(found[1]) * UNITS[found[2]]


def _moment(text: str, option: str) -> float | None:
    """Seconds since the epoch of a date, a time, or so long ago; local time unless the text names a zone."""
    if not text:
        return None
    if re.fullmatch(r"[\d.]+[smhdw]", text.strip()):
        return time.time() - _seconds(text, option)
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise AffectscopeError(f"{option} {text!r} is no time: write 2026-01-31, 2026-01-31T12:00, or 2d") from error


def _tags(pairs: Sequence[str]) -> dict[str, str]:
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise AffectscopeError(f"--tag {wrong[0]!r} has no value: write KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _time(seconds: float) -> str:
    """Local time to the minute; a clock out of its mind is told as its number."""
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


def _short(value: object) -> str:
    from affectscope.files import json_text

    if isinstance(value, dict | list):
        return json_text(value)
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _plain(value: object) -> str:
    """Without the control characters by which a trace could steer the terminal."""
    return "".join(c if c.isprintable() else "\u00b7" for c in str(value))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], one_line: bool = False) -> None:
    """A table as wide as the terminal, 80 columns elsewhere; names that begin with ``>`` head numbers.

    Without names it is a list of names and values. ``one_line`` cuts the last column instead of breaking lines.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=bool(head))
    for name in head:
        justify: Any = "right" if name.startswith(">") else "left"
        last = name is head[-1]
        table.add_column(Text(_plain(name.removeprefix(">"))), justify=justify, no_wrap=one_line and not last)
    cut: Any = {"no_wrap": True, "overflow": "ellipsis"} if one_line else {"overflow": "fold"}
    for row in rows:
        table.add_row(*(Text(_plain(value), **cut) for value in row))
    Console(highlight=False).print(table)


def _json(value: object) -> None:
    from affectscope.files import json_text

    print(json_text(value, indent=1))
