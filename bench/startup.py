"""`affectscope --help` and `import affectscope` under 0.3 s: nothing heavy is imported before a command runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from common import arguments, report

LIMIT = 0.3


def main() -> None:
    options = arguments(__doc__ or "")
    jobs = {
        "affectscope --help": [str(Path(sys.executable).with_name("affectscope")), "--help"],
        "import affectscope": [sys.executable, "-c", "import affectscope"],
    }
    for name, command in jobs.items():
        seconds = []
        for _ in range(options.rounds or (5 if options.quick else 20)):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        low, middle, high = np.percentile(seconds, [2.5, 50, 97.5])
        ratios = (LIMIT / middle, LIMIT / high, LIMIT / low)
        report(f"0.3 s over the time of {name}", ratios, 1.0, "none", median_s=round(float(middle), 3))


if __name__ == "__main__":
    main()
