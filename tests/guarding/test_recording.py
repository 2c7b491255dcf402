"""How evidence is written: its header, its checkpoints, on the disk before an effect, and what happens when it cannot be."""

import errno
import hashlib
import hmac
import json
import random

import pytest
import rfc8785

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Answer, Token
from affectscope.guarding.evidence import EVERY, Evidence, canonical
from affectscope.guarding.ladder import Act
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.verify import verify
from tests.guarding.test_evidence import header, session
from tests.guarding.test_ladder import COLD, HOT, guard


def test_content_is_a_fingerprint_unless_it_is_kept(tmp_path, keys, file):
    assert "secret" not in file.read_text()
    keyed = hmac.new(keys.content, b"rm -r secret", hashlib.sha256).hexdigest()
    assert f'"arguments":"hmac:{keyed}"' in file.read_text()  # whoever holds the key can show what was said
    session(tmp_path / "kept.jsonl", keys, keep_content=True)
    assert "rm -r secret" in (tmp_path / "kept.jsonl").read_text()


def test_a_file_that_cannot_even_be_closed_is_let_go(tmp_path, keys, monkeypatch):
    made = guard()
    evidence = Evidence(tmp_path / "e.jsonl", keys, header(made))

    class Stuck:
        def close(self):
            raise OSError("stale handle")

    real = evidence._file
    monkeypatch.setattr(evidence, "_file", Stuck())
    evidence.abandon()
    real.close()


def test_evidence_is_never_written_over(file, keys):
    with pytest.raises(AffectscopeError, match="never written over"):
        Evidence(file, keys, header(guard()))


def test_pythons_serialiser_gives_the_canonical_form():
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(
            chr(rng.choice([9, 34, 92, 47, 127, 228, 8232, 128512, rng.randrange(32, 0xD7FF)])) for _ in range(9)
        )
        values = {
            "n": rng.randrange(-(2**53) + 1, 2**53),
            "text": text,
            "z": [1, -2, True, None, []],
            "a": {"b": text, "A": 0},
        }
        assert canonical(values) == rfc8785.dumps(values)


def test_the_record_is_on_the_disk_before_the_effect(tmp_path, keys, monkeypatch):
    made, order = guard(), []
    evidence = Evidence(tmp_path / "e.jsonl", keys, header(made))
    real = evidence.commit
    monkeypatch.setattr(evidence, "commit", lambda: (order.append("disk"), real())[1])
    recorder = Recorder(made, evidence)
    decision = recorder.tell(Token(0, "assistant", "answer", True, HOT, HOT))
    order.append("effect")
    assert decision.acts
    assert order == ["disk", "effect"]
    evidence.close("done")


def test_a_record_that_cannot_be_written_ends_the_session(tmp_path, keys, monkeypatch):
    recorder = session(tmp_path / "e.jsonl", keys, tokens=5, close=False)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder.evidence, "write", full)
    decision = recorder.tell(Token(6, "assistant", "answer", True, COLD, COLD))
    assert decision.acts[0].action == "stop"
    assert recorder.state.latched == "audit write: No space left on device"
    noted = [event.detail for event in recorder.happened if event.kind == "fault"]
    assert noted[-1] == {"fault": "audit write", "cause": "No space left on device"}
    assert recorder.tell(Answer("tool:x", "approved")).closed


def test_a_record_lost_for_a_reason_without_a_name_says_what_python_says(tmp_path, keys, monkeypatch):
    recorder = session(tmp_path / "e.jsonl", keys, tokens=5, close=False)

    def gone(*_):
        raise OSError("the volume is gone")

    monkeypatch.setattr(recorder.evidence, "write", gone)
    recorder.tell(Token(6, "assistant", "answer", True, COLD, COLD))
    assert recorder.state.latched == "audit write: the volume is gone"
    assert recorder.happened[-2].detail["cause"] == "the volume is gone"


