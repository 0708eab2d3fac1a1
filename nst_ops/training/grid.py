"""A picture to judge a training run by: the painting, and photographs above their stylized versions."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from nst_ops.media.images import UInt8Array
from nst_ops.training.data import Photos, to_tensor

_CELL = 128
"""Pixels a photograph must have for a caption to be read beside it; smaller ones are enlarged."""


@dataclass(frozen=True)
class Exhibits:
    """The pictures that a run is judged by.

    Attributes:
        photos: (N, 3, S, S) in [0, 1], S a multiple of the network's stride.
        styles: (N, 3, S, S) in [0, 1], the style picture of each, or (1, 3, H, W), one for all.
    """

    photos: Tensor
    styles: Tensor


def exhibits(
    model: nn.Module, judged: Photos, styles: Photos | None = None, painting: UInt8Array | None = None
) -> Exhibits:
    """The held-out photographs with the painting, or with the held-out pictures of a set of styles."""
    stride = model.stride
    assert isinstance(stride, int)
    photos = to_tensor(judged.take(range(len(judged))), stride)
    if painting is not None:
        return Exhibits(photos, to_tensor(painting))
    assert styles is not None, "neither a painting nor style pictures"
    each = [index % len(styles) for index in range(len(judged))]  # again from the first where there are fewer
    return Exhibits(photos, to_tensor(styles.take(each), stride))


def stylize(model: nn.Module, photos: Tensor, styles: Tensor | None = None) -> Tensor:
    """Run ``model`` without gradient on (B, 3, H, W) in [0, 1]; H and W multiples of its stride.

    Args:
        model: the network.
        photos: what it paints.
        styles: (B, 3, H', W') in [0, 1], for a network that takes a style picture with each.

    Returns:
        float32 (B, 3, H, W) in [0, 1] on the CPU.
    """
    training = model.training
    model.eval()
    with torch.inference_mode():
        device = next(model.parameters()).device
        inputs = [photos.to(device)] if styles is None else [photos.to(device), styles.to(device)]
        stylized: Tensor = model(*inputs).clamp(0, 1).float().cpu()
    model.train(training)
    return stylized


def validation_grid(
    styles: Tensor,
    contents: Sequence[Tensor] | Tensor,
    stylized: Sequence[Tensor] | Tensor,
    when: str = "",
) -> UInt8Array:
    """The painting on the left; beside it the photographs, and below them what became of them.

    Where every photograph has its own style picture, those are the row between.

    Args:
        styles: (1, 3, H', W') painting in [0, 1], of any size, or (N, 3, H, W), one for each.
        contents: (N, 3, H, W) photographs in [0, 1], N at least 1.
        stylized: (N, 3, H, W) in [0, 1].
        when: goes into the caption, such as "step 250".

    Returns:
        As ``sheet``.
    """
    painted = f"stylized · {when}" if when else "stylized"
    if len(styles) == len(contents) > 1:
        return sheet({"content": contents, "style": styles, painted: stylized})
    return sheet({"content": contents, painted: stylized}, styles)


def sheet(rows: Mapping[str, Sequence[Tensor] | Tensor], painting: Tensor | None = None) -> UInt8Array:
    """Rows of pictures below each other, each with its caption; on the left, if there is one, the painting.

    Args:
        rows: by caption (N, 3, H, W) in [0, 1], N at least 1; all are shown as large as the first.
        painting: (1, 3, H', W') in [0, 1], of any size.

    Returns:
        uint8 (height, width, 3). Pictures keep their pixels, or are enlarged a whole number of
        times where they are tiny.
    """
    tiles = {name: [_enlarged(to_pixels(tile[None])) for tile in row] for name, row in rows.items()}
    first = next(iter(tiles.values()))
    width, height = first[0].size
    tiles = {name: [tile.resize((width, height)) for tile in row] for name, row in tiles.items()}
    font_size = max(13, height // 18)
    font = ImageFont.load_default(font_size)
    gap, label = max(6, height // 40), round(font_size * 1.7)
    widest_caption = max(math.ceil(font.getlength(text)) for text in tiles)
    row_width = max(len(first) * (width + gap), widest_caption + gap)
    left, framed = gap, None
    if painting is not None:
        framed = Image.fromarray(to_pixels(painting))
        framed_height = len(tiles) * height + (len(tiles) - 1) * label
        framed_width = max(1, round(framed.width * framed_height / framed.height))
        framed = framed.resize((framed_width, framed_height), Image.Resampling.LANCZOS)
        left += max(framed_width, math.ceil(font.getlength("style"))) + 2 * gap
    drawn = Image.new("RGB", (left + row_width, len(tiles) * (label + height) + gap), "white")
    pen = ImageDraw.Draw(drawn)

    def caption(x: int, y: int, text: str) -> None:
        pen.text((x, y + label // 2), text, fill=(60, 60, 60), font=font, anchor="lm")

    if framed:
        caption(gap, 0, "style")
        drawn.paste(framed, (gap, label))
    for row, (text, pictures) in enumerate(tiles.items()):
        y = row * (label + height)
        caption(left, y, text)
        for column, picture in enumerate(pictures):
            drawn.paste(picture, (left + column * (width + gap), y + label))
    return np.asarray(drawn)


def png_bytes(pixels_hwc: UInt8Array) -> bytes:
    """A PNG file of uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, "PNG")
    return buffer.getvalue()


def to_pixels(picture_bchw: Tensor) -> UInt8Array:
    """(1, 3, H, W) in [0, 1] to uint8 (H, W, 3); what is not a number becomes black."""
    levels = (picture_bchw[0].detach().float().cpu().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels: UInt8Array = levels.permute(1, 2, 0).numpy()
    return pixels


def _enlarged(pixels_hwc: UInt8Array) -> Image.Image:
    picture = Image.fromarray(pixels_hwc)
    times = math.ceil(_CELL / min(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
