"""`affectscope doctor` and `corpus`: will it work here, and are these stories fit for it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectscope.options import MODEL, BlocksOpt, DeviceOpt, DtypeOpt, JsonOpt, ModelArg, ModelOpt, NormOpt
from affectscope.shared import load_named, show


def doctor(
    model_name: ModelArg = None,
    model: ModelOpt = MODEL,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Check this machine, and whether a model can be read."""
    from affectscope.doctor import machine_checks, model_checks

    checks = machine_checks()
    loaded = load_named(model_name or model, dtype, device, blocks, final_norm)
    checks += model_checks(loaded)
    lines = [f"{'ok  ' if c.passed else 'note'} {c.name:18} {c.detail}" for c in checks]
    show([{"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks], as_json, "\n".join(lines))


def corpus(
    file: Annotated[Path | None, typer.Argument(help="JSON Lines; our own corpus when not given.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Check a story corpus: crossing, lengths, forbidden words, repetition."""
    from affectscope.concepts.checks import corpus_report
    from affectscope.concepts.stories import load_stories

    report = corpus_report(load_stories(file))
    lines = [f"{name:28} {value}" for name, value in report.items() if name != "problems"]
    problems: list[str] = report["problems"]
    lines += problems[:40] + ([f"... and {len(problems) - 40} more"] if len(problems) > 40 else [])
    show(report, as_json, "\n".join(lines))
