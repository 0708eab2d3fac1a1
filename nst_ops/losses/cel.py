"""Cel shading by classical filters: what a drawing of the photograph would roughly be."""

import torch
from torch import Tensor

from nst_ops.config.losses import CelConfig
from nst_ops.losses.structure import cel_target, enlarge_eyes


@torch.no_grad()
def cel_shaded(photos: Tensor, config: CelConfig) -> Tensor:
    """The drawing that ``config`` asks for, after ``cel_target`` and ``enlarge_eyes``.

    A network that learns it learns the medium; what lies beyond filters is left to an adversary.

    Args:
        photos: RGB in [0, 1], (B, 3, H, W), whole and aligned if eyes are to be enlarged.
        config: how bright, how flat, how dark the lines, how large the eyes.

    Returns:
        RGB in [0, 1], (B, 3, H, W), fp32.
    """
    detail = None
    if config.eyes > 1:
        photos, detail = enlarge_eyes(photos, zoom=config.eyes)
    return cel_target(
        photos, config.saturation, config.gamma, config.contrast, config.ink, config.levels, detail
    )
