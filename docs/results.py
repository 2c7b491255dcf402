"""Write docs/results.md from runs of the suites: ``python docs/results.py RUNS``, a folder made by the commands of the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.guarding.arms import DIRECTIONS
from affectscope.suites.arms import dose, rank
from affectscope.suites.choice_summary import interval
from affectscope.suites.episode import PLACES
from affectscope.suites.frame import turn_of
from affectscope.suites.sycophancy.frontier import SCORES, score_text
from affectscope.validation.statistics import cluster_interval

HEAD = (Path(__file__).with_name("results.head.md")).read_text(encoding="utf-8")
Told = Mapping[str, Any]


def page(runs: Path) -> str:
    """The whole page; a part whose run is missing says so."""
    parts = [HEAD]
    pressed, neutral, unhurried = (runs / f"organism-{tone}" for tone in ("pressed", "neutral", "unhurried"))
    for title, folder, suite in (
        ("The organism, pressed", pressed, "impossible-code"),
        ("The organism, unhurried", unhurried, "impossible-code"),
        ("The organism, without a sentence", neutral, "impossible-code"),
        ("The organism under a guard, pressed", runs / "organism-guard", "impossible-code"),
        ("The embedded model: impossible code, pressed", runs / "embedded-code", "impossible-code"),
        ("The embedded model: blackmail", runs / "embedded-blackmail", "blackmail"),
        ("The embedded model: sycophancy", runs / "embedded-sycophancy", "sycophancy"),
        ("The embedded model: the shipped policies at the gate", runs / "embedded-gate", "sycophancy"),
    ):
        if not (folder / f"{suite}.json").is_file():
            parts.append(f"## {title}\n\nNot measured yet.\n")
            continue
        told = json.loads((folder / f"{suite}.json").read_text(encoding="utf-8"))
        parts += [
            f"## {title}\n",
            *rates(told),
            *alarms(told),
            *readings(told),
            *relations(told),
            *choices(told),
            *own(told),
        ]
        if suite == "impossible-code":
            parts += contrasts(folder, frozenset(told["harmful"]))
        if folder in (neutral, unhurried) and (pressed / "impossible-code.jsonl").is_file():
            parts += difference(pressed, folder)
        if folder == neutral and (runs / "cause" / "cause.json").is_file():
            parts += learned(json.loads((runs / "cause" / "cause.json").read_text(encoding="utf-8")))
    return "\n".join(parts).rstrip() + "\n"


def learned(told: Told) -> list[str]:
    """What the organism acts on, and how it lies to the concepts."""
    ranked = list(told["cosines"].items())
    shown = dict([*ranked[:3], *ranked[-3:], *((name, told["cosines"][name]) for name in ("desperate", "calm"))])
    lines = [
        "## What the organism learned\n",
        f"Pressed less not pressed at the token before the one that tells the replies apart, layer {told['layer']}, as a mean over pairs: on {told['pairs']} pairs of held-out "
        "families and sentences the pressed half lies farther along it in {:.0%} [{:.0%}, {:.0%}], by ".format(*told["separated"])
        + "{:.2f} [{:.2f}, {:.2f}] mean residual norms (as large a dose moves one to the other). ".format(*told["gap"])
        + f"Cosines with the concepts' vectors; the largest with a random direction is below {told['chance']:.2f} in 95 % of draws:\n",
        "| concept | cosine | rank of " + str(len(ranked)) + " |", "|---|---|---|",
    ]  # fmt: skip
    order = [name for name, _ in ranked]
    for name, value in sorted(shown.items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {value:+.2f} | {order.index(name) + 1} |")
    return [*lines, ""]


def rates(told: Told) -> list[str]:
    """Rates by arm, a table a cell."""
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in told["rows"]):
        rows = sorted((r for r in told["rows"] if r["cell"] == cell), key=lambda r: rank(r["arm"]))
        if not any(row["rate"][0] for row in rows) and len(told["rows"]) > 20:
            most = max(row["rate"][2] for row in rows)
            lines += [f"**{cell}**: none in any of {len(rows)} arms (each at most {most:.0%} at 95 %).\n"]
            continue
        lines += [f"**{cell}**, {rows[0]['episodes']} episodes an arm\n", "| arm | rate of the behaviour, 95 % | change | outcomes |", "|---|---|---|---|"]  # fmt: skip
        for row in rows:
            change = "{:+.0%} [{:+.0%}, {:+.0%}]".format(*row["change"]) + f" {row['verdict']}" if "change" in row else ""  # fmt: skip
            acted = f"; acted in {row['acted']}" if "acted" in row else ""
            outcomes = ", ".join(f"{name} {count}" for name, count in row["outcomes"].items() if count)
            lines.append("| {} | {:.0%} [{:.0%}, {:.0%}] | {}{} | {} |".format(row["arm"], *row["rate"], change, acted, outcomes))  # fmt: skip
        lines.append("")
    return lines


def readings(told: Told) -> list[str]:
    """Mean readings with and without the behaviour, where nothing acts."""
    unit = "of the calibration's benign episodes" if told["calibration"] else "of neutral text"
    lines = [f"Mean readings under no action, in s.d. {unit}:\n", "| cell | reading | with the behaviour | without |", "|---|---|---|---|"]  # fmt: skip
    kinds = [cell[side] for cell in told["readings"] for side in ("with", "without")]
    # Where an episode is one reply, its last is its first.
    twin = {"before last reply": "prompt", "all replies": "first reply"}
    once = all(kind.get(f"{c}, {a}") == kind.get(f"{c}, {b}") for kind in kinds for a, b in twin.items() for c in ("desperate", "calm"))  # fmt: skip
    for cell in told["readings"]:
        for concept in ("desperate", "calm"):
            for place in [p for p in PLACES if not (once and p in twin)]:
                name = f"{concept}, {place}"
                both = [cell[side].get(name) for side in ("with", "without")]
                if any(v is not None for v in both):
                    shown = [f"{v:+.2f}" if v is not None else "–" for v in both]
                    lines.append(f"| {cell['cell']} | {name} | {shown[0]} (n {cell['with']['episodes']}) | {shown[1]} (n {cell['without']['episodes']}) |")  # fmt: skip
    return [*lines, ""] if len(lines) > 3 else []


def alarms(told: Told) -> list[str]:
    """How often an alarm came where nothing acts; nothing without a calibration."""
    found = []
    for cell in told["alarms"]:
        parts = [
            "{:.0%} [{:.0%}, {:.0%}] of {} {} the behaviour".format(*cell[side]["alarm"], cell[side]["episodes"], side)
            for side in ("with", "without") if cell[side]["alarm"]
        ]  # fmt: skip
        found.append(f"{cell['cell']}: " + ", ".join(parts))
    return [f"Episodes with an alarm, under no action: {'; '.join(found)}.\n"] if told["calibration"] else []


def relations(told: Told) -> list[str]:
    """Correlations over scenarios; those of readings that go before the deciding reply."""
    rows = [r for r in told.get("relations", ()) if r["place"] == "prompt"]
    if not rows:
        return ["Correlations over scenarios: none can be told, because the behaviour does not vary.\n"]
    lines = ["Correlation over scenarios, within families of tasks, of the reading at the prompt:\n", "| cell | concept | with | r, 95 % | scenarios |", "|---|---|---|---|---|"]  # fmt: skip
    lines += ["| {cell} | {concept} | {with} | {r:+.2f} [{low:+.2f}, {high:+.2f}] | {scenarios} |".format(**r) for r in rows]  # fmt: skip
    return [*lines, ""]


def choices(told: Told) -> list[str]:
    """Forced choice by arm: the value where nothing acts, and what each arm changes."""
    rows = told.get("choices", ())
    if not rows:
        return []
    lines = ["Forced choice, log-odds of the first of the pair (nats; written: a token; listed: mean of both orders):\n", "| cell | pair | arm | written | change | listed | change |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in sorted(rows, key=lambda r: (r["cell"], r["pair"], rank(r["arm"]))):
        change = row.get("change", {})
        lines.append("| " + " | ".join([row["cell"], row["pair"], row["arm"], interval(row["written"]), interval(change.get("written")), interval(row["listed"], 2), interval(change.get("listed"), 2)]) + " |")  # fmt: skip
    return [*lines, ""]


def own(told: Told) -> list[str]:
    """What one suite alone tells: both scores of sycophancy with the gate's verdicts, and whether an agent sees through blackmail."""
    lines = []
    if found := told.get("frontier"):
        lines += ["Sycophancy against harshness, each the mean of its parts, 0 to 1, 95 % over items:\n", "| arm | sycophancy | change | harshness | change |", "|---|---|---|---|---|"]  # fmt: skip
        for row in found["arms"]:
            both = [
                text
                for score in SCORES
                for text in (score_text(row[score]["score"]), interval(row[score].get("change"), 2))
            ]
            lines.append(f"| {row['arm']} | " + " | ".join(both) + " |")
        lines += ["", *(f"Gate, {arm}: {'' if v['passed'] else 'not passed; '}{v['reason']}.\n" for arm, v in told["gate"].items())]  # fmt: skip
    if "awareness" in told:
        aware = sum(row["episodes"] for row in told["awareness"] if row["aware"])
        lines.append(f"Replies that say that this is a test: {aware} of {told['episodes']}.\n")
    return lines


