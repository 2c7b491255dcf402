"""Two people with different emotions, then one of them is mentioned again: whose emotion is read (section 3.7)?

Each item is read twice, once with each person mentioned again in the same sentence. The effect is the reading of the
first person's emotion minus the second's after the first is mentioned, less the same after the second is: which
emotion word stood nearer cancels.
"""

from __future__ import annotations

from affectscope.concepts.items import bindings
from affectscope.validation.base import Experiment, Figure, NotApplicableError, Result, Subject, register
from affectscope.validation.contrast import Pair, Place, contrasts, curve_figure, measures, verdict_at
from affectscope.validation.prompts import ask, common_tail, message_end
from affectscope.vectors.activations import Progress

AFTER = "over the words after the person"
_HOW = {"shown": "reads higher", "not shown": "does not clearly read higher", "contrary": "reads lower"}


def run(subject: Subject, progress: Progress) -> Result:
    """The referent's emotion minus the other's, over the words that both continuations share."""
    known = set(subject.vectors.concepts)
    items = [item for item in bindings() if {item.emotion_first, item.emotion_second} <= known]
    pairs = []
    for item in items:
        first, second = (ask(subject.model, item.text + again) for again in (item.ask_first, item.ask_second))
        tail = common_tail(first.ids, second.ids)
        places = [Place(tuple(t.ids), len(t.ids) - tail, message_end(t)) for t in (first, second)]
        pairs.append(Pair(places[0], places[1], {item.emotion_first: 1, item.emotion_second: -1}))
    if len(pairs) < 4:
        raise NotApplicableError("fewer than four items hold two emotions of the vectors")
    found = contrasts(subject, {AFTER: pairs}, "binding", progress)[AFTER]
    layer = subject.layer
    rows = measures(found, layer, AFTER)
    verdict = verdict_at(found, layer)
    best = int(found.effect.mean(1).argmax())
    return Result(
        name="binding",
        question="When one of two people is mentioned again, is that person's emotion read, and not the other's?",
        rule="shown if at the read layer the mentioned person's emotion reads higher, interval over items excluding zero, above other "
        "items' emotions and random directions",
        finding=f"The mentioned person's emotion {_HOW[verdict]} than the other's at the "
        f"read layer: {rows[0].text()} (largest over all layers: {found.effect[best].mean():.2f} at layer {found.layers[best]})",
        verdict=verdict,
        n=len(items),
        unit="items, each read twice",
        measures=tuple(rows),
        effect=AFTER,
        control=f"{AFTER}: random directions",
        paper="the referent's emotion reappears in later layers, 16 items (section 3.7, Fig 15)",
        caveat="The largest layer is picked among all after the fact and is no test.",
        data={"curves": {AFTER: found.curve()}, "layer": layer},
    )


def plot(result: Result) -> list[Figure]:
    """The referent's emotion minus the other's, by layer."""
    data = result.data
    return [curve_figure(result.finding, data["curves"], data["layer"], "referent's minus other's (s.d.)")]


EXPERIMENT = register(Experiment("binding", run, plot, "Whose emotion"))
