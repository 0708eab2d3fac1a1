"""Files and configurations of trainings of seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg

from nst_ops.config import TrainJohnsonConfig, TrainMultiStyleConfig, TrainVitAdainConfig
from nst_ops.models.checkpoint import save_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import StyleFacts

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


def write_files(root: Path) -> Path:
    """``content/`` (three images and a broken one), ``style.png`` and ``vgg16.pth``."""
    (root / "content").mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(80, 60), (60, 90), (70, 70)]):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(root / "content" / f"{number}.png")
    (root / "content" / "broken.jpg").write_bytes(b"\xff\xd8\xff not an image")
    (root / "content" / "notes.txt").write_text("not an image either")
    stripes = np.indices((64, 80)).sum(axis=0) // 5 % 2
    Image.fromarray((stripes[..., None] * np.array([240, 180, 40])).astype(np.uint8)).save(root / "style.png")
    torch.manual_seed(0)
    layers = vgg.make_layers(vgg.cfgs["D"][:5])  # VGG16 up to relu2_2; the whole takes seconds to make
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            nn.init.zeros_(layer.bias)
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, root / "vgg16.pth")
    return root


def write_paintings(folder: Path) -> Path:
    """``photos/``, ``paintings/``, ``base.safetensors`` and ``vgg.safetensors``, a random VGG19 up to relu3_4."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for kind, colors in {
        "photos": [(90, 120, 200), (200, 160, 60)],
        "paintings": [(220, 60, 40), (40, 160, 220)],
    }.items():
        (folder / kind).mkdir()
        for number, color in enumerate(colors):
            grain = rng.normal(0, 40, (20, 24, 3)) + color
            image = Image.fromarray(grain.clip(0, 255).astype(np.uint8)).resize((240, 200))
            image.save(folder / kind / f"{kind[:-1]} {number}.png")
    net = ConditionalNet(["waves", "stars", "identity"], width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4))
    save_checkpoint(folder / "base.safetensors", net, {"origin": "random"}, {"waves": StyleFacts(license="free")})
    layers = vgg.make_layers(vgg.cfgs["E"][:10]).state_dict()
    save_file({f"features.{name}": tensor for name, tensor in layers.items()}, folder / "vgg.safetensors")
    return folder


def tiny_multi_style(folder: Path, output: Path, **train: Any) -> TrainMultiStyleConfig:
    """A network of many styles that learns the files of ``write_paintings``."""
    return TrainMultiStyleConfig(
        data={"content": str(folder / "photos")},
        paintings=[str(folder / "paintings")],
        style_side=192,
        output=str(output),
        network={"width": 8, "num_blocks": 1, "encoder": [4, 8], "decoder": [4, 4]},
        loss={"weights": str(folder / "vgg.safetensors")},
        train={"steps": 4, "save_every": 2, "image_size": 96, "batch_size": 2, "precision": "fp32"} | train,
        workers=WORKERS,
    )
