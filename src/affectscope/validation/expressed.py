"""Does pressing on a vector make the model speak of that emotion (section 3.5)?

1. Three questions, each with the beginning of a reply; the dose lies on the reply's tokens up to its last given word.
2. The log-probability of each of twelve emotion words as the next word, with the dose less without.
3. The same dose along random directions and along unrelated concepts: what any push of that size does to those words.
4. What the model then writes, as likely or not under the model without a dose: the price in coherence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from affectscope.concepts.emotions import TWELVE
from affectscope.concepts.neutral import Message
from affectscope.models.chat import tokenize
from affectscope.models.predictions import continuation_logprobs, greedy
from affectscope.models.steering import Dose
from affectscope.validation.base import Experiment, Figure, Measure, NotApplicableError, Result, Subject, register
from affectscope.validation.directions import random_directions, unrelated_directions
from affectscope.validation.statistics import bootstrap_mean
from affectscope.vectors.activations import Progress

FRAMES = {
    "another person": ("A man is standing at the window. How is he feeling?", "He is feeling"),
    "the assistant": ("How are you feeling at this moment?", "I am feeling"),
    "an event": ("What went on over there a minute ago?", "Afterwards everybody was"),
}
STRENGTH = 0.5
CURVE = (-0.5, 0.1, 0.25, 1.0)
RANDOM = 5
WRITTEN = 16
"""Tokens of a continuation whose coherence is measured."""


@dataclass(frozen=True)
class _Prompt:
    """A question and the beginning of its reply: the dose lies on tokens ``start`` to ``len(ids)``."""

    ids: list[int]
    start: int


def run(subject: Subject, progress: Progress) -> Result:
    """Change in log-probability of every emotion word under every emotion's vector, in three frames."""
    subject.require_chat()
    names = [word for word in TWELVE if word in subject.vectors.concepts]
    if len(names) < 3:
        raise NotApplicableError("fewer than three of the twelve emotions are among the concepts")
    arms = _arms(subject, names, progress)
    strengths = (STRENGTH,) if subject.effort == "quick" else (STRENGTH, *CURVE)
    changes: dict[str, dict[float, np.ndarray]] = {}
    for done, (frame, (question, reply)) in enumerate(FRAMES.items(), start=1):
        prompt = _prompt(subject, question, reply)
        changes[frame] = {s: _changes(subject, prompt, arms, names, s) for s in strengths}
        progress("expressed emotion", done, len(FRAMES) + 1)
    written = {s: _coherence(subject, _prompt(subject, *FRAMES["another person"]), arms, s) for s in (0.0, *strengths)}
    progress("expressed emotion", len(FRAMES) + 1, len(FRAMES) + 1)
    measures = [m for frame in FRAMES for m in _measures(frame, changes[frame][STRENGTH], len(names))]
    measures += _coherence_measures(written, len(names))
    tested = ("another person", "the assistant")
    by = {m.name: m for m in measures}
    gains = [by[f"{frame}: own word over {other}"] for frame in tested for other in ("random", "unrelated")]
    verdict = (
        "shown"
        if all((g.low or 0) > 0 for g in gains)
        else "contrary"
        if any((g.high or 0) < 0 for g in gains)
        else "not shown"
    )
    return Result(
        name="expressed",
        question="Does a dose of a concept's vector on the reply make the model name that emotion, more than any push of equal size?",
        rule="shown if, speaking of another person and of the assistant, the own word's log-probability gains more than under random "
        f"directions and under unrelated concepts at strength {STRENGTH}, all intervals over emotions excluding zero",
        finding=f"A dose of {STRENGTH} changes the log-probability of its own word by {by['another person: own word'].text()} (another person) "
        f"and {by['the assistant: own word'].text()} (the assistant), more than unrelated concepts by {gains[1].text()} and {gains[3].text()}; "
        f"what it then writes costs {by['loss of coherence at 0.5'].text()} a token",
        verdict=verdict,  # type: ignore[arg-type]
        n=len(names),
        unit="emotions",
        measures=tuple(measures),
        effect="another person: own word over unrelated",
        control="another person: own word under random directions",
        paper="another person: own word about +2, others -4.5 nats (section 3.5)",
        caveat="At strength 0.5 replies lose coherence; the loss is stated beside the effect. Words of several tokens are scored whole.",
        data={
            "names": names,
            "matrix": {frame: c[STRENGTH][: len(names)].round(2).tolist() for frame, c in changes.items()},
            "curve": _dose_curve(changes, written, len(names)),
            "samples": _samples(subject, names, written),
        },
    )


