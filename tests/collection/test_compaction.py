"""Compaction moves rows into few files; at no instant is a row there twice, and none is ever lost."""

import threading
from collections.abc import Iterable
from pathlib import Path

import pyarrow.dataset
import pytest

from nst_ops.collection.constants import COMPACTING, MANIFEST
from nst_ops.collection.manifest import Manifest, compact, finish_compaction
from nst_ops.storage import Folder

UNITS, ITEMS = 12, 5


class Killed(Exception):
    """The process ended here."""


class DyingFolder(Folder):
    """A folder whose process ends before its nth change."""

    left = 10**9

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def remove_many(self, relpaths: Iterable[str]) -> None:
        for relpath in relpaths:
            self._spend()
            super().remove_many([relpath])

    def rename(self, source: str, target: str) -> None:
        self._spend()
        super().rename(source, target)

    def remove(self, relpath: str) -> None:
        self._spend()
        super().remove(relpath)


def fill(output: Folder) -> set[str]:
    manifest = Manifest(output)
    names = [[f"{unit}/{item}.jpg" for item in range(ITEMS)] for unit in range(UNITS)]
    for unit, items in enumerate(names):
        rows = [{"item_id": name, "source_uri": name, "style": "s", "status": "ok"} for name in items]
        manifest.commit(f"unit-{unit}", rows)
    return {name for items in names for name in items}


def seen_by_anybody(folder: Path) -> list[str]:
    """What a reader sees that knows nothing of compaction."""
    paths = sorted(str(path) for path in (folder / MANIFEST).glob("*.parquet"))
    table = pyarrow.dataset.dataset(paths).to_table() if paths else None
    return table["source_uri"].to_pylist() if table else []


@pytest.mark.parametrize("root", ["local", "memory"])
def test_many_parts_become_one_with_every_row(tmp_path, root):
    output = Folder(str(tmp_path) if root == "local" else f"memory://{tmp_path.name}")
    rows, manifest = fill(output), Manifest(output)
    compact(manifest, at_least=UNITS + 1)
    assert len(manifest.parts()) == UNITS, "too few to be worth it"
    compact(manifest, at_least=UNITS)
    assert len(manifest.parts()) == 1
    assert sorted(manifest.table()["source_uri"].to_pylist()) == sorted(rows)
    assert not output.exists(COMPACTING)
    manifest.forget({("3/1.jpg", "s")})
    manifest.commit("unit-3", [{"item_id": "3/1.jpg", "source_uri": "3/1.jpg", "style": "s", "status": "ok"}])
    assert sorted(manifest.table()["source_uri"].to_pylist()) == sorted(rows)


@pytest.mark.parametrize("steps", range(UNITS + 3))
def test_a_kill_at_any_step_loses_no_row_and_shows_none_twice(tmp_path, steps):
    output = DyingFolder(str(tmp_path))
    rows, manifest = fill(output), Manifest(output)
    output.left = steps
    try:
        compact(manifest, at_least=2)
    except Killed:
        assert steps < UNITS + 2
    seen = seen_by_anybody(tmp_path)
    assert len(seen) == len(set(seen))
    output.left = 10**9
    assert sorted(manifest.table()["source_uri"].to_pylist()) == sorted(rows)
    finish_compaction(manifest)
    assert sorted(seen_by_anybody(tmp_path)) == sorted(rows)
    assert sorted(manifest.table()["source_uri"].to_pylist()) == sorted(rows)
    assert not output.exists(COMPACTING)


def row(name: str) -> dict[str, object]:
    return {"item_id": name, "source_uri": name, "style": "s", "status": "ok"}


def names(manifest: Manifest) -> list[str]:
    return sorted(manifest.table(["source_uri"])["source_uri"].to_pylist())


@pytest.mark.parametrize("root", ["local", "memory"])
def test_units_commit_while_others_are_compacted(tmp_path, root):
    output = Folder(str(tmp_path) if root == "local" else f"memory://{tmp_path.name}")
    rows, manifest = fill(output), Manifest(output)
    settled = {f"unit-{unit}" for unit in range(0, UNITS, 2)}
    at_work = [f"unit-{unit}" for unit in range(1, UNITS, 2)]  # each has rows of an earlier run

    def work() -> None:
        for number in range(60):
            unit, name = at_work[number % len(at_work)], f"late-{number}"
            manifest.commit(unit, [row(name)])
            manifest.commit(f"new-{number}", [row(f"new-{number}")])
            settled.add(f"new-{number}")
            rows.update({name, f"new-{number}"})

    worker = threading.Thread(target=work)
    worker.start()
    while worker.is_alive():
        compact(manifest, at_least=2, keep=lambda part: part not in settled)
    worker.join()
    assert names(manifest) == sorted(rows)
    if root == "local":
        assert sorted(seen_by_anybody(tmp_path)) == sorted(rows)
    assert {f"{MANIFEST}/{unit}.parquet" for unit in at_work} < set(manifest.parts())
    assert len(manifest.parts()) < 60


@pytest.mark.parametrize("begin", ["before", "within"])
@pytest.mark.parametrize("root", ["local", "memory"])
def test_a_reader_keeps_its_rows_while_parts_are_compacted(tmp_path, root, begin):
    output = Folder(str(tmp_path) if root == "local" else f"memory://{tmp_path.name}")
    rows, manifest = fill(output), Manifest(output)
    seen: list[str] = []
    if begin == "within":  # the compacted part is there, and those that it replaces are not yet gone
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nst_ops.collection.manifest.finish_compaction", lambda manifest: None)
            compact(manifest, at_least=1)
        manifest.commit("later", [row("later")])
        rows.add("later")
    for number, read in enumerate(manifest.read_parts(manifest.parts(), ["source_uri"])):
        if number == (3 if begin == "before" else 0):
            compact(manifest, at_least=1)
            finish_compaction(manifest)
        seen.extend(read()["source_uri"].to_pylist())
    assert sorted(seen) == sorted(rows)


def test_a_part_that_is_gone_for_good_is_an_error(tmp_path):
    manifest = Manifest(Folder(str(tmp_path)))
    fill(manifest.output)
    parts = manifest.read_parts(manifest.parts())
    next(parts)
    manifest.output.remove(MANIFEST)
    with pytest.raises(FileNotFoundError, match="not there any more"):
        next(parts)()
