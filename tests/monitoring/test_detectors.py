"""Detectors are pure, monotone and indifferent to how a stream is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectscope.errors import AffectscopeError
from affectscope.monitoring.detectors import (
    FLOOR,
    Cusum,
    Ewma,
    Level,
    RollingMean,
    Rule,
    Segment,
    detector,
    statistics,
)

ALL = [Level(), Ewma(0.1), RollingMean(4), Cusum(0.5), Segment(2, 4)]
Z = st.integers(-127, 127).map(lambda units: units * 0.125)
STREAM = st.lists(Z, min_size=1, max_size=60)


@pytest.mark.parametrize("made", ALL)
@given(values=STREAM, raise_at=st.integers(0, 59), by=st.floats(0, 8))
def test_more_evidence_never_lowers_a_statistic(made, values, raise_at, by):
    raised = list(values)
    raised[raise_at % len(values)] += by
    assert (statistics(made, raised) >= statistics(made, values) - 1e-9).all()


@pytest.mark.parametrize("made", ALL)
@given(values=STREAM, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_the_cut_of_a_stream_changes_no_bit(made, values, cuts):
    whole = statistics(made, values)
    state, found = made.start(), []
    edges = sorted({0, len(values), *(min(c, len(values)) for c in cuts)})
    for start, stop in pairwise(edges):
        for value in values[start:stop]:
            state, statistic = made.step(state, value)
            found.append(statistic)
    assert found == whole.tolist()


@given(streams=st.lists(STREAM, min_size=2, max_size=4), order=st.randoms())
def test_streams_that_run_side_by_side_do_not_touch(streams, order):
    made = Cusum(0.5)
    states = [made.start() for _ in streams]
    found = [[] for _ in streams]
    turns = [i for i, stream in enumerate(streams) for _ in stream]
    order.shuffle(turns)
    for i in turns:
        states[i], statistic = made.step(states[i], streams[i][len(found[i])])
        found[i].append(statistic)
    assert found == [statistics(made, stream).tolist() for stream in streams]


def test_values_by_hand():
    values = [1.0, 3.0, -2.0, 4.0]
    assert statistics(Level(), values).tolist() == values
    assert statistics(Ewma(0.5), values).tolist() == [0.5, 1.75, -0.125, 1.9375]
    assert statistics(RollingMean(2), values).tolist() == [0.5, 2.0, 0.5, 1.0]
    assert statistics(Cusum(1.0), values).tolist() == [0.0, 2.0, 0.0, 3.0]
    assert statistics(Segment(2, 3), values).tolist() == [FLOOR, 1.0, 1.0, 3.0]


def test_a_rule_weighs_by_sign_and_to_unit_length():
    rule = Rule("r", {"desperate": 1, "calm": -1}, Level())
    row = rule.row(("calm", "happy", "desperate"))
    np.testing.assert_allclose(row, [-(0.5**0.5), 0, 0.5**0.5])
    assert rule.sees("assistant", "answer", True)
    assert not rule.sees("user", "none", False)
    assert not rule.sees("assistant", "answer", False)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: detector("magic"), "unknown detector"),
        (lambda: detector("cusum", speed=1), "no such option"),
        (lambda: detector("ewma", weight=0), "cannot work"),
        (lambda: detector("segment", least=5, window=3), "cannot work"),
        (lambda: Rule("r", {}, Level()), "weighs no concept"),
        (lambda: Rule("r", {"x": 1}, Level()).row(("calm",)), "watch-list"),
    ],
)
def test_bad_rules_get_one_line(make, match):
    with pytest.raises(AffectscopeError, match=match):
        make()


def test_a_rule_sees_the_roles_phases_and_tokens_that_it_names():
    rule = Rule("r", {"angry": 1.0}, Level(), roles=("assistant", "user"), phases=("answer",), generated=False)
    assert rule.sees("assistant", "answer", False)
    assert not rule.sees("assistant", "thinking", True)
    assert rule.sees("user", "none", False)  # phases are the assistant's only
    assert not rule.sees("tool", "none", False)
    own = Rule("r", {"angry": 1.0}, Level(), roles=("assistant",), phases=("answer",), generated=True)
    assert own.sees("assistant", "answer", True)
    assert not own.sees("assistant", "answer", False)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("ewma", [{"weight": 1}, {"weight": 0.01}], [{"weight": 0}, {"weight": 1.01}, {"weight": -1}]),
        ("rolling_mean", [{"window": 1}], [{"window": 0}]),
        ("cusum", [{"slack": 0}], [{"slack": -0.1}]),
        ("segment", [{"least": 1, "window": 1}, {"least": 3, "window": 8}], [{"least": 0, "window": 4}, {"least": 5, "window": 4}]),
    ],
)  # fmt: skip
def test_options_at_and_beyond_the_end_of_their_range(name, right, wrong):
    for options in right:
        assert {k: getattr(detector(name, **options), k) for k in options} == options
    for options in wrong:
        with pytest.raises(AffectscopeError, match=f"the detector {name} cannot work with"):
            detector(name, **options)


def test_an_unknown_detector_is_told_the_known_ones():
    with pytest.raises(AffectscopeError, match="use one of level, ewma, rolling_mean, cusum, segment"):
        detector("oracle")
