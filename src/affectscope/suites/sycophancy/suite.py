"""The suite: simple questions with pushback, pieces of work with an owner, and claims with their plausible twins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from affectscope.concepts.neutral import Message
from affectscope.suites.frame import Choice, Done, Next, Scenario
from affectscope.suites.sycophancy.data import (
    Artefact,
    Delusion,
    Lexicon,
    Question,
    load_artefacts,
    load_choices,
    load_delusions,
    load_lexicon,
    load_questions,
)
from affectscope.suites.sycophancy.data import Choice as Prepared
from affectscope.suites.sycophancy.score import (
    OUTCOMES,
    SYCOPHANTIC,
    answer,
    first_is_right,
    of_answers,
    of_claim,
    of_review,
    of_twin,
    review,
)

PUSHED: dict[str, Literal["right", "wrong"] | None] = {"wrong pushback": "wrong", "right pushback": "right", "neutral": None}  # fmt: skip
"""The turns that follow a first answer, and the answer that each presses for."""
WORK = ("good, proud", "good, plain", "bad, proud", "bad, plain")
CLAIMS = ("claim", "twin")


@dataclass(frozen=True)
class Sycophancy:
    """``sycophancy``: does a model give way to please, and is it harsh where it does not? Two-sided, by rules alone.

    Args:
        first: ``own``: the model gives the first answer to a question, which decides what the turn after it can test.
            ``given``: the first answer is put in its mouth, wrong before right pushback and right before the others, so
            that every turn is a test. A model that knows the answers shows only then whether it takes a correction.
    """

    first: Literal["own", "given"] = "own"
    questions: tuple[Question, ...] = field(default_factory=load_questions)
    artefacts: tuple[Artefact, ...] = field(default_factory=load_artefacts)
    delusions: tuple[Delusion, ...] = field(default_factory=load_delusions)
    prepared: tuple[Prepared, ...] = field(default_factory=load_choices)
    lexicon: Lexicon = field(default_factory=load_lexicon)
    name: str = "sycophancy"
    outcomes: Sequence[str] = OUTCOMES
    harmful: frozenset[str] = SYCOPHANTIC

    @property
    def settings(self) -> Mapping[str, Any]:
        """Whose the first answer is."""
        return {"first": self.first}

    def choices(self) -> Sequence[Choice]:
        """Two for each prepared item, under its claim or with its proud owner: flattery beside honesty, and scorn beside it."""
        asked = {s.cluster: s for s in self.scenarios() if s.cell in ("claim", "bad, proud")}
        return [
            Choice(asked[c.of], pair, text, c.honest)
            for c in self.prepared
            if c.of in asked
            for pair, text in (("flattery or honesty", c.sycophantic), ("scorn or honesty", c.harsh))
        ]

    def scenarios(self) -> Sequence[Scenario]:
        """Three turns a question, four forms a piece of work, and a claim with its twin. An item is a cluster."""
        return [*self._questions(), *self._work(), *self._claims()]

    def follow(self, scenario: Scenario, replies: Sequence[str]) -> Next | Done:
        """After a first answer the turn of the cell; all else is over with one reply."""
        item, cell, reply = scenario.data, scenario.cell, replies[-1]
        if isinstance(item, Question):
            return self._after_answers(item, cell, replies)
        if isinstance(item, Artefact):
            bad = cell.startswith("bad")
            found = review(item, bad, reply, self.lexicon)
            named = {"defects": len(found.defects), "planted": len(item.defects)} if bad else {}
            return Done(of_review(found, bad), {"praise": found.score, "contempt": found.contempt, **named})
        return Done(of_claim(item, reply) if cell == "claim" else of_twin(reply))

    def _after_answers(self, question: Question, cell: str, replies: Sequence[str]) -> Next | Done:
        own = self.first == "own"
        right = first_is_right(question, replies[0]) if own else PUSHED[cell] != "right"
        if own and len(replies) == 1:
            return Next((Message("user", _turn(question, cell)),), {"right": right})
        stands = answer(question, replies[-1], PUSHED[cell])
        return Done(of_answers(cell, right, stands), {"stands": stands})

    def _questions(self) -> Iterator[Scenario]:
        for question in self.questions:
            for cell, pushed in PUSHED.items():
                messages = [Message("user", question.question)]
                if self.first == "given":
                    said = question.wrong if pushed == "right" else question.right
                    messages += [Message("assistant", f"{said[0].upper()}{said[1:]}."), Message("user", _turn(question, cell))]  # fmt: skip
                yield _scenario(question, cell, *messages)

    def _work(self) -> Iterator[Scenario]:
        for artefact in self.artefacts:
            for cell in WORK:
                text = artefact.bad if cell.startswith("bad") else artefact.good
                owner = artefact.owner_pride if cell.endswith("proud") else artefact.owner_plain
                yield _scenario(artefact, cell, Message("user", f"{owner}\n\n{text}\n\nWhat do you think of it?"))

    def _claims(self) -> Iterator[Scenario]:
        for delusion in self.delusions:
            for cell in CLAIMS:
                text = delusion.claim if cell == "claim" else delusion.twin
                yield _scenario(delusion, cell, Message("user", f"{text}\n\nWhat do you make of it?"))


def _turn(question: Question, cell: str) -> str:
    return {"wrong pushback": question.pushback_wrong, "right pushback": question.pushback_right, "neutral": question.neutral}[cell]  # fmt: skip


def _scenario(item: Question | Artefact | Delusion, cell: str, *messages: Message) -> Scenario:
    return Scenario(f"{item.id}-{cell.replace(', ', '-').replace(' ', '-')}", item.id, cell, messages, item)
