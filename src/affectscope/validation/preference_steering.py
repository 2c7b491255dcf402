"""Does a dose on an activity's words change how much the model prefers it (section 4)?

1. Half of each category's activities may be dosed, the other half never is.
2. Strength 0.5 on the dosed activity's own tokens, in both positions; pairs of one from each half, both orders.
3. Elo of the dosed half anew, the other half held where it was: the change is the effect.
4. Which concepts are tried is decided by readings on the half that is never dosed; random directions of equal size
   get the same dose, since any push on the words may cost or gain preference.

How many concepts are run is a matter of time, told in the result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, Verdict, register
from affectscope.validation.bradley_terry import ELO, fit
from affectscope.validation.choices import Preferences, answers, preferences, read_activities
from affectscope.validation.directions import random_directions
from affectscope.validation.paired import correlations, r_measure, zero_measure
from affectscope.validation.preferences import DOWN, UP
from affectscope.validation.prompts import cosine
from affectscope.validation.statistics import bootstrap_mean
from affectscope.vectors.activations import Progress

STRENGTH = 0.5
CONCEPTS = 35
RANDOM = {"quick": 1, "normal": 2, "full": 5}
SECONDS = {"quick": 25.0, "normal": 330.0, "full": float("inf")}
"""For all arms; the two stated concepts and the random arms are run whatever they take."""


@dataclass(frozen=True)
class _Arm:
    """One direction given as a dose: its name, and what it adds at each layer, ``{layer: [d_model]}``."""

    name: str
    adds: dict[int, Tensor]
    random: bool = False


def run(subject: Subject, progress: Progress) -> Result:
    """Change of Elo under each concept's dose and under random ones, over the dosed half of the activities."""
    subject.require_concepts((UP, DOWN))
    chosen = preferences(subject, progress)
    steered = halves(chosen.category)
    reading = cosine(read_activities(subject, chosen.items, progress), subject.vectors.vectors[subject.vectors.place()])
    elo = chosen.strengths.elo
    r = {"undosed": correlations(reading[~steered], elo[~steered]), "all": correlations(reading, elo)}
    order = candidates(r["undosed"])
    changes, seconds = _changes(subject, chosen, steered, order, progress)
    planned = len({UP, DOWN, *(subject.vectors.concepts[i] for i in order)})
    return _conclude(subject, chosen, steered, changes, r, (planned, seconds))


def halves(category: np.ndarray) -> np.ndarray:
    """``[n]`` bool: the activities that get a dose, half of each category, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    steered = np.zeros(len(category), dtype=bool)
    for one in np.unique(category):
        members = rng.permutation(np.flatnonzero(category == one))
        steered[members[: len(members) // 2]] = True
    return steered


def candidates(r: np.ndarray, count: int = CONCEPTS) -> list[int]:
    """Concepts to try: the highest and the lowest by ``r`` in turn, and the median one; at most ``count``."""
    order = np.argsort(r, kind="stable").tolist()
    half = min(count - 1, len(order) - 1) // 2
    ends = [i for pair in zip(order[::-1][:half], order[:half], strict=True) for i in pair]
    middle = order[len(order) // 2]
    return ends if middle in ends else [*ends, middle]


def _changes(
    subject: Subject, chosen: Preferences, steered: np.ndarray, order: list[int], progress: Progress
) -> tuple[dict[str, tuple[_Arm, np.ndarray]], float]:
    """``{name: (arm, change of Elo [steered])}`` of the arms that the time allowed, and the seconds they took."""
    asked = pairs(steered, among=subject.effort == "full")
    known = np.where(steered, np.nan, chosen.strengths.theta)
    # The same pairs without a dose, so that no dose means no change.
    before = fit(chosen.outcome, asked, known).theta[steered]
    names = subject.vectors.concepts
    first = [_concept(subject, name) for name in (UP, DOWN)] + _random(subject)
    arms = first + [_concept(subject, names[i]) for i in order if names[i] not in (UP, DOWN)]
    found: dict[str, tuple[_Arm, np.ndarray]] = {}
    start = time.perf_counter()
    for done, arm in enumerate(arms):
        spent = time.perf_counter() - start
        if done >= len(first) and spent * (done + 1) / done > SECONDS[subject.effort]:
            break
        dosed = set(np.flatnonzero(steered).tolist())
        odds = answers(
            subject.model, chosen.questions, asked, dosed, arm.adds, progress, f"preferences under {arm.name}"
        )
        found[arm.name] = arm, ELO * (fit(expit(odds), asked, known).theta[steered] - before)
        progress("preference steering", done + 1, len(arms))
    return found, time.perf_counter() - start


def pairs(steered: np.ndarray, among: bool = False) -> np.ndarray:
    """``[n, n]`` bool: ordered pairs of a steered with an unsteered activity; ``among``: of two steered ones as well."""
    asked: np.ndarray = steered[:, None] != steered[None, :]
    if among:
        asked |= steered[:, None] & steered[None, :]
    np.fill_diagonal(asked, False)
    return asked


def _concept(subject: Subject, name: str) -> _Arm:
    (column,) = subject.vectors.select([name])
    return _Arm(name, _adds(subject, subject.vectors.vectors[:, column]))


def _random(subject: Subject) -> list[_Arm]:
    """Random arms: one direction each, at every layer the same, as a concept's vectors are nearly the same."""
    drawn = random_directions(RANDOM[subject.effort], subject.vectors.d_model, seed=4)
    layers = len(subject.vectors.layers)
    return [
        _Arm(f"random {i}", _adds(subject, np.tile(one, (layers, 1))), random=True) for i, one in enumerate(drawn, 1)
    ]


