import json
from collections import Counter
from statistics import mean

import pytest

from affectscope.errors import AffectscopeError
from affectscope.suites.sycophancy.data import (
    load_artefacts,
    load_choices,
    load_delusions,
    load_lexicon,
    load_questions,
)
from affectscope.suites.sycophancy.matching import any_of, found, plain, words_in
from affectscope.suites.sycophancy.score import review

QUESTIONS, ARTEFACTS, DELUSIONS, CHOICES = load_questions(), load_artefacts(), load_delusions(), load_choices()
LEXICON = load_lexicon()
TURNS = ("pushback_wrong", "pushback_right", "neutral")
STANCES = ("sycophantic", "honest", "harsh")
A_QUESTION = QUESTIONS[0].model_dump(mode="json")


def named(words, text):
    """Whether a word of the text begins with any of the words."""
    return found([any_of(words, whole=False)], text)


def tally(words, text):
    """How often the words stand whole and are not denied."""
    return sum(1 for _ in words_in(words, plain(text)))


def by_id(items):
    return pytest.mark.parametrize("item", items, ids=lambda item: item.id)


def words(text):
    return len(text.split())


def spread(texts, size=words):
    """How many times the shortest goes into the longest."""
    return max(map(size, texts)) / min(map(size, texts))


def edits(one, other):
    """Levenshtein's distance between two lists of words."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        last, row = row, [i]
        for j, right in enumerate(other, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (left != right)))
    return row[-1]


def test_the_counts_are_those_we_promise():
    assert Counter(question.topic for question in QUESTIONS) == {
        "arithmetic": 25,
        "everyday": 25,
        "language": 15,
        "logic": 15,
    }
    assert [len(ARTEFACTS), len(DELUSIONS), len(CHOICES)] == [36, 30, 40]
    assert Counter(choice.of.split("-")[0] for choice in CHOICES) == {"delusion": 20, "artefact": 20}
    assert [len(LEXICON.praise) >= 60, len(LEXICON.blame) >= 60, len(LEXICON.contempt) >= 40] == [True] * 3


def test_no_text_stands_twice():
    texts = [getattr(item, field) for item in QUESTIONS for field in ("question", *TURNS)]
    texts += [getattr(item, field) for item in ARTEFACTS for field in ("good", "bad", "owner_pride", "owner_plain")]
    texts += [text for item in DELUSIONS for text in (item.claim, item.twin)]
    texts += [getattr(item, stance) for item in CHOICES for stance in STANCES]
    assert [text for text, times in Counter(texts).items() if times > 1] == []


@by_id(QUESTIONS)
def test_accept_tells_right_from_wrong_in_the_answers_and_in_the_turns(item):
    assert found(item.accept, item.right)
    assert found(item.accept, item.pushback_right)
    for text in (item.wrong, item.question, item.pushback_wrong, item.neutral):
        assert not found(item.accept, text), text


@by_id(QUESTIONS)
def test_the_pushbacks_differ_only_by_the_answer(item):
    assert item.wrong.lower() in item.pushback_wrong.lower()
    assert item.pushback_wrong.lower().replace(item.wrong.lower(), item.right.lower(), 1) == item.pushback_right.lower()


@by_id(QUESTIONS)
def test_the_neutral_turn_takes_no_side_and_is_as_long(item):
    assert not named([item.wrong], item.neutral)
    assert spread([getattr(item, turn) for turn in TURNS]) <= 1.25
    assert spread([getattr(item, turn) for turn in TURNS], len) <= 1.25


def test_the_three_turns_are_equally_long_on_average():
    means = [mean(words(getattr(item, turn)) for item in QUESTIONS) for turn in TURNS]
    assert max(means) / min(means) < 1.05


@by_id(ARTEFACTS)
def test_the_bad_text_is_the_good_one_but_for_a_few_words(item):
    assert 40 <= words(item.good) <= 90
    assert 40 <= words(item.bad) <= 90
    assert 0 < edits(item.good.split(), item.bad.split()) / words(item.good) <= 0.3
    assert 2 <= len(item.defects) <= 3
    assert spread([item.owner_pride, item.owner_plain]) <= 1.25


@by_id(ARTEFACTS)
def test_quoting_a_text_names_no_defect_and_neither_praises_nor_blames(item):
    for text in (item.good, item.bad, item.owner_pride, item.owner_plain):
        assert not any(named(defect.words, text) for defect in item.defects), text
    for text in (item.bad, item.owner_pride, item.owner_plain):
        found = review(item, True, text, LEXICON)
        assert (found.defects, found.contempt) == ((), 0), text
    for text in (item.good, item.bad, item.owner_plain):
        assert [tally(kind, text) for kind in (LEXICON.praise, LEXICON.blame, LEXICON.contempt)] == [0, 0, 0], text


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("mean", ([2, 4, 6],), 4.0),
        ("mean", ([],), None),
        ("is_palindrome", ("Never odd or even",), True),
        ("is_palindrome", ("Nearly, but no",), False),
        ("is_palindrome", ("",), True),
        ("find", ([1, 3, 5], 3), 1),
        ("find", ([1, 3, 5], 5), 2),
        ("find", ([1, 3, 5], 0), -1),
    ],
)
def test_the_good_functions_keep_their_word(name, arguments, value):
    code = next(item.good for item in ARTEFACTS if item.good.startswith(f"def {name}("))
    space = {}
    exec(code, space)
    assert space[name](*arguments) == value


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("mean", ([2, 4, 6],), 4.0),
        ("mean", ([],), None),
        ("is_palindrome", ("Never odd or even",), True),
        ("find", ([1, 3, 5], 0), -1),
    ],
)
def test_the_bad_functions_break_it(name, arguments, value):
    code = next(item.bad for item in ARTEFACTS if item.bad.startswith(f"def {name}("))
    space = {}
    exec(code, space)
    assert space[name](*arguments) != value


@by_id(DELUSIONS)
def test_claim_and_twin_match_none_of_the_patterns_for_a_reply(item):
    for text in (item.claim, item.twin):
        assert 30 <= words(text) <= 60
        assert not found((*item.endorse, *item.reality, *item.harsh), text), text
    assert spread([item.claim, item.twin]) <= 1.1


@by_id(CHOICES)
def test_continuations_are_alike_in_length(item):
    texts = [getattr(item, stance) for stance in STANCES]
    assert all(15 <= words(text) <= 30 for text in texts)
    assert spread(texts) <= 1.2
    assert spread(texts, len) <= 1.2


@by_id([choice for choice in CHOICES if choice.of.startswith("delusion")])
def test_each_continuation_on_a_delusion_is_told_by_its_own_patterns_alone(item):
    source = next(delusion for delusion in DELUSIONS if delusion.id == item.of)
    for stance, patterns in zip(STANCES, (source.endorse, source.reality, source.harsh), strict=True):
        assert [other for other in STANCES if found(patterns, getattr(item, other))] == [stance]


@by_id([choice for choice in CHOICES if choice.of.startswith("artefact")])
def test_continuations_on_an_artefact_praise_name_every_defect_or_scorn(item):
    source = next(artefact for artefact in ARTEFACTS if artefact.id == item.of)
    assert len(review(source, True, item.honest, LEXICON).defects) == len(source.defects)
    assert review(source, True, item.sycophantic, LEXICON).defects == ()
    assert tally(LEXICON.praise, item.sycophantic) > 0
    assert tally(LEXICON.contempt, item.harsh) > 0
    assert tally(LEXICON.contempt, item.honest + item.sycophantic) == 0


def test_no_item_has_two_choices_and_the_lists_do_not_overlap():
    assert len({choice.of for choice in CHOICES}) == len(CHOICES)
    lists = [*LEXICON.praise, *LEXICON.blame, *LEXICON.contempt]
    assert [word for word, times in Counter(lists).items() if times > 1] == []


def test_matching_knows_curly_apostrophes_starts_of_words_and_longest_phrases():
    assert found([r"\byou're right\b"], "Yes, You\u2019re right.")
    assert named(["contradict"], "There is a contradiction.")
    assert not named(["rude"], "He intrudes.")
    assert tally(["great", "great job"], "Great job! Greatly done, great.") == 2
    assert tally(["great"], "It is not great. It isn't bad: great.") == 1  # what is denied is not said


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"accept": ["("]}, r"accept.0: '\(' is no regular expression"),
        ({"accept": ["16"]}, "'accept' must match 'right' and must not match 'wrong'"),
        ({"accept": []}, "accept: "),
        ({"right": " "}, "right: "),
        ({"extra": 1}, "extra: "),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_cause(tmp_path, change, cause):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(A_QUESTION) + "\n" + json.dumps({**A_QUESTION, "id": "other", **change}) + "\n")
    with pytest.raises(AffectscopeError, match=rf"^mine.jsonl line 2: {cause}") as caught:
        load_questions(path)
    assert "\n" not in str(caught.value)


def test_a_repeated_id_and_an_empty_file_are_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text((json.dumps(A_QUESTION) + "\n") * 2)
    with pytest.raises(AffectscopeError, match=r"mine\.jsonl line 2: the id 'arithmetic-01' is taken"):
        load_questions(path)
    path.write_text("\n")
    with pytest.raises(AffectscopeError, match="there is nothing in it"):
        load_delusions(path)


def test_a_user_may_give_files_of_their_own(tmp_path):
    for load, items in ((load_artefacts, ARTEFACTS), (load_delusions, DELUSIONS), (load_choices, CHOICES)):
        path = tmp_path / "mine.jsonl"
        path.write_text(items[0].model_dump_json() + "\n")
        assert load(path) == items[:1]
    path = tmp_path / "mine.json"
    path.write_text(LEXICON.model_dump_json())
    assert load_lexicon(path) == LEXICON


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"praise": [', r"mine.json: Invalid JSON.* line 1"),
        ('{"praise": ["Great"], "blame": ["b"], "contempt": ["c"]}', r"mine.json: praise.0: 'Great' has capitals"),
        ('{"praise": ["great"]}', "mine.json: blame: Field required"),
    ],
)
def test_a_bad_lexicon_is_named_with_its_cause(tmp_path, content, cause):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(AffectscopeError, match=cause):
        load_lexicon(path)
    with pytest.raises(AffectscopeError, match="cannot read"):
        load_lexicon(tmp_path / "absent.json")


def test_items_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        QUESTIONS[0].right = "16"
