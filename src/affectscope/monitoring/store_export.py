"""Traces in one file, for other tools. Readings are verified, numbers are z in s.d., a missing reading is null.

- ``jsonl``: a line a trace, with all that is known of it; ``z[probe]`` is ``[tokens][concepts]``.
- ``parquet``: a row a token of every trace: trace, position, role, phase, generated, text, token, events (JSON), and a
  float32 column ``z.PROBE.CONCEPT`` for each that any of the traces reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing
from affectscope.monitoring.trace import Trace, restore

if TYPE_CHECKING:
    import pyarrow as pa

    from affectscope.monitoring.store import Store


def export(store: Store, ids: tuple[str, ...], out: Path, form: str) -> int:
    """See ``Store.export``; one trace at a time is in memory, and ``out`` is whole or absent."""
    writers = {"jsonl": _write_jsonl, "parquet": _write_parquet}
    if form not in writers:
        raise AffectscopeError(f"traces cannot be exported as {form}: give --format jsonl or parquet")
    with replacing(out) as temporary:
        writers[form](store, ids, temporary)
    return len(ids)


def as_dict(trace: Trace) -> dict[str, Any]:
    """All of a trace in plain values, z in s.d. and None where a reading is missing."""
    z = restore(trace.z).astype(object)
    z[np.isnan(restore(trace.z))] = None
    return {
        "id": trace.id,
        "started": trace.started,
        "ended": trace.ended,
        "finished": trace.finished,
        "settings": dict(trace.settings),
        "tags": dict(trace.tags),
        "probes": list(trace.probes),
        "concepts": list(trace.concepts),
        "positions": trace.positions.tolist(),
        "roles": list(trace.roles),
        "phases": list(trace.phases),
        "generated": trace.generated.tolist(),
        "texts": None if trace.texts is None else list(trace.texts),
        "tokens": None if trace.tokens is None else trace.tokens.tolist(),
        "events": [_event(e.position, e.kind, e.detail) for e in trace.events],
        "z": dict(zip(trace.probes, z.tolist(), strict=True)),
    }


def _event(position: int, kind: str, detail: Any) -> dict[str, Any]:
    return {"position": position, "kind": kind, "detail": dict(detail)}


def _write_jsonl(store: Store, ids: tuple[str, ...], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for trace_id in ids:
            file.write(json_text(as_dict(store.load(trace_id))) + "\n")


def _write_parquet(store: Store, ids: tuple[str, ...], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for trace_id in ids for name in _columns(*store.layout(trace_id))))
    fields = {"trace": pa.string(), "position": pa.int32(), "role": pa.string(), "phase": pa.string()}
    fields |= {"generated": pa.bool_(), "text": pa.string(), "token": pa.int32(), "events": pa.string()}
    schema = pa.schema([*fields.items(), *((name, pa.float32()) for name in names)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for trace_id in ids:
            writer.write_table(_table(store.load(trace_id), schema))


def _columns(probes: tuple[str, ...], concepts: tuple[str, ...]) -> Iterator[str]:
    return (f"z.{probe}.{concept}" for probe in probes for concept in concepts)


def _table(trace: Trace, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    count = len(trace)
    happened: dict[int, list[dict[str, Any]]] = {}
    for event in trace.events:
        happened.setdefault(event.position, []).append(_event(event.position, event.kind, event.detail))
    columns: dict[str, Any] = {
        "trace": [trace.id] * count,
        "position": trace.positions,
        "role": trace.roles,
        "phase": trace.phases,
        "generated": trace.generated,
        "text": trace.texts or [None] * count,
        "token": [None] * count if trace.tokens is None else trace.tokens,
        "events": [json_text(happened[p]) if p in happened else None for p in trace.positions.tolist()],
    }
    z = restore(trace.z).transpose(0, 2, 1).reshape(-1, count)
    read = dict(zip(_columns(trace.probes, trace.concepts), z, strict=True))
    missing = np.full(count, np.nan, np.float32)
    arrays = [
        pa.array(columns[f.name], f.type)
        if f.name in columns
        else pa.array(read.get(f.name, missing), from_pandas=True)
        for f in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
