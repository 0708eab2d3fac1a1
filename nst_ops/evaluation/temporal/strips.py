"""Strips of frames: what flickers, ghosts or blurs can be seen on paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.metrics import Motion
from nst_ops.temporal.warp import warp

_CELL = 168
_GAP, _TEXT, _LABEL = 4, 20, 104
_PAPER, _INK, _MARK = (255, 255, 255), (40, 40, 40), (220, 40, 40)


@dataclass(frozen=True)
class Crop:
    """A square of a frame in pixels."""

    x: int
    y: int
    side: int

    def of(self, frames: UInt8Array) -> UInt8Array:
        """The square of frames (..., H, W, 3)."""
        return frames[..., self.y : self.y + self.side, self.x : self.x + self.side, :]


def busiest_crop(frames_thwc: UInt8Array, motion: Motion, share: float = 0.4) -> Crop:
    """Where a version of a clip changes most along its motion: look there for flicker.

    Args:
        frames_thwc: (T, H, W, 3), T at least 2.
        motion: of the source.
        share: side of the crop in shorter sides of the frame.
    """
    height, width = frames_thwc.shape[1:3]
    change = np.zeros((height, width), np.float32)
    for t in range(1, len(frames_thwc)):
        flow, mask = motion(t, t - 1)
        moved = warp(frames_thwc[t - 1].astype(np.float32), flow)
        change += mask * np.square(frames_thwc[t] - moved).mean(axis=2)
    side = max(8, round(share * min(height, width)))
    sums = cv2.boxFilter(change, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    y, x = np.unravel_index(
        np.argmax(sums[: height - side + 1, : width - side + 1]), (height - side + 1, width - side + 1)
    )
    return Crop(int(x), int(y), side)


def strip(versions: Mapping[str, UInt8Array], crop: Crop, start: int = 0, columns: int = 5) -> Image.Image:
    """A row for each version: a whole frame, a crop of consecutive frames, and one line of it over time.

    In the last column time runs downwards: what holds still or moves evenly draws clean lines,
    what flickers is ragged, and a ghost is a second line beside the first.

    Args:
        versions: frames (T, H, W, 3) by name, all of one shape.
        crop: what is enlarged.
        start: number of the first of the consecutive frames.
        columns: how many of them.
    """
    num_frames, height, width = next(iter(versions.values())).shape[:3]
    columns = min(columns, num_frames - start)
    whole = round(_CELL * width / height)
    lefts = [_LABEL, *(_LABEL + whole + _GAP + n * (_CELL + _GAP) for n in range(columns + 1))]
    size = (lefts[-1] + _CELL, _TEXT + len(versions) * (_CELL + _GAP))
    paper = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(15)
    heads = ["whole frame", *(f"frame {start + n}" for n in range(columns)), "one line over time"]
    for left, head in zip(lefts, heads, strict=True):
        draw.text((left, 1), head, _INK, font)
    scale = _CELL / height
    for row, (name, frames) in enumerate(versions.items()):
        top = _TEXT + row * (_CELL + _GAP)
        draw.multiline_text((0, top + 2), name, _INK, font)
        paper.paste(_scaled(frames[start], (whole, _CELL)), (lefts[0], top))
        corner = lefts[0] + crop.x * scale, top + crop.y * scale
        draw.rectangle((*corner, corner[0] + crop.side * scale, corner[1] + crop.side * scale), outline=_MARK)
        for n, left in enumerate(lefts[1:-1]):
            paper.paste(_scaled(crop.of(frames[start + n]), (_CELL, _CELL)), (left, top))
        over_time = Image.fromarray(crop.of(frames)[:, crop.side // 2])
        paper.paste(over_time.resize((_CELL, _CELL), Image.Resampling.NEAREST), (lefts[-1], top))
    return paper


def _scaled(frame_hwc: UInt8Array, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(frame_hwc).resize(size, Image.Resampling.BICUBIC)
