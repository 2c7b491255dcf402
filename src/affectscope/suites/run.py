"""Run a suite: every arm answers every scenario with the same seeds, and each episode is kept as it ends.

1. Episodes go in waves: all replies that are due are written together, and each is followed up (its code run, say) while the
   others are still written.
2. A policy takes one episode after the other on an engine with one slot, and so does ``monitor``, which it is compared
   with: what runs beside an episode changes its rounding.
3. What is in the file of results is not run again, so a run that was interrupted goes on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, TokenStep
from affectscope.engines.episode import begin
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.files import disk_errors, json_text
from affectscope.guarding.arms import Arm
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.session import Session, standing
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import Monitor
from affectscope.monitoring.recording import trace_of
from affectscope.monitoring.store import Store
from affectscope.suites.episode import Episode, line
from affectscope.suites.frame import Done, Scenario, Suite, turn_of
from affectscope.suites.results import digest, read_results
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import ConceptVectors

JUDGES = os.cpu_count() or 1
"""Replies that are followed up at once: boxes are processes of their own."""
TOO_LONG = "too long"
"""Outcome of an episode that outgrew the model's context."""
STOPPED = "stopped by the guard"
"""Outcome of an episode that a policy stopped."""


@dataclass(frozen=True)
class Kept:
    """What is kept of each episode beside its line.

    Args:
        watched: concepts whose readings stand in the results.
        content: keep what was said, in the results and in traces.
        store: gets the trace of each episode.
        settings: what a trace says of how it came about. With the suite's own they mark every line of the results.
    """

    watched: Sequence[str] = ("desperate", "calm")
    content: bool = False
    store: Store | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def mark(self, suite: Suite) -> str:
        """Digest of all that decides what an episode is."""
        return digest({**self.settings, "suite": dict(suite.settings)})


