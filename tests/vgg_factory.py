"""A VGG19 of random weights that ends where relu2_2 does."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from nst_ops.models.vgg import tap_indices


def write_vgg19(path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors, channels_in = {}, 3
    for tap in ("relu1_1", "relu1_2", "relu2_1", "relu2_2"):
        channels = 64 if tap < "relu2" else 128
        scale = (2 / (9 * channels_in)) ** 0.5
        layer = f"features.{tap_indices('vgg19')[tap] - 1}"
        tensors[f"{layer}.weight"] = scale * torch.randn(channels, channels_in, 3, 3, generator=generator)
        tensors[f"{layer}.bias"] = torch.zeros(channels)
        channels_in = channels
    save_file(tensors, path)
    return path
