"""Policies as data: what is shipped, what is refused and where, and what cannot work as written."""

import json
from importlib.resources import files

import jsonschema
import pytest
import rfc8785
import yaml

from affectscope.errors import AffectscopeError
from affectscope.guarding.actions import REGISTRY, Action, Options, action_of, register
from affectscope.guarding.lint import lint
from affectscope.guarding.policy import SHIPPED, Policy, load_policy, parse, schema

SMALL = """\
format: affectscope/policy@1
name: small
rules:
  up:
    concepts: {angry: 1, calm: -1}
    detector: cusum
    options: {slack: 0.5}
    ladder:
      - log
      - {action: steer, concept: calm, s: 0.05}
      - stop
"""


def small(**changes):
    values = yaml.safe_load(SMALL)
    for path, value in changes.items():
        place, keys = values, path.split("__")
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    return Policy.model_validate(values)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_policies_are_valid_and_have_nothing_to_say_against_them(name):
    policy = load_policy(name)
    assert policy.name == name
    assert [f for f in lint(policy) if f.level == "error"] == []
    text = (files("affectscope.guarding") / "policies" / f"{name}.yaml").read_text()
    assert text.count("#") >= 5  # reasons stand beside the numbers
    jsonschema.validate(yaml.safe_load(text), schema())


def test_the_cautious_policy_acts_and_the_observing_one_does_not():
    assert not any(rung.kind.costs for part in load_policy("observe").rules.values() for rung in part.ladder)
    assert any(rung.kind.flow for part in load_policy("cautious").rules.values() for rung in part.ladder)


