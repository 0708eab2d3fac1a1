"""A painting, a few photographs and a small VGG, all made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos/`` (three pictures and a broken one), ``style.png`` and ``vgg16.pth``."""
    root = tmp_path_factory.mktemp("material")
    (root / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(80, 60), (60, 90), (70, 70)]):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(root / "photos" / f"{number}.png")
    (root / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    (root / "photos" / "notes.txt").write_text("not a picture either")
    stripes = np.indices((64, 80)).sum(axis=0) // 5 % 2
    Image.fromarray((stripes[..., None] * np.array([240, 180, 40])).astype(np.uint8)).save(root / "style.png")
    torch.manual_seed(0)
    features = torchvision.models.vgg16().features[:10].state_dict()
    torch.save({f"features.{key}": value for key, value in features.items()}, root / "vgg16.pth")
    return root
