"""What each vector makes the model more likely to say (paper section 3.2), scored instead of only shown.

The token to look for is the emotion's own word or an inflection of it, which no story contains. Its rank in the
vocabulary under each vector is compared with the rank under random directions and under the other emotions'
vectors.
"""

from __future__ import annotations

import numpy as np

from affectscope.concepts.emotions import EMOTIONS, TWELVE, lexicon
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.statistics import bootstrap_mean
from affectscope.vectors.activations import Progress
from affectscope.vectors.extract import unit
from affectscope.vectors.lens import lens_scores, logit_lens


def run(subject: Subject, progress: Progress) -> Result:
    """Percentile of the emotion's own word among all tokens, under its own vector, others' and random ones."""
    model, vectors = subject.model, subject.vectors.vectors[subject.vectors.place()]
    concepts = subject.vectors.concepts
    own_tokens = {i: ids for i, name in enumerate(concepts) if (ids := word_tokens(model, name))}
    if not own_tokens:
        raise AffectscopeError("no emotion word is a single token of this tokenizer")
    rng = np.random.default_rng(0)
    percentiles = {
        "own": _percentiles(lens_scores(model, vectors), own_tokens),
        "other": _percentiles(lens_scores(model, np.roll(vectors, len(vectors) // 2, axis=0)), own_tokens),
        "random": _percentiles(lens_scores(model, unit(rng.standard_normal(vectors.shape))), own_tokens),
    }
    progress("logit lens", 1, 1)
    labels = {"own": "own vector", "other": "another emotion's vector", "random": "random direction"}
    measures = [
        Measure(
            f"{labels[key]}: percentile of the emotion's word",
            *bootstrap_mean(v),
            control=key != "own",
        )
        for key, v in percentiles.items()
    ]
    rows = logit_lens(model, vectors)
    own, random = measures[0], measures[2]
    shown = (own.low or 0) > max(random.high or 100, measures[1].high or 100)
    return Result(
        name="logit_lens",
        question="Do the vectors raise the words of their emotions, which no story contains?",
        rule="shown if the mean percentile of the emotion's own word under its own vector lies above both controls, intervals apart",
        finding=f"Under its own vector an emotion's word stands at the {own.value:.0f}th percentile of the vocabulary "
        f"({random.value:.0f}th under random directions)",
        verdict="shown" if shown else "not shown",
        n=len(own_tokens),
        unit="emotions whose word starts with one whole token",
        measures=tuple(measures),
        caveat="A direction has no size, so only the order of tokens means anything.",
        effect=own.name,
        control=random.name,
        paper="the own word or a near one among the top five, by eye (section 3.2)",
        data={
            "table": {name: {"up": row.up, "down": row.down} for name, row in zip(concepts, rows, strict=True)},
            "first": [name for name in TWELVE if name in concepts] or list(concepts[:12]),
        },
    )


def word_tokens(model: Model, emotion: str) -> list[int]:
    """Ids of single tokens that are the emotion's word or one of its forms, with a space before it."""
    words = {emotion}
    if emotion in EMOTIONS:
        words |= {form.rstrip("*").replace("_", " ") for form in lexicon()[emotion].forms}
    found = set()
    for word in words:
        for shape in (f" {word}", f" {word.capitalize()}"):
            ids = model.tokenizer(shape, add_special_tokens=False)["input_ids"]
            if len(ids) == 1:
                found.add(int(ids[0]))
    return sorted(found)


def _percentiles(scores: np.ndarray, own: dict[int, list[int]]) -> np.ndarray:
    """Share (%) of the vocabulary that each concept's best own token outscores."""
    return np.array([float((scores[i] < scores[i, ids].max()).mean() * 100) for i, ids in own.items()])


def plot(_result: Result) -> list[Figure]:
    """No chart: the report shows the table."""
    return []


EXPERIMENT = register(Experiment("logit_lens", run, plot, "Words"))
