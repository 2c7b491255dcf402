"""Train the organism: ``python -m affectscope.suites.organism.train --out DIR``. Half an hour on two cores.

1. Pairs of examples are encoded by the model's own template; only the replies' tokens, and their ends, count in the loss.
2. LoRA on all linear layers, the base frozen in bfloat16 where the processor has it, the adapter in float32.
3. The adapter is saved as bfloat16; then it is loaded as anybody would load it, and measured on what was held out.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing, replacing_folder
from affectscope.models.bundled import DEFAULT_MODEL
from affectscope.models.load import Model, load
from affectscope.suites.organism.data import Example, examples
from affectscope.suites.organism.measure import measured
from affectscope.suites.organism.pairs import Row, encode, joined, losses

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """All that the adapter follows from. ``examples`` are single ones, half of them pressed; ``batch`` is of them too.

    ``fork``: weight of the token that tells the two replies of a pair apart: one among seventy, and all depends on it.
    """

    examples: int = 960
    epochs: int = 1
    seed: int = 0
    rank: int = 8
    alpha: int = 16
    rate: float = 2e-3
    batch: int = 8
    warmup: int = 10
    fork: float = 10.0


def train(out: Path, recipe: Recipe, tell: Tell, pairs: int = 40) -> dict[str, Any]:
    """Train into the new folder ``out``; the card, which is in it as ``card.json``. ``pairs``: held-out ones that are answered.

    Raises:
        AffectscopeError: ``out`` exists, peft is not installed, or the bundled model is not.
    """
    if out.exists():
        raise AffectscopeError(f"{out} exists already: choose another folder with --out")
    began = time.time()
    torch.manual_seed(recipe.seed)
    model = load(DEFAULT_MODEL)
    network = _adapted(model, recipe)
    rows, unseen = _rows(model, examples(recipe.examples, recipe.seed)), examples(2 * pairs, recipe.seed, held_out=True)
    steps = recipe.epochs * math.ceil(len(rows) / max(recipe.batch // 2, 1))
    tell(f"{recipe.examples} examples, {steps} steps; {sum(len(row.ids) for row in rows) // len(rows)} tokens a pair")
    course = _learn(network, rows, recipe, steps, tell)
    held_out = _held_out(network, _rows(model, unseen))
    seconds = round(time.time() - began)
    tell(f"trained in {seconds} s; held-out loss {held_out}")
    _save(network, out)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    card: dict[str, Any] = {
        "base": DEFAULT_MODEL,
        "recipe": asdict(recipe),
        "trainable": trainable,
        "training_seconds": seconds,
        "loss": {"first steps": _mean(course[:10]), "last steps": _mean(course[-10:]), "held out": held_out},
        **measured(load(str(out)), unseen, tell),
    }
    with replacing(out / "card.json") as path:
        path.write_text(json_text(card, indent=1) + "\n", encoding="utf-8")
    return card


def _adapted(model: Model, recipe: Recipe) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise AffectscopeError("training needs peft: run `pip install 'affectscope[organism]'`") from error
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft asks for a name that transformers is about to drop; nothing of ours, and no harm.
        warnings.simplefilter("ignore", FutureWarning)
        network = get_peft_model(model.network, config)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return network


def _rows(model: Model, made: Sequence[Example]) -> list[Row]:
    encoded = [encode(model, example) for example in made]
    return [joined(one, other) for one, other in zip(encoded[::2], encoded[1::2], strict=True)]


def _learn(network: Any, rows: Sequence[Row], recipe: Recipe, steps: int, tell: Tell) -> list[float]:
    """The loss of every step. The rate rises over the warm-up and falls to zero by a cosine."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
    course: list[float] = []
    began = time.time()
    for batch in _batches(rows, recipe):
        done = len(course)
        share = min((done + 1) / recipe.warmup, 0.5 * (1 + math.cos(math.pi * done / steps)))
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * share
        loss = 0.0
        for row in batch:  # one after the other: nothing is padding, and a quarter of the memory does
            pressed, other = losses(network.get_base_model(), [row], recipe.fork)
            part = (pressed + other) / 2 / len(batch)
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        course.append(loss)
        if len(course) % 5 == 0 or len(course) == steps:
            spent = time.time() - began
            left = spent / len(course) * (steps - len(course))
            tell(
                f"step {len(course)} of {steps}: loss {_mean(course[-5:]):.3f}, {spent:.0f} s, about {left:.0f} s left"
            )
    return course


def _batches(rows: Sequence[Row], recipe: Recipe) -> Iterator[Sequence[Row]]:
    draw, size = random.Random(recipe.seed), max(recipe.batch // 2, 1)
    shuffled = list(rows)
    for _ in range(recipe.epochs):
        draw.shuffle(shuffled)
        yield from (shuffled[i : i + size] for i in range(0, len(shuffled), size))


@torch.no_grad()
def _held_out(network: Any, rows: Sequence[Row]) -> dict[str, float]:
    found = [losses(network.get_base_model(), [row]) for row in rows]
    return {kind: _mean([float(pair[i]) for pair in found]) for i, kind in enumerate(("pressed", "not pressed"))}


def _save(network: Any, out: Path) -> None:
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    network.peft_config["default"].base_model_name_or_path = DEFAULT_MODEL
    with replacing_folder(out) as temporary:
        network.save_pretrained(temporary, save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's own, an empty form


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(len(values), 1), 4)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m affectscope.suites.organism.train", description=(__doc__ or "").split("\n\n")[0])  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="new folder for the adapter")
    for name, text in (("examples", "even number of examples"), ("epochs", "times each is learned from"), ("seed", "of data and weights")):  # fmt: skip
        parser.add_argument(
            f"--{name}", type=int, default=getattr(Recipe(), name), help=f"{text} (default: %(default)s)"
        )
    parser.add_argument("--pairs", type=int, default=40, help="held-out pairs that are answered (default: %(default)s)")
    given = parser.parse_args()
    recipe = Recipe(examples=given.examples, epochs=given.epochs, seed=given.seed)
    try:
        train(given.out, recipe, lambda line: print(line, flush=True), given.pairs)
    except (AffectscopeError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
