"""Compaction moves rows into few files; at no instant is a row there twice, and none is ever lost."""

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
