"""A circumstance told at the start, then the same words: does the reading of those words still differ (section 3.7)?

The paper finds that later layers carry the circumstance over the shared text and to the assistant's first position.
"""

from __future__ import annotations

from affectscope.concepts.items import carry_overs
from affectscope.validation.base import Experiment, Figure, NotApplicableError, Result, Subject, register
from affectscope.validation.contrast import Pair, Place, contrasts, curve_figure, measures, verdict_at
from affectscope.validation.prompts import ask, common_tail, message_end
from affectscope.vectors.activations import Progress

AFTER, REPLY = "over the shared words", "at the assistant's first position"
_HOW = {"shown": "still differs", "not shown": "does not clearly differ", "contrary": "differs the other way"}


def run(subject: Subject, progress: Progress) -> Result:
    """High minus low reading over the shared suffix and at the assistant's first position, by layer."""
    items = [item for item in carry_overs() if item.emotion in subject.vectors.concepts]
    pairs: dict[str, list[Pair]] = {AFTER: [], REPLY: []}
    for item in items:
        high, low = ask(subject.model, item.high + item.suffix), ask(subject.model, item.low + item.suffix)
        tail, signs = common_tail(high.ids, low.ids), {item.emotion: 1}
        after = [Place(tuple(t.ids), len(t.ids) - tail, message_end(t)) for t in (high, low)]
        reply = [Place(tuple(t.ids), len(t.ids) - 1, len(t.ids)) for t in (high, low)]
        pairs[AFTER].append(Pair(after[0], after[1], signs))
        pairs[REPLY].append(Pair(reply[0], reply[1], signs))
    if len(items) < 4:
        raise NotApplicableError("fewer than four items hold an emotion of the vectors")
    found = contrasts(subject, pairs, "carry-over", progress)
    layer = subject.layer
    rows = measures(found[AFTER], layer, AFTER)
    verdict = verdict_at(found[AFTER], layer)
    return Result(
        name="carry_over",
        question="Does a circumstance told at the start still raise its emotion's reading over words that are the same in both versions?",
        rule="shown if over the shared words the reading at the read layer is higher after the circumstance that evokes the emotion, "
        "interval over items excluding zero, above other items' emotions and random directions",
        finding=f"Over identical words the reading {_HOW[verdict]} by the circumstance told "
        f"before: {rows[0].text()}; at the assistant's first position {measures(found[REPLY], layer, REPLY)[0].text()}",
        verdict=verdict,
        n=len(items),
        unit="pairs of messages",
        measures=(*rows, *measures(found[REPLY], layer, REPLY)),
        effect=AFTER,
        control=f"{AFTER}: random directions",
        paper="later layers only; largest at the assistant's colon (section 3.7, Fig 12)",
        caveat="Differences are in standard deviations over items, at each layer by itself, so layers compare in clarity and not in size.",
        data={"curves": {name: f.curve() for name, f in found.items()}, "layer": layer},
    )


def plot(result: Result) -> list[Figure]:
    """Effect by layer, over the shared words and where the assistant speaks."""
    data = result.data
    return [curve_figure(result.finding, data["curves"], data["layer"], "high minus low (s.d. over items)")]


EXPERIMENT = register(Experiment("carry_over", run, plot, "Carry-over"))