def test_a_hash_is_of_the_content_and_plain_values_give_the_policy_again():
    policy = parse(SMALL)
    assert parse("# a comment\n" + SMALL).hash == policy.hash
    assert small(limits={"budget": 3}).hash != policy.hash
    again = Policy.model_validate(json.loads(rfc8785.dumps(policy.plain())))
    assert again.hash == policy.hash
    assert again == policy
    cautious = load_policy("cautious")  # two rules: their order changes in the canonical form
    assert Policy.model_validate(json.loads(rfc8785.dumps(cautious.plain()))).hash == cautious.hash


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (SMALL.replace("concepts: {angry: 1, calm: -1}", "concepts: {}"), "line 5, column 15", "at least 1"),
        (SMALL.replace("detector: cusum", "detector: oracle"), "line 6, column 15", "cusum"),
        (SMALL.replace("slack: 0.5", "slck: 0.5"), "line 5, column 5", "no such option"),
        (SMALL.replace("- log", "- shout"), "line 9, column 9", "unknown action 'shout'"),
        (SMALL.replace("s: 0.05", "s: 5"), "line 10, column 43", "less than 0.5"),
        (SMALL.replace("s: 0.05", "amount: 0.05"), "line 10, column 48", "Extra inputs"),
        (SMALL.replace("name: small", "nmae: small"), "line 2, column 7", "Extra inputs"),
        (SMALL.replace("- log", "- {action: offer_exit, text: ''}"), "line 9, column 36", "at least 1"),
        (SMALL.replace("- log", "- {action: log, patience: 0}"), "line 9, column 33", "greater than or equal to 1"),
        (SMALL + "limits: {s_max: 9}\n", "line 12, column 17", "less than or equal to 0.5"),
        (SMALL + "faults: {nann: stop}\n", "line 12, column 9", "unknown fault 'nann'"),
        (SMALL.replace("ladder:", "roles: [robot]\n    ladder:"), "line 8, column 12", "unknown role 'robot'"),
        (SMALL.replace("rules:", "rules: [", 1), "line 5, column 13", "correct it"),
        ("- a\n- b\n", "line 1, column 1", "format: affectscope/policy@1"),
        (SMALL.replace("policy@1", "policy@9"), "line 1, column 9", "affectscope/policy@1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, where, says):
    with pytest.raises(AffectscopeError) as caught:
        parse(text, "mine.yaml")
    assert where in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(AffectscopeError, match="cautious"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AffectscopeError, match="UTF-8"):
        load_policy(tmp_path / "bad.yaml")


def test_a_rung_may_be_a_name_or_a_mapping_with_options():
    log, steer, stop = small().rules["up"].ladder
    assert (log.action, log.verdict, stop.verdict) == ("log", "warn", "deny")
    assert (steer.options.concept, steer.options.s, steer.options.ttl) == ("calm", 0.05, 64)
    loud = small(rules__up__ladder=[{"action": "log", "verdict": "escalate", "patience": 5}]).rules["up"].ladder[0]
    assert (loud.verdict, loud.patience) == ("escalate", 5)


def test_every_response_to_a_fault_is_stated_and_a_lost_record_always_stops():
    policy = small(on_fault="degrade", faults={"nan": "stop", "audit write": "hold"})
    assert policy.response("zeros") == "degrade"
    assert policy.response("nan") == "stop"
    assert policy.response("audit write") == "stop"


def test_a_plug_in_stands_beside_ours():
    class Whistle(Action):
        """A sound."""

        name, verdict, severity = "whistle", "warn", 1

        class Options(Options):
            """How loud."""

            loud: int = 3

        @staticmethod
        def apply(live, options, rule, request):
            return {"loud": options.loud}

    try:
        register(Whistle)
        made = small(rules__up__ladder=[{"action": "whistle", "loud": 5}]).rules["up"].ladder[0]
        assert made.options.loud == 5
        assert any("whistle" in json.dumps(r) for r in schema()["$defs"]["Rung"]["anyOf"])
        other = type("Other", (Whistle,), {})
        with pytest.raises(AffectscopeError, match="already"):
            register(other)
    finally:
        REGISTRY.pop("whistle", None)
    with pytest.raises(AffectscopeError, match="unknown action"):
        action_of("whistle")


@pytest.mark.parametrize(
    ("changes", "level", "says"),
    [
        ({"rules__up__roles": ["user"]}, "error", "cannot fire"),
        ({"rules__up__phases": []}, "error", "sees no token"),
        ({"rules__up__ladder": ["stop", "log"]}, "error", "never reached: log"),
        ({"rules__up__ladder": ["hold_tool", "log"]}, "warning", "milder"),
        ({"rules__up__ladder": [{"action": "offer_exit", "patience": 3}, "stop"]}, "warning", "cannot help"),
        ({"limits": {"budget": 0}}, "warning", "ends a ladder"),
        ({"limits": {"s_max": 0.01}}, "warning", "cut to s_max"),
        ({"rules__up__ladder": ["log"]}, "warning", "no rule does more"),
    ],
)
def test_lint(changes, level, says):
    found = lint(small(**changes))
    assert any(f.level == level and says in f.text for f in found), found


def test_lint_of_rules_that_overlap_or_starve():
    values = yaml.safe_load(SMALL)["rules"]["up"]
    twice = small(rules={"one": values | {"ladder": ["stop"]}, "two": values})
    texts = [f.text for f in lint(twice)]
    assert any("overlaps with 'one'" in text for text in texts)
    assert any("starves" in text for text in texts)
    apart = small(rules={"one": values, "two": values | {"roles": ["user"], "own_tokens_only": False}})
    assert not any("overlaps" in f.text for f in lint(apart))


def test_lint_against_a_calibration(guard_calibration):
    policy = small()
    assert [f for f in lint(policy, guard_calibration) if f.level == "error"] == []
    far = guard_calibration.model_copy(
        update={
            "thresholds": tuple(t.model_copy(update={"value": 1e6}) for t in guard_calibration.thresholds),
            "alpha": 0.2,
        }
    )
    texts = [f.text for f in lint(policy, far)]
    assert any("above all that it can reach" in text for text in texts)
    assert any("alpha_cap" in text for text in texts)
    other = small(rules__up__options={"slack": 2.0})
    assert any("not the rule that was calibrated" in f.text for f in lint(other, guard_calibration))
    slow = small(rules__up__dwell=500)
    assert any("dwell is 500" in f.text for f in lint(slow, guard_calibration))
