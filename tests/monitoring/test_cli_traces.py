"""`affectscope traces` as a user meets it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.monitoring.stored import trace_of

from affectscope.monitoring.store import Store
from affectscope.monitoring.trace import restore

COMMAND = [str(Path(sys.executable).with_name("affectscope")), "traces"]


def run(*args, **env):
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, env={**os.environ, **env}, timeout=60, check=False
    )


@pytest.fixture
def folder(tmp_path):
    with Store.open(tmp_path / "traces") as store:
        for i in range(3):
            store.save(trace_of(f"{i}{'ab' * 15}", seed=i, events=() if i == 1 else trace_of("x").events))
        store.save(replace(trace_of("evil\x1b[2J", seed=9), finished="stop", started=1e300, ended=-1e300))
    return tmp_path / "traces"


def test_list_fits_80_columns_and_tells_the_same_as_json(folder):
    told = run("list", "--store", folder)
    assert told.returncode == 0, told.stderr
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "\x1b" not in told.stdout
    for word in ("0ababababab", "evil·[2J", "1e+300", "length", "stop", "tiny", "4 trace(s)"):
        assert word in told.stdout
    rows = json.loads(run("list", "--json", AFFECTSCOPE_STORE=str(folder)).stdout)
    assert [row["id"][0] for row in rows] == ["e", "2", "1", "0"]
    assert rows[1]["tags"]["run"] == "1"
    assert rows[1]["started"] == trace_of("x", seed=2).started


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--alarm"], "e20"),
        (["--no-alarm"], "1"),
        (["-n", "2"], "e2"),
        (["-n", "0"], "e210"),
        (["--finished", "stop"], "e"),
        (["--since", "2d"], "e"),
        (["--until", "2100-01-01", "--since", "2025-01-01T00:00"], "210"),
        (["--tag", "run=1", "--tag", "user=Zoë; DROP TABLE traces"], "e210"),
        (["--tag", "run=2"], ""),
        (["-c", "calm"], "e210"),
        (["--concept", "joy"], ""),
    ],
)
def test_list_filters(folder, filters, found):
    rows = json.loads(run("list", "-s", folder, "--json", *filters).stdout)
    assert "".join(row["id"][0] for row in rows) == found


def test_show_tells_facts_events_and_the_highest_concepts(folder):
    told = run("show", "0", "-s", folder)
    assert told.returncode == 0, told.stderr
    assert max(map(len, told.stdout.splitlines())) <= 80
    for word in (
        "finished",
        "length",
        "alarm",
        "rule one",
        "readers_heldout",
        "2 event(s)",
        "over the generated tokens",
    ):
        assert word in told.stdout
    facts = json.loads(run("show", "0", "-s", folder, "--json").stdout)
    trace = trace_of("0" + "ab" * 15)
    z = restore(trace.z)[1][trace.generated]
    means = dict(zip(trace.concepts, z.mean(axis=0), strict=True))
    assert list(facts["z"]["readers_heldout"]) == sorted(means, key=means.get, reverse=True)
    top = next(iter(facts["z"]["readers_heldout"].values()))
    assert top["mean"] == pytest.approx(max(means.values()), abs=1e-3)
    best = z[:, trace.concepts.index(max(means, key=means.get))]
    assert top["highest"] == best.max()
    assert top["at"] == trace.positions[trace.generated][best.argmax()]
    assert facts["events"][0]["detail"]["statistic"] is None  # JSON has no Infinity


def test_show_of_a_trace_without_readings(folder):
    with Store.open(folder) as store:
        store.save(trace_of("none", tokens=0))
        unread = trace_of("unread", tokens=3)
        unread.z[:] = -128
        store.save(unread)
    for name in ("none", "unread"):
        told = run("show", name, "-s", folder)
        assert told.returncode == 0, told.stderr
        assert json.loads(run("show", name, "-s", folder, "--json").stdout)["z"] == {
            "readers": {},
            "readers_heldout": {},
        }


def test_query(folder):
    sql = "select trace, round(avg(z), 2) as mean, first(z) as z from z where concept = 'calm' group by trace order by trace"
    told = run("query", sql, "-s", folder)
    assert told.returncode == 0, told.stderr
    assert "4 row(s)" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80
    rows = json.loads(run("query", sql, "-s", folder, "--json").stdout)
    assert [row["trace"][0] for row in rows] == ["0", "1", "2", "e"]
    assert len(json.loads(run("query", "select z from readings limit 1", "-s", folder, "--json").stdout)[0]["z"]) == 12


def test_export(folder, tmp_path):
    told = run("export", "-s", folder, "-o", tmp_path / "all.parquet", "--json")
    assert json.loads(told.stdout) == {"out": str(tmp_path / "all.parquet"), "format": "parquet", "traces": 4}
    table = pq.read_table(tmp_path / "all.parquet")
    assert [i[0] for i in dict.fromkeys(table["trace"].to_pylist())] == ["0", "1", "2", "e"]
    told = run("export", "1", "e", "-s", folder, "-o", tmp_path / "two.jsonl")
    assert "two.jsonl: 2 trace(s)" in told.stdout
    lines = [json.loads(line) for line in (tmp_path / "two.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"][0] for line in lines] == ["1", "e"]
    np.testing.assert_array_equal(np.array(lines[0]["z"]["readers"], np.float32), restore(trace_of("x", seed=1).z[0]))


def test_prune(folder):
    assert (
        "would go: 3 trace(s), 0 left-over file(s)"
        in run("prune", "-s", folder, "--older-than", "1d", "--dry-run").stdout
    )
    told = json.loads(run("prune", "1", "-s", folder, "--json").stdout)
    assert ([i[0] for i in told["traces"]], told["orphans"], told["dry_run"]) == (["1"], [], False)
    assert "removed: 1 trace(s)" in run("prune", "-s", folder, "--older-than", "1d", "--keep", "2").stdout
    assert [row["id"][0] for row in json.loads(run("list", "-s", folder, "--json").stdout)] == ["e", "2"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("list", "-s", "nowhere"), "there are no traces in nowhere: give the folder of a store with --store"),
        (("list", "--since", "yesterday"), "--since 'yesterday' is no time: write 2026-01-31"),
        (("list", "--tag", "a"), "--tag 'a' has no value: write KEY=VALUE"),
        (("prune", "--older-than", "soon"), "--older-than 'soon' is no duration: write 90s"),
        (("show", "q"), "no trace begins with 'q'"),
        (("query", "drop view z"), "a query is one SELECT"),
        (("export", "--format", "csv"), "give --format jsonl or parquet"),
        (("list", "-s", "postgresql://u:secret@127.0.0.1:1/db", "--readings", "."), "cannot be reached"),
    ],
)
def test_bad_input_is_one_line(folder, args, says):
    told = run(*args, AFFECTSCOPE_STORE=str(folder))
    assert told.returncode == 2
    assert told.stderr.startswith("affectscope: ")
    assert len(told.stderr.splitlines()) == 1
    assert says in told.stderr
    assert "secret" not in told.stderr


def test_settings_come_from_a_file(folder, tmp_path):
    def ids(settings):
        (tmp_path / "affectscope.toml").write_text(settings)
        made = subprocess.run([*COMMAND, "list", "--json"], capture_output=True, cwd=tmp_path, check=True, timeout=60)
        return [row["id"][0] for row in json.loads(made.stdout)]

    folder.rename(tmp_path / "kept")
    assert ids('store = "kept"') == ["e", "2", "1", "0"]
    assert ids('[traces]\nstore = "kept"\n[traces.list]\nlimit = 1\n') == ["e"]
