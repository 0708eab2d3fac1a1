"""Photographs to train on: decoded once, kept as bytes, cut anew at every step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import decode_image

logger = logging.getLogger(__name__)

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Photos:
    """Photographs in memory."""

    images: list[UInt8Array]
    """(H, W, 3) RGB each; the short sides are equal, the long sides are not."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, with the reason."""

    def batch(self, rng: np.random.Generator, batch_size: int, crop: int) -> Tensor:
        """Random crops, half of them mirrored: uint8 (B, 3, crop, crop)."""
        return torch.stack([self._crop(rng, crop) for _ in range(batch_size)])

    def _crop(self, rng: np.random.Generator, crop: int) -> Tensor:
        image = self.images[rng.integers(len(self.images))]
        top = rng.integers(image.shape[0] - crop + 1)
        left = rng.integers(image.shape[1] - crop + 1)
        cut = image[top : top + crop, left : left + crop]
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        return torch.from_numpy(cut.copy()).permute(2, 0, 1)


def load_photos(folder: str | Path, short_side: int) -> Photos:
    """Decode every picture under ``folder`` with its short side resized to ``short_side``.

    Pictures that cannot be read are skipped, counted and named: one bad file should not
    end a training run, and should not go unnoticed either.

    Raises:
        FileNotFoundError: no picture in ``folder`` could be used.
    """
    images: list[UInt8Array] = []
    skipped: dict[str, str] = {}
    for path in sorted(Path(folder).rglob("*")):
        if media_kind(path.name) != "image":
            continue
        try:
            images.append(read_picture(path, short_side))
        except (MediaError, OSError) as error:
            skipped[str(path.relative_to(folder))] = str(error)
    for name, reason in skipped.items():
        logger.warning("skipped %s: %s", name, reason)
    if not images:
        raise FileNotFoundError(f"no readable photographs in '{folder}' ({len(skipped)} files skipped)")
    logger.info("%d photographs in memory, %d files skipped", len(images), len(skipped))
    return Photos(images, skipped)


def read_picture(path: str | Path, short_side: int, margin: float = 0.0) -> UInt8Array:
    """An upright RGB picture (H, W, 3) with its short side at ``short_side`` pixels.

    Args:
        path: the file.
        short_side: pixels of the shorter side of what is returned.
        margin: share of each side to cut off first, such as bare canvas around a painting.

    Raises:
        nst_ops.media.errors.MediaError: the file cannot be read.
    """
    picture = Image.fromarray(decode_image(Path(path).read_bytes()).rgb_hwc)
    left, top = round(picture.width * margin), round(picture.height * margin)
    picture = picture.crop((left, top, picture.width - left, picture.height - top))
    scale = short_side / min(picture.size)
    width, height = (max(short_side, round(side * scale)) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def to_tensor(pixels_hwc: UInt8Array) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels_hwc.copy()).permute(2, 0, 1)[None].float() / 255.0
