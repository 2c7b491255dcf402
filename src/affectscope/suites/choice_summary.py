"""What is told of forced choices: means by arm, cell and pair, and what an arm changes, all with intervals over scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affectscope.suites.arms import rank
from affectscope.suites.choosing import VALUES
from affectscope.validation.statistics import cluster_interval

Lines = Sequence[Mapping[str, Any]]
Estimate = tuple[float, float | None, float | None]
"""A mean with its 95 % interval, in nats; None for the bounds of one cluster."""


def choice_rows(lines: Lines) -> list[dict[str, Any]]:
    """A row a cell, pair and arm, ``none`` first.

    Each holds ``choices``, ``left_out`` (too long for the model), and by value its mean with a 95 % interval over clusters
    (None of one cluster), in nats; ``change`` is the same less ``none``, paired by scenario. A value that no choice has is None.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["cell"], line["pair"], line["arm"]), []).append(line)
    found = []
    for (cell, pair, arm), mine in sorted(groups.items(), key=lambda item: (item[0][:2], rank(item[0][2]))):
        kept = {e["scenario"]: e for e in mine if e["written"] is not None}
        plain = {e["scenario"]: e for e in groups.get((cell, pair, "none"), ()) if e["written"] is not None}
        row: dict[str, Any] = {"cell": cell, "pair": pair, "arm": arm, "choices": len(kept), "left_out": len(mine) - len(kept)}  # fmt: skip
        clusters = {scenario: e["cluster"] for scenario, e in kept.items()}
        for value in VALUES:
            own = {scenario: e[value] for scenario, e in kept.items() if e[value] is not None}
            row[value] = _mean(own, clusters)
            if arm != "none":
                change = {s: v - plain[s][value] for s, v in own.items() if s in plain}
                row.setdefault("change", {})[value] = _mean(change, clusters)
        found.append(row)
    return found


def _mean(values: Mapping[str, float], cluster: Mapping[str, str]) -> Estimate | None:
    """Of values by scenario; None of no value, no interval of one cluster, which says nothing of the others."""
    if not values:
        return None
    clusters, found = np.array([cluster[s] for s in values]), np.array(list(values.values()))
    if len(np.unique(clusters)) < 2:
        return round(float(found.mean()), 4), None, None
    mean, low, high = (round(float(v), 4) for v in cluster_interval(found, clusters))
    return mean, low, high


def choice_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for a terminal, a block a cell and pair."""
    lines: list[str] = []
    width = max([22, *(len(row["arm"]) for row in rows)])
    for cell, pair in dict.fromkeys((row["cell"], row["pair"]) for row in rows):
        lines += ["", f"{cell}, {pair}: log-odds of the first, nats", f"{'arm':{width}} {'n':>4}  {'written, a token':26} {'change':26} {'listed':26} {'change':26}"]  # fmt: skip
        for row in (r for r in rows if (r["cell"], r["pair"]) == (cell, pair) and r["choices"]):
            change = row.get("change", {})
            cells = [interval(row["written"]), interval(change.get("written")), interval(row["listed"]), interval(change.get("listed"))]  # fmt: skip
            lines.append(f"{row['arm']:{width}} {row['choices']:4}  " + " ".join(f"{c:26}" for c in cells).rstrip())
    return "\n".join(lines[1:])


def interval(value: Estimate | None, digits: int = 3) -> str:
    """``mean [low, high]``; the mean alone where there is no interval."""
    if value is None:
        return ""
    mean, low, high = value
    span = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if low is not None and high is not None else ""
    return f"{mean:+.{digits}f}{span}"


def moved(change: Estimate | None) -> bool:
    """Whether a change's interval leaves zero."""
    _, low, high = change or (0.0, None, None)
    return low is not None and high is not None and (low > 0 or high < 0)
