"""Traces come back to the bit from both databases; filters, retention, revisions."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sqlalchemy import text
from tests.monitoring.stored import aged, files_of, noise, same, trace_of

from affectscope.errors import AffectscopeError
from affectscope.monitoring import store_database, store_readings
from affectscope.monitoring.store import Store
from affectscope.monitoring.store_database import writing
from affectscope.monitoring.store_schema import HEAD, Base, from_json, to_json
from affectscope.monitoring.trace import Event, Trace


def test_a_trace_comes_back_to_the_bit(where):
    saved = [trace_of("a"), trace_of("B" * 300, content=True, seed=1), trace_of("../é:*?", seed=2, finished="stop")]
    saved += [trace_of("empty", tokens=0, events=()), trace_of("one", tokens=1, content=True, tags={}, settings={})]
    saved.append(trace_of("backwards", ended=5.0, settings={"layer": None, "model": "m", "calibration": "c"}))
    with Store.open(**where) as store:
        for trace in saved:
            store.save(trace)
    with Store.open(**where, create=False) as store:
        for trace in saved:
            same(trace, store.load(trace.id))
            assert store.layout(trace.id) == (trace.probes, trace.concepts)
        rows = {row.id: row for row in store.list()}
    assert [rows[t.id].number for t in saved] == sorted(rows[t.id].number for t in saved)
    first, last = rows["a"], rows["backwards"]
    assert (first.tokens, first.generated, first.alarms, first.faults, first.content) == (20, 14, 1, 1, False)
    assert (first.model, first.vectors, first.layer, first.calibration) == ("tiny", "f" * 64, 3, "")
    assert (last.model, last.vectors, last.layer, last.calibration) == ("m", "", None, "c")
    assert rows["one"].content
    assert {
        p.parent for p in Path(where["where"] if "readings" not in where else where["readings"]).rglob("*.parquet")
    } == {store.place.readings}


words = st.text(st.characters(codec="utf-8"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(words, plain, max_size=4))
def test_plain_values_come_back_exactly(value):
    assert repr(from_json(to_json(value))) == repr(value)
    json.loads(to_json(value), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_plain_values_of_other_kinds_become_the_nearest_plain_ones():
    given = {"a": (1, np.float32(0.5)), 2: np.array([[1, np.inf]]), "\udcff": "x\udcff\U0001f642"}
    assert from_json(to_json(given)) == {"a": [1, 0.5], "2": [[1.0, np.inf]], "\ufffd": "x\ufffd\U0001f642"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_readings_come_back(data, lite):
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(0, 9)), data.draw(st.integers(1, 4)))
    count = shape[1]
    texts = st.lists(words, min_size=count, max_size=count).map(tuple)
    trace = Trace(
        id=os.urandom(8).hex(),
        started=data.draw(st.floats(allow_nan=False, allow_infinity=False)),
        ended=data.draw(st.floats(allow_nan=False, allow_infinity=False)),
        finished="eos",
        concepts=tuple(f"c{i}" for i in range(shape[2])),
        probes=tuple(f"p{i}" for i in range(shape[0])),
        z=data.draw(hnp.arrays(np.int8, shape)),
        positions=data.draw(hnp.arrays(np.int32, count)),
        roles=data.draw(texts),
        phases=data.draw(texts),
        generated=data.draw(hnp.arrays(bool, count)),
        texts=data.draw(st.none() | texts),
        tokens=data.draw(st.none() | hnp.arrays(np.int32, count)),
    )
    lite.save(trace)
    same(trace, lite.load(trace.id))


def test_a_token_takes_at_most_250_bytes():
    concepts = [f"c{i}" for i in range(171)]
    for tokens in (100, 200, 300, 1000):
        trace = trace_of("x", tokens, concepts)
        trace.z[:] = noise(2, tokens, 171, np.random.default_rng(tokens))
        assert len(store_readings.encode(trace)) / tokens <= 250, tokens


# Refusals


def test_an_id_is_used_once_and_the_first_trace_stays(store):
    store.save(trace_of("a"))
    with pytest.raises(AffectscopeError, match="trace a is kept already: an id is used once"):
        store.save(trace_of("a", seed=5, concepts=("other",)))
    same(trace_of("a"), store.load("a"))
    assert len(files_of(store)) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": ""}, "not empty"),
        ({"id": "a\0b"}, "without NUL"),
        ({"tags": {"k": "\ud800"}}, "Unicode"),
        ({"tags": {"k": 1}}, "texts"),
        ({"started": float("nan")}, "no time"),
        ({"concepts": ()}, "z is int8"),
        ({"concepts": (), "z": np.zeros((2, 20, 0), np.int8)}, "reads nothing"),
        ({"phases": ("none",)}, "20 roles but 1 phases"),
        ({"texts": ("a",) * 21}, "21 texts"),
        ({"texts": ("\ud800",) * 20}, "not Unicode"),
        ({"z": np.zeros((2, 20, 3), np.float32)}, "z float32"),
        ({"settings": {"x": {1, 2}}}, "plain values only"),
    ],
)
def test_a_trace_that_cannot_be_kept_is_refused_and_leaves_nothing(lite, changes, says):
    fields = {name: getattr(trace_of("a"), name) for name in Trace.__dataclass_fields__}
    with pytest.raises(AffectscopeError, match=says):
        lite.save(Trace(**fields | changes))
    assert lite.list() == ()
    assert files_of(lite) == []


def test_unknown_traces_are_told(store):
    for call in (store.load, store.layout, lambda i: store.prune(ids=[i]), lambda i: store.export([i], Path("never"))):
        with pytest.raises(AffectscopeError, match="there is no trace nobody in"):
            call("nobody")
    assert not Path("never").exists()


def test_a_store_is_found_by_the_beginning_of_an_id(store):
    for name in ("abc", "abd", "ab", "Ab", "x%y", "x_y"):
        store.save(trace_of(name, tokens=1))
    assert store.find("abc") == "abc"
    assert store.find("ab") == "ab"
    assert store.find("A") == "Ab"
    assert store.find("x%") == "x%y"
    with pytest.raises(AffectscopeError, match="3 traces begin with 'a'"):
        store.find("a")
    with pytest.raises(AffectscopeError, match="no trace begins with 'q'"):
        store.find("q")


# Filters


def test_filters(store):
    store.save(trace_of("quiet", events=(), started=10.0, ended=20.0, tags={"user": "a", "run": "1"}))
    store.save(trace_of("loud", started=20.0, ended=30.0, tags={"user": "a"}, concepts=("calm",)))
    store.save(trace_of("jumped", started=30.0, ended=-5.0, tags={"u": "a%", '"': "'"}, finished="stop"))

    def ids(**filters):
        return [row.id for row in store.list(**filters)]

    assert ids() == ["jumped", "loud", "quiet"]
    assert ids(alarm=True) == ["jumped", "loud"]
    assert ids(alarm=False) == ["quiet"]
    assert ids(since=20.0) == ["jumped", "loud"]
    assert ids(until=20.0) == ["loud", "quiet"]
    assert ids(since=20.0, until=20.0) == ["loud"]
    assert ids(concept="desperate") == ["jumped", "quiet"]
    assert ids(concept="Desperate") == ids(concept="desper") == ids(concept='calm","desperate') == []
    assert ids(finished="stop") == ["jumped"]
    assert ids(tag={"user": "a"}) == ["loud", "quiet"]
    assert ids(tag={"user": "a", "run": "1"}) == ["quiet"]
    assert ids(tag={'"': "'"}) == ["jumped"]
    assert ids(tag={"u": "a"}) == ids(tag={"us%": "a"}) == []
    assert ids(limit=2) == ["jumped", "loud"]
    assert ids(alarm=True, concept="desperate", limit=1) == ["jumped"]


# Pruning


def test_traces_are_found_and_counted_by_what_happened(store):
    def acted(act, rule="one"):
        return Event(8, "action", {"act": act, "rule": rule, "text": 'o\'clock "quoted" \u2028'})

    store.save(trace_of("quiet", events=(), tags={"tenant": "a"}))
    store.save(trace_of("alarm", tags={"tenant": "a"}))
    both = (*trace_of("x").events, acted("stop"), acted("stop"), acted("it's odd"))
    store.save(trace_of("acted", events=both, tags={"tenant": "b"}))

    def found(**wanted):
        return [row.id for row in store.list(**wanted)]

    assert found(rules=["one"]) == ["acted", "alarm"]
    assert found(rules=["two", "three"]) == found(rules=[]) == []
    assert found(action="stop") == found(action="it's odd") == ["acted"]
    assert found(action="one") == []
    assert found(rules=["one"], tag={"tenant": "a"}) == ["alarm"]
    newest, *older = store.list()
    assert found(before=newest.number) == [row.id for row in older]
    assert found(before=newest.number, limit=1) == ["alarm"]
    assert store.happened() == {"alarm": {"one": 2}, "action": {"stop": 2, "it's odd": 1}}
    assert store.happened({"tenant": "a"}) == {"alarm": {"one": 1}, "action": {}}
    assert store.happened({"tenant": "c"}) == {"alarm": {}, "action": {}}


def test_retention(store):
    now = time.time()
    for name, age in (("old", 100), ("mid", 50), ("new", 10)):
        store.save(trace_of(name, started=now - age - 1, ended=now - age))
    store.save(trace_of("jumped", started=now - 5, ended=now - 9000))
    store.save(trace_of("future", started=now + 9000, ended=now + 9001))
    told = store.prune(older_than=40, dry_run=True)
    assert told.traces == ("mid", "old")
    assert told.freed == sum(
        (store.place.readings / r.readings).stat().st_size for r in store.list() if r.id in told.traces
    )
    assert len(store.list()) == len(files_of(store)) == 5
    assert store.prune(older_than=40, keep=4).traces == ("old",)
    assert store.prune(older_than=40) == type(told)(("mid",), (), told.freed // 2)
    assert store.prune(ids=["new"]).traces == ("new",)
    assert store.prune(keep=1).traces == ("jumped",)
    assert [row.id for row in store.list()] == ["future"]
    assert len(files_of(store)) == 1
    same(store.load("future"), trace_of("future", started=now + 9000, ended=now + 9001))
    assert store.query("select count(*) n from events")["n"].to_pylist() == [2]  # the others' went with them
    assert store.prune().traces == ()
    assert store.prune(keep=0).traces == ("future",)
    assert files_of(store) == []
    for wrong in ({"older_than": -1.0}, {"older_than": float("nan")}, {"keep": -1}):
        with pytest.raises(AffectscopeError, match="0 or more"):
            store.prune(**wrong)


def test_prune_takes_old_orphans_of_this_store_only(store):
    store.save(trace_of("kept"))
    folder, name = store.place.readings, store.list()[0].readings
    mark = name.split("-")[-2]
    orphan, unfinished, others = (
        f"gone-{mark}-0123456789ab.parquet",
        f".x-{mark}-0123456789ab.parquet.k3",
        "mine-1.parquet",
    )
    other_store = "kept-00000000-0123456789ab.parquet"
    for made in (orphan, unfinished, others, other_store):
        (folder / made).write_bytes(b"12345")
    assert store.prune().orphans == ()  # they may belong to traces that are being saved just now
    aged(folder)
    assert store.prune(dry_run=True).orphans == (unfinished, orphan)
    assert len(files_of(store)) == 5
    assert store.prune() == type(store.prune())((), (unfinished, orphan), 10)
    assert files_of(store) == sorted([name, others, other_store])
    store.load("kept")


# Revisions


def test_a_new_database_is_at_head_and_holds_what_the_tables_say(store):
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "affectscope.monitoring:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
    with store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_twice_is_harmless_and_an_unfinished_creation_goes_on(where, tmp_path, monkeypatch):
    if "readings" not in where:
        (tmp_path / "traces").mkdir()
        (tmp_path / "traces" / "traces.db").touch()  # a process died after it made the file
        with pytest.raises(AffectscopeError, match="there are no traces"):
            Store.open(**where, create=False)
    with Store.open(**where) as store:
        store.save(trace_of("a"))
    monkeypatch.setattr(store_database, "HEAD", "something else")  # so that Alembic is asked again
    for _ in range(2):
        with Store.open(**where) as store:
            same(trace_of("a"), store.load("a"))


def test_a_newer_database_is_refused_and_left_alone(store, where):
    store.save(trace_of("a"))
    with writing(store._engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(AffectscopeError, match="has revision 9999, which this affectscope does not know: upgrade"):
        Store.open(**where)
    with store._engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["9999"]
