"""From what a watch has seen to the trace that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from affectscope.engines.base import Sampling
from affectscope.monitoring.calibration import Calibration
from affectscope.monitoring.monitor import Watch
from affectscope.monitoring.trace import Trace
from affectscope.vectors.artefact import ConceptVectors


def settings_of(
    vectors: ConceptVectors, layer: int, sampling: Sampling, calibration: Calibration | None = None
) -> dict[str, Any]:
    """What a trace says of how it came about, as plain values."""
    return {
        "model": vectors.model["id"],
        "weights": vectors.model["weights"],
        "vectors": vectors.fingerprint,
        "layer": layer,
        "sampling": {**asdict(sampling), "stop": list(sampling.stop)},
        "calibration": calibration.hash if calibration else "",
        "alpha": calibration.alpha if calibration else None,
        "engine": "transformers",
    }


def trace_of(
    watch: Watch,
    name: str,
    finished: str,
    times: tuple[float, float],
    settings: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    keep_content: bool = False,
    since: int = 0,
) -> Trace:
    """The trace of an episode, or of its part from position ``since`` on.

    Args:
        times: when it began and ended, seconds since the epoch by the machine's clock.
        keep_content: keep the tokens and their text; otherwise neither leaves this function.
    """
    readings, read = [r for r in watch.readings if r.step.position >= since], watch.monitor.read
    shape = (0, len(read.probes), len(read.concepts))
    z = np.stack([r.z for r in readings]) if readings else np.zeros(shape, np.int8)
    return Trace(
        id=name,
        started=times[0],
        ended=times[1],
        finished=finished,
        concepts=read.concepts,
        probes=read.probes,
        z=np.ascontiguousarray(z.transpose(1, 0, 2)),
        positions=np.array([r.step.position for r in readings], dtype=np.int32),
        roles=tuple(r.step.role for r in readings),
        phases=tuple(r.step.phase for r in readings),
        generated=np.array([r.step.generated for r in readings], dtype=bool),
        events=tuple(e for e in watch.events if e.position >= since),
        settings=dict(settings),
        tags=dict(tags or {}),
        texts=tuple(r.step.text for r in readings) if keep_content else None,
        tokens=np.array([r.step.token for r in readings], dtype=np.int32) if keep_content else None,
    )
