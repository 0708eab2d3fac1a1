"""DuckDB on scratch disk: a hundred million rows are sorted, joined and counted in bounded memory."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from nst_ops.storage.scratch import ScratchFolder

_FETCH = 100_000
Values = Mapping[str, Any]
"""Values of the parameters that a statement names as ``$name``."""


def import_ahead() -> None:
    """Import pandas in a thread, if it is there: DuckDB does so for its first Arrow table, and it takes a second."""

    def import_pandas() -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("pandas")

    threading.Thread(target=import_pandas, name="import", daemon=True).start()


class Database:
    """Temporary database, which goes away with the object; what exceeds ``memory`` lies on the scratch disk."""

    def __init__(self, memory: str = "2GB") -> None:
        self._scratch = ScratchFolder()
        limits = {"memory_limit": memory, "temp_directory": f"{self._scratch.name}/spill"}
        self._connection = duckdb.connect(f"{self._scratch.name}/collection.duckdb", config={**limits})
        _silence(self._connection)

    def run(self, sql: str, values: Values | None = None, **tables: Any) -> None:
        """Run a statement; ``tables`` are Arrow tables or readers of batches that it names."""
        errors: list[Exception] = []
        for name, table in tables.items():
            is_reader = isinstance(table, pa.RecordBatchReader)
            self._connection.register(name, _watched(table, errors) if is_reader else table)
        try:
            self._connection.execute(sql, values or None)
        except duckdb.Error as error:
            raise (errors[0] if errors else error) from None  # not DuckDB's fault: it could not be read
        finally:
            for name in tables:
                self._connection.unregister(name)

    def rows(self, sql: str, values: Values | None = None) -> list[tuple[Any, ...]]:
        """Return all rows of a small result."""
        return self._connection.execute(sql, values or None).fetchall()

    def value(self, sql: str, values: Values | None = None) -> Any:
        """Return the one value of a result."""
        return self.rows(sql, values)[0][0]

    def table(self, sql: str, values: Values | None = None) -> pa.Table:
        """Return a result that fits into memory."""
        return self._connection.sql(sql, params=values or None).to_arrow_table()

    def batches(self, sql: str, values: Values | None = None) -> Iterator[pa.RecordBatch]:
        """Yield a large result batch by batch; other statements may run in between."""
        cursor = self._connection.cursor()
        _silence(cursor)
        try:
            yield from cursor.sql(sql, params=values or None).to_arrow_reader(_FETCH)
        finally:
            cursor.close()


def _silence(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET enable_progress_bar = false")  # a run shows its own


def _watched(reader: pa.RecordBatchReader, errors: list[Exception]) -> pa.RecordBatchReader:
    """Return the same reader with its exceptions kept: DuckDB turns them into text."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except Exception as error:
            errors.append(error)
            raise

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
