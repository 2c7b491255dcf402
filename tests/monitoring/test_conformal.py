"""The promise: exact order statistics, refusals, and a simulation in which tokens depend on each other."""

import numpy as np
import pytest
from scipy.stats import beta

from affectscope.errors import AffectscopeError
from affectscope.monitoring.conformal import (
    Martingale,
    episodes_needed,
    episodes_needed_pac,
    interval,
    p_value,
    pac_threshold,
    threshold,
)
from affectscope.monitoring.detectors import FLOOR, Cusum, statistics
from affectscope.monitoring.drift import Drift
from affectscope.monitoring.outcome import Outcome
from affectscope.monitoring.promise import judged, shares


def test_the_threshold_is_the_right_order_statistic():
    maxima = np.arange(99.0)
    assert threshold(maxima, 0.01) == 98  # the 99th of 99: one in a hundred is above
    assert threshold(maxima, 0.1) == 89
    assert threshold(np.arange(199.0), 0.01) == 197


def test_too_few_episodes_are_refused_with_the_number_needed():
    assert episodes_needed(0.01) == 99
    assert episodes_needed(0.001) == 999
    assert episodes_needed_pac(0.01, 0.05) == 299
    assert episodes_needed_pac(0.001, 0.05) == 2995
    with pytest.raises(AffectscopeError, match="at least 99"):
        threshold(np.zeros(98), 0.01)
    with pytest.raises(AffectscopeError, match="at least 299"):
        pac_threshold(np.zeros(298), 0.01)
    with pytest.raises(AffectscopeError, match="between 0 and 1"):
        threshold(np.zeros(10), 1.5)


def test_the_pac_threshold_is_the_lowest_that_keeps_the_promise():
    maxima = np.arange(1000.0)
    rank = int(pac_threshold(maxima, 0.01)) + 1
    assert beta.cdf(0.01, 1000 - rank + 1, rank) >= 0.95
    assert beta.cdf(0.01, 1000 - rank + 2, rank - 1) < 0.95
    assert pac_threshold(np.arange(299.0), 0.01) == 298


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_the_promise_holds_by_simulation(alpha):
    rng = np.random.default_rng(0)
    rates, kept = [], []
    for _ in range(400):
        sample = np.sort(rng.standard_t(5, 400))
        above = 1 - _cdf(threshold(sample, alpha))
        rates.append(above)
        kept.append(1 - _cdf(pac_threshold(sample, alpha)) <= alpha)
    assert np.mean(rates) <= alpha + 3 * np.std(rates) / 20
    assert np.mean(rates) > alpha * 0.7  # and it is not merely mute
    assert np.mean(kept) >= 0.95 - 3 * 0.011


def _cdf(value):
    from scipy.stats import t

    return t.cdf(value, 5)


def episodes(rng, count, tokens=128):
    """z of tokens that depend on each other, with an offset and a scale of each episode's own (evals, 4.1)."""
    noise = rng.standard_t(5, (count, tokens)) / np.sqrt(5 / 3)
    z = np.zeros((count, tokens))
    for at in range(tokens):
        z[:, at] = 0.85 * (z[:, at - 1] if at else 0) + np.sqrt(1 - 0.85**2) * noise[:, at]
    return rng.normal(0, 0.3, (count, 1)) + np.exp(rng.normal(0, 0.15, (count, 1))) * z


def test_token_rules_break_their_promise_and_the_episode_rule_keeps_it():
    """The table of the reference in shape: rules designed for independent tokens are wrong by far, whole episodes are not."""
    rng = np.random.default_rng(1)
    calibrate, fresh = episodes(rng, 600), episodes(rng, 2000)
    token = (fresh > np.quantile(calibrate, 0.999)).any(axis=1).mean()

    def peaks(some):
        return np.array([statistics(Cusum(0.5), row).max() for row in some])

    # Textbook: the level that independent standard normal tokens cross in one episode of a hundred.
    textbook = np.quantile(peaks(rng.standard_normal((2000, 128))), 0.99)
    mine = peaks(fresh)
    assert token > 0.03
    assert (mine > textbook).mean() > 0.2
    low, _ = interval(int((mine > threshold(peaks(calibrate), 0.01)).sum()), len(mine))
    assert low <= 0.01 * 1.7  # one calibration set of 600 wanders by its own draw (reference: 0.4 to 1.7 %)


def test_p_values_are_uniform_and_ties_count():
    maxima = np.array([1.0, 2.0, 2.0, 3.0])
    assert p_value(maxima, 4.0) == 0.2
    assert p_value(maxima, 2.0) == 0.8
    assert p_value(maxima, 2.0, tie=0) == 0.2
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 4, 199).astype(float)
    found = [p_value(reference, float(rng.integers(0, 4)), rng.random()) for _ in range(2000)]
    assert abs(np.mean(found) - 0.5) < 0.06


def test_drift_is_told_and_calm_is_not():
    rng = np.random.default_rng(0)
    still = [_run(rng.random(500)) for _ in range(200)]
    assert np.mean([m.drifted() for m in still]) <= 0.02
    assert _run(rng.random(300) * 0.4).drifted()
    assert _run(1 - rng.random(300) * 0.4).drifted()
    latched = _run(np.concatenate([rng.random(300) * 0.3, 0.5 + 0.5 * rng.random(2000)]))
    assert latched.drifted()  # it never takes "recalibrate" back


