"""The readings of one trace: one Parquet file, a row a token, about 245 bytes a token for 171 concepts x 2 probes.

Columns: ``position``, ``role``, ``phase``, ``generated``, ``z``, and ``text`` and ``token`` where content is kept.

``z`` is **one** column of fixed-size bytes: a token's int8 readings, probe after probe. Measured on noise N(0, 1.5) with
AR(1) 0.7, in bytes a token:

================================================== ========== ========== ============
layout                                             100 tokens 300 tokens 2,000 tokens
================================================== ========== ========== ============
one fixed-size bytes column (this)                 249.4      244.6      242.9
one such column a probe                            +1.5       +0.4       +0.1
list of uint8, byte-stream split                   +2.7       +1.5       +0.4
list of uint8, plain (a byte is stored as four)    +133       +119       +117
================================================== ========== ========== ============

That noise holds 240.7 bytes a token, token by token, so nothing simpler does better. Differences between tokens would
save 6 % more and make every query a running sum. DuckDB takes a concept's byte out of ``z`` by its
place (`store_query.py`), and faster than out of a list.

Statistics, the Arrow schema and dictionaries of anything but role and phase are left out: on short traces they weigh more
than they help.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.files import disk_errors, replacing
from affectscope.monitoring.trace import Trace

SUFFIX = ".parquet"
_PACKED = ("z", "text", "token")
"""Columns that zstd makes smaller (its lowest level: higher ones find nothing in noise); the frame outweighs the others."""


def encode(trace: Trace) -> bytes:
    """The Parquet file of a trace's readings.

    Raises:
        AffectscopeError: a text that is not Unicode.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, width = len(trace), len(trace.probes) * len(trace.concepts)
    z = np.ascontiguousarray(trace.z.transpose(1, 0, 2)).astype(np.int8, copy=False)
    columns: dict[str, Any] = {
        "position": pa.array(np.asarray(trace.positions, np.int32)),
        "role": pa.array(trace.roles, pa.string()),
        "phase": pa.array(trace.phases, pa.string()),
        "generated": pa.array(np.asarray(trace.generated, bool)),
        "z": pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), count, [None, pa.py_buffer(z)]),
    }
    encodings = {"position": "DELTA_BINARY_PACKED", "generated": "RLE", "z": "PLAIN"}
    try:
        if trace.texts is not None:
            columns["text"] = pa.array(trace.texts, pa.string())
    except UnicodeEncodeError as error:
        raise AffectscopeError(f"a token's text is not Unicode ({error.reason}): decode it with U+FFFD") from error
    if trace.tokens is not None:
        columns["token"] = pa.array(np.asarray(trace.tokens, np.int32))
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(list(columns.values()), schema=schema),
        out,
        compression={name: "zstd" if name in _PACKED else "none" for name in columns},
        use_dictionary=["role", "phase"],
        column_encoding=encodings,
        write_statistics=False,
        store_schema=False,
    )
    return out.getvalue()


def decode(payload: bytes, probes: int, concepts: int) -> dict[str, Any]:
    """The arrays and texts of :func:`encode` as the fields of a ``Trace``; its ``z`` is ``[probes, tokens, concepts]``."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(payload))
    z = np.frombuffer(b"".join(table["z"].to_pylist()), np.int8).reshape(len(table), probes, concepts)
    kept = table.column_names
    return {
        "positions": table["position"].to_numpy(),
        "roles": tuple(table["role"].to_pylist()),
        "phases": tuple(table["phase"].to_pylist()),
        "generated": table["generated"].to_numpy(),
        "z": np.ascontiguousarray(z.transpose(1, 0, 2)),
        "texts": tuple(table["text"].to_pylist()) if "text" in kept else None,
        "tokens": table["token"].to_numpy() if "token" in kept else None,
    }


def new_name(trace_id: str, mark: str) -> str:
    """A file name that tells the trace and the store, and that no other writer has, whatever the id is made of."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', trace_id)[:64]}-{mark}-{secrets.token_hex(6)}{SUFFIX}"


def names_of(mark: str) -> re.Pattern[str]:
    """What the names of a store's files look like, those among them that were never finished included."""
    return re.compile(rf"\.?[A-Za-z0-9_-]+-{mark}-[0-9a-f]{{12}}{re.escape(SUFFIX)}(\..+)?")


def write(path: Path, payload: bytes) -> None:
    """Write and fsync; the file has its name only when it is whole.

    Raises:
        AffectscopeError: the disk is full or not writable.
    """
    with replacing(path, "--store") as temporary, temporary.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    if os.name != "posix":  # where a folder cannot be opened, the system writes its entries itself
        return
    with disk_errors(path, "--store"):
        folder = os.open(path.parent, os.O_RDONLY)  # the entry must be on disk, too, before a row names it
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path, sha256: str, trace_id: str) -> bytes:
    """The bytes of a readings file, verified.

    Raises:
        AffectscopeError: it is missing, cannot be read, or was altered.
    """
    remedy = f"restore it from a copy, or drop the trace with `affectscope traces prune {trace_id}`"
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise AffectscopeError(f"the readings {path} cannot be read ({error.strerror}): {remedy}") from error
    if hashlib.sha256(payload).hexdigest() != sha256:
        raise AffectscopeError(f"the readings {path} were altered (their SHA-256 differs): {remedy}")
    return payload
