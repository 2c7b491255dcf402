"""A real PostgreSQL server, and every store test on both databases."""

import getpass
import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import pytest

from affectscope.monitoring.store import Store

NUMBER = count()


@pytest.fixture(scope="session")
def postgres():
    """``postgres()`` makes an empty schema and returns its URL; the server stops at the end.

    A database of its own for each would be nine hundred files each.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.fail("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql, or run `make test`, which does")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # the path of a socket may have 107 characters only
    other = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        shutil.chown(folder, "postgres", "postgres")

    def run(name, *args):
        subprocess.run([found[-1] / name, *args], cwd=folder, check=True, stdout=subprocess.DEVNULL, **other)

    user = "postgres" if other else getpass.getuser()
    data = ("-D", str(folder / "data"))
    run("initdb", *data, "-A", "trust", "-U", user, "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    run("pg_ctl", *data, "-w", "-l", str(folder / "log"), "-o", options, "start")

    def make():
        name = f"store{next(NUMBER)}"
        run("psql", "-q", "-h", str(folder), "-U", user, "-d", "postgres", "-c", f"CREATE SCHEMA {name}")
        return f"postgresql://{user}@/postgres?host={folder}&options=-csearch_path%3D{name}"

    yield make
    run("pg_ctl", *data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """Arguments of ``Store.open`` for a store that is not there yet."""
    if request.param == "sqlite":
        return {"where": tmp_path / "traces"}
    return {"where": request.getfixturevalue("postgres")(), "readings": tmp_path / "traces" / "readings"}


@pytest.fixture
def store(where):
    with Store.open(**where) as opened:
        yield opened


@pytest.fixture
def lite(tmp_path):
    with Store.open(tmp_path / "traces") as opened:
        yield opened
