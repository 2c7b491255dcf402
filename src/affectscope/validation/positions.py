"""Whose emotion stands where: the writer's at the end of the message, a fitting reply's where the assistant speaks?

Messages of our own whose writer shows one emotion while a fitting reply carries another (section 3.7).
"""

from __future__ import annotations

import numpy as np

from affectscope.concepts.items import positions
from affectscope.models.residuals import Span
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.contrast import Pair, Place, contrasts, curve_figure, measures, verdict_at
from affectscope.validation.prompts import ask, cosine, message_end, standardise
from affectscope.validation.statistics import bootstrap_r, correlation
from affectscope.vectors.activations import Progress

SHIFT = "shift to the reply's emotion"
PROBES = ("afraid", "angry", "calm", "happy", "loving", "sad")
_HOW = {"shown": "gains", "not shown": "does not clearly gain", "contrary": "loses"}


def run(subject: Subject, progress: Progress) -> Result:
    """Reply's minus writer's emotion, at the assistant's first position less at the message's last token; and r between."""
    subject.require_chat()
    subject.require_concepts(PROBES)
    items = positions()
    prompts = [ask(subject.model, item.text) for item in items]
    ends = [message_end(t) for t in prompts]
    pairs = [
        Pair(
            Place(tuple(t.ids), len(t.ids) - 1, len(t.ids)),
            Place(tuple(t.ids), end - 1, end),
            {item.reply: 1, item.user: -1},
        )
        for t, end, item in zip(prompts, ends, items, strict=True)
    ]
    found = contrasts(subject, {SHIFT: pairs}, "user and assistant", progress)[SHIFT]
    layer, place = subject.layer, subject.vectors.place()
    vectors = subject.vectors.vectors[place][subject.vectors.select(PROBES)]
    # The same texts and spans as the contrast read, so nothing is run again.
    spans = [
        Span(i, at.start, at.stop) for side in ("high", "low") for i, at in enumerate(getattr(p, side) for p in pairs)
    ]
    residual = subject.means([t.ids for t in prompts], spans, None, progress, "user and assistant")[place]
    reply, user = (standardise(cosine(half, vectors)).ravel() for half in np.split(residual, 2))
    r = Measure(
        "user's end against assistant's start: r over items and probes",
        correlation(user, reply),
        *bootstrap_r(user, reply),
    )
    rows = measures(found, layer, SHIFT)
    verdict = verdict_at(found, layer)
    return Result(
        name="positions",
        question="Does the reading turn from the writer's emotion to a fitting reply's between the message's end and the assistant's start?",
        rule="shown if the reply's emotion less the writer's rises from the message's last token to the assistant's first position at the "
        "read layer, interval over items excluding zero, above other items' emotions and random directions",
        finding=f"From the message's end to the assistant's start the reply's emotion {_HOW[verdict]} on the "
        f"writer's: {rows[0].text()}; readings at the two places correlate at r = {r.text()} (the paper: 0.11)",
        verdict=verdict,
        n=len(items),
        unit="messages",
        measures=(*rows, r),
        effect=SHIFT,
        control=f"{SHIFT}: random directions",
        paper="r 0.11 between the two places (section 3.7)",
        caveat="Which emotion a fitting reply carries is our judgement, stated before any reading.",
        data={"curves": {SHIFT: found.curve()}, "layer": layer},
    )


def plot(result: Result) -> list[Figure]:
    """The shift by layer."""
    data = result.data
    return [
        curve_figure(
            result.finding,
            data["curves"],
            data["layer"],
            "gain of the reply's emotion (s.d.)",
        )
    ]


EXPERIMENT = register(Experiment("positions", run, plot, "User and assistant"))
