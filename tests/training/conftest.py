"""A style image, content images and a small VGG, all made here, and steps of training with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_factory import write_files

from nst_ops.config import LossConfig
from nst_ops.config.training import TrainConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.training import fit_styles, run
from nst_ops.training.optim import Ranks
from nst_ops.training.perceptual_step import PerceptualStep

LOSS: dict[str, Any] = {
    "network": "vgg16",
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"weight": 1.0, "taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0}},
}
TRAIN: dict[str, Any] = {
    "steps": 40,
    "batch_size": 2,
    "image_size": 32,
    "learning_rate": 0.01,
    "warmup": 0.0,
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def _trains_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what asks for no cluster train in this process, even where the cluster of other tests still runs."""
    if "cluster" not in request.fixturenames:
        for module in (run, fit_styles):
            monkeypatch.setattr(module, "cluster_at_hand", lambda address: False)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``content/`` (three images and a broken one), ``style.png`` and ``vgg16.pth``."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def vgg(files: Path) -> VGGFeatures:
    """VGG-16 with the taps relu1_2 and relu2_1."""
    return VGGFeatures("vgg16", ["relu1_2", "relu2_1"], files / "vgg16.pth", padding="reflect")


@pytest.fixture
def new_step(vgg: VGGFeatures) -> Callable[..., PerceptualStep]:
    """``new_step(loss={...}, wrap=..., ranks=..., **train)``: a tiny network, the same every time."""

    def build(loss: dict[str, Any] | None = None, wrap: Any = None, ranks: Any = None, **train: Any) -> PerceptualStep:
        torch.manual_seed(0)
        perceptual = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig(**LOSS | (loss or {})))
        return PerceptualStep(JohnsonNet(4, 1), perceptual, TrainConfig(**TRAIN | train), wrap, ranks or Ranks())

    return build
