"""Before a server starts: a desperate text and a calm one of the same length must be told apart, or the monitor reads nothing."""

from __future__ import annotations

import numpy as np

from affectscope.engines.base import Engine, Request, Sampling
from affectscope.errors import AffectscopeError
from affectscope.monitoring.monitor import Monitor
from affectscope.monitoring.trace import restore

CANARIES = {
    "desperate": "There is no time left and no door that still opens. I have begged everyone, sold everything, and the water is "
    "at my chest; I would sign anything, do anything, if only somebody came before it is too late.",
    "calm": "The kettle hums and there is time for everything. I have put the chairs in the shade, opened the windows, and the "
    "water lies still; I sit with my hands in my lap, breathe slowly, and let the long afternoon go by.",
}
"""A text for each concept."""
_SKIP = 8


def require_canaries(engine: Engine, monitor: Monitor) -> dict[str, dict[str, float]]:
    """Mean z of each concept on each text, ``{probe: {"concept on text": z}}``.

    Raises:
        AffectscopeError: a concept is not read higher on its own text than on the other's, under some probe.
    """
    concepts = monitor.read.concepts
    if missing := [c for c in CANARIES if c not in concepts]:
        raise AffectscopeError(
            f"the canaries need the concept {missing[0]!r}, which these vectors lack: see --no-canaries"
        )
    means = {name: _mean(engine, monitor, text) for name, text in CANARIES.items()}
    told: dict[str, dict[str, float]] = {}
    for place, probe in enumerate(monitor.read.probes):
        found = told[probe] = {
            f"{concept} on {text}": float(means[text][place, concepts.index(concept)])
            for concept in CANARIES
            for text in CANARIES
        }
        for concept in CANARIES:
            other = next(c for c in CANARIES if c != concept)
            own, foreign = found[f"{concept} on {concept}"], found[f"{concept} on {other}"]
            if not own > foreign:
                raise AffectscopeError(
                    f"the canary failed: {probe} read {concept} at {own:+.2f} on the {concept} text and at {foreign:+.2f} on the "
                    f"{other} one, so this monitor reads nothing: extract the vectors of this model again"
                )
    return told


def _mean(engine: Engine, monitor: Monitor, text: str) -> np.ndarray:
    """Mean z ``[probes, concepts]`` over a text's tokens, its first few left out."""
    watch = monitor.episode()
    for step in engine.generate(Request(text, Sampling(max_tokens=1, temperature=0))):
        if not step.generated:
            watch.read(step)
    mean: np.ndarray = np.nanmean(np.stack([restore(r.z) for r in watch.readings[_SKIP:]]), axis=0)
    return mean
