import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from jsonschema import Draft202012Validator
from tests.conftest import CONCEPTS, MARKERS, WIDTH, WORDS, network_of

from affectscope.errors import AffectscopeError
from affectscope.models.load import wrap
from affectscope.monitoring import sweep as module
from affectscope.monitoring.passages import check_files, records
from affectscope.monitoring.scan import scan
from affectscope.monitoring.sweep import EDGES, PERCENT, passage_score, quantiles, readings, sweep
from affectscope.report.sweep import SCHEMA, compare, read_sweep, render_sweep, write_sweep

MARKED = {4: 2, 17: 2, 9: 4}  # paragraph: concept whose marker stands in it


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(5)
    made = []
    for i in range(24):
        words = [str(w) for w in rng.choice(WORDS, 40 if i % 3 else 25)]
        if i in MARKED:
            words[10:22] = [MARKERS[MARKED[i]]] * 12
        made.append(" ".join(words))
    return made


@pytest.fixture
def corpus(texts, tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def moved(planted, planted_vectors):
    """The planted model with ordinary words that lean towards "happy", and the vectors passed off as its own."""
    model, directions = planted
    network = network_of("llama", hidden_size=WIDTH)
    network.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        ids = model.tokenizer.convert_tokens_to_ids(WORDS)
        network.model.embed_tokens.weight[ids] += 0.6 * torch.tensor(directions[CONCEPTS.index("happy")])
    other = wrap(network, model.tokenizer, name="moved")
    return other, replace(planted_vectors, model=planted_vectors.model | {"weights": other.identity["weights"]})


def same(found):
    return {k: v for k, v in found.items() if k not in ("key", "files", "options")}


def test_marked_passages_come_first_for_their_concept_only(planted, planted_vectors, corpus, tmp_path):
    found = sweep(planted[0], planted_vectors, [corpus], tmp_path / "out", keep=3)
    Draft202012Validator(SCHEMA).validate(found)
    first = {c: [found["texts"][str(k["text"])]["record"] for k in kept] for c, kept in found["top"].items()}
    assert set(first["happy"][:2]) == {4, 17}
    assert first["sad"][0] == 9
    gap = [found["top"]["happy"][i]["score"] for i in (1, 2)]
    assert gap[0] > gap[1] + 2  # and the third, without a marker, lies far below
    assert found["passages"] == 24
    assert not (tmp_path / "out" / "sweep.state.json").exists()
    assert not (tmp_path / "out" / "scores.parts").exists()


def test_z_is_that_of_a_scan(planted, planted_vectors, texts):
    model, _ = planted
    ids = [model.encode(t) for t in texts[:5]]
    for text, (z, counted) in zip(texts[:5], readings(model, planted_vectors, ids), strict=True):
        np.testing.assert_allclose(z, scan(model, planted_vectors, text).z, atol=1e-3)
        assert counted.all()


def test_a_score_is_the_mean_of_the_highest_quarter():
    z = np.zeros((40, 2), np.float32)
    z[:10, 0] = np.arange(1, 11)  # 40 tokens: the highest ten
    z[3, 1] = 40  # a single spike counts for a tenth
    np.testing.assert_allclose(passage_score(z), [5.5, 4])
    np.testing.assert_allclose(passage_score(np.arange(9.0)[:, None]), [4.5])  # eight at least: 1 to 8
    np.testing.assert_allclose(passage_score(np.arange(3.0)[:, None]), [1])


def test_quantiles_of_a_histogram_are_those_of_the_values():
    values = np.random.default_rng(0).normal(1, 2, 20_000)
    bins = np.bincount(np.searchsorted(EDGES, values, side="right"), minlength=len(EDGES) + 1)
    np.testing.assert_allclose(quantiles(bins[None])[0], np.percentile(values, PERCENT), atol=0.06)


def test_the_budget_of_a_batch_changes_nothing(planted, planted_vectors, corpus, tmp_path):
    small, large = (
        sweep(planted[0], planted_vectors, [corpus], tmp_path / str(b), budget=b, keep=4) for b in (64, 4096)
    )
    assert small["passages_sha256"] == large["passages_sha256"]
    assert small["texts"] == large["texts"]
    for concept in CONCEPTS:
        assert [k["text"] for k in small["top"][concept]] == [k["text"] for k in large["top"][concept]]
        a, b = ([k["score"] for k in found["top"][concept]] for found in (small, large))
        np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_an_interrupted_sweep_goes_on_to_the_same_result(planted, planted_vectors, corpus, tmp_path, stop):
    whole = sweep(planted[0], planted_vectors, [corpus], tmp_path / "whole", budget=100, every=5, keep=4)
    calls, told = [], []

    def progress(*_):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt

    again = {"budget": 100, "every": 5, "keep": 4, "tell": told.append}
    with pytest.raises(KeyboardInterrupt):
        sweep(planted[0], planted_vectors, [corpus], tmp_path / "cut", progress=progress, **again)
    seen = json.loads((tmp_path / "cut" / "sweep.state.json").read_text())["passages"]
    before = len(calls)
    found = sweep(planted[0], planted_vectors, [corpus], tmp_path / "cut", progress=progress, **again)
    assert told == [f"goes on after {seen} passages"]
    assert len(calls) > before
    assert (tmp_path / "cut" / "sweep.json").read_bytes() == (tmp_path / "whole" / "sweep.json").read_bytes()
    assert pq.read_table(tmp_path / "cut" / "scores.parquet").equals(
        pq.read_table(tmp_path / "whole" / "scores.parquet")
    )
    assert sweep(planted[0], planted_vectors, [corpus], tmp_path / "cut", **again) == found == whole
    assert "is finished" in told[-1]


def test_a_killed_sweep_goes_on_from_its_last_saved_state(planted, planted_vectors, corpus, tmp_path):
    calls = []

    def progress(*_):
        calls.append(1)
        if len(calls) == 8:  # what a process killed here would leave: no state is saved on the way out
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")

    limits = {"budget": 100, "every": 5, "keep": 4}
    whole = sweep(planted[0], planted_vectors, [corpus], tmp_path / "whole", progress=progress, **limits)
    seen = json.loads((tmp_path / "cut" / "sweep.state.json").read_text())["passages"]
    assert 0 < seen < 24
    (tmp_path / "cut" / "scores.parts" / "000099.parquet").write_bytes(b"of a run that was lost")
    assert sweep(planted[0], planted_vectors, [corpus], tmp_path / "cut", **limits) == whole
    assert pq.read_table(tmp_path / "cut" / "scores.parquet").num_rows == 24


def test_a_batch_that_fails_midway_leaves_the_state_whole(planted, planted_vectors, corpus, tmp_path, monkeypatch):
    whole = sweep(planted[0], planted_vectors, [corpus], tmp_path / "whole", budget=100)
    real, left = module.passage_score, [11]

    def fails(z):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(z)

    monkeypatch.setattr(module, "passage_score", fails)
    with pytest.raises(KeyboardInterrupt):
        sweep(planted[0], planted_vectors, [corpus], tmp_path / "cut", budget=100)
    assert sweep(planted[0], planted_vectors, [corpus], tmp_path / "cut", budget=100) == whole


def test_what_is_kept_does_not_grow_with_the_texts(planted, planted_vectors, texts, tmp_path, monkeypatch):
    path, states = tmp_path / "long.txt", []
    rng = np.random.default_rng(8)
    path.write_text("\n\n".join(" ".join(map(str, rng.choice(WORDS, 12))) for _ in range(300)), encoding="utf-8")
    real = module._advance
    monkeypatch.setattr(module, "_advance", lambda *a: states.append(real(*a)) or states[-1])
    found = sweep(planted[0], planted_vectors, [path], tmp_path / "out", budget=240, every=40, keep=3)
    assert found["passages"] == 300
    assert max(len(kept) for state in states for kept in state.top) == 3
    assert max(len(state.pending) for state in states) < 40 + 20  # what is saved, and one batch more


def test_long_records_are_cut_and_short_ones_left_out(planted, planted_vectors, tmp_path):
    path = tmp_path / "a.md"
    path.write_text("\n\n".join([" ".join(WORDS[:70]), "w1 w2 w3", " ".join(WORDS[70:100])]), encoding="utf-8")
    found = sweep(planted[0], planted_vectors, [path], tmp_path / "out", passage=32)
    at = sorted((t["record"], t["part"], len(t["tokens"])) for t in found["texts"].values())
    assert at == [(0, 0, 32), (0, 1, 32), (2, 0, 30)]  # the six tokens left of the first are too few as well
    assert found["short"] == 2


def test_a_repeated_passage_is_kept_once(planted, planted_vectors, texts, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join([texts[4]] * 5 + texts[:3]), encoding="utf-8")
    found = sweep(planted[0], planted_vectors, [path], tmp_path / "out", keep=3)
    records = [found["texts"][str(k["text"])]["record"] for k in found["top"]["happy"]]
    assert records[0] == 0
    assert all(r > 4 for r in records[1:])


def test_text_json_lines_and_parquet_agree(planted, planted_vectors, corpus, texts, tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": t}) for t in texts), encoding="utf-8")
    pq.write_table(pa.table({"id": range(len(texts)), "body": texts}), tmp_path / "a.parquet")
    text = sweep(planted[0], planted_vectors, [corpus], tmp_path / "text")
    for name in ("a.jsonl", "a.parquet"):
        found = sweep(planted[0], planted_vectors, [tmp_path / name], tmp_path / f"of {name}", column="body")
        assert same(found) == same(text)


def test_scores_on_disk_are_those_of_the_passages(planted, planted_vectors, corpus, tmp_path):
    found = sweep(planted[0], planted_vectors, [corpus], tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert table.column_names == ["file", "record", "part", *(f"z.{c}" for c in planted_vectors.concepts)]
    best = found["top"]["happy"][0]
    assert table["z.happy"].to_numpy()[best["text"]] == pytest.approx(best["score"], rel=1e-3)
    assert table["record"].to_pylist() == list(range(24))


def test_against_another_model_the_planted_shift_is_found(planted, planted_vectors, moved, corpus, tmp_path):
    sweep(planted[0], planted_vectors, [corpus], tmp_path / "base")
    other, vectors = moved
    sweep(other, vectors, [corpus], tmp_path / "moved")
    found = compare(other, [corpus], tmp_path / "moved", tmp_path / "base" / "sweep.json")
    first = found["concepts"][0]
    assert first["concept"] == "happy"
    assert first["clear"]
    assert 0 < first["low"] < first["shift"] < first["high"]
    now, before = (
        pq.read_table(tmp_path / name / "scores.parquet")["z.happy"].to_numpy() for name in ("moved", "base")
    )
    change = now.astype(float) - before
    assert first["shift"] == pytest.approx(change.mean(), abs=1e-3)
    assert first["rose"][0]["at"] == [0, int(change.argmax()), 0]
    assert found["texts"]["-".join(map(str, first["rose"][0]["at"]))].startswith("w")


def test_against_itself_there_is_no_shift(planted, planted_vectors, corpus, tmp_path):
    sweep(planted[0], planted_vectors, [corpus], tmp_path / "a")
    found = compare(planted[0], [corpus], tmp_path / "a", tmp_path / "a" / "sweep.json")
    for row in found["concepts"]:
        assert (row["shift"], row["low"], row["high"], row["clear"], row["rho"]) == (0, 0, 0, False, 1)
        assert row["rose"] == row["fell"] == []


def test_shifts_that_are_chance_are_seldom_called_clear():
    from affectscope.report.sweep import DRAWS, _bootstrap, _clear, _groups

    called = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        group = _groups([np.zeros(300), np.arange(300)])
        picks = rng.integers(0, 300, (DRAWS, 300))
        draws = np.array([_bootstrap(rng.normal(size=300), group, picks) for _ in range(20)])
        called += _clear(draws).any()
    assert called <= 6  # at 5 % of 40 one expects two; without the correction for 20 concepts some 25


def test_other_texts_are_refused(planted, planted_vectors, corpus, texts, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(texts[::-1]), encoding="utf-8")
    sweep(planted[0], planted_vectors, [corpus], tmp_path / "a")
    sweep(planted[0], planted_vectors, [other], tmp_path / "b")
    with pytest.raises(AffectscopeError, match="made of other passages"):
        compare(planted[0], [other], tmp_path / "b", tmp_path / "a" / "sweep.json")
    (tmp_path / "a" / "scores.parquet").unlink()
    with pytest.raises(AffectscopeError, match="cannot read the scores"):
        compare(planted[0], [corpus], tmp_path / "a", tmp_path / "a" / "sweep.json")


def test_another_sweep_is_not_overwritten_unasked(planted, planted_vectors, corpus, tmp_path):
    first = sweep(planted[0], planted_vectors, [corpus], tmp_path / "out")
    with pytest.raises(AffectscopeError, match="other files, vectors or options"):
        sweep(planted[0], planted_vectors, [corpus], tmp_path / "out", keep=2)
    second = sweep(planted[0], planted_vectors, [corpus], tmp_path / "out", keep=2, again=True)
    assert len(second["top"]["sad"]) == 2 != len(first["top"]["sad"])
    (tmp_path / "out" / "sweep.json").write_text("{")
    with pytest.raises(AffectscopeError, match="is damaged"):
        sweep(planted[0], planted_vectors, [corpus], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.txt", None, "cannot read .*none.txt: No such file"),
        ("a.txt", b"", "holds no text"),
        ("a.txt", b" \n\n ", "holds no text"),
        ("a.txt", b"ab\xffcd", r"not UTF-8 \(byte 2\)"),
        ("a.jsonl", b'{"body": "w1"}', "line 1: no JSON object with 'text'"),
        ("a.jsonl", b'{"text": 3}', "'text' is not text"),
        ("a.jsonl", b"[1]\n", "line 1: no JSON object"),
        ("a.parquet", b"PAR1 broken", "no Parquet file"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, name, content, told):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AffectscopeError, match=told) as error:
        check_files([path])
    assert "\n" not in str(error.value)


def test_a_parquet_file_without_the_column_lists_those_it_has(tmp_path):
    pq.write_table(pa.table({"id": [1], "body": ["w1"]}), tmp_path / "a.parquet")
    with pytest.raises(AffectscopeError, match="no column 'text': choose --column from id, body"):
        check_files([tmp_path / "a.parquet"])


def test_a_bad_byte_deep_in_a_file_is_counted_from_its_start(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"word\n" * 20_000 + b"\xff")
    with pytest.raises(AffectscopeError, match=r"byte 100000\)"):
        list(records(path))


def test_a_paragraph_without_end_is_cut(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("word " * 100_000, encoding="utf-8")
    found = [text for text, _ in records(path)]
    assert max(map(len, found)) <= 100_000
    assert "".join(found).count("word") > 99_990


def test_wrong_models_sizes_and_texts_that_are_too_short(planted, planted_vectors, tiny, corpus, tmp_path):
    with pytest.raises(AffectscopeError, match="extract vectors of tiny-llama"):
        sweep(tiny("llama"), planted_vectors, [corpus], tmp_path)
    with pytest.raises(AffectscopeError, match="--passage must lie in 16"):
        sweep(planted[0], planted_vectors, [corpus], tmp_path, passage=4)
    corpus.write_text("w1 w2", encoding="utf-8")
    with pytest.raises(AffectscopeError, match="no passage has 8 tokens"):
        sweep(planted[0], planted_vectors, [corpus], tmp_path)
    with pytest.raises(AffectscopeError, match="no files"):
        check_files([])


def test_the_page_is_whole_and_no_text_breaks_out_of_it(planted, planted_vectors, moved, corpus, tmp_path):
    found = sweep(planted[0], planted_vectors, [corpus], tmp_path / "a")
    next(iter(found["texts"].values()))["tokens"][0] = "</script><!--"
    page = render_sweep(found)
    data = page.split('id="sweep-data" type="application/json">')[1].split("</script>")[0]
    assert json.loads(data) == found
    assert "<" not in data
    sweep(*moved, [corpus], tmp_path / "b")
    against = compare(moved[0], [corpus], tmp_path / "b", tmp_path / "a" / "sweep.json")
    path = write_sweep(read_sweep(tmp_path / "b" / "sweep.json") | {"against": against}, tmp_path / "b")
    assert "Compared with planted" in path.read_text(encoding="utf-8")
    Draft202012Validator(SCHEMA).validate(read_sweep(tmp_path / "b" / "sweep.json"))
    assert "against" not in sweep(*moved, [corpus], tmp_path / "b")
