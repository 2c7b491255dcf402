"""Processes that die at any moment, and processes that write together."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.monitoring.stored import child, files_of, same, trace_of, whole

from affectscope.monitoring.store import Store

KILLED = """
import os, random, signal, sys, time
import pyarrow.parquet, alembic.command
from affectscope.monitoring.store import Store
from tests.monitoring.stored import trace_of
acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
draw = random.Random(0)
for life in range(int(sys.argv[3])):
    child = os.fork()
    if not child:
        with Store.open(sys.argv[1]) as store:
            for i in range(10_000):
                name = f"{life}-{i}"
                store.save(trace_of(name, tokens=40))
                os.write(acknowledged, f"{name}\\n".encode())
        os._exit(1)
    time.sleep(draw.uniform(0, 0.25))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


def test_a_writer_killed_at_any_moment_leaves_whole_traces(tmp_path):
    """Forked, so that forty lives do not cost forty imports."""
    _, problems = child(KILLED, tmp_path / "traces", tmp_path / "acknowledged", 40).communicate(timeout=120)
    assert not problems
    names = (tmp_path / "acknowledged").read_text().split()
    rows = whole(tmp_path / "traces", at_least=20, acknowledged=names)
    assert len(rows) <= len(names) + 40  # one a life may have been saved and not told


DIES = """
import os, signal, sys
from affectscope.monitoring import store, store_readings
from affectscope.monitoring.store import Store
from sqlalchemy import Connection
from tests.monitoring.stored import trace_of
opened = Store.open(sys.argv[1])
opened.save(trace_of("before"))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
{"write": lambda: setattr(os, "fsync", die), "rename": lambda: setattr(os, "replace", die),
 "insert": lambda: setattr(store, "_insert", die), "commit": lambda: setattr(Connection, "commit", die)}[sys.argv[2]]()
opened.save(trace_of("lost"))
"""


@pytest.mark.parametrize(("moment", "left"), [("write", 2), ("rename", 2), ("insert", 2), ("commit", 2)])
def test_a_writer_killed_between_two_steps_leaves_a_file_that_prune_removes(tmp_path, moment, left):
    dead = child(DIES, tmp_path / "traces", moment)
    _, problems = dead.communicate(timeout=60)
    assert (dead.returncode, problems) == (-9, "")
    with Store.open(tmp_path / "traces") as store:
        assert len(files_of(store)) == left
    assert [row.id for row in whole(tmp_path / "traces")] == ["before"]


TOGETHER = """
import sys
from affectscope.monitoring.store import Store
from tests.monitoring.stored import trace_of
where, readings, name = sys.argv[1:]
with Store.open(where, readings=readings) as store:
    for i in range(25):
        store.save(trace_of(f"{name}-{i}", concepts=("calm", f"c{i}")))
        store.list(limit=3)
        if i % 10 == 9:
            store.prune(ids=[f"{name}-{i - 5}"])
"""


def test_processes_open_a_new_store_and_write_together(where, tmp_path):
    readings = tmp_path / "traces" / "readings"
    writers = [child(TOGETHER, where["where"], readings, name) for name in "abc"]
    assert [w.communicate(timeout=90)[1] for w in writers] == [""] * 3
    with Store.open(**where) as store:
        assert len(store.list()) == 3 * 23
        assert len(files_of(store)) == 3 * 23
        for row in store.list():
            store.load(row.id)


def test_threads_share_one_store(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.save(trace_of(f"t{i}", concepts=("calm", f"c{i % 3}"))), range(40)))
        same(trace_of("t7", concepts=("calm", "c1")), store.load("t7"))
    assert len(store.list()) == len(files_of(store)) == 40