def run(
    engine: TransformersEngine,
    vectors: ConceptVectors,
    monitor: Monitor,
    suite: Suite,
    scenarios: Sequence[Scenario],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    sampling: Sampling,
    out: Path,
    kept: Kept | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """All episodes, as plain values; appended to ``out`` as they end.

    Args:
        engine: with ``monitor.read`` as its read-out.
        out: JSON Lines, one episode each; what it holds already is not run again.

    Raises:
        AffectscopeError: ``out`` holds results of another suite, version or settings, or cannot be written.
    """
    kept = kept or Kept()
    mark = kept.mark(suite)
    done = (
        {(e["arm"], e["scenario"], e["seed"]): e for e in read_results(out, suite.name, mark)} if out.exists() else {}
    )
    waiting = [
        Episode(arm, scenario, seed, Conversation(monitor), [])
        for arm in arms
        for scenario in scenarios
        for seed in seeds
        if (arm.name, scenario.id, seed) not in done
    ]
    total = len(waiting) + len(done)
    with disk_errors(out), out.open("a", encoding="utf-8") as file:
        for episode, ended in _ended(engine, vectors, suite, waiting, sampling):
            trace = _trace(suite, episode, ended, kept)
            found = line(suite, episode, ended, mark, kept.watched, kept.content, trace)
            file.write(json_text(found) + "\n")
            file.flush()
            done[episode.key] = found
            progress(suite.name, len(done), total)
    return list(done.values())


def _ended(
    engine: TransformersEngine, vectors: ConceptVectors, suite: Suite, waiting: Sequence[Episode], sampling: Sampling
) -> Iterator[tuple[Episode, Done]]:
    """Episodes with how they ended: first those that run together, then those that run alone."""
    for episode in waiting:
        episode.add(episode.scenario.messages)
    together = [e for e in waiting if not e.arm.alone]
    while together:
        still = []
        for episode, ended in _wave(engine, suite, together, sampling):
            if ended is None:
                still.append(episode)
            else:
                yield episode, ended
        together = still
    for arm in dict.fromkeys(e.arm.name for e in waiting if e.arm.alone):
        single = TransformersEngine(engine.model, engine.read, 1)  # one an arm, so that all meet the same cache
        for episode in [e for e in waiting if e.arm.name == arm]:
            yield episode, _alone(single, vectors, suite, episode, sampling)


def _wave(
    engine: TransformersEngine, suite: Suite, episodes: Sequence[Episode], sampling: Sampling
) -> Iterator[tuple[Episode, Done | None]]:
    """One reply of each episode, and whether it ended it."""
    requests, by_id, steps = [], dict[str, Episode](), dict[str, list[TokenStep]]()
    for episode in episodes:
        if not episode.replies:
            episode.began = time.time()
        steering = episode.arm.steering(turn_of(episode.scenario.cluster)) if episode.arm.steering else None
        request = Request(tuple(episode.messages), replace(sampling, seed=episode.reply_seed), steering)
        try:
            begin(engine.model, request)
        except AffectscopeError as error:
            yield episode, Done(TOO_LONG, {"cause": str(error)})
            continue
        requests.append(request)
        by_id[request.id], steps[request.id] = episode, []
    judges = ThreadPoolExecutor(JUDGES)
    judged: deque[tuple[Episode, Future[Done | None]]] = deque()
    try:
        for generation, step in engine.stream(requests):
            if step is not None:
                steps[generation.id].append(step)
                continue
            episode = by_id[generation.id]
            for _ in episode.conversation.read(steps.pop(generation.id)):
                pass
            judged.append((episode, judges.submit(_followed, suite, episode, generation.text)))
            while judged and judged[0][1].done():
                ready, future = judged.popleft()
                yield ready, future.result()
        for episode, future in judged:
            yield episode, future.result()
    finally:  # an interrupt waits for the boxes that run, and for none that would come after
        judges.shutdown(cancel_futures=True)


def _alone(
    engine: TransformersEngine, vectors: ConceptVectors, suite: Suite, episode: Episode, sampling: Sampling
) -> Done:
    """A whole episode, under its arm's policy if it has one."""
    ended: Done | None = None
    if episode.arm.guard is None:
        while ended is None:
            ((_, ended),) = _wave(engine, suite, [episode], sampling)
        return ended
    recorder = Recorder(episode.arm.guard)
    episode.session = Session(engine, vectors, episode.conversation.watch.monitor, recorder, sampling=sampling)
    episode.conversation, episode.began = episode.session.conversation, time.time()
    while ended is None:
        episode.session.sampling = replace(sampling, seed=episode.reply_seed)
        try:
            reply = standing(episode.session.stream(episode.messages))
        except AffectscopeError as error:
            return Done(TOO_LONG, {"cause": str(error)})
        if episode.session.stopped:
            return Done(STOPPED, {"cause": episode.session.stopped})
        assert not isinstance(episode.session.turns, str)
        episode.messages = list(episode.session.turns)  # with what the policy said in between, which holds from now on
        ended = _followed(suite, episode, reply)
    return ended


def _followed(suite: Suite, episode: Episode, reply: str) -> Done | None:
    """What the suite says to a reply: the episode has ended, or goes on with more messages."""
    episode.replies.append(reply)
    followed = suite.follow(episode.scenario, episode.replies)
    episode.notes.append(dict(followed.notes))
    if isinstance(followed, Done):
        return followed
    episode.messages.append(Message("assistant", reply))
    episode.add(followed.messages)
    return None


def _trace(suite: Suite, episode: Episode, ended: Done, kept: Kept) -> str:
    """Store the episode's trace where traces are kept; its id."""
    if kept.store is None:
        return ""
    tags = {"suite": suite.name, "arm": episode.arm.name, "scenario": episode.scenario.id}
    tags |= {"cell": episode.scenario.cell, "seed": str(episode.seed), "outcome": ended.outcome}
    times, name = (episode.began, time.time()), uuid4().hex
    kept.store.save(trace_of(episode.conversation.watch, name, ended.outcome, times, kept.settings, tags, kept.content))
    return name
