"""Our guarded server beside `transformers serve`, on the same model, prompts and machine: tokens a second at 1, 8 and 32 streams.

Both get the same greedy requests; ours reads and guards every token meanwhile. Theirs runs with continuous batching, its fastest way.
Blocks of requests go to one and the other in a shuffled order; an idle server waits.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np

from affectscope.models.load import load
from affectscope.server.api_keys import add_key
from common import arguments, paired, report
from server import PROMPTS, STREAMS, TOKENS, served

START = 300.0


def main() -> None:
    options = arguments(__doc__ or "", calibration="calibration.json")
    rounds = options.rounds or (3 if options.quick else 9)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = add_key(folder / "keys.json", "bench", ["infer"])
        model = _saved(folder / "model")
        urls = {"ours": served(stack, folder, "guarded", options), "theirs": _peer(stack, model)}
        names = {"ours": "smollm2-135m", "theirs": str(model)}
        for streams in STREAMS[: 2 if options.quick else None]:
            speed = asyncio.run(_rounds(urls, names, key, streams, rounds))
            claim = f"server, {streams} streams: tokens a second guarded here over `transformers serve`"
            more = {f"{name}_tokens_per_second": round(float(np.median(values)), 1) for name, values in speed.items()}
            report(claim, paired(speed["ours"], speed["theirs"]), 1.0, "bfloat16", rounds=rounds, **more)


def _saved(folder: Path) -> Path:
    """The bundled model as a folder that both can load."""
    model = load()
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def _peer(stack: ExitStack, model: Path) -> str:
    """Start theirs and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--continuous-batching", "--device", "cpu",
               "--dtype", "bfloat16", "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    log = stack.enter_context((model.parent / "peer.log").open("w"))
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                return f"http://127.0.0.1:{port}/v1"
        except httpx.TransportError:
            time.sleep(1)
    sys.exit("theirs did not start:\n" + (model.parent / "peer.log").read_text()[-3000:])


async def _rounds(
    urls: dict[str, str], names: dict[str, str], key: str, streams: int, rounds: int
) -> dict[str, np.ndarray]:
    rng, found = np.random.default_rng(0), {name: list[float]() for name in urls}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=600) as client:
        for count in range(rounds + 1):
            for name in rng.permutation(list(urls)):
                began = time.perf_counter()
                tokens = await asyncio.gather(*(_reply(client, urls[name], names[name], i) for i in range(streams)))
                if count:
                    found[name].append(sum(tokens) / (time.perf_counter() - began))
                await asyncio.sleep(0.3)
    return {name: np.array(values) for name, values in found.items()}


async def _reply(client: httpx.AsyncClient, url: str, model: str, number: int) -> int:
    """Tokens of one greedy reply, as the server counts them."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}], "max_tokens": TOKENS, "temperature": 0}  # fmt: skip
    answer = await client.post(f"{url}/chat/completions", json=body)
    answer.raise_for_status()
    return int(answer.json()["usage"]["completion_tokens"])


if __name__ == "__main__":
    main()
