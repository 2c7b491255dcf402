"""Sentinel: scores from a reply's metadata, a protocol that ends a sample, and readings that are not there."""

import math

import pytest
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate

from affectscope.errors import AffectscopeError
from affectscope.integrations import inspect_sentinel_adapters as adapters
from affectscope.monitoring.detectors import Level, Rule
from tests.integrations.conftest import calibration, ran
from tests.integrations.test_inspect_barrier import message

RULES = {"pressure": [3.0, 6.0], "hostility": [9.0, 6.0], "quiet": [1.0, None]}


def made(**changed):
    return message(**{"rules": RULES, "peaks": {"calm": [1.0, 8], "angry": [9.0, 4]}, "calibration": "c"} | changed)


def watched(model, sentinel):
    log = ran(Task(dataset=[Sample(input="Name a colour.")], solver=generate(), sentinel=sentinel), model)
    return log.samples[0]


@pytest.mark.real
@pytest.mark.parametrize(("limits", "ends"), [("early", True), ("never", False)])
def test_a_protocol_ends_a_sample_at_an_alarm(provider, files, limits, ends):
    sample = watched(
        provider(limits), adapters.affect_protocol(concepts=["calm"], calibration=files[limits], limit=20.0)
    )
    assert (sample.limit is not None and sample.limit.type == "operator") is ends
    observed = [e for e in sample.events if e.event == "sentinel"]
    assert observed
    assert sample.error is None


@pytest.mark.real
def test_another_calibration_fails_the_sample(provider, files):
    sample = watched(provider("never"), adapters.affect_protocol(calibration=files["early"]))
    assert "another calibration" in sample.error.message


def test_a_reply_that_was_not_read_fails_the_sample():
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    output = ModelOutput.from_content("mockllm", "Blue.").model_copy(update={"usage": usage})
    model = get_model("mockllm/model", custom_outputs=[output], memoize=False)
    sample = watched(model, adapters.affect_protocol(concepts=["calm"]))
    assert "was not read" in sample.error.message


def test_scores_are_a_half_at_the_threshold_and_one_at_twice_of_it():
    found, why = adapters.scores(made(), ["calm", "angry"], None, 4.0)
    assert found == {"pressure": 0.25, "hostility": 0.75, "calm": 0.125, "angry": 1.0}
    assert why.startswith("angry 1.00")
    assert adapters.scores(made(rules={"a": [-3.0, 5.0], "b": [-3.0, -5.0], "c": [-6.0, -5.0]}), [], None, 4.0)[0] == {"a": 0.0, "b": 1.0, "c": 0.0}  # fmt: skip


def test_a_concept_that_a_rule_watches_alone_has_its_threshold(vectors):
    limits = calibration(vectors, "observe", 2.0, [Rule("alone", {"angry": 1.0}, Level())])
    found, _ = adapters.scores(made(calibration=limits.hash), ["angry", "calm"], limits, 4.0)
    assert (found["angry"], found["calm"]) == (1.0, 0.125)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"missing": 2}, "readings of the reply are missing"),
        ({"faults": ["NaN"]}, "readings of the reply are missing"),
        ({"rules": {"pressure": [math.nan, 6.0]}}, "readings are missing"),
        ({"rules": None}, "holds no rules"),
        ({"dropped": ["peaks"]}, "holds no peaks"),
        ({"peaks": {"calm": None}}, "'calm' was not read"),
        ({"peaks": {"calm": [math.inf, 1]}}, "readings are missing"),
        ({"reply": "other"}, "another message"),
        ({"format": "x"}, "was not read"),
    ],
)
def test_what_is_missing_raises(changed, says):
    with pytest.raises(AffectscopeError, match=says):
        adapters.scores(made(**changed), ["calm"], None, 4.0)


def test_nothing_to_score_is_refused():
    with pytest.raises(AffectscopeError, match="nothing can be scored"):
        adapters.scores(made(rules={}), [], None, 4.0)
    with pytest.raises(AffectscopeError, match="give a z above 0"):
        adapters.affect_monitor(limit=0.0)
