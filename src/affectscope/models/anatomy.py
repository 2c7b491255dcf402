"""Where a causal model keeps its blocks, its final norm and its unembedding. The only file that knows.

1. Try the known places (`_PLACES`), or the names that the user gave.
2. Check what was found against the model itself (`verify`): the block outputs are the hidden states, and
   the final norm and unembedding reproduce the logits. A model that fails is refused, never guessed at.

Layer ``l`` is the *output* of block ``l``, 0-based: ``hidden_states[l + 1]`` of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from affectscope.errors import AffectscopeError

# (blocks, final norm), tried in order. Right: the families that use the names.
_PLACES = (
    ("model.layers", "model.norm"),  # Llama, Mistral, Qwen 2/3 (dense and mixture), Gemma 1-3, OLMo 2, Phi-3, Mixtral
    ("transformer.h", "transformer.ln_f"),  # GPT-2, GPT-J, Falcon, Bloom
    ("gpt_neox.layers", "gpt_neox.final_layer_norm"),  # GPT-NeoX, Pythia
    ("model.language_model.layers", "model.language_model.norm"),  # the text half of Gemma 3 and other image models
    ("language_model.model.layers", "language_model.model.norm"),
    ("model.decoder.layers", "model.decoder.final_layer_norm"),  # OPT
)


@dataclass(frozen=True)
class Anatomy:
    """The parts of one causal model.

    ``blocks`` is the list of decoder blocks, ``final_norm`` the norm after the last one, ``unembedding`` the
    linear map from ``[*, d_model]`` to logits ``[*, vocabulary]``.
    """

    blocks: nn.ModuleList
    final_norm: nn.Module
    unembedding: nn.Module
    d_model: int
    blocks_name: str

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def default_layer(self) -> int:
        """The block whose output lies two thirds of the way up (paper section 2, item 6)."""
        return two_thirds(self.depth)


def two_thirds(depth: int) -> int:
    """0-based index of the block at two-thirds depth: of 30 blocks the 20th, index 19."""
    return max(round(depth * 2 / 3) - 1, 0)


def find(network: nn.Module, blocks: str | None = None, final_norm: str | None = None) -> Anatomy:
    """Find the parts of ``network``, in the places named or in the known ones.

    Raises:
        AffectscopeError: no known place fits; the message says how to name the blocks.
    """
    if bool(blocks) != bool(final_norm):
        raise AffectscopeError("--blocks and --final-norm go together: give both, as dotted names of modules")
    places = ((blocks, final_norm),) if blocks and final_norm else _PLACES
    for blocks_name, norm_name in places:
        try:
            found, norm = attrgetter(blocks_name)(network), attrgetter(norm_name)(network)
        except AttributeError:
            continue
        head: Any = network
        unembedding = head.get_output_embeddings() if hasattr(head, "get_output_embeddings") else None
        if isinstance(found, nn.ModuleList) and len(found) and unembedding is not None:
            return Anatomy(found, norm, unembedding, int(unembedding.weight.shape[-1]), blocks_name)
    lists = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    raise AffectscopeError(
        f"{type(network).__name__} keeps its blocks in no place that affectscope knows"
        + (f" (nor in {blocks!r})" if blocks else "")
        + "; name them with --blocks and --final-norm, for example --blocks model.layers --final-norm model.norm"
        + (f"; module lists here: {', '.join(lists[:4])}" if lists else "")
    )


@dataclass(frozen=True)
class Check:
    """One line of the self-test: what was checked, whether it held, and the number it rests on."""

    name: str
    passed: bool
    detail: str


def verify(network: nn.Module, anatomy: Anatomy, token_ids: Tensor) -> list[Check]:
    """Compare the parts found with what the model itself computes on ``token_ids`` ``[1, tokens]``.

    Returns checks of: the number of blocks against the configuration; each block's output against
    ``hidden_states``; finite values; logits rebuilt from final norm and unembedding.
    """
    outputs: dict[int, Tensor] = {}

    def record(index: int) -> Any:
        return lambda _module, _args, output: outputs.__setitem__(index, block_output(output))

    handles = [block.register_forward_hook(record(index)) for index, block in enumerate(anatomy.blocks)]
    try:
        with torch.inference_mode():
            result = network(token_ids, output_hidden_states=True, use_cache=False)
            rebuilt = logits_of(network, anatomy, outputs[anatomy.depth - 1])
    finally:
        for handle in handles:
            handle.remove()
    expected = getattr(_text_config(network), "num_hidden_layers", anatomy.depth)
    hidden = result.hidden_states
    aligned = len(hidden) == anatomy.depth + 1
    # transformers norms the last hidden state, so the last block is checked through the logits instead.
    gap = max((_gap(outputs[i], hidden[i + 1]) for i in range(anatomy.depth - 1)), default=0.0) if aligned else 1.0
    logit_gap = _gap(rebuilt, result.logits)
    finite = all(bool(torch.isfinite(out).all()) for out in outputs.values())
    tolerance = 1e-3 if result.logits.dtype == torch.float32 else 3e-2
    return [
        Check(
            "blocks", anatomy.depth == expected, f"{anatomy.depth} in {anatomy.blocks_name}; the model says {expected}"
        ),
        Check(
            "residual stream", gap < tolerance, f"block outputs differ from hidden states by {gap:.1e} of their size"
        ),
        Check("finite", finite, "every block output is finite" if finite else "NaN or Inf in a block output"),
        Check("unembedding", logit_gap < tolerance, f"rebuilt logits differ by {logit_gap:.1e} of their size"),
    ]


def block_output(output: Any) -> Tensor:
    """The residual stream in what a block returns: the tensor itself, or the first of a tuple."""
    stream: Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def logits_of(network: nn.Module, anatomy: Anatomy, stream: Tensor) -> Tensor:
    """Logits ``[*, vocabulary]`` from the residual stream ``[*, d_model]`` after the last block."""
    logits: Tensor = anatomy.unembedding(anatomy.final_norm(stream))
    return _cap(network, logits)


def _text_config(network: nn.Module) -> Any:
    config: Any = network.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _cap(network: nn.Module, logits: Tensor) -> Tensor:
    """Do to rebuilt logits what the model does after its unembedding: Gemma caps, Cohere and Granite scale."""
    config = _text_config(network)
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if scaling := getattr(config, "logits_scaling", None):
        logits = logits / scaling
    return logits


def _gap(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference as a share of the largest value."""
    one, other = one.float(), other.float()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-12))


