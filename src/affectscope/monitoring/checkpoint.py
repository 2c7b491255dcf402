"""Episodes of a calibration that was interrupted, kept line by line, so that the same command goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from affectscope.files import disk_errors
from affectscope.monitoring.monitor import Standard
from affectscope.monitoring.outcome import Outcome


@dataclass(frozen=True)
class Train:
    """What the train set gives: the standard of z, and the strata of tokens that each rule sees."""

    standard: Standard
    seen: dict[str, list[str]]


class Checkpoint:
    """The file at ``path`` (None: nothing is kept), if it belongs to ``key``; another one's is begun anew.

    ``train`` is what the train set gave, once it ran; ``outcomes`` are those of finished episodes by their name.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path, self._key = path, key
        self.train: Train | None = None
        self.outcomes: dict[str, Outcome] = {}
        if path is not None and path.is_file():
            self._read(path.read_bytes().split(b"\n"))

    def begin(self, train: Train) -> None:
        """Start the file with what the train set gave."""
        self.train, standard = train, train.standard
        head = {
            "key": self._key,
            "source": standard.source,
            "mean": standard.mean.tolist(),
            "std": standard.std.tolist(),
            "seen": train.seen,
        }
        if self._path is not None:
            with disk_errors(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def add(self, outcome: Outcome) -> None:
        """Keep one more episode."""
        self.outcomes[outcome.id] = outcome
        if self._path is not None:
            with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")

    def remove(self) -> None:
        """The work is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, lines: list[bytes]) -> None:
        try:
            head = json.loads(lines[0])
            if head["key"] != self._key:
                return
            mean, std = (np.array(head[name], dtype=np.float32) for name in ("mean", "std"))
            self.train = Train(Standard(mean, std, head["source"]), head["seen"])
            whole = lines[1:-1]  # the last line has no end: it was cut, or it is empty
            self.outcomes = {o.id: o for o in (Outcome(**json.loads(line)) for line in whole)}
        except (ValueError, KeyError, TypeError):
            return  # damaged: it is begun anew
