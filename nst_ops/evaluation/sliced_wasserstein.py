"""Sliced Wasserstein distance: how far two clouds of points are apart, whatever their numbers.

N. Bonneel et al., "Sliced and Radon Wasserstein Barycenters of Measures", JMIV 2015; for the
features of a VGG, E. Heitz et al., "A Sliced Wasserstein Loss for Neural Texture Synthesis",
CVPR 2021. On a line the optimal transport is known: the smallest goes to the smallest. Clouds
of different numbers of points are compared by their quantiles.

Shapes: B batch, N points, C channels, P directions, Q quantiles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_POINTS = 16_384
"""Points of a picture that ``sample`` keeps."""


def directions(channels: int, count: int, seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Random unit vectors, fp32 (``count``, ``channels``), the same for the same seed.

    They come in orthonormal frames: with ``count`` a multiple of ``channels`` the mean of
    ``(d . u)^2`` is exactly ``|d|^2 / channels`` for every vector d.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(math.ceil(count / channels), channels, channels, generator=generator)
    orthonormal: Tensor = torch.linalg.qr(frames.double()).Q.transpose(1, 2)
    return orthonormal.reshape(-1, channels)[:count].float().to(device)


def sample(maps: Tensor, seed: int = 0) -> Tensor:
    """The points of a map, of large maps ``MAX_POINTS`` drawn at random: (B, C, H, W) to (B, N, C)."""
    points = maps.flatten(2).transpose(1, 2)
    if points.shape[1] <= MAX_POINTS:
        return points
    drawn = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(seed))[:MAX_POINTS]
    return points[:, drawn.to(points.device)]


def quantiles(points: Tensor, directions_pc: Tensor, count: int = 256) -> Tensor:
    """What stays of a cloud of points: its quantiles along each direction.

    Args:
        points: (B, N, C), any float type, N at least 1.
        directions_pc: (P, C).
        count: quantiles kept, at the middles of ``count`` equal shares. With N = ``count``
            these are all points.

    Returns:
        (B, P, ``count``) in fp32, rising along the last axis.
    """
    num_points = points.shape[1]
    ordered: Tensor = (points.float() @ directions_pc.T).transpose(1, 2).sort(dim=2).values
    middles = (torch.arange(count, device=points.device, dtype=torch.float64) + 0.5) / count
    return ordered[:, :, (middles * num_points).long()]


def pool(quantiles_bpq: Tensor) -> Tensor:
    """Quantiles of all B clouds taken as one, each with the same weight: (P, Q)."""
    batch, _, count = quantiles_bpq.shape
    together = quantiles_bpq.permute(1, 0, 2).flatten(1).sort(dim=1).values
    return together.reshape(-1, count, batch)[:, :, batch // 2]


def squared_distance(quantiles_bpq: Tensor, target_pq: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance, averaged over the directions (Heitz et al., eq. 3).

    Times C it is ``|d|^2`` for a cloud and the same one shifted by d, if the directions are
    whole frames.

    Args:
        quantiles_bpq: (B, P, Q), as of ``quantiles``.
        target_pq: (P, Q), along the same directions.

    Returns:
        (B,), in the squared units of the points, at least 0.
    """
    return (quantiles_bpq - target_pq).square().mean(dim=(1, 2))
