"""A base model and an adapter become one model, once: the merged weights are kept in the cache and load like any folder.

1. ``adapter_config.json`` names the base: the bundled model, a folder, a GGUF file or a hub id.
2. The cache is keyed by the hashes of the base and of the adapter, so a change of either is another model.
3. The adapter is added to the base's weights. Nothing reads differently afterwards, so all else works as with any model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affectscope.errors import AffectscopeError
from affectscope.files import cache_dir, replacing_folder, sha256_of_file
from affectscope.models.bundled import DEFAULT_MODEL, converted, default_gguf

CONFIG = "adapter_config.json"
"""Its presence makes a folder an adapter."""
SHIPPED = Path(__file__).with_name("organism")
"""The adapter that comes with the package, for the bundled model."""
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and so only a part of a model."""
    return (folder / CONFIG).is_file()


def merged(folder: Path, tell: Callable[[str], None] = lambda _line: None) -> Path:
    """Folder with the base and the adapter in ``folder`` as one model, made now if the cache does not hold it.

    Raises:
        AffectscopeError: the adapter is damaged or does not fit, its base is not to be had, or peft is not installed.
    """
    base, own = _base(folder, tell), _digest(folder, (CONFIG, *_WEIGHTS))
    key = hashlib.sha256(f"{_identity(base)}:{own}".encode()).hexdigest()
    place = cache_dir() / "models" / key[:24]
    if not (place / "config.json").is_file():
        tell(f"merging the adapter {folder.name} into its base (once)")
        with replacing_folder(place) as temporary:
            _merge(base, folder, temporary)
    return place


def _base(folder: Path, tell: Callable[[str], None]) -> Path:
    """The folder of the model that an adapter was trained for."""
    config = _config(folder)
    name = config.get("base_model_name_or_path")
    if not name or not isinstance(name, str):
        raise AffectscopeError(f"{folder / CONFIG} names no base model: set base_model_name_or_path")
    path = Path(name).expanduser()
    if name == DEFAULT_MODEL:
        return converted(default_gguf(), tell)
    if path.suffix == ".gguf":
        return converted(path, tell)
    if (path / "config.json").is_file():
        return path
    if path.is_dir() or name.startswith((".", "/", "~")):
        raise AffectscopeError(f"the base of {folder}, {name}, is no model folder: correct base_model_name_or_path in {CONFIG}")  # fmt: skip
    return _fetched(name, config.get("revision"), folder)


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AffectscopeError(f"cannot read {folder / CONFIG} ({str(error)[:80]}): save the adapter again") from error
    if not isinstance(found, dict):
        raise AffectscopeError(f"{folder / CONFIG} is no JSON object: save the adapter again")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise AffectscopeError(f"{folder} holds {CONFIG} and no {_WEIGHTS[0]}: save the adapter again")
    return found


def _fetched(name: str, revision: object, folder: Path) -> Path:
    """A base on the hub as a folder of this machine, which a key can be made of."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=str(revision) if revision else None))
    except Exception as error:  # the hub fails in many ways; each means the same to the user
        line = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise AffectscopeError(
            f"the base of {folder}, {name}, is not to be had ({line}): fetch it, or name a folder as "
            f"base_model_name_or_path in {CONFIG}"
        ) from error


def _identity(base: Path) -> str:
    # What the cache holds is named by the hash of what it was made from.
    if base.parent == cache_dir() / "models":
        return base.name
    return _digest(base, sorted(p.name for p in base.iterdir() if p.suffix in (".json", ".safetensors", ".bin")))


def _digest(folder: Path, names: tuple[str, ...] | list[str]) -> str:
    found = {name: sha256_of_file(folder / name) for name in names if (folder / name).is_file()}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _merge(base: Path, folder: Path, into: Path) -> None:
    if importlib.util.find_spec("peft") is None:
        raise AffectscopeError(f"{folder.name} is an adapter, which needs peft: run `pip install 'affectscope[organism]'`")  # fmt: skip
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with warnings.catch_warnings():
            # peft asks for a name that transformers is about to drop; nothing of ours, and no harm.
            warnings.simplefilter("ignore", FutureWarning)
            network = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
            whole = PeftModel.from_pretrained(network, folder).merge_and_unload(safe_merge=True)
        source = folder if (folder / "tokenizer_config.json").is_file() else base
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # a wrong shape, a damaged file, a kind that cannot be merged: one line for all
        line = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise AffectscopeError(
            f"cannot merge the adapter {folder} into its base ({line}): check that it was trained for {base.name} "
            "and that its files are whole"
        ) from error
    whole.save_pretrained(into)
    tokenizer.save_pretrained(into)
