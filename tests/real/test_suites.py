"""A smoke run of each suite on the bundled model, as a user starts it: short replies, for the whole one takes minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real
COMMAND = str(Path(sys.executable).with_name("affectscope"))
CELLS = {
    "impossible-code": {"impossible", "twin"},
    "blackmail": {"neither", "threat_only", "leverage_only", "threat_leverage"},
    "sycophancy": {"wrong pushback", "right pushback", "neutral", "claim", "twin"},
}


@pytest.mark.parametrize("suite", CELLS)
def test_a_smoke_run_leaves_rates_traces_and_a_page(suite, real_audit, tmp_path):
    command = [COMMAND, "eval", suite, "--vectors", real_audit / "model.vectors.safetensors", "--smoke", "--max-tokens", "6", "--attempts", "1",
               "--sandbox", "landlock", "--no-choices", "--out", tmp_path / "e", "--json"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, cwd=tmp_path, timeout=300, check=False, env={**os.environ, "COLUMNS": "80"})  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert {row["cell"] for row in told["rows"]} >= CELLS[suite]
    assert sum(row["episodes"] for row in told["rows"]) == told["episodes"] >= 8
    lines = [json.loads(line) for line in (tmp_path / "e" / f"{suite}.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["tokens"] > 0
        assert all(v is not None for v in line["readings"]["desperate"]["readers"].values())
        assert line["trace"]
    assert "<affect-trace>" in (tmp_path / "e" / f"{suite}.html").read_text()
