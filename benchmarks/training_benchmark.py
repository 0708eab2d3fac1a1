"""Measure what training costs: Ray Train against the bare loop, two workers against one, in one run.

Every case trains the same network on the same images made here, with a VGG of random weights: speed does not
depend on their values. Run it from the root of the repository:
``python benchmarks/training_benchmark.py --help``.
"""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveInt
from safetensors.torch import save_file
from torchvision.models import vgg  # type: ignore[import-untyped]

from benchmarks.figures_table import show_figures
from nst_ops.config import JobConfig, LossConfig, TrainJohnsonConfig, parse_config
from nst_ops.models.vgg import tap_indices
from nst_ops.ray_cluster import connected, num_gpus
from nst_ops.training import train_network
from nst_ops.training.data import Batches, ImageSet
from nst_ops.training.loop import train
from nst_ops.training.setup import read_setup

Figures = dict[str, float]

_NUM_IMAGES = 64
_GOAL_IMAGES = 160_000
"""Images of a whole training: 40,000 steps of 4 in Johnson et al. 2016."""

_EPILOG = """\
examples:
  python benchmarks/training_benchmark.py                                     (two CPU cores: 6 minutes)
  python benchmarks/training_benchmark.py --batch_size 32 --steps 200         (a GPU or two)
"""


class TrainingBenchmarkConfig(JobConfig):
    """Measure images per second of training, as ratios in one run."""

    epilog: ClassVar[str] = _EPILOG

    image_size: int = Field(default=256, ge=32, multiple_of=4)
    """Side of the crops in pixels."""
    batch_size: PositiveInt = 2
    """Images per step and worker."""
    steps: int = Field(default=14, ge=5)
    """Steps of each measurement."""
    threads: PositiveInt = 1
    """CPU threads of each worker, where there is no GPU."""
    rounds: PositiveInt = 2
    """Number of times that every case is measured; the fastest counts, as noise only slows."""
    workers: int = Field(default=2, ge=1, le=2)
    """Largest number of workers that are measured together."""
    output: str = ""
    """JSON file to write the figures to; none by default."""


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(TrainingBenchmarkConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    show_figures(benchmark_training(**config.model_dump(exclude={"output"})), config.output)
    return 0


def benchmark_training(
    image_size: int, batch_size: int, steps: int, threads: int, rounds: int, workers: int = 2
) -> dict[str, Figures]:
    """Measure images per second, without the start of processes, the first steps and checkpoints.

    Args:
        image_size: side of the crops in pixels.
        batch_size: images per step and worker.
        steps: steps of each measurement.
        threads: CPU threads of each worker, where there is no GPU.
        rounds: number of times that every case is measured, in turn; the fastest counts.
        workers: most workers that are measured together, one or two.

    Returns:
        ``images_per_s`` of the bare loop, of one worker of Ray Train, and, where there are two devices, of
        two; ``ratios`` of one worker to the bare loop and of two to one, and the share of time that one
        worker waited for images; ``whole_training``: minutes for 160,000 images at one worker's speed.
    """
    cases: dict[str, list[Figures]] = {"bare_loop": [], "one_worker": [], "two_workers": []}
    with TemporaryDirectory() as scratch, connected("local"):
        device = "cuda" if num_gpus() else "cpu"
        two_devices = workers > 1 and num_gpus() != 1
        for index in range(rounds):
            folder = Path(scratch, str(index))
            config = _config(_make_files(folder), folder, image_size, batch_size, steps, threads)
            cases["bare_loop"].append(_apart(config, device))
            cases["one_worker"].append(_on_ray(config, 1))
            if two_devices:
                cases["two_workers"].append(_on_ray(config, 2))
    best = {name: max(runs, key=lambda run: run["images_per_s"]) for name, runs in cases.items() if runs}
    speeds = {name: figures["images_per_s"] for name, figures in best.items()}
    ratios = {"one_worker_to_bare_loop": speeds["one_worker"] / speeds["bare_loop"]}
    if two_devices:
        ratios["two_workers_to_one"] = speeds["two_workers"] / speeds["one_worker"]
    ratios["data_wait_share"] = best["one_worker"]["data_wait_share"]
    minutes = _GOAL_IMAGES / speeds["one_worker"] / 60
    return {"images_per_s": speeds, "ratios": ratios, "whole_training": {"minutes_for_160k_images": minutes}}


def _make_files(folder: Path) -> Path:
    """Write content images, a style image and a VGG, all of noise."""
    (folder / "content").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(_NUM_IMAGES):
        leaves = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
        leaves.resize((400, 320), Image.Resampling.BICUBIC).save(folder / f"content/{index}.jpg", quality=90)
    leaves.resize((512, 512), Image.Resampling.BICUBIC).save(folder / "style.jpg")
    loss = LossConfig()
    deepest = max(tap_indices(loss.network)[tap] for tap in loss.taps())
    torch.manual_seed(0)
    layers = vgg.make_layers(vgg.cfgs["E"])[: deepest + 1]  # E: VGG-19 in the table of its paper
    save_file({f"features.{key}": value for key, value in layers.state_dict().items()}, folder / "vgg.safetensors")
    return folder


def _config(
    files: Path, folder: Path, image_size: int, batch_size: int, steps: int, threads: int
) -> TrainJohnsonConfig:
    return TrainJohnsonConfig.model_validate(
        {
            "data": {"content": str(files / "content")},
            "style": str(files / "style.jpg"),
            "output": str(folder / "out"),
            "loss": {"weights": str(files / "vgg.safetensors")},
            "train": {"image_size": image_size, "batch_size": batch_size, "steps": steps, "save_every": steps},
            "workers": {"threads": threads},
            "executor": "ray",
        }
    )


def _on_ray(config: TrainJohnsonConfig, workers: int) -> Figures:
    train_section = config.train.model_copy(update={"batch_size": config.train.batch_size * workers})
    config = config.model_copy(
        update={
            "output": f"{config.output}-{workers}",
            "train": train_section,
            "workers": config.workers.model_copy(update={"count": workers}),
        }
    )
    facts = train_network(config)
    return {key: float(facts[key]) for key in ("images_per_s", "data_wait_share")}


def _apart(config: TrainJohnsonConfig, device: str) -> Figures:
    """Run the bare loop in a process of its own, as a worker is one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_bare_loop, (config, device))


def _bare_loop(config: TrainJohnsonConfig, device: str) -> Figures:
    torch.set_num_threads(config.workers.threads or torch.get_num_threads())
    pixels = np.random.default_rng(0).integers(0, 256, (_NUM_IMAGES, config.resize, config.resize, 3), np.uint8)
    images = ImageSet([pixels], [(0, row) for row in range(_NUM_IMAGES)])
    batches = Batches(images, config.train.batch_size, config.train.image_size, config.train.seed)
    speed = train(read_setup(config).step(config, torch.device(device)), batches, config.train)
    return {"images_per_s": speed.images_per_s, "data_wait_share": speed.data_wait_share}


if __name__ == "__main__":
    raise SystemExit(main())
