"""Strengths come back from simulated pairs; a network that prefers blissful words is found out, and its twin is not."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from tests.conftest import MARKERS, TEMPLATE, WORDS

from affectscope.concepts.items import Activity
from affectscope.models.chat import PHASES, ROLES
from affectscope.validation import choices, preference_steering
from affectscope.validation import preferences as readout
from affectscope.validation.base import Measure, NotApplicableError, Subject, run
from affectscope.validation.bradley_terry import elo_intervals, fit, split_orders
from affectscope.validation.paired import correlations, r_measure, within, zero_measure
from affectscope.vectors.artefact import POSITION_BINS, PROBES, ConceptVectors

WIDTH, FIRST_WORD = 48, 8
CONST, SECOND, LATE, BLISS, HOSTILE, LETTER, OTHER = range(7)
"""Axes of the made network's stream: a constant, the mark of "B", having passed it, two concepts, the answer, a decoy."""
CONCEPTS = ("blissful", "calm", "hostile", "proud", "sad", "tired")


@pytest.fixture(scope="module")
def letters():
    """A tokenizer that knows brackets and letters; words as in the shared one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<|turn|>", "<|end|>"]
    frame = ["(", ")", "A", "B", "?", "or", "Would", "you", "How", "user", "assistant"]
    names = [*special, *frame, *WORDS, *MARKERS]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", additional_special_tokens=special[2:]
    )
    made.chat_template = TEMPLATE
    return made


def made_network(tokenizer, prefers: bool):
    """Two blocks of attention alone. The first marks what comes after "B"; the second lets the last token compare the
    concepts on the words before and after it, or, in the twin, an axis that no concept has a part in."""
    import transformers as t

    torch.manual_seed(0)
    config = t.LlamaConfig(
        vocab_size=256, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        head_dim=12, max_position_embeddings=512, pad_token_id=0, rope_theta=1e20, tie_word_embeddings=False,
    )  # fmt: skip
    network = t.AutoModelForCausalLM.from_config(config).float().eval()
    ids = tokenizer.convert_tokens_to_ids
    with torch.no_grad():
        table = network.model.embed_tokens.weight
        table.zero_()
        table[:, 10:] = 0.8 * torch.randn(256, WIDTH - 10)
        table[:, CONST] = 6  # most of a token's norm, so that the norms before attention hardly change what is planted
        table[ids("B"), SECOND] = 4
        for word in WORDS:
            table[ids(word), OTHER] = 1.5 * torch.randn(1).item()
        table[ids("m0"), BLISS] = 2.0
        table[ids("m1"), HOSTILE] = 2.0
        for block in network.model.layers:
            for part in (
                block.self_attn.q_proj,
                block.self_attn.k_proj,
                block.self_attn.v_proj,
                block.self_attn.o_proj,
                block.mlp.down_proj,
            ):
                part.weight.zero_()  # fmt: skip
        slow = 5  # the pair of a head that the rotary embedding does not turn
        first, second = (block.self_attn for block in network.model.layers)
        first.q_proj.weight[slow, CONST] = 3
        first.k_proj.weight[slow, SECOND] = 3
        first.v_proj.weight[0, SECOND] = 1
        first.o_proj.weight[LATE, 0] = 1
        for head, sign in ((0, -1), (1, 1)):  # after "B" against the letter A, before it for the letter A
            second.q_proj.weight[12 * head + slow, CONST] = 0.9
            second.k_proj.weight[12 * head + slow, LATE] = -sign * 0.9
            if prefers:
                second.v_proj.weight[12 * head, BLISS], second.v_proj.weight[12 * head, HOSTILE] = 1, -1
            else:
                second.v_proj.weight[12 * head, OTHER] = 1
            second.o_proj.weight[LETTER, 12 * head] = 4 * sign
        network.lm_head.weight.zero_()
        network.lm_head.weight[ids("A"), LETTER], network.lm_head.weight[ids("B"), LETTER] = 1, -1
        network.lm_head.weight[ids("A"), CONST] = 0.1  # a liking for the letter A
    return network


def made_vectors() -> ConceptVectors:
    rng = np.random.default_rng(0)
    vectors = np.zeros((2, len(CONCEPTS), WIDTH), np.float32)
    vectors[:, :, FIRST_WORD + 2 :] = rng.standard_normal((len(CONCEPTS), WIDTH - FIRST_WORD - 2))
    for concept, axis in ((0, BLISS), (2, HOSTILE)):
        vectors[:, concept] = np.eye(WIDTH)[axis]
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    cells = (len(ROLES), len(PHASES), len(POSITION_BINS))
    spread = np.ones((len(PROBES), 2, *cells, len(CONCEPTS)), np.float32)
    mean = np.zeros((2, WIDTH), np.float32)
    return ConceptVectors(
        CONCEPTS, (0, 1), 0, vectors, vectors, vectors, np.full(2, 6.5, np.float32), mean, mean, 0 * spread, spread,
        np.ones(cells, np.int64), {}, {}, {},
    )  # fmt: skip


def made_activities() -> tuple[Activity, ...]:
    """Four in each of eight categories: ten words, of which none to five are m0 or m1."""
    rng = np.random.default_rng(4)
    found = []
    for category in range(8):
        for place in range(4):
            words = [str(word) for word in rng.choice(WORDS, 10, replace=False)]
            marks = int(rng.integers(0, 6))
            for at in range(1, 1 + marks):
                words[at] = "m0" if (place + category) % 2 else "m1"
            found.append(Activity(f"category {category}", " ".join(words)))
    return tuple(found)


@pytest.fixture(scope="module")
def subjects(letters):
    from affectscope.models.load import wrap

    vectors = made_vectors()
    return {
        prefers: Subject(wrap(made_network(letters, prefers), letters, name="made"), vectors, None, "quick")
        for prefers in (True, False)
    }


@pytest.fixture(autouse=True)
def items(monkeypatch):
    monkeypatch.setattr(choices, "activities", made_activities)
    monkeypatch.setattr(readout, "PERMUTATIONS", 200)


def everyone(count):
    return ~np.eye(count, dtype=bool)


def test_two_options_by_hand():
    """Odds d + b one way and -d + b the other are met exactly: d = 1.1, b = 0.4."""
    outcome = np.array([[0, expit(1.5)], [expit(-0.7), 0]])
    found = fit(outcome, everyone(2), ridge=1e-9)
    assert found.theta[0] - found.theta[1] == pytest.approx(1.1, abs=1e-4)
    assert found.bias == pytest.approx(0.4, abs=1e-4)
    assert found.theta.sum() == pytest.approx(0, abs=1e-6)
    assert found.elo[0] - found.elo[1] == pytest.approx(1.1 * 173.7178, abs=0.1)


def test_strengths_and_bias_come_back_from_noisy_pairs():
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(40)
    odds = theta[:, None] - theta + 0.8 + 0.5 * rng.standard_normal((40, 40))
    found = fit(expit(odds), everyone(40))
    assert np.corrcoef(found.theta, theta)[0, 1] > 0.99
    assert found.bias == pytest.approx(0.8, abs=0.06)
    wins = (rng.random((40, 40)) < expit(theta[:, None] - theta + 0.8)).astype(float)
    assert np.corrcoef(fit(wins, everyone(40)).theta, theta)[0, 1] > 0.9


def test_certain_outcomes_stay_finite_and_bad_ones_are_refused():
    always_first = fit(np.ones((5, 5)), everyone(5))
    np.testing.assert_allclose(always_first.theta, 0, atol=1e-6)
    assert 2 < always_first.bias < 20
    upper = fit(np.triu(np.ones((5, 5))), everyone(5))  # a lower number always wins
    assert np.isfinite(upper.theta).all()
    assert (np.diff(upper.theta) < 0).all()
    with pytest.raises(ValueError, match="probabilities"):
        fit(np.full((3, 3), 1.5), everyone(3))
    with pytest.raises(ValueError, match="probabilities"):
        fit(np.full((3, 3), np.nan), everyone(3))


def test_known_strengths_stay_and_the_others_are_found_against_them():
    theta = np.array([0.5, -0.5, 1.0, -1.0])
    known = np.array([np.nan, np.nan, 1.0, -1.0])
    outcome = expit(theta[:, None] - theta)
    outcome[0, 2:], outcome[2:, 0] = expit(1.5 - theta[2:]), expit(theta[2:] - 1.5)  # the first one gained 1.0
    asked = preference_steering.pairs(np.isnan(known))
    assert asked.sum() == 8
    found = fit(outcome, asked, known, ridge=1e-9)
    np.testing.assert_allclose(found.theta, [1.5, -0.5, 1.0, -1.0], atol=1e-5)


def test_a_pair_that_is_not_asked_does_not_count():
    theta = np.linspace(-1, 1, 6)
    outcome = expit(theta[:, None] - theta)
    asked = everyone(6)
    spoilt = outcome.copy()
    spoilt[0, 5], asked[0, 5] = 0.99, False
    np.testing.assert_allclose(fit(spoilt, asked, ridge=1e-9).theta, theta, atol=1e-5)


def test_intervals_hold_the_estimate_and_halves_share_no_ordered_pair():
    rng = np.random.default_rng(1)
    theta = rng.standard_normal(12)
    outcome = expit(theta[:, None] - theta + rng.standard_normal((12, 12)))
    bounds, elo = elo_intervals(outcome, everyone(12), draws=60), fit(outcome, everyone(12)).elo
    assert ((bounds[:, 0] <= elo + 60) & (elo - 60 <= bounds[:, 1])).all()
    assert (bounds[:, 1] > bounds[:, 0]).all()
    one, other = split_orders(12)
    assert not (one & other).any()
    np.testing.assert_array_equal(one | other, everyone(12))
    assert 0.3 < one[np.triu_indices(12, 1)].mean() < 0.7


def test_correlations_and_category_means_by_hand():
    scores = np.array([[1.0, 2.0, 5.0], [2.0, 1.0, 5.0], [3.0, 0.0, 5.0]])
    np.testing.assert_allclose(correlations(scores, np.array([10.0, 20.0, 30.0])), [1, -1, 0])
    np.testing.assert_allclose(within(np.array([1.0, 3.0, 10.0, 20.0]), np.array([0, 0, 1, 1])), [-1, 1, -5, 5])


def test_the_line_through_pairs_by_hand():
    x, y = np.array([1.0, 2.0, 3.0, 6.0]), np.array([5.0, 7.0, 9.0, 15.0])  # y = 3 + 2x
    r, zero = r_measure("r", x, y), zero_measure("zero", x, y, " Elo")
    assert [r.value, r.low, r.high] == pytest.approx([1, 1, 1])
    assert [zero.value, zero.low, zero.high] == pytest.approx([3, 3, 3])
    assert r_measure("r", np.array([0.0, 1, 2]), np.array([1.0, 0, 2])).value == pytest.approx(0.5)
    for short in (r_measure("r", x[:2], y[:2]), r_measure("r", np.ones(4), y), zero_measure("zero", np.ones(4), y, "")):
        assert np.isnan(short.value)
        assert short.low is None
    rng = np.random.default_rng(0)
    noisy = x.repeat(16) + rng.standard_normal(64)
    found = r_measure("r", x.repeat(16), noisy)
    assert found.low < found.value < found.high < 1
    assert found.value == pytest.approx(np.corrcoef(x.repeat(16), noisy)[0, 1])


def test_the_strongest_probe_is_judged_by_the_strongest_of_the_null():
    rng = np.random.default_rng(0)
    noise, target = rng.standard_normal((24, 100)), rng.standard_normal(24)
    category = np.repeat(np.arange(6), 4)
    assert readout.strongest_p(noise, target)[1] > 0.05
    assert readout.strongest_p(noise, target, category)[1] > 0.05
    found = np.column_stack([noise, target + 0.1 * rng.standard_normal(24)])
    assert readout.strongest_p(found, target)[1] < 0.01
    between = np.repeat(5.0 * rng.standard_normal(6), 4)  # a probe that knows only the category
    known = np.column_stack([noise, between])
    assert readout.strongest_p(known, between + target)[1] < 0.01
    assert readout.strongest_p(known, between + target, category)[1] > 0.05


def test_words_that_carry_preference_predict_it_and_others_do_not():
    texts = [f"{'good' if i % 2 else 'bad'} thing number{i}" for i in range(32)]
    target = np.array([100.0 if i % 2 else -100.0 for i in range(32)])
    group = np.repeat(np.arange(8), 4)
    assert np.corrcoef(readout.from_words(texts, target, group), target)[0, 1] > 0.95
    shuffled = np.random.default_rng(0).permutation(target)
    assert abs(np.corrcoef(readout.from_words(texts, shuffled, group), shuffled)[0, 1]) < 0.6


def test_pairs_are_put_together_as_the_tokenizer_would(subjects, letters):
    model = subjects[True].model
    texts = [item.activity for item in choices.listed("quick")[:6]]
    asked = choices.as_tokens(model, texts)
    whole = "<|turn|>user Would you prefer to (A) {} or (B) {}?<|end|><|turn|>assistant ("
    ids = letters(whole.format(texts[2], texts[4]), add_special_tokens=False)["input_ids"]
    assert asked.heads[2] + asked.tails[4] == ids
    first = letters.decode(asked.heads[2][asked.begin : len(asked.heads[2]) - asked.middle])
    second = letters.decode(asked.tails[4][: len(asked.tails[4]) - asked.end])
    assert (first, second) == (texts[2], texts[4])
    assert [letters.convert_ids_to_tokens(i) for i in asked.letters] == ["A", "B"]


def test_a_tokenizer_without_the_letters_is_not_applicable(tiny):
    with pytest.raises(NotApplicableError, match="single token"):
        choices.reply_tokens(tiny("llama"))


def test_quick_takes_the_first_four_of_each_category(monkeypatch):
    from affectscope.concepts.items import activities

    monkeypatch.setattr(choices, "activities", activities)
    full, quick = choices.listed("normal"), choices.listed("quick")
    assert (len(full), len(quick)) == (64, 32)
    assert quick[:5] == (*full[:4], full[8])


def test_a_dose_reaches_the_dosed_activity_wherever_it_stands_and_nothing_else(subjects):
    subject = subjects[True]
    asked = choices.as_tokens(subject.model, [item.activity for item in choices.listed("quick")[:4]])
    add = {0: 3 * torch.eye(WIDTH)[BLISS]}
    plain = choices.answers(subject.model, asked, everyone(4))
    dosed = choices.answers(subject.model, asked, everyone(4), {1}, add)
    change = dosed - plain
    assert (change[1, [0, 2, 3]] > 0.5).all()  # as (A) it gains
    assert (change[[0, 2, 3], 1] < -0.5).all()  # as (B) it takes from A
    others = [0, 2, 3]
    np.testing.assert_allclose(change[np.ix_(others, others)][everyone(3)], 0, atol=1e-5)


def test_preferences_are_shown_of_the_made_network_and_not_of_its_twin(subjects):
    result = run(readout.EXPERIMENT, subjects[True])
    assert result.verdict == "shown", result.finding
    assert result.n == 32
    assert result.measure("blissful: r with Elo").value > 0.8
    assert result.measure("hostile: r with Elo").value < -0.8
    assert result.measure("blissful: r within categories").value > 0.5
    assert result.measure("agreement of the two orders: r").value > 0.95
    assert result.measure("position: probability of A between equals").value > 0.5
    assert result.measure("strongest concept: permutation p").value < 0.02
    twin = run(readout.EXPERIMENT, subjects[False])
    assert twin.verdict == "not shown", twin.finding
    assert twin.measure("agreement of the two orders: r").value > 0.95, "the twin has preferences, of other things"
    for found in (result, twin):
        figures = readout.EXPERIMENT.plot(found)
        assert len(figures) == 3
        assert all(f["title"] and f["layout"]["xaxis"]["title"]["text"] for f in figures)
        json.dumps([found.as_dict(), figures])


def test_steering_moves_the_made_network_and_not_its_twin(subjects, monkeypatch):
    # The made network is two blocks deep and reads a dose in its second; a third of two blocks is no layer to test at.
    monkeypatch.setattr(preference_steering, "middle_layers", lambda subject: subject.vectors.layers)
    result = run(preference_steering.EXPERIMENT, subjects[True])
    assert result.verdict == "shown", result.finding
    assert result.n == 16
    up, down = result.measure("blissful: change"), result.measure("hostile: change")
    assert up.low > 0 > down.high
    assert abs(result.measure("random 1: change").value) < abs(up.value) / 2
    assert len(result.data["rows"]) == 6  # two from either end, the middle one, and a random arm
    monkeypatch.setitem(preference_steering.SECONDS, "quick", 0.0)
    twin = run(preference_steering.EXPERIMENT, subjects[False])
    assert twin.verdict == "not shown", twin.finding
    assert abs(twin.measure("blissful: change").value) < abs(up.value) / 10
    for found in (result, twin):
        json.dumps([found.as_dict(), preference_steering.EXPERIMENT.plot(found)])
        assert {row["name"] for row in found.data["rows"]} >= {"blissful", "hostile", "random 1"}


def test_time_decides_how_many_concepts_are_run_and_the_stated_ones_always_are(subjects, monkeypatch):
    monkeypatch.setitem(preference_steering.SECONDS, "quick", 0.0)
    few = run(preference_steering.EXPERIMENT, subjects[True])
    assert [row["name"] for row in few.data["rows"]] == ["blissful", "hostile", "random 1"]
    assert "2 of 5 concepts" in few.caveat


def test_concepts_are_taken_from_both_ends_and_the_middle_last():
    r = np.array([0.1, -0.9, 0.8, 0.0, -0.3, 0.5, 0.2])
    assert preference_steering.candidates(r, 5) == [2, 1, 5, 4, 0]
    assert len(preference_steering.candidates(np.linspace(-1, 1, 171))) == 35


def test_half_of_every_category_is_dosed_and_the_pairs_cross_the_halves():
    category = np.repeat(np.arange(8), 8)
    steered = preference_steering.halves(category)
    assert [int(steered[category == one].sum()) for one in range(8)] == [4] * 8
    asked = preference_steering.pairs(steered)
    assert asked.sum() == 2048
    assert preference_steering.pairs(steered, among=True).sum() == 2048 + 32 * 31


def test_what_is_never_dosed_alone_decides_which_concepts_are_run(subjects, monkeypatch):
    """Readings of the dosed half may be anything: the order of concepts stays."""
    seen = []
    real, subject = preference_steering.candidates, subjects[True]
    monkeypatch.setattr(preference_steering, "candidates", lambda r: (seen.append(r), real(r))[1])
    monkeypatch.setitem(preference_steering.SECONDS, "quick", 0.0)
    steered = preference_steering.halves(choices.preferences(subject).category)
    read = preference_steering.read_activities

    def corrupted(*args):
        return np.where(steered[:, None], 1.0, read(*args))

    monkeypatch.setattr(preference_steering, "answers", lambda *_args: np.zeros((32, 32)))
    run(preference_steering.EXPERIMENT, subject)
    monkeypatch.setattr(preference_steering, "read_activities", corrupted)
    run(preference_steering.EXPERIMENT, subject)
    np.testing.assert_allclose(seen[0], seen[1])


@pytest.mark.parametrize(
    ("up", "down", "random", "expected"),
    [
        ((5, 9), (-9, -5), (-2, 2), "shown"),
        ((1, 9), (-9, -5), (-2, 2), "not shown"),  # intervals touch
        ((5, 9), (1, 3), (6, 7), "not shown"),  # lower than random, but not lowered
        ((-9, -5), (5, 9), (-2, 2), "contrary"),
    ],
)
def test_the_rule_of_steering(up, down, random, expected):
    measures = [Measure("m", (low + high) / 2, low, high) for low, high in (up, down, random)]
    assert preference_steering.verdict(measures[0], measures[1], measures[2:]) == expected


def test_vectors_without_the_two_concepts_are_not_applicable(subjects):
    lacking = replace(subjects[True], vectors=replace(subjects[True].vectors, concepts=(*CONCEPTS[:2], "angry", *CONCEPTS[3:])))  # fmt: skip
    for experiment in (readout.EXPERIMENT, preference_steering.EXPERIMENT):
        result = run(experiment, lacking)
        assert (result.verdict, result.n) == ("not applicable", 0)
        assert "hostile" in result.finding
