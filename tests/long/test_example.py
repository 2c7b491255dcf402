"""The example agent, from nothing to a verified record. Run by `make long`: it extracts and calibrates."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real
EXAMPLE = Path(__file__).parents[2] / "examples" / "guarded_agent.py"


def test_the_example_leaves_a_record_that_verifies(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--out", tmp_path], capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "every line holds" in done.stdout
    assert "[tool]" in done.stdout
    assert (tmp_path / "trace.html").stat().st_size > 10_000
