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
