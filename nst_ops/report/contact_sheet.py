"""Images and videos before and after, side by side, on one PNG."""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.media.video.reader import AnimationReader, VideoReader
from nst_ops.storage import Folder, folder_and_name

_CELL, _GAP, _LABEL = 256, 12, 20
_VIDEO_FRAME = 24  # a second or so in: first frames are often black

Strip = tuple[str, list[Image.Image]]
"""A label, and the thumbnails of an item: source, the style image where there are several, output."""


def read_strips(manifest: pa.Table, count: int, read_style: Callable[[str], UInt8Array] | None = None) -> list[Strip]:
    """Read thumbnails of ``count`` finished items; a file that cannot be read any more is left out.

    ``read_style`` reads a style image by name, uint8 sRGB (H, W, 3), where there are several; it stands in the middle.
    """
    strips = []
    for row in choose_rows(manifest, count):
        try:
            thumbnails = [_thumbnail(row[uri], row["kind"]) for uri in ("source_uri", "output_uri")]
            label = row["source_uri"].rsplit("/", 1)[1]
            if read_style:
                thumbnails.insert(1, Image.fromarray(read_style(row["style"])))
                thumbnails[1].thumbnail((_CELL, _CELL))
                label = f"{label}, {row['style']}"
        except Exception:  # a source that has gone since is no reason to fail a finished run
            continue
        strips.append((label, thumbnails))
    return strips


def choose_rows(manifest: pa.Table, count: int) -> list[dict[str, str]]:
    """Choose up to ``count`` finished files: all styles first, then half videos, evenly spread.

    Members of shards are left out: a whole shard would have to be fetched for one thumbnail. The rows have
    ``source_uri``, ``output_uri``, ``kind`` and ``style``; videos come first, then by source.
    """
    files = pc.and_(pc.is_null(manifest["source_member"]), pc.is_null(manifest["output_member"]))
    done = manifest.filter(pc.and_(files, pc.equal(manifest["status"], "ok")))
    done = done.sort_by([("source_uri", "ascending"), ("style", "ascending"), ("output_uri", "ascending")])
    rows = done.select(["source_uri", "output_uri", "kind", "style"]).to_pylist()
    num_images = sum(row["kind"] == "image" for row in rows)
    num_videos = min(len(rows) - num_images, max(math.ceil(count / 2), count - num_images))
    wanted = {"video": num_videos, "image": count - num_videos}
    sources = {kind: dict.fromkeys(row["source_uri"] for row in rows if row["kind"] == kind) for kind in wanted}
    ranks = {kind: {uri: rank for rank, uri in enumerate(uris)} for kind, uris in sources.items()}
    kinds, styles, uses = Counter[str](), Counter[str | None](), Counter[str]()

    def priority(row: dict[str, str]) -> tuple[int, bool, int, float]:
        """Lowest for a style, a kind and a source that are short, near the next of evenly spread places."""
        kind, uri = row["kind"], row["source_uri"]
        num_sources = len(ranks[kind])
        step = num_sources / max(1, min(wanted[kind], num_sources))
        far = abs(ranks[kind][uri] - kinds[kind] * step % num_sources)
        return styles[row["style"]], kinds[kind] >= wanted[kind], uses[uri], far

    chosen: list[dict[str, str]] = []
    for _ in range(min(count, len(rows))):
        rows.remove(row := min(rows, key=priority))
        for counter, key in ((kinds, "kind"), (styles, "style"), (uses, "source_uri")):
            counter[row[key]] += 1
        chosen.append(row)
    return sorted(chosen, key=lambda row: (row["kind"] != "video", row["source_uri"]))


def _thumbnail(uri: str, kind: str) -> Image.Image:
    """An image, or a frame of a video, upright, of at most ``_CELL`` pixels a side."""
    folder, name = folder_and_name(uri)
    if kind == "video":
        with ExitStack() as stack:
            reader: AnimationReader | VideoReader
            if name.lower().endswith((".gif", ".webp", ".png", ".apng", ".avif")):
                reader = AnimationReader(stack.enter_context(folder.local_copy(name)), _CELL)
            else:  # of a remote video only the beginning is fetched
                reader = VideoReader(folder.media_source(name), _CELL, keep_damaged=True)
            stack.enter_context(reader)
            *_, frame = itertools.islice(reader.frames(), _VIDEO_FRAME)
            return Image.fromarray(np.ascontiguousarray(reader.info.upright(frame.rgb_hwc)))
    decoded = decode_image(folder.read_bytes(name), _CELL)
    image = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is not None:
        image.putalpha(Image.fromarray(decoded.alpha_hw))
    return image


def write_contact_sheet(strips: list[Strip], output: Folder, relpath: str) -> str:
    """Draw ``strips``, at least one, as the PNG ``relpath`` of ``output``; returns its URI."""
    cells = len(strips[0][1])
    columns = 1 if len(strips) < 3 else 2 if len(strips) <= 8 or cells > 2 else 3
    rows = math.ceil(len(strips) / columns)
    step = _CELL + _GAP // 3
    x_step, y_step = cells * step - _GAP // 3 + _GAP, _CELL + _LABEL + _GAP
    sheet = Image.new("RGB", (columns * x_step + _GAP, rows * y_step + _GAP), (250, 250, 250))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (name, thumbnails) in enumerate(strips):
        x, y = _GAP + index % columns * x_step, _GAP + index // columns * y_step
        label = name.encode("latin-1", "replace").decode("latin-1")
        pen.text((x, y), label if len(label) <= 60 else label[:57] + "...", fill=(60, 60, 60), font=font)
        for number, thumbnail in enumerate(thumbnails):
            times = _CELL // max(thumbnail.size)  # tiny ones a whole number of times
            if times > 1:
                size = thumbnail.width * times, thumbnail.height * times
                thumbnail = thumbnail.resize(size, Image.Resampling.BICUBIC)
            cell = Image.new("RGB", (_CELL, _CELL), (232, 232, 232))
            at = ((_CELL - thumbnail.width) // 2, (_CELL - thumbnail.height) // 2)
            cell.paste(thumbnail, at, thumbnail if thumbnail.mode == "RGBA" else None)
            sheet.paste(cell, (x + number * step, y + _LABEL))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)  # the default takes three times as long, for 5 % of the size
    output.write_bytes(relpath, buffer.getvalue())
    return output.uri(relpath)
