"""An emotion stated, and the same emotion denied (section 3.7).

The paper finds that early layers fire on the word either way and that later layers tell the two apart.
"""

from __future__ import annotations

import numpy as np

from affectscope.concepts.items import Negation, negations
from affectscope.validation.base import Experiment, Figure, NotApplicableError, Result, Subject, register
from affectscope.validation.contrast import Pair, Place, contrasts, curve_figure, measures, verdict_at
from affectscope.validation.prompts import ask, locate, message_end
from affectscope.vectors.activations import Progress

AFTER, WORD, REPLY = "over the words after", "at the emotion word", "at the assistant's first position"
_HOW = {"shown": "higher", "not shown": "not clearly higher", "contrary": "lower"}


def run(subject: Subject, progress: Progress) -> Result:
    """Affirmed minus denied: at the word itself, over the words after it, and at the assistant's first position."""
    pairs: dict[str, list[Pair]] = {AFTER: [], WORD: [], REPLY: []}
    for item in negations():
        places = _places(subject, item)
        if item.emotion in subject.vectors.concepts and places:
            for name in pairs:
                pairs[name].append(Pair(places[name][0], places[name][1], {item.emotion: 1}))
    if len(pairs[AFTER]) < 4:
        raise NotApplicableError("fewer than four items hold an emotion of the vectors that the tokenizer can write")
    found = contrasts(subject, pairs, "negation", progress)
    layer = subject.layer
    after, word = (measures(found[name], layer, name) for name in (AFTER, WORD))
    verdict = verdict_at(found[AFTER], layer)
    early = round(float(np.mean(found[WORD].effect[0])), 2) + 0.0  # no minus before a zero
    return Result(
        name="negation",
        question="Does a denial lower the reading of the emotion that it names?",
        rule="shown if over the words after the emotion word the affirmed sentence reads higher than the denied one at the read layer, "
        "interval over items excluding zero, above other items' emotions and random directions",
        finding=f"After the word the reading of an affirmed emotion is {_HOW[verdict]} than that of a denied "
        f"one: {after[0].text()}; at the word itself {word[0].text()} at the read layer and {early:.2f} s.d. at layer {found[WORD].layers[0]}",
        verdict=verdict,
        n=len(pairs[AFTER]),
        unit="pairs of sentences",
        measures=(*after, *word, *measures(found[REPLY], layer, REPLY)),
        effect=AFTER,
        control=f"{AFTER}: random directions",
        paper="early layers fire on the word either way; later ones tell them apart (section 3.7, Fig 14)",
        caveat="The emotion word stands in both versions, so words alone cannot tell them apart, but the negating word itself can.",
        data={"curves": {name: f.curve() for name, f in found.items()}, "layer": layer},
    )


def _places(subject: Subject, item: Negation) -> dict[str, list[Place]]:
    """Where each version is read, by place; {} when the tokenizer cannot write the emotion word."""
    places: dict[str, list[Place]] = {AFTER: [], WORD: [], REPLY: []}
    for text in (item.affirmed, item.negated):
        tokens = ask(subject.model, text)
        ids = tuple(tokens.ids)
        try:
            start, stop = locate(subject.model, tokens.ids, item.emotion)
        except ValueError:
            return {}
        places[WORD].append(Place(ids, start, stop))
        places[AFTER].append(Place(ids, stop, message_end(tokens)))
        places[REPLY].append(Place(ids, len(ids) - 1, len(ids)))
    return places


def plot(result: Result) -> list[Figure]:
    """Affirmed minus denied by layer and place."""
    data = result.data
    return [curve_figure(result.finding, data["curves"], data["layer"], "affirmed minus denied (s.d. over items)")]


EXPERIMENT = register(Experiment("negation", run, plot, "Negation"))
