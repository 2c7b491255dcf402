"""P6: every decision is in the chain on the disk before it takes effect, also when the process is killed in between."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from affectscope.concepts.neutral import Message
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.ladder import Guard
from affectscope.guarding.verify import verify
from affectscope.monitoring.monitor import monitor
from tests.guarding.scripted import Script, session, words
from tests.guarding.test_evidence import header
from tests.guarding.test_policy import small

LADDER = [
    {"action": "steer", "concept": "calm", "s": 0.05, "patience": 4},
    {"action": "reprompt", "patience": 4},
    "stop",
]


def policy():
    return small(rules__up__ladder=LADDER, rules__up__window=2)


def recorded(path):
    """Actions that stand on the disk now, read by another handle."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [act["action"] for line in lines for act in (line.get("decision") or {"acts": []})["acts"]]


@pytest.fixture
def begun(planted_vectors, tmp_path, keys):
    made = policy()
    path = tmp_path / "e.jsonl"
    evidence = Evidence(path, keys, header(Guard(made, {"up": {"all": 4.0}}, "none", 64)))
    watching = monitor(planted_vectors, rules=made.monitor_rules())
    hot = words(30, 5.0, 5.0)
    return session(planted_vectors, watching, made, hot, hot, hot, evidence=evidence), path


def test_each_effect_finds_its_decision_on_the_disk(begun, monkeypatch):
    (made, _), path = begun
    seen = []
    real_steer, real_stop = Script.steer, Script.stop
    monkeypatch.setattr(
        Script, "steer", lambda self, s: (seen.append(("steer", recorded(path))), real_steer(self, s))[1]
    )
    monkeypatch.setattr(Script, "stop", lambda self, r: (seen.append((r, recorded(path))), real_stop(self, r))[1])
    list(made.stream([Message("user", "go")]))
    made.recorder.close("done")
    assert {name for name, _ in seen} >= {"steer", "inserted", "stopped"}
    for name, on_disk in seen:
        assert {"steer": "steer", "inserted": "reprompt", "stopped": "stop"}[name] in on_disk
    assert verify(path).ok


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.guarding.test_evidence import guard, header, HOT
from affectscope.guarding.events import Token
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.keys import load_keys
from affectscope.guarding.recorder import Recorder
made = guard()
recorder = Recorder(made, Evidence(Path(sys.argv[2]), load_keys(Path(sys.argv[3])), header(made)))
decision = recorder.tell(Token(0, "assistant", "answer", True, HOT, HOT))
assert decision.acts
os.kill(os.getpid(), signal.SIGKILL)  # between the decision and its effect
"""


def test_killed_between_decision_and_effect(tmp_path, keys):
    path = tmp_path / "e.jsonl"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(path), str(tmp_path / "keys")], check=False, timeout=120, cwd=root)  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert recorded(path) == ["log"]
    found = verify(path, keys.public)
    assert found.ok
    assert any("no closing record" in note for note in found.notes)
    assert os.path.getsize(path) > 0


def test_the_ledger_names_every_strength_and_its_first_token(begun):
    (made, engine), path = begun
    list(made.stream([Message("user", "go")]))
    made.recorder.close("done")
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    ledger = [(line["first"], line["ledger"]) for line in lines if "ledger" in line]
    given = [(first, steering) for script in engine.begun for first, steering in script.doses]
    assert [first for first, _ in ledger] == [first for first, _ in given]
    assert [not strengths for _, strengths in ledger] == [steering is None for _, steering in given]
    strengths = [entry["calm"] for _, entry in ledger if entry]
    assert strengths[0] < max(strengths) == 50  # thousandths of the mean norm, up the ramp
