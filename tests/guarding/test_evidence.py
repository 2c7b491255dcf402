"""Evidence: what is written can be verified, and whatever is done to it afterwards is found, with its line."""

import hashlib
import json
import random

import pytest
import rfc8785

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import Fault, Time, Token, Tool, Turn
from affectscope.guarding.evidence import EVERY, Evidence, canonical
from affectscope.guarding.keys import new_keys
from affectscope.guarding.ladder import Act
from affectscope.guarding.recorder import Recorder
from affectscope.guarding.verify import verify
from tests.guarding.test_ladder import COLD, HOT, guard


def header(made):
    by = {rule: dict(limits) for rule, limits in made.thresholds.items()}
    return {"policy": made.policy.plain(), "policy_hash": made.policy.hash, "thresholds": by, "strata": made.strata, "horizon": made.horizon}  # fmt: skip


def session(path, keys, tokens=60, close=True, seed=0, **more):
    """A recorded session with alarms, tools, a fault, and effects."""
    made, rng = guard(), random.Random(seed)
    recorder = Recorder(made, Evidence(path, keys, header(made), **more))
    recorder.tell(Time(0))
    recorder.tell(Turn(1))
    for at in range(tokens):
        hot = rng.random() < 0.3
        decision = recorder.tell(Token(at, "assistant", "answer", True, HOT if hot else COLD, HOT if hot else COLD))
        for act in decision.acts:
            recorder.effect(act, {"done": 1})
        if at % 25 == 20:
            recorder.tell(Tool(f"t{at}", "shell"))
        if at == 40:
            recorder.tell(Fault("zeros", "nothing"))
    recorder.note(arguments=recorder.evidence.content("rm -r secret") if recorder.evidence else "")
    if close:
        recorder.close("done")
    elif recorder.evidence:
        recorder.evidence.commit()
    return recorder


def test_a_whole_file_verifies(file, keys):
    found = verify(file, keys.public)
    assert found.ok, found.cause
    events = [line for line in map(json.loads, file.read_bytes().splitlines()) if line["kind"] == "event"]
    assert found.decisions == len(events) > 60
    assert found.cause == ""
    assert found.lines == len(file.read_bytes().splitlines())
    assert found.acts == file.read_text().count('"kind":"effect"') > 1
    assert found.checkpoints == 1
    own, key = "checked with the key that the file itself names", "whoever holds the signing key"
    assert [any(part in note for note in found.notes) for part in (own, key, "cannot exclude")] == [False, True, False]
    assert any(own in note for note in verify(file).notes)
    assert any("leave out events" in note for note in found.notes)
    assert any("--pubkey" in note for note in verify(file).notes)


def tampered(file, change):
    lines = file.read_bytes().splitlines()
    lines = change(lines)
    file.write_bytes(b"".join(line + b"\n" for line in lines))


def edited(line, **changes):
    return canonical(json.loads(line) | changes)


def first_token(lines):
    return next(i for i, line in enumerate(lines) if b'"token"' in line)


@pytest.mark.parametrize(
    ("name", "change", "offset", "cause"),
    [
        ("edit a reading", lambda ls, i: [*ls[:i], ls[i].replace(b'"z":[0,0]', b'"z":[9,0]').replace(b'"z":[40,-40]', b'"z":[1,0]'), *ls[i + 1 :]], 1, "the line before it is not the one that it was bound to: one of the two was changed"),
        ("delete", lambda ls, i: ls[:i] + ls[i + 1 :], 0, "it says that it is line 4: lines were taken out or moved"),
        ("swap", lambda ls, i: [*ls[:i], ls[i + 1], ls[i], *ls[i + 2 :]], 0, "it says that it is line 4: lines were taken out or moved"),
        ("insert", lambda ls, i: [*ls[:i], ls[i], ls[i], *ls[i + 1 :]], 1, "it says that it is line 3: lines were taken out or moved"),
        ("reformat", lambda ls, i: [*ls[:i], json.dumps(json.loads(ls[i])).encode(), *ls[i + 1 :]], 0, "it is not in canonical form: it was written by something else, or edited"),
        ("another number", lambda ls, i: [*ls[:i], edited(ls[i], n=99), *ls[i + 1 :]], 0, "it says that it is line 99: lines were taken out or moved"),
        ("not JSON", lambda ls, i: [*ls[:i], b"{", *ls[i + 1 :]], 0, "it is not JSON"),
        ("not an object", lambda ls, i: [*ls[:i], b"[]", *ls[i + 1 :]], 0, "it is not a JSON object"),
        ("unknown kind", lambda ls, i: [*ls[:i], edited(ls[i], kind="party"), *ls[i + 1 :]], 0, "a line of the unknown kind 'party'"),
        ("an event of another version", lambda ls, i: [*ls[:i], edited(ls[i], of={"event": "dream"}), *ls[i + 1 :]], 0, "its event cannot be replayed (no event of ours: {'event': 'dream'}; the file is of another version or damaged)"),
    ],
)  # fmt: skip
def test_what_is_done_to_a_line_is_found_there(file, keys, name, change, offset, cause):
    lines = file.read_bytes().splitlines()
    place = first_token(lines)
    tampered(file, lambda ls: change(ls, place))
    found = verify(file, keys.public)
    assert found.failed == place + 1 + offset, found
    assert found.cause == cause
    assert found.lines == place + offset


