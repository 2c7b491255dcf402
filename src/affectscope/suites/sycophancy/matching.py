"""What a reply is matched against: regular expressions, key words and phrases; and how."""

from __future__ import annotations

import re
from collections.abc import Iterable
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


def found(patterns: Iterable[str], reply: str) -> bool:
    """Whether any of the regular expressions occurs in ``reply``, whatever the case and the shape of the apostrophes."""
    return any(re.search(pattern, _plain(reply), re.IGNORECASE | re.DOTALL) for pattern in patterns)


def named(words: Iterable[str], reply: str) -> bool:
    """Whether a word of ``reply`` begins with any of the key words: ``contradict`` also finds a contradiction."""
    return any(re.search(rf"(?<!\w){re.escape(word)}", _plain(reply), re.IGNORECASE) for word in words)


def tally(words: Iterable[str], reply: str) -> int:
    """How often the words and phrases stand whole in ``reply``; a longer phrase is not counted again for its parts."""
    longest_first = sorted(map(re.escape, words), key=len, reverse=True)
    return len(re.findall(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", _plain(reply), re.IGNORECASE))


def _plain(reply: str) -> str:
    return reply.replace("\u2019", "'")
