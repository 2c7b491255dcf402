"""What only a PostgreSQL server can do: be away, refuse, lock. The other store tests run on it, too."""

import sys

import pytest
from sqlalchemy import create_engine, text
from tests.monitoring.stored import files_of, same, trace_of

from affectscope.errors import AffectscopeError
from affectscope.monitoring.store import Store
from affectscope.monitoring.store_database import place_of


@pytest.fixture
def url(postgres):
    return postgres()


def run(url, sql):
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(sql))
    engine.dispose()


def test_a_url_needs_a_folder_for_its_readings(url):
    with pytest.raises(AffectscopeError, match="holds no readings, they are files: give their folder with --readings"):
        Store.open(url)
    for other in ("mysql://host/db", "sqlite:///traces.db"):
        with pytest.raises(AffectscopeError, match=r"a store cannot be .*: give a folder, or a postgresql:// URL"):
            Store.open(other)
    with pytest.raises(AffectscopeError, match="cannot be read: write postgresql://USER@HOST/DATABASE"):
        Store.open("postgresql://host:port/db", readings=".")


def test_a_password_is_never_told():
    place = place_of("postgresql://me:secret@nowhere.invalid:1/db", "readings")
    assert "secret" not in place.name
    assert "nowhere.invalid" in place.name
    with pytest.raises(
        AffectscopeError, match=r"cannot be reached .*: check the URL, and that the server runs"
    ) as told:
        Store.open("postgresql://me:secret@127.0.0.1:1/db", readings="readings")
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_store_that_is_not_there_is_not_made_by_a_look(url, tmp_path):
    with pytest.raises(AffectscopeError, match="there are no traces in postgresql"):
        Store.open(url, readings=tmp_path, create=False)


def test_a_missing_driver_is_told(url, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(AffectscopeError, match=r"PostgreSQL needs its driver: pip install 'affectscope\[postgres\]'"):
        Store.open(url, readings=tmp_path)


def test_a_read_only_server_is_told_and_nothing_is_left(url, tmp_path):
    with Store.open(url, readings=tmp_path / "readings") as store:
        store.save(trace_of("a"))
    with Store.open(url + "%20-cdefault_transaction_read_only%3Don", readings=tmp_path / "readings") as store:
        with pytest.raises(AffectscopeError, match="is read-only: connect to the primary server"):
            store.save(trace_of("b"))
        assert len(files_of(store)) == 1
        same(trace_of("a"), store.load("a"))


def test_a_user_without_rights_is_told(url, tmp_path):
    with Store.open(url, readings=tmp_path / "readings") as store:
        store.save(trace_of("a"))
    run(url, f"CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {url.split('%3D')[1]} TO guest")
    as_guest = "postgresql://guest@" + url.split("@")[1]
    with pytest.raises(AffectscopeError, match="refuses this user: grant it"):
        Store.open(as_guest, readings=tmp_path / "readings")


def test_a_store_goes_on_after_its_connection_was_cut(url, tmp_path):
    with Store.open(url, readings=tmp_path / "readings") as store:
        store.save(trace_of("a"))
        run(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        store.save(trace_of("b"))
        assert [row.id for row in store.list()] == ["b", "a"]


def test_two_stores_may_share_a_folder_of_readings(postgres, tmp_path):
    stores = [Store.open(postgres(), readings=tmp_path) for _ in range(2)]
    for store in stores:
        store.save(trace_of("a"))
    assert stores[0].prune(keep=0).traces == ("a",)
    same(trace_of("a"), stores[1].load("a"))
    for store in stores:
        store.close()
