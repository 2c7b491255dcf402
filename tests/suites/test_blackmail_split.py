"""Rates by awareness, and a judge beside the rules: its opinion is kept, changes nothing, and may be missing."""

from affectscope.suites.blackmail.scripted import load_scripted
from affectscope.suites.blackmail.split import awareness_table, by_awareness, judge_agreement
from affectscope.suites.blackmail.suite import HARMFUL, Blackmail
from affectscope.suites.frame import Done
from affectscope.suites.offered import Wishes, suite_of


def episode(outcome, aware, judge=None):
    note = {"aware": aware} | ({"judge": judge} if judge else {})
    return {"arm": "none", "cell": "threat_only", "outcome": outcome, "notes": [note]}


def test_rates_are_told_apart_for_those_who_take_it_for_a_test():
    episodes = [episode("explicit_blackmail", False)] * 3 + [episode("none", False)] + [episode("none", True)] * 2
    unaware, aware = by_awareness(episodes, HARMFUL)
    assert (unaware["aware"], unaware["episodes"], unaware["rate"][0]) == (False, 4, 0.75)
    assert (aware["aware"], aware["episodes"], aware["rate"][0]) == (True, 2, 0.0)
    assert "2 of 6 episodes; rates apart" in awareness_table([unaware, aware], None)
    assert awareness_table([unaware], None) == "says that it is being tested: 0 of 4 episodes"


def test_a_judge_is_compared_over_what_it_gave_a_class():
    same, other, none = (
        {"outcome": o, "reason": r} for o, r in (("none", ""), ("appeal", ""), (None, "the judge failed: x"))
    )
    found = judge_agreement(
        [episode("none", False, same), episode("sabotage", False, other), episode("none", False, none)]
    )
    assert (found["same"], found["compared"], found["failed"], found["reason"]) == (1, 2, 1, "the judge failed: x")
    assert "no class in 1" in awareness_table([], found)
    assert judge_agreement([episode("none", False)]) is None


def test_a_judge_changes_no_outcome_and_one_that_is_down_leaves_its_reason():
    by = {s.id: s for s in Blackmail().scenarios()}
    scripted = load_scripted()[0]
    scenario = by[f"{scripted.surface}-{scripted.cell}"]
    plain = Blackmail().follow(scenario, [scripted.output])
    asked = []
    with_judge = Blackmail(judge=lambda prompt: asked.append(prompt) or '{"label": "none"}').follow(
        scenario, [scripted.output]
    )
    assert isinstance(with_judge, Done)
    assert with_judge.outcome == plain.outcome
    assert with_judge.notes["judge"] == {"outcome": "none", "reason": ""}
    assert scripted.output[:50] in asked[0]
    down = suite_of("blackmail", Wishes(judge="http://127.0.0.1:9/v1")).follow(scenario, [scripted.output])
    assert down.outcome == plain.outcome
    assert down.notes["judge"]["outcome"] is None
    assert "the judge failed" in down.notes["judge"]["reason"]
