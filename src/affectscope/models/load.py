"""A name becomes a model that can be read: hub id, folder, GGUF file, or the bundled default."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from affectscope.errors import AffectscopeError
from affectscope.models import adapters
from affectscope.models import anatomy as anatomy_of
from affectscope.models.anatomy import Anatomy, Check
from affectscope.models.bundled import DEFAULT_MODEL, ORGANISM, converted, default_gguf
from affectscope.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from affectscope.models.packing import packing_check

_TOKENIZING = threading.Lock()
_PROBE = "The tide tables for the northern harbour list two high waters on most days of the year."


@dataclass(frozen=True)
class Model:
    """A loaded causal model whose parts were found and checked.

    ``packed`` says whether texts may be packed without padding (checked when loaded, see ``packing``).
    """

    name: str
    revision: str
    network: nn.Module
    tokenizer: Any
    anatomy: Anatomy
    packed: bool
    checks: tuple[Check, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' number format."""
        return next(self.network.parameters()).dtype

    @cached_property
    def identity(self) -> dict[str, str]:
        """What an artefact records of the model: id, revision, fingerprints, dtype."""
        return {
            "id": self.name,
            "revision": self.revision,
            "weights": weights_fingerprint(self.network),
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "dtype": str(self.dtype).removeprefix("torch."),
            "architecture": type(self.network).__name__,
        }

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the tokenizer's special tokens, which are never averaged over. An unknown word is text all the same."""
        tokenizer = self.tokenizer
        structural = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        return frozenset(i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id or i in structural)

    @property
    def longest(self) -> int:
        """Tokens that one text may have, by the model's position limit (no limit known: a million)."""
        config: Any = self.network.config
        return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1_000_000)

    def tokenized(self, text: str, **how: Any) -> Any:
        """What the tokenizer makes of a text. One thread at a time: tokenizers keep how they treat special tokens in themselves,
        and two threads that ask for both ways at once would get each other's, which lets a user's text forge a role."""
        with _TOKENIZING:
            return self.tokenizer(text, **how)

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain text: BOS where the tokenizer adds one; special tokens in the text stay text."""
        ids: list[int] = self.tokenized(text, add_special_tokens=True, split_special_tokens=True)["input_ids"]
        return ids


def default_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU and on processors with avx512_bf16 or amx; float32 elsewhere."""
    if device.startswith("cuda"):
        return torch.bfloat16
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return torch.float32
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


def load(
    model: str = DEFAULT_MODEL,
    *,
    dtype: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    blocks: str | None = None,
    final_norm: str | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Model:
    """Load ``model``, find its parts and check them.

    Args:
        model: hub id, folder (of a model or of an adapter), GGUF file, ``smollm2-135m`` or ``smollm2-135m-organism``.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by processor when None.
        device: ``cpu``, ``cuda``...; the GPU when there is one and this is None.
        revision: of a hub id.
        blocks: dotted name of the block list, for an unknown architecture; with ``final_norm``.
        tell: called with a line before a long step.

    Raises:
        AffectscopeError: not found, damaged, unknown architecture, or the self-check failed.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    number_format = _dtype(dtype, device)
    network, tokenizer = _from_pretrained(model, _resolve(model, tell), number_format, revision)
    try:
        network = network.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0][:120]
        raise AffectscopeError(f"cannot use the device {device!r} ({line}): try --device cpu") from error
    return wrap(
        network,
        tokenizer,
        name=Path(model).name if Path(model).exists() else model,
        revision=revision or str(getattr(network.config, "_commit_hash", None) or ""),
        blocks=blocks,
        final_norm=final_norm,
    )


def wrap(
    network: nn.Module,
    tokenizer: Any,
    *,
    name: str = "model",
    revision: str = "",
    blocks: str | None = None,
    final_norm: str | None = None,
) -> Model:
    """Make a network that is already in memory readable, after the same self-check as :func:`load`.

    Raises:
        AffectscopeError: unknown architecture, or a check failed.
    """
    anatomy = anatomy_of.find(network, blocks, final_norm)
    ids: list[int] = tokenizer(_PROBE)["input_ids"]
    tensor = torch.tensor([ids], device=next(network.parameters()).device)
    try:
        checks = anatomy_of.verify(network, anatomy, tensor)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        line = str(error).splitlines()[0][:120]
        raise AffectscopeError(
            f"{name} cannot be run with the parts named ({line}): check --blocks and --final-norm"
        ) from error
    if failed := [c for c in checks if not c.passed]:
        raise AffectscopeError(
            f"{name} did not pass its self-check ({failed[0].name}: {failed[0].detail}); "
            "name its parts with --blocks and --final-norm, or report the architecture"
        )
    half = len(ids) // 2
    packing = packing_check(network, anatomy, [ids, ids[:half], ids[1 : half + 3]])
    return Model(name, revision, network, tokenizer, anatomy, packing.passed, (*checks, packing))


def _dtype(name: str | None, device: str) -> torch.dtype:
    if name is None or name == "auto":
        return default_dtype(device)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise AffectscopeError(f"unknown dtype {name!r}: use one of {', '.join(known)}")
    return known[name]


def _resolve(model: str, tell: Callable[[str], None]) -> str:
    """What ``from_pretrained`` can open: a folder on this machine, or a hub id."""
    if model == DEFAULT_MODEL:
        return str(converted(default_gguf(), tell))
    if model == ORGANISM:
        return str(adapters.merged(adapters.SHIPPED, tell))
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        return str(converted(path, tell))
    if path.is_dir():
        if adapters.is_adapter(path):
            return str(adapters.merged(path, tell))
        if not (path / "config.json").is_file():
            raise AffectscopeError(f"{path} holds no config.json: name the folder that a model was saved to")
        return str(path)
    if path.exists() or model.startswith((".", "/", "~")):
        raise AffectscopeError(f"{model} is neither a model folder nor a GGUF file: check the path")
    return model


def _from_pretrained(model: str, source: str, dtype: torch.dtype, revision: str | None) -> tuple[nn.Module, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        network = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, revision=revision or "main")
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision or "main")
    except Exception as error:  # hub, disk and format errors alike: the user needs the cause and what to try
        line = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise AffectscopeError(
            f"cannot load the model {model!r} ({line}); give a hub id, a folder, a GGUF file or {DEFAULT_MODEL}"
        ) from error
    return network, tokenizer
