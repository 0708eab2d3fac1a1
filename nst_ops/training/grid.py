"""A picture to judge a training run by: the painting, then photographs beside their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nst_ops.training.photos import UInt8Array


def stylize(model: nn.Module, picture_bchw: Tensor) -> Tensor:
    """Run ``model`` without gradient on (B, 3, H, W) in [0, 1]; H and W multiples of 4."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        device = next(model.parameters()).device
        stylized: Tensor = model(picture_bchw.to(device)).clamp(0, 1).float().cpu()
    model.train(training)
    return stylized


def save_grid(path: str | Path, style: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write a PNG: the painting on top, below it one row per (photograph, result), (1, 3, H, W) each."""
    rows = [to_pixels(style)]
    rows += [np.concatenate([to_pixels(photo), to_pixels(result)], axis=1) for photo, result in pairs]
    widest = max(row.shape[1] for row in rows)
    aligned = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(aligned)).save(path)


def to_pixels(picture_bchw: Tensor) -> UInt8Array:
    """(1, 3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    levels = (picture_bchw[0].detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels: UInt8Array = levels.permute(1, 2, 0).numpy()
    return pixels