def _run(ps):
    martingale = Martingale()
    for p in ps:
        martingale = martingale.step(float(p))
    return martingale


def test_intervals_of_a_rate():
    assert interval(0, 299)[0] == 0
    assert interval(0, 299)[1] == pytest.approx(0.0123, abs=1e-4)
    assert interval(5, 5)[1] == 1


def _outcomes(rng, count, shift=0.0, domain="a"):
    return [Outcome(f"{i:08x}{domain}", {"domain": domain}, 10, 64, {"r": {"all": float(v)}, "s": {"all": float(w)}})
            for i, (v, w) in enumerate(rng.standard_normal((count, 2)) + shift)]  # fmt: skip


def test_rules_share_alpha_and_the_audit_tells_what_came():
    rng = np.random.default_rng(0)
    found = judged(_outcomes(rng, 600), _outcomes(rng, 500), shares(["r", "s"], 0.05), 0.05, "average", "none")
    whole = next(r for r in found["audit"] if r.part == "all")
    assert whole.episodes == 500
    assert whole.low <= 0.05 <= whole.high + 0.03
    assert {t.alpha for t in found["thresholds"]} == {0.025}
    assert all(t.this is not None and t.this >= t.average for t in found["thresholds"])
    assert max(found["drift"].values()) < 100
    drifting = judged(_outcomes(rng, 600), _outcomes(rng, 500, 1.0), shares(["r", "s"], 0.05), 0.05, "this", "none")
    assert max(drifting["drift"].values()) > 100
    assert next(r for r in drifting["audit"] if r.part == "all").low > 0.05


def test_strata_have_thresholds_of_their_own():
    rng = np.random.default_rng(0)
    both = _outcomes(rng, 200) + _outcomes(rng, 200, 3.0, "b")
    found = judged(both, both, shares(["r", "s"], 0.05), 0.05, "average", "domain")
    by = {(t.rule, t.stratum): t.value for t in found["thresholds"]}
    assert by["r", "b"] > by["r", "a"] + 2
    with pytest.raises(AffectscopeError, match="stratum 'a'"):
        judged(_outcomes(rng, 30), both, shares(["r", "s"], 0.01), 0.05, "average", "domain")


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.02])
def test_strata_of_tokens_keep_one_promise_together(alpha):
    """Two roles in every episode, one far noisier, both moved by the episode itself: the alarms of both count as one."""
    rng = np.random.default_rng(1)

    def some(count):
        common = rng.standard_normal(count)
        both = zip(common + rng.standard_normal(count), 5 * common + 9 * rng.standard_normal(count), strict=True)
        return [Outcome(f"{i:08x}", {}, 9, 9, {"r": {"assistant": a, "user": u}}) for i, (a, u) in enumerate(both)]

    parts = shares(["r"], alpha, {"r": ["assistant", "user"]})
    assert parts == {("r", "assistant"): alpha / 2, ("r", "user"): alpha / 2}
    rates, quiet = [], []
    for _ in range(40):
        found = judged(some(400), some(400), parts, 0.05, "average", "role")
        rates.append(next(part.rate for part in found["audit"] if part.part == "all"))
        by = {t.stratum: t.value for t in found["thresholds"]}
        quiet.append(by["user"] > 3 * by["assistant"])
    assert alpha / 4 < np.mean(rates) <= alpha * 1.1
    assert all(quiet)  # the quiet role is not held to the threshold of the noisy one
    assert set(found["drift"]) == {"r, assistant", "r, user"}


def test_an_episode_without_a_stratum_reached_nothing_in_it():
    rng = np.random.default_rng(0)
    some = [
        Outcome(f"{i:08x}", {}, 9, 9, {"r": {"user": float(v)} if i % 2 else {}}) for i, v in enumerate(rng.random(400))
    ]
    found = judged(some, some, shares(["r"], 0.05, {"r": ["user"]}), 0.05, "average", "role")
    assert [t.episodes for t in found["thresholds"]] == [400]
    assert found["reference"]["user"]["r"][0] == FLOOR


@pytest.mark.parametrize("strata", ["none", "domain"])
def test_drift_is_found_and_its_absence_is_not(strata):
    rng = np.random.default_rng(3)
    both = _outcomes(rng, 200) + _outcomes(rng, 200, 3.0, "b")
    reference = judged(both, both, shares(["r", "s"], 0.05), 0.05, "average", strata)["reference"]
    still, moved = Drift(reference, strata), Drift(reference, strata)
    fresh = _outcomes(rng, 200) + _outcomes(rng, 200, 3.0, "b")
    for i in rng.permutation(400):
        still.add(fresh[i])
    assert not still.recalibrate
    assert set(still.capital) == {"r", "s"}
    for outcome in _outcomes(rng, 200, 4.5, "b"):
        moved.add(outcome)
    assert moved.recalibrate
    unknown = Drift(reference, "domain")
    unknown.add(Outcome("x", {"domain": "night"}, 1, 1, {"r": {"all": 9.0}, "s": {"all": 9.0}}))
    assert unknown.capital == {"r": 1.0, "s": 1.0} or strata == "none"