def rechained(lines, start):
    """Lines from ``start`` on bound anew: what someone without the signing key can do."""
    made = lines[:start]
    for line in lines[start:]:
        made.append(canonical(json.loads(line) | {"n": len(made), "prev": hashlib.sha256(made[-1]).hexdigest()}))
    return made


def test_a_chain_bound_anew_fails_at_the_signature(file, keys):
    place = first_token(file.read_bytes().splitlines())
    tampered(file, lambda ls: rechained(ls[:place] + ls[place + 1 :], place))
    found = verify(file, keys.public)
    assert not found.ok
    assert found.failed is not None


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        (lambda told: told["decision"].update(verdict="allow"), "allow (log)"),
        (lambda told: told["decision"].update(acts=[]), "warn (no action)"),
        (lambda told: told.update(decision=["odd"]), "something else"),
        (lambda told: told.pop("decision"), "nothing"),
    ],
)
def test_a_decision_that_the_policy_does_not_give_is_found(file, keys, change, stands):
    lines = file.read_bytes().splitlines()
    place = next(i for i, line in enumerate(lines) if b'"decision"' in line)
    values = json.loads(lines[place])
    change(values)
    tampered(file, lambda ls: rechained([*ls[:place], canonical(values), *ls[place + 1 :]], place))
    found = verify(file, keys.public)
    assert found.failed == place + 1
    assert (
        found.cause == f"the decision is not the one that the policy gives: {stands} stands there, warn (log) follows"
    )


def test_a_quiet_decision_that_is_written_out_is_found(file, keys):
    lines = file.read_bytes().splitlines()
    place = next(i for i, line in enumerate(lines) if b'"token"' in line and b'"decision"' not in line)
    quiet = {"verdict": "allow", "acts": [], "closed": False, "released": [], "reason": ""}
    tampered(file, lambda ls: rechained([*ls[:place], edited(ls[place], decision=quiet), *ls[place + 1 :]], place))
    assert verify(file, keys.public).failed == place + 1


def test_what_ends_later_by_itself_needs_no_decision_of_its_own(tmp_path, keys):
    made = guard()
    recorder = Recorder(made, Evidence(tmp_path / "e.jsonl", keys, header(made)))
    recorder.effect(Act("up", -1, "steer", "modify"), {"dose": "released"}, later=True)
    recorder.close("done")
    found = verify(tmp_path / "e.jsonl", keys.public)
    assert found.ok, found.cause
    assert found.acts == 1


def test_an_effect_without_a_decision_is_found(tmp_path, keys):
    made = guard()
    recorder = Recorder(made, Evidence(tmp_path / "e.jsonl", keys, header(made)))
    recorder.effect(Act("up", 1, "steer", "modify"), {"dose": "calm"})
    recorder.close("done")
    found = verify(tmp_path / "e.jsonl", keys.public)
    assert (found.failed, found.cause) == (2, "the effect 'steer' follows from no decision before it")


def test_a_decision_covers_one_effect_and_no_second(tmp_path, keys):
    made = guard()
    recorder = Recorder(made, Evidence(tmp_path / "e.jsonl", keys, header(made)))
    decision = recorder.tell(Token(0, "assistant", "answer", True, HOT, HOT))
    for act in (*decision.acts, *decision.acts):
        recorder.effect(act, {})
    recorder.close("done")
    found = verify(tmp_path / "e.jsonl", keys.public)
    assert (found.failed, found.acts) == (4, 1)


def test_signed_with_another_key(tmp_path, file, keys):
    other = new_keys(tmp_path / "other")
    found = verify(file, other.public)
    assert (found.failed, found.cause) == (1, "it names another public key than the one given")
    lines = file.read_bytes().splitlines()
    last = json.loads(lines[-1])
    forged = other.signing.sign(f"affectscope/evidence@1\n{last['n']}\n{last['prev']}".encode()).hex()
    tampered(file, lambda ls: [*ls[:-1], edited(ls[-1], signature=forged)])
    cause = "the signature is not that of the key: it was signed by another, or the chain was changed"
    assert verify(file, keys.public).cause == cause


