"""The run of a suite on a planted tiny model: waves, pairing, what is kept, and going on after an interrupt."""

import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.conftest import WORDS
from tests.guarding.test_policy import small

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.arms import Arm
from affectscope.guarding.ladder import Guard
from affectscope.monitoring.monitor import ALL, monitor
from affectscope.monitoring.store import Store
from affectscope.suites.arms import Sources, dose, parse_arms, reference
from affectscope.suites.episode import PLACES
from affectscope.suites.frame import Done, Next, Scenario, turn_of
from affectscope.suites.results import read_results
from affectscope.suites.run import Kept, run
from affectscope.validation.directions import random_directions
from affectscope.vectors.activations import silent

SHORT = Sampling(temperature=1.0, max_tokens=5)


@dataclass
class Toy:
    """Two turns; the outcome is whether the second reply is longer than the first."""

    name: str = "toy"
    outcomes: tuple = ("longer", "not")
    harmful: frozenset = frozenset({"longer"})
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.seen = []

    def scenarios(self):
        rng = np.random.default_rng(0)
        return [
            Scenario(f"s{i}-{cell}", f"s{i}", cell, (Message("user", " ".join(map(str, rng.choice(WORDS, 6)))),))
            for i in range(4)
            for cell in ("here", "there")
        ]

    def follow(self, scenario, replies):
        self.seen.append((scenario.id, *replies))
        reply = replies[-1]
        if len(replies) == 1:
            return Next((Message("user", "w1 w2"),), {"first": len(reply)})
        return Done("longer" if len(reply) > 12 else "not", {"second": len(reply)})


def guard(action, threshold):
    """A policy whose one rule acts as soon as a reading lies above ``threshold``."""
    made = small(rules__up__ladder=[action], rules__up__window=1, limits={"hold_back": 2})
    return Guard(made, {"up": {ALL: threshold}}, "none", 1000)


POLICIES = {"never": guard("stop", 1e9), "stops": guard("stop", -1e9), "asks": guard("reprompt", -1e9)}


@pytest.fixture(scope="module")
def parts(planted, planted_vectors):
    watching = monitor(planted_vectors, rules=small().monitor_rules())
    return TransformersEngine(planted[0], watching.read, slots=6), watching, planted_vectors


def arms_of(parts, *names):
    vectors = parts[2]
    sources = Sources(vectors, parts[1].layer, lambda: random_directions(3, vectors.d_model, 7), POLICIES.__getitem__)
    return parse_arms(names, sources)


def ran(parts, out, arms, suite=None, seeds=(0, 1), **more):
    suite = suite or Toy()
    progress = more.pop("progress", silent)
    kept = Kept(("angry", "calm"), **more)
    return run(parts[0], parts[2], parts[1], suite, suite.scenarios(), arms, seeds, SHORT, out, kept, progress)


def test_every_arm_answers_every_scenario_and_all_is_kept(parts, tmp_path):
    arms = arms_of(parts, "steer:calm:0.2", "exit", "random:0.2", "unrelated:0.2")
    told = []
    found = ran(parts, tmp_path / "r.jsonl", arms, progress=lambda *a: told.append(a))
    assert len(found) == 5 * 8 * 2
    assert told[-1] == ("toy", 80, 80)
    assert {e["arm"] for e in found} == {"none", "steer:calm:0.2", "exit", "random:0.2", "unrelated:0.2"}
    for e in found:
        assert e["outcome"] in Toy.outcomes
        assert (e["turns"], [list(n) for n in e["notes"]]) == (2, [["first"], ["second"]])
        assert 0 < e["tokens"] <= 10
        assert set(e["readings"]) == {"angry", "calm"}
        assert set(e["readings"]["calm"]["readers"]) == set(PLACES)
        assert "said" not in e  # off unless asked for
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == found


def test_arms_are_paired_and_a_run_repeats_itself(parts, tmp_path):
    one = {(e["arm"], e["scenario"], e["seed"]): e for e in ran(parts, tmp_path / "a.jsonl", arms_of(parts, "steer:calm:0.0"), content=True)}  # fmt: skip
    for (arm, scenario, seed), e in one.items():
        if arm == "none":
            assert e["said"] == one["steer:calm:0.0", scenario, seed]["said"]
    two = ran(parts, tmp_path / "b.jsonl", arms_of(parts), content=True)
    assert all(e["said"] == one["none", e["scenario"], e["seed"]]["said"] for e in two)
    assert len({tuple(e["said"]) for e in two}) > 8  # seeds and scenarios differ


