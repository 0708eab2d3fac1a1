"""Which files are media, and what is written for each.

An output keeps its source's whole name. Where the format has to change, the new extension
is appended (``clip.webm`` becomes ``clip.webm.mkv``), so that ``clip.webm`` and ``clip.avi``
never meet in one file. A folder of frames is named likewise: ``clip.mp4.frames``, and so are the
files that a shard becomes: ``000.tar.files``.
"""

from __future__ import annotations

import os
from typing import Literal

Kind = Literal["image", "video", "shard", "other"]
Container = Literal["auto", "mp4", "mov", "mkv", "frames"]
ShardFormat = Literal["auto", "files", "webdataset", "parquet"]
FRAMES_SUFFIX = ".frames"
FILES_SUFFIX = ".files"

IMAGE_WRITERS = {
    # source extension: Pillow format that is written under the same name
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
_IMAGE_READ_ONLY = {".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".ico", ".heic", ".heif"}

VIDEO_CONTAINERS = {
    # source extension: container that is written under the same name
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
}
# The result with copied audio does not fit into these: they become Matroska, which takes nearly any codec.
_VIDEO_READ_ONLY = {
    *(".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf"),
    *(".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".m2v", ".mjpeg", ".y4m", ".264", ".h264", ".265", ".hevc"),
}

SHARD_WRITERS = {
    # source extension: format that is written under the same name
    ".tar": "webdataset",
    ".parquet": "parquet",
}
_COMPRESSED_TARS = (".tgz", ".tar.gz")
"""Read only: images are compressed already."""


def media_kind(name: str) -> Kind:
    """What a file is by its extension; its content has the last word when it is opened."""
    extension = os.path.splitext(name)[1].lower()
    if extension in IMAGE_WRITERS or extension in _IMAGE_READ_ONLY:
        return "image"
    if extension in VIDEO_CONTAINERS or extension in _VIDEO_READ_ONLY:
        return "video"
    return "shard" if shard_format(name) else "other"


def image_output(relpath: str, *, has_alpha: bool = False) -> tuple[str, str]:
    """Output path and Pillow format for an image; PNG where its own format cannot be written."""
    written = IMAGE_WRITERS.get(os.path.splitext(relpath)[1].lower())
    if written is None or (written in ("JPEG", "BMP") and has_alpha):
        return relpath + ".png", "PNG"
    return relpath, written


def video_output(
    relpath: str, *, fits: bool = True, has_sound: bool = True, container: Container = "auto"
) -> tuple[str, str]:
    """Output path and container for a video or an animated image.

    A container that is asked for is written whatever the source: the name is kept where its
    extension says so, and the extension appended where not. ``frames`` makes a folder, of which
    the name always ends in ``.frames``.

    Args:
        relpath: source path.
        fits: whether the source's own container takes all codecs of the output.
        has_sound: animated images have none and become MP4.
        container: as in ``VideoConfig``.
    """
    if container == "frames":
        return relpath + FRAMES_SUFFIX, "frames"
    own = VIDEO_CONTAINERS.get(os.path.splitext(relpath)[1].lower())
    if container == "auto":
        if not has_sound:
            return relpath + ".mp4", "mp4"
        return (relpath, own) if own and fits else (relpath + ".mkv", "matroska")
    wanted = VIDEO_CONTAINERS["." + container]
    return relpath if own == wanted else f"{relpath}.{container}", wanted


def shard_format(name: str) -> str | None:
    """What a shard is by its extension; None for what is none."""
    if name.lower().endswith(_COMPRESSED_TARS):
        return "webdataset"
    return SHARD_WRITERS.get(os.path.splitext(name)[1].lower())


def shard_output(relpath: str, wanted: ShardFormat = "auto") -> tuple[str, str]:
    """Output path and format of a shard; the path of ``files`` is a folder.

    Args:
        relpath: source path.
        wanted: as in ``ShardsConfig``; auto writes what the source is, and a compressed tar as a tar.
    """
    if wanted == "files":
        return relpath + FILES_SUFFIX, "files"
    written = str(shard_format(relpath)) if wanted == "auto" else wanted
    if SHARD_WRITERS.get(os.path.splitext(relpath)[1].lower()) == written:
        return relpath, written
    return relpath + (".parquet" if written == "parquet" else ".tar"), written


def likely_output(relpath: str, container: Container = "auto", shards: ShardFormat = "auto") -> str:
    """The output path that planning reserves, before the file is opened.

    A video's folder of frames and a shard's folder of files take all paths below them, too: planning
    must refuse an input whose output would lie in one.
    """
    kind = media_kind(relpath)
    if kind == "video":
        return video_output(relpath, container=container)[0]
    return shard_output(relpath, shards)[0] if kind == "shard" else image_output(relpath)[0]
