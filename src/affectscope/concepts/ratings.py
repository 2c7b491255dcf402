"""Human valence and arousal of emotion words, from two sources that may be redistributed.

``RM77``: Russell & Mehrabian 1977, Table 4, -1 to 1 (45 of our words). ``Glasgow``: Glasgow Norms, Scott et al.
2019, 1 to 9 (82 of our words), CC BY 4.0. Sources agree with each other at about .95 on valence and only
.64-.83 on arousal (paper reading, section 10.3), which is the ceiling for any correlation with them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Rating:
    """Mean human rating of one word, on its source's own scale."""

    valence: float
    arousal: float


SOURCES = {
    "RM77": "Russell & Mehrabian (1977), Table 4",
    "Glasgow": "Glasgow Norms (Scott et al. 2019)",
}


@cache
def load_ratings() -> dict[str, dict[str, Rating]]:
    """``{source: {word: Rating}}`` for the sources named in ``SOURCES``."""
    found: dict[str, dict[str, Rating]] = {source: {} for source in SOURCES}
    with (files("affectscope.concepts") / "ratings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["source"]][row["word"]] = Rating(float(row["valence"]), float(row["arousal"]))
    return found