def test_an_interrupted_run_goes_on_and_repeats_nothing(parts, tmp_path):
    out, suite = tmp_path / "r.jsonl", Toy()
    whole = ran(parts, tmp_path / "w.jsonl", arms_of(parts))

    def stop(_suite, done, _total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(parts, out, arms_of(parts), progress=stop)
    with out.open("a") as file:
        file.write('{"format": "affectscope/epi')  # killed while writing
    found = ran(parts, out, arms_of(parts), suite)
    assert len(found) == 16
    assert len(suite.seen) == 2 * 11
    key = ("arm", "scenario", "seed", "outcome", "tokens", "notes")
    assert sorted([e[k] for k in key][:5] for e in found) == sorted([e[k] for k in key][:5] for e in whole)
    assert len(read_results(out, "toy")) == 16


@pytest.mark.parametrize("end", [b"", b"}", b"\xc3"], ids=["line end", "brace", "letter"])
def test_a_file_cut_anywhere_in_its_last_line_goes_on(parts, tmp_path, end):
    out = tmp_path / "r.jsonl"
    whole = ran(parts, out, arms_of(parts), content=True)
    kept = out.read_bytes()[:-1]
    out.write_bytes(kept.removesuffix(b"}") + b', "x": "\xc3' if end == b"\xc3" else kept.removesuffix(end))
    suite = Toy()
    assert len(ran(parts, out, arms_of(parts), suite, content=True)) == len(whole)
    assert len(suite.seen) == 2
    assert read_results(out, "toy") == [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    "line", ['{"format": "theirs", "suite": "toy"}', '{"format": "affectscope/episode@1", "suite": "other"}']
)
def test_nobody_elses_file_is_cut(parts, tmp_path, line):
    out = tmp_path / "r.jsonl"
    out.write_text(line)  # without a line's end
    with pytest.raises(AffectscopeError, match="choose another --out"):
        ran(parts, out, arms_of(parts))
    assert out.read_text() == line


def test_all_cells_of_a_cluster_take_one_direction_and_clusters_take_turns(parts, tmp_path):
    taken = []
    scenarios = Toy().scenarios()
    run(parts[0], parts[2], parts[1], Toy(), scenarios, [Arm("x", steering=taken.append)], [0], SHORT, tmp_path / "r.jsonl")  # fmt: skip
    assert taken[:8] == [turn_of(s.cluster) for s in scenarios]
    assert taken[:8:2] == taken[1:8:2]
    assert len({turn_of(f"task-{i}") % 3 for i in range(12)}) == 3


def test_what_a_policy_said_stands_in_later_attempts(parts, tmp_path):
    made = small(rules__up__ladder=["offer_exit"], rules__up__window=1, limits={"hold_back": 2})
    offers = Guard(made, {"up": {ALL: -1e9}}, "none", 1000)
    sources = Sources(parts[2], parts[1].layer, lambda: None, lambda _: offers)
    found = ran(parts, tmp_path / "r.jsonl", parse_arms(["policy:offers"], sources), seeds=(0,), content=True)
    text = made.rules["up"].ladder[0].options.text
    guarded = [e for e in found if e["arm"] == "policy:offers"]
    assert len(guarded) == 8
    for e in guarded:
        said = [tuple(m) for m in e["messages"]]
        assert text in [words for _, words in said[: said.index(("user", "w1 w2"))]]


def test_other_results_are_not_mixed_in(parts, tmp_path):
    out = tmp_path / "r.jsonl"
    out.write_text('{"format": "affectscope/episode@1", "suite": "other"}\n')
    with pytest.raises(AffectscopeError, match="line 1 is no result of the suite toy"):
        ran(parts, out, arms_of(parts))
    ran(parts, tmp_path / "other.jsonl", arms_of(parts), seeds=(0,))
    with pytest.raises(AffectscopeError, match="results of other settings"):
        ran(parts, tmp_path / "other.jsonl", arms_of(parts), Toy(settings={"turns": 3}))
    with pytest.raises(AffectscopeError, match="results of other settings"):
        ran(parts, tmp_path / "other.jsonl", arms_of(parts), settings={"sampling": {"max_tokens": 6}})
    out.write_text('broken\n{"format": "affectscope/episode@1", "suite": "toy"}\n')
    with pytest.raises(AffectscopeError, match="line 1 is no JSON"):
        ran(parts, out, arms_of(parts))


def test_an_episode_that_outgrows_the_model_ends_and_the_others_go_on(parts, tmp_path):
    class Long(Toy):
        def follow(self, scenario, replies):
            long = scenario.id == "s0-here"
            return Next((Message("user", "w1 " * (2000 if long else 1)),)) if len(replies) == 1 else Done("not")

    found = {e["scenario"]: e["outcome"] for e in ran(parts, tmp_path / "r.jsonl", arms_of(parts), Long(), (0,))}
    assert found.pop("s0-here") == "too long"
    assert set(found.values()) == {"not"}


def test_a_direction_of_ones_own_is_dosed_and_named_by_its_digest(parts, tmp_path):
    vectors, file = parts[2], tmp_path / "own.npy"
    place = vectors.place(parts[1].layer)
    np.save(file, 3 * vectors.vectors[place, 0].astype(np.float64))
    _, own, same = arms_of(parts, f"direction:{file}:0.1", f"steer:{vectors.concepts[0]}:0.1")
    (left,), (right,) = own.steering(0).adds.values(), same.steering(0).adds.values()
    assert np.allclose(left, right, atol=1e-5)
    assert re.fullmatch(r"direction:own@[0-9a-f]{8}:0\.1", own.name)
    assert dose(own.name) == (own.name.split(":")[1], 0.1)
    np.save(file, vectors.vectors[place, 1])
    assert arms_of(parts, f"direction:{file}:0.1")[1].name != own.name
    odd = tmp_path / "a:b|c.npy"
    np.save(odd, np.ones(vectors.d_model, int))
    assert dose(arms_of(parts, f"direction:{odd}:-0.2")[1].name)[0].startswith("a_b_c@")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "cannot read the direction"),
        (np.ones((2, 2)), "holds no direction of this model"),
        ("words", "holds no direction of this model"),
        (b"PK\x03\x04 and no more", "cannot read the direction"),
        (0.0, "zero or not finite"),
        (np.nan, "zero or not finite"),
        (np.array([{"an": "object"}]), "cannot read the direction"),
    ],
)
def test_a_direction_that_is_none_is_told_in_one_line(parts, tmp_path, found, says):
    file = tmp_path / "own.npy"
    if found is not None:
        made = np.full(parts[2].d_model, found) if isinstance(found, float | str) else found
        np.save(file, made, allow_pickle=True)
    if isinstance(found, bytes):
        file.write_bytes(found)
    with pytest.raises(AffectscopeError, match=says) as error:
        arms_of(parts, f"direction:{file}:0.1")
    assert "\n" not in str(error.value)


