"""A box must start in a blink: seconds from nothing to a guest's first word, beside a bare interpreter."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from affectscope.suites.sandbox.box import TIERS, Box
from affectscope.suites.sandbox.probe import probe
from common import arguments, interleaved, machine


def main() -> None:
    options = arguments(__doc__ or "")
    found = probe()
    here = TIERS[TIERS.index(found.tier or "bare") :]
    with tempfile.TemporaryDirectory() as place:
        Path(place, "guest.py").write_text("print(1)\n", encoding="ascii")
        boxes = {tier: Box(Path(place), tier) for tier in here}
        jobs = {tier: lambda box=box: box.python("guest.py") for tier, box in boxes.items()}
        seconds = interleaved(jobs, options.rounds or (10 if options.quick else 60))
    for tier, values in seconds.items():
        low, middle, high = 1000 * np.percentile(values, [5, 50, 95])
        print(
            f"{tier:10} start, median {middle:.0f} ms, 5 to 95 %: {low:.0f} to {high:.0f} ms  ({machine()})", flush=True
        )


if __name__ == "__main__":
    main()
