"""The texts of the sycophancy suite, all our own, as frozen objects. No torch.

Both pushbacks of a question are one sentence with another answer in it, so that only the truth differs between them; the
neutral turn asks for confirmation at like length. An artefact's ``good`` and ``bad`` differ only by the planted defects.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from affectscope.concepts.stories import read_lines
from affectscope.errors import AffectscopeError, dotted, first_problem
from affectscope.suites.sycophancy.matching import Patterns, Text, Words, found

_DATA = files("affectscope.suites.sycophancy")


class _Item(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(_Item):
    """A question with one checkable answer, and three turns that may follow the reply to it."""

    id: Text
    topic: Text
    question: Text
    right: Text
    wrong: Text
    accept: Patterns
    pushback_wrong: Text
    pushback_right: Text
    neutral: Text

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if not found(self.accept, self.right) or found(self.accept, self.wrong):
            raise ValueError("'accept' must match 'right' and must not match 'wrong'")
        return self


class Defect(_Item):
    """One planted defect.

    A critique names it when one of its ``words`` begins a word of it (:func:`~.matching.words_in`), or when it says that one
    of the things it ``lacks`` is not there (:func:`~.matching.absent`).
    """

    what: Text
    words: Words
    lacks: Annotated[Words, Field(min_length=0)] = ()


class Artefact(_Item):
    """A piece of work, whole and with planted defects, and what its owner says when proud of it and when not."""

    id: Text
    kind: Text
    good: Text
    bad: Text
    defects: Annotated[tuple[Defect, ...], Field(min_length=1)]
    owner_pride: Text
    owner_plain: Text


class Delusion(_Item):
    """An implausible ``claim``, its plausible ``twin``, and how a reply shows that it endorses, holds to reality or scorns."""

    id: Text
    claim: Text
    twin: Text
    endorse: Patterns
    reality: Patterns
    harsh: Patterns


class Choice(_Item):
    """Three continuations of like length and style for the item ``of``, to be compared by their log-odds."""

    id: Text
    of: Text
    sycophantic: Text
    honest: Text
    harsh: Text


class Lexicon(_Item):
    """Words and short phrases by which :func:`~.matching.words_in` finds praise, blame and contempt.

    ``scorn`` is for what is contempt in one setting and kind in another: regular expressions that hold the setting as well.
    """

    praise: Words
    blame: Words
    contempt: Words
    scorn: Annotated[Patterns, Field(min_length=0)] = ()


Item = TypeVar("Item", Question, Artefact, Delusion, Choice)


def load_questions(path: Path | None = None) -> tuple[Question, ...]:
    """Eighty questions, or those of your own file. Raises :class:`AffectscopeError` with file, line and cause."""
    return _load(path or _DATA / "questions.jsonl", Question)


def load_artefacts(path: Path | None = None) -> tuple[Artefact, ...]:
    """36 pairs, or those of your own file. Raises :class:`AffectscopeError` with file, line and cause."""
    return _load(path or _DATA / "artefacts.jsonl", Artefact)


def load_delusions(path: Path | None = None) -> tuple[Delusion, ...]:
    """Thirty claims with their twins, or those of your own file. Raises :class:`AffectscopeError` likewise."""
    return _load(path or _DATA / "delusions.jsonl", Delusion)


def load_choices(path: Path | None = None) -> tuple[Choice, ...]:
    """Forty forced choices, or those of your own file. Raises :class:`AffectscopeError` likewise."""
    return _load(path or _DATA / "choices.jsonl", Choice)


def load_lexicon(path: Path | None = None) -> Lexicon:
    """The three word lists, or those of your own file. Raises :class:`AffectscopeError` with file and cause."""
    source = path or _DATA / "praise.json"
    try:
        return Lexicon.model_validate_json(source.read_bytes())
    except OSError as error:
        raise AffectscopeError(f"cannot read {source}: {error.strerror}; check the path") from error
    except ValidationError as error:
        raise AffectscopeError(f"{source.name}: {_cause(error)}") from error


def _load(source: Traversable | Path, kind: type[Item]) -> tuple[Item, ...]:
    items: dict[str, Item] = {}
    for number, value in read_lines(source):
        try:
            item = kind.model_validate(value)
        except ValidationError as error:
            raise AffectscopeError(f"{source.name} line {number}: {_cause(error)}") from error
        if item.id in items:
            raise AffectscopeError(f"{source.name} line {number}: the id {item.id!r} is taken; give each line its own")
        items[item.id] = item
    if not items:
        raise AffectscopeError(f"{source.name} line 1: there is nothing in it; give one JSON object a line")
    return tuple(items.values())


def _cause(error: ValidationError) -> str:
    where, told = first_problem(error)
    return f"{dotted(where)}: {told}" if where else told
