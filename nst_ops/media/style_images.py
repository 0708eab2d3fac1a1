"""Styles that come with each frame: style images, for stylizers that take it from an example, and named ones."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from nst_ops.config import ConfigError
from nst_ops.config.stylize import StyleConfig
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import DecodedImage, UInt8Array, decode_image
from nst_ops.models.style_mix import StyleMix
from nst_ops.storage import FileInfo, Folder, NameRules

_LONGEST = 4
"""Largest longer side of a style image, in shorter sides asked for: a frieze must fit into memory."""
_PROBES = 32  # style images that are read before a run begins
_ANY_NAME = NameRules(windows=True)


@dataclass(frozen=True, eq=False)
class Style:
    """A style: a decoded style image, or a mix of the styles of a network of many.

    ``name`` is unique among the styles of a run, and part of output paths where there are several.
    """

    name: str
    pixels_hwc: UInt8Array = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    """Style image, uint8 sRGB (H, W, 3), at the size whose statistics count; empty for a mix."""
    mix: StyleMix | None = None
    """Named styles and their shares, for a network of many."""


@dataclass(frozen=True)
class StyleImages:
    """The style images of a run by name, each read when it is needed: there may be 50,000.

    Attributes:
        folder_uri: folder that they lie in.
        relpaths: path of each name in the folder, sorted by name.
        side: shorter side in pixels after reading.
        fingerprint: their number and a hash of names, sizes and versions; ``run.json`` holds it.
    """

    folder_uri: str
    relpaths: dict[str, str]
    side: int
    fingerprint: str

    @classmethod
    def open(cls, config: StyleConfig) -> StyleImages:
        """List the images of ``style.images``, and read a few of them to fail early.

        Raises ConfigError where there are none, more than mode ``one`` can take, or one that cannot be read.
        """
        folder, infos = _list_images(config)
        if config.mode == "one" and len(infos) > 1:
            raise ConfigError(
                f"style.images '{config.images}' holds {len(infos):,} images, and style.mode is one: give "
                "one image, or --style.mode each (all for every input) or random (one drawn for each)"
            )
        for info in infos:
            if not (info.regular and info.num_bytes):
                raise ConfigError(f"style image '{folder.uri(info.relpath)}' is empty or no file: remove it")
        relpaths = dict(sorted(zip(_names(infos), (info.relpath for info in infos), strict=True)))
        listing = "\n".join(f"{info.relpath}\t{info.num_bytes}\t{info.version}" for info in infos)
        digest = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16]
        number = f"{len(infos):,} picture{'s' if len(infos) > 1 else ''}"  # as run.json has it
        images = cls(folder.uri(), relpaths, config.side, f"{number}, {digest}")
        for name in images.names[:: -(-len(infos) // _PROBES)]:
            images.read(name)
        return images

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the styles, sorted."""
        return tuple(self.relpaths)

    def read(self, name: str) -> Style:
        """Decode an image, its shorter side resized to ``side``, transparent parts white; ConfigError if unreadable."""
        folder, relpath = Folder(self.folder_uri), self.relpaths[name]
        try:
            decoded = decode_image(folder.read_bytes(relpath), _LONGEST * self.side)
        except (MediaError, OSError) as error:
            raise ConfigError(f"style image '{folder.uri(relpath)}' cannot be read: {error}") from error
        return Style(name, _resize(decoded, self.side))


def read_styles(config: StyleConfig) -> list[Style]:
    """Read all images of ``style.images``, sorted by name; errors as of ``StyleImages.open``."""
    images = StyleImages.open(config)
    return [images.read(name) for name in images.names]


def _list_images(config: StyleConfig) -> tuple[Folder, list[FileInfo]]:
    """Return the folder and the images in it, or the one that was named."""
    if not config.images:
        raise ConfigError("no style images: give --style.images, an image or a folder of them")
    try:
        folder = Folder(config.images)
        if folder.is_file():
            parent, name = folder.uri().rsplit("/", 1)
            folder = Folder(parent or "/")
            infos = [folder.file(name)]
        elif not folder.exists():
            raise ConfigError(f"style.images '{config.images}' does not exist")
        else:
            images = (info for info in folder.files() if media_kind(info.relpath) == "image")
            visible = (info for info in images if not info.relpath.startswith(".") and "/." not in info.relpath)
            infos = sorted(visible, key=lambda info: info.relpath)
    except (OSError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"style.images: {error}") from error
    if not infos:
        raise ConfigError(f"style.images '{config.images}' holds no images")
    return folder, infos


def _names(infos: list[FileInfo]) -> list[str]:
    """Name every image so that a folder can have the name: its path without extension, if no other has it."""
    short = [_safe(os.path.splitext(info.relpath)[0]) for info in infos]
    counts = Counter(short)
    names = [_safe(info.relpath) if counts[name] > 1 else name for name, info in zip(short, infos, strict=True)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"two style images would be named '{twice[0]}': rename one of them")
    return names


def _safe(relpath: str) -> str:
    """Turn ``relpath`` into one part of a path on any file system."""
    flat = re.sub(r'[\x00-\x1f\x7f\\/:*?"<>|\ud800-\udfff]', "_", relpath)
    return _ANY_NAME.path(flat.strip(". ") or "_")


def _resize(decoded: DecodedImage, side: int) -> UInt8Array:
    image = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is not None:
        white = Image.new("RGB", image.size, "white")
        image = Image.composite(image, white, Image.fromarray(decoded.alpha_hw))
    scale = min(side / min(image.size), _LONGEST * side / max(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
