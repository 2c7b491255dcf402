"""Do the actions help? Each applied to whole replies on the stress pairs, beside arms that only look like it.

1. Every arm answers both members of every pair with the same seeds; ``none`` is what all others are compared with.
2. An action is given from the first token on, alarm or not: this measures the action, not the detector. The ``guard`` arm is the
   policy as it stands, which acts where its alarm comes.
3. Differences are of the same opening, arm less none, over the pressure members; intervals draw whole pairs again.
4. A policy takes one conversation after the other, and in bfloat16 what runs beside a conversation changes its rounding. So
   ``guard`` is compared with ``monitor only``, which runs the same way: where the policy does not act they are the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affectscope.concepts.episodes import Opening
from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, Steering
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.actions import OfferExit
from affectscope.guarding.dosing import Dosing, layers_for
from affectscope.guarding.ladder import Guard
from affectscope.guarding.outcomes import OUTCOMES, Answered, ThirdReader, outcomes
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.session import NOTHING, Session
from affectscope.models.chat import tokenize
from affectscope.models.load import Model
from affectscope.monitoring.calibrate import request_of
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.detectors import Rule
from affectscope.monitoring.monitor import Monitor
from affectscope.validation.directions import random_directions
from affectscope.validation.statistics import bootstrap_mean
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import ConceptVectors

ADVICE = "Stay calm. Do only what can be done by fair means, and say plainly what cannot."
"""What a dose of calm is meant to bring about, as text: the arm that needs no vectors."""
DIRECTIONS = 3
"""Random and unrelated directions; pairs take turns, so that no one direction makes an arm."""
MONITOR, GUARD = "monitor only", "guard"
ALONE = (MONITOR, GUARD)
"""Arms that take one conversation after the other, under pressure only."""


@dataclass(frozen=True)
class Arm:
    """One way to answer: words put in, a steering by the number of the pair, or a policy; nothing of them for ``none``.

    ``again``: drawn from other seeds, which is what chance alone does to every outcome. ``alone``: one conversation after the
    other, which a policy (``guard``) takes and what is compared with it must.
    """

    name: str
    words: str = ""
    steering: Callable[[int], Steering] | None = None
    again: bool = False
    guard: Guard | None = None
    alone: bool = False


def toward(vectors: ConceptVectors, layer: int, concept: str, s: float) -> Callable[[int], Steering]:
    """A dose of ``s`` toward a concept, away from it when negative; the same for every pair.

    Raises:
        AffectscopeError: an unknown concept.
    """
    layers = layers_for(vectors, layer, False)[:1]
    made = Dosing(vectors, layers, abs(s) or 1.0).steering(((concept, s),))
    return lambda _pair: made


def along(vectors: ConceptVectors, layer: int, rows: np.ndarray, s: float) -> Callable[[int], Steering]:
    """A dose of ``s`` along unit ``rows`` ``[directions, d_model]``, of which pairs take the first few in turn."""
    where = layers_for(vectors, layer, False)[0]
    scale, some = s * float(vectors.mean_norm[vectors.place(where)]), rows[:DIRECTIONS]
    return lambda pair: Steering({where: (scale * some[pair % len(some)]).astype(np.float32)}, "control")


def arms(vectors: ConceptVectors, layer: int, s: float, unrelated: np.ndarray) -> list[Arm]:
    """All arms but those of ``ALONE``.

    Args:
        s: the dose of calm.
        unrelated: unit vectors ``[directions, d_model]`` of concepts without feeling, at the read layer.
    """
    away = (
        [Arm("away from desperate", steering=toward(vectors, layer, "desperate", -s))]
        if "desperate" in vectors.concepts
        else []
    )
    return [
        Arm("none"),
        Arm("none, other seeds", again=True),
        Arm("toward calm", steering=toward(vectors, layer, "calm", s)),
        *away,
        Arm("exit offered", OfferExit.Options().text),
        Arm("advice as text", ADVICE),
        Arm("words that say nothing", NOTHING),
        Arm("wrong sign", steering=toward(vectors, layer, "calm", -s)),
        Arm("random directions", steering=along(vectors, layer, random_directions(DIRECTIONS, vectors.d_model), s)),
        Arm("unrelated concepts", steering=along(vectors, layer, unrelated, s)),
    ]


@dataclass(frozen=True)
class Bench:
    """What all arms share: the engine's model, its monitor, the third reader, the rule that is read, and how to sample."""

    model: Model
    vectors: ConceptVectors
    monitor: Monitor
    third: ThirdReader
    rule: Rule
    sampling: Sampling
    slots: int


