"""Configurations of runs of seconds."""

from pathlib import Path
from typing import Any

from nst_ops.config import TrainJohnsonConfig, TrainVitAdainConfig

LOSS: dict[str, Any] = {
    "network": "vgg16",
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0, 0.5: 1.0}, "weight": 1.0},
}
TRAIN: dict[str, Any] = {
    "steps": 12,
    "batch_size": 2,
    "image_size": 32,
    "learning_rate": 0.01,
    "save_every": 6,
    "precision": "fp32",
}
WORKERS = {"threads": 1, "device": "cpu"}


def tiny(files: Path, output: Path, **train: Any) -> TrainJohnsonConfig:
    """A Johnson network that learns one style image."""
    return TrainJohnsonConfig(
        data={"content": str(files / "content")},
        style=str(files / "style.png"),
        style_side=48,
        output=str(output),
        network={"width": 4, "num_blocks": 1},
        loss=LOSS | {"weights": str(files / "vgg16.pth")},
        train=TRAIN | train,
        workers=WORKERS,
        facts={"style": "Stripes"},
    )


def tiny_vit_adain(files: Path, output: Path) -> TrainVitAdainConfig:
    """A ViT-AdaIN network that learns a set of style images, with discriminators."""
    encoder = {"encoder": "vit_tiny_patch16_224", "encoder_weights": "none", "frozen": False}
    encoder |= {"encoder_options": {"depth": 2, "embed_dim": 24, "num_heads": 2}, "levels": [0, 1], "stem": 4}
    loss = LOSS | {
        "weights": str(files / "vgg16.pth"),
        "identity": {"weight": 1.0},
        "content": {"taps": {"relu2_1": 1.0}, "units": "mean"},
        "adversarial": {"weight": 0.1, "width": 4, "augment": False, "views": ["color", "gray"]},
    }
    return TrainVitAdainConfig(
        data={"content": str(files / "content"), "style": str(files / "content")},
        output=str(output),
        network=encoder | {"widths": [8, 8, 8, 8]},
        loss=loss,
        train=TRAIN | {"steps": 4, "save_every": 2, "learning_rate": 1e-3},
        workers=WORKERS,
    )
