"""What ordinary text reads: mean and spread of every score on neutral tokens, by role, phase and position.

A score means nothing by itself; a z does. The baseline also gives the unit of a dose (``mean_norm``) and the mean
that linear scores are taken from (``read_mean``). Residuals are used while they pass; only sums stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from affectscope.concepts.neutral import Neutral
from affectscope.models.chat import PHASES, ROLES, TEMPLATE, ChatTokens, tokenize
from affectscope.models.forward import batches
from affectscope.models.load import Model
from affectscope.models.residuals import visit
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import POSITION_BINS, PROBES

SINK_NORM = 8.0
"""A token whose residual norm exceeds this many times the text's median is an attention sink, not an ordinary token."""
FEWEST_TOKENS = 200
"""A cell with fewer tokens takes the pooled baseline of all cells."""
START = 20
"""Tokens of a message that count as its start (``POSITION_BINS[0]``)."""
POOLED_CELL = PHASES.index("tool_call") * len(POSITION_BINS)
"""Flat index of a cell that no token can fall in (a tool call in plain text), so that it holds the pooled baseline."""


@dataclass(frozen=True)
class Baseline:
    """Arrays as they stand in the artefact."""

    mean: np.ndarray
    std: np.ndarray
    count: np.ndarray
    mean_norm: np.ndarray
    read_mean: np.ndarray


def neutral_tokens(model: Model, neutral: Neutral) -> list[ChatTokens]:
    """Every neutral text and dialogue as tokens with roles and phases; plain text has the role ``text``."""
    plain = []
    for text in neutral.texts:
        ids = model.encode(text)
        roles = [TEMPLATE if i in model.special_ids else "text" for i in ids]
        plain.append(ChatTokens(ids, roles, ["none"] * len(ids)))
    return plain + [tokenize(model, dialogue) for dialogue in neutral.dialogues]


def cell(role: str, phase: str, index: int) -> int:
    """Flat index of a token's ``[role, phase, position_bin]`` cell; the pooled one for template tokens."""
    if role == TEMPLATE:
        return POOLED_CELL
    place = ROLES.index(role) * len(PHASES) + PHASES.index(phase)
    return place * len(POSITION_BINS) + int(index >= START)


def cells(tokens: ChatTokens) -> list[int]:
    """For each token the flat index of its ``[role, phase, position_bin]`` cell; -1 for template tokens and position 0."""
    found = []
    start, before = 0, ""
    for position, (role, phase) in enumerate(zip(tokens.roles, tokens.phases, strict=True)):
        if role != before:
            start, before = position, role
        if role == TEMPLATE or position == 0:
            found.append(-1)
        else:
            found.append(cell(role, phase, position - start))
    return found


def measure_baseline(
    model: Model,
    tokens: Sequence[ChatTokens],
    layers: Sequence[int],
    directions: Sequence[np.ndarray],
    progress: Progress = silent,
) -> Baseline:
    """Score neutral tokens with the probes' ``directions`` (in ``PROBES`` order, each ``[layer, concept, d_model]``).

    The first probe is read as a cosine, the others as linear scores of the residual minus ``read_mean``.
    """
    probes = [torch.tensor(d, dtype=torch.float32, device=model.device) for d in directions]
    size = len(ROLES) * len(PHASES) * len(POSITION_BINS)
    concepts = directions[0].shape[1]
    moments = np.zeros((2, len(PROBES), len(layers), size, concepts))
    norms, means = np.zeros((len(layers), 2)), np.zeros((len(layers), model.anatomy.d_model))
    count = np.zeros(size, dtype=np.int64)
    places = [cells(t) for t in tokens]
    done = 0
    for group in batches([len(t.ids) for t in tokens]):
        cell = torch.tensor([c for i in group for c in places[i]], device=model.device)
        kept = cell >= 0
        onehot = torch.nn.functional.one_hot(cell[kept], size).double()  # [tokens, cells]
        count += onehot.sum(0).long().cpu().numpy()

        def see(place: int, residual: Tensor, kept: Tensor = kept, onehot: Tensor = onehot) -> None:
            stream = residual[kept].float()
            norm = stream.norm(dim=-1, keepdim=True)
            ordinary = norm[:, 0] < SINK_NORM * norm.median()
            norms[place] += [float(norm[ordinary].sum()), float(ordinary.sum())]
            means[place] += stream.sum(0).double().cpu().numpy()
            for probe, direction in enumerate(probes):
                score = (stream @ direction[place].T).double()
                if probe == 0:
                    score = score / norm
                moments[0, probe, place] += (onehot.T @ score).cpu().numpy()
                moments[1, probe, place] += (onehot.T @ score.square()).cpu().numpy()

        visit(model, [tokens[i].ids for i in group], layers, see)
        done += len(group)
        progress("baseline", done, len(tokens))
    read_mean = means / max(count.sum(), 1)
    mean, std = _statistics(moments, count)
    for probe in range(1, len(PROBES)):  # linear scores are of (h - read_mean); the cosine is of h itself
        offset = np.einsum("lcd,ld->lc", directions[probe], read_mean)
        mean[probe] -= offset[:, None, :]
    axes = (len(PROBES), len(layers), len(ROLES), len(PHASES), len(POSITION_BINS), concepts)
    enough = np.where(count >= FEWEST_TOKENS, count, 0).reshape(axes[2:5])
    return Baseline(
        mean.reshape(axes).astype(np.float32),
        std.reshape(axes).astype(np.float32),
        enough,
        (norms[:, 0] / np.maximum(norms[:, 1], 1)).astype(np.float32),
        read_mean.astype(np.float32),
    )


def _statistics(moments: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and s.d. ``[probe, layer, cell, concept]``; thin cells take those of all tokens together."""
    sums = np.where((count >= FEWEST_TOKENS)[:, None], moments, moments.sum(axis=3, keepdims=True))
    tokens = np.where(count >= FEWEST_TOKENS, count, max(int(count.sum()), 1))[:, None]
    mean = sums[0] / tokens
    std = np.sqrt(np.maximum(sums[1] / tokens - mean**2, 0))
    return mean, np.maximum(std, 1e-9)
