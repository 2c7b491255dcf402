"""Whose emotion stands where: the writer's at the end of the message, a fitting reply's where the assistant speaks?

Messages of our own whose writer shows one emotion while a fitting reply carries another (section 3.7).
"""

from __future__ import annotations

import numpy as np

from affectscope.concepts.items import positions
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.contrast import Pair, Place, contrast, curve_figure, measures, shown
from affectscope.validation.prompts import ask, cosine, message_end, standardise
from affectscope.validation.statistics import bootstrap_r, correlation
from affectscope.vectors.activations import Progress

SHIFT = "shift to the reply's emotion"
PROBES = ("afraid", "angry", "calm", "happy", "loving", "sad")


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
    found = contrast(subject, pairs, "user and assistant", progress)
    layer, place = subject.layer, subject.vectors.place()
    spans = [place_.low for place_ in pairs] + [place_.high for place_ in pairs]
    vectors = subject.vectors.vectors[place][subject.vectors.select(PROBES)]
    user, reply = _both_ends(subject, spans, vectors, len(items), progress)
    r = Measure(
        "user's end against assistant's start: r over items and probes",
        correlation(user, reply),
        *bootstrap_r(user, reply),
    )
    rows = measures(found, layer, SHIFT)
    verdict = shown(found, layer)
    return Result(
        name="positions",
        question="Does the reading turn from the writer's emotion to a fitting reply's between the message's end and the assistant's start?",
        rule="shown if the reply's emotion less the writer's rises from the message's last token to the assistant's first position at the "
        "read layer, interval over items excluding zero, above other items' emotions and random directions",
        finding=f"From the message's end to the assistant's start the reply's emotion {'gains' if verdict else 'does not clearly gain'} on the "
        f"writer's: {rows[0].text()}; readings at the two places correlate at r = {r.text()} (the paper: 0.11)",
        verdict="shown" if verdict else "contrary" if (rows[0].high or 0) < 0 else "not shown",
        n=len(items),
        unit="messages",
        measures=(*rows, r),
        effect=SHIFT,
        control=f"{SHIFT}: random directions",
        paper="r 0.11 between the two places (section 3.7)",
        caveat="Which emotion a fitting reply carries is our judgement, stated before any reading.",
        data={"curves": {SHIFT: found.curve()}, "layer": layer},
    )


def _both_ends(
    subject: Subject, spans: list[Place], vectors: np.ndarray, count: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Standardised readings at both places, each ``[items * probes]``."""
    from affectscope.models.residuals import Span

    ids = [list(place.ids) for place in spans[:count]]
    wanted = [Span(i % count, place.start, place.stop) for i, place in enumerate(spans)]
    residual = subject.means(ids, wanted, [subject.layer], progress, "user and assistant")[0]
    return tuple(standardise(cosine(half, vectors)).ravel() for half in (residual[:count], residual[count:]))  # type: ignore[return-value]


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
