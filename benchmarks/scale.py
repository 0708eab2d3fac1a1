"""Measure what the driver of a collection of a hundred million images needs: planning and the manifest.

Only the files are simulated. Run it from the root of the repository: ``python benchmarks/scale.py --help``.
"""

from __future__ import annotations

import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PositiveInt

from benchmarks.figures_table import show_figures
from nst_ops.collection.constants import CATALOG_SCHEMA
from nst_ops.collection.inputs import catalog_batches
from nst_ops.collection.manifest import RECORDED, SCHEMA, Manifest, compact
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.styles import StyleChoice
from nst_ops.config import JobConfig, parse_config
from nst_ops.storage import FileInfo, Folder


class ScaleConfig(JobConfig):
    """Plan a simulated collection that is half done, and compact a manifest on the local disk."""

    epilog: ClassVar[str] = "example:\n  python benchmarks/scale.py --num_files 100000000\n"

    num_files: PositiveInt = 1_000_000
    """Files of the simulated collection."""
    num_parts: PositiveInt = 2_000
    """Parts of the manifest, of 100 rows each."""
    output: str = ""
    """JSON file to write the figures to. Default: none."""


_ROOT = "s3://bucket/photos/"
_STYLE = "starry_night"
_UNIT = 100
_BATCH = 100_000
_SAMPLE = 20_000

Figures = dict[str, float]
Int64Array = NDArray[np.int64]


def benchmark_planning(num_files: int) -> Figures:
    """Plan a simulated collection, of which every second unit is done, and read a sample of its units."""
    schema = pa.schema([SCHEMA.field(name) for name in RECORDED])
    catalog = pa.RecordBatchReader.from_batches(CATALOG_SCHEMA, _catalog(num_files))
    recorded = pa.RecordBatchReader.from_batches(schema, _recorded(num_files, schema))
    started = time.perf_counter()
    plan = Plan(catalog, recorded, PlanRules(StyleChoice((_STYLE,)), _UNIT), _ROOT)
    planned = time.perf_counter()
    units = plan.units()
    first = next(units)
    begun = time.perf_counter()
    sizes = [len(unit.items) for unit in itertools.islice(units, _SAMPLE)]
    ended = time.perf_counter()
    assert plan.num_done + plan.num_left == num_files
    assert set(sizes) == {len(first.items)} == {_UNIT}
    return {
        "files": num_files,
        "units_left": plan.num_units,
        "planning_s": planned - started,
        "first_unit_s": begun - planned,
        "units_per_s": len(sizes) / (ended - begun),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def benchmark_listing(num_files: int) -> Figures:
    """Turn a listing into the batches of a catalog, as is done while the storage answers."""
    numbers = range(num_files)
    infos = [FileInfo(f"{number:09d}.jpg", number, f"{number:032x}") for number in numbers]
    started = time.perf_counter()
    assert sum(map(len, catalog_batches(infos))) == num_files
    return {"files_per_s": num_files / (time.perf_counter() - started)}


def benchmark_compaction(num_parts: int) -> Figures:
    """Commit units to a manifest on the local disk, compact it, and read what is done before and after."""
    with tempfile.TemporaryDirectory(prefix="nst-ops-") as folder:
        manifest = Manifest(Folder(folder))
        row = {**dict.fromkeys(SCHEMA.names), "style": _STYLE, "status": "ok"}
        for part in range(num_parts):
            names = [f"{_ROOT}{part * _UNIT + index:09d}.jpg" for index in range(_UNIT)]
            manifest.commit(f"{part:09d}", [{**row, "item_id": name, "source_uri": name} for name in names])
        times = [time.perf_counter()]
        for step in (lambda: _count(manifest), lambda: compact(manifest, 2), lambda: _count(manifest)):
            step()
            times.append(time.perf_counter())
        reading_s, compacting_s, reading_after_s = np.diff(times).tolist()
        return {
            "parts": num_parts,
            "parts_after": len(manifest.parts()),
            "reading_s": reading_s,
            "compacting_s": compacting_s,
            "reading_after_s": reading_after_s,
        }


def _count(manifest: Manifest) -> int:
    return sum(len(batch) for batch in manifest.reader(RECORDED))


def _catalog(count: int) -> Iterator[pa.RecordBatch]:
    """The catalog of a listing of S3, in its order."""
    for numbers in _numbers(count):
        yield _batch(numbers, CATALOG_SCHEMA, relpath=_relpaths(numbers), kind="image")


def _recorded(count: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows of the manifest for every second unit."""
    for numbers in _numbers(count):
        done = numbers[numbers // _UNIT % 2 == 0]
        uris = pc.binary_join_element_wise(_ROOT, _relpaths(done), "")
        yield _batch(done, schema, source_uri=uris, kind="image", style=_STYLE, status="ok")


def _numbers(count: int) -> Iterator[Int64Array]:
    for begin in range(0, count, _BATCH):
        yield np.arange(begin, min(begin + _BATCH, count))


def _batch(numbers: Int64Array, schema: pa.Schema, **columns: Any) -> pa.RecordBatch:
    """A batch of files by number, with sizes and versions as long as an ETag; a text fills its column."""
    columns |= {
        "source_bytes": pa.array(20_000 + numbers * 7919 % 90_000),
        "source_version": pc.utf8_lpad(pc.cast(numbers * 2_654_435_761, pa.string()), 32, "0"),
    }
    values = [columns.get(field.name) for field in schema]
    return pa.record_batch([_column(value, len(numbers)) for value in values], schema=schema)


def _column(value: Any, count: int) -> pa.Array:
    is_same = value is None or isinstance(value, str)
    return pa.repeat(pa.scalar(value, pa.string()), count) if is_same else value


def _relpaths(numbers: Int64Array) -> pa.Array:
    """Paths by number, ten thousand files in each folder."""
    names = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), 9, "0")
    folders = pc.utf8_slice_codeunits(names, 0, 5)
    return pc.binary_join_element_wise(folders, "/", names, ".jpg", "")


def main() -> int:
    """Measure, each case in a process of its own, print, and write the figures."""
    config = parse_config(ScaleConfig)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        figures = {
            "planning": pool.apply(benchmark_planning, (config.num_files,)),
            "listing": pool.apply(benchmark_listing, (1_000_000,)),
            "manifest": pool.apply(benchmark_compaction, (config.num_parts,)),
        }
    show_figures(figures, config.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
