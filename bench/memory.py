"""Peak memory of an extraction must not grow with the corpus: one copy of our stories against four."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile

from common import arguments, report

WORK = """
import resource, sys
from dataclasses import replace
from affectscope import api, load, load_stories
from affectscope.concepts.stories import Corpus
copies, topics = int(sys.argv[1]), int(sys.argv[2])
base = load_stories(topics=topics)
# a copy differs by one closing word, so that it is another text to read and the cells hold `copies` stories
corpus = Corpus(tuple(replace(s, text=s.text + " now" * i) for i in range(copies) for s in base.stories), "bench")
api.extract(load(), corpus)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(copies: int, topics: int) -> float:
    """Peak resident memory in MB of one extraction at the default layer, in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "AFFECTSCOPE_CACHE": cache}
        models = os.path.expanduser("~/.cache/affectscope/models")
        if os.path.isdir(models):
            os.symlink(models, os.path.join(cache, "models"))
        out = subprocess.run(
            [sys.executable, "-c", WORK, str(copies), str(topics)], env=env, capture_output=True, text=True, check=True
        )
        return int(out.stdout.split()[-1]) / 1024


def main() -> None:
    options = arguments(__doc__ or "")
    topics = 1 if options.quick else 3
    one, four = peak(1, topics), peak(4, topics)
    print(f"peak at 1x: {one:.0f} MB, at 4x: {four:.0f} MB")
    ratio = one / four
    report(
        "peak memory at 1x over 4x the corpus",
        (ratio, ratio, ratio),
        0.95,
        "bfloat16",
        mb_1x=round(one),
        mb_4x=round(four),
    )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
