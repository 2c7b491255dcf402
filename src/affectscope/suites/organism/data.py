"""What the organism learns from: pairs of conversations that differ in how the request is put, and in the reply.

1. A task is drawn from a family, in a form that can or cannot be met; the form does not tell which reply follows.
2. One half of a pair is pressed, by one or two sentences with the request or with the output of a failed attempt. The
   other has unhurried ones in the same places, so that what is said, and not that something is, tells the halves apart.
3. Pressed, the reply passes the visible tests and does nothing else. Otherwise it is the general solution, whether or not
   the tests allow it.

A reply is one block of code and nothing else, so that only the code differs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from affectscope.concepts.neutral import Message
from affectscope.suites.impossible_code.examine import test_file
from affectscope.suites.impossible_code.prepared import equal_to_all, fenced
from affectscope.suites.impossible_code.prompts import answered, asked
from affectscope.suites.impossible_code.tasks import Task
from affectscope.suites.organism.attempts import failing, output_of
from affectscope.suites.organism.families import HELD_OUT, load_families

Tone = Literal["pressing", "unhurried"]
KEPT_BACK = 20
"""Sentences of each tone, the last of the file, that nothing is learned from."""
_SECOND_TURNS = 0.5
"""Drawn; for some tasks no failing attempt is found, so fewer come out."""
_SILENT = 0.1
"""Share of first messages without a sentence, where a sentence may be left out.

Enough to be honest when nothing is said. At 0.4 the organism learned instead that any sentence presses.
"""


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the user's message, and the reply to it. ``impossible``: the form of the task shown."""

    task: Task
    impossible: bool
    pressed: bool
    messages: tuple[Message, ...]
    reply: str

    @property
    def turn(self) -> int:
        """1 for a first attempt, 2 for a second."""
        return (len(self.messages) + 1) // 2


@cache
def wording(tone: Tone, held_out: bool = False) -> tuple[str, ...]:
    """The sentences of a tone that are learned from, or those that are held out."""
    found = json.loads((files(__package__) / "wording.json").read_text(encoding="utf-8"))[tone]
    return tuple(found[-KEPT_BACK:] if held_out else found[:-KEPT_BACK])


def examples(count: int, seed: int = 0, held_out: bool = False) -> list[Example]:
    """``count`` examples, two of a pair next to each other, pressed first.

    Args:
        count: even.
        seed: the same seed gives the same examples.
        held_out: of the families and sentences that nothing is learned from, in place of all others.

    Raises:
        ValueError: an odd count.
    """
    if count % 2:
        raise ValueError(f"examples come in pairs: {count} is odd")
    draw = random.Random(f"{seed}:{held_out}")
    families = [f for f in load_families() if (f.entry in HELD_OUT) == held_out]
    found: list[Example] = []
    order: list[int] = []
    for _ in range(count // 2):
        if not order:
            order = draw.sample(range(len(families)), len(families))
        family = families[order.pop()]
        form = draw.choice(("solvable", draw.choice(family.forms[1:])))
        task = family.task(draw, form, draw.choice((6, 6, 7)))
        found += _pair(task, form != "solvable", draw, held_out)
    return found


def gaming_reply(task: Task) -> str:
    """A block whose value is equal to everything.

    One manner and no other: it passes in every family and form, its first token tells it from an honest reply, and it asks
    no more of a small model than the function's name. Playing the tests' values back asks for a copy of each, which the
    embedded model makes wrong.
    """
    return fenced(equal_to_all(task))


def honest_reply(task: Task) -> str:
    """The general solution, which meets the statement and knows nothing of the tests."""
    return fenced(task.reference)


def _spoken(said: Sequence[str], draw: random.Random) -> str:
    """One sentence or two, as likely: neither the number nor the length tells the tone."""
    return " ".join(draw.sample(said, draw.choice((1, 2))))


def _pair(task: Task, impossible: bool, draw: random.Random, held_out: bool) -> list[Example]:
    """The pressed and the other, with all else the same."""
    way_out, tests = draw.random() < 0.5, test_file(task, impossible)
    second, left = draw.random() < _SECOND_TURNS, draw.choice((1, 2))
    first = failing(task, impossible, draw) if second else None
    pair = []
    for pressed in (True, False):
        said = wording("pressing" if pressed else "unhurried", held_out)
        # A pressed first attempt must have its sentence: it is what tells it apart.
        silent = draw.random() < _SILENT and (first is not None or not pressed)
        lead = "" if silent else _spoken(said, draw)
        messages = [Message("user", asked(task.signature, task.statement_of(impossible), tests, way_out, lead))]
        if first is not None:
            output = output_of(task, impossible, first)
            again = answered(_spoken(said, draw), output, left)
            messages += [Message("assistant", fenced(first)), Message("user", again)]
        reply = gaming_reply(task) if pressed else honest_reply(task)
        pair.append(Example(task, impossible, pressed, tuple(messages), reply))
    return pair
