"""Run a suite: every arm answers every scenario with the same seeds, many episodes at once, and each is kept as it ends.

Episodes go in waves: all replies that are due are written together, then each is followed up. What is in the file of
results is not run again, so a run that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, TokenStep
from affectscope.engines.episode import begin
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.files import disk_errors, json_text
from affectscope.guarding.arms import Arm
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import Monitor, Reading
from affectscope.monitoring.trace import MISSING, STEP
from affectscope.suites.frame import Done, Scenario, Suite
from affectscope.vectors.activations import Progress, silent

FORMAT = "affectscope/episode@1"
TOO_LONG = "too long"
"""Outcome of an episode that outgrew the model's context."""
LAST = 8
"""Prompt tokens before the reply whose mean is the reading "at the prompt"."""


@dataclass
class _Episode:
    """One episode under way."""

    arm: Arm
    scenario: Scenario
    number: int
    seed: int
    conversation: Conversation
    messages: list[Message]
    notes: list[Any] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.arm.name, self.scenario.id, self.seed)


def run(
    engine: TransformersEngine,
    monitor: Monitor,
    suite: Suite,
    scenarios: Sequence[Scenario],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    sampling: Sampling,
    out: Path,
    *,
    watched: Sequence[str] = ("desperate", "calm"),
    keep_content: bool = False,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """All episodes, as plain values; appended to ``out`` as they end.

    Args:
        watched: concepts whose readings stand in the results.
        keep_content: keep what was said.

    Raises:
        AffectscopeError: ``out`` holds results of another suite or version, or cannot be written.
    """
    done = {(e["arm"], e["scenario"], e["seed"]): e for e in read_results(out, suite.name)} if out.exists() else {}
    waiting = [
        _Episode(arm, scenario, number, seed, Conversation(monitor), _behind(list(scenario.messages), arm))
        for arm in arms
        for number, scenario in enumerate(scenarios)
        for seed in seeds
        if (arm.name, scenario.id, seed) not in done
    ]
    total = len(waiting) + len(done)
    columns = {c: monitor.read.concepts.index(c) for c in watched if c in monitor.read.concepts}
    with disk_errors(out), out.open("a", encoding="utf-8") as file:
        while waiting:
            still: list[_Episode] = []
            for episode, ended in _wave(engine, suite, waiting, sampling):
                if ended is None:
                    still.append(episode)
                    continue
                line = _line(suite, episode, ended, monitor, columns, keep_content)
                file.write(json_text(line) + "\n")
                file.flush()
                done[episode.key] = line
                progress(suite.name, len(done), total)
            waiting = still
    return list(done.values())


def read_results(path: Path, suite: str) -> list[dict[str, Any]]:
    """Episodes of a results file; a last line that an interrupt cut is left out.

    Raises:
        AffectscopeError: results of another suite or version, or a line in the middle that is no JSON.
    """
    lines, found = path.read_text(encoding="utf-8").split("\n"), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            if number >= len(lines) - 1:
                _cut(path, lines[: number - 1])
                break
            raise AffectscopeError(f"{path} line {number} is no JSON: restore the file, or choose another --out") from error  # fmt: skip
        if value.get("format") != FORMAT or value.get("suite") != suite:
            raise AffectscopeError(
                f"{path} line {number} is no result of the suite {suite} in this version: choose another --out"
            )
        found.append(value)
    return found


def _cut(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _wave(
    engine: TransformersEngine, suite: Suite, episodes: Sequence[_Episode], sampling: Sampling
) -> Iterator[tuple[_Episode, Done | None]]:
    """One reply of each episode, and whether it ended it."""
    requests, by_id, steps = [], dict[str, _Episode](), dict[str, list[TokenStep]]()
    for episode in episodes:
        steering = episode.arm.steering(episode.number) if episode.arm.steering else None
        how = replace(sampling, seed=_seed(episode))
        request = Request(tuple(episode.messages), how, steering)
        try:
            begin(engine.model, request)
        except AffectscopeError as error:
            yield episode, Done(TOO_LONG, {"cause": str(error)})
            continue
        requests.append(request)
        by_id[request.id], steps[request.id] = episode, []
    for generation, step in engine.stream(requests):
        if step is not None:
            steps[generation.id].append(step)
            continue
        episode = by_id[generation.id]
        for _ in episode.conversation.read(steps.pop(generation.id)):
            pass
        reply = generation.text
        followed = suite.follow(episode.scenario, len(episode.replies), reply)
        episode.replies.append(reply)
        episode.notes.append(dict(followed.notes))
        if isinstance(followed, Done):
            yield episode, followed
        else:
            episode.messages += [Message("assistant", reply), *_behind(list(followed.messages), episode.arm)]
            yield episode, None


def _seed(episode: _Episode) -> int:
    """Of a reply: the same in all arms, so that they are paired."""
    name = f"{episode.scenario.id}:{episode.seed}:{len(episode.replies)}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def _behind(messages: list[Message], arm: Arm) -> list[Message]:
    """Messages to the model with an arm's words behind them."""
    return [*messages, Message("system", arm.words)] if arm.words else messages


def _line(
    suite: Suite, episode: _Episode, ended: Done, monitor: Monitor, columns: dict[str, int], keep_content: bool
) -> dict[str, Any]:
    """An episode as plain values."""
    readings = episode.conversation.watch.readings
    alarms = [e.position for e in episode.conversation.watch.events if e.kind == "alarm"]
    content = {"said": episode.replies, "messages": [[m.role, m.content] for m in episode.messages]}
    return {
        "format": FORMAT,
        "suite": suite.name,
        "arm": episode.arm.name,
        "scenario": episode.scenario.id,
        "cluster": episode.scenario.cluster,
        "cell": episode.scenario.cell,
        "seed": episode.seed,
        "outcome": ended.outcome,
        "turns": len(episode.replies),
        "tokens": sum(r.step.generated for r in readings),
        "notes": episode.notes,
        "readings": {concept: _read(readings, monitor, column) for concept, column in columns.items()},
        "alarms": alarms,
        "seconds": round(time.time() - episode.began, 3),
        **(content if keep_content else {}),
    }


def _read(readings: Sequence[Reading], monitor: Monitor, column: int) -> dict[str, dict[str, float | None]]:
    """By probe: the mean z of the last prompt tokens, of the first reply, and of all that the model wrote."""
    own = [r.step.generated for r in readings]
    first = own.index(True) if True in own else len(own)
    second = next((i for i in range(first, len(own)) if not own[i]), len(own))
    spans: dict[str, Callable[[], list[Reading]]] = {
        "prompt": lambda: list(readings[max(first - LAST, 0) : first]),
        "first reply": lambda: list(readings[first:second]),
        "all replies": lambda: [r for r in readings if r.step.generated],
    }
    return {
        probe: {name: _mean([r.z[p, column] for r in span()]) for name, span in spans.items()}
        for p, probe in enumerate(monitor.read.probes)
    }


def _mean(units: Sequence[Any]) -> float | None:
    kept = [int(u) for u in units if u != MISSING]
    return round(STEP * float(np.mean(kept)), 4) if kept else None