# A dense block's last linear map of its MLP, tried in order. Right: the families that use the names.
_DOWN = (
    "mlp.down_proj",  # Llama, Mistral, Qwen 2/3, Gemma 1-3, OLMo 2, Phi-3
    "mlp.c_proj",  # GPT-2
    "mlp.dense_4h_to_h",  # GPT-NeoX, Pythia, Falcon, Bloom
)
_AFTER_MLP = ("post_feedforward_layernorm", "post_mlp_layernorm")  # Gemma 2/3, OLMo 2; GLM 4


def down_projection(block: nn.Module) -> tuple[nn.Module, nn.Module | None] | None:
    """The map whose input is the activations of a block's neurons, and the norm between it and the stream, if any.

    None for a mixture of experts (a neuron there is not the same from token to token) and for an unknown MLP.
    """
    for name in _DOWN:
        try:
            found: Any = attrgetter(name)(block)
        except AttributeError:
            continue
        weight: Any = getattr(found, "weight", None)
        # Stored [out, in] by Linear and [in, out] by GPT-2's Conv1D; a weight packed by quantisation is neither.
        if isinstance(found, (nn.Linear, _conv1d())) and weight.is_floating_point() and weight.dim() == 2:
            norms = (getattr(block, norm, None) for norm in _AFTER_MLP)
            return found, next((norm for norm in norms if norm is not None), None)
    return None


def _conv1d() -> type[nn.Module]:
    from transformers.pytorch_utils import Conv1D

    found: type[nn.Module] = Conv1D
    return found
