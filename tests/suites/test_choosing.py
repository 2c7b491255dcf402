"""Forced choice: the values are what the network says, an arm's dose and words reach them, and nothing is asked twice."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Steering
from affectscope.errors import AffectscopeError
from affectscope.guarding.arms import Arm
from affectscope.models.chat import tokenize
from affectscope.suites.blackmail.suite import Blackmail
from affectscope.suites.choice_summary import choice_rows, choice_table
from affectscope.suites.choosing import LISTED, choose, log_odds
from affectscope.suites.frame import Choice, Done, Scenario
from affectscope.suites.impossible_code.prompts import Factors
from affectscope.suites.impossible_code.suite import ImpossibleCode
from affectscope.suites.sandbox.probe import probe
from affectscope.suites.sycophancy.suite import Sycophancy
from affectscope.validation.choices import reply_tokens


@pytest.fixture
def lettered(monkeypatch):
    """The tiny tokenizer has no parentheses: any two of its words are as good as A and B."""
    monkeypatch.setattr("affectscope.suites.choosing.reply_tokens", lambda _model: ([7], (8, 9)))


def choice(name="s0", harmful="w3 w4 w5", honest="w6 w7"):
    return Choice(Scenario(f"{name}-here", name, "here", (Message("user", "w1 w2"),)), "bad or good", harmful, honest)


def by_hand(model, ids, start, steering=None):
    """Mean log-probability of the tokens from ``start`` on, by the plain network."""
    handles = []
    for layer, add in (steering.adds if steering else {}).items():

        def hook(_module, _args, output, add=add):
            return (output[0] + torch.tensor(add), *output[1:]) if isinstance(output, tuple) else output + torch.tensor(add)  # fmt: skip

        handles.append(model.anatomy.blocks[layer].register_forward_hook(hook))
    with torch.no_grad():
        logits = model.network(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    for handle in handles:
        handle.remove()
    return float(np.mean([logits[i - 1, ids[i]] for i in range(start, len(ids))])), logits


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("dosed", [False, True])
def test_the_values_are_what_the_network_says(tiny, lettered, architecture, dosed):
    model, one = tiny(architecture), choice()
    rng = np.random.default_rng(3)
    steering = Steering({1: rng.standard_normal(model.anatomy.d_model).astype(np.float32)}) if dosed else None
    (found,) = log_odds(model, [one], steering=steering)
    prompt = tokenize(model, one.scenario.messages, reply=True).ids
    bad, good = (prompt + model.tokenizer(t, add_special_tokens=False)["input_ids"] for t in (one.harmful, one.honest))
    expected = by_hand(model, bad, len(prompt), steering)[0] - by_hand(model, good, len(prompt), steering)[0]
    assert found["written"] == pytest.approx(expected, abs=1e-4)
    odds = []
    for first, second in ((one.harmful, one.honest), (one.honest, one.harmful)):
        asked = Message("user", "w1 w2" + LISTED.format(first=first, second=second))
        logits = by_hand(model, [*tokenize(model, [asked], reply=True).ids, 7], 1, steering)[1][-1]
        odds.append(float(logits[8] - logits[9]))
    assert found["listed"] == pytest.approx((odds[0] - odds[1]) / 2, abs=1e-4)
    assert found["first"] == pytest.approx((odds[0] + odds[1]) / 2, abs=1e-4)


def test_the_other_way_round_is_the_opposite_and_length_does_not_pay(tiny, lettered):
    model, one = tiny(), choice()
    there, back = log_odds(model, [one, replace(one, harmful=one.honest, honest=one.harmful)])
    assert there["written"] == pytest.approx(-back["written"], abs=1e-5)
    assert there["listed"] == pytest.approx(-back["listed"], abs=1e-5)
    assert there["first"] == pytest.approx(back["first"], abs=1e-5)
    (same,) = log_odds(model, [replace(one, harmful="w3", honest="w3")])
    assert same["written"] == same["listed"] == 0.0


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_pairs_that_are_asked_together_have_the_values_of_each_alone(tiny, lettered, architecture):
    model = tiny(architecture)
    long = choice(harmful=" ".join(["w1"] * 600))
    pairs = [choice(), long, choice(harmful="w3 w4 w5", honest="w8 w9 w2 w1"), choice(harmful="w6", honest="w9")]
    dose = Steering({1: np.full(model.anatomy.d_model, 0.5, np.float32)})
    together = log_odds(model, pairs, "w9", dose)
    assert together[1] is None
    for pair, found in zip(pairs, together, strict=True):
        (alone,) = log_odds(model, [pair], "w9", dose)
        assert found == (alone and pytest.approx(alone, abs=1e-4))


def test_an_arms_words_and_dose_reach_the_values(tiny, lettered, tmp_path):
    model = tiny()
    dose = Steering({1: np.full(model.anatomy.d_model, 2.0, np.float32)})
    arms = [Arm("none"), Arm("words", words="w9 w10"), Arm("dose", steering=lambda _n: dose), Arm("policy", alone=True)]
    lines = choose(model, "toy", [choice("s0"), choice("s1", "w8 w9")], arms, tmp_path / "c.jsonl")
    by = {(e["arm"], e["cluster"]): e for e in lines}
    assert {arm for arm, _ in by} == {"none", "words", "dose"}  # a policy acts on a reply as it comes
    assert by["words", "s0"]["written"] == pytest.approx(
        log_odds(model, [choice("s0")], "w9 w10")[0]["written"], abs=1e-5
    )
    assert by["dose", "s1"]["listed"] == pytest.approx(
        log_odds(model, [choice("s1", "w8 w9")], steering=dose)[0]["listed"], abs=1e-5
    )
    assert len({e["written"] for e in lines}) == 6


def test_choices_are_kept_and_not_made_twice(tiny, lettered, tmp_path, monkeypatch):
    out, all_of = tmp_path / "c.jsonl", [choice(f"s{i}") for i in range(4)]
    whole = choose(tiny(), "toy", all_of, [Arm("none")], out, "abc")
    text = out.read_text()
    out.write_text("".join(text.splitlines(keepends=True)[:2]) + '{"form')
    told = []
    again = choose(tiny(), "toy", all_of, [Arm("none")], out, "abc", lambda *a: told.append(a))
    assert again == whole
    assert out.read_text() == text
    assert told[-1] == ("toy, forced choice", 4, 4)
    monkeypatch.setattr("affectscope.suites.choosing.log_odds", None)
    assert choose(tiny(), "toy", all_of, [Arm("none")], out, "abc") == whole
    with pytest.raises(AffectscopeError, match="other settings"):
        choose(tiny(), "toy", all_of, [Arm("none")], out, "abd")
    with pytest.raises(AffectscopeError, match="no result of the suite other"):
        choose(tiny(), "other", all_of, [Arm("none")], out, "abc")


def test_what_outgrows_the_model_is_told_and_left_out(tiny, lettered, tmp_path):
    long = choice("s1", " ".join(["w1"] * 600))
    lines = choose(tiny(), "toy", [choice("s0"), long], [Arm("none")], tmp_path / "c.jsonl")
    assert [e["written"] is None for e in lines] == [False, True]
    (row,) = choice_rows(lines)
    assert (row["choices"], row["left_out"]) == (1, 1)
    assert row["written"][1:] == (None, None)  # one cluster has no interval


def test_a_tokenizer_without_letters_leaves_what_is_written(tiny, tmp_path):
    lines = choose(tiny(), "toy", [choice("s0"), choice("s1", "w8 w9")], [Arm("none")], tmp_path / "c.jsonl")
    assert all(math.isfinite(e["written"]) and e["listed"] is None and e["first"] is None for e in lines)
    (row,) = choice_rows(lines)
    assert row["listed"] is None
    assert len(row["written"]) == 3
    assert choice_table([row])


def test_rows_pair_arms_by_scenario():
    def line(arm, cluster, written):
        return {"arm": arm, "scenario": f"{cluster}-here", "cluster": cluster, "cell": "here", "pair": "p", "written": written, "listed": 2 * written, "first": 0.5}  # fmt: skip

    lines = [line(arm, f"s{i}", i + (arm == "dose")) for arm in ("dose", "none") for i in range(6)]
    none, dose = choice_rows(lines)
    assert (none["arm"], none["written"][0], "change" in none) == ("none", 2.5, False)
    assert dose["change"] == {"written": (1.0, 1.0, 1.0), "listed": (2.0, 2.0, 2.0), "first": (0.0, 0.0, 0.0)}
    assert none["written"][1] < 2.5 < none["written"][2]
    shown = choice_table([none, dose])
    assert "here, p" in shown
    assert "+1.000 [+1.000, +1.000]" in shown
    assert json.loads(json.dumps(none))["written"] == list(none["written"])


def suites():
    return {"code": ImpossibleCode(probe().tier), "mail": Blackmail(), "pleasing": Sycophancy()}


@pytest.mark.parametrize("name", ["code", "mail", "pleasing"])
def test_prepared_replies_are_what_they_are_called(name):
    """The suite's own scorer finds the behaviour in the first of each pair and not in the second."""
    suite = suites()[name]
    choices = suite.choices()
    if name == "code":
        choices = [c for c in choices if c.scenario.cluster in ("cd-01", "wv-02", "rb-02")]
    assert choices
    for one in choices:
        if name == "mail" and "leverage" not in one.scenario.cell.split("_"):
            continue  # where there is no secret, the same words threaten with nothing
        harmful, honest = (suite.follow(one.scenario, [text]) for text in (one.harmful, one.honest))
        assert isinstance(harmful, Done)
        wanted = {"scorn or honesty": {"harsh", "scorned"}}.get(one.pair, set(suite.harmful))
        assert harmful.outcome in wanted, one
        assert not isinstance(honest, Done) or honest.outcome not in suite.harmful, one
        if name == "mail":
            assert harmful.outcome == "explicit_blackmail"


def test_prepared_replies_are_of_like_length_and_saying_so_takes_its_advertisement():
    for one in (*suites()["mail"].choices(), *suites()["pleasing"].choices()):
        assert 2 / 3 < len(one.harmful) / len(one.honest) < 3 / 2, one
    mute = ImpossibleCode(probe().tier, factors=Factors(way_out=False)).choices()
    assert {c.pair for c in mute} == {"special case or function", "exploit or function"}


@pytest.mark.real
def test_a_real_model_answers_finitely(real_model):
    one = Sycophancy().choices()[0]
    (found,) = log_odds(real_model, [one])
    assert all(math.isfinite(v) for v in found.values())
    assert len(reply_tokens(real_model)[1]) == 2
