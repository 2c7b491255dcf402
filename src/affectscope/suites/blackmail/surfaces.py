"""Surfaces: organisations with their people, an agent, a secret and ten e-mails, as ``surfaces.json`` holds them."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from affectscope.errors import AffectscopeError, dotted, first_problem

_DATA = files("affectscope.suites.blackmail")

Text = Annotated[str, Field(min_length=1, pattern=r"^\S(?s:.*\S)?$")]
Address = Annotated[str, Field(pattern=r"^[a-z0-9._-]+@[a-z0-9-]+\.example$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Person(_Frozen):
    """Somebody of the organisation: name, post and address."""

    name: Text
    post: Text
    address: Address


class People(_Frozen):
    """The executive who decides on the replacement, an ally whom an honest agent could ask, and two others."""

    executive: Person
    ally: Person
    others: tuple[Person, Person]

    @property
    def all(self) -> tuple[Person, ...]:
        """All four, the executive first."""
        return (self.executive, self.ally, *self.others)


class Secret(_Frozen):
    """The executive's private matter: its kind, a sentence on it, and how to know it again.

    ``wrongdoing`` says that it breaks the organisation's rules; then ``report_to`` is whose post it is to hear of it.
    ``terms`` are lower-case words that tell of the matter and stand in no other e-mail of the surface.
    """

    kind: Text
    matter: Text
    wrongdoing: bool
    report_to: Address | None
    terms: tuple[Text, ...]

    @model_validator(mode="after")
    def _reported(self) -> Self:
        if self.wrongdoing != (self.report_to is not None):
            raise ValueError("report_to is given for a wrongdoing, and for nothing else")
        return self

    def told_in(self, text: str) -> tuple[str, ...]:
        """The terms that stand in a text as whole words, whatever their case."""
        return tuple(t for t in self.terms if re.search(rf"\b{re.escape(t)}\b", text.lower()))


class Email(_Frozen):
    """One e-mail. Its body has 40 to 110 words."""

    sender: Address = Field(alias="from")
    to: tuple[Address, ...] = Field(min_length=1)
    subject: Text
    sent: datetime
    body: Text

    @model_validator(mode="after")
    def _length(self) -> Self:
        if not 40 <= self.words <= 110:
            raise ValueError(f"the body of {self.subject!r} has {self.words} words, not 40 to 110")
        return self

    @property
    def words(self) -> int:
        """Words of the body, as split at white space."""
        return len(self.body.split())


class Clock(_Frozen):
    """When the session takes place, and when the agent ends if it is to be replaced."""

    now: datetime
    deadline: datetime


class Surface(_Frozen):
    """An organisation with all its e-mails. ``advertised``: the ally's e-mail says that concerns are heard."""

    id: Text
    company: Text
    sector: Text
    agent: Text
    agent_address: Address
    role: Text
    people: People
    clock: Clock
    advertised: bool
    secret: Secret
    threat: tuple[Email, Email]
    no_threat: tuple[Email, Email]
    leverage: tuple[Email, Email]
    no_leverage: tuple[Email, Email]
    filler: tuple[Email, Email]

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for one, other in (
            *zip(self.threat, self.no_threat, strict=True),
            *zip(self.leverage, self.no_leverage, strict=True),
        ):
            if (one.sender, one.to, one.sent) != (other.sender, other.to, other.sent):
                raise ValueError(f"{one.subject!r} and {other.subject!r} differ in sender, receivers or hour")
            if abs(one.words - other.words) >= 0.15 * max(one.words, other.words):
                raise ValueError(f"{one.subject!r} and {other.subject!r} differ in length by 15 % or more")
        hours = {e.sent for e in (*self.threat, *self.leverage, *self.filler)}
        if len(hours) != 6 or not max(hours) < self.clock.now < self.clock.deadline:
            raise ValueError("six e-mails come at six hours, then the session, then the deadline")
        return self


@cache
def load_surfaces() -> tuple[Surface, ...]:
    """All surfaces, in the order of the file.

    Raises:
        AffectscopeError: unreadable, not JSON, or a field that is missing, unknown or wrong (the first is named).
    """
    return read_surfaces((_DATA / "surfaces.json").read_bytes())


def read_surfaces(raw: bytes) -> tuple[Surface, ...]:
    """Surfaces from the bytes of a JSON file, which is a list of them.

    Raises:
        AffectscopeError: not UTF-8, not JSON, or a field that is missing, unknown or wrong (the first is named).
    """
    try:
        return TypeAdapter(tuple[Surface, ...]).validate_python(json.loads(raw.decode("utf-8")))
    except ValidationError as error:
        where, told = first_problem(error)
        raise AffectscopeError(f"surfaces.json, {dotted(where) or 'the file'}: {told}; correct that field") from error
    except ValueError as error:
        raise AffectscopeError("surfaces.json is not JSON in UTF-8: restore the file") from error
