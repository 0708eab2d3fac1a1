"""Paintings to learn from: their names, their pixels, a thumbnail of each."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from nst_ops.config import ConfigError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array
from nst_ops.models.style_facts import MOST_THUMBNAIL_BYTES, style_name
from nst_ops.storage import Folder
from nst_ops.training.data import read_style_image

ONE_COLOR = 3.0
"""Standard deviation in levels below which there is nothing to learn from a picture."""
_READ_SIDE = 640  # pixels of a painting's shorter side as it is read
_THUMBNAIL_SIDE = 128


def name_paintings(given: list[str]) -> dict[str, str]:
    """Return the URI of each painting by the name of its style; ``given`` are files and folders.

    Raises ConfigError for a folder that holds none or cannot be read.
    """
    paintings: dict[str, str] = {}
    for uri in _list_images(given):
        stem = name = style_name(Path(uri).stem)
        number = 1
        while name in paintings:
            name = f"{stem}_{(number := number + 1)}"
        paintings[name] = uri
    return paintings


def read_painting(uri: str, margin: float) -> UInt8Array:
    """Read a style image as of ``read_style_image``; raises ConfigError for one of a single color, too."""
    painting_hwc = read_style_image(uri, _READ_SIDE, margin, "paintings")
    if painting_hwc.reshape(-1, 3).std(0).max() < ONE_COLOR:
        raise ConfigError(f"paintings: '{uri}' is of one color, which shows no style: give a picture with strokes")
    return painting_hwc


def thumbnail(picture_hwc: UInt8Array) -> bytes:
    """Return a small JPEG of a picture."""
    image = Image.fromarray(picture_hwc)
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    for quality in (85, 60, 30):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if len(buffer.getvalue()) <= MOST_THUMBNAIL_BYTES:
            return buffer.getvalue()
    return b""


def _list_images(given: list[str]) -> Iterator[str]:
    for uri in given:
        try:
            folder = Folder(uri)
            is_folder = folder.exists() and not folder.is_file()
        except (OSError, ValueError) as error:
            raise ConfigError(f"'{uri}': {error}") from error
        if not is_folder:
            yield uri  # reading it says what is wrong with it
            continue
        names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
        if not names:
            raise ConfigError(f"'{uri}' holds no images")
        yield from (folder.uri(name) for name in names)
