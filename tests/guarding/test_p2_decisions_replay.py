"""P2: decisions are a pure function of what was recorded and the policy: another process gives them again, to the bit."""

import json
import subprocess
import sys

from affectscope.guarding.verify import verify
from tests.guarding.test_evidence import session

REPLAY = """
import json, sys
from affectscope.guarding.events import from_json
from affectscope.guarding.ladder import Guard
from affectscope.guarding.policy import Policy
head, *rest = [json.loads(line) for line in open(sys.argv[1])]
guard = Guard(Policy.model_validate(head["policy"]), head["thresholds"], head["strata"], head["horizon"])
state, found = guard.start(), []
for line in rest:
    if line["kind"] == "event":
        state, decision = guard.decide(state, from_json(line["of"]))
        found.append(decision.plain())
print(json.dumps([found, state.rules, list(state)[1:]]))
"""


def test_another_process_decides_alike(tmp_path, keys):
    path = tmp_path / "e.jsonl"
    recorder = session(path, keys, tokens=200)
    runs = {
        subprocess.run(
            [sys.executable, "-c", REPLAY, str(path)], capture_output=True, check=True, text=True, timeout=120,
            env={"PYTHONHASHSEED": str(seed), "PATH": ""},
        ).stdout
        for seed in (0, 1, 2)
    }  # fmt: skip
    assert len(runs) == 1
    found, rules, rest = json.loads(runs.pop())
    assert rules == json.loads(json.dumps(recorder.state.rules))
    assert rest == json.loads(json.dumps(list(recorder.state)[1:]))
    told = [json.loads(line).get("decision") for line in path.read_text().splitlines() if '"kind":"event"' in line]
    assert [f for f, t in zip(found, told, strict=True) if t is not None] == [t for t in told if t is not None]
    assert verify(path, keys.public).ok
