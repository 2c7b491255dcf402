"""The store's database: SQLite in a folder or PostgreSQL by URL, at the newest revision, with every failure one line.

SQLite runs in WAL mode, so that readers never wait for a writer, and with ``synchronous=FULL``: what was saved survives
a power cut. That costs one fsync an episode, which nobody notices; NORMAL would spare it and lose the last episodes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from affectscope.errors import AffectscopeError
from affectscope.files import disk_errors
from affectscope.monitoring.store_schema import HEAD

DATABASE, READINGS = "traces.db", "readings"
BUSY_SECONDS = 10.0
"""How long a writer waits for another before it gives up."""
_MIGRATING = 4_207_171_001
"""PostgreSQL's advisory lock that only one process holds while it migrates."""
_FAILURES = {
    "BUSY": "is locked by another process: wait until that ends, or end it, and run again",
    "LOCKED": "is locked by another process: wait until that ends, or end it, and run again",
    "READONLY": "is read-only: make it and its folder writable, or choose another place with --store",
    "CANTOPEN": "cannot be opened: check the permissions of its folder, or choose another place with --store",
    "PERM": "cannot be opened: check its permissions, or choose another place with --store",
    "FULL": "does not fit: the disk is full; free some space and run again",
    "IOERR": "met a disk error: check the disk and its free space, and run again",
    "CORRUPT": "is damaged: restore it from a copy, or move it away to begin a new store",
    "NOTADB": "is no database: restore it from a copy, or move it away to begin a new store",
    # PostgreSQL's codes
    "53100": "does not fit: the server's disk is full; free some space and run again",
    "25006": "is read-only: connect to the primary server, or as a user that may write",
    "42501": "refuses this user: grant it CREATE on the schema, and its tables",
    "55P03": "is locked by another process: wait until that ends, or end it, and run again",
    "40P01": "is locked by another process: wait until that ends, or end it, and run again",
    "53300": "has no connection left: close some, and run again",
}


@dataclass(frozen=True)
class Place:
    """Where a store lies: its database, the folder of its readings, and what to call it (without any password)."""

    url: URL
    readings: Path
    name: str


def place_of(where: str | Path, readings: str | Path | None) -> Place:
    """Understand a folder or a ``postgresql://`` URL.

    Raises:
        AffectscopeError: another kind of URL, or a URL without a folder for the readings.
    """
    if isinstance(where, Path) or "://" not in where:
        folder = Path(where).expanduser()
        file = folder / DATABASE
        return Place(
            URL.create("sqlite", database=str(file)), Path(readings or folder / READINGS).expanduser(), str(file)
        )
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise AffectscopeError("the store's URL cannot be read: write postgresql://USER@HOST/DATABASE") from error
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise AffectscopeError(f"a store cannot be {url.drivername}: give a folder, or a postgresql:// URL")
    name = url.render_as_string(hide_password=True)
    if readings is None:
        raise AffectscopeError(f"{name} holds no readings, they are files: give their folder with --readings")
    return Place(url.set(drivername="postgresql+psycopg"), Path(readings).expanduser(), name)


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Turn a failure of the database called ``name`` into one :class:`AffectscopeError`: cause and remedy."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise AffectscopeError(f"{name} {_failure(error)}") from error


def _failure(error: Exception) -> str:
    inner = error.orig if isinstance(error, DBAPIError) and error.orig else error
    code = getattr(inner, "sqlite_errorname", None) or getattr(inner, "sqlstate", None)
    if code:
        found = _FAILURES.get(code) or _FAILURES.get(code.removeprefix("SQLITE_").split("_")[0])
        if found:
            return found
    first = (str(inner).strip().splitlines() or [type(inner).__name__])[0]
    if not code and isinstance(error, OperationalError) and not isinstance(inner, sqlite3.Error):
        return f"cannot be reached ({first}): check the URL, and that the server runs"
    return f"failed ({first}): check that nothing else wrote to it"


def connect(place: Place, create: bool) -> Engine:
    """An engine on the database at the newest revision; its ``writing`` transactions take SQLite's write lock at once.

    Args:
        create: make a store that is not there. An older one is brought up to date in any case.

    Raises:
        AffectscopeError: no store, a newer revision, a missing driver, or a database that cannot be opened.
    """
    sqlite = place.url.drivername == "sqlite"
    if sqlite:
        file = Path(place.name)
        if not create and not file.is_file():
            raise AffectscopeError(f"there are no traces in {file.parent}: give the folder of a store with --store")
        with disk_errors(file, "--store"):
            file.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"timeout": BUSY_SECONDS} if sqlite else {"connect_timeout": int(BUSY_SECONDS)}
    try:
        engine = create_engine(place.url, connect_args=options, pool_pre_ping=not sqlite)
    except ModuleNotFoundError as error:
        raise AffectscopeError("PostgreSQL needs its driver: pip install 'affectscope[postgres]'") from error
    if sqlite:
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
    try:
        with one_line(place.name):
            _bring_up_to_date(engine, place.name, create)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A connection for one transaction that writes; nothing is kept unless the block commits."""
    with engine.connect().execution_options(writing=True) as connection:
        yield connection


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 would begin late, and commit before it creates a table
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")


def _on_begin(connection: Connection) -> None:
    """A transaction that reads first and writes later is refused when another wrote between; so the lock comes first."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")


def _bring_up_to_date(engine: Engine, name: str, create: bool) -> None:
    with engine.connect() as connection:
        found = _revision(connection)
    if found == HEAD:
        return
    if found is None and not create:
        raise AffectscopeError(f"there are no traces in {name}: give another store with --store")
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "affectscope.monitoring:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        found = _revision(connection)  # another process may have been faster
        if found is not None and found not in known:
            told = f"{name} has revision {found}, which this affectscope does not know"
            raise AffectscopeError(f"{told}: upgrade affectscope, or give another store with --store")
        if found != HEAD:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.commit()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found
