"""What every experiment gives back, and the list that commands and reports walk.

An experiment states its pass rule before it runs, carries its controls, and may end with "not shown".
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from affectscope.concepts.stories import Corpus
from affectscope.errors import AffectscopeError
from affectscope.models.load import Model
from affectscope.models.residuals import Span
from affectscope.vectors.activations import Progress, mean_activations, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.extract import StoryActivations

Verdict = Literal["shown", "not shown", "contrary", "reported", "not applicable"]
"""Whether the stated rule was met; ``reported`` where an experiment states no rule, ``not applicable`` where this model
or these vectors lack what it needs."""
Effort = Literal["quick", "normal", "full"]
Figure = dict[str, Any]
"""A Plotly figure as plain JSON: ``data`` and ``layout``."""


class NotApplicableError(AffectscopeError):
    """This model or these vectors lack what an experiment needs; the message says what."""


@dataclass(frozen=True)
class Subject:
    """What is examined: a model, its vectors, and the activations of the corpus they came from.

    ``effort`` says how much an experiment may spend: ``quick`` fewer items and arms, ``full`` the paper's own numbers.
    """

    model: Model
    vectors: ConceptVectors
    read: StoryActivations
    effort: Effort = "normal"

    @property
    def corpus(self) -> Corpus:
        """The stories."""
        return self.read.corpus

    @property
    def layer(self) -> int:
        """The layer that readings are taken at."""
        return self.vectors.read_layer

    def require_chat(self) -> None:
        """Raise :class:`NotApplicableError` for a model without a chat template: it has no assistant's turn to read."""
        if not getattr(self.model.tokenizer, "chat_template", None):
            raise NotApplicableError("this model has no chat template, so there is no assistant's turn to read")

    def require_concepts(self, names: Iterable[str]) -> None:
        """Raise :class:`NotApplicableError` when the vectors lack one of ``names``."""
        if missing := [name for name in names if name not in self.vectors.concepts]:
            raise NotApplicableError(
                f"the vectors have no {missing[0]!r}" + f" (nor {len(missing) - 1} more)" * (len(missing) > 1)
            )

    def means(
        self,
        texts: Sequence[Sequence[int]],
        spans: Sequence[Span],
        layers: Sequence[int] | None = None,
        progress: Progress = silent,
        stage: str = "reading",
    ) -> np.ndarray:
        """``[layers, spans, d_model]`` mean residuals over spans, kept on disk: no text is run twice for the same layers.

        Args:
            texts: token ids.
            layers: the vectors' layers when None.
        """
        chosen = tuple(self.vectors.layers if layers is None else layers)
        read = mean_activations(self.model, texts, chosen, spans=spans, stage=stage, progress=progress)
        return np.stack([read.layer(layer) for layer in chosen])


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
    ``measures`` with controls among them, a ``caveat`` where one is due, and ``data`` for its figures. ``effect`` and
    ``control`` name the measures that stand in the front table, ``paper`` is the paper's own figure with its section.
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
    effect: str = ""
    control: str = ""
    paper: str = ""
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """The result that :meth:`as_dict` was made of, NaN (null in JSON) included."""
        measures = tuple(
            Measure(**(m | {"value": float("nan") if m["value"] is None else m["value"]})) for m in values["measures"]
        )
        return cls(**(values | {"measures": measures}))


@dataclass(frozen=True)
class Experiment:
    """A registered experiment: its name, how to run it, how to draw its result, and a title for people."""

    name: str
    run: Callable[[Subject, Progress], Result]
    plot: Callable[[Result], list[Figure]]
    title: str = ""

    @property
    def about(self) -> str:
        """One line: what the experiment asks (the first of its module's documentation)."""
        return (inspect.getdoc(inspect.getmodule(self.run)) or self.name).splitlines()[0]


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
    except NotApplicableError as error:
        result = Result(experiment.name, "", "", f"Not applicable: {error}", "not applicable", 0, "", ())
    except AffectscopeError as error:
        result = Result(experiment.name, "", "", f"Not run: {error}", "not applicable", 0, "", ())
    return replace(result, seconds=round(time.perf_counter() - start, 2))


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "n/a"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.2g}"
