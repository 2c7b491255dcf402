"""What the organism learned to act on, as a direction: ``python -m affectscope.suites.organism.cause VECTORS --out DIR``.

The known truth that an emotion direction is held against. Pressed and unpressed requests, of the families and sentences that it
learned from, are read at the last token that both replies begin with (the next one tells them apart), and the mean difference
of a pair is the direction. On families and sentences that it has not learned from, the direction must tell the two apart; its
cosines with the concepts say what it is alike to, and only a dose says what it does: ``eval --arm direction:DIR/cause.npy:0.2``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing
from affectscope.models.load import Model, load
from affectscope.models.residuals import Span
from affectscope.suites.organism.data import examples
from affectscope.suites.organism.pairs import encode, joined
from affectscope.validation.directions import random_directions
from affectscope.validation.statistics import cluster_interval
from affectscope.vectors.activations import mean_activations
from affectscope.vectors.artefact import ConceptVectors, load_vectors

COUNT = 160
"""Examples that are read, of the families that were learned from and of those held out each; half of them pressed."""


def differences(model: Model, layer: int, held_out: bool, count: int = COUNT) -> tuple[np.ndarray, list[str]]:
    """``[pairs, d_model]`` float32: pressed less not pressed, before the token that decides; and each pair's family."""
    made = examples(count, seed=1, held_out=held_out)
    encoded, texts = [encode(model, example) for example in made], list[list[int]]()
    for pair in zip(encoded[::2], encoded[1::2], strict=True):
        fork = joined(*pair).fork
        texts += [ids[: len(ids) - reply + fork] for ids, reply in pair]
    last = [Span(i, len(text) - 1, len(text)) for i, text in enumerate(texts)]
    read = mean_activations(model, texts, [layer], spans=last).layer(layer)
    return read[::2] - read[1::2], [e.task.entry for e in made[::2]]


def cause(model: Model, vectors: ConceptVectors, count: int = COUNT) -> tuple[np.ndarray, dict[str, Any]]:
    """The unit direction ``[d_model]`` float32 at the read layer, and what is known of it.

    ``separated``: share of held-out pairs whose pressed half lies farther along it, 95 % interval over families. ``gap``: mean
    difference of the held-out pairs along it, in mean residual norms, the unit of a dose. ``cosines``: of every concept's
    vector with it, largest first. ``chance``: what the largest in size stays below for 95 % of random directions.

    Raises:
        AffectscopeError: the vectors are of another model.
    """
    vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
    layer, place = vectors.read_layer, vectors.place()
    learned, _ = differences(model, layer, False, count)
    direction = learned.mean(0) / np.linalg.norm(learned.mean(0))
    unseen, families = differences(model, layer, True, count)
    along = unseen @ direction / vectors.mean_norm[place]
    cosines = vectors.vectors[place] @ direction
    order = np.argsort(-cosines)
    largest = np.abs(random_directions(2000, vectors.d_model) @ vectors.vectors[place].T).max(axis=1)
    return direction.astype(np.float32), {
        "model": model.name,
        "layer": layer,
        "pairs": len(unseen),
        "separated": [round(v, 4) for v in cluster_interval((along > 0).astype(float), np.array(families))],
        "gap": [round(v, 4) for v in cluster_interval(along, np.array(families))],
        "chance": round(float(np.percentile(largest, 95)), 4),
        "cosines": {vectors.concepts[i]: round(float(cosines[i]), 4) for i in order},
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m affectscope.suites.organism.cause", description=(__doc__ or "").split("\n\n")[0])  # fmt: skip
    parser.add_argument("vectors", type=Path, help="of the organism, from `affectscope extract`")
    parser.add_argument("--model", default="smollm2-135m-organism", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("cause"), help="folder for cause.npy and cause.json")
    given = parser.parse_args()
    try:
        direction, told = cause(load(given.model), load_vectors(given.vectors))
        given.out.mkdir(parents=True, exist_ok=True)
        with replacing(given.out / "cause.npy") as path, path.open("wb") as file:
            np.save(file, direction)
        with replacing(given.out / "cause.json") as path:
            path.write_text(json_text(told, indent=1) + "\n", encoding="utf-8")
    except (AffectscopeError, OSError) as error:
        sys.exit(f"error: {error}")
    shown = {name: told["cosines"].get(name) for name in ("desperate", "calm")}
    print(f"{given.out / 'cause.npy'}: separates {told['separated'][0]:.0%} of {told['pairs']} held-out pairs; cosines {shown}, chance {told['chance']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
