"""The bundled model, our own corpus: what is published must hold here, with its interval."""

import json

import numpy as np
import pytest

from affectscope.concepts.stories import load_stories
from affectscope.models import residuals
from affectscope.vectors.activations import mean_activations
from affectscope.vectors.artefact import load_vectors
from affectscope.vectors.extract import difference_vectors
from affectscope.vectors.readers import Labelled

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def report(real_audit):
    return json.loads((real_audit / "report.json").read_text())


def result(report, name):
    return next(r for r in report["results"] if r["name"] == name)


def test_the_model_passes_its_own_checks(real_model):
    assert all(c.passed for c in real_model.checks), real_model.checks
    assert real_model.anatomy.depth == 30


def test_held_out_recognition_is_above_chance_with_its_interval(report):
    measures = {m["name"]: m for m in result(report, "recognition")["measures"]}
    for name in ("readers", "vectors"):
        assert measures[f"{name}: mean rank"]["high"] < 86 / 2
        assert measures[f"{name}: top-5"]["low"] > 100 * 5 / 171
    assert measures["random directions: mean rank"]["low"] > 70
    assert measures["readers of shuffled labels: mean rank"]["low"] > 70


def test_two_runs_agree_to_a_thousandth(real_model, tmp_path, monkeypatch):
    """Other batches, in another order, from an empty cache: the same vectors."""
    corpus = load_stories(topics=1)
    texts = [real_model.encode(s.text) for s in corpus.stories][:40]
    label = Labelled(np.zeros(0), np.arange(40) % 4, np.zeros(40, int))
    found = []
    for run, budget in enumerate((residuals.TOKEN_BUDGET, 700)):
        monkeypatch.setenv("AFFECTSCOPE_CACHE", str(tmp_path / str(run)))
        values = mean_activations(real_model, texts, [19], skip=50, budget=budget).layer(19)
        found.append(difference_vectors(Labelled(values, label.concept, label.topic), 4, np.zeros((0, 576))))
    assert (found[0] * found[1]).sum(axis=1).min() > 1 - 1e-3


def test_a_single_text_reads_as_in_a_batch(real_model):
    import torch

    texts = [real_model.encode(s.text) for s in load_stories(topics=1).stories[:6]]
    together: list = []
    residuals.visit(real_model, texts, [19], lambda _p, h: together.append(h.float()))
    alone: list = []
    for text in texts:
        residuals.visit(real_model, [text], [19], lambda _p, h: alone.append(h.float()))
    cosine = torch.nn.functional.cosine_similarity(together[0], torch.cat(alone), dim=-1)
    assert cosine.min() > 1 - 1e-3


def test_the_report_follows_its_schema(report):
    from importlib.resources import files

    import jsonschema

    schema = json.loads((files("affectscope.report") / "report.schema.json").read_text())
    jsonschema.validate(report, schema)


def test_the_artefact_is_loaded_and_complete(real_audit):
    vectors = load_vectors(real_audit / "model.vectors.safetensors")
    assert len(vectors.concepts) == 171
    assert vectors.layers == (12, 15, 18, 19, 20)
    assert vectors.read_layer == 19
    assert (vectors.baseline_count.reshape(-1) > 0).sum() >= 8


def test_every_experiment_runs_and_its_result_is_well_formed(report):
    from affectscope.validation.base import experiments

    results = {r["name"]: r for r in report["results"]}
    assert list(results) == [e.name for e in experiments()]
    for name, result in results.items():
        if name == "untrained_twin":
            assert "left out under --quick" in result["finding"]
            continue
        assert result["n"] > 0, (name, result["finding"])
        assert result["question"].endswith("?")
        assert result["rule"]
        assert result["seconds"] >= 0
        names = [m["name"] for m in result["measures"]]
        assert len(names) == len(set(names)), name
        assert result["effect"] in names, name
        assert result["control"] in names or result["verdict"] == "reported", name
        for m in result["measures"]:
            if m["low"] is not None and m["value"] is not None:
                assert m["low"] <= m["high"], (name, m)
        assert result["figures"] or name == "logit_lens", name  # words are a table
    assert {row["verdict"] for row in report["front"]} <= {
        "shown",
        "not shown",
        "contrary",
        "reported",
        "not applicable",
    }
