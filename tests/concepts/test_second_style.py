from affectscope.concepts.checks import story_problems
from affectscope.concepts.emotions import EMOTIONS
from affectscope.concepts.stories import load_second_style, load_stories


def test_the_second_style_is_crossed_and_keeps_the_same_rules():
    second = load_second_style()
    assert len(second.topics) == 4
    assert set(second.emotions) == set(EMOTIONS)
    assert second.missing == []
    assert [s for s in second.stories if story_problems(s)] == []


def test_the_second_style_shares_no_story_with_the_corpus():
    assert not {s.text for s in load_second_style().stories} & {s.text for s in load_stories().stories}
