"""Whole runs on Ray Train: what comes out, what is refused, and what a kill costs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from job_runner import ENVIRONMENT, ROOT, run_job
from PIL import Image

from nst_ops.config import ConfigError, TrainJohnsonConfig, TrainVitAdainConfig
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.training import TrainingError, train_network
from nst_ops.training.data import Batches, Photos, hold_out, square, to_tensor
from nst_ops.training.grid import Exhibits
from nst_ops.training.loop import train
from nst_ops.training.recorder import RunRecorder
from nst_ops.training.run import most_workers
from nst_ops.training.setup import read_material

pytestmark = pytest.mark.ray

LOSS = {
    "network": "vgg16",
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0, 0.5: 1.0}, "weight": 1.0},
}
TRAIN = {
    "steps": 12,
    "batch_size": 2,
    "image_size": 32,
    "learning_rate": 0.01,
    "save_every": 6,
    "precision": "fp32",
}


def tiny(material: Path, output: Path, **train: object) -> TrainJohnsonConfig:
    """A run of seconds."""
    return TrainJohnsonConfig(
        data={"content": str(material / "photos")},
        style=str(material / "style.png"),
        style_side=48,
        output=str(output),
        network={"width": 4, "num_blocks": 1},
        loss=LOSS | {"weights": str(material / "vgg16.pth")},
        train=TRAIN | train,
        workers={"threads": 1, "device": "cpu"},
        facts={"style": "Stripes"},
    )


def job(config: TrainJohnsonConfig, folder: Path, ray_address: str) -> list[str]:
    """The same run as a person starts it, on the Ray at an address."""
    (folder / "run.yaml").write_text(config.model_dump_json(exclude_none=True))  # JSON is YAML
    command = [sys.executable, str(ROOT / "jobs/train_johnson.py"), "--config", str(folder / "run.yaml")]
    return [*command, "--ray_address", ray_address]


def losses(output: Path) -> list[dict[str, float]]:
    """Rows of all steps."""
    rows: list[dict[str, float]] = json.loads((output / "losses.json").read_text())["train"]
    return rows


def test_any_style_is_learned_with_a_rival_by_two_workers_as_by_one_without_ray(cluster, material, tmp_path):
    vit = {"encoder": "vit_tiny_patch16_224", "encoder_weights": "none", "frozen": False}
    vit |= {"encoder_options": {"depth": 2, "embed_dim": 24, "num_heads": 2}, "levels": [0, 1], "stem": 4}
    settings = {
        "data": {"content": str(material / "photos"), "style": str(material / "photos")},
        "network": vit | {"widths": [8, 8, 8, 8]},
        "loss": LOSS
        | {"weights": str(material / "vgg16.pth"), "identity": {"weight": 1.0}}
        | {"content": {"taps": {"relu2_1": 1.0}, "units": "mean"}}
        | {"adversarial": {"weight": 0.1, "width": 4, "augment": False}},
        "train": TRAIN | {"steps": 4, "save_every": 2, "learning_rate": 1e-3},
    }
    workers = {"threads": 1, "device": "cpu", "count": 2}
    config = TrainVitAdainConfig(**settings, output=str(tmp_path / "out"), workers=workers)
    facts = train_network(config)

    names = sorted((material / "photos").glob("*.png"))
    block = np.stack([square(np.asarray(Image.open(name).convert("RGB")), config.resize) for name in names])
    photos = Photos([block], [(0, row) for row in range(len(block))])
    alone = read_material(config).step(config, torch.device("cpu"), styles=photos)
    batches = Batches(photos, config.train.batch_size, config.train.image_size, 0, styles=photos)
    for row in losses(tmp_path / "out"):
        pictures, styles = batches(row["step"]).cut()
        one = alone(pictures, row["step"], styles).terms
        for term in ("content", "gram", "identity", "adversarial", "judge"):
            assert row[term] == pytest.approx(one[term], rel=0.02), (row["step"], term)
    assert facts["workers"] == 2
    assert facts["architecture"] == "vit_adain"
    card = (tmp_path / "out/model_card.md").read_text()
    assert "A ViT-AdaIN network" in card
    assert "| style pictures | 3 |" in card
    assert isinstance(load_checkpoint(tmp_path / "out/model.safetensors").model, ViTAdaIN)
    with Image.open(tmp_path / "out/grid.png") as grid:
        assert grid.height > grid.width * 0.6  # three rows: photograph, its style, what became of it


def test_two_workers_train_and_the_job_stylizes_with_what_they_write(cluster, material, tmp_path, caplog):
    caplog.set_level("INFO")
    config = tiny(material, tmp_path / "out")
    config = config.model_copy(update={"workers": config.workers.model_copy(update={"count": 2})})
    facts = train_network(config)
    rows = losses(tmp_path / "out")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert sum(row["total"] for row in rows[-3:]) < 0.8 * sum(row["total"] for row in rows[:3])

    saved = load_checkpoint(tmp_path / "out/model.safetensors")
    assert saved.facts == facts
    assert (facts["style"], facts["steps"], facts["workers"]) == ("Stripes", 12, 2)
    assert (facts["photos"], facts["photos_skipped"], facts["photos_held_out"]) == (3, 1, 0)
    assert facts["recipe"]["loss"]["weights"] == "vgg16.pth"
    assert 0 <= facts["data_wait_share"] < 1
    assert "skipped broken.jpg" in caplog.text
    assert str(material) not in json.dumps(facts) + (tmp_path / "out/model_card.md").read_text()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("model.safetensors", "model_card.md", "grid.png", "grids", "losses.json", "losses.png"),
        *("state.pt", "run.json", "tensorboard"),
    }
    with Image.open(tmp_path / "out/grid.png") as grid:
        assert grid.width > grid.height

    # the same again has nothing to do; another recipe, photograph or painting is another run
    assert train_network(config) == facts
    assert "trained already" in caplog.text
    with pytest.raises(ConfigError, match=r"train\.steps was 12, is now 13.*--overwrite"):
        train_network(tiny(material, tmp_path / "out", steps=13))
    shutil.copytree(material, tmp_path / "other")
    shutil.copy(tmp_path / "other/photos/0.png", tmp_path / "other/photos/9.png")
    with pytest.raises(ConfigError, match=r"data\.content was '4 files.*is now '5 files"):
        train_network(tiny(tmp_path / "other", tmp_path / "out"))

    checkpoint = str(tmp_path / "out/model.safetensors")
    source, output = material / "photos/0.png", tmp_path / "painted"
    stylized = run_job(source, output, "--model.checkpoint", checkpoint, ray_address=cluster)
    assert stylized.returncode == 0, stylized.stderr
    with Image.open(output / "0.png") as painted, Image.open(source) as photo:
        assert painted.size == photo.size
        assert np.abs(np.asarray(painted, int) - np.asarray(photo, int)).mean() > 5


def test_what_cannot_get_better_by_trying_again_is_not_tried_again(
    cluster, material, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    monkeypatch.chdir(material)
    config = tiny(material, tmp_path / "out", learning_rate=1e30, steps=60)
    config = config.model_copy(update={"data": config.data.model_copy(update={"content": "photos"})})
    with pytest.raises(TrainingError, match=r"not finite in 20 steps in a row.*--train\.learning_rate"):
        train_network(config)
    assert "3 photographs in memory" in caplog.text, "a relative path meant something else to workers"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"train": TRAIN | {"batch_size": 8}},
            r"3 readable photographs are fewer than a batch.*batch_size 3",
        ),
        (
            {"workers": {"count": 2, "device": "cpu"}, "train": TRAIN | {"batch_size": 3}},
            "3 cannot be shared out",
        ),
        ({"workers": {"device": "cuda"}}, "no GPU"),
        ({"data": {"content": "photos", "resize": 60_000}}, r"4 photographs of 60000 px .* --data\.limit 0"),
    ],
)
def test_what_only_shows_on_the_cluster_is_refused(cluster, material, tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(material)
    config = tiny(material, tmp_path / "out").model_dump() | changes
    with pytest.raises(ConfigError, match=words):
        train_network(TrainJohnsonConfig(**config))


@pytest.mark.parametrize(
    ("batch_size", "devices", "workers"), [(2, 1, 1), (8, 4, 4), (2, 4, 2), (6, 4, 3), (5, 4, 1)]
)
def test_by_default_as_many_work_as_share_a_batch(batch_size, devices, workers):
    assert most_workers(batch_size, devices) == workers


def test_a_run_that_came_to_nothing_holds_no_claim(cluster, material, tmp_path):
    config = tiny(material, tmp_path / "out", batch_size=8)
    for steps in (5, 6):  # refused for the photographs, not for what the first left
        with pytest.raises(ConfigError, match="fewer than a batch"):
            train_network(tiny(material, tmp_path / "out", batch_size=8, steps=steps))
    (tmp_path / "out/state.pt").write_bytes(b"somebody's work")
    with pytest.raises(ConfigError, match=r"train\.steps was 6, is now 12"):
        train_network(config)


def reference_losses(config: TrainJohnsonConfig) -> list[dict[str, float]]:
    """What the run gives without Ray and without interruption."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        names = sorted(Path(config.data.content).glob("*.png"))
        block = np.stack(
            [square(np.asarray(Image.open(name).convert("RGB")), config.resize) for name in names]
        )
        trained, _ = hold_out([(0, row) for row in range(len(block))], config.data.held_out)
        material = read_material(config)
        step, painting = material.step(config, torch.device("cpu")), to_tensor(material.painting)
        photos = Photos([block], trained)
        batches = Batches(photos, config.train.batch_size, config.train.image_size, config.train.seed)
        with RunRecorder(
            config, step, Exhibits(to_tensor(block, 4), painting), {}, None, lambda _: None
        ) as recorder:
            train(step, batches, config.train, recorder)
            return recorder.history.rows
    finally:
        torch.set_num_threads(threads)


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


