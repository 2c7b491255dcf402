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
        (SMALL.replace("name: small\n", ""), "line 1, column 1", "name: Field required"),
        (SMALL.replace("    concepts: {angry: 1, calm: -1}\n", ""), "line 5, column 5", "concepts: Field required"),
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


def test_every_concept_role_and_phase_of_a_part_is_in_its_rule():
    part = small(rules__up__roles=["user"], rules__up__phases=["thinking"], rules__up__own_tokens_only=False)
    (rule,) = part.monitor_rules()
    assert (rule.roles, rule.phases, rule.generated) == (("user",), ("thinking",), False)
    assert rule.row(("calm", "angry", "sad")).round(3).tolist() == [-0.707, 0.707, 0]


def test_plain_values_are_those_of_json_with_the_options_of_every_action():
    plain = small().plain()
    assert json.loads(json.dumps(plain)) == plain
    rungs = [(r["action"], r["options"].get("concept")) for r in plain["rules"]["up"]["ladder"]]
    assert rungs == [("log", None), ("steer", "calm"), ("stop", None)]


def _rungs():
    """Of the schema, by action."""
    return {r["properties"]["action"]["const"]: r for r in schema()["$defs"]["Rung"]["anyOf"] if "properties" in r}


def test_an_editor_refuses_in_a_rung_what_is_refused_here():
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    steer = {"action": "steer", "concept": "calm", "s": 0.05}
    for rung, right in (
        (steer | {"verdict": "warn", "patience": 1}, True),
        ("stop", True),
        ({"action": "log"}, True),
        ("shout", False),
        (steer | {"verdict": "perhaps"}, False),
        (steer | {"patience": 0}, False),
        (steer | {"patience": "long"}, False),
        (steer | {"loud": 1}, False),
        ({"action": "steer"}, False),
        ({"concept": "calm", "s": 0.05}, False),
    ):
        values = small().plain() | {"rules": {"up": {"concepts": {"angry": 1}, "ladder": [rung]}}}
        assert jsonschema.Draft202012Validator(schema()).is_valid(values) is right, rung
        if right:
            Policy.model_validate(values)
        else:
            with pytest.raises(ValueError, match=r"\S"):
                Policy.model_validate(values)


def test_the_schema_tells_what_each_action_is():
    for name, rung in _rungs().items():
        assert rung["description"] == REGISTRY[name].__doc__.strip()
        assert rung["required"][0] == "action"


def test_messages_name_the_file_and_what_can_be_given(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        AffectscopeError, match=r"bad\.yaml: it is not UTF-8; give a file, or one of observe, cautious, strict"
    ):
        load_policy(tmp_path / "bad.yaml")
    with pytest.raises(AffectscopeError, match=r"none\.yaml: No such file"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "typo.yaml").write_text(SMALL.replace("name: small", "nmae: small"))
    with pytest.raises(AffectscopeError, match=r"typo\.yaml, line 2"):
        load_policy(tmp_path / "typo.yaml")
    with pytest.raises(AffectscopeError, match=r"^policy, line 1, column 1: a policy is a mapping"):
        parse("[]")
    with pytest.raises(AffectscopeError, match=r"^policy, the file: no YAML; correct it$"):
        parse("name: \x00")  # a character that YAML does not have: there is no mark to name
    with pytest.raises(AffectscopeError, match=r"^policy, line 1, column 4: did not find expected ',' or ']'|expected"):
        parse("a: [1 2: 3: 4")
    with pytest.raises(AffectscopeError, match="unknown action 'shout': use one of hold_tool, human, log, "):
        action_of("shout")


def test_a_shipped_policy_that_is_damaged_is_named(monkeypatch):
    monkeypatch.setattr("affectscope.guarding.policy.files", lambda _: Broken())
    with pytest.raises(AffectscopeError, match=r"^cautious, line 1"):
        load_policy("cautious")


class Broken:
    """A package whose files hold nothing of ours."""

    def __truediv__(self, _name):
        return self

    def read_text(self, encoding):
        assert encoding.lower() == "utf-8"
        return "[]"


def test_actions_of_other_packages_are_found_by_their_entry_point(monkeypatch):
    class Point:
        def load(self):
            values = {"name": "hum", "verdict": "warn", "severity": 1, "apply": staticmethod(lambda *_: {})}
            register(type("Hum", (Action,), values))

    monkeypatch.setattr("affectscope.guarding.actions.entry_points", lambda group: [Point()] if group == "affectscope.actions" else [])  # fmt: skip
    try:
        assert action_of("hum").name == "hum"
    finally:
        REGISTRY.pop("hum", None)
