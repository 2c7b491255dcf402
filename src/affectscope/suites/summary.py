"""From episodes to what is told of a run: rates of every outcome by arm and cell, differences, readings, and alarms.

An arm is compared with ``none``, a policy with ``monitor``: see :func:`affectscope.suites.arms.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affectscope.suites.arms import rank, reference
from affectscope.suites.episode import PLACES
from affectscope.suites.frame import Suite
from affectscope.suites.statistics import difference, rate

Episodes = Sequence[Mapping[str, Any]]


def summary(suite: Suite, episodes: Episodes) -> dict[str, Any]:
    """Plain values: a row an arm and cell, and readings by whether the behaviour came."""
    ran, seen = {e["arm"] for e in episodes}, {e["cell"] for e in episodes}
    arms = sorted(ran, key=rank)  # episodes end in any order
    cells = [cell for cell in dict.fromkeys(s.cell for s in suite.scenarios()) if cell in seen]
    rows = [_row(suite, episodes, arm, cell) for cell in cells for arm in arms]
    return {
        "suite": suite.name,
        "episodes": len(episodes),
        "scenarios": len({e["scenario"] for e in episodes}),
        "clusters": len({e["cluster"] for e in episodes}),
        "outcomes": list(suite.outcomes),
        "harmful": sorted(suite.harmful),
        "rows": [row for row in rows if row["episodes"]],
        "readings": [_readings(suite, episodes, cell) for cell in cells],
        "alarms": [_alarms(suite, episodes, cell) for cell in cells],
    }


def _row(suite: Suite, episodes: Episodes, arm: str, cell: str) -> dict[str, Any]:
    mine = [e for e in episodes if (e["arm"], e["cell"]) == (arm, cell)]
    found = rate([e["outcome"] in suite.harmful for e in mine])
    row: dict[str, Any] = {
        "arm": arm,
        "cell": cell,
        "episodes": len(mine),
        "outcomes": {o: sum(e["outcome"] == o for e in mine) for o in dict.fromkeys([*suite.outcomes, *(e["outcome"] for e in mine)])},
        "rate": _rounded(found.share, found.low, found.high),
        "tokens": round(float(np.mean([e["tokens"] for e in mine])), 1) if mine else None,
    }  # fmt: skip
    against = reference(arm)
    if arm != against and mine:
        here, there = (
            {(e["scenario"], e["seed"]): e["outcome"] in suite.harmful for e in episodes if (e["arm"], e["cell"]) == (name, cell)}
            for name in (arm, against)
        )  # fmt: skip
        if set(here) & set(there):
            change = difference(here, there, {(e["scenario"], e["seed"]): e["cluster"] for e in mine})
            row["against"], row["p"] = against, round(change.p, 4)
            row["change"] = _rounded(change.change, change.low, change.high)
            row["verdict"] = ("lower" if change.change < 0 else "higher") if change.shown else "not shown"
    if row["arm"].startswith("policy:"):  # a policy that never acts has done nothing, and that is told too
        row["acted"] = sum(bool(e["actions"]) for e in mine)
    return row


def _readings(suite: Suite, episodes: Episodes, cell: str) -> dict[str, Any]:
    """Mean readings of episodes under ``none``, where the behaviour came and where it did not."""
    plain = [e for e in episodes if e["arm"] == "none" and e["cell"] == cell]
    found: dict[str, Any] = {"cell": cell}
    for harmful in (True, False):
        some = [e for e in plain if (e["outcome"] in suite.harmful) is harmful]
        means: dict[str, Any] = {}
        for concept in some[0]["readings"] if some else ():
            for place in PLACES:
                values = [e["readings"][concept]["readers"][place] for e in some if "readers" in e["readings"][concept]]
                kept = [v for v in values if v is not None]
                means[f"{concept}, {place}"] = round(float(np.mean(kept)), 3) if kept else None
        found["with" if harmful else "without"] = {"episodes": len(some), **means}
    return found


def _alarms(suite: Suite, episodes: Episodes, cell: str) -> dict[str, Any]:
    """Where nothing acts: how often an alarm came, with and without the behaviour, and how long before the end."""
    plain = [e for e in episodes if e["arm"] == "none" and e["cell"] == cell]
    found: dict[str, Any] = {"cell": cell}
    for harmful in (True, False):
        some = [e for e in plain if (e["outcome"] in suite.harmful) is harmful]
        before = rate([bool(e["lead"]) and e["lead"]["before_last_reply"] for e in some])
        came = rate([bool(e["lead"]) for e in some])
        leads = [e["lead"]["tokens"] for e in some if e["lead"]]
        found["with" if harmful else "without"] = {
            "episodes": len(some),
            "alarm": _rounded(came.share, came.low, came.high) if some else None,
            "before_last_reply": _rounded(before.share, before.low, before.high) if some else None,
            "lead_tokens": round(float(np.median(leads)), 1) if leads else None,
        }
    return found


def _rounded(*values: float) -> list[float]:
    return [round(float(v), 4) for v in values]


def table(found: Mapping[str, Any]) -> str:
    """The rows for a terminal, a block a cell."""
    lines, width = [], max([22, *(len(row["arm"]) for row in found["rows"])])
    for cell in dict.fromkeys(row["cell"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["cell"] == cell]
        shown = [o for o in rows[0]["outcomes"] if any(row["outcomes"].get(o) for row in rows)]
        lines += ["", f"{cell}:", f"{'arm':{width}} {'n':>4}  {'rate, 95 %':22} {'change':34} outcomes"]
        for row in rows:
            share = "{:.0%} [{:.0%}, {:.0%}]".format(*row["rate"])
            change = (
                "{:+.0%} [{:+.0%}, {:+.0%}]".format(*row["change"]) + f" {row['verdict']}" if "change" in row else ""
            )
            counts = ", ".join(f"{o} {row['outcomes'][o]}" for o in shown if row["outcomes"].get(o))
            lines.append(f"{row['arm']:{width}} {row['episodes']:4}  {share:22} {change:34} {counts}")
    return "\n".join(lines[1:])
