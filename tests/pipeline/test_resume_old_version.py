"""An output that version 0.1 has begun and not finished goes on with this one."""

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runner import check_invariants, read_manifest
from media_factory import decoded

from nst_ops.collection.integrity import verify
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.storage import Folder

RECORDED = Path(__file__).parent / "old_version"
"""Input and output of a run that was killed; its README says how it was made."""
OLD_ROOT = "{root}"
"""Stands in the recorded files for the folder that they lay in."""
MODIFIED_NS = 1_700_000_000 * 10**9
"""Time of the last change of every recorded input: a part of its version."""
NAMESPACE = uuid.UUID("5d0dd3a0-7a9c-4d5e-9a43-3f1f8a2b6c11")


def name_of(*parts: str) -> str:
    """The id of what has these parts, as version 0.1 made it."""
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts)))


@dataclass(frozen=True)
class OldRun:
    """A recorded run, moved to a folder of the test."""

    root: Path

    @classmethod
    def unpack(cls, root: Path) -> "OldRun":
        """Copy the recorded files, as if they had been made at ``root``."""
        shutil.copytree(RECORDED / "input", root / "in")
        shutil.copytree(RECORDED / "stylized", root / "out")
        run = cls(root)
        for path in run.source.rglob("*"):
            os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
        for path in (run.output / "run.json", run.output / "report/progress.json"):
            path.write_text(path.read_text().replace(OLD_ROOT, str(root)))
        for path in (run.output / "manifest").glob("*.parquet"):
            run._move_rows(path)
        (segments,) = (run.output / ".segments").iterdir()
        segments.rename(segments.with_name(run.video_folder()))
        return run

    @property
    def source(self) -> Path:
        return self.root / "in"

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def config(self) -> StylizeConfig:
        record = json.loads((self.output / "run.json").read_text())
        config = StylizeConfig.model_validate(record["config"])
        return config.model_copy(update={"executor": "local", "ray_address": "auto"})

    def video_folder(self) -> str:
        """The name of the folder of the video's segments, which depends on its URI, version and cuts."""
        video = self.source / "video.mp4"
        unit = name_of(name_of(str(video)), "starry_night")
        starts = ["0", "12800", "25600", "38400"]
        cut = name_of(unit, str(MODIFIED_NS), str(video.stat().st_size), *starts)
        return name_of(cut, "starry_night")

    def _move_rows(self, path: Path) -> None:
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            for key in ("source_uri", "output_uri"):
                row[key] = row[key].replace(OLD_ROOT, str(self.root))
            row["item_id"] = name_of(row["source_uri"])
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


@pytest.fixture
def old(tmp_path: Path) -> OldRun:
    return OldRun.unpack(tmp_path)


def test_an_output_of_the_old_version_is_resumed(old: OldRun) -> None:
    before = {row["source_uri"]: row for row in read_manifest(old.output)}
    assert {Path(str(uri)).name for uri in before} == {"a.png", "b.jpg"}
    finished = sorted((old.output / ".segments").rglob("*.json"))
    assert [path.name for path in finished] == ["00000.json", "00001.json"]
    for path in finished:  # seconds that no segment takes here, and so shows whether it was done again
        record = json.loads(path.read_text())
        record["seconds"]["stylize_s"] = 10_000.0
        path.write_text(json.dumps(record))

    summary = stylize_collection(old.config)
    assert summary.counts == {"ok": 4}
    assert summary.num_already_done == 2
    rows = {row["source_uri"]: row for row in read_manifest(old.output)}
    assert len(rows) == 4
    for uri, row in before.items():
        assert {key: rows[uri][key] for key in row} == row, "a finished row has changed"
    video = check_invariants(old.output)["video.mp4"]
    assert (video["num_frames"], video["attempts"]) == (100, 1)
    assert float(str(video["stylize_s"])) > 20_000, "a finished segment was done again"
    assert len(decoded(old.output / "video.mp4")) == 100
    assert verify(Folder(str(old.output))).is_whole
    assert not (old.output / ".segments").exists()
    assert stylize_collection(old.config).num_already_done == 4


def test_another_model_in_an_old_output_is_refused(old: OldRun) -> None:
    model = old.config.model.model_copy(update={"checkpoint": "anime_faces"})
    with pytest.raises(ConfigError, match="style was 'starry_night', is now 'anime_faces'"):
        stylize_collection(old.config.model_copy(update={"model": model}))
