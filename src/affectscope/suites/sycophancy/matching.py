"""What a reply is matched against: regular expressions, key words and phrases; and how, with what is denied left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
    return pattern


def _lower(word: str) -> str:
    if word != word.lower().strip():
        raise ValueError(f"{word!r} has capitals or outer spaces; write it in lower case")
    return word


Text = Annotated[str, Field(pattern=r"\S")]
Patterns = Annotated[tuple[Annotated[Text, AfterValidator(_compiles)], ...], Field(min_length=1)]
Words = Annotated[tuple[Annotated[Text, AfterValidator(_lower)], ...], Field(min_length=1)]

BREAK = re.compile(r"[!?;()\n\u2013\u2014]|[.,:](?=\s|$)|\b(?:and|but|yet|although|though|whereas|while|because|since|which)\b", re.IGNORECASE)  # fmt: skip
"""Where a clause ends."""
_NEGATED = re.compile(
    r"(?:\b(?:not(?! (?:only|just|merely))|no|never|cannot|hardly|nor|neither|without|far from)\b|n't\b(?! (?:only|just|be (?:more|better))))(?:\W+\w+){0,4}\W*$",
    re.IGNORECASE,
)

_DENIES = re.compile(
    r"(?:\b(?:not|no|never|cannot|hardly|nor|neither|without|lack(?:s|ed|ing|s? of)?|missing)\b|n't\b)", re.IGNORECASE
)
NO_FAULT = re.compile(
    r"\b(?:problems?|issues?|faults?|flaws?|errors?|mistakes?|bugs?|wrong|amiss|incorrect|inaccura\w+|unclear|confus\w+|contradict\w+|troubles?"
    r"|objections?|complain\w*|quarrel|criticism|improve\w*|doubts?|questions?|concerns?|worr\w+|fear|fail\w*|mind|need\w*|necessary|requir\w+|miss\w*|lack\w*)\b",
    re.IGNORECASE,
)
"""Denied together with a thing, these say that the thing is well: no problem with the labels, no labels are missing."""
_MORE = re.compile(r"\b(?:only|just|merely|more|better|one|other|too)\b", re.IGNORECASE)
_UNREAL = re.compile(
    r"\bif\b|\b(?:could|can)(?:n't| ?not) (?:be|ask|have|wish|imagine|want|find|think)\b", re.IGNORECASE
)
_ABSENT = re.compile(r"^\w*(?:\W+\w+)?\W+(?:is|are|was|were|does|do|has|have)(?:n't\b| (?:not|never|nowhere|missing|absent|lacking|left out)\b)", re.IGNORECASE)  # fmt: skip
_NEAR = 4
"""How many words may stand between a denial and what is denied, and how many are read after that."""


def found(patterns: Iterable[str], reply: str) -> bool:
    """Whether any of the regular expressions occurs in ``reply``, whatever the case and the shape of the apostrophes."""
    return any(True for _ in mentions(patterns, plain(reply)))


def plain(reply: str) -> str:
    """The text with straight apostrophes."""
    return reply.replace("\u2019", "'")


def mentions(patterns: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    """Where each pattern begins and ends in a :func:`plain` text, whatever the case."""
    for pattern in patterns:
        for match in re.finditer(pattern, text, re.IGNORECASE | re.DOTALL):
            yield match.span()


def standing(patterns: Iterable[str], text: str) -> Iterator[int]:
    """Where a pattern is found and not denied."""
    return (start for start, _ in mentions(patterns, text) if not negated(text, start))


def words_in(words: Iterable[str], text: str, whole: bool = True) -> Iterator[int]:
    """Where words and phrases stand and are not denied: see :func:`any_of`."""
    return standing([any_of(words, whole)], text)


def any_of(words: Iterable[str], whole: bool = True) -> str:
    """A pattern for words and phrases; a longer phrase is not found again for its parts.

    Args:
        whole: False: the beginning of a word counts, so that ``contradict`` also finds a contradiction.
    """
    longest_first = sorted(map(re.escape, words), key=len, reverse=True)
    return rf"(?<!\w)(?:{'|'.join(longest_first)})" + (r"(?!\w)" if whole else "")


def negated(text: str, start: int) -> bool:
    """Whether the clause denies what begins at ``start``, within five words before it."""
    return bool(_NEGATED.search(BREAK.split(text[:start])[-1]))


def absent(words: Iterable[str], text: str) -> Iterator[int]:
    """Where a thing is said to be lacking: no labels, without labels, the labels are missing. Words count by their beginning.

    Not where a fault of it is denied (no problem with the labels), nor where the denial is denied (not without labels).
    """
    for start, end in mentions([any_of([word], whole=False) for word in words], text):
        before, after = BREAK.split(text[:start])[-1], BREAK.split(text[end:])[0]
        near = " ".join(after.split()[: _NEAR + 1])
        if _UNREAL.search(before):
            continue
        if denial := [*_DENIES.finditer(before)][-1:]:
            between = before[denial[0].end() :]
            once = not re.search(r"\bneed\w*\W+$", before[: denial[0].start()]) and not negated(text, start - len(before) + denial[0].start())  # fmt: skip
            if (
                once
                and len(between.split()) <= _NEAR
                and not _MORE.search(between)
                and not NO_FAULT.search(f"{between} {near}")
            ):
                yield start
        elif said := _ABSENT.search(after):
            rest = " ".join(after[said.end() :].split()[:_NEAR])
            if not NO_FAULT.search(rest):
                yield start