def test_a_killed_worker_and_a_killed_driver_change_nothing(cluster, material, tmp_path):
    """The curve of a run that was killed twice is, to the last digit, that of one that was not."""
    output = tmp_path / "out"
    config = tiny(material, output, steps=150, save_every=10, ema_decay=0.9)
    config = config.model_copy(
        update={"loss": config.loss.model_copy(update={"noise": type(config.loss.noise)(weight=1.0)})}
    )
    command = job(config, tmp_path, cluster)

    def saved() -> int:
        return len(losses(output)) if (output / "losses.json").exists() else 0

    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, env=ENVIRONMENT, stderr=log) as first:
        wait_for(lambda: saved() >= 20, 240, first)
        (worker,) = train_workers()
        worker.kill()
        at_kill = saved()
        wait_for(lambda: saved() > at_kill, 240, first)
        os.kill(first.pid, signal.SIGKILL)
    at_kill = saved()
    assert at_kill < 150, "the kills came too late to show anything"
    again = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on from step" in again.stderr
    assert "a worker was lost: training goes on from step" in (tmp_path / "log").read_text()
    assert losses(output) == reference_losses(tiny_like(config, tmp_path / "reference"))


def tiny_like(config: TrainJohnsonConfig, output: Path) -> TrainJohnsonConfig:
    """The same run into another folder."""
    return config.model_copy(update={"output": str(output)})
