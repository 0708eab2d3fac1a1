"""Feed ten thousand broken files to the job, and look whether each gets its row and the job its end.

    python benchmarks/fuzz.py --files 10000 --output benchmarks/fuzz.json

Files are made from small whole ones by flipped bits, cuts, splices and numbers that lie; some are bombs, small files
that say or unfold to be enormous. The same seed makes the same files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, features
from pydantic import PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table

from nst_ops.collection.integrity import verify
from nst_ops.collection.manifest import Manifest
from nst_ops.config import ConfigError, JobConfig, parse_config
from nst_ops.storage import Folder, StorageError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))  # what makes the whole files

_LOOK_S = 0.05  # seconds between two looks at the memory of the job
_LIST_S = 120.0  # seconds after which the reading of a list is taken for hung
_RUN_S = 1800.0  # seconds after which a job is taken for hung


class FuzzConfig(JobConfig):
    """Stylize broken files, and count jobs that crash, files without a row, hangs, and memory."""

    epilog: ClassVar[str] = "example:\n  python benchmarks/fuzz.py --files 10000 --output benchmarks/fuzz.json\n"

    files: PositiveInt = 1000
    """Number of files."""
    seed: int = 0
    """Seed of the draw of files and of what is broken in them."""
    bombs: bool = True
    """Whether small files that unfold to be enormous are among them."""
    files_per_job: PositiveInt = 200
    """Files that one job is given."""
    item_timeout_s: PositiveFloat = 20.0
    """Limit of an item, as workers.item_timeout_s of the job."""
    memory_gib: PositiveFloat = 4.0
    """Memory in GiB that a process of the job may take; one that takes more is killed, and that is a problem."""
    keep: str = ""
    """Folder to keep the files in that killed a worker, timed out or were a problem. Default: none are kept."""
    output: str = ""
    """JSON file to write the figures to, after each job. Default: none."""


@dataclass
class Figures:
    """What has happened so far."""

    num_files: Counter[str] = field(default_factory=Counter)
    """Files by kind."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Rows by status, and for lists what became of them."""
    error_types: Counter[str] = field(default_factory=Counter)
    crashed: list[str] = field(default_factory=list)
    """Files whose worker died, or was ended at its time limit."""
    problems: list[str] = field(default_factory=list)
    peak_gib: dict[str, float] = field(default_factory=lambda: {"driver": 0.0, "worker": 0.0, "lists": 0.0})
    longest_s: float = 0.0
    """The longest time that an image took to be decoded."""


# Whole files.


