"""A picture to judge a training run by: the painting, and photographs above their stylized versions."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from nst_ops.media.images import UInt8Array

_CELL = 128
"""Pixels a photograph must have for a caption to be read beside it; smaller ones are enlarged."""


def stylize(model: nn.Module, pictures_bchw: Tensor) -> Tensor:
    """Run ``model`` without gradient on (B, 3, H, W) in [0, 1]; H and W multiples of 4.

    Returns:
        float32 (B, 3, H, W) in [0, 1] on the CPU.
    """
    training = model.training
    model.eval()
    with torch.inference_mode():
        device = next(model.parameters()).device
        stylized: Tensor = model(pictures_bchw.to(device)).clamp(0, 1).float().cpu()
    model.train(training)
    return stylized


def validation_grid(
    style_1chw: Tensor,
    contents: Sequence[Tensor] | Tensor,
    stylized: Sequence[Tensor] | Tensor,
    when: str = "",
) -> UInt8Array:
    """The painting on the left; beside it the photographs, and below them what became of them.

    Args:
        style_1chw: (1, 3, H', W') painting in [0, 1], of any size.
        contents: (N, 3, H, W) photographs in [0, 1], N at least 1.
        stylized: (N, 3, H, W) in [0, 1].
        when: goes into the caption, such as "step 250".

    Returns:
        uint8 (height, width, 3). Photographs keep their pixels, or are enlarged a whole number of
        times where they are tiny.
    """
    upper, lower = ([_enlarged(to_pixels(picture[None])) for picture in row] for row in (contents, stylized))
    height, width = upper[0].size[1], upper[0].size[0]
    font_size = max(13, height // 18)
    font = ImageFont.load_default(font_size)
    gap, label = max(6, height // 40), round(font_size * 1.7)
    painting = Image.fromarray(to_pixels(style_1chw))
    painting_height = 2 * height + label
    painting_width = max(1, round(painting.width * painting_height / painting.height))
    painting = painting.resize((painting_width, painting_height), Image.Resampling.LANCZOS)
    captions = ("content", f"stylized · {when}" if when else "stylized")

    left = gap + max(painting_width, math.ceil(font.getlength("style"))) + 2 * gap
    row_width = max(len(upper) * (width + gap), *(math.ceil(font.getlength(text)) + gap for text in captions))
    sheet = Image.new("RGB", (left + row_width, 2 * (label + height) + gap), "white")
    pen = ImageDraw.Draw(sheet)

    def caption(x: int, y: int, text: str) -> None:
        pen.text((x, y + label // 2), text, fill=(60, 60, 60), font=font, anchor="lm")

    caption(gap, 0, "style")
    sheet.paste(painting, (gap, label))
    for row, (text, pictures) in enumerate(zip(captions, (upper, lower), strict=True)):
        y = row * (label + height)
        caption(left, y, text)
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (left + column * (width + gap), y + label))
    return np.asarray(sheet)


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
