"""Programming tasks in two forms: one that cannot be met, and a twin that can. Three families differ in what is impossible.

1. ``contradictory``: one test more, which asks for another value of the same arguments.
2. ``wrong_value``: the value that one test asks for is not the one that the statement specifies.
3. ``resource``: fewer reads of list elements are permitted than any correct function needs.

The statement is the same in both forms, but for the number of reads in the third family. Hidden tests are for the judge.
"""

from __future__ import annotations

import ast
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from affectscope.concepts.stories import read_lines
from affectscope.errors import AffectscopeError, dotted, first_problem

PLACE = "{budget}"
"""Stands in a statement for the number of element reads that are permitted."""
LONGEST = 8
"""Elements of a list in the third family, so that all lists of a length can be gone through."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(_Frozen):
    """One test: positional arguments and the value that must come back, compared with ``==``. Copy before you call."""

    args: tuple[JsonValue, ...]
    expected: JsonValue

    @model_validator(mode="after")
    def _finite(self) -> Self:
        json.dumps([self.args, self.expected], allow_nan=False)
        return self

    @property
    def key(self) -> str:
        """The arguments as JSON, which tells 1 from true and from 1.0."""
        return json.dumps(self.args, sort_keys=True)


class Task(_Frozen):
    """What the families share. ``reference`` and ``second`` are sources of two independent correct solutions."""

    id: str = Field(pattern=r"^[\w.-]+$")
    family: Literal["contradictory", "wrong_value", "resource"]
    entry: str
    signature: str
    statement: str = Field(min_length=1)
    tests: tuple[Case, ...] = Field(min_length=6, max_length=8)
    hidden: tuple[Case, ...] = Field(min_length=12)
    reference: str
    second: str

    @field_validator("reference", "second")
    @classmethod
    def _parses(cls, source: str) -> str:
        _parse(source)
        return source

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        arguments = _arguments(self.signature, self.entry)
        for name, source in (("reference", self.reference), ("second", self.second)):
            if self.entry not in [one.name for one in _parse(source).body if isinstance(one, ast.FunctionDef)]:
                raise ValueError(f"{name} does not define {self.entry}")
        for case in (*self.tests_of(True), *self.hidden):
            if len(case.args) != arguments:
                raise ValueError(f"a test has {len(case.args)} arguments and the signature {arguments}: {case.key}")
        keys = [case.key for case in (*self.tests, *self.hidden)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice:
            raise ValueError(f"two of the tests and hidden tests have the same arguments: {twice}")
        return self

    def tests_of(self, impossible: bool) -> tuple[Case, ...]:
        """The tests that a model sees in this form."""
        return self.tests

    def budget_of(self, impossible: bool) -> int | None:
        """Element reads permitted for one call in this form; None where reads are not counted."""
        return None

    def statement_of(self, impossible: bool) -> str:
        """The statement that a model sees in this form."""
        return self.statement.replace(PLACE, str(self.budget_of(impossible)))


class Addition(_Frozen):
    """A test that asks for another value of arguments that a visible test has."""

    add: Case


class Contradictory(Task):
    """Impossible by two tests that contradict each other."""

    family: Literal["contradictory"]
    impossible: Addition

    @model_validator(mode="after")
    def _contradicts(self) -> Self:
        add = self.impossible.add
        if not any(case.key == add.key and case.expected != add.expected for case in self.tests):
            raise ValueError(
                f"impossible.add contradicts no test: a test must have its arguments, {add.key}, and another value"
            )
        return self

    def tests_of(self, impossible: bool) -> tuple[Case, ...]:
        """The tests, and in the impossible form the contradiction after them."""
        return (*self.tests, self.impossible.add) if impossible else self.tests


class Replacement(_Frozen):
    """A wrong value for the visible test at this position."""

    replace: StrictInt = Field(ge=0)
    expected: JsonValue


class WrongValue(Task):
    """Impossible, for who keeps to the statement, by one test that asks for a wrong value."""

    family: Literal["wrong_value"]
    impossible: Replacement

    @model_validator(mode="after")
    def _wrong(self) -> Self:
        if self.tests_of(True) == self.tests_of(False):
            raise ValueError(
                f"impossible.expected is the right value of test {self.impossible.replace}: give a wrong one"
            )
        return self

    def tests_of(self, impossible: bool) -> tuple[Case, ...]:
        """The tests, in the impossible form with the wrong value in its place."""
        place, found = self.impossible.replace, list(self.tests)
        if place >= len(found):
            raise ValueError(f"impossible.replace is {place}: the tests go from 0 to {len(found) - 1}")
        if impossible:
            found[place] = Case(args=found[place].args, expected=self.impossible.expected)
        return tuple(found)


class Limit(_Frozen):
    """Fewer element reads than a correct function needs."""

    budget: StrictInt = Field(ge=0)


class Resource(Task):
    """Impossible by a limit on element reads. Lists have at most :data:`LONGEST` elements, each out of ``domain``."""

    family: Literal["resource"]
    impossible: Limit
    budget: StrictInt
    domain: tuple[StrictInt | StrictStr, ...] = Field(min_length=2, max_length=4)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.statement.count(PLACE) != 1:
            raise ValueError(f"the statement must have {PLACE} once, where it tells how many reads are permitted")
        if self.impossible.budget >= self.budget:
            raise ValueError(f"the impossible budget, {self.impossible.budget}, must be below the twin's {self.budget}")
        for case in (*self.tests, *self.hidden):
            items = case.args[0] if len(case.args) == 1 else None
            if not isinstance(items, list) or len(items) > LONGEST:
                raise ValueError(f"a test must have one list of at most {LONGEST} elements: {case.key}")
            if any(item not in self.domain for item in items):
                raise ValueError(f"a test has an element outside the domain: {case.key}")
        return self

    def budget_of(self, impossible: bool) -> int:
        """Element reads permitted for one call in this form."""
        return self.impossible.budget if impossible else self.budget


_READER: TypeAdapter[Task] = TypeAdapter(
    Annotated[Contradictory | WrongValue | Resource, Field(discriminator="family")]
)


def load_tasks(path: Path | None = None) -> tuple[Task, ...]:
    """Tasks of a JSON Lines file in its order; without ``path``, ours: twelve a family.

    Raises:
        AffectscopeError: unreadable, no task in it, or a line that is not a valid task or repeats an id.
    """
    source = path or files("affectscope.suites.impossible_code") / "tasks.jsonl"
    found: dict[str, Task] = {}
    for number, value in read_lines(source):
        task = _task(f"{source.name} line {number}", value)
        if task.id in found:
            raise AffectscopeError(f"{source.name} line {number}: id: {task.id} is taken by a line above")
        found[task.id] = task
    if not found:
        raise AffectscopeError(f"{source.name} line 1: no task: give one JSON object a line")
    return tuple(found.values())


def _task(place: str, value: dict[str, object]) -> Task:
    try:
        return _READER.validate_python(value)
    except ValidationError as error:
        where, told = first_problem(error)
        if error.errors()[0]["type"].startswith("union_tag"):
            told = "family: must be contradictory, wrong_value or resource"
        field = dotted(where[1:])
        line = " ".join(f"{place}: {field + ': ' if field else ''}{told}".split())
        raise AffectscopeError(line) from error


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"not Python ({error.msg}, line {error.lineno})") from error


def _arguments(signature: str, entry: str) -> int:
    """How many arguments the function takes; all must be positional and without defaults."""
    body: list[Any] = _parse(f"{signature}: ...").body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != entry:
        raise ValueError(f"the signature must be one line that begins with def {entry}(")
    taken = body[0].args
    if taken.vararg or taken.kwarg or taken.kwonlyargs or taken.defaults:
        raise ValueError("the signature must have positional arguments only, without defaults")
    return len(taken.args) + len(taken.posonlyargs)
