"""Write docs/experiments.md from the registry, so that it lists what is there: ``make docs``."""

from __future__ import annotations

import inspect
from pathlib import Path

from affectscope.validation.base import Experiment, experiments

HEAD = """# The experiments

What `affectscope validate` runs, in the order of the report. Each file in `src/affectscope/validation/` opens with the text below;
the pass rule, stated before the run, stands in its result. `affectscope validate --only NAME` runs one. Written by `make docs`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(e) for e in experiments())])


def section(experiment: Experiment) -> str:
    """One experiment: its title, its name, and its module's documentation."""
    text = inspect.getdoc(inspect.getmodule(experiment.run)) or ""
    return f"## {experiment.title or experiment.name}\n\n`{experiment.name}`. {text}\n"


if __name__ == "__main__":
    Path(__file__).with_name("experiments.md").write_text(page(), encoding="utf-8")
