"""Clusters of several nodes: one dies midway while one request in twenty fails, or one cannot work at all."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fault_proxy import FaultProxy
from job_runner import ENVIRONMENT, check_invariants, job_command, read_manifest, run_job, write_image
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
        # The GPUs of this cluster are but numbers.
        model = ("--model.checkpoint", str(network), "--model.device", "cpu", "--workers.gpus", "1")
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


@pytest.mark.slow
@pytest.mark.ray
def test_a_node_that_cannot_work_does_not_stop_the_others(tmp_path: Path) -> None:
    for index in range(24):
        write_image(tmp_path / "in" / f"{index}.png", seed=index)
    switch = tmp_path / "switch"
    switch.write_text("one cannot start")
    script = str(Path(__file__).parents[1] / "faulty_models.py")
    paths = ("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    model = ("--model.kind", "faulty", "--model.checkpoint", str(switch), "--units.images", "2")
    with start_cluster(2, cpus=1, gpus=0) as cluster:
        command = [sys.executable, script, *paths, *model, "--executor", "ray", "--ray_address", cluster.address]
        job = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert job.returncode == 0, job.stderr
    assert "cannot work on this run: no such device; the others go on" in job.stderr
    rows = check_invariants(tmp_path / "out")
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(rows) == 24


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can be used here")
def test_a_granted_gpu_that_cannot_be_used_is_one_line(tmp_path: Path, network: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    with start_cluster(1, cpus=1, gpus=1) as cluster:
        options = ("--model.checkpoint", str(network))
        job = run_job(tmp_path / "in", tmp_path / "out", *options, ray_address=cluster.address)
    assert job.returncode == 1
    (line,) = [line for line in job.stderr.splitlines() if line.startswith("fatal: ")]
    assert "cannot work on this run: GPU 0 was granted, but torch cannot use it" in line
    assert read_manifest(tmp_path / "out") == []
