"""Before and after, side by side, on one PNG."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from nst_ops.media.images import decode_image
from nst_ops.media.video import AnimationReader, VideoReader
from nst_ops.storage import Folder

_CELL = 256
_GAP = 12
_LABEL = 20
_FRAME_OF_FILM = 24  # a second or so in: first frames are often black


def write_contact_sheet(manifest: pa.Table, output: Folder, relpath: str, num_pairs: int) -> str | None:
    """Draw up to ``num_pairs`` finished items, films first, evenly spread over the collection.

    Args:
        manifest: rows to choose from.
        output: folder to write to.
        relpath: file of the sheet in it.
        num_pairs: pairs to draw.

    Returns:
        The sheet's URI, or None if there is nothing to draw.
    """
    pairs = []
    for row in _choose(manifest, num_pairs):
        try:
            before = _thumbnail(row["source_uri"], row["kind"])
            after = _thumbnail(row["output_uri"], row["kind"])
        except Exception:  # a source that has gone since is no reason to fail a finished run
            continue
        pairs.append((row["source_uri"].rsplit("/", 1)[1], before, after))
    if not pairs:
        return None
    buffer = io.BytesIO()
    _draw(pairs).save(buffer, "PNG")
    with output.atomic_write(relpath) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return output.uri(relpath)


def _choose(manifest: pa.Table, count: int) -> list[dict[str, str]]:
    done = manifest.filter(pc.equal(manifest["status"], "ok")).sort_by("source_uri")
    rows = done.select(["source_uri", "output_uri", "kind"]).to_pylist()
    films, images = ([row for row in rows if row["kind"] == kind] for kind in ("video", "image"))
    num_films = min(len(films), max(math.ceil(count / 2), count - len(images)))
    return _spread(films, num_films) + _spread(images, count - num_films)


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
        animated = name.lower().endswith((".gif", ".webp", ".png", ".apng", ".avif"))
        with (
            folder.local_copy(name) as path,
            AnimationReader(path, _CELL)
            if animated
            else VideoReader(path, _CELL, keep_damaged=True) as reader,
        ):
            frames = list(itertools.islice(reader.frames(), _FRAME_OF_FILM))
            # Quarter turns only: np.rot90 counts them counter-clockwise, as ``rotation`` does.
            picture = Image.fromarray(np.rot90(frames[-1].rgb_hwc, round(reader.info.rotation / 90) % 4))
    return picture


def _draw(pairs: list[tuple[str, Image.Image, Image.Image]]) -> Image.Image:
    columns = 1 if len(pairs) < 3 else 2 if len(pairs) <= 8 else 3
    rows = math.ceil(len(pairs) / columns)
    pair_width, pair_height = 2 * _CELL + _GAP // 3, _CELL + _LABEL
    sheet = Image.new(
        "RGB", (columns * (pair_width + _GAP) + _GAP, rows * (pair_height + _GAP) + _GAP), (250, 250, 250)
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (name, before, after) in enumerate(pairs):
        x = _GAP + index % columns * (pair_width + _GAP)
        y = _GAP + index // columns * (pair_height + _GAP)
        label = name.encode("latin-1", "replace").decode("latin-1")
        pen.text((x, y), label if len(label) <= 60 else label[:57] + "...", fill=(60, 60, 60), font=font)
        for offset, picture in ((0, before), (pair_width - _CELL, after)):
            cell = Image.new("RGB", (_CELL, _CELL), (232, 232, 232))
            at = ((_CELL - picture.width) // 2, (_CELL - picture.height) // 2)
            cell.paste(picture, at, picture if picture.mode == "RGBA" else None)
            sheet.paste(cell, (x + offset, y + _LABEL))
    return sheet
