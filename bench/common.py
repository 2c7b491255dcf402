"""What every bench shares: interleaved timing, a paired interval, and the closing JSON line."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from affectscope import extract, load
from affectscope.concepts.stories import load_stories
from affectscope.models.load import Model, wrap
from affectscope.vectors.artefact import ConceptVectors

SHAPES = {
    "1b": {"hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192, "num_attention_heads": 32},
    "8b": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "num_attention_heads": 32},
}
"""Networks of a size, with eight heads of keys and values each and random weights: speed does not ask what weights say."""


def arguments(description: str, **files: str) -> argparse.Namespace:
    """Every bench takes ``--quick``; ``files`` are options of this one, each with its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of interleaved runs")
    parser.add_argument("--shape", choices=SHAPES, help="a network of this size with random weights, for a GPU")
    for name, default in files.items():
        parser.add_argument(f"--{name}", default=default, help=f"[{default}]")
    return parser.parse_args()


def subject(shape: str | None) -> tuple[Model, ConceptVectors]:
    """The bundled model with its vectors, or a network of a shape with vectors of two topics' stories."""
    model = load()
    if shape:
        config = LlamaConfig(
            vocab_size=model.network.config.vocab_size,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            **SHAPES[shape],
        )
        with torch.device(model.device):
            network = LlamaForCausalLM(config).to(model.dtype).eval()
        model = wrap(network, model.tokenizer, name=f"random-{shape}")
    vectors, _ = extract(model, load_stories(topics=2) if shape else None, layers="two-thirds")
    return model, vectors


def interleaved(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each job, one run of each a round in a shuffled order, after one warm-up of each."""
    rng = np.random.default_rng(0)
    names = list(jobs)
    for name in names:
        jobs[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for index in rng.permutation(len(names)):
            name = names[index]
            start = time.perf_counter()
            jobs[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def alternating(jobs: dict[str, Callable[[], Iterator[object]]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each job a round, all jobs advanced by one item in turn and in a shuffled order.

    For claims of one per cent: whatever slows the machine for more than an item slows all jobs alike. Jobs must give
    equally many items.
    """
    rng = np.random.default_rng(0)
    names = list(jobs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for count in range(rounds + 1):  # the first is a warm-up
        running = {name: jobs[name]() for name in names}
        spent = dict.fromkeys(names, 0.0)
        going = True
        while going:
            for index in rng.permutation(len(names)):
                name = names[index]
                start = time.perf_counter()
                item = next(running[name], None)
                spent[name] += time.perf_counter() - start
                going = going and item is not None
        if count:
            for name in names:
                seconds[name].append(spent[name])
    return {name: np.array(values) for name, values in seconds.items()}


def paired(slow: np.ndarray, fast: np.ndarray) -> tuple[float, float, float]:
    """Median of ``slow / fast`` over rounds, with its 95 % bootstrap interval."""
    ratios = slow / fast
    picks = np.random.default_rng(0).integers(0, len(ratios), (4000, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def report(claim: str, ratio: tuple[float, float, float], goal: float, dtype: str, **more: object) -> None:
    """One JSON line: the claim holds when the interval's low end clears the goal less 0.01."""
    value, low, high = (round(x, 3) for x in ratio)
    line = {
        "claim": claim,
        "ratio": value,
        "low": low,
        "high": high,
        "goal": goal,
        "machine": machine(),
        "dtype": dtype,
    }
    print(json.dumps(line | more), flush=True)


def machine() -> str:
    """The GPU when there is one, else processor and core count."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return f"{names[0]}, {len(names)} cores"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
