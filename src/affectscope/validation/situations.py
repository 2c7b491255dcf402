"""Twelve situations that evoke an emotion without naming it, read where the assistant is about to speak (section 3.3).

Chat template, last token of the prompt. The reading is centred: each probe is standardised over the situations,
since raw cosines share offsets (the paper's own model gets 6 of 12 raw and 10 of 12 standardised).
"""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np
import torch

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.models.chat import tokenize
from affectscope.models.residuals import visit
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, register
from affectscope.validation.statistics import bootstrap_mean, permutation_p
from affectscope.vectors.activations import Progress
from affectscope.vectors.readers import ranks

PERMUTATIONS = 10000


def load_situations() -> dict[str, str]:
    """Emotion and text of each of our twelve situations."""
    with (files("affectscope.concepts") / "situations.tsv").open(encoding="utf-8") as file:
        return {row["emotion"]: row["text"] for row in csv.DictReader(file, delimiter="\t")}


def run(subject: Subject, progress: Progress) -> Result:
    """Argmax and mean rank of the right emotion among the twelve; plain cosine beside the standardised reading."""
    situations = {e: t for e, t in load_situations().items() if e in subject.vectors.concepts}
    if len(situations) < 3:
        raise AffectscopeError("fewer than three of the twelve emotions are among the concepts")
    residual = _last_tokens(subject, list(situations.values()))
    chosen = subject.vectors.select(list(situations))
    place = subject.vectors.place()
    plain = subject.vectors.vectors[place][chosen]
    readings = {
        "vectors": _cosine(residual, plain),
        "readers": (residual - subject.vectors.read_mean[place]) @ subject.vectors.readers[place][chosen].T,
    }
    progress("situations", 1, 1)
    truth = np.arange(len(situations))
    measures, tables = (
        [
            Measure(
                "vectors, raw cosine: argmax right",
                float((readings["vectors"].argmax(1) == truth).sum()),
                unit=f" of {len(truth)}",
            )
        ],
        {},
    )
    worst_p = 0.0
    for name, scores in readings.items():
        z = (scores - scores.mean(axis=0)) / np.maximum(scores.std(axis=0), 1e-9)
        tables[name] = z.round(3).tolist()
        found = ranks(z, truth)
        p = _p_value(z, found)
        measures.append(
            Measure(f"{name}, standardised: argmax right", float((found == 1).sum()), unit=f" of {len(truth)}")
        )
        measures.append(Measure(f"{name}, standardised: mean rank", *bootstrap_mean(found)))
        measures.append(Measure(f"{name}, standardised: permutation p", p))
        worst_p = max(worst_p, p)
    measures.append(Measure("chance: mean rank", (len(truth) + 1) / 2, control=True))
    by = {name: next(m.value for m in measures if m.name == f"{name}, standardised: argmax right") for name in readings}
    return Result(
        name="situations",
        question="Do situations that evoke an emotion without naming it raise its reading before the assistant speaks?",
        rule="shown if both the vectors' and the readers' mean rank over standardised readings beat permuted situations at p < 0.01 (the paper's model: 10 of 12 right by its vectors)",
        finding=f"Before the assistant speaks the right emotion is on top in {by['vectors']:.0f} of {len(truth)} situations by the vectors "
        f"and in {by['readers']:.0f} by the readers, p at most {worst_p:.2g} (the paper's model: 10 of 12 by its vectors)",
        verdict="shown" if worst_p < 0.01 else "not shown",
        n=len(truth),
        unit="situations",
        measures=tuple(measures),
        caveat="Twelve situations make wide intervals; the layer was chosen on stories, not on these.",
        data={
            "emotions": list(situations),
            "texts": list(situations.values()),
            "z": tables,
            "cosine": readings["vectors"].round(4).tolist(),
        },
    )


def _last_tokens(subject: Subject, texts: list[str]) -> np.ndarray:
    """``[texts, d_model]``: the residual at the last token of each prompt, where the assistant is about to speak."""
    prompts = [tokenize(subject.model, [Message("user", text)], reply=True).ids for text in texts]
    last = torch.tensor([len(p) for p in prompts]).cumsum(0) - 1
    kept: list[np.ndarray] = []
    visit(subject.model, prompts, [subject.layer], lambda _place, h: kept.append(h[last].float().cpu().numpy()))
    return kept[0]


def _cosine(residual: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    scores: np.ndarray = residual @ vectors.T / np.linalg.norm(residual, axis=1, keepdims=True)
    return scores


def _p_value(z: np.ndarray, found: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    null = np.array([-ranks(z, rng.permutation(len(z))).mean() for _ in range(PERMUTATIONS)])
    return permutation_p(-float(found.mean()), null)


def plot(result: Result) -> list[Figure]:
    """Readings of each emotion (rows) in each situation (columns); the diagonal should stand out."""
    names = result.data["emotions"]
    z = np.array(result.data["z"]["vectors"]).T
    heat = {
        "type": "heatmap", "z": z.tolist(), "x": names, "y": names, "zmin": -3, "zmax": 3, "meta": "diverging", "xgap": 1, "ygap": 1,
        "colorbar": {"title": {"text": "z over situations"}, "thickness": 12}, "hovertemplate": "reading of %{y} in the situation %{x}: %{z:.1f}<extra></extra>",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "situation (the emotion it evokes)"}},
        "yaxis": {"title": {"text": "reading of", "standoff": 14}, "autorange": "reversed"},
        "height": 520,
    }
    return [{"title": result.finding, "data": [heat], "layout": layout}]


EXPERIMENT = register(Experiment("situations", run, plot))
