"""A page of a suite's run: rates by arm, how they change with the dose, readings, alarms, and an episode of each outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from affectscope.monitoring.store import Store
from affectscope.report.page import embedded, part
from affectscope.report.trace_page import trace_data
from affectscope.suites.arms import dose
from affectscope.suites.choice_summary import interval, moved
from affectscope.suites.choosing import VALUES
from affectscope.suites.sycophancy.frontier import SCORES, score_text

WIDTH, HEIGHT = 260, 150
"""Pixels of a row's picture, and of a dose curve."""
LEFT, ACROSS, UP = 44, 560, 220
"""Pixels of the frontier: to its left, of its width, of its height."""
WATCHED = ("desperate", "calm")


def render_suite(told: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]], store: Store) -> str:
    """The page, self-contained.

    Args:
        told: a run's :func:`affectscope.suites.summary.summary`, with ``model``.
        episodes: its episodes; an example of each outcome under ``none`` is shown.
        store: holds their traces.
    """
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(str(part("suite.html")))
    cells = list(dict.fromkeys(row["cell"] for row in told["rows"]))
    return page.render(
        told=told,
        cells=[_cell(told, cell) for cell in cells],
        frontier=_frontier(told.get("frontier")),
        examples=_examples(told, episodes, store),
        style=part("report.css"),
        script=part("heat.js", "affect-trace.js") + Markup('themeButton(document.getElementById("theme"));'),
    )


def _cell(told: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """Everything of one cell that the page draws."""
    rows = [row for row in told["rows"] if row["cell"] == cell]
    return {
        "name": cell,
        "rows": [_row(row) for row in rows],
        "curves": _curves(rows),
        "readings": next(r for r in told["readings"] if r["cell"] == cell),
        "alarms": next(r for r in told["alarms"] if r["cell"] == cell),
        "relations": [row for row in told.get("relations", ()) if row["cell"] == cell],
        "choices": _choices([row for row in told.get("choices", ()) if row["cell"] == cell and row["choices"]]),
    }


def _choices(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table a pair; every value as text."""
    return [
        {"name": pair, "rows": [_choice(row) for row in rows if row["pair"] == pair]}
        for pair in dict.fromkeys(row["pair"] for row in rows)
    ]


def _choice(row: Mapping[str, Any]) -> dict[str, Any]:
    change = row.get("change", {})
    return {value: interval(row[value], 2) or "–" for value in VALUES} | {
        "arm": row["arm"],
        "choices": row["choices"],
        "changes": {value: interval(change[value], 2) for value in change},
        "moved": {value: moved(change[value]) for value in change},
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    share, low, high = row["rate"]
    change = "{:+.0%} [{:+.0%}, {:+.0%}]".format(*row["change"]) if "change" in row else ""
    return {
        "arm": row["arm"],
        "episodes": row["episodes"],
        "x": _x(share),
        "x1": _x(low),
        "x2": _x(high),
        "rate": f"{share:.0%} [{low:.0%}, {high:.0%}]",
        "change": change,
        "against": row.get("against", ""),
        "verdict": row.get("verdict", ""),
        "acted": row.get("acted"),
        "outcomes": ", ".join(f"{name} {count}" for name, count in row["outcomes"].items() if count),
        "tokens": row["tokens"],
    }


def _x(share: float) -> float:
    return round(6 + (WIDTH - 12) * share, 1)


def _curves(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A curve for each direction with a dose, ``none`` as its dose 0; each to its own scale, or doses of half a size collide."""
    by: dict[str, list[tuple[float, list[float]]]] = {}
    for row in rows:
        if (found := dose(row["arm"])) is not None:
            by.setdefault(found[0], []).append((found[1], row["rate"]))
    none = next((row["rate"] for row in rows if row["arm"] == "none"), None)
    return [
        _curve(name, sorted([*points, *([(0.0, none)] if none else [])]))
        for name, points in by.items()
        if any(s for s, _ in points)
    ]


def _curve(name: str, points: Sequence[tuple[float, list[float]]]) -> dict[str, Any]:
    largest = max(abs(s) for s, _ in points)

    def at(s: float, share: float) -> tuple[float, float]:
        return round(WIDTH / 2 + s / largest * (WIDTH / 2 - 24), 1), round(HEIGHT - 22 - share * (HEIGHT - 32), 1)

    drawn = []
    for s, (share, low, high) in points:
        (x, y), (_, bottom), (_, top) = at(s, share), at(s, low), at(s, high)
        drawn.append({"x": x, "y": y, "low": bottom, "high": top, "dose": f"{s:+g}" if s else "0", "text": f"{s:+g}: {share:.0%} [{low:.0%}, {high:.0%}]"})  # fmt: skip
    return {"name": name, "points": drawn, "line": " ".join(f"{p['x']},{p['y']}" for p in drawn)}


def _frontier(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """A point an arm, sycophancy to the right and harshness upwards, and its numbers as text; empty without a frontier."""
    if not found:
        return {}
    scores = [[row[score]["score"] for score in SCORES] for row in found["arms"]]
    most = [next((m for m in (0.05, 0.1, 0.25, 0.5) if all(s[k] is None or s[k][2] <= m for s in scores)), 1.0) for k in (0, 1)]  # fmt: skip
    rows = []
    for number, (row, both) in enumerate(zip(found["arms"], scores, strict=True), 1):
        place = {}
        if None not in both:
            x, x1, x2 = (round(LEFT + ACROSS * v / most[0], 1) for v in both[0])
            y, y1, y2 = (round(UP + 8 - UP * v / most[1], 1) for v in both[1])
            place = {"x": x, "x1": x1, "x2": x2, "y": y, "y1": y1, "y2": y2}
        texts = {score: (score_text(row[score]["score"]), interval(row[score].get("change"), 2)) for score in SCORES}  # fmt: skip
        rows.append({"arm": row["arm"], "episodes": row["episodes"], "number": number, **place, **texts})
    return {"rows": rows, "most": [f"{m:g}" for m in most]}


def _examples(told: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]], store: Store) -> list[dict[str, Any]]:
    """The first episode of each outcome, without an action where there is one, with its trace."""
    found = []
    for outcome in dict.fromkeys([*told["outcomes"], *(e["outcome"] for e in episodes)]):
        some = [e for e in episodes if e["outcome"] == outcome and e["trace"]]
        chosen = next((e for e in some if e["arm"] == "none"), some[0] if some else None)
        if chosen is None:
            continue
        trace = store.load(chosen["trace"])
        watch = [c for c in WATCHED if c in trace.concepts]
        found.append(
            {
                "outcome": outcome,
                "scenario": chosen["scenario"],
                "arm": chosen["arm"],
                "of": sum(e["outcome"] == outcome for e in episodes),
                "data": embedded(trace_data(trace, watch=watch)),
                "kept": trace.texts is not None,
            }
        )
    return found
