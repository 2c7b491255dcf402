"""A box must start in a blink: from nothing to a guest's first word in a median below 100 ms, and how much of it the walls take."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from affectscope.suites.sandbox.box import TIERS, Box
from affectscope.suites.sandbox.probe import probe
from common import arguments, interleaved, machine, paired

GOAL = 100
"""Milliseconds."""


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
        low, middle, high = (round(float(v)) for v in 1000 * np.percentile(values, [5, 50, 95]))
        line = {
            "claim": f"a box of the tier {tier}, start to end",
            "median_ms": middle,
            "from_5_to_95_percent_ms": [low, high],
            "goal_ms": GOAL,
            "over_bare": [round(ratio, 2) for ratio in paired(values, seconds["bare"])],
            "machine": machine(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
