"""Weights laid out once as the processor's kernels want them, instead of at every pass.

On a CPU a bfloat16 linear map of few tokens spends a third of its time rearranging its weights. Kept rearranged, they take
as much memory again, and the products are the same to the bit (checked on each map before it is used). Elsewhere, and for
models too large to be held twice, nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 4 * 2**30
"""Bytes of weights above which a second copy is not made."""


class PackedWeights:
    """Rearranged weights of a network's linear maps, used only inside :meth:`used`."""

    def __init__(self, network: nn.Module) -> None:
        self._swaps: list[tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = []
        if _worth_it(network):
            for module in network.modules():
                if type(module) is nn.Linear and (packed := _packed(module)) is not None:
                    self._swaps.append((module.__dict__, packed))

    def __len__(self) -> int:
        return len(self._swaps)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within the block the network's linear maps run on the rearranged weights."""
        for names, packed in self._swaps:
            names["forward"] = packed
        try:
            yield
        finally:
            for names, _ in self._swaps:
                names.pop("forward", None)


def _worth_it(network: nn.Module) -> bool:
    parameters = list(network.parameters())
    size = sum(p.numel() * p.element_size() for p in parameters)
    right = all(p.device.type == "cpu" for p in parameters) and parameters[0].dtype == torch.bfloat16
    return right and size <= LARGEST and bool(torch._C._has_mkldnn)


def _packed(module: nn.Linear) -> Callable[[Tensor], Tensor] | None:
    """The map on rearranged weights; None where this build cannot do it or the product would differ in a single bit."""
    weight, bias = module.weight, module.bias
    try:
        with torch.inference_mode():
            stored = torch.ops.mkldnn._reorder_linear_weight(weight)

            def forward(value: Tensor) -> Tensor:
                found: Tensor = torch.ops.mkldnn._linear_pointwise(value, stored, bias, "none", [], "")
                return found

            probe = torch.linspace(-2, 2, 3 * weight.shape[1], dtype=weight.dtype).reshape(1, 3, -1)
            same = torch.equal(forward(probe), nn.functional.linear(probe, weight, bias))
    except (RuntimeError, AttributeError, NotImplementedError):
        return None
    return forward if same else None
