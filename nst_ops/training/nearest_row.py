"""The row to start from: of a network of many styles the one whose stylized photographs are nearest to a painting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.losses.moments import relative_error
from nst_ops.losses.painting import SMALLEST_SIDE, PaintingLoss, StyleTarget, style_distance
from nst_ops.media.images import UInt8Array
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY
from nst_ops.training.data import to_tensor


class NearestRow:
    """Search of the rows of ``network``, each of which stylizes ``photos``, (1, 3, S, S) each, once.

    ``autocast`` is the precision, see ``Precision``. The row of the photograph itself is none to begin from.
    """

    def __init__(
        self,
        network: ConditionalNet,
        loss: PaintingLoss,
        photos: Sequence[Tensor],
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._network, self._loss, self._photos, self._autocast = network, loss, photos, autocast

    @cached_property
    def _stylized(self) -> dict[str, list[StyleTarget]]:
        names = [name for name in self._network.names if name != IDENTITY] or self._network.names
        with torch.no_grad(), self._autocast():
            return {
                name: [self._loss.target(self._network(photo, self._network.row(name))) for photo in self._photos]
                for name in names
            }

    def find(self, target: StyleTarget, palette_weight: float) -> str:
        """Return the name of the row that is nearest to one style."""
        distances = {
            name: sum(
                style_distance(seen.moments, target.moments).item()
                + palette_weight * relative_error(seen.palette, target.palette).item()
                for seen in stylized
            )
            for name, stylized in self._stylized.items()
        }
        return min(distances, key=lambda name: distances[name])


def resized(painting_hwc: UInt8Array, side: int) -> Tensor:
    """Return a style image as (1, 3, H, W) in [0, 1] of as many pixels as a square of ``side`` has."""
    image = to_tensor(painting_hwc)
    scale = side / math.sqrt(image[0, 0].numel())
    size = [max(SMALLEST_SIDE, round(length * scale)) for length in image.shape[2:]]
    return F.interpolate(image, size, mode="bicubic", antialias=True).clamp_(0, 1)
