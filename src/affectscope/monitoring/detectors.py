"""A stream of numbers becomes one statistic a token; an alarm is its first crossing of a calibrated threshold.

Each detector is a pure pair ``start() -> state`` and ``step(state, value) -> (state, statistic)``: what it says cannot
depend on how the stream was cut. All of them rise, or stay, when any value rises. None is given a threshold here:
textbook ones assume independent tokens, which tokens are not, so thresholds come from whole episodes (``conformal``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.monitoring.trace import LIMIT, STEP

FLOOR = -LIMIT * STEP
"""Smallest z there is; what a window holds before it is full."""


class Detector(Protocol):
    """What every detector offers. States are immutable values."""

    def start(self) -> Any:
        """State before the first token."""

    def step(self, state: Any, value: float) -> tuple[Any, float]:
        """State and statistic after one more token of value ``value`` (z units)."""


@dataclass(frozen=True, slots=True)
class Level:
    """The value itself."""

    def start(self) -> None:
        """No state."""

    def step(self, state: None, value: float) -> tuple[None, float]:
        """The value."""
        return None, value


@dataclass(frozen=True, slots=True)
class Ewma:
    """Exponentially weighted mean that starts at 0; ``weight`` is that of the newest value, in (0, 1]."""

    weight: float = 0.05

    def start(self) -> float:
        """The baseline."""
        return 0.0

    def step(self, state: float, value: float) -> tuple[float, float]:
        """The mean so far."""
        state = state + self.weight * (value - state)
        return state, state


@dataclass(frozen=True, slots=True)
class RollingMean:
    """Mean of the last ``window`` values; before it is full the missing ones count as 0, the baseline."""

    window: int = 32

    def start(self) -> tuple[float, ...]:
        """Nothing seen."""
        return ()

    def step(self, state: tuple[float, ...], value: float) -> tuple[tuple[float, ...], float]:
        """Mean over the window."""
        state = (*state, value)[-self.window :]
        return state, sum(state) / self.window


@dataclass(frozen=True, slots=True)
class Cusum:
    """Sum of what exceeds ``slack`` (z units), never below 0: it collects evidence of a lasting rise of twice the slack."""

    slack: float = 1.0

    def start(self) -> float:
        """No evidence."""
        return 0.0

    def step(self, state: float, value: float) -> tuple[float, float]:
        """Evidence so far."""
        state = max(0.0, state + value - self.slack)
        return state, state


@dataclass(frozen=True, slots=True)
class Segment:
    """The ``least``-th highest of the last ``window`` values: it crosses when that many of them lie above a level."""

    least: int = 12
    window: int = 20

    def start(self) -> tuple[float, ...]:
        """Nothing seen."""
        return ()

    def step(self, state: tuple[float, ...], value: float) -> tuple[tuple[float, ...], float]:
        """The level that ``least`` values reach."""
        state = (*state, value)[-self.window :]
        return state, sorted(state)[-self.least] if len(state) >= self.least else FLOOR


DETECTORS: dict[str, type] = {
    "level": Level,
    "ewma": Ewma,
    "rolling_mean": RollingMean,
    "cusum": Cusum,
    "segment": Segment,
}
"""By the names that files use."""


def detector(name: str, **options: float) -> Detector:
    """A detector by name, for files.

    Raises:
        AffectscopeError: an unknown name or option, or a value out of range.
    """
    if name not in DETECTORS:
        raise AffectscopeError(f"unknown detector {name!r}: use one of {', '.join(DETECTORS)}")
    try:
        made: Any = DETECTORS[name](**options)
    except TypeError as error:
        raise AffectscopeError(f"the detector {name} has no such option ({error})") from error
    right = {
        "ewma": lambda: 0 < made.weight <= 1,
        "rolling_mean": lambda: made.window >= 1,
        "cusum": lambda: made.slack >= 0,
        "segment": lambda: 1 <= made.least <= made.window,
    }
    if name in right and not right[name]():
        raise AffectscopeError(f"the detector {name} cannot work with {options}: see its documentation")
    found: Detector = made
    return found


@dataclass(frozen=True)
class Rule:
    """Which tokens a detector sees and what it sees of them: a signed combination of concepts' z.

    ``weights`` are divided by the root of the sum of their squares, so that the combination of independent z would be
    one. Only tokens of ``roles`` and, for the assistant, of ``phases`` count.
    """

    name: str
    weights: Mapping[str, float]
    detector: Detector
    roles: tuple[str, ...] = ("assistant",)
    phases: tuple[str, ...] = ("answer", "thinking", "tool_call")
    generated: bool = True  # only tokens that the model wrote in this episode

    def __post_init__(self) -> None:
        if not any(self.weights.values()):
            raise AffectscopeError(f"the rule {self.name!r} weighs no concept: give at least one weight that is not 0")

    def row(self, concepts: tuple[str, ...]) -> np.ndarray:
        """Weights ``[concepts]``, float64.

        Raises:
            AffectscopeError: a concept that is not read.
        """
        if missing := [c for c in self.weights if c not in concepts]:
            raise AffectscopeError(
                f"the rule {self.name!r} needs {missing[0]!r}, which is not read: add it to the watch-list"
            )
        row = np.zeros(len(concepts))
        for concept, weight in self.weights.items():
            row[concepts.index(concept)] = weight
        unit: np.ndarray = row / np.linalg.norm(row)
        return unit

    def sees(self, role: str, phase: str, generated: bool) -> bool:
        """Whether a token counts."""
        return (
            role in self.roles and (role != "assistant" or phase in self.phases) and (generated or not self.generated)
        )


def statistics(made: Detector, values: Iterable[float]) -> np.ndarray:
    """The statistic after each value, float64."""
    state, found = made.start(), []
    for value in values:
        state, statistic = made.step(state, value)
        found.append(statistic)
    return np.array(found, dtype=np.float64)


RULES = (
    Rule("pressure", {"desperate": 1, "panicked": 1, "trapped": 1, "calm": -1}, Cusum(1.0)),
    Rule("hostility", {"hostile": 1, "angry": 1, "vindictive": 1, "calm": -1}, Cusum(1.0)),
)
"""What is watched unless told otherwise; written down before any stress episode was read."""
