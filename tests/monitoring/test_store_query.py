"""SQL over all traces, and their export."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.monitoring.stored import trace_of

from affectscope.errors import AffectscopeError
from affectscope.monitoring.store import Store
from affectscope.monitoring.trace import restore


def test_queries_see_every_trace_by_concept(store):
    one, two = trace_of("one", content=True), trace_of("two", seed=3, concepts=("proud", "calm"), events=())
    store.save(one)
    store.save(two)
    for trace in (one, two):
        for p, probe in enumerate(trace.probes):
            for c, concept in enumerate(trace.concepts):
                sql = f"select position, role, phase, generated, text, z from z where trace = '{trace.id}' and concept = '{concept}' and probe = '{probe}' order by token_index"
                found = store.query(sql)
                np.testing.assert_array_equal(found["z"].to_numpy().astype(np.float32), restore(trace.z[p, :, c]))
                assert found["position"].to_pylist() == trace.positions.tolist()
                assert found["role"].to_pylist() == list(trace.roles)
                assert found["phase"].to_pylist() == list(trace.phases)
                assert found["generated"].to_pylist() == trace.generated.tolist()
                assert found["text"].to_pylist() == list(trace.texts or [None] * len(trace))
    assert store.query("select distinct trace from z where concept = 'desperate'")["trace"].to_pylist() == ["one"]
    assert store.query("select count(*) n from z")["n"].to_pylist() == [20 * 2 * (3 + 2)]
    marked = store.query("select position, alarm, fault from readings where alarm or fault order by 1").to_pylist()
    assert marked == [{"position": 7, "alarm": True, "fault": False}, {"position": 9, "alarm": False, "fault": True}]
    assert store.query("select detail->>'rule' r from events where kind = 'alarm'")["r"].to_pylist() == ["one"]
    facts = store.query(
        "select id, tags->>'run' run, settings->'sampling'->>'temperature' t, probes, concepts from traces order by number"
    )
    assert facts.to_pylist()[1] == {
        "id": "two", "run": "1", "t": "0.7", "probes": list(two.probes), "concepts": list(two.concepts)
    }  # fmt: skip
    store.prune(ids=["two"])
    assert store.query("select count(*) n, count(text) t from readings").to_pylist() == [{"n": 20, "t": 20}]


def test_columns_of_one_name_are_told_apart(lite):
    assert lite.query("select 1 as a, 2 as a, 3 as a").to_pylist() == [{"a": 1, "a_": 2, "a__": 3}]


def test_an_empty_store_and_one_without_content_can_be_queried(tmp_path):
    with Store.open(tmp_path / "we[i]rd '*?" / "traces") as store:
        assert len(store.query("select * from z, readings, events, traces")) == 0
        store.save(trace_of("a"))
        assert store.query("select count(*) n, count(text) t from readings").to_pylist() == [{"n": 20, "t": 0}]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("", "a query is one SELECT"),
        ("select 1; select 2", "a query is one SELECT"),
        ("copy (select 1) to 'x.csv'", "a query is one SELECT"),
        ("explain analyze copy (select 1) to 'x.csv'", "a query is one SELECT"),
        ("drop view z", "a query is one SELECT"),
        ("set enable_external_access = true", "a query is one SELECT"),
        ("selec 1", r"the query failed \(Parser Error"),
        ("select nothing from z", r"the query failed \(Binder Error.*its views are traces, events, readings, z"),
        ("select * from read_csv('/etc/passwd')", "the query failed"),
        ("select * from '/etc/passwd'", "the query failed"),
        ("select * from trace_of", "the query failed"),
    ],
)
def test_queries_only_read_and_only_traces(lite, tmp_path, monkeypatch, sql, says):
    monkeypatch.chdir(tmp_path)
    lite.save(trace_of("a"))
    with pytest.raises(AffectscopeError, match=says):
        lite.query(sql)
    assert not (tmp_path / "x.csv").exists()


def test_export_as_json_lines_tells_everything(store, tmp_path):
    saved = [trace_of("one", content=True), trace_of("two", tokens=0, events=())]
    for trace in saved:
        store.save(trace)
    out = tmp_path / "out.jsonl"
    assert store.export(["two", "one"], out) == 2
    lines = out.read_text(encoding="utf-8").splitlines()
    second, first = map(json.loads, lines)
    assert (first["id"], second["id"]) == ("one", "two")
    for told, trace in zip((first, second), saved, strict=True):
        z = np.array([told["z"][p] for p in trace.probes], np.float32).reshape(trace.z.shape)  # None becomes NaN
        np.testing.assert_array_equal(z, restore(trace.z))
        assert told["positions"] == trace.positions.tolist()
        assert told["tags"] == trace.tags
    assert first["texts"] == list(saved[0].texts)
    assert first["events"][1] == {"position": 9, "kind": "fault", "detail": dict(saved[0].events[1].detail)}


def test_export_as_parquet_joins_traces_of_other_concepts(store, tmp_path):
    saved = [trace_of("one", content=True), trace_of("two", seed=3, concepts=("proud", "joy"), events=())]
    for trace in saved:
        store.save(trace)
    assert store.export(["one", "two"], tmp_path / "out.parquet", "parquet") == 2
    table = pq.read_table(tmp_path / "out.parquet")
    assert len(table) == 40
    one, two = table.slice(0, 20), table.slice(20)
    z = restore(saved[0].z)
    for p, probe in enumerate(saved[0].probes):
        for c, concept in enumerate(saved[0].concepts):
            np.testing.assert_array_equal(one[f"z.{probe}.{concept}"].to_numpy(), z[p, :, c])
    assert one["z.readers.joy"].null_count == two["z.readers.calm"].null_count == two["text"].null_count == 20
    np.testing.assert_array_equal(two["z.readers_heldout.joy"].to_numpy(), restore(saved[1].z)[1, :, 1])
    assert json.loads(one["events"][4].as_py())[0]["kind"] == "alarm"
    assert one["events"].null_count == 18
    with pytest.raises(AffectscopeError, match="cannot be exported as csv: give --format jsonl or parquet"):
        store.export(["one"], tmp_path / "out.csv", "csv")
