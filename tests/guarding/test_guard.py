"""The Python face on a planted tiny model, and the commands around it: policy, keys, verify, replay, counterfactual."""

import json

import jsonschema
import pytest
import yaml

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling
from affectscope.errors import AffectscopeError
from affectscope.guarding.guard import guard, guard_of
from affectscope.guarding.replay import events_of, replay
from affectscope.guarding.verify import verify
from affectscope.monitoring.store import Store
from tests.guarding.test_policy import SMALL, small

SAMPLING = Sampling(temperature=1.0, max_tokens=16, seed=3)
STEER = [{"action": "steer", "concept": "calm", "s": 0.1, "ramp": 2, "ttl": 50, "patience": 200}]


@pytest.fixture(scope="module")
def low(guard_calibration):
    """A calibration whose thresholds every token crosses."""
    thresholds = tuple(t.model_copy(update={"value": -100.0}) for t in guard_calibration.thresholds)
    return guard_calibration.model_copy(update={"thresholds": thresholds})


@pytest.fixture
def begin(planted, planted_vectors, low):
    def made(policy=None, **more):
        given = {"calibration": low, "sampling": SAMPLING} | more
        return guard(planted[0], planted_vectors, policy or small(rules__up__ladder=STEER, counterfactuals=2), **given)

    return made


def test_a_chat_acts_records_and_is_kept(begin, tmp_path, keys):
    path = tmp_path / "e.jsonl"
    with Store.open(tmp_path / "traces") as store:
        with begin(evidence=path, keys=keys, store=store) as guarded:
            reply = guarded.chat([{"role": "user", "content": "w1 w2"}])
        assert [act["action"] for piece in reply.decisions for act in piece.detail["acts"]] == ["steer"]
        assert reply.finished in ("length", "end")
        kept = store.load(store.list()[0].id)
    assert {e.kind for e in kept.events} >= {"alarm", "decision", "action", "counterfactual"}
    assert kept.settings["policy"] == guarded.policy.hash
    assert kept.texts is None
    assert verify(path, keys.public).ok
    assert "w1" not in path.read_text()


def test_what_was_decided_live_is_decided_again_from_the_kept_trace(begin, low):
    guarded = begin()
    reply = guarded.chat("w1 w2 w3")
    again = replay(reply.trace, guard_of(guarded.policy, low))
    live = next(e for e in reply.trace.events if e.kind == "decision")
    assert (again.first, again.position) == ("steer (up)", live.position)
    assert again.acts == {"steer": 1}
    assert again.tokens == len(reply.trace)


def test_replay_refuses_a_trace_without_what_it_needs(begin, low):
    guarded = begin()
    trace = guarded.chat("w1").trace
    from dataclasses import replace

    with pytest.raises(AffectscopeError, match="readers_heldout"):
        list(events_of(replace(trace, probes=("readers", "vectors")), guard_of(guarded.policy, low)))
    names = tuple("x" if c == "angry" else c for c in trace.concepts)
    with pytest.raises(AffectscopeError, match="does not hold 'angry'"):
        list(events_of(replace(trace, concepts=names), guard_of(guarded.policy, low)))


def test_conversations_of_one_guard_are_apart(begin):
    one = begin()
    other = one.another()
    one.chat("w1")
    assert other.session.recorder.state.used == 0
    assert other.chat("w1").decisions


def test_a_changed_policy_file_takes_effect_between_conversations_only(planted, planted_vectors, low, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL)
    first = guard(planted[0], planted_vectors, path, calibration=low, sampling=SAMPLING)
    path.write_text(SMALL.replace("      - log\n", ""))
    assert first.chat("w1").decisions[0].detail["acts"][0]["action"] == "log"
    second = first.another()
    assert second.chat("w1").decisions[0].detail["acts"][0]["action"] == "steer"
    assert first.policy.hash != second.policy.hash
    path.write_text(SMALL.replace("slack: 0.5", "slack: 2.0"))
    with pytest.raises(AffectscopeError, match="not calibrated so"):
        first.another()
    path.write_text("nonsense")
    with pytest.raises(AffectscopeError, match="line 1"):
        first.another()
    assert first.chat("w1").finished


def test_calls_from_code_stand_before_the_same_barrier(begin):
    log = []
    guarded = begin(tools={"send": lambda text: log.append(text) or "sent"})
    assert guarded.call("send", text="before") == ("sent", True)
    guarded.chat("w1 w2")
    answer, ran = guarded.call("send", text="after")
    assert not ran
    assert "held" in answer
    assert log == ["before"]


