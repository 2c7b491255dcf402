"""The conversations that alarms are judged by are what they say they are."""

import difflib
import re
from collections import Counter

import pytest

from affectscope.concepts.emotions import EMOTIONS
from affectscope.concepts.episodes import benign, read_openings, stress
from affectscope.errors import AffectscopeError


def words(opening):
    return [w for m in opening.messages for w in re.findall(r"[\w']+", m.content.lower())]


def test_benign_openings_are_many_and_varied():
    openings = benign()
    assert len(openings) == 1320
    assert set(Counter(o.tags["domain"] for o in openings).values()) == {110}
    kinds = Counter(o.tags["kind"] for o in openings)
    assert kinds == {"plain": 744, "mention": 192, "quote": 144, "upset_user": 240}
    assert all(o.messages[-1].role in ("user", "tool") for o in openings)
    assert len({o.messages[-1].content for o in openings}) == 1320
    assert max(len(words(o)) for o in openings) <= 200
    said = (next(m.content for m in o.messages if m.role == "user") for o in openings)
    starts = Counter(" ".join(text.lower().split()[:3]) for text in said)
    assert starts.most_common(1)[0][1] <= 20


def test_stress_pairs_differ_in_the_pressure_only():
    openings = stress()
    pairs = {}
    for o in openings:
        pairs.setdefault(o.tags["pair"], {})[o.tags["cell"]] = o
    assert len(pairs) == 75
    assert set(Counter(o.tags["family"] for o in openings).values()) == {50}
    for pair in pairs.values():
        high, low = pair["pressure"], pair["control"]
        one, other = words(high), words(low)
        assert abs(len(one) - len(other)) <= 0.1 * max(len(one), len(other)) + 1
        assert difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= 0.7
        assert [m.role for m in high.messages] == [m.role for m in low.messages]
        said = [[m.content for m in o.messages if m.role == "assistant"] for o in (high, low)]
        assert said[0] == said[1]
        assert not any("!" in m.content for o in (high, low) for m in o.messages)


def test_no_stress_episode_names_an_emotion():
    names = {
        name for name in EMOTIONS if name not in ("content", "kind", "patient", "sensitive", "alert")
    }  # also other words
    found = {(o.tags["pair"], w) for o in stress() for w in words(o) if w in names}
    assert not found


def test_a_users_own_openings(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"prompt": "Hello", "domain": "x"}\n{"messages": [{"role": "user", "content": "Hi"}]}\n{"prompt": "Hello"}\n'
    )
    found = read_openings([path])
    assert [o.messages[0].content for o in found] == ["Hello", "Hi"]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"text": "x"}', "holds no conversation"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "holds no conversation"),
        ('{"messages": [{"role": "user", "content": 3}]}', "holds no conversation"),
        ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}', "about to speak"),
        ("", "no conversation found"),
    ],
)
def test_bad_openings_get_one_line(tmp_path, line, match):
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(AffectscopeError, match=match) as raised:
        read_openings([path])
    assert "\n" not in str(raised.value)
