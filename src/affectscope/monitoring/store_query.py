"""SQL over all traces, by DuckDB in memory: it reads the Parquet files where they lie and can change nothing.

The views::

    traces    id, number, started, ended, finished, tokens, generated, alarms, faults, model, vectors, layer, calibration,
              probes, concepts (lists), settings, tags (JSON: tags->>'user'), content, readings, sha256
    events    trace, sequence, position, kind, detail (JSON: detail->>'rule')
    readings  trace, token_index, position, role, phase, generated, alarm, fault, text, token, z (bytes)
    z         the same with one row a probe and concept: probe, concept, z (in s.d.; NULL where a reading is missing)

So ``select * from z where concept = 'desperate'``. A filter on concept or probe chooses a byte before any row is made.
Files are not verified here, which would read all of them; ``load`` and ``export`` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, select

from affectscope.errors import AffectscopeError
from affectscope.monitoring.store_database import Place, one_line
from affectscope.monitoring.store_schema import EventRow, LayoutRow, TraceRow, from_json
from affectscope.monitoring.trace import MISSING, STEP

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_VIEWS = f"""
CREATE VIEW traces AS SELECT t.* EXCLUDE (layout, path, settings, tags), l.probes, l.concepts,
    t.settings::JSON AS settings, t.tags::JSON AS tags FROM _traces t JOIN _layouts l ON t.layout = l.id;
CREATE VIEW events AS SELECT * REPLACE (detail::JSON AS detail) FROM _events;
CREATE VIEW _marked AS SELECT trace, position, bool_or(kind = 'alarm') AS alarm, bool_or(kind = 'fault') AS fault
    FROM _events GROUP BY ALL;
CREATE VIEW _joined AS SELECT t.id AS trace, t.layout, f.file_row_number AS token_index, f.position, f.role, f.phase,
    f.generated, coalesce(m.alarm, false) AS alarm, coalesce(m.fault, false) AS fault, f.text, f.token, f.z
    FROM _files f JOIN _traces t ON f.filename = t.path LEFT JOIN _marked m ON m.trace = t.id AND m.position = f.position;
CREATE VIEW readings AS SELECT * EXCLUDE layout FROM _joined;
CREATE VIEW z AS SELECT j.* EXCLUDE (layout, z), p.probe, p.concept,
    nullif((('0x' || hex(j.z[p.place:p.place]))::INTEGER + 128) % 256 - 128, {MISSING}) * {STEP}::FLOAT AS z
    FROM _joined j JOIN _places p ON j.layout = p.layout;
"""
_EMPTY = """SELECT NULL::VARCHAR AS filename, 0 AS file_row_number, 0 AS position, '' AS role, '' AS phase,
    false AS generated, ''::BLOB AS z, NULL::VARCHAR AS text, NULL::INTEGER AS token WHERE false"""


def query(engine: Engine, place: Place, sql: str) -> pa.Table:
    """See ``Store.query``: the answer to one SELECT."""
    import duckdb

    with one_line(place.name), engine.connect() as connection:
        traces, events, layouts = (
            [dict(row._mapping) for row in connection.execute(select(*table.__table__.columns))]
            for table in (TraceRow, EventRow, LayoutRow)
        )
    folder = place.readings.resolve()
    for row in traces:
        path = folder / row["readings"]
        if not path.is_file():
            raise AffectscopeError(
                f"the readings {path} are missing: restore the file from a copy, or drop the trace with "
                f"`affectscope traces prune {row['id']}`"
            )
        row["path"] = str(path)
    with duckdb.connect() as database:
        try:
            statements = database.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise AffectscopeError("a query is one SELECT: write others to your own database, from an export")
            _define(database, traces, events, layouts)
            found = database.sql(statements[0]).to_arrow_table()
            return found.rename_columns(_distinct(found.column_names))
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise AffectscopeError(f"the query failed ({first}): its views are traces, events, readings, z") from error


def _define(
    database: duckdb.DuckDBPyConnection,
    traces: list[dict[str, Any]],
    events: list[dict[str, Any]],
    layouts: list[dict[str, Any]],
) -> None:
    """Register the small tables, make the views, and then shut out every file but the readings."""
    import pyarrow as pa

    read = {row["id"]: (from_json(row["probes"]), from_json(row["concepts"])) for row in layouts}
    places = [
        (key, probe, concept, 1 + i * len(concepts) + k)
        for key, (probes, concepts) in read.items()
        for i, probe in enumerate(probes)
        for k, concept in enumerate(concepts)
    ]
    names = pa.list_(pa.string())
    tables = {
        "_traces": pa.Table.from_pylist(traces, schema=_schema(TraceRow.__table__, path=pa.string())),
        "_events": pa.Table.from_pylist(events, schema=_schema(EventRow.__table__)),
        "_layouts": pa.table(
            {
                "id": pa.array(read, pa.string()),
                "probes": pa.array([probes for probes, _ in read.values()], names),
                "concepts": pa.array([concepts for _, concepts in read.values()], names),
            }
        ),
        "_places": pa.table(
            {
                name: pa.array([place[i] for place in places], pa.int64() if name == "place" else pa.string())
                for i, name in enumerate(("layout", "probe", "concept", "place"))
            }
        ),
    }
    for name, table in tables.items():
        database.register(name, table)
    paths, escaped = [row["path"] for row in traces], [_escaped(row["path"]) for row in traces]
    kept = {row["content"] for row in traces}
    database.execute(f"CREATE VIEW _files AS {_files_sql(escaped, kept)}")
    database.execute(_VIEWS)
    database.execute(f"SET allowed_paths = {_sql_list([*paths, *escaped])}")
    for setting in (
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        database.execute(f"SET {setting}")


def _files_sql(escaped: list[str], kept: set[bool]) -> str:
    if not escaped:
        return _EMPTY
    more = "text, token" if True in kept else "NULL::VARCHAR AS text, NULL::INTEGER AS token"
    # By name means one more look into every file, and is needed only where some keep their content and some do not.
    options = f"filename = true, file_row_number = true, union_by_name = {len(kept) == 2}"
    columns = "filename, file_row_number, position, role, phase, generated, z"
    return f"SELECT {columns}, {more} FROM read_parquet({_sql_list(escaped)}, {options})"


def _distinct(names: list[str]) -> list[str]:
    """A name that comes again is told apart, so that a row can be a dictionary."""
    found: list[str] = []
    for name in names:
        while name in found:
            name += "_"
        found.append(name)
    return found


def _schema(table: Any, **more: Any) -> Any:
    """Arrow's schema of an SQL table."""
    import pyarrow as pa

    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return pa.schema([*((c.name, types[c.type.python_type]) for c in table.columns), *more.items()])


def _escaped(path: str) -> str:
    """A path that DuckDB does not take for a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _sql_list(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"
