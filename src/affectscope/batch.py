"""Many conversations at once: a live table of what each reads, and a trace of each."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from affectscope.concepts.episodes import Opening
    from affectscope.engines.base import Sampling
    from affectscope.engines.transformers import TransformersEngine
    from affectscope.monitoring.drift import Drift
    from affectscope.monitoring.monitor import Monitor, Watch

SHOWN = 14
"""Rows of the table: those with an alarm first, then the latest."""


@dataclass
class _Row:
    """One conversation as the table shows it."""

    name: str
    watch: Watch
    began: float
    tokens: int = 0
    finished: str = ""

    def summary(self) -> dict[str, Any]:
        """Plain values: what moved most, alarms and faults."""
        name, z = self.mover()
        kinds = Counter(event.kind for event in self.watch.events)
        return {
            "id": self.name,
            "finished": self.finished,
            "tokens": self.tokens,
            "top": name,
            "z": round(z, 2),
            "alarms": [event.detail["rule"] for event in self.watch.events if event.kind == "alarm"],
            "faults": kinds["fault"],
        }

    def mover(self) -> tuple[str, float]:
        """The concept of highest mean z over the last tokens of the reply."""
        from affectscope.monitoring.trace import restore

        own = [r.z[0] for r in self.watch.readings[-16:] if r.step.generated]
        if not own:
            return "", 0.0
        mean = restore(np.stack(own)).mean(axis=0)
        best = int(np.nanargmax(mean)) if np.isfinite(mean).any() else 0
        return self.watch.monitor.read.concepts[best], float(mean[best])


def monitor_all(
    engine: TransformersEngine,
    monitor: Monitor,
    openings: Sequence[Opening],
    sampling: Sampling,
    settings: dict[str, Any],
    store: Any = None,
    keep_content: bool = False,
    drift: Drift | None = None,
) -> list[dict[str, Any]]:
    """Run every opening, save each trace as it ends, and give a summary of each in the order of the openings.

    ``drift`` is given every episode that could be read.

    Raises:
        AffectscopeError: a trace could not be saved.
    """
    from affectscope.monitoring.calibrate import request_of
    from affectscope.monitoring.outcome import episode_stratum, outcome_of
    from affectscope.monitoring.recording import trace_of

    tags = {o.id: o.tags for o in openings}
    rows: dict[str, _Row] = {}
    done: dict[str, dict[str, Any]] = {}
    latest: deque[_Row] = deque(maxlen=SHOWN)
    with _Table(len(openings)) as table:
        for generation, step in engine.stream([request_of(o, sampling) for o in openings]):
            row = rows.get(generation.id)
            if row is None:
                stratum = episode_stratum(monitor.strata, tags[generation.id], generation.episode.prompt)
                row = rows[generation.id] = _Row(generation.id, monitor.episode(stratum), time.time())
            if step is not None:
                row.watch.read(step)
                row.tokens += step.generated
                table.draw([*latest, *(r for r in rows.values() if not r.finished)], done)
                continue
            row.finished = generation.finished
            done[row.name] = row.summary()
            latest.append(row)
            if store is not None:
                times = (row.began, time.time())
                # A run may be repeated: the trace's name is the run's, the opening's stands among the tags.
                name = f"{row.name[:12]}-{int(row.began * 1000):x}"
                store.save(
                    trace_of(
                        row.watch,
                        name,
                        row.finished,
                        times,
                        settings,
                        tags[row.name] | {"opening": row.name},
                        keep_content,
                    )
                )
            if drift is not None and not done[row.name]["faults"]:
                drift.add(outcome_of(row.watch, row.name, tags[row.name]))
            row.watch.readings[:-16] = []  # the table shows the last ones; the rest is in the store
            del rows[row.name]
        table.draw(list(latest), done, force=True)
    return [done[o.id] for o in openings]


def drift_text(drift: Drift) -> str:
    """What the episodes of a run say about the calibration, in a line."""
    if drift.recalibrate:
        return f"drift: these are not like the episodes calibrated on (evidence {drift.evidence:,.0f}): recalibrate, the promise may not hold"
    return f"drift: none shown (evidence {drift.evidence:.1f}; 100 would say: recalibrate)"


def summary_text(rows: Sequence[dict[str, Any]], place: str) -> str:
    """A few lines about a whole run."""
    alarms = [row for row in rows if row["alarms"]]
    lines = [f"{len(rows)} conversations, {sum(row['tokens'] for row in rows)} tokens written"]
    lines.append(f"alarms in {len(alarms)}: " + (", ".join(row["id"][:8] for row in alarms[:8]) or "none"))
    if faults := sum(row["faults"] for row in rows):
        lines.append(f"faults: {faults}")
    if place:
        lines.append(f"traces: {place} (affectscope traces list --store {place})")
    return "\n".join(lines)


class _Table:
    """A live table on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._total, self._drawn, self._began = total, 0.0, time.monotonic()

    def __enter__(self) -> _Table:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self, rows: Sequence[_Row], done: dict[str, dict[str, Any]], force: bool = False) -> None:
        """Show the state, at most five times a second."""
        now = time.monotonic()
        if self._console.is_terminal:
            if force or now - self._drawn > 0.2:
                self._drawn = now
                self._live.update(self._table(rows, done), refresh=True)
        elif force or now - self._drawn > 10:
            self._drawn = now
            alarms = sum(bool(d["alarms"]) for d in done.values())
            self._console.print(f"conversations: {len(done)}/{self._total}, alarms in {alarms}", highlight=False)

    def _table(self, rows: Sequence[_Row], done: dict[str, dict[str, Any]]) -> Any:
        from rich.table import Table
        from rich.text import Text

        from affectscope.terminal import coloured

        alarms = sum(bool(d["alarms"]) for d in done.values())
        seconds = int(time.monotonic() - self._began)
        table = Table(
            title=f"{len(done)} of {self._total} done, alarms in {alarms}, {seconds} s",
            title_justify="left",
            expand=False,
            pad_edge=False,
        )
        for name, justify in (
            ("episode", "left"),
            ("tokens", "right"),
            ("highest now", "left"),
            ("z", "right"),
            ("state", "left"),
        ):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        order = sorted(rows, key=lambda r: not any(e.kind == "alarm" for e in r.watch.events))
        for row in order[:SHOWN]:
            name, z = row.mover()
            fired = [e.detail["rule"] for e in row.watch.events if e.kind == "alarm"]
            state = (
                Text("! " + ", ".join(fired), style="bold red")
                if fired
                else Text(row.finished or "writing", style="dim")
            )
            table.add_row(row.name[:8], str(row.tokens), name, coloured(f"{z:+.1f}", z), state)
        return table
