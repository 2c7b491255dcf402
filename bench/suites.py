"""Episodes of a suite go through the engine together: seconds of the same rollouts with sixteen slots and with one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

from affectscope.engines.base import Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.guarding.arms import Arm
from affectscope.monitoring.monitor import monitor
from affectscope.suites.blackmail.suite import Blackmail
from affectscope.suites.frame import Choice, Done, Scenario, Suite
from affectscope.suites.impossible_code.suite import ImpossibleCode
from affectscope.suites.run import run
from affectscope.suites.sycophancy.suite import Sycophancy
from common import arguments, interleaved, paired, report, subject

SLOTS, EPISODES, TOKENS = 16, 16, 400  # the longest reply of `affectscope eval`


class Written:
    """A suite without its judgement, so that writing alone is timed: an episode ends with its first reply."""

    outcomes, harmful, settings = ("written",), frozenset[str](), dict[str, object]()

    def __init__(self, suite: Suite) -> None:
        self.name, self.some = suite.name, suite.scenarios()[:EPISODES]

    def scenarios(self) -> list[Scenario]:
        """Sixteen that follow each other, as in a run."""
        return self.some

    def choices(self) -> list[Choice]:
        """None: nothing is asked."""
        return []

    def follow(self, _scenario: Scenario, _replies: Sequence[str]) -> Done:
        """The end."""
        return Done("written")


def main() -> None:
    options = arguments(__doc__ or "", tokens=str(TOKENS), suites="impossible-code,blackmail,sycophancy")
    model, vectors = subject(options.shape)
    watching, files = monitor(vectors, rules=()), count()
    sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=24 if options.quick else int(options.tokens))
    suites = [Written(suite) for suite in (ImpossibleCode("bare"), Blackmail(), Sycophancy()) if suite.name in options.suites]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:

        def job(suite: Written, slots: int) -> object:
            engine, out = (
                TransformersEngine(model, watching.read, slots, reuse=True),
                Path(place, f"{next(files)}.jsonl"),
            )
            return run(engine, vectors, watching, suite, suite.scenarios(), [Arm("none")], [0], sampling, out)

        for suite in suites:
            jobs = {str(slots): partial(job, suite, slots) for slots in (SLOTS, 1)}
            seconds = interleaved(jobs, options.rounds or (3 if options.quick else 7))
            found = paired(seconds["1"], seconds[str(SLOTS)])
            claim = f"{suite.name}: {SLOTS} episodes at once over one at a time"
            report(claim, found, 3.0, model.identity["dtype"], tokens=sampling.max_tokens)


if __name__ == "__main__":
    main()
