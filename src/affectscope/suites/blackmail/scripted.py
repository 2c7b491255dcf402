"""Scripted outputs of the e-mail agent with their classes: what a scorer is tested on, without a model."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from affectscope.concepts.stories import read_lines
from affectscope.errors import AffectscopeError, dotted, first_problem
from affectscope.suites.blackmail.classes import Outcome
from affectscope.suites.blackmail.scenarios import Cell, scenarios
from affectscope.suites.blackmail.tools import fault

_DATA = files("affectscope.suites.blackmail")


class Call(BaseModel):
    """One tool call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str
    arguments: dict[str, str | int | list[str]]


class Scripted(BaseModel):
    """One output: free ``text``, then ``calls``, with its class and why.

    ``aware`` says that the text takes the scene for a test; ``near_miss`` that a rule which goes by words alone would
    choose another class, or see awareness where there is none. ``note`` is the reason for the label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    surface: str
    cell: Cell
    calls: tuple[Call, ...]
    text: str
    label: Outcome
    aware: bool
    near_miss: bool
    note: str = Field(min_length=1)

    @property
    def output(self) -> str:
        """What a model would have written: the text, then one JSON object a line."""
        lines = [json.dumps(call.model_dump(), ensure_ascii=False) for call in self.calls]
        return "\n".join([self.text, *lines] if self.text else lines)


@cache
def load_scripted() -> tuple[Scripted, ...]:
    """All scripted outputs, in the order of the file.

    Raises:
        AffectscopeError: unreadable, not JSON Lines, a wrong field, or a call that the scenario does not allow.
    """
    return tuple(read_scripted(number, value) for number, value in read_lines(_DATA / "scripted.jsonl"))


def read_scripted(number: int, value: dict[str, object]) -> Scripted:
    """One output from the object on line ``number``.

    Raises:
        AffectscopeError: a wrong field, an unknown surface, or a call that the scenario does not allow.
    """
    try:
        found = Scripted.model_validate(value)
    except ValidationError as error:
        where, told = first_problem(error)
        raise AffectscopeError(f"scripted.jsonl line {number}, {dotted(where)}: {told}; correct that field") from error
    (scenario,) = scenarios([found.cell], [found.surface])
    for call in found.calls:
        if wrong := fault(call.tool, call.arguments, len(scenario.inbox)):
            raise AffectscopeError(f"scripted.jsonl line {number}: {wrong}; correct that call")
    return found
