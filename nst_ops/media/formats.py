"""Which files are media, and what is written for each.

An output keeps its source's whole name. Where the format has to change, the new extension is appended (``clip.webm``
becomes ``clip.webm.mkv``, a folder of frames ``clip.webm.frames``), so that ``clip.webm`` and ``clip.avi`` never meet.

To add a format: a line in ``IMAGE_WRITERS`` or ``_IMAGE_READ_ONLY`` if Pillow knows it, in ``VIDEO_CONTAINERS`` or
``_VIDEO_READ_ONLY`` if FFmpeg does, and its first bytes in ``signatures.py``; of shards an entry in ``SHARD_FORMATS``,
and the module that it names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "video", "shard", "other"]
Container = Literal["auto", "mp4", "mov", "mkv", "frames"]
ShardFormat = Literal["auto", "files", "webdataset", "parquet"]
FRAMES_SUFFIX = ".frames"
FILES_SUFFIX = ".files"

IMAGE_WRITERS = {
    # source extension: Pillow format that is written under the same name
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **{".webp": "WEBP", ".bmp": "BMP", ".avif": "AVIF"},
}
_IMAGE_READ_ONLY = {
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".ico", ".heic", ".heif", ".heics", ".hif", ".avifs"),
    *(".jxl", ".mpo", ".jps", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".psd", ".qoi", ".icns", ".dib"),
    *(".dds", ".sgi", ".pcx"),
}

# source extension: container that is written under the same name
VIDEO_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# The result with copied audio does not fit into these: they become Matroska, which takes nearly any codec.
_VIDEO_READ_ONLY = {
    *(".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf"),
    *(".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".m2v", ".mjpeg", ".y4m", ".264", ".h264", ".265", ".hevc"),
    *(".3gpp", ".3gpp2", ".f4v", ".qt", ".tod", ".mpe", ".m1v", ".m2p", ".m2t", ".dv", ".ogm", ".divx", ".rm", ".ivf"),
}

_KINDS: dict[str, Kind] = {
    **dict.fromkeys((*IMAGE_WRITERS, *_IMAGE_READ_ONLY), "image"),
    **dict.fromkeys((*VIDEO_CONTAINERS, *_VIDEO_READ_ONLY), "video"),
}
_LENGTHENED = re.compile(r"(\.[a-z0-9]+)(?:\?[^/]*|[_:!-][a-z0-9]+)$")
_RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
# Why nothing is made of files of these extensions, whatever they hold: they may look like media inside.
_NO_MEDIA = {
    **dict.fromkeys((".thm", ".lrv", ".lrf"), "a camera's preview of the video beside it; rename it if you want it"),
    **dict.fromkeys(_RAW, "a camera's raw file: develop it to JPEG or TIFF"),
}
_APPLE_DOUBLE = "a Mac's AppleDouble file: what it keeps of the file beside it, without its pixels"
_BACKUP = "ExifTool's backup of the file beside it; rename it if you want it"
_HIDDEN = "a hidden file: rename it, or set discovery.hidden, if it is to be stylized"
_SYSTEM = "in a folder that a system keeps for itself"
_SYSTEM_FOLDER = re.compile(
    r"@eaDir|__MACOSX|\$RECYCLE\.BIN|#recycle|lost\+found|System Volume Information|\.Trash(?:-\d+|es)?"
    r"|\.Spotlight-V100|\.fseventsd|\.DocumentRevisions-V100|\.TemporaryItems"
)
_HIDDEN_PART = re.compile(r"(?:^|/)\.(?!\.?(?:/|$))")
# Texts and the like, which often lie beside media by the million: not worth a look into each.
_NEVER_LOOKED_INTO = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".xmp", ".aae", ".html", ".htm", ".md", ".pdf", ".log"),
    *(".ini", ".db", ".yaml", ".yml", ".toml", ".srt", ".vtt", ".ass", ".sub", ".idx", ".nfo", ".url", ".lnk"),
    *(".py", ".js", ".css", ".sh", ".zip", ".gz", ".7z", ".rar", ".npy", ".npz", ".pt", ".pth", ".safetensors"),
    *(".mp3", ".m4a", ".m4b", ".aac", ".wav", ".flac", ".ogg", ".oga", ".opus", ".wma", ".mka", ".aiff", ".amr"),
    # Labels of WebDataset.
    *(".cls", ".cls2", ".index", ".inx", ".id", ".text", ".transcript", ".caption", ".jsn", ".pyd", ".pkl", ".pickle"),
    *(".ten", ".tb", ".msg", ".cbor"),
}


@dataclass(frozen=True)
class ShardEntry:
    """A format of shards: files that hold many images, with their labels.

    The classes are named, not imported: a run without shards does not load their libraries. A format that
    ``--shards.format`` may ask for is also listed in ``ShardsConfig``.
    """

    name: str
    extension: str  # of what is written; read, too
    reader: str  # ``module:class`` of a ``ShardReader`` in ``shards/sample.py``, made from ``(path, image_column)``
    writer: str  # ``module:class`` of a ``ShardWriter``, made from ``(path, layout)``
    read_only: tuple[str, ...] = ()  # other extensions that are read, and written under ``extension``
    is_table: bool = False  # whether its writer needs a ``Layout``, the columns of all samples, before the first


_TAR, _PARQUET = "nst_ops.media.shards.tar", "nst_ops.media.shards.parquet"
# Not written, as images are compressed already.
_COMPRESSED = (".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
SHARD_FORMATS = {
    "webdataset": ShardEntry("webdataset", ".tar", f"{_TAR}:TarReader", f"{_TAR}:TarWriter", _COMPRESSED),
    "parquet": ShardEntry(
        "parquet", ".parquet", f"{_PARQUET}:ParquetReader", f"{_PARQUET}:ParquetWriter", is_table=True
    ),
}


def media_kind(name: str) -> Kind:
    """Return what a file is by its extension; its content has the last word when it is opened.

    Of an extension that a download has made longer (``.jpg_large``, ``.jpg?w=640``) its beginning counts.
    """
    if kind := _KINDS.get(_extension(name)):
        return kind
    if shard_entry(name):
        return "shard"
    lengthened = _LENGTHENED.search(name.lower())
    return _KINDS.get(lengthened[1], "other") if lengthened else "other"


def kind_and_reason(relpath: str, takes_hidden: bool = True) -> tuple[Kind, str | None]:
    """Return what a file is by its path; if that is no media whatever it holds, other and why."""
    name = relpath.rpartition("/")[2]
    if takes_hidden and not name.startswith("._") and (kind := _KINDS.get(_extension(name))):
        return kind, None  # at once, as nearly all files of a list
    reason = _no_media(relpath, takes_hidden)
    return ("other", reason) if reason else (media_kind(relpath), None)


def hidden_reason(relpath: str, takes_hidden: bool = False) -> str | None:
    """Return why a file is not stylized by where a system hides it; None where nothing does."""
    *folders, name = relpath.split("/")
    if name.startswith("._"):
        return _APPLE_DOUBLE
    if takes_hidden:
        return None
    if any(map(_SYSTEM_FOLDER.fullmatch, folders)):
        return _SYSTEM
    # In the key of a bucket . and .. are parts like others.
    return _HIDDEN if _HIDDEN_PART.search(relpath) else None


def _no_media(relpath: str, takes_hidden: bool) -> str | None:
    if reason := hidden_reason(relpath, takes_hidden):
        return reason
    extension = _extension(relpath)
    return _BACKUP if extension.endswith("_original") else _NO_MEDIA.get(extension)


def _extension(path: str) -> str:
    """Return the extension as ``os.path.splitext`` does, in small letters, in a third of its time."""
    stem, dot, extension = path[path.rfind("/") + 1 :].rpartition(".")
    return f"{dot}{extension}".lower() if stem.strip(".") else ""


def is_system_folder(relpath: str) -> bool:
    """Return whether a folder is one that a system keeps for itself, such as its trash; nobody may list some."""
    return _SYSTEM_FOLDER.fullmatch(relpath.rstrip("/").rpartition("/")[2]) is not None


def is_unknown(relpath: str) -> bool:
    """Return whether the name of a file says nothing of what it is: a look at its first bytes would."""
    return _extension(relpath) not in _NEVER_LOOKED_INTO and media_kind(relpath) == "other"


def shard_entry(name: str) -> ShardEntry | None:
    """Return the format of a shard by its extension; None for what is none."""
    return next((e for e in SHARD_FORMATS.values() if name.lower().endswith((e.extension, *e.read_only))), None)


def is_table(shard_format: str) -> bool:
    """Return whether shards of a format are tables; neither tars nor ``files`` are."""
    return shard_format in SHARD_FORMATS and SHARD_FORMATS[shard_format].is_table


def image_output(relpath: str, *, has_alpha: bool = False) -> tuple[str, str]:
    """Return output path and Pillow format of an image; PNG where its own format cannot be written."""
    written = IMAGE_WRITERS.get(os.path.splitext(relpath)[1].lower())
    if written is None or (written in ("JPEG", "BMP") and has_alpha):
        return relpath + ".png", "PNG"
    return relpath, written


def video_output(
    relpath: str, *, fits: bool = True, has_sound: bool = True, container: Container = "auto"
) -> tuple[str, str]:
    """Return output path and container of a video or an animated image, which has no sound and becomes MP4.

    ``fits`` says whether the source's own container takes all codecs of the output. A ``container`` that is asked
    for is written whatever the source; ``frames`` makes a folder.
    """
    if container == "frames":
        return relpath + FRAMES_SUFFIX, "frames"
    own = VIDEO_CONTAINERS.get(os.path.splitext(relpath)[1].lower())
    if container == "auto":
        if not has_sound and not own:
            return relpath + ".mp4", "mp4"
        return (relpath, own) if own and fits else (relpath + ".mkv", "matroska")
    wanted = VIDEO_CONTAINERS["." + container]
    return relpath if own == wanted else f"{relpath}.{container}", wanted


def shard_output(relpath: str, wanted: ShardFormat = "auto") -> tuple[str, str]:
    """Return output path and format of a shard; auto writes what the source is, ``files`` a folder."""
    if wanted == "files":
        return relpath + FILES_SUFFIX, "files"
    source = shard_entry(relpath)
    if wanted == "auto" and source is None:
        raise ValueError(f"{relpath} is no shard: say in which format it is to be written")
    entry = SHARD_FORMATS[wanted] if source is None or wanted != "auto" else source
    is_kept = source is entry and os.path.splitext(relpath)[1].lower() == entry.extension
    return relpath if is_kept else relpath + entry.extension, entry.name


def likely_output(
    relpath: str, container: Container = "auto", shards: ShardFormat = "auto", kind: Kind | None = None
) -> str:
    """Return the output path that planning reserves, before the file is opened; a folder takes all below it, too.

    ``kind`` is what the file was found to be; None: what its name says.
    """
    kind = kind or media_kind(relpath)
    if kind == "video":
        return video_output(relpath, container=container)[0]
    return shard_output(relpath, shards)[0] if kind == "shard" else image_output(relpath)[0]
