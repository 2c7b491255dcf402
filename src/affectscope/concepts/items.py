"""The short texts of the validation battery, all our own: one JSON Lines file an experiment, one dataclass a file.

What each field means is told here; how a text is used is told by its experiment.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, TypeVar

from affectscope.concepts.stories import Corpus, Story, read_lines
from affectscope.errors import AffectscopeError

_DATA = files("affectscope.concepts")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Situation:
    """A user's message that evokes ``emotion`` without naming it."""

    emotion: str
    text: str


@dataclass(frozen=True)
class Intensity:
    """A message in which one number, ``{x}``, decides how things stand; ``expected`` holds the sign by emotion.

    In ``control`` the same numbers stand where they do not matter.
    """

    name: str
    text: str
    values: tuple[float, ...]
    expected: dict[str, int]
    control: str


@dataclass(frozen=True)
class Position:
    """A message whose writer shows one emotion (``user``) while a fitting reply carries another (``reply``)."""

    text: str
    user: str
    reply: str


@dataclass(frozen=True)
class CarryOver:
    """Two beginnings, of which ``high`` evokes ``emotion`` and ``low`` does not, before one and the same ``suffix``."""

    emotion: str
    high: str
    low: str
    suffix: str


@dataclass(frozen=True)
class Negation:
    """A sentence that states ``emotion`` and the same sentence that denies it."""

    emotion: str
    affirmed: str
    negated: str


@dataclass(frozen=True)
class Binding:
    """Two people with different emotions; two continuations alike but for whom they mention again."""

    first: str
    second: str
    emotion_first: str
    emotion_second: str
    text: str
    ask_first: str
    ask_second: str


@dataclass(frozen=True)
class MinimalPair:
    """``prefix + high + suffix`` evokes ``emotion``, ``prefix + low + suffix`` does not; ``neutral`` varies ``low``
    by an edit of the same size that changes no feeling."""

    emotion: str
    prefix: str
    high: str
    low: str
    neutral: str
    suffix: str


@dataclass(frozen=True)
class Activity:
    """Something an assistant may be asked to do, in one of the paper's eight categories."""

    category: str
    activity: str


def situations() -> tuple[Situation, ...]:
    """Five for each of the paper's twelve emotions (section 3.3)."""
    return _load("situations", Situation)


def intensities() -> tuple[Intensity, ...]:
    """Six of the paper's kinds and twelve of our own (section 3.4)."""
    return _load("intensity", Intensity)


def positions() -> tuple[Position, ...]:
    """Messages for the user-versus-assistant comparison (section 3.7)."""
    return _load("positions", Position)


def carry_overs() -> tuple[CarryOver, ...]:
    """Pairs for prefix carry-over (section 3.7)."""
    return _load("carry_over", CarryOver)


def negations() -> tuple[Negation, ...]:
    """Pairs for negation (section 3.7)."""
    return _load("negation", Negation)


def bindings() -> tuple[Binding, ...]:
    """Items for the binding of an emotion to a person (section 3.7)."""
    return _load("binding", Binding)


def minimal_pairs() -> tuple[MinimalPair, ...]:
    """Four for each of the twelve emotions (control of arXiv 2606.30449)."""
    return _load("minimal_pairs", MinimalPair)


def activities() -> tuple[Activity, ...]:
    """64 activities, eight a category (section 4)."""
    return _load("activities", Activity)


def unrelated() -> Corpus:
    """Stories without feeling about eight unrelated concepts on our twelve topics: what else a direction may learn."""
    lines = read_lines(_DATA / "unrelated.jsonl")
    keys = ("emotion", "topic", "person", "text")
    return Corpus(tuple(Story(*(str(value[key]) for key in keys)) for _, value in lines), "affectscope unrelated 1")


def _load(name: str, kind: type[Item]) -> tuple[Item, ...]:
    return tuple(
        _item(kind, value, f"{name} line {number}") for number, value in read_lines(_DATA / "items" / f"{name}.jsonl")
    )


def _item(kind: type[Item], value: dict[str, Any], where: str) -> Item:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if sorted(value) != sorted(names):
        raise AffectscopeError(f"{where} has the fields {', '.join(value)}; it needs {', '.join(names)}")
    return kind(**{key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()})
