"""Style pictures, for the stylizers that take their style from an example."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nst_ops.config import ConfigError
from nst_ops.config.stylize import StyleConfig
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import DecodedImage, UInt8Array, decode_image
from nst_ops.storage import FileInfo, Folder

_LONGEST = 4
"""Longer side of a style picture, in shorter sides that were asked for: a frieze must fit into memory."""
_PROBES = 32


@dataclass(frozen=True, eq=False)
class Style:
    """A style picture.

    Attributes:
        name: unique among the styles of a run; part of output paths where there are several.
        pixels_hwc: uint8 sRGB (H, W, 3), at the size whose statistics count.
    """

    name: str
    pixels_hwc: UInt8Array


@dataclass(frozen=True)
class StyleImages:
    """The style pictures of a run by name, each read when it is needed: there may be 50,000.

    Attributes:
        folder_uri: where they lie.
        relpaths: of each name, sorted by name.
        side: pixels of the shorter side of what is read.
        fingerprint: how many they are and a hash of names, sizes and versions: other pictures, another one.
    """

    folder_uri: str
    relpaths: dict[str, str]
    side: int
    fingerprint: str

    @classmethod
    def open(cls, config: StyleConfig) -> StyleImages:
        """List the pictures of ``style.images``, and read a few of them to fail early.

        Raises:
            ConfigError: there are none, one cannot be read, or more than mode ``one`` can take.
        """
        folder, infos = _list_pictures(config)
        if config.mode == "one" and len(infos) > 1:
            raise ConfigError(
                f"style.images '{config.images}' holds {len(infos):,} pictures, and style.mode is one: give "
                "one picture, or --style.mode each (all for every input) or random (one drawn for each)"
            )
        for info in infos:
            if not (info.regular and info.num_bytes):
                raise ConfigError(
                    f"style picture '{folder.uri(info.relpath)}' is empty or no file: remove it"
                )
        relpaths = dict(sorted(zip(_names(infos), (info.relpath for info in infos), strict=True)))
        listing = "\n".join(f"{info.relpath}\t{info.num_bytes}\t{info.version}" for info in infos)
        digest = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16]
        number = f"{len(infos):,} picture{'s' if len(infos) > 1 else ''}"
        pictures = cls(folder.uri(), relpaths, config.side, f"{number}, {digest}")
        for name in pictures.names[:: -(-len(infos) // _PROBES)]:
            pictures.read(name)
        return pictures

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the styles, sorted."""
        return tuple(self.relpaths)

    def read(self, name: str) -> Style:
        """Decode a picture and resize its shorter side to ``side``; transparent parts are white.

        Raises:
            ConfigError: it cannot be read; the message names it.
        """
        folder, relpath = Folder(self.folder_uri), self.relpaths[name]
        try:
            decoded = decode_image(folder.read_bytes(relpath), _LONGEST * self.side)
        except (MediaError, OSError) as error:
            raise ConfigError(f"style picture '{folder.uri(relpath)}' cannot be read: {error}") from error
        return Style(name, _resize(decoded, self.side))


def read_styles(config: StyleConfig) -> list[Style]:
    """All pictures of ``style.images``, sorted by name.

    Raises:
        ConfigError: see ``StyleImages``.
    """
    pictures = StyleImages.open(config)
    return [pictures.read(name) for name in pictures.names]


def _list_pictures(config: StyleConfig) -> tuple[Folder, list[FileInfo]]:
    """The folder and the pictures in it, or the one that was named."""
    if not config.images:
        raise ConfigError("no style pictures: give --style.images, a picture or a folder of them")
    try:
        folder = Folder(config.images)
        if folder.is_file():
            parent, name = folder.uri().rsplit("/", 1)
            folder = Folder(parent or "/")
            infos = [folder.file(name)]
        elif not folder.exists():
            raise ConfigError(f"style.images '{config.images}' does not exist")
        else:
            infos = sorted(
                (info for info in folder.files() if _is_picture(info)), key=lambda info: info.relpath
            )
    except (OSError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"style.images: {error}") from error
    if not infos:
        raise ConfigError(f"style.images '{config.images}' holds no pictures")
    return folder, infos


def _is_picture(info: FileInfo) -> bool:
    hidden = any(part.startswith(".") for part in info.relpath.split("/"))
    return not hidden and media_kind(info.relpath) == "image"


def _names(infos: list[FileInfo]) -> list[str]:
    """A name for every picture that can be a folder's: its path without the extension, if no other has it."""
    short = [_safe(os.path.splitext(info.relpath)[0]) for info in infos]
    counts = Counter(short)
    names = [
        _safe(info.relpath) if counts[name] > 1 else name for name, info in zip(short, infos, strict=True)
    ]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"two style pictures would be named '{twice[0]}': rename one of them")
    return names


def _safe(relpath: str) -> str:
    """``relpath`` as one part of a path on any file system."""
    flat = re.sub(r'[\x00-\x1f\x7f\\/:*?"<>|\ud800-\udfff]', "_", relpath)
    return flat.strip(". ") or "_"


def _resize(decoded: DecodedImage, side: int) -> UInt8Array:
    picture = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is not None:
        white = Image.new("RGB", picture.size, "white")
        picture = Image.composite(picture, white, Image.fromarray(decoded.alpha_hw))
    scale = min(side / min(picture.size), _LONGEST * side / max(picture.size))
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
