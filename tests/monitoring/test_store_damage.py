"""What is broken, locked, read-only or full is told in one line, and nothing half-written stays."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.monitoring.stored import child, files_of, same, trace_of, whole

from affectscope.errors import AffectscopeError
from affectscope.monitoring import store_database
from affectscope.monitoring.store import Store


def test_altered_missing_and_unreadable_readings_are_told(store):
    for name in "abc":
        store.save(trace_of(name))
    path = {row.id: store.place.readings / row.readings for row in store.list()}
    payload = bytearray(path["a"].read_bytes())
    payload[len(payload) // 2] ^= 1
    path["a"].write_bytes(payload)
    path["b"].unlink()
    with pytest.raises(
        AffectscopeError,
        match=r"were altered .*restore it from a copy, or drop the trace with `affectscope traces prune a`",
    ):
        store.load("a")
    with pytest.raises(AffectscopeError, match=r"cannot be read \(No such file or directory\).*prune b`"):
        store.load("b")
    with pytest.raises(AffectscopeError, match="are missing: restore"):
        store.query("select 1")
    with pytest.raises(AffectscopeError, match="were altered"):
        store.export(["c", "a"], store.place.readings / "out.jsonl")
    assert not (store.place.readings / "out.jsonl").exists()
    assert len(store.list()) == 3
    assert set(store.prune(ids=["a", "b"]).traces) == {"a", "b"}
    same(trace_of("c"), store.load("c"))
    path["c"].write_bytes(b"no parquet")
    with pytest.raises(AffectscopeError, match="the query failed"):
        store.query("select avg(z) from z")


def test_a_damaged_database_is_told(lite, tmp_path):
    lite.save(trace_of("a"))
    lite.close()
    file = tmp_path / "traces" / "traces.db"
    whole = file.read_bytes()
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(AffectscopeError, match=r"traces\.db is no database: restore it from a copy, or move it away"):
        Store.open(tmp_path / "traces")
    file.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with (
        pytest.raises(AffectscopeError, match=r"traces\.db is damaged: restore"),
        Store.open(tmp_path / "traces") as store,
    ):
        store.list()
    file.write_bytes(whole)
    with Store.open(tmp_path / "traces") as store:
        same(trace_of("a"), store.load("a"))


def test_a_locked_database_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(store_database, "BUSY_SECONDS", 0.1)
    with Store.open(tmp_path / "traces") as store:
        other = sqlite3.connect(store.place.name, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for call in (lambda: store.save(trace_of("a")), lambda: store.prune(keep=0)):
            with pytest.raises(
                AffectscopeError, match=r"traces\.db is locked by another process: wait until that ends"
            ):
                call()
        assert store.list() == ()  # readers do not wait
        assert files_of(store) == []
        other.execute("COMMIT")
        other.close()
        store.save(trace_of("a"))
        same(trace_of("a"), store.load("a"))


def test_a_read_only_database_is_told_and_nothing_is_left(lite):
    with lite._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(
        AffectscopeError, match=r"traces\.db is read-only: make it and its folder writable, or choose another"
    ):
        lite.save(trace_of("a"))
    assert files_of(lite) == []


@pytest.fixture
def nobody():
    """A folder of root's, seen by a user who may only read it (root is bound by no permission)."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    yield folder, lambda: os.seteuid(65534) if root else None
    if root:
        os.seteuid(0)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_folders_that_may_not_be_written_are_told(nobody, tmp_path):
    folder, become = nobody
    with Store.open(folder / "full") as store:
        store.save(trace_of("a"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    become()
    with pytest.raises(
        AffectscopeError, match=r"cannot write .*new.*Permission denied; choose another place with --store"
    ):
        Store.open(folder / "new")
    with (
        pytest.raises(AffectscopeError, match=r"traces\.db (cannot be opened|is read-only)"),
        Store.open(folder / "full") as store,
    ):
        store.save(trace_of("b"))


def test_a_path_under_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AffectscopeError, match="choose another name with --store"):
        Store.open(tmp_path / "file" / "traces")
    with pytest.raises(AffectscopeError, match="choose another name with --store"):
        Store.open(tmp_path / "file")
    (tmp_path / "traces" / "traces.db").mkdir(parents=True)
    with pytest.raises(AffectscopeError, match="cannot be opened"):
        Store.open(tmp_path / "traces")
    with pytest.raises(AffectscopeError, match=r"there are no traces in .*nowhere: give the folder of a store"):
        Store.open(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


FULL = """
import resource, sys
from affectscope.monitoring.store import Store
from affectscope.errors import AffectscopeError
from tests.monitoring.stored import trace_of
store = Store.open(sys.argv[1])
store.save(trace_of("fits", tokens=9))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for i in range(100):
    try:
        store.save(trace_of(f"t{i}", tokens=int(sys.argv[3])))
    except AffectscopeError as error:
        print(error)
        break
"""


@pytest.mark.parametrize(("limit", "tokens", "says"), [(8192, 30_000, "File too large"), (150_000, 9, "disk")])
def test_no_room_for_the_readings_or_for_the_database(tmp_path, limit, tokens, says):
    told, problems = child(FULL, tmp_path / "traces", limit, tokens).communicate(timeout=60)
    assert not problems
    assert says in told
    assert len(told.splitlines()) == 1
    whole(tmp_path / "traces", at_least=1)


def save_many(store, tokens):
    for i in range(1000):
        store.save(trace_of(f"t{i}", tokens=tokens))


def test_a_full_disk(small_disk):
    with Store.open(small_disk / "traces") as store, pytest.raises(AffectscopeError, match="disk is full"):
        save_many(store, tokens=2000)
    whole(small_disk / "traces", at_least=3)


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Four megabytes; where a container may mount nothing, the system call says so instead."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        left = iter(range(200))
        monkeypatch.setattr(
            os, "fsync", lambda _file: next(left, None) or (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        yield folder
        return
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_database_is_told(lite):
    with lite._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 12")
    with pytest.raises(AffectscopeError, match=r"traces\.db does not fit: the disk is full; free some space"):
        save_many(lite, tokens=1)
    assert 0 < len(lite.list()) == len(files_of(lite))
