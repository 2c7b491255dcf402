"""Do the directions carry over to stories of another style, and do the words?

The corpus has one style, and words alone identify an emotion in it. So everything is fitted on it once more, and then
read on stories that other writers wrote to another brief (literary, understated, the feeling rarely told). Residuals
and text are judged on the same footing; the interval is over emotions, since there are few topics.
"""

from __future__ import annotations

import numpy as np

from affectscope.concepts.stories import Corpus, load_second_style
from affectscope.validation.base import Experiment, Figure, Measure, Result, Subject, Verdict, register
from affectscope.validation.statistics import cluster_interval
from affectscope.validation.text_baselines import (
    embed,
    embedding_caveat,
    embedding_ranks,
    rank_figure,
    rank_rows,
    tfidf_ranks,
    windows,
    with_embedding,
)
from affectscope.vectors.activations import Progress, mean_activations
from affectscope.vectors.extract import difference_vectors
from affectscope.vectors.readers import Labelled, centred_by_topic, fit_readers, ranks, standardised_scores

QUESTION = "Do the directions recognise emotions in stories of another style, and better than the words do?"
RULE = (
    "shown if the readers' mean rank is better than the best text baseline's and than chance, the paired interval over "
    "emotions excluding zero; contrary if it is worse by the same measure"
)


def run(subject: Subject, progress: Progress) -> Result:
    """Mean rank of readers, vectors and every text baseline, fitted on the corpus and read on the second style."""
    whole = load_second_style()
    second = _known(whole.restricted(whole.topics[:1]) if subject.effort == "quick" else whole, subject.corpus)
    if second is None:
        return Result(
            "other_style",
            QUESTION,
            RULE,
            "The corpus does not hold the emotions of the second style",
            "not shown",
            0,
            "stories",
            (),
        )
    fitted, concepts = subject.read.stories(subject.layer), len(subject.corpus.emotions)
    tested = _labelled(subject, second, progress)
    train, test = centred_by_topic(fitted), centred_by_topic(tested)
    readers, _ = fit_readers(fitted, concepts)
    vectors = difference_vectors(fitted, concepts, subject.read.components(subject.layer))
    ours = {
        "readers": ranks(standardised_scores(readers, train, test), tested.concept),
        "vectors": ranks(standardised_scores(vectors, train, test), tested.concept),
    }
    words = _text_ranks(subject, second, fitted, tested, concepts)
    best = min(words, key=lambda name: words[name].mean())
    gain = Measure(
        "gain of the readers over the best text baseline",
        *cluster_interval(words[best] - ours["readers"], tested.concept),
        " ranks",
    )
    measures = [
        Measure(f"{n}: mean rank", *cluster_interval(r, tested.concept), control=n in words)
        for n, r in (ours | words).items()
    ]
    for name, found in ours.items():
        measures.append(Measure(f"{name}: top-1", *cluster_interval((found <= 1) * 100.0, tested.concept), " %"))
    chance = (concepts + 1) / 2
    measures += [gain, Measure("chance: mean rank", chance, control=True)]
    low, high, worst = gain.low or 0.0, gain.high or 0.0, measures[0].high or chance
    verdict: Verdict = "shown" if low > 0 and worst < chance else "contrary" if high < 0 else "not shown"
    how = {"shown": "better than", "contrary": "worse than", "not shown": "not clearly better than"}[verdict]
    return Result(
        name="other_style",
        question=QUESTION,
        rule=RULE,
        finding=f"On stories of another style the readers rank the true emotion {measures[0].value:.1f} of {concepts}, {how} the best "
        f"text baseline ({best}: {words[best].mean():.1f}); gain {gain.text()}",
        verdict=verdict,
        n=len(tested.topic),
        unit="stories",
        measures=tuple(measures),
        caveat="The second style shares topics and language with the first; a corpus by other hands would be a harder test. "
        + embedding_caveat(subject),
        effect=gain.name,
        control=f"{best}: mean rank",
        data={"rows": rank_rows(measures)},
    )


def plot(result: Result) -> list[Figure]:
    """Mean rank with intervals, ours and text's."""
    return [
        rank_figure(
            result.finding,
            result.data["rows"],
            "mean rank of the true emotion on the second style (lower is better, 95 % interval)",
        )
    ]


def _known(second: Corpus, corpus: Corpus) -> Corpus | None:
    stories = tuple(s for s in second.stories if s.emotion in corpus.emotions)
    return Corpus(stories, second.author) if len({s.emotion for s in stories}) > 1 else None


def _labelled(subject: Subject, second: Corpus, progress: Progress) -> Labelled:
    """Mean residual of every story of the second style at the read layer, with labels of the first corpus."""
    texts = [subject.model.encode(s.text) for s in second.stories]
    skip = subject.read.recipe.skip_tokens
    read = mean_activations(
        subject.model, texts, [subject.layer], skip=skip, stage="reading the second style", progress=progress
    )
    concept = np.array([subject.corpus.emotions.index(s.emotion) for s in second.stories])
    return Labelled(
        read.layer(subject.layer), concept, np.array([second.topics.index(s.topic) for s in second.stories])
    )


def _text_ranks(
    subject: Subject, second: Corpus, fitted: Labelled, tested: Labelled, concepts: int
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    first = {
        "whole text": [s.text for s in subject.corpus.stories],
        "same window": windows(subject, subject.corpus.stories),
    }
    other = {"whole text": [s.text for s in second.stories], "same window": windows(subject, second.stories)}
    for window, fit in first.items():
        read = other[window]
        ways = {"TF-IDF": tfidf_ranks(fit, read, fitted, tested, concepts)}
        if with_embedding(subject):
            ways["sentence embedding"] = embedding_ranks(embed(fit), embed(read), fitted, tested, concepts)
        for name, (plain, whitened) in ways.items():
            found |= {f"{name}, {window}, plain": plain, f"{name}, {window}, whitened": whitened}
    return found


EXPERIMENT = register(Experiment("other_style", run, plot, "Another style"))
