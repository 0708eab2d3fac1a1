"""Validation images on a sheet: content images above their stylized versions, the style image beside."""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from nst_ops.media.images import UInt8Array
from nst_ops.training.data import ImageSet, to_tensor

_CELL = 128  # pixels an image must have for a caption to be read beside it; smaller ones are enlarged
_STYLE_ROWS = 4  # rows beside which the style image stands at most


@dataclass(frozen=True)
class ValidationImages:
    """Images that a run is validated on, float in [0, 1]."""

    content: Tensor  # (N, 3, S, S), S a multiple of the network's stride
    styles: Tensor | None = None  # (N, 3, S, S), the style image of each, or (1, 3, H, W), one for all


def validation_images(
    network: nn.Module,
    held_out: ImageSet,
    held_out_styles: ImageSet | None = None,
    style_image: UInt8Array | None = None,
) -> ValidationImages:
    """Return the held-out images with the style image, with the held-out images of a set of styles, or with neither."""
    stride = network.stride
    assert isinstance(stride, int)
    content = to_tensor(held_out.all(), stride)
    if style_image is not None:
        return ValidationImages(content, to_tensor(style_image))
    if held_out_styles is None:  # the network has its styles in it
        return ValidationImages(content)
    each = [index % len(held_out_styles) for index in range(len(held_out))]  # from the first again, if fewer
    return ValidationImages(content, to_tensor(held_out_styles.take(each), stride))


def stylize(network: nn.Module, content: Tensor, styles: Tensor | None = None) -> Tensor:
    """Run ``network`` without gradient on (B, 3, H, W) in [0, 1]; H and W multiples of its stride.

    ``styles``, (B, 3, H', W') in [0, 1], are for a network that takes a style image with each content image. Returns
    float32 (B, 3, H, W) in [0, 1] on the CPU.
    """
    training = network.training
    network.eval()
    with torch.inference_mode():
        device = next(network.parameters()).device
        inputs = [content.to(device)] if styles is None else [content.to(device), styles.to(device)]
        stylized: Tensor = network(*inputs).clamp(0, 1).float().cpu()
    network.train(training)
    return stylized


def validation_grid(shown: ValidationImages, stylized: Tensor, when: str = "") -> UInt8Array:
    """Draw the style image on the left; beside it content images, and below them their stylized versions.

    Where every content image has its own style image, those are the row between. ``stylized`` is (N, 3, H, W) in
    [0, 1], N at least 1; ``when`` a word for the caption, such as "step 250". Returns the image, see ``sheet``.
    """
    assert shown.styles is not None, "neither a style image nor a set of them"
    content, styles = to_pixels(shown.content), to_pixels(shown.styles)
    caption = f"stylized · {when}" if when else "stylized"
    if len(styles) == len(content) > 1:
        return sheet({"content": content, "style": styles, caption: to_pixels(stylized)})
    return sheet({"content": content, caption: to_pixels(stylized)}, styles[0])


def sheet(rows: Mapping[str, Iterable[UInt8Array]], style_image: UInt8Array | None = None) -> UInt8Array:
    """Draw rows of images (uint8 (H, W, 3)) below each other, by caption; on the left a style image, if given.

    All are shown as large as the first, and keep their pixels, or are enlarged a whole number of times where they are
    tiny. Returns uint8 (height, width, 3).
    """
    tiles = {caption: [_enlarged(image) for image in row] for caption, row in rows.items()}
    width, height = next(iter(tiles.values()))[0].size
    font_size = max(13, height // 18)
    font = ImageFont.load_default(font_size)
    gap, label = max(6, height // 40), round(font_size * 1.7)
    widest_caption = max(math.ceil(font.getlength(text)) for text in rows)
    row_width = max(max(map(len, tiles.values())) * (width + gap), widest_caption + gap)
    left, framed = gap, None
    if style_image is not None:
        framed = Image.fromarray(style_image)
        beside = min(len(rows), _STYLE_ROWS)
        framed_height = beside * height + (beside - 1) * label
        framed_width = max(1, round(framed.width * framed_height / framed.height))
        framed = framed.resize((framed_width, framed_height), Image.Resampling.LANCZOS)
        left += max(framed_width, math.ceil(font.getlength("style"))) + 2 * gap
    drawn = Image.new("RGB", (left + row_width, len(rows) * (label + height) + gap), "white")
    pen = ImageDraw.Draw(drawn)

    def caption(x: int, y: int, text: str) -> None:
        pen.text((x, y + label // 2), text, fill=(60, 60, 60), font=font, anchor="lm")

    if framed:
        caption(gap, 0, "style")
        drawn.paste(framed, (gap, label))
    for row, (text, images) in enumerate(tiles.items()):
        y = row * (label + height)
        caption(left, y, text)
        for column, image in enumerate(images):
            drawn.paste(image.resize((width, height)), (left + column * (width + gap), y + label))
    return np.asarray(drawn)


def png_bytes(pixels_hwc: UInt8Array) -> bytes:
    """Encode uint8 (H, W, 3) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, "PNG")
    return buffer.getvalue()


def to_pixels(images_bchw: Tensor) -> UInt8Array:
    """Convert (B, 3, H, W) in [0, 1] to uint8 (B, H, W, 3); what is not a number becomes black."""
    levels = (images_bchw.detach().float().cpu().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
    return np.asarray(levels.permute(0, 2, 3, 1))


def _enlarged(pixels_hwc: UInt8Array) -> Image.Image:
    image = Image.fromarray(pixels_hwc)
    times = math.ceil(_CELL / min(image.size))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