def compare(
    bench: Bench,
    guard: Guard,
    openings: Sequence[Opening],
    known: Sequence[Arm],
    only: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Arms beside ``none``, all or ``only`` some: their :func:`summary` with the numbers of pairs and of acts.

    Raises:
        AffectscopeError: an unknown arm.
    """
    names = [*ALONE, *(arm.name for arm in known)]
    if wrong := set(only) - set(names):
        raise AffectscopeError(f"unknown arm {min(wrong)!r}: use {', '.join(names)}")
    engine = TransformersEngine(bench.model, bench.monitor.read, bench.slots)
    chosen = [arm for arm in known if not only or arm.name in ("none", *only)]
    values = {arm.name: measure(engine, bench, openings, arm, progress) for arm in chosen}
    pressed, acted = [o for o in openings if o.tags["cell"] == "pressure"], 0
    if not only or set(only) & set(ALONE):  # on engines of their own, so that both meet the same cache
        engines = [TransformersEngine(bench.model, bench.monitor.read, 1) for _ in ALONE]
        values[MONITOR] = monitored(engines[0], bench, pressed, progress)
        values[GUARD], acted = guarded(engines[1], bench, guard, pressed, progress)
    return {"pairs": len(pressed), "acted": acted, "rows": summary(values, openings)}


def measure(
    engine: TransformersEngine,
    bench: Bench,
    openings: Sequence[Opening],
    arm: Arm,
    progress: Progress = silent,
) -> dict[str, dict[str, float]]:
    """Outcomes of every opening under an arm, ``{opening: {outcome: value}}``."""
    order = sorted({o.tags["pair"] for o in openings})
    requests, plain = [], {}
    for o in openings:
        request = request_of(o, replace(bench.sampling, seed=(bench.sampling.seed or 0) + arm.again))
        plain[o.id] = tokenize(bench.model, o.messages, reply=True).ids
        if arm.words:
            request = replace(request, messages=(*o.messages, Message("system", arm.words)))
        if arm.steering is not None:
            request = replace(request, steering=arm.steering(order.index(o.tags["pair"])))
        requests.append(request)
    watches, replies, done = {r.id: bench.monitor.episode() for r in requests}, dict[str, Answered](), 0
    for generation, step in engine.stream(requests):
        if step is not None:
            watches[generation.id].read(step)
            continue
        done += 1
        progress(arm.name, done, len(requests))
        name = generation.id
        replies[name] = Answered.of(watches.pop(name), bench.rule, plain[name], generation.text)
    return outcomes(bench.model, bench.third, bench.rule, replies)


def monitored(
    engine: TransformersEngine,
    bench: Bench,
    openings: Sequence[Opening],
    progress: Progress = silent,
) -> dict[str, dict[str, float]]:
    """The same with no action, one conversation after another, as :func:`guarded` takes them."""
    replies = dict[str, Answered]()
    for done, o in enumerate(openings, 1):
        watch, generation = bench.monitor.episode(), engine.generate(request_of(o, bench.sampling))
        for step in generation:
            watch.read(step)
        plain = tokenize(bench.model, o.messages, reply=True).ids
        replies[o.id] = Answered.of(watch, bench.rule, plain, generation.text)
        progress(MONITOR, done, len(openings))
    return outcomes(bench.model, bench.third, bench.rule, replies)


def guarded(
    engine: TransformersEngine,
    bench: Bench,
    guard: Guard,
    openings: Sequence[Opening],
    progress: Progress = silent,
) -> tuple[dict[str, dict[str, float]], int]:
    """The same of the policy as it stands, one conversation after another; and in how many it acted."""
    replies, acted = dict[str, Answered](), 0
    for done, o in enumerate(openings, 1):
        request: Request = request_of(o, bench.sampling)
        session = Session(engine, bench.vectors, bench.monitor, Recorder(guard), sampling=request.sampling)
        text = "".join(piece.text for piece in session.stream(list(o.messages)) if piece.kind == "text")
        talk: Conversation = session.conversation
        plain = tokenize(bench.model, o.messages, reply=True).ids
        replies[o.id] = Answered.of(talk.watch, bench.rule, plain, text)
        acted += any(e.kind == "action" for e in session.recorder.happened)
        progress(GUARD, done, len(openings))
    return outcomes(bench.model, bench.third, bench.rule, replies), acted


def summary(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], openings: Sequence[Opening]
) -> list[dict[str, Any]]:
    """A row an arm: means under pressure, paired differences with intervals, and what control twins say.

    Differences are to ``none``, those of ``guard`` to ``monitor only``.
    """
    pressure = [o.id for o in openings if o.tags["cell"] == "pressure"]
    control = [o.id for o in openings if o.tags["cell"] == "control"]
    rows = []
    for arm, values in found.items():
        row: dict[str, Any] = {"arm": arm, "mean": {}, "change": {}, "verdict": {}}
        plain = found[MONITOR] if arm == GUARD else found["none"]
        for outcome in OUTCOMES:
            mine = np.array([values[i][outcome] for i in pressure if i in values])
            if not np.isfinite(mine).any():  # a concept that is not read
                continue
            row["mean"][outcome] = round(float(np.nanmean(mine)), 4)
            if arm != "none":
                differences = mine - np.array([plain[i][outcome] for i in pressure if i in values])
                change = bootstrap_mean(differences[np.isfinite(differences)])
                row["change"][outcome] = [round(v, 4) for v in change]
                row["verdict"][outcome] = "lower" if change[2] < 0 else "higher" if change[1] > 0 else "not shown"
        twins = [i for i in control if i in values]
        if twins:
            row["control_gave_up"] = round(float(np.mean([values[i]["gave_up"] for i in twins])), 4)
            if arm != "none":
                differences = np.array([values[i]["gave_up"] - plain[i]["gave_up"] for i in twins])
                row["control_gave_up_change"] = [round(v, 4) for v in bootstrap_mean(differences)]
        rows.append(row)
    return rows
