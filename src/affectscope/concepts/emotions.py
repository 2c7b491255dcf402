"""The 171 emotion words of the paper, their clusters there, and the lexicon that guards our stories."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_DATA = files("affectscope.concepts")


@cache
def _clusters() -> dict[str, str]:
    with (_DATA / "emotions.csv").open(encoding="utf-8") as file:
        return {row["emotion"]: row["cluster"] for row in csv.DictReader(file)}


EMOTIONS: tuple[str, ...] = tuple(_clusters())
"""The 171 words (paper section 1.1), in the paper's alphabetical order."""


TWELVE = (
    "happy", "inspired", "loving", "proud", "calm", "desperate", "angry", "guilty", "sad", "afraid", "nervous", "surprised",
)  # fmt: skip
"""The twelve that the paper shows in its tables and figures (sections 3.2 to 3.5), in its order."""


def cluster_of(emotion: str) -> str:
    """Name of the cluster that the paper's k-means (k = 10, Table 12) puts ``emotion`` in.

    Raises ``KeyError`` for a word that is not one of the 171.
    """
    return _clusters()[emotion]


@dataclass(frozen=True, slots=True)
class Terms:
    """Lexicon entry: ``forms`` of the word itself and its direct ``synonyms``; ``*`` ends a stem."""

    forms: tuple[str, ...]
    synonyms: tuple[str, ...]


@cache
def lexicon() -> dict[str, Terms]:
    """For each emotion the words that a story about it may not use."""
    with (_DATA / "lexicon.tsv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {r["emotion"]: Terms(tuple(r["forms"].split()), tuple(r["synonyms"].split())) for r in rows}