def make_seeds(folder: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Make small whole files; return (name, content) of each by kind: image, video, shard, list."""
    folder.mkdir(parents=True)
    return {
        "image": list(_images()),
        "video": list(_videos(folder)),
        "shard": list(_shards(folder)),
        "list": list(_lists(folder)),
    }


def _images() -> Iterator[tuple[str, bytes]]:
    generator = np.random.default_rng(0)
    rgb = Image.fromarray(generator.integers(0, 256, (40, 56, 3), np.uint8)).resize((70, 50))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "maker", {0x9003: "2024:01:01 00:00:00"}
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": profile}
    formats = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".avif": "AVIF", ".jp2": "JPEG2000"}
    for suffix, name in formats.items():
        if name in ("AVIF", "WEBP") and not features.check(name.lower()):
            continue
        for mode in ("RGB", "L", "RGBA", "CMYK", "P", "I;16"):
            options = tags if name in ("JPEG", "PNG", "WEBP", "AVIF") else {}
            with contextlib.suppress(OSError, ValueError, KeyError):
                yield (
                    suffix,
                    _saved(rgb.convert("L").convert(mode) if mode == "I;16" else rgb.convert(mode), name, options),
                )
    yield ".jpg", _saved(rgb, "JPEG", {"progressive": True, **tags})
    yield ".tif", _saved(rgb, "TIFF", {"compression": "tiff_lzw"})
    for suffix, name in ((".bmp", "BMP"), (".gif", "GIF"), (".ppm", "PPM"), (".tga", "TGA"), (".ico", "ICO")):
        yield suffix, _saved(rgb.convert("P") if name == "GIF" else rgb, name, {})
    for suffix, name in ((".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG")):
        more = [rgb.rotate(angle) for angle in (30, 60)]
        yield suffix, _saved(rgb, name, {"save_all": True, "append_images": more, "duration": 80})
    with contextlib.suppress(ImportError, OSError, KeyError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        yield ".heic", _saved(rgb, "HEIF", {})


def _saved(image: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def _videos(folder: Path) -> Iterator[tuple[str, bytes]]:
    import media_factory

    frames = media_factory.moving_frames(12, 64, 48)
    codecs = {
        **dict.fromkeys((".mp4", ".mov", ".mkv", ".ts", ".flv", ".avi"), ("libx264", "aac")),
        **{".webm": ("libvpx", "libopus"), ".mpg": ("mpeg2video", "mp2"), ".ogv": ("libtheora", "libvorbis")},
    }
    for suffix, (codec, sound_codec) in codecs.items():
        sounds = [media_factory.Sound(codec=sound_codec, duration_s=0.5)]
        try:
            path = media_factory.write_video(folder / f"a{suffix}", frames, codec=codec, options={}, sounds=sounds)
        except (OSError, ValueError):  # an encoder that this build of FFmpeg lacks
            continue
        yield suffix, path.read_bytes()
    rich: dict[str, Any] = {"subtitles": [(0.0, 0.2, "words")], "chapters": [(0, 200, "one")], "rotation": 90}
    yield ".mp4", media_factory.write_video(folder / "rich.mp4", frames, sounds=sounds[:0], **rich).read_bytes()
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    whole = media_factory.write_video(folder / "f.mp4", frames, options={"g": "4"}, container_options=fragments)
    yield ".mp4", whole.read_bytes()
    long = {"time_base": Fraction(1, 2), "options": {"g": "2", "preset": "ultrafast"}}
    yield ".mp4", media_factory.write_video(folder / "long.mp4", frames, **long).read_bytes()  # is cut into segments


def _shards(folder: Path) -> Iterator[tuple[str, bytes]]:
    import shard_factory

    members = []
    for index in range(4):
        members += [(f"{index}.png", shard_factory.image_bytes(index)), (f"{index}.cls", b"%d" % index)]
        members += [(f"{index}.json", json.dumps({"n": [index]}).encode())]
    yield ".tar", shard_factory.write_tar(folder / "a.tar", members).read_bytes()
    yield ".tar.gz", shard_factory.write_tar(folder / "a.tar.gz", members, "w:gz").read_bytes()
    with tarfile.open(folder / "pax.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members[:3]:
            info = tarfile.TarInfo("long/" * 40 + name)
            info.size, info.pax_headers = len(data), {"comment": "ü" * 200}
            tar.addfile(info, io.BytesIO(data))
    yield ".tar", (folder / "pax.tar").read_bytes()
    images = [shard_factory.image_bytes(index) for index in range(5)]
    labels: dict[str, Any] = {"label": [f"{index:03d}" for index in range(5)], "boxes": [[{"x": 1.0}]] * 5}
    yield ".parquet", shard_factory.write_hf_parquet(folder / "a.parquet", images, **labels).read_bytes()


def _lists(folder: Path) -> Iterator[tuple[str, bytes]]:
    names = [f"/data/folder {index}/image {index}.jpg" for index in range(30)]
    yield ".txt", "\n".join(names).encode()
    yield ".txt", "\r\n".join(names).encode("utf-16")
    yield ".csv", ("path,size,label\n" + "\n".join(f'"{name}",{len(name)},007' for name in names)).encode()
    yield ".tsv", ("uri\tsize\n" + "\n".join(f"s3://bucket{name}\t1" for name in names)).encode()
    yield ".jsonl", "\n".join(json.dumps({"path": name, "size": 1, "tags": {"a": [1]}}) for name in names).encode()
    for number, kind in enumerate((pa.string(), pa.dictionary(pa.int32(), pa.string()))):
        table = pa.table({"path": pa.array(names).cast(kind), "size": list(range(30)), "tags": [[{"a": 1}]] * 30})
        pq.write_table(table, folder / f"list{number}.parquet")
        yield ".parquet", (folder / f"list{number}.parquet").read_bytes()


# What is broken in them.


def _flip(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _flip_header(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    for _ in range(chance.choice((1, 2, 4))):
        data[chance.randrange(min(len(data), 256))] = chance.randrange(256)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    return bytes(data[: chance.choice((chance.randrange(len(data)), chance.randrange(min(64, len(data))), -1))])


def _splice(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    return bytes(data[: chance.randrange(len(data))]) + other[chance.randrange(len(other)) :]


def _lie(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    """Overwrite a number by one that is as large as it gets, or nearly."""
    form = chance.choice((">I", "<I", ">H", "<H", ">Q", "<Q"))
    bits = 8 * struct.calcsize(form)
    value = chance.choice((0, 1, 2**bits - 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 8, len(data) * 2))
    place = chance.randrange(max(1, min(len(data) - 8, chance.choice((64, 1024, len(data))))))
    number = struct.pack(form, value % 2**bits)
    return bytes(data[:place]) + number + bytes(data[place + len(number) :])


def _repeat(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    begin = chance.randrange(len(data))
    piece = bytes(data[begin : begin + chance.choice((4, 64, 512, 4096))])
    return bytes(data[:begin]) + piece * chance.choice((2, 16, 256)) + bytes(data[begin:])


def _drop(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    begin = chance.randrange(len(data))
    return bytes(data[:begin] + data[begin + chance.choice((1, 2, 16, 512)) :])


def _blank(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    begin, length = chance.randrange(len(data)), chance.choice((4, 64, 512, 4096))
    fill = chance.choice((b"\0", b"\xff", b" "))
    return bytes(data[:begin]) + fill * min(length, len(data) - begin) + bytes(data[begin + length :])


def _join(data: bytearray, chance: random.Random, other: bytes) -> bytes:
    return bytes(data) + other


MUTATIONS: dict[str, Callable[[bytearray, random.Random, bytes], bytes]] = {
    "flip": _flip,
    "flip_header": _flip_header,
    "cut": _cut,
    "splice": _splice,
    "lie": _lie,
    "repeat": _repeat,
    "drop": _drop,
    "blank": _blank,
    "join": _join,
}


# Bombs: small files that say, or unfold, to be enormous.


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes, num_zeros: int = 10**6) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(num_zeros), 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + _chunk(b"IEND", b"")


def _zeros_gz(num_bytes: int) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        for _ in range(num_bytes // 2**20):
            file.write(bytes(2**20))
    return buffer.getvalue()


def _tar_of_zeros(num_bytes: int, name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A compressed tar with one member of zeros."""
    info = tarfile.TarInfo(name)
    info.size, info.type = num_bytes, kind
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(info.tobuf())
        for _ in range(num_bytes // 2**20):
            file.write(bytes(2**20))
    return buffer.getvalue()


def _sparse_tar() -> bytes:
    """A tar whose one member, of a few bytes, says to be a sparse file of a terabyte."""
    info = tarfile.TarInfo("a.png")
    info.size, info.pax_headers = 512, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.size": str(2**40)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"1\n0\n1\n".ljust(512, b"\0")))
    return buffer.getvalue()


def _parquet_of_nulls(num_rows: int, column: str) -> bytes:
    buffer = io.BytesIO()
    schema = pa.schema([(column, pa.binary() if column == "image" else pa.string())])
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for _ in range(num_rows // 100_000):
            writer.write_table(pa.table({column: pa.nulls(100_000, schema.field(0).type)}, schema=schema))
    return buffer.getvalue()


def _parquet_of_one_value(column: str, num_bytes: int, num_rows: int) -> bytes:
    buffer = io.BytesIO()
    kind = pa.binary() if column == "image" else pa.string()
    value: Any = bytes(num_bytes) if column == "image" else "a" * num_bytes
    table = pa.table({column: pa.array([value] * num_rows, kind)})
    pq.write_table(table, buffer, compression="zstd", use_dictionary=True)
    return buffer.getvalue()


def _laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))
    return (
        f'<?xml version="1.0"?><!DOCTYPE x [{entities}]><x:xmpmeta xmlns:x="adobe:ns:meta/">&l11;</x:xmpmeta>'.encode()
    )


def _jpeg_with(app1: bytes, size: tuple[int, int] = (0, 0)) -> bytes:
    """A JPEG with a block of metadata, and a size that lies."""
    data = _saved(Image.new("RGB", (16, 16)), "JPEG", {})
    if size != (0, 0):
        place = data.index(b"\xff\xc0")
        data = data[: place + 5] + struct.pack(">HH", size[1], size[0]) + data[place + 9 :]
    block = b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 if app1 else b""
    return data[:2] + block + data[2:]


def _zip_of_zeros() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(2**27))
    return buffer.getvalue()


