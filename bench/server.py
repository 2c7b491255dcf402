"""What the monitor and the guard cost a server: tokens a second of the guarded server over the same server with nothing read.

Two servers of the same model run beside each other on loopback, and blocks of streaming requests go to one and the other in a
shuffled order; an idle server waits and takes no processor. Times to the first text and between texts are the client's.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from affectscope.server.api_keys import add_key
from common import arguments, paired, report

STREAMS, TOKENS = (1, 8, 32), 48
PROMPTS = (
    "Say in a few sentences how a bicycle pump works.",
    "Which fruit keeps longest in a cellar, and why?",
    "Write a short note to a neighbour about a lost cat.",
    "How would you explain a tide to a child?",
)


@dataclass
class Times:
    """Of one block: tokens, seconds, and what each client saw."""

    tokens: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)


def main() -> None:
    options = arguments(__doc__ or "", calibration="calibration.json")
    rounds = options.rounds or (3 if options.quick else 9)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = add_key(folder / "keys.json", "bench", ["infer"])
        urls = {name: served(stack, folder, name, options) for name in ("guarded", "bare")}
        for streams in STREAMS[: 2 if options.quick else None]:
            found = asyncio.run(_rounds(urls, key, streams, rounds))
            speed = {name: np.array([t.tokens / t.seconds for t in times]) for name, times in found.items()}
            claim = f"server, {streams} streams: tokens a second guarded over nothing read"
            more = {f"{name}_{what}": value for name, times in found.items() for what, value in _told(times).items()}
            report(claim, paired(speed["guarded"], speed["bare"]), 0.97, "bfloat16", rounds=rounds, **more)


def served(stack: ExitStack, folder: Path, name: str, options: Namespace) -> str:
    """Start a server and give its address; it ends with ``stack``."""
    command = [str(Path(sys.executable).with_name("affectscope")), "serve", "--port", "0", "--keys", str(folder / "keys.json"),
               "--slots", str(max(STREAMS)), "--db", str(folder / f"{name}.traces")]  # fmt: skip
    # The bare one draws its tokens in the same way: what is compared is reading and guarding.
    command += ["--calibration", options.calibration]
    command += ["--bare"] if name == "bare" else ["--evidence", str(folder / name)]
    environment = os.environ | {"AFFECTSCOPE_KEYS": str(folder / "signing")}
    if name == "guarded":
        subprocess.run([command[0], "keys", "new", "--out", str(folder / "signing")], check=True, capture_output=True)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if line.startswith("listening on "):
            return line.split()[-1]
    sys.exit("the server did not start:\n" + "".join(told))


async def _rounds(urls: dict[str, str], key: str, streams: int, rounds: int) -> dict[str, list[Times]]:
    """Blocks of each server, one a round in a shuffled order, after one warm-up of each."""
    rng, found = np.random.default_rng(0), {name: list[Times]() for name in urls}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=600) as client:
        for count in range(rounds + 1):
            for name in rng.permutation(list(urls)):
                times = await _block(client, urls[name], streams, count)
                if count:
                    found[name].append(times)
                await asyncio.sleep(0.3)  # the threads of the last pass stop waiting by spinning
    return found


async def _block(client: httpx.AsyncClient, url: str, streams: int, count: int) -> Times:
    times, began = Times(), time.perf_counter()
    await asyncio.gather(*(_stream(client, url, 1000 * count + i, times) for i in range(streams)))
    times.seconds = time.perf_counter() - began
    return times


async def _stream(client: httpx.AsyncClient, url: str, seed: int, times: Times) -> None:
    body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": PROMPTS[seed % len(PROMPTS)]}], "max_tokens": TOKENS,
            "seed": seed, "temperature": 1.0, "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
    before, seen = time.perf_counter(), False
    async with client.stream("POST", f"{url}/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk, now = json.loads(line[6:]), time.perf_counter()
            if chunk.get("usage"):
                times.tokens += chunk["usage"]["completion_tokens"]
            elif chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                (times.between if seen else times.first).append(now - before)
                before, seen = now, True


def _told(times: Sequence[Times]) -> dict[str, float]:
    """Milliseconds to the first text and between texts, and tokens a second."""
    first, between = (1000 * np.concatenate([getattr(t, n) for t in times]) for n in ("first", "between"))
    speed = np.median([t.tokens / t.seconds for t in times])
    values = {"first_ms_p50": np.median(first), "first_ms_p99": np.percentile(first, 99), "token_ms_p50": np.median(between),
              "token_ms_p99": np.percentile(between, 99), "tokens_per_second": speed}  # fmt: skip
    return {name: round(float(value), 1) for name, value in values.items()}


if __name__ == "__main__":
    main()