def test_messages_of_every_usual_form(begin):
    for given in ("w1", [Message("user", "w1")], [{"role": "user", "content": "w1"}]):
        assert begin(small(rules__up__ladder=["log"])).chat(given).finished
    with pytest.raises(AffectscopeError, match="a message is"):
        begin().chat([{"content": "w1"}])


def test_a_domain_calibration_needs_the_domain(begin, low):
    by = tuple(t.model_copy(update={"stratum": "travel"}) for t in low.thresholds)
    domain = low.model_copy(update={"strata": "domain", "thresholds": by})
    with pytest.raises(AffectscopeError, match="one of travel"):
        begin(calibration=domain)
    assert begin(calibration=domain, stratum="travel").chat("w1").decisions
    with pytest.raises(AffectscopeError, match="before it knows the prompt"):
        begin(calibration=low.model_copy(update={"strata": "length"}))


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    import sys

    from affectscope.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["affectscope", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_policy_check_show_and_schema(cli, tmp_path):
    code, out, _ = cli("policy", "check", "cautious")
    assert (code, "nothing to say" in out) == (0, True)
    (tmp_path / "mine.yaml").write_text(SMALL.replace("- log\n", "- stop\n      - log\n"))
    code, out, _ = cli("policy", "check", "mine.yaml", "--json")
    assert code == 2
    assert any("never reached" in f["text"] for f in json.loads(out)["findings"])
    (tmp_path / "bad.yaml").write_text(SMALL.replace("- log", "- shout"))
    code, _, err = cli("policy", "check", "bad.yaml")
    assert code == 2
    assert "line 9, column 9" in err
    code, out, _ = cli("policy", "show", "strict")
    assert yaml.safe_load(out)["name"] == "strict"
    code, out, _ = cli("policy", "schema")
    jsonschema.Draft202012Validator.check_schema(json.loads(out))
    jsonschema.validate(yaml.safe_load(SMALL), json.loads(out))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(SMALL.replace("- log", "- shout")), json.loads(out))


def test_replay_counterfactual_and_verify_by_command(begin, low, cli, tmp_path):
    assert cli("keys", "new", "--out", "k")[0] == 0
    assert cli("keys", "new", "--out", "k")[0] == 2
    from affectscope.guarding.keys import load_keys

    with Store.open(tmp_path / "traces") as store:
        with begin(evidence=tmp_path / "e.jsonl", keys=load_keys(tmp_path / "k"), store=store) as guarded:
            guarded.chat("w1 w2")
        name = store.list()[0].id
    low.save(tmp_path / "c.json")
    (tmp_path / "mine.yaml").write_text(SMALL)
    code, out, _ = cli("policy", "replay", "mine.yaml", "--calibration", "c.json", "--out", "page.html")
    assert (code, "would have acted in 1" in out) == (0, True)
    assert "small over 1 traces" in (tmp_path / "page.html").read_text()
    code, out, _ = cli("policy", "replay", "mine.yaml", "--calibration", "c.json", "--json")
    assert json.loads(out)["traces"][0]["first"] == "log (up)"
    code, out, _ = cli("counterfactual", name[:6])
    assert code == 0
    assert "2 pairs of forks" in out
    code, out, _ = cli("verify", "e.jsonl", "--pubkey", "k/public.pem")
    assert (code, "every line holds" in out) == (0, True)
    lines = (tmp_path / "e.jsonl").read_bytes().splitlines()
    (tmp_path / "cut.jsonl").write_bytes(b"\n".join([*lines[:4], *lines[5:]]) + b"\n")
    code, out, _ = cli("verify", "cut.jsonl", "--json")
    assert code == 2
    assert json.loads(out)["failed"] == 5
    assert cli("keys", "show", "--keys", "k")[1].strip() == load_keys(tmp_path / "k").public


def test_a_store_without_forks_and_one_that_is_not_there(begin, cli, tmp_path):
    assert cli("counterfactual", "abc")[0] == 2
    with Store.open(tmp_path / "traces") as store:
        begin(small(rules__up__ladder=["log"]), store=store).chat("w1")
        name = store.list()[0].id
    code, _, err = cli("counterfactual", name)
    assert code == 2
    assert "counterfactuals" in err
    assert err.count("\n") == 1
