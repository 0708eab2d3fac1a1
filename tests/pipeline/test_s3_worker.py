"""A worker whose input and output lie on S3 does what it does on a disk."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from job_runner import write_image
from media_factory import moving_frames, write_video
from planning import units_of
from s3_server import S3Server, reached_by

from nst_ops.collection.inputs import Source
from nst_ops.collection.integrity import verify
from nst_ops.collection.manifest import Row
from nst_ops.collection.run_lock import write_run_record
from nst_ops.collection.units import cut_unit
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder

pytestmark = pytest.mark.s3


def worker_of(source: str, output: str, **sections: object) -> Worker:
    config = StylizeConfig(input=source, output=output, model={"kind": "identity"}, **sections)
    worker = Worker(new_run_spec(config, Source.open(source).root))
    write_run_record(worker.output, "run", config.model_dump(mode="json"), {})
    return worker


def stylize(worker: Worker) -> dict[str, Row]:
    """Everything, videos in segments; rows by path, and by member of a shard."""
    for unit in units_of(worker):
        result = worker(unit)
        results = [worker(part) for part in cut_unit(unit, result.segments)] if result.segments else [result]
        for part in results:
            assert not part.error
            assert not part.fatal
    root = worker.run_spec.source_root
    rows = worker.manifest.table().to_pylist()
    return {(row["source_uri"].removeprefix(root) + (row["source_member"] or "")): row for row in rows}


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Images, a shard of two, and a video of several segments."""
    source = tmp_path / "in"
    for index in range(6):
        write_image(source / f"a{index}.png", seed=index)
    with tarfile.open(source / "shard.tar", "w") as shard:
        for index in range(2):
            shard.add(source / f"a{index}.png", f"{index}.png")
    write_video(source / "video.mp4", moving_frames(120, 64, 48), options={"g": "5"})
    return source


@pytest.fixture
def remote(s3: S3Server, local: Path) -> str:
    """The same in a bucket."""
    bucket = s3.new_bucket()
    with reached_by(s3.endpoint):
        for path in local.iterdir():
            Folder(f"{bucket}/in").write_bytes(path.name, path.read_bytes())
    return bucket


def test_the_same_bytes_come_out_as_from_a_disk(s3: S3Server, local: Path, remote: str) -> None:
    units = {"segment_s": 1.0}
    expected = stylize(worker_of(str(local), str(local.parent / "out"), units=units))
    with reached_by(s3.endpoint):
        found = stylize(worker_of(f"{remote}/in", f"{remote}/out", units=units))
        assert found.keys() == expected.keys()
        assert {row["status"] for row in found.values()} == {"ok"}
        hashes = {name: row["output_sha256"] for name, row in found.items()}
        assert hashes == {name: row["output_sha256"] for name, row in expected.items()}
        video = Folder(f"{remote}/out").read_bytes("video.mp4")
        assert hashlib.sha256(video).hexdigest() == hashes["video.mp4"]
        assert verify(Folder(f"{remote}/out")).is_whole


def test_a_denied_object_is_a_failed_row_and_the_others_are_ok(s3: S3Server, remote: str) -> None:
    def deny(operation: str, path: str) -> str | None:
        return "denied" if operation == "GET" and "a3.png" in path else None

    with FaultProxy(s3.endpoint, rule=deny) as proxy, reached_by(proxy.endpoint):
        rows = stylize(worker_of(f"{remote}/in", f"{remote}/denied"))
    denied = rows.pop("a3.png")
    assert (denied["status"], denied["error_type"]) == ("failed", "PermissionError")
    assert "a3.png" in denied["error_message"]
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_a_storage_that_is_away_fails_the_unit_and_no_file(s3: S3Server, remote: str) -> None:
    with FaultProxy(s3.endpoint, rule=lambda *_: "skewed" if down else None) as proxy:
        down = False
        with reached_by(proxy.endpoint):
            worker = worker_of(f"{remote}/in", f"{remote}/away")
            units = units_of(worker)
            down = True
            results = [worker(unit) for unit in units]
            down = False
            assert all(result.storage_is_away and "clock" in result.error for result in results), results
            assert not worker.manifest.table().num_rows
