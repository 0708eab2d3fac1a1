"""Style by words: whether pictures move from photographs in the direction that a text has from "a photo".

R. Gal et al., "StyleGAN-NADA", SIGGRAPH 2022, for whole pictures; G. Kwon, J. C. Ye, "CLIPstyler", CVPR 2022, for
patches. Vectors are those of ``nst_ops.models.clip``. Shapes: B batch, D numbers of a vector, P patches, H, W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SHARES = 0.25, 0.5  # sides of patches, as shares of the picture's
_BENT = 0.25  # of a patch's side by which each corner moves inward at most: half of CLIPstyler's distortion scale
_CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def direction_distance(found: Tensor, origin: Tensor, direction: Tensor) -> Tensor:
    """Return one minus the cosine between ``found - origin`` and ``direction``, (B,) in [0, 2], of vectors (B, D)."""
    return 1 - F.cosine_similarity(found - origin, direction.expand_as(found), dim=1)


def patch_distance(found: Tensor, origin: Tensor, direction: Tensor, threshold: float) -> Tensor:
    """Return the mean direction distance of patches, (P, D); one up to ``threshold`` is near enough, and counts as 0.

    So patches that are easily alike the text, such as sky, do not grow strokes without end (CLIPstyler, section 3.3).
    """
    distances = direction_distance(found, origin, direction)
    return torch.where(distances > threshold, distances, 0.0).mean()


def cut_patches(image: Tensor, count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Cut patches of random place, size and perspective out of (1, 3, H, W): (P, 3, side, side), with a gradient."""
    sizes = rng.uniform(*_SHARES, (count, 1, 1))  # half of the range of coordinates, which is from -1 to 1
    centers = rng.uniform(sizes - 1, 1 - sizes, (count, 1, 2))
    inward = 1 - rng.uniform(0, 2 * _BENT, (count, 4, 2))
    corners = torch.from_numpy(centers + sizes * inward * _CORNERS.numpy()).float()
    grid = _perspective_grid(corners, side).to(image.device)
    return F.grid_sample(image.expand(count, -1, -1, -1), grid, padding_mode="border", align_corners=False)


def _perspective_grid(corners: Tensor, side: int) -> Tensor:
    """Return the places in quadrilaterals, ``corners`` (P, 4, 2), of a square's pixels: (P, side, side, 2) in [-1, 1].

    The eight numbers of a homography solve two linear equations for each corner (R. Hartley, A. Zisserman, "Multiple
    View Geometry", 2004, section 4.1).
    """
    u, v = _CORNERS.expand_as(corners).unbind(-1)
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    x, y = corners.unbind(-1)
    for_x = torch.stack([u, v, one, zero, zero, zero, -u * x, -v * x], dim=-1)
    for_y = torch.stack([zero, zero, zero, u, v, one, -u * y, -v * y], dim=-1)
    solved = torch.linalg.solve(torch.cat([for_x, for_y], dim=1), torch.cat([x, y], dim=1))
    homography = torch.cat([solved, torch.ones(len(corners), 1)], dim=1).view(-1, 3, 3)
    along = (torch.arange(side) + 0.5) * (2 / side) - 1
    v_grid, u_grid = torch.meshgrid(along, along, indexing="ij")
    square = torch.stack([u_grid, v_grid, torch.ones_like(u_grid)], dim=-1).view(1, -1, 3)
    mapped = square @ homography.transpose(1, 2)
    return (mapped[..., :2] / mapped[..., 2:]).view(-1, side, side, 2)
