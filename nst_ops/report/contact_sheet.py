"""Before and after, side by side, on one PNG."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.media.video import AnimationReader, VideoReader
from nst_ops.storage import Folder

_CELL = 256
_GAP = 12
_LABEL = 20
_ENLARGING = Image.Resampling.BICUBIC
_FRAME_OF_FILM = 24  # a second or so in: first frames are often black

Strip = tuple[str, list[Image.Image]]
"""A label, and the pictures of an item: before, the style where there are several, after."""


def write_contact_sheet(
    manifest: pa.Table,
    output: Folder,
    relpath: str,
    num_pairs: int,
    read_style: Callable[[str], UInt8Array] | None = None,
) -> str | None:
    """Draw up to ``num_pairs`` finished items, films first, evenly spread over collection and styles.

    Args:
        manifest: rows to choose from.
        output: folder to write to.
        relpath: file of the sheet in it.
        num_pairs: pairs to draw.
        read_style: a style picture by name, uint8 sRGB (H, W, 3), where there are several: each stands
            between before and after.

    Returns:
        The sheet's URI, or None if there is nothing to draw.
    """
    strips = read_strips(manifest, num_pairs, read_style)
    if not strips:
        return None
    buffer = io.BytesIO()
    _draw(strips).save(buffer, "PNG")
    with output.atomic_write(relpath) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return output.uri(relpath)


def read_strips(
    manifest: pa.Table, num_pairs: int, read_style: Callable[[str], UInt8Array] | None = None
) -> list[Strip]:
    """The pictures of some finished items, small, as ``write_contact_sheet`` draws them.

    A file that cannot be read any more is left out.
    """
    strips = []
    for row in _choose(manifest, num_pairs):
        try:
            pictures = [_thumbnail(row[uri], row["kind"]) for uri in ("source_uri", "output_uri")]
            label = row["source_uri"].rsplit("/", 1)[1]
            if read_style:
                pictures.insert(1, _fitted(read_style(row["style"])))
                label = f"{label}, {row['style']}"
        except Exception:  # a source that has gone since is no reason to fail a finished run
            continue
        strips.append((label, pictures))
    return strips


def _choose(manifest: pa.Table, count: int) -> list[dict[str, str]]:
    # Not of shards: each would have to be fetched whole for one small picture.
    files = pc.and_(pc.is_null(manifest["source_member"]), pc.is_null(manifest["output_member"]))
    done = manifest.filter(pc.and_(files, pc.equal(manifest["status"], "ok")))
    done = done.sort_by([("source_uri", "ascending"), ("style", "ascending")])
    rows = _turned(done.select(["source_uri", "output_uri", "kind", "style"]).to_pylist())
    films, images = ([row for row in rows if row["kind"] == kind] for kind in ("video", "image"))
    num_films = min(len(films), max(math.ceil(count / 2), count - len(images)))
    return _spread(films, num_films) + _spread(images, count - num_films)


def _turned(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each source's rows begin with another style: every third of three styles would be the same."""
    turned: list[dict[str, str]] = []
    for number, (_, group) in enumerate(itertools.groupby(rows, key=lambda row: row["source_uri"])):
        of_source = list(group)
        first = number % len(of_source)
        turned += of_source[first:] + of_source[:first]
    return turned


def _spread(rows: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    if len(rows) <= count:
        return rows
    return [rows[i * len(rows) // count] for i in range(count)]


def _thumbnail(uri: str, kind: str) -> Image.Image:
    parent, name = uri.rsplit("/", 1)
    folder = Folder(parent)
    if kind == "image":
        decoded = decode_image(folder.read_bytes(name), _CELL)
        picture = Image.fromarray(decoded.rgb_hwc)
        if decoded.alpha_hw is not None:
            picture.putalpha(Image.fromarray(decoded.alpha_hw))
    else:
        with _open_film(folder, name) as reader:
            frames = list(itertools.islice(reader.frames(), _FRAME_OF_FILM))
            # Quarter turns only: np.rot90 counts them counter-clockwise, as ``rotation`` does.
            picture = Image.fromarray(np.rot90(frames[-1].rgb_hwc, round(reader.info.rotation / 90) % 4))
    return picture


@contextlib.contextmanager
def _open_film(folder: Folder, name: str) -> Iterator[AnimationReader | VideoReader]:
    """A reader of small frames; of a remote video only the beginning is fetched."""
    if name.lower().endswith((".gif", ".webp", ".png", ".apng", ".avif")):
        with folder.local_copy(name) as path, AnimationReader(path, _CELL) as animation:
            yield animation
    else:
        with VideoReader(folder.media(name), _CELL, keep_damaged=True) as video:
            yield video


def _fitted(pixels_hwc: UInt8Array) -> Image.Image:
    picture = Image.fromarray(pixels_hwc)
    picture.thumbnail((_CELL, _CELL))
    return picture


def _draw(strips: list[Strip]) -> Image.Image:
    cells = len(strips[0][1])
    columns = 1 if len(strips) < 3 else 2 if len(strips) <= 8 or cells > 2 else 3
    rows = math.ceil(len(strips) / columns)
    step = _CELL + _GAP // 3
    strip_width, strip_height = cells * step - _GAP // 3, _CELL + _LABEL
    sheet = Image.new(
        "RGB", (columns * (strip_width + _GAP) + _GAP, rows * (strip_height + _GAP) + _GAP), (250, 250, 250)
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (name, pictures) in enumerate(strips):
        x = _GAP + index % columns * (strip_width + _GAP)
        y = _GAP + index // columns * (strip_height + _GAP)
        label = name.encode("latin-1", "replace").decode("latin-1")
        pen.text((x, y), label if len(label) <= 60 else label[:57] + "...", fill=(60, 60, 60), font=font)
        for number, picture in enumerate(pictures):
            times = _CELL // max(picture.size)  # tiny ones a whole number of times
            if times > 1:
                picture = picture.resize((picture.width * times, picture.height * times), _ENLARGING)
            cell = Image.new("RGB", (_CELL, _CELL), (232, 232, 232))
            at = ((_CELL - picture.width) // 2, (_CELL - picture.height) // 2)
            cell.paste(picture, at, picture if picture.mode == "RGBA" else None)
            sheet.paste(cell, (x + number * step, y + _LABEL))
    return sheet
