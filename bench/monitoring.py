"""Watching must cost nothing that a user notices, and our engine must be no slower than transformers' own loop.

Monitored and unmonitored generation advance pass by pass in turn, in a shuffled order; the other contenders run whole, one
after the other, in a shuffled order. A ratio is the median over rounds.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from affectscope.concepts.episodes import benign
from affectscope.engines.base import Request, Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.models.chat import tokenize
from affectscope.models.load import Model
from affectscope.monitoring.monitor import Monitor, monitor
from common import alternating, arguments, interleaved, paired, report, subject

TOKENS = 32
GREEDY = Sampling(temperature=0, max_tokens=TOKENS)


def main() -> None:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (12 if options.quick else 120)
    model, vectors = subject(options.shape)
    dtype = str(model.dtype).removeprefix("torch.")
    made = monitor(vectors)
    made = replace(made, thresholds={rule.name: {"all": (1e9, 0.01)} for rule in made.rules})  # computed, never crossed
    openings = [o.messages for o in benign()[:8]]
    for size in (1, 8):
        count = rounds if size == 1 else max(rounds // 2, 4)
        seconds = alternating(_watching(model, made, openings[:size]), count)
        ratio = paired(seconds["unmonitored"], seconds["monitored"])
        report(f"monitored generation over the same engine unmonitored, batch {size}", ratio, 0.99, dtype, rounds=count)
        rounds_here = max(count // 4, 4)
        seconds = interleaved(_contenders(model, made, openings[:size]), rounds_here)
        ratio = paired(seconds["model.generate"], seconds["unmonitored"])
        report(f"our generation over model.generate, batch {size}", ratio, 1.0, dtype, rounds=rounds_here)
        ratio = paired(seconds["model.generate, hidden states kept"], seconds["monitored"])
        claim = f"monitored generation over model.generate that keeps hidden states, batch {size}"
        report(claim, ratio, 1.0, dtype, rounds=rounds_here)
        speed = size * TOKENS / float(np.median(seconds["monitored"]))
        print(f"monitored, batch {size}: {speed:.1f} tokens a second", flush=True)
    _agreement(model, openings)
    _per_token(model, made, openings)
    if not options.shape:
        _memory(model, made, 2_000 if options.quick else 100_000)


def _watching(model: Model, made: Monitor, openings: list) -> dict[str, Callable[[], Iterator[object]]]:
    """Our engine without and with the monitor; an item each time that every episode wrote one more token."""

    def ours(engine: TransformersEngine, monitored: bool) -> Iterator[object]:
        watches, written = {}, 0
        for generation, step in engine.stream([Request(messages, GREEDY) for messages in openings]):
            if step is None:
                continue
            if monitored:
                if generation.id not in watches:
                    watches[generation.id] = made.episode()
                watches[generation.id].read(step)
            written += step.generated
            if step.generated and written % len(openings) == 0:
                yield written

    engines = [TransformersEngine(model, read, slots=len(openings)) for read in (None, made.read)]
    for engine in engines:
        engine._ends = frozenset()  # every contender writes all its tokens
    return {"unmonitored": lambda: ours(engines[0], False), "monitored": lambda: ours(engines[1], True)}


def _contenders(model: Model, made: Monitor, openings: list) -> dict[str, Callable[[], object]]:
    watching = _watching(model, made, openings)
    ids = [tokenize(model, messages, reply=True).ids for messages in openings]
    longest = max(map(len, ids))
    pad = model.tokenizer.pad_token_id or 0
    tokens = torch.tensor([[pad] * (longest - len(i)) + i for i in ids], device=model.device)
    mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i in ids], device=model.device)

    def generate(**more: object) -> object:
        with torch.inference_mode():
            return model.network.generate(
                tokens,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                pad_token_id=pad,
                **more,
            )

    weights = made.read.on_cpu[0][0].to(model.device)

    def kept() -> None:
        """How a monitor is commonly made: ask generate for every hidden state, project afterwards."""
        out = generate(output_hidden_states=True, return_dict_in_generate=True)
        stream = torch.cat([states[made.layer + 1] for states in out.hidden_states], dim=1)
        (stream.float() @ weights).cpu()

    return {
        "model.generate": generate,
        "model.generate, hidden states kept": kept,
        "unmonitored": lambda: list(watching["unmonitored"]()),
        "monitored": lambda: list(watching["monitored"]()),
    }


def _agreement(model: Model, openings: list) -> None:
    """Greedy tokens that are those of ``model.generate`` up to the first difference, alone and in a batch of eight."""
    expected = []
    for messages in openings:
        ids = torch.tensor([tokenize(model, messages, reply=True).ids], device=model.device)
        with torch.inference_mode():
            out = model.network.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS
            )
        expected.append(out[0, ids.shape[1] :].tolist())
    for slots in (1, len(openings)):
        requests, found = [Request(messages, GREEDY) for messages in openings], {}
        for generation, _ in TransformersEngine(model, slots=slots).stream(requests):
            found[generation.id] = generation
        same = total = whole = 0
        for request, wanted in zip(requests, expected, strict=True):
            ids = found[request.id].ids
            pairs = [a == b for a, b in zip(ids, wanted, strict=False)]
            same += pairs.index(False) if False in pairs else len(wanted)
            whole += ids == wanted
            total += len(wanted)
        print(
            f"greedy tokens as model.generate's, {slots} at once: {same}/{total} before a difference, {whole}/{len(expected)} replies",
            flush=True,
        )


def _per_token(model: Model, made: Monitor, openings: list) -> None:
    """Microseconds of the monitor proper, from a step to its reading and alarms, of tokens that the model writes.

    Between two of them the whole network went through the caches; prompt tokens, read one after the other, cost a tenth.
    """
    engine, spent = TransformersEngine(model, made.read), list[float]()
    for messages in openings:
        watch = made.episode()
        for step in engine.generate(Request(messages, GREEDY)):
            start = time.perf_counter()
            watch.read(step)
            if step.generated:
                spent.append(time.perf_counter() - start)
    middle, high = np.percentile(np.array(spent) * 1e6, [50, 99])
    print(
        f"monitor a token, {len(made.read.concepts)} concepts x {len(made.read.probes)} probes: p50 {middle:.0f} us, p99 {high:.0f} us"
    )


def _memory(model: Model, made: Monitor, tokens: int) -> None:
    """Peak memory over many tokens that pass through one engine, episode after episode."""
    engine = TransformersEngine(model, made.read, slots=16)
    openings = [o.messages for o in benign()]
    how, done, place, marks = Sampling(temperature=0.7, seed=1, max_tokens=96), 0, 0, []
    while done < tokens:
        some = [Request(openings[(place + i) % len(openings)], how) for i in range(64)]
        place += 64
        watches = {r.id: made.episode() for r in some}
        for generation, step in engine.stream(some):
            if step is None:
                del watches[generation.id]
            else:
                watches[generation.id].read(step)
                done += 1
        marks.append((done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    first = next(mb for count, mb in marks if count >= tokens // 10)
    print(
        f"peak memory after {tokens // 10} tokens {first:.0f} MB, after {marks[-1][0]} {marks[-1][1]:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