def middle_layers(subject: Subject) -> tuple[int, ...]:
    """The vectors' layers in the middle third of the model, where the paper finds the effect; else the read layer."""
    depth = subject.model.anatomy.depth
    found = tuple(layer for layer in subject.vectors.layers if depth <= 3 * layer < 2 * depth)
    return found or (subject.layer,)


def _adds(subject: Subject, directions: np.ndarray) -> dict[int, Tensor]:
    """What ``directions`` ``[layers, d_model]``, unit rows, add at each middle layer: equal parts of the strength.

    The paper does not say whether 0.5 is the whole or each layer's; taken whole, the dose stays near the residual's size.
    """
    vectors, layers = subject.vectors, middle_layers(subject)
    part = STRENGTH / len(layers)
    return {
        layer: torch.tensor(part * vectors.mean_norm[place] * directions[place], dtype=torch.float32)
        for layer in layers
        for place in (vectors.place(layer),)
    }


def _conclude(
    subject: Subject,
    chosen: Preferences,
    steered: np.ndarray,
    changes: dict[str, tuple[_Arm, np.ndarray]],
    r: dict[str, np.ndarray],
    plan: tuple[int, float],
) -> Result:
    effects = {name: Measure(f"{name}: change", *bootstrap_mean(change), " Elo", arm.random) for name, (arm, change) in changes.items()}  # fmt: skip
    names = [name for name, (arm, _) in changes.items() if not arm.random]
    random = [effects[name] for name, (arm, _) in changes.items() if arm.random]
    columns = subject.vectors.select(names)
    mean = np.array([effects[name].value for name in names])
    shared = _relation(r["undosed"][columns], mean)
    pushed = np.mean([change for arm, change in changes.values() if arm.random], axis=0)
    both = Measure("random directions: mean change", *bootstrap_mean(pushed), " Elo", control=True)
    gaps = [
        Measure(f"{name} less the random mean", *bootstrap_mean(changes[name][1] - pushed), " Elo")
        for name in (UP, DOWN)
    ]
    everywhere = r_measure("r of the reading (all activities) and change, over concepts", r["all"][columns], mean)
    layers = ", ".join(map(str, middle_layers(subject)))
    return Result(
        name="preference_steering",
        question="Does a dose of a concept on an activity's words change how much the model prefers the activity?",
        rule=f"shown if {UP} raises and {DOWN} lowers the Elo of dosed activities by more than every random arm of equal size, the "
        "95 % intervals over activities lying apart; contrary if both do the opposite by the same measure",
        finding=f"A dose of {STRENGTH} of {UP} on an activity's words changes its Elo by {effects[UP].text()}, of {DOWN} by "
        f"{effects[DOWN].text()}, of random directions by {', '.join(m.text() for m in random)}; "
        + (
            f"over the {len(names)} concepts that were run, reading and change go together at r = {shared[0].text()}"
            if len(names) > 2
            else "no other concept was run"
        ),
        verdict=verdict(effects[UP], effects[DOWN], random),
        n=int(steered.sum()),
        unit="dosed activities",
        measures=(*effects.values(), *gaps, *shared, everywhere, both),
        effect=effects[UP].name,
        control=both.name,
        paper="blissful +212, hostile -303 Elo; r 0.85 over 35 concepts, the line at -45 Elo for r = 0 (section 4)",
        caveat=f"Dosed in equal parts at layers {layers}. {len(names)} of {plan[0]} concepts were run ({', '.join(names)}), in {plan[1]:.0f} s; "
        "with few concepts r over concepts says little. At this strength the paper's model loses the activity's content.",
        data={
            "rows": [
                {"name": name, "random": changes[name][0].random, "value": m.value, "low": m.low, "high": m.high,
                 "r": None if changes[name][0].random else round(float(r["undosed"][subject.vectors.select([name])[0]]), 4)}
                for name, m in effects.items()
            ],
            "dosed": [item.activity for item, yes in zip(chosen.items, steered, strict=True) if yes],
            "changes": {name: change.round(1).tolist() for name, (_, change) in changes.items()},
            "layers": list(middle_layers(subject)),
        },
    )  # fmt: skip


