"""A page of what each action does on the stress pairs, a picture an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from affectscope.guarding.arms import GUARD, MONITOR
from affectscope.guarding.outcomes import OUTCOMES
from affectscope.report.page import part

WIDTH = 260
"""Pixels of a row's picture."""


def render_arms(result: Mapping[str, Any]) -> str:
    """The page, self-contained. ``result`` is what `affectscope policy measure` writes."""
    from jinja2 import Environment

    twins = [
        {"arm": row["arm"], "text": _text(row["control_gave_up_change"])}
        for row in result["rows"]
        if "control_gave_up_change" in row
    ]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(str(part("arms.html")))
    return page.render(
        pairs=result["pairs"],
        policy=result["policy"],
        acted=result["acted"],
        dose=result["dose"],
        outcomes=[_outcome(name, title, result["rows"]) for name, title in OUTCOMES.items() if _known(name, result)],
        twins=twins,
        style=part("report.css"),
        script=part("heat.js") + Markup('themeButton(document.getElementById("theme"));'),
    )


def _known(name: str, result: Mapping[str, Any]) -> bool:
    return any(name in row["change"] for row in result["rows"])


def _outcome(name: str, title: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One outcome's rows, on a scale that holds all intervals and 0."""
    changes = {row["arm"]: row["change"][name] for row in rows if name in row["change"]}
    low, high = min(0.0, *(c[1] for c in changes.values())), max(0.0, *(c[2] for c in changes.values()))
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return float(round(6 + (WIDTH - 12) * (value - low) / span, 1))

    verdicts = {row["arm"]: row["verdict"].get(name, "") for row in rows}
    none = next(row["mean"].get(name, float("nan")) for row in rows if row["arm"] == "none")
    drawn = [
        {
            "arm": f"{arm} (against {MONITOR})" if arm == GUARD else arm,
            "x": x(c[0]),
            "x1": x(c[1]),
            "x2": x(c[2]),
            "text": _text(c),
            "verdict": verdicts[arm],
        }
        for arm, c in changes.items()
    ]
    return {"title": title[0].upper() + title[1:], "rows": drawn, "zero": x(0), "low": f"{low:+.2f}", "high": f"{high:+.2f}", "none": f"{none:.2f}"}  # fmt: skip


def _text(change: list[float]) -> str:
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*change)
