"""Measures of what a stylized image must not have."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


def light_agreement(before: Tensor, after: Tensor) -> Tensor:
    """Mean correlation of the light of images and of their stylized copies, (B, 3, H, W), in cells of 8 px."""
    cells = [avg_pool2d(images.mean(dim=1), 8).flatten(1) for images in (before, after)]
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*cells, strict=True)]).mean()


def border_step(stylized: Tensor) -> Tensor:
    """Difference in mean light between the outer 8 px and those from 24 px on, over images (B, 3, H, W)."""
    light = stylized.mean(dim=(0, 1))
    ring = torch.ones_like(light, dtype=torch.bool)
    ring[8:-8, 8:-8] = False
    return (light[ring].mean() - light[24:-24, 24:-24].mean()).abs()
