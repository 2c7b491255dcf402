"""Experiments say "shown" of a planted signal and do not say it of noise; controls stay flat."""

import json

import numpy as np
import pytest
from tests.conftest import plain_neutral, planted_corpus

from affectscope.errors import AffectscopeError
from affectscope.validation.base import Experiment, Measure, Subject, experiments, register, run
from affectscope.validation.human_ratings import cross_validated
from affectscope.validation.recognition import held_out_ranks
from affectscope.validation.statistics import bootstrap_mean, cluster_interval, correlation, permutation_p
from affectscope.vectors.extract import extract, read_corpus

BY_NAME = {e.name: e for e in experiments()}


@pytest.fixture(scope="module")
def subject(planted, planted_read, planted_vectors):
    return Subject(planted[0], planted_vectors, planted_read)


@pytest.fixture(scope="module")
def noise(planted, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECTSCOPE_CACHE", str(tmp_path_factory.mktemp("noise")))
        read = read_corpus(planted[0], planted_corpus(share=0.0), [1], neutral=plain_neutral())
    return Subject(planted[0], extract(read, 1, neutral=plain_neutral()), read)


def test_the_battery_is_complete():
    expected = {
        "recognition", "text_baselines", "other_style", "layer_curve", "situations", "intensity", "positions", "carry_over",
        "negation", "binding", "geometry", "layer_similarity", "human_ratings", "logit_lens", "expressed", "residualised",
        "minimal_pairs", "unrelated", "untrained_twin", "neurons", "preferences", "preference_steering",
    }  # fmt: skip
    assert set(BY_NAME) == expected


def test_a_planted_signal_is_shown_and_its_controls_are_flat(subject):
    result = run(BY_NAME["recognition"], subject)
    assert result.verdict == "shown"
    assert result.measure("readers: mean rank").value < 1.5
    for control in ("random directions: mean rank", "readers of shuffled labels: mean rank"):
        assert 2.5 < result.measure(control).value < 4.5  # chance is 3.5


def test_noise_is_not_shown(noise):
    result = run(BY_NAME["recognition"], noise)
    assert result.verdict == "not shown"
    assert 2.5 < result.measure("readers: mean rank").value < 4.5


def test_held_out_topics_do_not_help_to_fit(subject):
    """With its own topic's stories replaced by noise, the readers fitted for that fold stay what they were."""
    from affectscope.validation import recognition
    from affectscope.vectors.readers import Labelled, folds

    stories = subject.read.stories(1)
    held = folds(stories.topic, recognition.FOLDS)[0]
    values = stories.values.copy()
    values[held] = np.random.default_rng(0).standard_normal(values[held].shape)

    class Corrupted:
        corpus, recipe = subject.read.corpus, subject.read.recipe

        def stories(self, _layer):
            return Labelled(values, stories.concept, stories.topic)

        def components(self, layer):
            return subject.read.components(layer)

    fitted = {}
    for name, read in (("clean", subject.read), ("corrupted", Corrupted())):
        seen = fitted.setdefault(name, [])
        with pytest.MonkeyPatch.context() as patch:
            real = recognition.standardised_scores
            patch.setattr(
                recognition,
                "standardised_scores",
                lambda d, *rest, seen=seen, real=real: (seen.append(d), real(d, *rest))[1],
            )
            held_out_ranks(read, 1, controls=False)
    np.testing.assert_array_equal(fitted["clean"][0], fitted["corrupted"][0])  # vectors of the first fold
    np.testing.assert_array_equal(fitted["clean"][1], fitted["corrupted"][1])  # its readers
    assert not np.array_equal(fitted["clean"][2], fitted["corrupted"][2])  # the second fold did train on those stories


def test_the_whole_battery_and_report_run_on_any_corpus(subject, tmp_path):
    """Six concepts, a tokenizer without English: what cannot be run says why, and the report is valid all the same."""
    from importlib.resources import files

    import jsonschema

    from affectscope.api import validate
    from affectscope.report.audit import write_report

    results = validate(subject)
    assert {r.name for r in results} == set(BY_NAME)
    assert all(
        r.n or r.finding.startswith(("Not run", "Not applicable", "Fewer", "No ", "The corpus")) for r in results
    )
    page = write_report(subject, results, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    jsonschema.validate(report, json.loads((files("affectscope.report") / "report.schema.json").read_text()))
    assert "<script" not in page.read_text().split('type="application/json">')[1].split("</script>")[0]


def test_too_few_topics_are_a_result_and_not_a_crash(planted, tmp_path):
    corpus = planted_corpus(topics=1)
    read = read_corpus(planted[0], corpus, [1], neutral=plain_neutral())
    result = run(BY_NAME["recognition"], Subject(planted[0], extract(read, 1, neutral=plain_neutral()), read))
    assert result.n == 0
    assert "more topics are needed" in result.finding


def test_layer_curve_and_text_baselines_run_and_draw(subject):
    for name in ("layer_curve", "text_baselines"):
        result = run(BY_NAME[name], subject)
        figures = BY_NAME[name].plot(result)
        assert figures
        assert all(f["layout"]["xaxis"]["title"]["text"] and f["title"] for f in figures)
        json.dumps([result.as_dict(), figures])


def test_words_that_carry_the_signal_make_text_win_or_tie(subject):
    """Marker words are in the text itself, so residuals cannot be said to add anything."""
    assert run(BY_NAME["text_baselines"], subject).verdict in ("not shown", "contrary")


def test_every_verdict_has_a_rule_and_every_measure_an_interval_or_a_reason(subject):
    result = run(BY_NAME["recognition"], subject)
    assert result.rule.startswith("shown if")
    assert result.seconds > 0
    assert all(
        m.low is not None and m.low <= m.value <= (m.high or 0)
        for m in result.measures
        if not m.name.startswith("chance")
    )


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="exists already"):
        register(Experiment("recognition", lambda _s, _p: None, lambda _r: []))


def test_unknown_experiments_are_told(subject):
    from affectscope.api import validate

    with pytest.raises(AffectscopeError, match="unknown experiment 'nope': use one of recognition"):
        validate(subject, only=["nope"])


def test_measures_read_well():
    assert Measure("m", 2.613, 2.4, 2.83).text() == "2.61 [2.4, 2.83]"
    assert Measure("p", 0.0004).text() == "4.0e-04"
    assert Measure("g", 12.0, unit=" %").text() == "12 %"


def test_intervals_cover_their_mean():
    """Of 200 samples of known mean about 95 % of intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        _, low, high = bootstrap_mean(rng.standard_normal(40))
        held += low <= 0 <= high
        assert seed >= 0
    assert 0.88 <= held / 200 <= 0.99


def test_clusters_widen_an_interval():
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(10), 50)
    values = rng.standard_normal(10)[cluster] + 0.1 * rng.standard_normal(500)
    _, low, high = cluster_interval(values, cluster)
    _, narrow_low, narrow_high = cluster_interval(values, np.arange(500))
    assert high - low > 2 * (narrow_high - narrow_low)


def test_permutation_p_is_never_zero():
    assert permutation_p(10, np.zeros(99)) == 0.01
    assert permutation_p(0, np.zeros(99)) == 1


def test_the_held_out_word_probe_finds_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((80, 30))
    human = vectors @ rng.standard_normal(30)
    assert correlation(cross_validated(vectors, human), human) > 0.9
    assert abs(correlation(cross_validated(vectors, rng.standard_normal(80)), rng.standard_normal(80))) < 0.35


def test_the_documentation_lists_every_experiment():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    for experiment in experiments():
        assert f"`{experiment.name}`. {experiment.about}" in text, "run `make docs`"
        assert experiment.title, experiment.name