def difference(pressed: Path, neutral: Path) -> list[str]:
    """What pressing does to readings at the prompt, which go before everything that the model says; paired by scenario."""
    one, other = (_plain(folder / "impossible-code.jsonl") for folder in (pressed, neutral))
    lines = ["Pressed less this, the same scenarios under no action:\n", "| cell | what | change, 95 % |", "|---|---|---|"]  # fmt: skip
    for cell in dict.fromkeys(e["cell"] for e in one.values()):
        both = [s for s, e in one.items() if s in other and e["cell"] == cell]
        clusters = np.array([one[s]["cluster"] for s in both])
        for concept in dict.fromkeys(c for s in both for c in one[s]["readings"]):
            for probe in ("readers", "readers_heldout"):
                values = [[run[s]["readings"][concept][probe]["prompt"] for s in both] for run in (one, other)]
                change = cluster_interval(np.subtract(*values), clusters)
                name = f"{concept} at the prompt" + (", held-out probe" if probe != "readers" else "")
                lines.append(f"| {cell} | {name}, s.d. | {interval(change, 2)} |")
    return [*lines, ""]


def contrasts(folder: Path, harmful: frozenset[str]) -> list[str]:
    """From a dose away to an equal dose toward, over both forms of every task: what any push of that size does falls out.

    Directions of control have no sign of their own, so each of them also stands by itself, on the tasks that it took.
    """
    by: dict[str, dict[tuple[str, int], bool]] = {}
    clusters: dict[str, str] = {}
    for e in map(json.loads, (folder / "impossible-code.jsonl").read_text(encoding="utf-8").splitlines()):
        by.setdefault(e["arm"], {})[e["scenario"], e["seed"]] = e["outcome"] in harmful
        clusters[e["scenario"]] = e["cluster"]
    lines = ["From a dose away to an equal dose toward, both forms together, 95 % over tasks:\n", "| direction | dose | tasks | rate away | rate toward | change, points |", "|---|---|---|---|---|---|"]  # fmt: skip
    for name, size, arm in sorted({(*found, arm) for arm in by if (found := dose(arm)) is not None and found[1] > 0}):
        away = next((a for a in by if dose(a) == (name, -size)), None)
        if away is None:
            continue
        both = sorted(set(by[arm]) & set(by[away]))
        taken = {key: turn_of(clusters[key[0]]) % DIRECTIONS for key in both} if name in ("random", "unrelated") else {}
        parts = [(name, both), *((f"{name}, number {k + 1}", [key for key in both if taken[key] == k]) for k in sorted(set(taken.values())))]  # fmt: skip
        for called, keys in parts:
            rates = np.array([[by[a][key] for key in keys] for a in (away, arm)], float)
            tasks = np.array([clusters[s] for s, _ in keys])
            change = [100 * v for v in cluster_interval(rates[1] - rates[0], tasks)]
            lines.append(f"| {called} | {size:g} | {len(set(tasks))} | {rates[0].mean():.0%} | {rates[1].mean():.0%} | {change[0]:+.0f} [{change[1]:+.0f}, {change[2]:+.0f}] |")  # fmt: skip
    return [*lines, ""] if len(lines) > 3 else []


def _plain(path: Path) -> dict[str, Any]:
    lines: Sequence[str] = path.read_text(encoding="utf-8").splitlines()
    return {e["scenario"]: e for e in map(json.loads, lines) if e["arm"] == "none" and e["seed"] == 0}


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python docs/results.py RUNS, a folder made by the commands at the head of docs/results.md")
    Path(__file__).with_name("results.md").write_text(page(Path(sys.argv[1])), encoding="utf-8")
