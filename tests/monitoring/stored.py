"""Traces to store: made up, but shaped and spread as real ones are."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from affectscope.monitoring.store import Store
from affectscope.monitoring.trace import MISSING, Event, Trace, quantise

ROOT = Path(__file__).parents[2]


def noise(probes, tokens, concepts, rng):
    """z ~ N(0, 1.5), AR(1) 0.7 along the tokens, quantised."""
    z = rng.normal(size=(probes, tokens, concepts)) * 1.5
    for t in range(1, tokens):
        z[:, t] = 0.7 * z[:, t - 1] + np.sqrt(1 - 0.7**2) * z[:, t]
    return quantise(z)


def trace_of(name, tokens=20, concepts=("calm", "desperate", "proud"), seed=0, content=False, **more):
    """A trace with missing readings, an alarm of awkward numbers, a fault, nested settings and odd characters."""
    rng = np.random.default_rng(seed)
    probes = ("readers", "readers_heldout")
    z = noise(len(probes), tokens, len(concepts), rng)
    z[0, tokens // 2 : tokens // 2 + 1] = MISSING
    third = tokens // 3
    events = (
        Event(
            7, "alarm", {"rule": "one", "statistic": np.inf, "threshold": 0.1 + 0.2, "alpha": 0.05, "stratum": "all"}
        ),
        Event(9, "fault", {"fault": "nan", "cause": "NaN or Inf in the scores"}),
    )
    given = {
        "started": 1_760_000_000.123456 + seed,
        "ended": 1_760_000_009.654321 + seed,
        "finished": "length",
        "events": events,
        "settings": {
            "model": {"id": "tiny", "weights": "ab\0🙂'\""},
            "vectors": "f" * 64,
            "layer": 3,
            "calibration": None,
            "sampling": {"temperature": 0.7, "stop": ["%", "é"], "none": float("-inf")},
        },
        "tags": {"user": "Zoë; DROP TABLE traces", "run": "1"},
    }
    if content:
        given["texts"] = tuple(f"w{i}\0\u200d🙂"[: 1 + i % 5] for i in range(tokens))
        given["tokens"] = rng.integers(0, 2**31 - 1, tokens).astype(np.int32)
    return Trace(
        id=name,
        concepts=tuple(concepts),
        probes=probes,
        z=z,
        positions=np.arange(3, tokens + 3, dtype=np.int32),
        roles=("user",) * third + ("assistant",) * (tokens - third),
        phases=("none",) * third + ("thinking",) * third + ("answer",) * (tokens - 2 * third),
        generated=np.arange(tokens) >= third,
        **given | more,
    )


def same(one, other):
    """Bit by bit, types of arrays included."""
    for name in Trace.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, name)
        else:
            assert a == b, name


def files_of(store):
    return sorted(p.name for p in store.place.readings.iterdir()) if store.place.readings.exists() else []


def aged(folder):
    """All files of a folder look two hours old."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 7200,) * 2)


def child(code, *args, **more):
    """A Python process in which ``sys.argv[1:]`` are ``args``."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def whole(folder, at_least=0, acknowledged=()):
    """Every listed trace loads and verifies, counts fit, and pruning leaves exactly the files that are named."""
    with Store.open(folder, create=False) as store:
        rows = store.list()
        assert len(rows) >= at_least
        assert set(acknowledged) <= {row.id for row in rows}
        for row in rows:
            trace = store.load(row.id)
            assert (row.tokens, row.alarms) == (len(trace), sum(e.kind == "alarm" for e in trace.events))
        assert store.query("select count(*) n from events")["n"].to_pylist() == [2 * len(rows)]
        aged(store.place.readings)
        store.prune()
        assert files_of(store) == sorted(row.readings for row in rows)
    return rows
