"""The whole job over S3 on a cluster of three nodes: one dies midway, and one request in twenty fails."""

import subprocess
import time
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from job_runner import ENVIRONMENT, job_command, write_image
from media_factory import moving_frames, write_video
from ray_cluster import start_cluster
from s3_server import S3Server, environment, reached_by

from nst_ops.collection.constants import MANIFEST
from nst_ops.collection.integrity import verify
from nst_ops.collection.manifest import Manifest
from nst_ops.storage import Folder

NUM_IMAGES = 80
ARGUMENTS = ("--units.images", "2", "--units.segment_s", "1", "--storage.timeout_s", "5")


def upload(folder: Path, target: Folder) -> None:
    for path in folder.iterdir():
        target.write_bytes(path.name, path.read_bytes())


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.s3
def test_a_dead_node_and_failing_requests_cost_no_file(tmp_path: Path, s3: S3Server, network: Path) -> None:
    for index in range(NUM_IMAGES):
        write_image(tmp_path / "in" / f"{index}.png", 500, 400, seed=index)
    write_video(tmp_path / "in" / "video.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    bucket = s3.new_bucket()
    with reached_by(s3.endpoint):
        upload(tmp_path / "in", Folder(f"{bucket}/in"))
    source, output = f"{bucket}/in", f"{bucket}/out"
    with (
        FaultProxy(s3.endpoint, share=0.05, seed=1) as proxy,
        start_cluster(3, cpus=2, gpus=2, environment=environment(proxy.endpoint)) as cluster,
        reached_by(s3.endpoint),
    ):
        model = ("--model.checkpoint", str(network))
        command = job_command(source, output, *ARGUMENTS, *model, ray_address=cluster.address)
        variables = {**ENVIRONMENT, **environment(proxy.endpoint)}
        with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as job:
            while job.poll() is None and len(Folder(output).list(MANIFEST)) < 4:
                time.sleep(0.1)
            cluster.kill(1)
            assert len(Folder(output).list(MANIFEST)) < NUM_IMAGES / 4, "too late to show anything"
            _, errors = job.communicate(timeout=300)
        assert job.returncode == 0, errors
        assert proxy.faults.total() > 10
        report = verify(Folder(output))
        assert report.is_whole, report.examples
        rows = Manifest(Folder(output)).table().to_pylist()
    assert len(rows) == NUM_IMAGES + 1
    assert {(row["status"], row["attempts"]) for row in rows} == {("ok", 1)}