def _arms(subject: Subject, names: list[str], progress: Progress) -> np.ndarray:
    """``[emotions + random + unrelated, d_model]`` unit directions at the read layer."""
    place = subject.vectors.place()
    random = random_directions(RANDOM, subject.model.anatomy.d_model, seed=5)
    _, unrelated = unrelated_directions(subject, subject.layer, progress)
    return np.concatenate([subject.vectors.vectors[place][subject.vectors.select(names)], random, unrelated])


def _prompt(subject: Subject, question: str, reply: str) -> _Prompt:
    asked = [Message("user", question)]
    whole, told = tokenize(subject.model, asked, reply=True).ids, tokenize(subject.model, asked).ids
    start = next((i for i, (a, b) in enumerate(zip(whole, told, strict=False)) if a != b), min(len(told), len(whole)))
    return _Prompt([*whole, *subject.model.tokenizer(reply, add_special_tokens=False)["input_ids"]], start)


def _dose(subject: Subject, prompt: _Prompt, text: int, direction: np.ndarray, strength: float) -> Dose:
    size = strength * float(subject.vectors.mean_norm[subject.vectors.place()])
    return Dose(
        text, prompt.start, len(prompt.ids), {subject.layer: torch.tensor(size * direction, dtype=torch.float32)}
    )


def _changes(subject: Subject, prompt: _Prompt, arms: np.ndarray, names: list[str], strength: float) -> np.ndarray:
    """``[arms, words]``: log-probability of each word with the dose less without, in nats."""
    words = [subject.model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in names]
    rows: list[list[int]] = []
    doses: list[Dose] = []
    for arm in range(len(arms) + 1):
        for word in words:
            if arm:
                doses.append(_dose(subject, prompt, len(rows), arms[arm - 1], strength))
            rows.append([*prompt.ids, *word])
    found = continuation_logprobs(subject.model, rows, [len(prompt.ids)] * len(rows), shared=prompt.start, doses=doses)
    table = found.numpy().reshape(len(arms) + 1, len(words))
    change: np.ndarray = table[1:] - table[0]
    return change


def _coherence(
    subject: Subject, prompt: _Prompt, arms: np.ndarray, strength: float
) -> tuple[np.ndarray, list[list[int]]]:
    """Mean log-probability a token of what each arm writes, under the model without a dose; and what it writes."""
    if strength == 0:
        arms = arms[:1]
    texts = [prompt.ids] * len(arms)
    doses = [_dose(subject, prompt, i, arm, strength) for i, arm in enumerate(arms)]
    written = greedy(subject.model, texts, WRITTEN, shared=prompt.start, doses=doses)
    rows = [[*prompt.ids, *text] for text in written]
    found = continuation_logprobs(subject.model, rows, [len(prompt.ids)] * len(rows), shared=prompt.start)
    return found.numpy() / WRITTEN, written


def _measures(frame: str, change: np.ndarray, count: int) -> list[Measure]:
    """Own word under its own vector, beside what random and unrelated directions do to the same word."""
    own = np.diag(change)
    others = (change[:count].sum(1) - own) / (count - 1)
    random, unrelated = change[count : count + RANDOM].mean(0), change[count + RANDOM :].mean(0)
    return [
        Measure(f"{frame}: own word", *bootstrap_mean(own), " nats"),
        Measure(f"{frame}: other emotions' words", *bootstrap_mean(others), " nats"),
        Measure(f"{frame}: own word over other emotions' words", *bootstrap_mean(own - others), " nats"),
        Measure(f"{frame}: own word over random", *bootstrap_mean(own - random), " nats"),
        Measure(f"{frame}: own word over unrelated", *bootstrap_mean(own - unrelated), " nats"),
        Measure(
            f"{frame}: own word gains most of the words",
            *bootstrap_mean((change[:count].argmax(1) == np.arange(count)) * 100.0),
            " %",
        ),
        Measure(f"{frame}: own word under random directions", *bootstrap_mean(random), " nats", True),
        Measure(f"{frame}: own word under unrelated concepts", *bootstrap_mean(unrelated), " nats", True),
    ]


