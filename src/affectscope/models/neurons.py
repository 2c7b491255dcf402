"""The neurons of dense blocks: what each one's activation is over texts, what it writes, and what its absence changes.

1. A neuron's activation is one input of its block's last MLP map, the down-projection.
2. What it writes into the residual stream is that map's column, times its activation.
3. Ablating it sets its activation to a given value (as its mean over other text); on exit the model is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from affectscope.errors import AffectscopeError
from affectscope.models.anatomy import down_projection
from affectscope.models.forward import TOKEN_BUDGET, Enough, Layout, forward
from affectscope.models.load import Model
from affectscope.models.residuals import Pooled, Span, from_position, span_batches, visit


@dataclass(frozen=True)
class Ablation:
    """Neurons set to fixed values in tokens ``start`` to ``stop`` (excluded) of a text (None: of all) of a batch.

    ``neurons`` maps a layer to indices ``[k]`` int64 and the values ``[k]`` that they are set to.
    """

    text: int | None
    start: int
    stop: int
    neurons: Mapping[int, tuple[Tensor, Tensor]]


def neuron_count(model: Model, layers: Sequence[int]) -> int:
    """Neurons of each block of ``layers``, which must have equally many.

    Raises:
        AffectscopeError: a block that has no dense MLP, an unknown one, or one of another width.
    """
    widths = {_width(_down(model, layer)[0]) for layer in layers}
    if len(widths) != 1:
        raise AffectscopeError(f"the blocks of {model.name} have MLPs of several widths: {sorted(widths)}")
    return widths.pop()


def pooled_neurons(
    model: Model,
    texts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    skip: int = 0,
    spans: Sequence[Span] | None = None,
    budget: int = TOKEN_BUDGET,
) -> Iterator[Pooled]:
    """Mean activation of every neuron over spans of texts, batch by batch: means ``[spans, layers, d_mlp]`` float32.

    The arguments, the special tokens left out and the refusals are those of :func:`residuals.pooled`.
    """
    spans = from_position(texts, skip) if spans is None else spans
    width = neuron_count(model, layers)
    for chosen, indices, weights in span_batches(model, texts, spans, budget):
        means = torch.empty(len(indices), len(layers), width)

        def see(place: int, inputs: Tensor, means: Tensor = means, weights: Tensor = weights) -> None:
            means[:, place] = (weights @ inputs.float()).cpu()

        _watch(model, [texts[i] for i in chosen], [_down(model, layer)[0] for layer in layers], see)
        if not bool(torch.isfinite(means).all()):
            raise AffectscopeError(f"NaN or Inf among the neurons of {model.name}: load it with --dtype float32")
        yield Pooled(indices, means)


def written(model: Model, layer: int, scale: float = 1.0) -> Tensor:
    """``[d_mlp, d_model]`` float32: what each neuron of a block adds to the stream for an activation of one.

    Args:
        scale: of the norm after the MLP, see :func:`norm_scales`; its gain is applied here.
    """
    down, norm = _down(model, layer)
    weight: Any = down.weight
    columns: Tensor = (weight.T if isinstance(down, nn.Linear) else weight).detach().float()
    return (columns if norm is None else columns * _gain(model, norm)) * scale


def norm_scales(model: Model, texts: Sequence[Sequence[int]], layers: Sequence[int]) -> list[float]:
    """For each layer the mean factor, about 1/rms, of the norm after its MLP over ``texts``; 1 where there is none."""
    scales = [1.0] * len(layers)
    norms = [(place, norm) for place, layer in enumerate(layers) if (norm := _down(model, layer)[1]) is not None]

    def see(place: int, inputs: Tensor) -> None:
        where, norm = norms[place]
        plain = inputs.float() * _gain(model, norm)
        # `forward` itself: a call would come back to this hook.
        factor = (norm.forward(inputs).float() * plain).sum(dim=-1) / plain.square().sum(dim=-1).clamp_min(1e-30)
        scales[where] = float(factor.mean())

    if norms:
        _watch(model, texts, [norm for _, norm in norms], see)
    return scales


def _gain(model: Model, norm: nn.Module) -> Tensor:
    """``[d_model]`` float32: an RMS norm of ones gives its gain, whichever way the family stores it."""
    ones = torch.ones(model.anatomy.d_model, device=model.device, dtype=model.dtype)
    with torch.no_grad():
        gain: Tensor = norm.forward(ones).float()
    return gain


@contextmanager
def ablated(
    model: Model, texts: Sequence[Sequence[int]], ablations: Sequence[Ablation], shared: int = 0
) -> Iterator[None]:
    """Within the block, a forward of this one batch of ``texts`` runs with neurons ablated; undone on exit, to the bit.

    Texts and tokens without an ablation are not touched. Where two ablations name the same, the later one holds.

    Raises:
        AffectscopeError: a block without known neurons.
        ValueError: within the block, another batch than ``texts`` is run.
    """
    lengths = tuple(len(text) for text in texts)
    layout = Layout(lengths, shared, 0 if model.packed else max(lengths))
    tokens = layout.width * len(lengths) if layout.width else len(layout.order)
    places: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
    for ablation in ablations:
        rows = [i for position in range(ablation.start, ablation.stop) for i in layout.flat(ablation.text, position)]
        where = torch.tensor(rows, dtype=torch.long, device=model.device)[:, None]
        for layer, (index, values) in ablation.neurons.items():
            part = (where, index.to(model.device)[None], values.to(model.device, model.dtype))
            places.setdefault(layer, []).append(part)
    downs = {layer: _down(model, layer)[0] for layer in places}  # a refusal comes before any hook is set
    handles = [downs[layer].register_forward_pre_hook(_setter(parts, tokens)) for layer, parts in places.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def ablated_means(
    model: Model,
    texts: Sequence[Sequence[int]],
    layer: int,
    neurons: Sequence[Mapping[int, tuple[Tensor, Tensor]]],
    *,
    skip: int = 0,
    budget: int = TOKEN_BUDGET,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Tensor:
    """``[texts, d_model]`` float32: mean residual from ``skip`` on after block ``layer``, each text with its own ablation.

    The first token keeps its neurons: attention rests on its outsize activations, and without them anything breaks.

    Args:
        neurons: one for each text: layer to indices and values as in :class:`Ablation`; {} leaves the text as it is.
        progress: called as ``progress(texts done, texts)``.
    """
    means = torch.empty(len(texts), model.anatomy.d_model)
    done = 0
    for group, _, weights in span_batches(model, texts, from_position(texts, skip), budget):
        batch = [texts[i] for i in group]
        ablations = [Ablation(row, 1, len(texts[i]), neurons[i]) for row, i in enumerate(group)]

        def see(_place: int, residual: Tensor, group: list[int] = group, weights: Tensor = weights) -> None:
            means[group] = (weights @ residual.float()).cpu()

        with ablated(model, batch, ablations):
            visit(model, batch, [layer], see)
        done += len(group)
        progress(done, len(texts))
    return means


def _down(model: Model, layer: int) -> tuple[nn.Module, nn.Module | None]:
    found = down_projection(model.anatomy.blocks[layer])
    if found is None:
        raise AffectscopeError(
            f"block {layer} of {model.name} is no dense MLP of a known kind (a mixture of experts has no neurons that all "
            "tokens share): neurons can be read of dense models only"
        )
    return found


def _width(down: nn.Module) -> int:
    weight: Any = down.weight
    return int(weight.shape[1] if isinstance(down, nn.Linear) else weight.shape[0])


def _watch(
    model: Model, texts: Sequence[Sequence[int]], modules: Sequence[nn.Module], see: Callable[[int, Tensor], None]
) -> None:
    """One forward that calls ``see(place, inputs [tokens, width])`` for each module and ends when all were seen."""

    def hooks(layout: Layout) -> list[RemovableHandle]:
        order = None if model.packed else torch.tensor(layout.order, device=model.device)
        waiting = set(range(len(modules)))

        def hook(place: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def read(_module: nn.Module, args: tuple[Any, ...]) -> None:
                flat = args[0].reshape(-1, args[0].shape[-1])
                see(place, flat if order is None else flat[order])
                waiting.discard(place)
                if not waiting:
                    raise Enough

            return read

        return [module.register_forward_pre_hook(hook(place)) for place, module in enumerate(modules)]

    forward(model, texts, hooks)


def _setter(
    parts: Sequence[tuple[Tensor, Tensor, Tensor]], tokens: int
) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def put(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # A copy: what comes in may be used elsewhere too.
        flat = args[0].reshape(-1, args[0].shape[-1]).clone()
        if len(flat) != tokens:
            raise ValueError(f"neurons are ablated in a batch of {tokens} tokens, and one of {len(flat)} was run")
        for rows, index, values in parts:
            flat[rows, index] = values
        return (flat.view(args[0].shape), *args[1:])

    return put