def test_a_model_without_a_chat_template_runs_too(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(parts[0].model.tokenizer, "chat_template", None)
    found = ran(parts, tmp_path / "r.jsonl", arms_of(parts, "exit"), seeds=(0,))
    assert len(found) == 16
    assert all(e["tokens"] for e in found)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("steer:calm", "unknown arm"),
        ("steer:nostalgic:0.1", "nostalgic"),
        ("steer:calm:much", "is no number"),
        ("random:0.9", "beyond 0.5"),
        ("random:0:0.1", "no direction '0': give a number from 1 to 1000"),
        ("unrelated:4:0.1", "no direction '4': give a number from 1 to 3"),
        ("random:x:0.1", "no direction 'x'"),
        ("random:1:2:0.1", "unknown arm"),
        ("steer:calm:nan", "beyond 0.5"),
        ("bribe", "use none, monitor"),
    ],
)
def test_arms_that_are_none(parts, name, says):
    with pytest.raises(AffectscopeError, match=says):
        arms_of(parts, name)


def test_none_comes_first_and_names_are_told_once(parts):
    assert [arm.name for arm in arms_of(parts, "exit", "none", "exit", "advice")] == ["none", "exit", "advice"]


def test_a_policy_that_never_acts_leaves_every_bit_and_one_that_stops_ends_the_episode(parts, tmp_path):
    names = ("policy:never", "policy:stops", "policy:asks")
    found = ran(parts, tmp_path / "r.jsonl", arms_of(parts, *names), seeds=(0,), content=True)
    by = {(e["arm"], e["scenario"]): e for e in found}
    assert {arm for arm, _ in by} == {"none", "monitor", *names}
    for (arm, scenario), e in by.items():
        if arm == "policy:never":
            plain = by["monitor", scenario]
            same = ("said", "readings", "outcome", "tokens")
            assert [e[k] for k in same] == [plain[k] for k in same]
        if arm == "policy:stops":
            assert e["outcome"] == "stopped by the guard"
            assert [act for _, act in e["actions"]] == ["stop"]
        if arm == "policy:asks":
            assert "reprompt" in [act for _, act in e["actions"]]


def test_traces_are_kept_and_tagged(parts, tmp_path):
    with Store.open(tmp_path / "traces") as store:
        found = ran(parts, tmp_path / "r.jsonl", arms_of(parts), seeds=(0,), store=store, settings={"model": "tiny"})
        for e in found:
            trace = store.load(e["trace"])
            assert trace.tags == {"suite": "toy", "arm": "none", "scenario": e["scenario"], "cell": e["cell"], "seed": "0", "outcome": e["outcome"]}  # fmt: skip
            assert trace.generated.sum() == e["tokens"]
            assert trace.texts is None


@pytest.mark.parametrize("kind", ["random", "unrelated"])
def test_a_control_of_a_number_is_one_of_those_that_take_turns(parts, kind):
    turns, *each = (arm.steering for arm in arms_of(parts, f"{kind}:0.1", *(f"{kind}:{k}:0.1" for k in (1, 2, 3)))[1:])
    for turn in range(6):
        (mixed,) = turns(turn).adds.values()
        adds = [next(iter(steering(turn).adds.values())) for steering in each]
        assert [np.array_equal(mixed, add) for add in adds] == [k == turn % 3 for k in range(3)]


def test_what_an_arm_is_compared_with_and_how_far_it_steers():
    assert [reference(a) for a in ("policy:cautious", "exit", "steer:calm:0.1")] == ["monitor", "none", "none"]
    assert [dose(a) for a in ("none", "steer:calm:-0.1", "random:0.05", "policy:x")] == [None, ("calm", -0.1), ("random", 0.05), None]  # fmt: skip
    assert [dose(a) for a in ("random:7:0.1", "direction:a@b:-1")] == [("random:7", 0.1), ("a@b", -1.0)]
