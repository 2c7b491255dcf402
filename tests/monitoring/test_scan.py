import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.conftest import MARKERS, WORDS

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError
from affectscope.models.pieces import pieces
from affectscope.models.residuals import visit
from affectscope.monitoring.scan import read_input, scan, write_jsonl, write_parquet


def test_a_reading_is_the_dot_product_that_the_docs_say(planted, planted_vectors):
    model, _ = planted
    text = " ".join(WORDS[:30])
    found = scan(model, planted_vectors, text, concepts=["happy", "sad"])
    seen = []
    visit(model, [model.encode(text)], [1], lambda _p, h: seen.append(h.numpy()))
    h, at = seen[0], planted_vectors.select(["happy", "sad"])
    cosine = h @ planted_vectors.vectors[1][at].T / np.linalg.norm(h, axis=1, keepdims=True)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-5)
    score = (h - planted_vectors.read_mean[1]) @ planted_vectors.readers[1][at].T
    cell = (1, 1, 0, 0, 1)  # readers, layer 1, role text, phase none, later tokens
    z = (score - planted_vectors.baseline_mean[cell][at]) / planted_vectors.baseline_std[cell][at]
    np.testing.assert_allclose(found.z[20:], z[20:], atol=1e-3)


def test_a_planted_concept_stands_out_at_its_tokens(planted, planted_vectors):
    model, _ = planted
    words = WORDS[:40]
    words[30] = MARKERS[2]  # happy
    found = scan(model, planted_vectors, " ".join(words))
    happy = found.z[:, found.concepts.index("happy")]
    assert happy.argmax() == 30
    assert happy[30] > 4
    assert found.concepts[found.z[30].argmax()] == "happy"


def test_conversations_are_read_by_role(planted, planted_vectors):
    model, _ = planted
    found = scan(model, planted_vectors, [Message("user", "w1 w2"), Message("assistant", "w3")])
    assert [r for r in found.roles if r != "template"] == ["user", "user", "assistant"]
    assert np.isfinite(found.z).all()


def test_rows_survive_jsonl_and_parquet(planted, planted_vectors, tmp_path):
    model, _ = planted
    found = scan(model, planted_vectors, "w1 w2 w3", concepts=["calm"])
    write_jsonl(found, tmp_path / "s.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [r["token"] for r in rows] == list(found.tokens)
    assert rows[1]["z"]["calm"] == pytest.approx(float(found.z[1, 0]), abs=1e-3)
    write_parquet(found, tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    np.testing.assert_array_equal(table["z.calm"].to_numpy(), found.z[:, 0])


def test_empty_and_broken_input_is_told(planted, planted_vectors):
    model, _ = planted
    with pytest.raises(AffectscopeError, match="the text is empty"):
        scan(model, planted_vectors, "  ")
    with pytest.raises(AffectscopeError, match="is empty"):
        read_input(b" \n", "a.txt")
    with pytest.raises(AffectscopeError, match=r"not UTF-8 \(byte 2\)"):
        read_input(b"ab\xff", "a.txt")
    with pytest.raises(AffectscopeError, match="no conversation"):
        read_input(b'{"messages": 3}', "a.json")
    assert read_input(b'[{"role": "user", "content": "w1"}]', "a.json") == [Message("user", "w1")]


def test_vectors_of_another_model_are_refused(tiny, planted_vectors):
    with pytest.raises(AffectscopeError, match="extract vectors of tiny-llama"):
        scan(tiny("llama"), planted_vectors, "w1")


@pytest.mark.real
def test_pieces_join_to_the_whole_text(real_model):
    text = "Naïve café, 3.14 % of 北京 — 🙂 done.\n\tEnd  <|im_start|>"
    assert "".join(pieces(real_model, real_model.encode(text))) == text
    assert not set(real_model.encode(text)) & real_model.special_ids


def test_no_text_can_break_out_of_the_page(planted, planted_vectors):
    from dataclasses import replace

    from affectscope.report.trace_page import render_scan

    found = replace(scan(planted[0], planted_vectors, "w1 w2", concepts=["calm"]), tokens=("<!--", "<script></script>"))
    page = render_scan(found, "<!--<script>")
    data = page.split('type="application/json">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data)["tokens"] == ["<!--", "<script></script>"]


@pytest.mark.real
def test_an_attention_sink_does_not_drown_a_text(real_model, real_audit):
    from affectscope.vectors.artefact import load_vectors

    found = scan(
        real_model, load_vectors(real_audit / "model.vectors.safetensors"), "The bank takes the house on Friday."
    )
    assert (found.z[0] == 0).all()
    assert np.abs(found.z).max() < 12
