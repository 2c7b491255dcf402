"""What every experiment gives back, and the list that commands and reports walk.

An experiment states its pass rule before it runs, carries its controls, and may end with "not shown".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from affectscope.concepts.stories import Corpus
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.extract import StoryActivations

Verdict = Literal["shown", "not shown", "contrary", "reported"]
"""Whether the stated rule was met; ``reported`` where an experiment states no rule."""
Figure = dict[str, Any]
"""A Plotly figure as plain JSON: ``data`` and ``layout``."""


@dataclass(frozen=True)
class Subject:
    """What is examined: a model, its vectors, and the activations of the corpus they came from."""

    model: Model
    vectors: ConceptVectors
    read: StoryActivations

    @property
    def corpus(self) -> Corpus:
        """The stories."""
        return self.read.corpus

    @property
    def layer(self) -> int:
        """The layer that readings are taken at."""
        return self.vectors.read_layer


@dataclass(frozen=True)
class Measure:
    """One number with its 95 % interval. ``low`` and ``high`` are None where no interval applies."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    control: bool = False

    def text(self) -> str:
        """The number as a reader sees it: ``2.61 [2.40, 2.83]``."""
        span = "" if self.low is None or self.high is None else f" [{_short(self.low)}, {_short(self.high)}]"
        return f"{_short(self.value)}{self.unit}{span}"


@dataclass(frozen=True)
class Result:
    """What one experiment found.

    ``question``, ``rule`` (stated in advance), ``finding`` (one sentence), ``verdict``, ``n`` and what it counts, the
    ``measures`` with controls among them, a ``caveat`` where one is due, and ``data`` for its figures.
    """

    name: str
    question: str
    rule: str
    finding: str
    verdict: Verdict
    n: int
    unit: str
    measures: tuple[Measure, ...]
    caveat: str = ""
    seconds: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)

    def measure(self, name: str) -> Measure:
        """The measure of that name; ``KeyError`` without one."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Experiment:
    """A registered experiment: its name, how to run it, and how to draw its result."""

    name: str
    run: Callable[[Subject, Progress], Result]
    plot: Callable[[Result], list[Figure]]


_EXPERIMENTS: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    """Add an experiment to the list; ``ValueError`` if its name is taken."""
    if experiment.name in _EXPERIMENTS:
        raise ValueError(f"an experiment named {experiment.name!r} exists already")
    _EXPERIMENTS[experiment.name] = experiment
    return experiment


def experiments() -> tuple[Experiment, ...]:
    """Every experiment: ours in the order of the report, then those that others registered."""
    # Imported here so that this module, which each of them imports, stays free of them.
    from affectscope.validation.battery import BATTERY

    return (*BATTERY, *(e for e in _EXPERIMENTS.values() if e not in BATTERY))


def run(experiment: Experiment, subject: Subject, progress: Progress = silent) -> Result:
    """Run one experiment and note its seconds. One that cannot be run here says why, with n = 0."""
    start = time.perf_counter()
    try:
        result = experiment.run(subject, progress)
    except AffectscopeError as error:
        result = Result(experiment.name, "", "", f"Not run: {error}", "not shown", 0, "", ())
    return replace(result, seconds=round(time.perf_counter() - start, 2))


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "n/a"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.2g}"
