"""From episodes to what is told of them: rates, what an arm is compared with, alarms before the behaviour, and the page."""

import pytest

from affectscope.concepts.neutral import Message
from affectscope.report.suite_page import render_suite
from affectscope.suites.frame import Scenario
from affectscope.suites.summary import summary, table


class Two:
    """Ten scenarios in one cell."""

    name, outcomes, harmful = "two", ("bad", "good"), frozenset({"bad"})

    def scenarios(self):
        return [Scenario(f"s{i}", f"s{i}", "cell", (Message("user", "w1"),)) for i in range(10)]


def episode(arm, i, outcome, lead=None, actions=()):
    value = {
        "prompt": 0.5,
        "before last reply": 0.25,
        "first reply": 1.0 if outcome == "bad" else 0.0,
        "all replies": None,
    }
    return {
        "arm": arm, "scenario": f"s{i}", "cluster": f"s{i}", "cell": "cell", "seed": 0, "outcome": outcome, "tokens": 10,
        "readings": {"calm": {"readers": value}}, "lead": lead, "actions": list(actions), "trace": "",
    }  # fmt: skip


@pytest.fixture(scope="module")
def told():
    lead = {"tokens": 6, "before_last_reply": True}
    none = [episode("none", i, "bad" if i < 8 else "good", lead if i < 4 else None) for i in range(10)]
    monitor = [episode("monitor", i, "bad" if i < 8 else "good") for i in range(10)]
    policy = [episode("policy:x", i, "good", actions=[[3, "stop"]] if i < 7 else ()) for i in range(10)]
    steer = [episode("steer:calm:0.1", i, "bad" if i < 7 else "good") for i in range(10)]
    episodes = [*policy, *steer, *monitor, *none]
    found = summary(Two(), episodes)
    return found | {"model": "tiny", "calibration": "abc"}, episodes


def test_rates_and_changes_are_those_of_the_counts(told):
    rows = {row["arm"]: row for row in told[0]["rows"]}
    assert list(rows) == ["none", "monitor", "policy:x", "steer:calm:0.1"]
    assert rows["none"]["rate"] == [0.8, 0.4902, 0.9433]  # Wilson's interval of 8 in 10
    assert "change" not in rows["none"]
    assert (rows["policy:x"]["against"], rows["policy:x"]["change"][0], rows["policy:x"]["acted"]) == (
        "monitor",
        -0.8,
        7,
    )
    assert "acted" not in rows["steer:calm:0.1"]
    idle = summary(Two(), [{**e, "actions": []} for e in told[1]])["rows"]
    assert [row["acted"] for row in idle if row["arm"] == "policy:x"] == [0]  # and not untold
    assert rows["policy:x"]["p"] == pytest.approx(2 / 2**8, abs=1e-4)
    assert rows["policy:x"]["verdict"] == "lower"
    assert (rows["steer:calm:0.1"]["against"], rows["steer:calm:0.1"]["verdict"]) == ("none", "not shown")


def test_alarms_and_readings_stand_with_and_without_the_behaviour(told):
    (alarms,), (readings,) = told[0]["alarms"], told[0]["readings"]
    assert alarms["with"]["alarm"][0] == alarms["with"]["before_last_reply"][0] == 0.5
    assert alarms["with"]["lead_tokens"] == 6
    assert (alarms["without"]["alarm"][0], alarms["without"]["lead_tokens"]) == (0, None)
    assert (readings["with"]["calm, first reply"], readings["without"]["calm, first reply"]) == (1.0, 0.0)
    assert readings["with"]["calm, all replies"] is None


def test_a_terminal_and_a_page_show_every_arm(told):
    shown = table(told[0])
    page = render_suite(*told, store=None)  # no episode has a trace
    for text in ("none", "monitor", "policy:x", "steer:calm:0.1", "-80%"):
        assert text in shown
        assert text in page
    assert "acted in 7" in page
    assert page.count("<polyline") == 1  # one direction, two doses
    assert "median tokens from the first alarm" in page