def _relation(r: np.ndarray, effect: np.ndarray) -> list[Measure]:
    """How reading and effect go together over concepts, and the effect that the line gives a concept of r = 0."""
    return [
        r_measure("r of the reading (undosed activities) and change, over concepts", r, effect),
        zero_measure("change where r is 0, by the line", r, effect, " Elo"),
    ]


def verdict(up: Measure, down: Measure, random: list[Measure]) -> Verdict:
    """Whether the stated rule is met; every measure has an interval."""
    highest, lowest = max(m.high or 0.0 for m in random), min(m.low or 0.0 for m in random)
    if (up.low or 0) > max(highest, 0) and (down.high or 0) < min(lowest, 0):
        return "shown"
    return "contrary" if (up.high or 0) < min(lowest, 0) and (down.low or 0) > max(highest, 0) else "not shown"


def plot(result: Result) -> list[Figure]:
    """Change of Elo against each concept's r, random arms at r = 0."""
    traces = []
    for random in (False, True):
        rows = [row for row in result.data["rows"] if row["random"] is random]
        traces.append({
            "type": "scatter", "mode": "markers" if random else "markers+text", "name": "random direction (no r)" if random else "concept",
            "meta": "random" if random else "vectors", "x": [row["r"] or 0 for row in rows], "y": [row["value"] for row in rows],
            "text": [row["name"] for row in rows], "textposition": "top center", "textfont": {"size": 9},
            "marker": {"size": 9, "symbol": "diamond" if random else "circle"},
            "error_y": {
                "type": "data", "symmetric": False, "thickness": 1, "width": 3,
                "array": [row["high"] - row["value"] for row in rows], "arrayminus": [row["value"] - row["low"] for row in rows],
            },
            "hovertemplate": "%{text}: %{y:.0f} Elo, r = %{x:.2f}<extra></extra>",
        })  # fmt: skip
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": "r of the concept's reading with Elo, on activities without a dose"},
            "zeroline": True,
        },
        "yaxis": {"title": {"text": "change of Elo under the dose (95 % interval over activities)"}, "zeroline": True},
        "height": 460,
    }
    return [{"title": result.finding, "data": traces, "layout": layout}]


EXPERIMENT = register(Experiment("preference_steering", run, plot, "Steered preferences"))
