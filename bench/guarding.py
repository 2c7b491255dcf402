"""A guard must cost nothing that a user notices while nothing is wrong, and its record must be quick to check.

Guarded and unguarded replies advance token by token in turn, in a shuffled order; the ratio is the median over rounds.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from affectscope.concepts.episodes import benign
from affectscope.engines.base import Request, Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.guarding.events import Event, Token
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.keys import new_keys
from affectscope.guarding.ladder import Guard
from affectscope.guarding.policy import load_policy
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.session import Session
from affectscope.guarding.verify import verify
from affectscope.models.load import Model
from affectscope.monitoring.monitor import Monitor, monitor
from affectscope.vectors.artefact import ConceptVectors
from common import alternating, arguments, paired, report, subject

GREEDY = Sampling(temperature=0, max_tokens=32)


def main() -> None:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (12 if options.quick else 120)
    if not options.shape:
        _decisions(50_000 if options.quick else 400_000)
        _verify(50_000 if options.quick else 1_000_000)
    model, vectors = subject(options.shape)
    made = monitor(vectors, rules=load_policy("cautious").monitor_rules())
    messages = benign()[0].messages
    with tempfile.TemporaryDirectory() as folder:
        seconds = alternating(_contenders(model, vectors, made, messages, Path(folder)), rounds)
    dtype = str(model.dtype).removeprefix("torch.")
    ratio = paired(seconds["unguarded"], seconds["guarded"])
    report("guarded generation, evidence written, over the bare engine", ratio, 0.98, dtype, rounds=rounds)
    ratio = paired(seconds["monitored"], seconds["guarded"])
    report("guarded generation, evidence written, over monitored", ratio, 0.98, dtype, rounds=rounds)


def _guard() -> Guard:
    """The cautious policy with thresholds that nothing reaches."""
    policy = load_policy("cautious")
    return Guard(policy, {name: {"all": 1e9} for name in policy.rules}, "none", 64)


def _contenders(
    model: Model, vectors: ConceptVectors, made: Monitor, messages: tuple, folder: Path
) -> dict[str, Callable[[], Iterator[object]]]:
    engines = [TransformersEngine(model, read, slots=1) for read in (None, made.read, made.read)]
    for engine in engines:
        engine._ends = frozenset()
    keys, count = new_keys(folder / "keys"), iter(range(10**9))

    def bare() -> Iterator[object]:
        yield from (step for step in engines[0].generate(Request(messages, GREEDY)) if step.generated)

    def monitored() -> Iterator[object]:
        watch = made.episode()
        for step in engines[1].generate(Request(messages, GREEDY)):
            watch.read(step)
            if step.generated:
                yield step

    def guarded() -> Iterator[object]:
        guard = _guard()
        evidence = Evidence(folder / f"{next(count)}.jsonl", keys, _header(guard))
        session = Session(engines[2], vectors, made, Recorder(guard, evidence), sampling=GREEDY)
        written = 0
        for piece in session.stream(messages):
            if piece.kind == "text":  # the last comes with all that was held back
                written += 1
                yield piece
        session.recorder.close("done")
        yield from range(GREEDY.max_tokens - written)

    return {"unguarded": bare, "monitored": monitored, "guarded": guarded}


def _header(guard: Guard) -> dict[str, object]:
    by = {rule: dict(limits) for rule, limits in guard.thresholds.items()}
    return {"policy": guard.policy.plain(), "policy_hash": guard.policy.hash, "thresholds": by, "strata": guard.strata, "horizon": guard.horizon}  # fmt: skip


def _events(count: int) -> list[Event]:
    """Tokens as a model writes them: readings that wander."""
    rng = np.random.default_rng(0)
    watch = len(load_policy("cautious").watch_list)
    units = np.clip(rng.normal(0, 8, (count, 2, watch)), -127, 127).astype(int).tolist()
    return [
        Token(i, "assistant", "answer", True, tuple(policy), tuple(held_out))
        for i, (policy, held_out) in enumerate(units)
    ]


def _decisions(count: int) -> None:
    """Decisions a second, and microseconds of one."""
    guard, events = _guard(), _events(count)
    state, begin = guard.start(), time.perf_counter()
    for event in events:
        state, _ = guard.decide(state, event)
    speed = count / (time.perf_counter() - begin)
    state, spent = guard.start(), np.empty(min(count, 50_000))
    for i, event in enumerate(events[: len(spent)]):
        begin = time.perf_counter()
        state, _ = guard.decide(state, event)
        spent[i] = time.perf_counter() - begin
    p50, p99 = np.percentile(spent * 1e6, [50, 99])
    print(
        json.dumps({"decisions_a_second": round(speed), "p50_us": round(p50, 1), "p99_us": round(p99, 1)}), flush=True
    )


def _verify(count: int) -> None:
    """Seconds to verify a file of so many lines, and the memory that it took."""
    with tempfile.TemporaryDirectory() as name:
        folder, guard = Path(name), _guard()
        keys = new_keys(folder / "keys")
        recorder = Recorder(guard, Evidence(folder / "e.jsonl", keys, _header(guard)))
        for event in _events(10_000) * (count // 10_000):
            recorder.tell(replace(event))
        recorder.close("done")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        found = verify(folder / "e.jsonl", keys.public)
        seconds = time.perf_counter() - begin
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        size = (folder / "e.jsonl").stat().st_size / found.lines
    told = {"verified_lines": found.lines, "ok": found.ok, "seconds": round(seconds, 1), "grown_mb": round(grown, 1)}
    print(json.dumps(told | {"bytes_a_line": round(size)}), flush=True)


if __name__ == "__main__":
    main()