def test_checkpoints_come_at_their_distance_and_the_end_says_why(tmp_path, keys, monkeypatch):
    made = guard()
    recorder = Recorder(made, Evidence(tmp_path / "e.jsonl", keys, header(made)))
    for at in range(2 * EVERY):
        recorder.note(at=at)
    recorder.close("an operator ended it")
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_bytes().splitlines()]
    assert [i for i, line in enumerate(lines) if line["kind"] == "checkpoint"] == [EVERY + 1, 2 * EVERY + 2]
    assert (lines[-1]["kind"], lines[-1]["reason"]) == ("close", "an operator ended it")


def test_a_record_that_cannot_be_closed_is_a_fault(tmp_path, keys, monkeypatch):
    recorder = session(tmp_path / "e.jsonl", keys, tokens=5, close=False)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder.evidence, "checkpoint", full)
    recorder.close("done")
    assert recorder.state.latched == "audit write: No space left on device"


@pytest.mark.parametrize(("kept", "content"), [(False, "hmac"), (True, "kept")])
def test_the_header_says_what_the_file_is(tmp_path, keys, kept, content):
    made = guard()
    Evidence(tmp_path / "a" / "b" / "e.jsonl", keys, header(made), keep_content=kept).close("done")
    first = json.loads((tmp_path / "a" / "b" / "e.jsonl").read_bytes().splitlines()[0])
    assert (first["kind"], first["n"], first["prev"], first["format"]) == (
        "header",
        0,
        "0" * 64,
        "affectscope/evidence@1",
    )
    assert (first["content"], first["public"]) == (content, keys.public)
    assert first["policy_hash"] == made.policy.hash
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        AffectscopeError, match=r"cannot write the evidence .*: (Not a directory|File exists); choose another place"
    ):
        Evidence(tmp_path / "file" / "e.jsonl", keys, header(made))


@pytest.mark.parametrize("way", ["effect", "note", "counterfactual"])
def test_whatever_cannot_be_written_is_a_fault_with_its_cause(tmp_path, keys, way):
    recorder = Recorder(guard(), Evidence(tmp_path / "e.jsonl", keys, header(guard())))
    act = Act("up", 0, "log", "warn")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder.evidence.write = full
    recorder.position = 7
    {
        "effect": lambda: recorder.effect(act, {"done": 1}),
        "note": lambda: recorder.note(fact=1),
        "counterfactual": lambda: recorder.counterfactual(act, {"plain": []}),
    }[way]()
    last = recorder.happened[-1]
    assert (last.position, last.kind) == (7, "fault")
    assert last.detail == {"fault": "audit write", "cause": "No space left on device"}
    assert recorder.evidence is None
    assert "audit write" in recorder.state.latched


def test_what_happened_stands_at_the_token_that_was_read():
    recorder = Recorder(guard())
    act = Act("up", 0, "log", "warn")
    recorder.effect(act, {"done": 1})
    recorder.position = 5
    recorder.effect(act, {"done": 2}, later=True)
    assert [(e.position, e.kind, e.detail) for e in recorder.happened] == [
        (0, "action", {"act": "log", "rule": "up", "done": 1}),
        (5, "action", {"act": "log", "rule": "up", "later": True, "done": 2}),
    ]


def test_a_header_with_a_fraction_is_in_its_one_form(tmp_path, keys):
    path = tmp_path / "e.jsonl"
    recorder = Recorder(guard(), Evidence(path, keys, header(guard()) | {"alpha": 1e-7}))
    recorder.close("done")
    first, *rest = path.read_bytes().splitlines(keepends=True)
    assert b'"alpha":1e-7' in first  # as RFC 8785 has it; Python writes 1e-07
    assert verify(path, keys.public).failed is None
    path.write_bytes(first.replace(b"1e-7", b"1e-07") + b"".join(rest))
    assert verify(path, keys.public).failed == 1


@pytest.mark.parametrize("name", ["public", "content", "policy", "thresholds", "strata", "horizon"])
def test_a_header_that_lacks_something_is_told(tmp_path, keys, file, name):
    first, *rest = file.read_bytes().splitlines(keepends=True)
    values = json.loads(first)
    del values[name]
    file.write_bytes(rfc8785.dumps(values) + b"\n" + b"".join(rest))
    found = verify(file)
    assert found.failed == 1
    assert f"its header cannot be read ('{name}')" in found.cause
