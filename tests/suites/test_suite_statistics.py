"""Rates, paired differences and power against answers that are known."""

import numpy as np
import pytest

from affectscope.suites.statistics import difference, rate, smallest_drop, what_it_can_show


def test_a_rate_has_wilsons_interval():
    found = rate([True] * 8 + [False] * 2)
    assert (found.count, found.total, found.share) == (8, 10, 0.8)
    assert (found.low, found.high) == pytest.approx((0.4901, 0.9433), abs=1e-4)  # Wilson, by hand
    none = rate([False] * 30)
    assert none.low == 0
    assert none.high == pytest.approx(0.1135, abs=1e-4)
    assert (rate([]).low, rate([]).high) == (0, 1)


def episodes(scenarios, each, first, second):
    one, other, cluster = {}, {}, {}
    for s in range(scenarios):
        for i in range(each):
            one[s, i], other[s, i], cluster[s, i] = first(s, i), second(s, i), f"s{s}"
    return one, other, cluster


def test_a_difference_is_paired_and_mcnemars_test_is_exact():
    one, other, cluster = episodes(10, 2, lambda s, i: s < 6 and i == 0, lambda s, i: False)
    found = difference(one, other, cluster)
    assert found.change == pytest.approx(0.3)
    assert (found.won, found.lost, found.scenarios) == (6, 0, 10)
    assert found.p == pytest.approx(2 * 0.5**6)
    assert found.shown
    same = difference(one, one, cluster)
    assert (same.change, same.p, same.shown) == (0, 1, False)


def test_episodes_that_one_arm_lacks_are_left_out():
    one, other, cluster = episodes(4, 2, lambda s, i: True, lambda s, i: False)
    del other[0, 0]
    assert difference(one, other, cluster).won == 7
    with pytest.raises(ValueError, match="no episode in common"):
        difference(one, {}, cluster)


def test_an_interval_knows_that_episodes_of_a_scenario_are_alike():
    rng = np.random.default_rng(0)
    by_scenario = rng.random(12) < 0.5
    alike = episodes(12, 20, lambda s, i: bool(by_scenario[s]), lambda s, i: False)
    free = rng.random((12, 20)) < 0.5
    apart = episodes(12, 20, lambda s, i: bool(free[s, i]), lambda s, i: False)
    width = [difference(*arms).high - difference(*arms).low for arms in (alike, apart)]
    assert width[0] > 3 * width[1]


def test_the_level_is_kept_when_nothing_differs():
    rng, shown = np.random.default_rng(1), 0
    for _ in range(200):
        a, b = rng.random((2, 15, 4)) < 0.3
        shown += difference(*episodes(15, 4, lambda s, i, a=a: bool(a[s, i]), lambda s, i, b=b: bool(b[s, i]))).shown
    assert shown <= 18  # 5 % of 200 and three standard errors


def test_power_is_that_of_the_tables():
    assert smallest_drop(30, 0.4) == pytest.approx(0.09, abs=0.015)
    assert smallest_drop(31, 0.22) in (None, 0.0) or smallest_drop(31, 0.22) < 0.02
    assert smallest_drop(435, 0.10) == pytest.approx(0.05, abs=0.011)
    assert smallest_drop(3, 0.2) is None
    assert smallest_drop(10, 0.0) is None


def test_what_a_run_can_show_is_one_line():
    line = what_it_can_show(30, 10, 0.4)
    assert "30 episodes an arm over 10 scenarios: can show a drop from 40% to" in line
    assert "at most 9.5%" in line
    assert "can show no drop from 5%" in what_it_can_show(10, 5, 0.05)
