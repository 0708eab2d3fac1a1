"""Pictures from files to what is judged."""

from __future__ import annotations

import os
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor

from nst_ops.config import ConfigError
from nst_ops.config.stylize import StyleConfig
from nst_ops.evaluation.evaluator import Pair
from nst_ops.evaluation.image_metrics import SMALLEST
from nst_ops.media.errors import MediaError, UnsupportedMediaError
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.storage import Folder
from nst_ops.stylizers import Style
from nst_ops.stylizers.style_images import StyleImages

SMALLEST_STYLE, _LARGEST_STYLE = 32, 512

T = TypeVar("T")


def read_styles(uri: str, short_side: int | None, limit: int, used: set[str]) -> list[Style]:
    """Reference style pictures, by the names that a run with ``style.images`` of them gives them.

    Args:
        uri: a picture, or a folder of them with all that is below it.
        short_side: pixels of the shorter side; None shrinks larger ones to 512.
        limit: pictures at most; of more, an evenly spread choice.
        used: styles that the run names; where they are among the pictures, only these are read.

    Raises:
        ConfigError: there is none, or one cannot be read.
    """
    try:
        pictures = StyleImages.open(StyleConfig(images=uri, mode="random", side=SMALLEST_STYLE))
    except ConfigError as error:
        raise ConfigError(str(error).replace("style.images", "style")) from error
    names = [name for name in pictures.names if name in used] or list(pictures.names)
    styles = []
    for name in spread(names, limit):
        place = f"{pictures.folder_uri}/{pictures.relpaths[name]}"
        try:
            picture = _read(place)
        except (OSError, MediaError) as error:
            raise ConfigError(f"style '{place}' cannot be read: {error}") from error
        shorter = min(picture.size)
        side = short_side or min(shorter, _LARGEST_STYLE)
        if side < SMALLEST_STYLE:
            raise ConfigError(f"style '{place}' is only {shorter} px wide or high: give --style_side")
        if side != shorter:
            size = [max(side, round(each * side / shorter)) for each in picture.size]
            picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        styles.append(Style(name, np.asarray(picture)))
    return styles


def choose_rows(manifest: pa.Table, limit: int | None) -> list[dict[str, str]]:
    """The pictures to judge: images that are ok, by style and size, so that they fall into batches."""
    keep = pc.and_(pc.equal(manifest["status"], "ok"), pc.equal(manifest["kind"], "image"))
    table = manifest.filter(keep).select(
        ["source_uri", "output_uri", "style", "output_width", "output_height"]
    )
    rows = table.sort_by("source_uri").to_pylist()
    rows = spread(rows, limit) if limit else rows
    return sorted(rows, key=lambda row: (row["style"] or "", row["output_width"], row["output_height"]))


def read_pair(row: dict[str, str], max_side: int) -> Pair:
    """A photograph and its stylized picture as a row of the manifest names them, at one size.

    Raises:
        MediaError: one of them cannot be decoded, or is too small to be judged.
        OSError: one of them is not there.
    """
    photo, stylized = read_pictures(row, max_side)
    if min(stylized.size) < SMALLEST:
        raise UnsupportedMediaError(
            f"{stylized.width}x{stylized.height} px: sides below {SMALLEST} cannot be judged"
        )
    return Pair(
        row["source_uri"].rsplit("/", 1)[-1],
        _tensor(photo),
        _tensor(stylized),
        row["style"] or "",
        (row["source_uri"], row["output_uri"]),
    )


def read_pictures(row: dict[str, str], max_side: int) -> tuple[Image.Image, Image.Image]:
    """Photograph and stylized picture of a row, both of one size, as ``read_pair`` raises."""
    stylized = _read(row["output_uri"])
    # As the worker has it: a run that shrinks reads its photographs at the size it writes.
    photo = _read(row["source_uri"], max(stylized.size))
    if photo.size != stylized.size:
        photo = photo.resize(stylized.size, Image.Resampling.LANCZOS)
    if max(stylized.size) > max_side:
        for picture in (photo, stylized):
            picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return photo, stylized


def spread(things: list[T], count: int) -> list[T]:
    """``count`` of ``things``, evenly spread, or all where there are no more."""
    return things if len(things) <= count else [things[i * len(things) // count] for i in range(count)]


def _read(uri: str, max_side: int | None = None) -> Image.Image:
    """A picture, transparent parts on white."""
    folder, name = os.path.split(uri)
    decoded = decode_image(Folder(folder).read_bytes(name), max_side)
    picture = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is None:
        return picture
    return Image.composite(
        picture, Image.new("RGB", picture.size, "white"), Image.fromarray(decoded.alpha_hw)
    )


def _tensor(picture: Image.Image) -> Tensor:
    pixels: UInt8Array = np.asarray(picture).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
