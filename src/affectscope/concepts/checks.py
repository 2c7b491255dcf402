"""What a story corpus must satisfy before anybody extracts a vector from it.

The paper's generation prompt forbids the emotion word and its direct synonyms (section 1.3). Here that
rule is a lexicon and a regular expression, and the corpus is also held to being crossed, to a length,
and to not being written from a template. Everything is pure Python on strings, so that a user's own
corpus can be checked before a model is loaded.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from affectscope.concepts.emotions import EMOTIONS, cluster_of, lexicon
from affectscope.concepts.stories import Corpus, Story

MIN_WORDS, MAX_WORDS = 80, 120

_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
_SENTENCE = re.compile(r"(?<=[.!?])[\"”’']?\s+")

# The words that make a sentence's skeleton. Everything else is masked when frames are compared.
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "but",
        "so",
        "if",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "of",
        "off",
        "on",
        "onto",
        "out",
        "over",
        "through",
        "to",
        "up",
        "with",
        "without",
        "i",
        "me",
        "my",
        "we",
        "us",
        "our",
        "you",
        "your",
        "he",
        "him",
        "his",
        "she",
        "her",
        "it",
        "its",
        "they",
        "them",
        "their",
        "this",
        "that",
        "these",
        "those",
        "there",
        "is",
        "was",
        "were",
        "are",
        "be",
        "been",
        "being",
        "am",
        "had",
        "has",
        "have",
        "do",
        "did",
        "does",
        "not",
        "no",
        "never",
        "could",
        "would",
        "should",
        "might",
        "must",
        "will",
        "can",
        "than",
        "then",
        "when",
        "while",
        "where",
        "who",
        "what",
        "which",
        "how",
        "all",
        "one",
    ]
)


def words(text: str) -> list[str]:
    """Lower-cased words of ``text``; punctuation and digits are dropped."""
    return _WORD.findall(text.lower())


def _term(term: str) -> str:
    """Regular expression of one lexicon entry: ``*`` ends a stem, ``_`` is a space."""
    body = re.escape(term.rstrip("*")).replace("_", r"[\s-]+").replace(r"\-", r"[\s-]?")
    return body + (r"[a-z]*" if term.endswith("*") else "")


@cache
def forbidden(emotion: str) -> re.Pattern[str]:
    """Words that a story about ``emotion`` may not use.

    The forms and direct synonyms of the emotion itself, and the forms of every emotion that shares its
    cluster in the paper's k = 10 partition, so that near-synonyms are told apart by what happens.
    """
    own = lexicon()[emotion]
    terms = set(own.forms) | set(own.synonyms)
    for other in EMOTIONS:
        if cluster_of(other) == cluster_of(emotion):
            terms |= set(lexicon()[other].forms)
    alternatives = "|".join(sorted(map(_term, terms), key=len, reverse=True))
    return re.compile(rf"(?<![a-z])(?:{alternatives})(?![a-z])", re.IGNORECASE)


def story_problems(story: Story) -> list[str]:
    """Reasons, in words, why one story does not fit; an empty list when it does."""
    problems = []
    count = len(story.text.split())
    if not MIN_WORDS <= count <= MAX_WORDS:
        problems.append(f"{count} words, not {MIN_WORDS}-{MAX_WORDS}")
    if found := sorted({m.lower() for m in forbidden(story.emotion).findall(story.text)}):
        problems.append("forbidden: " + ", ".join(found))
    return problems


def shared_runs(stories: Sequence[Story], length: int = 8, most: int = 3) -> dict[str, int]:
    """Runs of ``length`` words that stand in more than ``most`` stories, with their story counts."""
    holders: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for index, story in enumerate(stories):
        tokens = words(story.text)
        for start in range(len(tokens) - length + 1):
            holders[tuple(tokens[start : start + length])].add(index)
    return {" ".join(run): len(found) for run, found in holders.items() if len(found) > most}


def commonest_opening(stories: Sequence[Story], length: int = 4) -> tuple[str, float]:
    """The commonest first ``length`` words and the share of stories that open with them."""
    return _commonest([{" ".join(words(s.text)[:length])} for s in stories])


def commonest_frame(stories: Sequence[Story], shortest: int = 6) -> tuple[str, float]:
    """The commonest sentence skeleton and the share of stories that hold it.

    A frame is a sentence of at least ``shortest`` words in which every content word is masked.
    """
    frames = []
    for story in stories:
        sentences = (words(s) for s in _SENTENCE.split(story.text))
        frames.append(
            {" ".join(w if w in _FUNCTION_WORDS else "_" for w in s) for s in sentences if len(s) >= shortest}
        )
    return _commonest(frames)


def type_token_ratio(stories: Iterable[Story], window: int = 1000) -> float:
    """Mean share of distinct words over consecutive windows of ``window`` words (so size does not matter)."""
    tokens = [w for s in stories for w in words(s.text)]
    starts = range(0, max(len(tokens) - window, 0) + 1, window)
    ratios = [len(set(chunk)) / len(chunk) for i in starts if (chunk := tokens[i : i + window])]
    return sum(ratios) / len(ratios) if ratios else 0.0


def _commonest(sets: list[set[str]]) -> tuple[str, float]:
    counts = Counter(item for found in sets for item in found)
    if not counts:
        return "", 0.0
    item, count = counts.most_common(1)[0]
    return item, count / len(sets)


def corpus_report(corpus: Corpus) -> dict[str, Any]:
    """What a corpus is like and, under ``problems``, what is wrong with it. Works on concepts of a user's own too."""
    stories = corpus.stories
    problems = [f"missing: {emotion} on {topic}" for topic, emotion in corpus.missing]
    known = [s for s in stories if s.emotion in EMOTIONS]
    problems += [f"{s.emotion} on {s.topic}: {p}" for s in known for p in story_problems(s)]
    problems += [f"in {n} stories: {run}" for run, n in shared_runs(stories).items()]
    opening, opening_share = commonest_opening(stories)
    frame, frame_share = commonest_frame(stories)
    lengths = [len(s.text.split()) for s in stories]
    return {
        "stories": len(stories),
        "emotions": len(corpus.emotions),
        "topics": len(corpus.topics),
        "first person (%)": round(100 * sum(s.person == "first" for s in stories) / len(stories), 1),
        "words (shortest, mean, longest)": [min(lengths), round(sum(lengths) / len(lengths), 1), max(lengths)],
        "commonest opening": f"{opening!r}, {100 * opening_share:.2f} % of stories",
        "commonest frame": f"{frame!r}, {100 * frame_share:.2f} % of stories",
        "distinct words per 1,000": round(1000 * type_token_ratio(stories)),
        "hash": corpus.hash,
        "problems": problems,
    }
