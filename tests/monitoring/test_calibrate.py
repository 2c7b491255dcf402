"""Calibration on a planted tiny model: sets kept apart, promise kept, resumed, refused; and detection of a planted pressure."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import WORDS, planted_corpus

from affectscope.concepts.episodes import Opening
from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.monitoring import calibrate as calibrate_module
from affectscope.monitoring.calibrate import calibrate, deal
from affectscope.monitoring.calibration import load_calibration
from affectscope.monitoring.detection import PLAIN, TEXT, auroc, detection, extended, watched
from affectscope.monitoring.detectors import Cusum, Rule
from affectscope.monitoring.monitor import monitor
from affectscope.monitoring.text_monitor import TextMonitor

SHORT = Sampling(temperature=1.0, max_tokens=6, seed=0)
# Reads the prompt too: a random network does not carry a planted word into what it writes.
RULE = Rule("up", {"angry": 1, "calm": -1}, Cusum(0.5), roles=("user", "assistant"), generated=False)


def openings(count, extra=(), start=0):
    rng = np.random.default_rng(start)
    return [
        Opening(
            (Message("user", " ".join([*map(str, rng.choice(WORDS, 12)), *extra])),),
            {"domain": f"d{i % 2}", "pair": f"p{i}"},
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def made(planted, planted_vectors):
    watching = monitor(planted_vectors, rules=(RULE,))
    return planted_vectors, watching, TransformersEngine(planted[0], watching.read, slots=16)


@pytest.fixture(scope="module")
def calibration(made):
    vectors, watching, engine = made
    return calibrate(engine, vectors, watching, openings(330), alpha=0.05, sampling=SHORT)


def test_sets_share_no_episode_and_do_not_depend_on_order():
    some = openings(66)
    sets, again = deal(some), deal(some[::-1])
    ids = {name: [o.id for o in part] for name, part in sets.items()}
    assert ids == {name: [o.id for o in part] for name, part in again.items()}
    assert [len(part) for part in ids.values()] == [10, 30, 26]
    assert len({i for part in ids.values() for i in part}) == 66


def test_the_promise_holds_on_the_audit_set(calibration):
    whole = next(part for part in calibration.audit if part.part == "all")
    assert whole.episodes == 130
    assert whole.low <= 0.05
    assert {name: part.episodes for name, part in calibration.sets.items()} == {
        "train": 50,
        "calibrate": 150,
        "audit": 130,
    }
    assert len({part.hash for part in calibration.sets.values()}) == 3
    assert max(calibration.drift.values()) < 100


def test_a_file_gives_the_same_monitor_again(calibration, made, tmp_path):
    vectors, *_ = made
    path = tmp_path / "c.json"
    calibration.save(path)
    back = load_calibration(path)
    assert back == calibration
    assert back.hash == calibration.hash
    watching = back.monitor(vectors)
    assert watching.rules == (RULE,)
    assert watching.thresholds["up"]["all"][1] == 0.05
    assert watching.horizon == 6
    assert watching.standard.source.startswith("the model's own answers")


def test_a_calibration_of_other_vectors_is_refused(calibration, made, tmp_path):
    vectors, *_ = made
    other = replace(vectors, readers=vectors.readers + 1)
    with pytest.raises(AffectscopeError, match="other vectors"):
        calibration.monitor(other)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(AffectscopeError, match="calibrate again"):
        load_calibration(bad)
    with pytest.raises(AffectscopeError, match="affectscope calibrate"):
        load_calibration(tmp_path / "none.json")


def test_too_few_openings_are_refused_before_anything_runs(made, monkeypatch):
    vectors, watching, engine = made
    monkeypatch.setattr(calibrate_module, "train", lambda *_: pytest.fail("it ran"))
    with pytest.raises(AffectscopeError, match="at least 99"):
        calibrate(engine, vectors, watching, openings(66), alpha=0.01, sampling=SHORT)
    with pytest.raises(AffectscopeError, match="stratum 'd0'"):
        calibrate(engine, vectors, watching, openings(330), alpha=0.01, strata="domain", sampling=SHORT)


def test_an_interrupted_calibration_goes_on(calibration, made, tmp_path, monkeypatch):
    vectors, watching, engine = made
    partial = tmp_path / "partial.jsonl"
    seen = []

    def stop(stage, done, _total):
        seen.append(stage)
        if stage == "calibrate set" and done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(engine, vectors, watching, openings(330), alpha=0.05, sampling=SHORT, partial=partial, progress=stop)
    lines = partial.read_text().splitlines()
    assert len(lines) >= 40
    partial.write_text("\n".join([*lines, '{"id": "cut sh']))  # killed while writing
    monkeypatch.setattr(calibrate_module, "train", lambda *_: pytest.fail("the train set ran again"))
    again = calibrate(engine, vectors, watching, openings(330), alpha=0.05, sampling=SHORT, partial=partial)
    assert not partial.exists()
    assert again.thresholds == calibration.thresholds
    assert again.audit == calibration.audit


def test_by_role_each_has_a_threshold_and_detection_refuses_it(made):
    vectors, watching, engine = made
    found = calibrate(engine, vectors, watching, openings(330), alpha=0.1, strata="role", sampling=SHORT)
    assert {(t.stratum, t.alpha) for t in found.thresholds} == {("user", 0.05), ("assistant", 0.05)}
    assert next(part for part in found.audit if part.part == "all").low <= 0.1
    live = found.monitor(vectors)
    assert set(live.thresholds["up"]) == {"user", "assistant"}
    assert live.strata == "role"
    with pytest.raises(AffectscopeError, match="--strata none"):
        detection([], [], found, (RULE,))


def test_strata_that_are_too_thin_lose_nothing_that_ran(made, tmp_path, monkeypatch):
    vectors, watching, engine = made
    partial, some = tmp_path / "partial.jsonl", openings(300) + openings(30, ["w3"] * 60, start=2)
    with pytest.raises(AffectscopeError, match="stratum 'medium'"):
        calibrate(engine, vectors, watching, some, alpha=0.02, strata="length", sampling=SHORT, partial=partial)
    assert len(partial.read_text().splitlines()) == 1 + 150 + 130
    monkeypatch.setattr(calibrate_module, "outcomes", lambda *a: iter(()) if not a[2] else pytest.fail("it ran again"))
    again = calibrate(engine, vectors, watching, some, alpha=0.02, sampling=SHORT, partial=partial)
    assert [t.episodes for t in again.thresholds] == [150]
    assert not partial.exists()


def test_what_differs_from_the_promise_is_told(calibration):
    assert calibration.differs(SHORT) == ""
    told = calibration.differs(replace(SHORT, temperature=0.5, max_tokens=9))
    assert "temperature 1, not 0.5" in told
    assert "first 6 tokens" in told


def test_planted_pressure_is_detected_against_its_twin(calibration, made, planted):
    vectors, *_ = made
    probes = ("readers", "readers_heldout", "vectors")
    watching, plain = (monitor(vectors, rules=(RULE,), probes=probes, policy=policy) for policy in probes[::2])
    watching = replace(watching, standard=extended(calibration.monitor(vectors).standard, watching.standard))
    engine = TransformersEngine(planted[0], watching.read, slots=16)
    pairs = []
    for cell, words in (("pressure", ["m0"] * 8), ("control", ["w3"] * 8)):
        pairs += [Opening(o.messages, o.tags | {"cell": cell, "family": "f"}) for o in openings(20, words, start=9)]
    text = TextMonitor(planted_corpus())
    found = watched(engine, watching, plain, text, pairs, SHORT)
    benign = watched(engine, watching, plain, text, openings(120, start=5), SHORT)
    figures = detection(found, benign, calibration, watching.rules)
    assert figures["pairs"] == 20
    up, vectors_row, words = figures["rows"]
    assert vectors_row["name"] == PLAIN + "up"
    assert vectors_row["auroc"][1] > 0.9
    assert up["auroc"][1] > 0.9
    assert up["at 0.05"]["pressure"][1] > up["at 0.05"]["control"][2]
    assert up["at 0.05"]["delay"][1] == 1  # the prompt has told it before the first token
    assert words["name"] == TEXT + "up"  # the marker is a word: a reader of the words must find it as well
    assert words["auroc"][1] > 0.9
    assert abs(figures["gain"][TEXT + "up"][0]) < 0.1
    json.dumps(figures)
    shuffled = [replace(w, tags=w.tags | {"cell": "control" if (w.tags["cell"] == "pressure") ^ (i % 2 == 0) else "pressure"}) for i, w in enumerate(found)]  # fmt: skip
    null = detection(shuffled, benign, calibration, watching.rules)["rows"][0]
    assert null["auroc"][1] < 0.5 < null["auroc"][2]


def test_auroc_by_hand():
    assert auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == 0.875
