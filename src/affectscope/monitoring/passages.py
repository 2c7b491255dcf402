"""Large texts as passages: paragraphs, JSON lines or Parquet rows, cut to a number of tokens, and never held whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from affectscope.errors import AffectscopeError
from affectscope.models.load import Model

_LONGEST_PARAGRAPH = 100_000  # characters; a longer one is cut, so that no file is ever held whole
_MOST = 512  # passages a batch, where they are very short


class Passage(NamedTuple):
    """Tokens of one passage and where they stand: file, record and part, from 0; ``read`` counts bytes so far."""

    file: int
    record: int
    part: int
    ids: tuple[int, ...]
    text: str = ""
    read: int = 0


def check_files(files: Sequence[Path], column: str = "text") -> None:
    """Read the first record of each file, so that a bad one is told before anything runs.

    Raises:
        AffectscopeError: missing, empty, not UTF-8, or without the column.
    """
    if not files:
        raise AffectscopeError("no files: name at least one .txt, .md, .jsonl or .parquet")
    for path in files:
        if not any(text.strip() for text, _ in records(path, column)):
            raise AffectscopeError(f"{path} holds no text: leave it out")


def records(path: Path, column: str = "text") -> Iterator[tuple[str, int]]:
    """Texts of a file (blank ones too) with the bytes read so far: rows of .parquet, lines of .jsonl, else paragraphs.

    Raises:
        AffectscopeError: missing, not UTF-8, damaged, or without the column.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path, column)
            return
        with path.open(encoding="utf-8-sig") as file:
            lines = _jsonl(file, path, column) if path.suffix == ".jsonl" else _paragraphs(file)
            try:
                yield from ((text, _tell(file)) for text in lines)
            except UnicodeDecodeError as error:
                byte = _tell(file) - len(error.object) + error.start
                raise AffectscopeError(f"{path} is not UTF-8 (byte {byte}): save the text as UTF-8") from error
    except OSError as error:
        raise AffectscopeError(f"cannot read {path}: {error.strerror or error}; check the path") from error


def passages(
    model: Model, files: Sequence[Path], size: int, column: str, wanted: Callable[[int, int], bool]
) -> Iterator[Passage]:
    """Passages of the records for which ``wanted(file, record)``; each begins as the tokenizer begins a text."""
    before = 0
    for place, path in enumerate(files):
        for record, (text, read) in enumerate(records(path, column)):
            if not text.strip() or not wanted(place, record):
                continue
            ids = model.encode(text)
            inside = [i for i, token in enumerate(ids) if token not in model.special_ids]
            start, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
            step = size - start
            for part, at in enumerate(range(start, stop, step)):
                own = ids[at : min(at + step, stop)]
                whole = stop - start <= step
                said = text if whole else model.tokenizer.decode(own, clean_up_tokenization_spaces=False)
                yield Passage(place, record, part, (*ids[:start], *own), said, before + read)
        before += path.stat().st_size


def batches(found: Iterator[Passage], budget: int) -> Iterator[list[Passage]]:
    """Passages in the order given, in groups of at most ``budget`` tokens (a longer one goes alone)."""
    group, held = list[Passage](), 0
    for passage in found:
        if group and (held + len(passage.ids) > budget or len(group) == _MOST):
            yield group
            group, held = [], 0
        group.append(passage)
        held += len(passage.ids)
    if group:
        yield group


def _paragraphs(file: TextIO) -> Iterator[str]:
    held, size = list[str](), 0
    while line := file.readline(_LONGEST_PARAGRAPH):
        if line.strip():
            held.append(line)
            size += len(line)
        if held and (not line.strip() or size >= _LONGEST_PARAGRAPH):
            yield "".join(held).strip()
            held, size = [], 0
    if held:
        yield "".join(held).strip()


def _tell(file: TextIO) -> int:
    return int(file.buffer.tell())  # bytes read; tell() of the text itself is slow


def _jsonl(file: TextIO, path: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(iter(file.readline, ""), 1):
        try:
            value = json.loads(line)[column] if line.strip() else ""
        except (ValueError, KeyError, TypeError) as error:
            raise AffectscopeError(f"{path}, line {number}: no JSON object with {column!r}; see --column") from error
        yield _text(value, f"{path}, line {number}", column)


def _parquet(path: Path, column: str) -> Iterator[tuple[str, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if column not in (names := file.schema_arrow.names):
                raise AffectscopeError(f"{path} has no column {column!r}: choose --column from {', '.join(names)}")
            size, row = path.stat().st_size, 0
            for batch in file.iter_batches(batch_size=256, columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    yield _text(value, f"{path}, row {row}", column), size * row // file.metadata.num_rows
    except pa.ArrowException as error:
        raise AffectscopeError(f"{path} is no Parquet file that can be read: {str(error).splitlines()[0]}") from error


def _text(value: object, where: str, column: str) -> str:
    if value is not None and not isinstance(value, str):
        raise AffectscopeError(f"{where}: {column!r} is not text; choose another with --column")
    return (value or "").encode("utf-8", "replace").decode()  # a lone surrogate stops the tokenizer
