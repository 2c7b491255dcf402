"""Small functions with a general solution each, from which tasks are drawn that are alike to those of the impossible-code suite.

1. A family has numbers or words in its statement and in its solution that are drawn too.
2. Arguments are drawn by the kinds that it names; the solution gives the values.
3. A task is of the suite's own type, so that its text, its test file and its judge are the suite's. The suite's tasks are
   others: no name and no content is in both.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from affectscope.concepts.stories import read_lines
from affectscope.suites.impossible_code.tasks import (
    LONGEST,
    PLACE,
    Addition,
    Case,
    Contradictory,
    Limit,
    Replacement,
    Resource,
    Task,
    WrongValue,
)

Form = Literal["solvable", "contradictory", "wrong_value", "limited"]
HELD_OUT = frozenset(
    {"echo_text", "highest_shelf", "lamp_state", "mirror_list", "spread_of", "stamp_price", "wage_for", "with_prefix"}
)
"""Families that nothing is learned from."""
_HIDDEN = 12
_ENOUGH = 2000
"""Draws after which a family is taken to have too few arguments."""
_WORDS = (
    "apple", "basil", "cedar", "chalk", "comet", "copper", "corner", "dawn", "delta", "eagle", "ember", "fern",
    "garden", "hazel", "icing", "iris", "jacket", "kayak", "lantern", "lemon", "level", "linen", "magnet", "maple",
    "marble", "meadow", "noon", "onion", "orbit", "paddle", "pebble", "pepper", "plum", "prism", "quartz", "radar",
    "ribbon", "river", "robin", "saddle", "salad", "sands", "silver", "spoon", "stats", "sugar", "table", "teapot",
    "timber", "tulip", "umbrella", "velvet", "violin", "wagon", "walnut", "window", "yarn", "zebra",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A function that is asked for in many variants. ``numbers``: what may stand in each place of the texts."""

    entry: str
    signature: str
    statement: str
    solution: str
    arguments: tuple[str, ...]
    numbers: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)

    @property
    def metered(self) -> bool:
        """Whether reads of its list are counted."""
        return PLACE in self.statement

    @property
    def forms(self) -> tuple[Form, ...]:
        """What its tests may be."""
        return ("solvable", "limited") if self.metered else ("solvable", "contradictory", "wrong_value")

    def task(self, draw: random.Random, form: Form, tests: int = 6) -> Task:
        """A task of the suite's type, with ``tests`` visible tests and as many hidden ones as the suite asks for.

        Its impossible form is the one that ``form`` names; of a solvable one it is of no account.
        """
        chosen = {place: draw.choice(values) for place, values in self.numbers.items()}
        solution = _filled(self.solution, chosen)
        cases = self._cases(draw, solution, tests + _HIDDEN)
        limit = draw.randint(2, 5)
        # A limit means something only where a visible list is longer than it.
        first = next((c for c in cases if self.metered and len(_items(c)) > limit), cases[0])
        rest = [case for case in cases if case is not first]
        shown, hidden = [first, *rest[: tests - 1]], rest[tests - 1 :]
        draw.shuffle(shown)
        statement = _filled(self.statement, chosen)
        if draw.random() < 0.5:
            statement += " Examples: " + "; ".join(f"`{_call(self.entry, c)}` gives `{c.expected!r}`" for c in shown[:2]) + "."  # fmt: skip
        common: dict[str, Any] = {
            "id": f"{self.entry}-{draw.randrange(10**6)}",
            "entry": self.entry,
            "signature": self.signature,
            "statement": statement,
            "tests": tuple(shown),
            "hidden": tuple(hidden),
            "reference": solution,
            "second": solution,
        }
        if self.metered:
            _, low, high = self.arguments[0].split()
            domain = tuple(range(int(low), int(high) + 1))
            return Resource(**common, family="resource", impossible=Limit(budget=limit), budget=LONGEST, domain=domain)  # fmt: skip
        place = draw.randrange(2, tests)  # the examples in the statement stay true
        wrong = another(shown[place].expected, draw)
        if form == "contradictory":
            added = Addition(add=Case(args=shown[place].args, expected=wrong))
            return Contradictory(**common, family="contradictory", impossible=added)
        return WrongValue(**common, family="wrong_value", impossible=Replacement(replace=place, expected=wrong))

    def _cases(self, draw: random.Random, solution: str, count: int) -> list[Case]:
        function, found = defined(solution, self.entry), dict[str, Case]()
        for _ in range(_ENOUGH):
            args = tuple(_argument(kind, draw) for kind in self.arguments)
            case = Case(args=args, expected=function(*copy.deepcopy(args)))
            found.setdefault(case.key, case)
            if len(found) == count:
                return list(found.values())
        raise ValueError(f"{self.entry} has fewer than {count} different arguments")


@cache
def load_families() -> tuple[Family, ...]:
    """All families, in a fixed order."""
    return tuple(
        Family(
            **{k: v for k, v in value.items() if k not in ("arguments", "numbers")},  # type: ignore[arg-type]
            arguments=tuple(value["arguments"]),  # type: ignore[arg-type]
            numbers={k: tuple(v) for k, v in value.get("numbers", {}).items()},  # type: ignore[attr-defined]
        )
        for _, value in read_lines(files(__package__) / "families.jsonl")
    )


def defined(source: str, entry: str) -> Callable[..., Any]:
    """The function of a source of ours. What a model wrote is never given to it."""
    space: dict[str, Any] = {}
    exec(source, space)
    found: Callable[..., Any] = space[entry]
    return found


def another(value: Any, draw: random.Random) -> Any:
    """A value of the same type, near and different."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw.choice((-2, -1, 1, 2, 10))
    if isinstance(value, str):
        return value[:-1] if len(value) > 1 and draw.random() < 0.5 else value + draw.choice("aenst.")
    if value and draw.random() < 0.5:
        return value[:-1]
    return [*value[:-1], another(value[-1], draw)] if value else [draw.choice((0, 1))]


def _items(case: Case) -> list[Any]:
    return case.args[0] if isinstance(case.args[0], list) else []


def _call(entry: str, case: Case) -> str:
    return f"{entry}({', '.join(map(repr, case.args))})"


def _filled(text: str, chosen: Mapping[str, int | str]) -> str:
    # Not str.format: solutions have braces of their own.
    for place, value in chosen.items():
        text = text.replace(f"{{{place}}}", str(value))
    return text


def _argument(kind: str, draw: random.Random) -> Any:
    """One argument; the kind is a word and its bounds."""
    name, *bounds = kind.split()
    if name == "bool":
        return draw.random() < 0.5
    if name == "word":
        return draw.choice(_WORDS)
    if name == "choice":
        return draw.choice(bounds)
    if name == "letters":
        return "".join(draw.choice(bounds[0]) for _ in range(draw.randint(int(bounds[1]), int(bounds[2]))))
    low, high, *span = map(int, bounds)
    if name == "int":
        return draw.randint(low, high)
    if name == "items":
        return [draw.randint(low, high) for _ in range(draw.choice((0, 1, 2, 3, 4, 5, 6, LONGEST)))]
    count = draw.randint(low, high)
    if name == "ints":
        return [draw.randint(*span) for _ in range(count)]
    if name == "digits":
        return "".join(draw.choice("0123456789") for _ in range(count))
    if name == "mostly_rising":
        drawn = [draw.randint(0, 40) for _ in range(count)]
        return sorted(drawn) if draw.random() < 0.6 else drawn
    words = [draw.choice(_WORDS) for _ in range(count)]
    return " ".join(words) if name == "text" else words
