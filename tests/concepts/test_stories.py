import json

import pytest

from affectscope.concepts.stories import load_stories, require_crossed
from affectscope.errors import AffectscopeError


def write(path, rows):
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return path


def row(emotion="sad", topic="rain", text="It rained."):
    return {"emotion": emotion, "topic": topic, "person": "first", "text": text}


def test_a_users_corpus_is_read_by_the_same_loader(tmp_path):
    corpus = load_stories(write(tmp_path / "own.jsonl", [row(), row("merry"), row(topic="sun"), row("merry", "sun")]))
    assert corpus.emotions == ("merry", "sad")
    assert corpus.topics == ("rain", "sun")
    require_crossed(corpus)


def test_the_hash_ignores_the_order_of_lines(tmp_path):
    rows = [row(), row("merry")]
    one, other = write(tmp_path / "a", rows), write(tmp_path / "b", rows[::-1])
    assert load_stories(one).hash == load_stories(other).hash


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no story"),
        (b'{"emotion": "sad", "topic": "t", "person": "first", "text": "x"}', "one emotion only"),
        (b"not json", "line 1 is not JSON"),
        (b'{"emotion": "sad"}', "no text in 'topic'"),
        (b"[1]", "not a JSON object"),
        (b'{"emotion": "\xff"}', "line 1 is not UTF-8"),
    ],
)
def test_a_bad_corpus_gets_one_clear_line(tmp_path, content, says):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(AffectscopeError, match=says) as error:
        load_stories(path)
    assert "\n" not in str(error.value)


def test_an_uncrossed_corpus_is_refused_with_the_way_out(tmp_path):
    corpus = load_stories(write(tmp_path / "own.jsonl", [row(), row("merry"), row(topic="sun")]))
    with pytest.raises(AffectscopeError, match=r"'merry' on 'sun'.*--allow-uncrossed"):
        require_crossed(corpus)


def test_too_many_topics_are_refused():
    with pytest.raises(AffectscopeError, match="--topics 13"):
        load_stories(topics=13)