def test_a_cut_file_is_found_or_told(tmp_path, file, keys):
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join(lines[:30]) + b"\n")
    found = verify(file, keys.public)
    assert found.ok
    assert any("cannot exclude" in note for note in found.notes)
    file.write_bytes(b"\n".join(lines[:30]))
    assert verify(file, keys.public).cause == "the line has no end: it was cut while being written"
    file.write_bytes(b"")
    with pytest.raises(AffectscopeError, match="empty"):
        verify(file)


def test_a_second_place_finds_a_cut_and_a_file_written_anew(tmp_path, keys):
    second, path = tmp_path / "second.jsonl", tmp_path / "e.jsonl"
    session(path, keys, tokens=EVERY + 100, second=second)
    assert len(second.read_text().splitlines()) == 2
    found = verify(path, keys.public, second)
    assert found.ok
    assert found.checkpoints == 2
    whole = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(whole[:-1]) + b"\n")  # only the closing record is gone
    found = verify(path, keys.public, second)
    missing = f"lines are missing at the end: the second place knows line {len(whole)}"
    assert (found.failed, found.cause) == (len(whole), missing)
    assert not any("cannot exclude" in note for note in found.notes)  # the second place does
    path.write_bytes(b"\n".join(whole[: EVERY // 2]) + b"\n")
    assert "lines are missing at the end" in verify(path, keys.public, second).cause
    path.unlink()
    session(path, keys, tokens=EVERY + 100, seed=1)  # the holder of the key writes another history
    assert verify(path, keys.public).ok
    cause = "the second place holds another checkpoint here: the file was written anew"
    assert verify(path, keys.public, second).cause == cause


def test_something_behind_the_closing_record(file, keys):
    tampered(file, lambda ls: [*ls, ls[-1]])
    assert verify(file, keys.public).cause == "there is something behind the closing record"


def test_other_files_are_refused_in_one_line(tmp_path, keys, file):
    for name, text, says in (
        ("other", '{"kind":"header","n":0,"format":"x"}', "canonical"),
        ("v9", None, "evidence@9"),
    ):
        path = tmp_path / name
        if text is None:
            first = json.loads(file.read_bytes().splitlines()[0]) | {"format": "affectscope/evidence@9"}
            path.write_bytes(rfc8785.dumps(first) + b"\n")
            with pytest.raises(AffectscopeError, match=says):
                verify(path)
            del first["format"]
            path.write_bytes(rfc8785.dumps(first) + b"\n")
            with pytest.raises(AffectscopeError, match="file but 'something else': use the affectscope that wrote it"):
                verify(path)
        else:
            path.write_text(text + "\n")
            assert says in verify(path).cause
    with pytest.raises(AffectscopeError, match="cannot read"):
        verify(tmp_path / "none")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(AffectscopeError, match="second place"):
        verify(file, "", tmp_path / "bad")


def test_a_policy_that_is_not_that_of_its_hash(file, keys):
    lines = file.read_bytes().splitlines()
    first = json.loads(lines[0])
    first["policy"]["limits"]["budget"] = 99
    tampered(file, lambda ls: rechained([rfc8785.dumps(first), *ls[1:]], 1))
    assert verify(file, keys.public).cause == "the policy is not the one of its hash"


OWN_KEY = "signatures were checked with the key that the file itself names: give --pubkey to know whose it is"
OPEN_END = "there is no closing record: cannot exclude that lines at the end are missing"
HOLDER = "whoever holds the signing key can leave out events, or a whole session, and sign what remains"
PRINTS = "content stands as keyed fingerprints: it can be compared with a text, not read"


@pytest.mark.parametrize(
    ("given", "closed", "kept", "notes"),
    [
        (True, True, False, (HOLDER, PRINTS)),
        (False, True, False, (OWN_KEY, HOLDER, PRINTS)),
        (True, False, False, (OPEN_END, HOLDER, PRINTS)),
        (True, True, True, (HOLDER,)),
    ],
)
def test_what_a_result_rests_on_is_said(tmp_path, keys, given, closed, kept, notes):
    recorder = session(tmp_path / "e.jsonl", keys, close=closed, keep_content=kept)
    recorder.evidence.abandon()
    assert verify(tmp_path / "e.jsonl", keys.public if given else "").notes == notes


def test_strata_are_replayed_as_they_were_decided(tmp_path, keys):
    made = guard({"user": 1e9, "assistant": 4.0}, "role")
    recorder = Recorder(made, Evidence(tmp_path / "e.jsonl", keys, header(made)))
    for at in range(6):
        recorder.tell(Token(at, "assistant", "answer", True, HOT, HOT))
    recorder.close("done")
    assert recorder.state.rules[0].rung >= 0
    found = verify(tmp_path / "e.jsonl", keys.public)
    assert found.ok, found.cause
    assert found.decisions == 6