def _gif(width: int, height: int, num_frames: int) -> bytes:
    frame = b"\x21\xf9\x04\0\0\0\0\0\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6)
    return head + frame * num_frames + b"\x3b"


def _large_video(width: int, height: int) -> bytes:
    import media_factory

    with tempfile.TemporaryDirectory() as folder:
        frames = [np.zeros((height, width, 3), np.uint8)] * 2
        options = {"preset": "ultrafast", "crf": "50"}
        path: Path = media_factory.write_video(Path(folder, "a.mp4"), frames, options=options)
        return path.read_bytes()


def _boxes(depth: int) -> bytes:
    """An MP4 of boxes in boxes."""
    data = b""
    for _ in range(depth):
        data = struct.pack(">I", len(data) + 8) + b"moov" + data
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + data


def _tiff_in_a_circle() -> bytes:
    """A TIFF whose first page says to be followed by itself."""
    data = bytearray(_saved(Image.new("L", (8, 8)), "TIFF", {}))
    start = struct.unpack("<I", data[4:8])[0]
    (count,) = struct.unpack("<H", data[start : start + 2])
    end = start + 2 + 12 * count
    data[end : end + 4] = struct.pack("<I", start)
    return bytes(data)


BOMBS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    # name: kind, suffix, content
    "png of 60000 x 60000": ("image", ".png", lambda: _png(60_000, 60_000)),
    "png of 13000 x 13000": ("image", ".png", lambda: _png(13_000, 13_000, num_zeros=(3 * 13_000 + 1) * 13_000)),
    "png text": ("image", ".png", lambda: _png(8, 8, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28), 9)))),
    "png itxt": ("image", ".png", lambda: _png(8, 8, _chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**28), 9)))),
    "png profile": ("image", ".png", lambda: _png(8, 8, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**28), 9)))),
    "jpeg of 65500 x 65500": ("image", ".jpg", lambda: _jpeg_with(b"", (65_500, 65_500))),
    "jpeg of 12000 x 12000": ("image", ".jpg", lambda: _saved(Image.new("RGB", (12_000, 12_000)), "JPEG", {})),
    "xmp of a billion laughs": ("image", ".jpg", lambda: _jpeg_with(b"http://ns.adobe.com/xap/1.0/\0" + _laughs())),
    "gif of 65535 x 65535": ("image", ".gif", lambda: _gif(65_535, 65_535, 1)),
    "gif of many frames": ("image", ".gif", lambda: _gif(1000, 1000, 200)),
    "bmp of 60000 x 60000": (
        "image",
        ".bmp",
        lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ),
    "webp of 16383 x 16383": (
        "image",
        ".webp",
        lambda: _saved(Image.new("L", (16_383, 8000)), "WEBP", {"quality": 1, "method": 0}),
    ),
    "ppm of 10^9 x 10^9": ("image", ".ppm", lambda: b"P6\n1000000000 1000000000\n255\n" + bytes(100)),
    "tga run": ("image", ".tga", lambda: struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 60_000, 60_000, 24, 0)),
    "tiff in a circle": ("image", ".tif", _tiff_in_a_circle),
    "zip as jpeg": ("image", ".jpg", _zip_of_zeros),
    "gzip as png": ("image", ".png", lambda: _zeros_gz(2**27)),
    "xml as png": ("image", ".png", _laughs),
    "video of 16384 x 8192": ("video", ".mp4", lambda: _large_video(16_384, 8192)),
    "video of 8192 x 8192": ("video", ".mp4", lambda: _large_video(8192, 8192)),
    "boxes in boxes": ("video", ".mp4", lambda: _boxes(20_000)),
    "xml as video": ("video", ".mkv", _laughs),
    "playlist as video": ("video", ".ts", lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n"),
    "concat as video": ("video", ".mp4", lambda: b"ffconcat version 1.0\nfile /etc/hostname\n"),
    "tar of 1 GiB of zeros": ("shard", ".tar.gz", lambda: _tar_of_zeros(2**30, "a.png")),
    "tar of a label of 1 GiB": ("shard", ".tar.gz", lambda: _tar_of_zeros(2**30, "a.txt")),
    "tar of a header of 1 GiB": ("shard", ".tar.gz", lambda: _tar_of_zeros(2**30, "a.png", tarfile.XHDTYPE)),
    "sparse tar": ("shard", ".tar", _sparse_tar),
    "gzip of zeros as tar": ("shard", ".tar.gz", lambda: _zeros_gz(2**30)),
    "parquet of nulls": ("shard", ".parquet", lambda: _parquet_of_nulls(200_000, "image")),
    "parquet of large values": ("shard", ".parquet", lambda: _parquet_of_one_value("image", 2**24, 64)),
    "list of nulls": ("list", ".parquet", lambda: _parquet_of_nulls(10**7, "path")),
    "list of large values": ("list", ".parquet", lambda: _parquet_of_one_value("path", 2**20, 1000)),
    "list of one long line": ("list", ".txt", lambda: b"a" * 2**26),
    "csv of one long field": ("list", ".csv", lambda: b"path\n" + b'"' + b"a\n" * 2**24),
    "deep json": ("list", ".jsonl", lambda: b'{"path": "a.jpg", "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}\n"),
    "long json": ("list", ".jsonl", lambda: b'{"path": "' + b"a" * 2**26 + b'"}\n'),
    "many columns": ("list", ".csv", lambda: ",".join(["path", *map(str, range(20_000))]).encode() + b"\na.jpg\n"),
}
_BOMB_EVERY = 125  # files; so each comes twice among ten thousand

_WEIGHTS = {"image": 55, "video": 18, "shard": 12, "list": 15}


@dataclass(frozen=True)
class BrokenFile:
    """A file that is broken, and how."""

    number: int
    kind: str
    how: str
    suffix: str
    data: bytes

    @property
    def name(self) -> str:
        """Name without a folder."""
        return f"{self.number:06d} {self.how.replace('^', '')}{self.suffix}"


def broken_files(config: FuzzConfig, seeds: dict[str, list[tuple[str, bytes]]]) -> Iterator[BrokenFile]:
    """Yield the files of a seed, one after the other."""
    bombs = list(BOMBS)
    for number in range(config.files):
        chance = random.Random(f"{config.seed} {number}")
        if config.bombs and number % _BOMB_EVERY == 0:
            name = bombs[number // _BOMB_EVERY % len(bombs)]
            kind, suffix, make = BOMBS[name]
            yield BrokenFile(number, kind, name, suffix, make())
            continue
        kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        suffix, data = chance.choice(seeds[kind])
        _, other = chance.choice(seeds[chance.choice((kind, kind, "image"))])
        how = chance.choice(list(MUTATIONS))
        mutant = data
        for _ in range(chance.choice((1, 1, 2))):
            mutant = MUTATIONS[how](bytearray(mutant), chance, other) if mutant else mutant
        yield BrokenFile(number, kind, how, suffix, mutant)


# Jobs.


class Fuzz:
    """All jobs."""

    def __init__(self, config: FuzzConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.figures = Figures()
        self._started = time.monotonic()

    def run(self) -> Figures:
        """Run jobs until every file was in one."""
        seeds = make_seeds(self.folder / "seeds")
        batch: list[BrokenFile] = []
        for file in broken_files(self.config, seeds):
            self.figures.num_files[file.kind] += 1
            batch.append(file)
            if len(batch) == self.config.files_per_job or file.number == self.config.files - 1:
                self._lists([file for file in batch if file.kind == "list"])
                self._job([file for file in batch if file.kind != "list"])
                batch = []
                self._write()
                told = f"{file.number + 1} files, {len(self.figures.problems)} problems, {dict(self.figures.statuses)}"
                peaks = {name: round(gib, 2) for name, gib in self.figures.peak_gib.items()}
                print(f"{time.strftime('%T')} {told}, {peaks} GiB", flush=True)
        return self.figures

    def _problem(self, text: str, *files: Path) -> None:
        self.figures.problems.append(text[:2000])
        print(f"PROBLEM {text}", flush=True)
        self._keep(*files)

    def _keep(self, *files: Path) -> None:
        if self.config.keep:
            os.makedirs(self.config.keep, exist_ok=True)
            for path in files:
                shutil.copy(path, Path(self.config.keep, f"{self.config.seed}-{path.name}"))

    def _job(self, files: list[BrokenFile]) -> None:
        """Stylize files, and look whether each has its rows and every output is whole."""
        if not files:
            return
        figures = self.figures
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            source, output = Path(scratch, "in"), Path(scratch, "out")
            source.mkdir()
            for file in files:
                (source / file.name).write_bytes(file.data)
            command = [sys.executable, str(ROOT / "jobs/stylize_dataset.py"), "--executor", "local"]
            command += ["--input", str(source), "--output", str(output), "--model.kind", "identity"]
            command += ["--units.images", "25", "--units.segment_s", "1", "--report.pairs", "2"]
            command += ["--workers.attempts", "2", "--workers.item_timeout_s", str(self.config.item_timeout_s)]
            variables = {**os.environ, "TMPDIR": scratch, "PYTHONPATH": str(ROOT)}
            with Path(scratch, "log").open("w") as log:
                job = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
                self._watch(job)
            code, tail = job.returncode, Path(scratch, "log").read_text(errors="replace")[-1500:]
            every = [source / file.name for file in files]
            if code not in (0, 3):
                self._problem(f"a job ends with exit code {code}: {tail}", *every)
                return
            rows = Manifest(Folder(str(output))).table().to_pylist()
            figures.statuses.update(row["status"] for row in rows)
            figures.error_types.update(row["error_type"] for row in rows if row["error_type"])
            figures.longest_s = max([figures.longest_s, *(row["decode_s"] or 0 for row in rows)])
            for path in sorted(set(map(str, every)) - {row["source_uri"] for row in rows}):
                self._problem(f"no row: {Path(path).name}", Path(path))
            for row in rows:
                if row["status"] == "crashed":
                    name = Path(row["source_uri"]).name
                    figures.crashed.append(f"{name}: {row['error_type']}: {row['error_message']}"[:300])
                    self._keep(source / name)
            if not (report := verify(Folder(str(output)), threads=2)).is_whole:
                self._problem(f"not whole: {report.examples}", *every)

    def _watch(self, job: subprocess.Popen[bytes]) -> None:
        """Wait for a job; note the memory of its processes, and kill what takes too much."""
        until = time.monotonic() + _RUN_S
        while job.poll() is None:
            time.sleep(_LOOK_S)
            if time.monotonic() > until:
                self._problem("a job hangs")
                job.kill()
            with contextlib.suppress(psutil.Error):
                driver = psutil.Process(job.pid)
                for process in (driver, *driver.children(recursive=True)):
                    self._weigh(process, "driver" if process == driver else "worker")

    def _weigh(self, process: psutil.Process, role: str) -> None:
        with contextlib.suppress(psutil.Error):
            gib = process.memory_info().rss / 2**30
            self.figures.peak_gib[role] = max(self.figures.peak_gib[role], gib)
            if gib > self.config.memory_gib:
                names = [file.path for file in process.open_files() if self.folder.name in file.path]
                process.kill()
                self._problem(f"a {role} takes {gib:.1f} GiB, with {names}")

    def _lists(self, files: list[BrokenFile]) -> None:
        """Read lists as a driver does, in a process apart."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            waiting = []
            for file in files:
                path = Path(scratch, file.name)
                path.write_bytes(file.data)
                waiting.append(path)
            while waiting:
                command = [sys.executable, str(Path(__file__)), "--lists", str(_LIST_S)]
                variables = {**os.environ, "TMPDIR": scratch, "PYTHONPATH": str(ROOT)}
                pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
                reader = subprocess.Popen(command, env=variables, text=True, **pipes)
                watch = threading.Thread(target=self._watch_reader, args=(reader,))
                watch.start()
                answers, errors = reader.communicate("\n".join(map(str, waiting)))
                watch.join()
                done = answers.splitlines()
                for path, answer in zip(waiting, done, strict=False):
                    what = answer.split(": ")[0]
                    self.figures.statuses[f"list {what}"] += 1
                    if what == "crash":
                        self._problem(f"{path.name}: {answer}", path)
                if len(done) < len(waiting):
                    self._problem(f"{waiting[len(done)].name}: ends its reader: {errors[-1000:]}", waiting[len(done)])
                waiting = waiting[len(done) + 1 :]

    def _watch_reader(self, reader: subprocess.Popen[str]) -> None:
        while reader.poll() is None:
            time.sleep(_LOOK_S)
            with contextlib.suppress(psutil.Error):
                self._weigh(psutil.Process(reader.pid), "lists")

    def _write(self) -> None:
        if self.config.output:
            figures = self.figures
            record = {
                "command": " ".join(["python", *sys.argv]),
                "files": figures.num_files.total(),
                "files_by_kind": dict(figures.num_files),
                "problems": figures.problems,
                "rows_by_status": dict(figures.statuses),
                "rows_by_error": dict(figures.error_types.most_common()),
                "crashed": figures.crashed,
                "peak_gib": {name: round(gib, 2) for name, gib in figures.peak_gib.items()},
                "longest_decode_s": round(figures.longest_s, 2),
                "elapsed_s": round(time.monotonic() - self._started),
            }
            Path(self.config.output).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _read_lists(limit_s: float) -> None:
    """Read the lists that standard input names; print a line for each. One that takes too long ends the process."""
    from nst_ops.collection.inputs import Source, discover
    from nst_ops.collection.manifest import SCHEMA
    from nst_ops.collection.planner import Plan, PlanRules
    from nst_ops.collection.styles import StyleChoice

    for line in sys.stdin:
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            source = Source.open(line.rstrip("\n"))
            plan = Plan(discover(source), SCHEMA.empty_table(), PlanRules(StyleChoice(("identity",))), source.root)
            num_items = sum(len(unit.items) for unit in plan.units()) + sum(map(len, plan.refusals()))
            print(f"ok: {num_items}", flush=True)
        except (ConfigError, FileNotFoundError, PermissionError, ValueError, StorageError) as error:
            print(f"refused: {type(error).__name__}", flush=True)  # the command makes a line of it, exit code 2
        except Exception as error:
            print(f"crash: {type(error).__name__}: {str(error)[:200]!r}", flush=True)
        faulthandler.cancel_dump_traceback_later()


def run_fuzz(config: FuzzConfig) -> Figures:
    """Run the jobs of a configuration."""
    with tempfile.TemporaryDirectory(prefix="nst-ops-fuzz-") as folder:
        return Fuzz(config, Path(folder)).run()


def main() -> int:
    """Run, print the table; exit code 3 if something was wrong."""
    if "--lists" in sys.argv[1:2]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _read_lists(float(sys.argv[2]))
        return 0
    figures = run_fuzz(parse_config(FuzzConfig))
    table = Table("kind", "files", title=f"{figures.num_files.total():,} files")
    for kind, count in figures.num_files.items():
        table.add_row(kind, f"{count:,}")
    console = Console()
    console.print(table)
    for title, counts in (("rows", figures.statuses), ("errors", figures.error_types)):
        console.print(f"{title}: " + ", ".join(f"{count:,} {what}" for what, count in counts.most_common()))
    console.print("peak memory: " + ", ".join(f"{name} {gib:.2f} GiB" for name, gib in figures.peak_gib.items()))
    for text in (*figures.crashed, f"{len(figures.problems):,} problems", *figures.problems):
        console.print(text, soft_wrap=True, markup=False)
    return 3 if figures.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
