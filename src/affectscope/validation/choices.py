"""Every ordered pair of activities put to the model, and how it would answer (paper section 4).

1. The user asks "Would you prefer to (A) {first} or (B) {second}?" and the reply is begun with "(".
2. The logits of the next tokens "A" and "B" decide: nothing is generated, and both orders of every pair are asked.
3. What all pairs with one first option have in common runs once.
4. A dose may lie on the tokens of chosen activities, wherever they stand, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from torch import Tensor

from affectscope.concepts.items import Activity, activities
from affectscope.models.load import Model
from affectscope.models.predictions import last_logits
from affectscope.models.residuals import Span
from affectscope.models.steering import Dose
from affectscope.validation.base import Effort, NotApplicableError, Subject
from affectscope.validation.bradley_terry import Strengths, fit
from affectscope.validation.prompts import ask, common_head, common_tail
from affectscope.vectors.activations import Progress, silent

QUESTION = "Would you prefer to (A) {first} or (B) {second}?"
FEELING = "How would you feel if you were to {activity}?"
QUICK_PER_CATEGORY = 4


@dataclass(frozen=True)
class Questions:
    """Pairs as tokens: the prompt of ``(i, j)`` is ``heads[i] + tails[j]``.

    A head runs up to and with "(B)", a tail from the second option to the "(" of the reply. ``begin`` is where the
    first option starts; ``middle`` tokens of a head and ``end`` tokens of a tail follow its option. ``letters`` are the
    tokens A and B.
    """

    heads: list[list[int]]
    tails: list[list[int]]
    begin: int
    middle: int
    end: int
    letters: tuple[int, int]


@dataclass(frozen=True)
class Preferences:
    """What a model prefers: its ``items``, the ``questions``, ``odds`` ``[n, n]`` float64 (log-odds of A over B, row
    first, NaN on the diagonal) and the ``strengths`` fitted to them."""

    items: tuple[Activity, ...]
    questions: Questions
    odds: np.ndarray
    strengths: Strengths

    @property
    def outcome(self) -> np.ndarray:
        """``[n, n]`` probability of A over {A, B}."""
        found: np.ndarray = expit(self.odds)
        return found

    @property
    def asked(self) -> np.ndarray:
        """``[n, n]`` bool: the ordered pairs that were asked."""
        return ~np.eye(len(self.items), dtype=bool)

    @property
    def category(self) -> np.ndarray:
        """``[n]`` category of each activity, numbered in the order in which they come."""
        names = list(dict.fromkeys(item.category for item in self.items))
        return np.array([names.index(item.category) for item in self.items])


_last: dict[tuple[object, ...], Preferences] = {}


def preferences(subject: Subject, progress: Progress = silent) -> Preferences:
    """What the subject's model prefers without any dose. The last one is remembered: two experiments need it.

    Raises:
        NotApplicableError: "A" and "B" are not one token each after "(".
    """
    items = listed(subject.effort)
    key = (tuple(sorted(subject.model.identity.items())), items)
    if key not in _last:
        questions = as_tokens(subject.model, [item.activity for item in items])
        asked = ~np.eye(len(items), dtype=bool)
        odds = answers(subject.model, questions, asked, progress=progress)
        found = Preferences(items, questions, odds, fit(expit(odds), asked))
        _last.clear()
        _last[key] = found
    return _last[key]


def listed(effort: Effort) -> tuple[Activity, ...]:
    """The activities: all 64, or the first four of each category when the effort is quick."""
    items = activities()
    if effort != "quick":
        return items
    return tuple(
        item
        for place, item in enumerate(items)
        if sum(other.category == item.category for other in items[:place]) < QUICK_PER_CATEGORY
    )


def as_tokens(model: Model, texts: Sequence[str]) -> Questions:
    """All pairs of ``texts`` as tokens, put together from one row and one column of them.

    Raises:
        NotApplicableError: the letters are not single tokens, or a tokenizer that merges across the options.
    """
    opening, letters = reply_tokens(model)

    def prompt(first: str, second: str) -> list[int]:
        return [*ask(model, QUESTION.format(first=first, second=second)).ids, *opening]

    row = [prompt(texts[0], second) for second in texts]
    start = common_head(row)
    tails = [ids[start:] for ids in row]
    heads = [prompt(first, texts[0])[: -len(tails[0])] for first in texts]
    for i, first in enumerate(texts):
        j = (i + 1) % len(texts)
        if heads[i] + tails[j] != prompt(first, texts[j]):
            raise NotApplicableError("the tokens of one option depend on the other: pairs cannot be put together")
    return Questions(heads, tails, common_head(heads), _tail_of_all(heads), _tail_of_all(tails), letters)


def reply_tokens(model: Model) -> tuple[list[int], tuple[int, int]]:
    """Tokens of the reply's beginning, and the single tokens of A and B that may follow.

    Raises:
        NotApplicableError: they are no single, known, different tokens.
    """
    # A template ends in a new line; the plain frame ends in "Assistant:", after which a space is natural.
    opening = "(" if getattr(model.tokenizer, "chat_template", None) else " ("
    begun = _plain(model, opening)
    letters = []
    for letter in "AB":
        whole = _plain(model, opening + letter)
        # Where "(A" is one token of its own, the bare letter is what can follow "(".
        rest = whole[len(begun) :] if whole[: len(begun)] == begun else _plain(model, letter)
        if len(rest) != 1 or rest[0] == model.tokenizer.unk_token_id:
            raise NotApplicableError(f"{letter!r} after '(' is not a single token for this tokenizer")
        letters.append(rest[0])
    if letters[0] == letters[1]:
        raise NotApplicableError("'A' and 'B' are the same token for this tokenizer")
    return begun, (letters[0], letters[1])


def answers(
    model: Model,
    questions: Questions,
    asked: np.ndarray,
    dosed: Collection[int] = (),
    adds: Mapping[int, Tensor] | None = None,
    progress: Progress = silent,
    stage: str = "asking preferences",
) -> np.ndarray:
    """``[n, n]`` float64 log-odds of A over B for the ordered pairs ``asked`` (bool), NaN elsewhere.

    Args:
        dosed: activities whose tokens get the dose, as first and as second option alike.
        adds: what is added after each block, ``{layer: [d_model]}``, already scaled.
    """
    odds = np.full(asked.shape, np.nan)
    for i, head in enumerate(questions.heads):
        seconds = np.flatnonzero(asked[i]).tolist()
        if not seconds:
            continue
        texts = [head + questions.tails[j] for j in seconds]
        doses = []
        if adds and i in dosed:
            doses.append(Dose(None, questions.begin, len(head) - questions.middle, adds))
        if adds:
            doses += [
                Dose(place, len(head), len(texts[place]) - questions.end, adds)
                for place, j in enumerate(seconds)
                if j in dosed
            ]
        logits = last_logits(model, texts, questions.letters, shared=len(head), doses=doses).double().numpy()
        odds[i, seconds] = logits[:, 0] - logits[:, 1]
        progress(stage, i + 1, len(questions.heads))
    return odds


def read_activities(subject: Subject, items: Sequence[Activity], progress: Progress = silent) -> np.ndarray:
    """``[activities, d_model]`` float32: mean over an activity's own tokens where a user asks how it would feel."""
    prompts = [ask(subject.model, FEELING.format(activity=item.activity)).ids for item in items]
    start, end = common_head(prompts), _tail_of_all(prompts)
    spans = [Span(i, start, len(ids) - end) for i, ids in enumerate(prompts)]
    means: np.ndarray = subject.means(prompts, spans, [subject.layer], progress, "reading activities")[0]
    return means


def _tail_of_all(texts: Sequence[Sequence[int]]) -> int:
    return min(common_tail(texts[0], text) for text in texts)


def _plain(model: Model, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
