"""Whole runs on Ray Train: two workers, and workers and drivers that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from job_runner import ENVIRONMENT, ROOT
from training_factory import tiny, tiny_vit_adain

from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.training import train_network
from nst_ops.training.data import Batches, ingest, list_images
from nst_ops.training.setup import read_setup


def losses(output: Path) -> list[dict[str, float]]:
    """Rows of all steps."""
    rows: list[dict[str, float]] = json.loads((output / "losses.json").read_text())["train"]
    return rows


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_learn_what_one_does(cluster, files, tmp_path):
    config = tiny_vit_adain(files, tmp_path / "out")
    config = config.model_copy(update={"workers": config.workers.model_copy(update={"count": 2})})
    assert train_network(config)["workers"] == 2

    images, _ = ingest(config, list_images(config, "content"), "content").split()
    alone = read_setup(config).step(config, torch.device("cpu"), styles=images)
    batches = Batches(images, config.train.batch_size, config.train.image_size, 0, styles=images)
    for row in losses(tmp_path / "out"):
        content, styles = (crops.cut() for crops in batches(row["step"]))
        one = alone(content, row["step"], styles).terms
        for term in ("content", "gram", "identity", "adversarial", "discriminator"):
            assert row[term] == pytest.approx(one[term], rel=0.02), (row["step"], term)
    assert not (tmp_path / "out/.ray_train").exists()


@pytest.mark.parametrize(
    ("workers", "batch_size", "words"),
    [
        ({"count": 2, "device": "cpu"}, 3, "3 cannot be shared out among 2 workers: take a multiple of 2"),
        ({"device": "cuda"}, 2, "the cluster has no GPU; take auto or cpu"),
        ({"count": 4, "device": "cpu"}, 8, "4 workers need 4 CPUs, the cluster has 2"),
    ],
)
def test_workers_that_cannot_be_had_are_refused(workers, batch_size, words, monkeypatch):
    from nst_ops.training import on_ray

    monkeypatch.setattr(on_ray, "num_gpus", lambda: 0)
    monkeypatch.setattr(on_ray, "num_cpus", lambda: 2)
    config = TrainJohnsonConfig(
        data={"content": "c"}, style="s", output="o", workers=workers, train={"batch_size": batch_size}
    )
    with pytest.raises(ConfigError, match=words):
        on_ray.choose_workers(config, complete=True)


def job(config: TrainJohnsonConfig, folder: Path, ray_address: str) -> list[str]:
    """The run as a person starts it, on the Ray at an address."""
    (folder / "run.yaml").write_text(config.model_dump_json(exclude_none=True))  # JSON is YAML
    command = [sys.executable, str(ROOT / "jobs/train_johnson.py"), "--config", str(folder / "run.yaml")]
    return [*command, "--ray_address", ray_address]


def train_workers() -> list[psutil.Process]:
    """Processes that train on the Ray that this process has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, timeout_s: float, job: subprocess.Popen) -> None:
    """Until ``condition()``, while the job lives."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert job.poll() is None, f"the job ended with {job.returncode}"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_killed_worker_and_a_killed_driver_change_nothing(cluster, files, tmp_path):
    """The curve of a run that was killed twice is, to the last digit, that of one that was not."""
    output = tmp_path / "out"
    config = tiny(files, output, steps=150, save_every=10, ema_decay=0.9)
    noise = config.loss.noise.model_copy(update={"weight": 1.0})
    config = config.model_copy(update={"loss": config.loss.model_copy(update={"noise": noise})})
    command = job(config, tmp_path, cluster)

    def saved() -> int:
        return len(losses(output)) if (output / "losses.json").exists() else 0

    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, env=ENVIRONMENT, stderr=log) as first:
        wait_for(lambda: saved() >= 20, 500, first)
        (worker,) = train_workers()
        worker.kill()
        at_kill = saved()
        wait_for(lambda: saved() > at_kill, 500, first)
        os.kill(first.pid, signal.SIGKILL)
    assert saved() < 150, "the kills came too late to show anything"
    assert "a worker was lost: training goes on from step" in (tmp_path / "log").read_text()

    deadline = time.monotonic() + 60
    while train_workers() and time.monotonic() < deadline:  # Ray ends them with their driver
        time.sleep(0.2)

    # what Ray has begun, this process can end; and it gives the same alone
    here = {"executor": "local"}
    assert train_network(config.model_copy(update=here))["steps"] == 150
    train_network(config.model_copy(update=here | {"output": str(tmp_path / "reference")}))
    assert losses(output) == losses(tmp_path / "reference")