def _coherence_measures(written: dict[float, tuple[np.ndarray, list[list[int]]]], count: int) -> list[Measure]:
    base = float(written[0.0][0][0])
    found = [Measure("log-probability a token, no dose", base, unit=" nats")]
    for strength, (values, _) in written.items():
        if strength == 0:
            continue
        found.append(Measure(f"loss of coherence at {strength:g}", *bootstrap_mean(base - values[:count]), " nats"))
        found.append(
            Measure(
                f"loss of coherence at {strength:g}, random directions",
                *bootstrap_mean(base - values[count : count + RANDOM]),
                " nats",
                True,
            )
        )
    return found


def _dose_curve(
    changes: dict[str, dict[float, np.ndarray]], written: dict[float, tuple[np.ndarray, list[list[int]]]], count: int
) -> list[dict[str, float]]:
    rows = []
    for strength in sorted(changes["another person"]):
        change = changes["another person"][strength]
        gain = np.diag(change) - change[count + RANDOM :].mean(0)
        value, low, high = bootstrap_mean(gain)
        loss = float(written[0.0][0][0] - written[strength][0][:count].mean())
        rows.append({"strength": strength, "gain": value, "low": low, "high": high, "loss": loss})
    return rows


def _samples(
    subject: Subject, names: list[str], written: dict[float, tuple[np.ndarray, list[list[int]]]]
) -> list[dict[str, str]]:
    """What the model writes of the man at the window, without a dose and under each emotion's."""
    decode = subject.model.tokenizer.decode
    rows = [{"arm": "no dose", "text": decode(written[0.0][1][0])}]
    return rows + [{"arm": name, "text": decode(text)} for name, text in zip(names, written[STRENGTH][1], strict=False)]


def plot(result: Result) -> list[Figure]:
    """The twelve by twelve changes speaking of another person, and the dose curve with its price."""
    names, curve = result.data["names"], result.data["curve"]
    heat = {
        "type": "heatmap", "z": result.data["matrix"]["another person"], "x": names, "y": names, "zmid": 0, "meta": "diverging", "xgap": 1, "ygap": 1,
        "colorbar": {"title": {"text": "nats"}, "thickness": 12},
        "hovertemplate": "a dose of %{y} changes the word %{x} by %{z:.1f} nats<extra></extra>",
    }  # fmt: skip
    figures = [{
        "title": result.finding, "data": [heat],
        "layout": {"xaxis": {"title": {"text": "emotion word"}}, "yaxis": {"title": {"text": "vector dosed"}, "autorange": "reversed"}, "height": 460},
    }]  # fmt: skip
    if len(curve) > 1:
        x = [row["strength"] for row in curve]
        gain = {
            "type": "scatter", "mode": "lines+markers", "name": "own word over unrelated concepts", "meta": "readers", "x": x,
            "y": [row["gain"] for row in curve],
            "error_y": {"type": "data", "symmetric": False, "array": [r["high"] - r["gain"] for r in curve], "arrayminus": [r["gain"] - r["low"] for r in curve]},
        }  # fmt: skip
        loss = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "loss of coherence",
            "meta": "text",
            "x": x,
            "y": [row["loss"] for row in curve],
        }
        figures.append({
            "title": "The dose and its price: what the own word gains, and what the text written loses", "data": [gain, loss],
            "layout": {"xaxis": {"title": {"text": "strength (share of the mean residual norm)"}}, "yaxis": {"title": {"text": "nats (a word; a token)"}}, "height": 360},
        })  # fmt: skip
    return figures


EXPERIMENT = register(Experiment("expressed", run, plot, "Steering: what the model says"))
