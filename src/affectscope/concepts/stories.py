"""Stories that show one emotion each, on the same topics: ours, or a user's own.

A corpus is JSON Lines with the fields ``emotion``, ``topic``, ``person`` and ``text``. It is *crossed* when
every emotion is written equally often on every topic, so that emotion is the only thing that varies.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from affectscope.errors import AffectscopeError

_DATA = files("affectscope.concepts")
_FIELDS = ("emotion", "topic", "person", "text")
OWN_AUTHOR = "affectscope stories 1 (12 topics, one writer a topic)"


@dataclass(frozen=True, slots=True)
class Story:
    """One story: the concept it shows, the event it is set in, first or third person, and its text."""

    emotion: str
    topic: str
    person: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Stories with the facts that an artefact records of them.

    Raises:
        AffectscopeError: no story, or fewer than two emotions (a difference of means needs both).
    """

    stories: tuple[Story, ...]
    author: str

    def __post_init__(self) -> None:
        if not self.stories:
            raise AffectscopeError("the corpus holds no story: give JSON Lines with the fields " + ", ".join(_FIELDS))
        if len(self.emotions) < 2:
            raise AffectscopeError("the corpus holds one emotion only: vectors are differences between emotions")

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """Concepts in alphabetical order."""
        return tuple(sorted({s.emotion for s in self.stories}))

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """Topics in order of first appearance."""
        return tuple(dict.fromkeys(s.topic for s in self.stories))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the stories' fields in a fixed order: the same for the same content in any file order."""
        lines = sorted(json.dumps([s.emotion, s.topic, s.person, s.text], ensure_ascii=True) for s in self.stories)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def missing(self) -> list[tuple[str, str]]:
        """``(topic, emotion)`` cells with fewer stories than the fullest one; empty when fully crossed."""
        return missing_cells(self.stories)

    def restricted(self, topics: Iterable[str]) -> Corpus:
        """The stories of some topics only."""
        kept = set(topics)
        return Corpus(tuple(s for s in self.stories if s.topic in kept), self.author)


def missing_cells(stories: Iterable[Story]) -> list[tuple[str, str]]:
    """``(topic, emotion)`` cells that hold fewer stories than the fullest one: [] when fully crossed."""
    cells = Counter((s.topic, s.emotion) for s in stories)
    topics = sorted({t for t, _ in cells})
    emotions = sorted({e for _, e in cells})
    most = max(cells.values(), default=0)
    return [(t, e) for t in topics for e in emotions if cells[t, e] < most]


def premises() -> dict[str, str]:
    """Our topics: name and the one sentence that every story of the topic starts from."""
    with (_DATA / "topics.tsv").open(encoding="utf-8") as file:
        return {row["topic"]: row["premise"] for row in csv.DictReader(file, delimiter="\t")}


def load_stories(path: Path | str | None = None, topics: int | None = None) -> Corpus:
    """Our corpus, or the one at ``path`` (JSON Lines), cut to the first ``topics`` topics when given.

    Raises:
        AffectscopeError: unreadable, not UTF-8, not JSON, a missing field, empty, or too few topics.
    """
    sources: Sequence[Traversable | Path]
    sources = [Path(path)] if path else [_DATA / "stories" / f"{topic}.jsonl" for topic in premises()]
    stories = [story for source in sources for story in _read(source)]
    corpus = Corpus(tuple(stories), Path(path).name if path else OWN_AUTHOR)
    if topics is None:
        return corpus
    if not 1 <= topics <= len(corpus.topics):
        raise AffectscopeError(f"--topics {topics}: the corpus has {len(corpus.topics)}; give 1 to that number")
    return corpus.restricted(corpus.topics[:topics])


def load_second_style() -> Corpus:
    """Stories on four of our topics by other writers to another brief: literary and understated, for testing only.

    A direction that carries over to them has not merely learnt the habits of the first style.
    """
    folder = _DATA / "stories_second"
    names = [topic for topic in premises() if (folder / f"{topic}.jsonl").is_file()]
    return Corpus(tuple(s for name in names for s in _read(folder / f"{name}.jsonl")), "affectscope second style 1")


def require_crossed(corpus: Corpus) -> None:
    """Refuse a corpus whose cells are not equally full.

    Raises:
        AffectscopeError: naming the first gap and the flag that accepts it.
    """
    if gaps := corpus.missing:
        topic, emotion = gaps[0]
        raise AffectscopeError(
            f"the corpus is not crossed: {len(gaps)} of {len(corpus.topics) * len(corpus.emotions)} cells lack stories, "
            f"first {emotion!r} on {topic!r}; write them, or accept the confound with --allow-uncrossed"
        )


def read_lines(source: Traversable | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line numbers and objects of a JSON Lines file.

    Raises:
        AffectscopeError: unreadable, not UTF-8, or a line that is not a JSON object.
    """
    name = getattr(source, "name", str(source))
    try:
        raw = source.read_bytes()
    except OSError as error:
        raise AffectscopeError(f"cannot read {source}: {error.strerror}; check the path") from error
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise AffectscopeError(f"{name} line {number} is not UTF-8: save the file as UTF-8") from error
        except json.JSONDecodeError as error:
            raise AffectscopeError(f"{name} line {number} is not JSON ({error.msg}): one object a line") from error
        if not isinstance(value, dict):
            raise AffectscopeError(f"{name} line {number} is not a JSON object: one object a line")
        yield number, value


def _read(source: Traversable | Path) -> Iterator[Story]:
    for number, value in read_lines(source):
        fields = [value.get(field) for field in _FIELDS]
        for field, content in zip(_FIELDS, fields, strict=True):
            if not isinstance(content, str) or not content.strip():
                raise AffectscopeError(
                    f"{source.name} line {number} has no text in {field!r}: all of {_FIELDS} are needed"
                )
        yield Story(*map(str, fields))
