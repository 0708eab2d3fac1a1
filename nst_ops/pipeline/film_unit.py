"""A film, whole: stylized in one go, written beside its sound in each of its styles."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nst_ops.collection.manifest import Row
from nst_ops.collection.units import Item, WorkUnit
from nst_ops.media.formats import video_output
from nst_ops.media.video import (
    FRAME_TABLE,
    AnimationReader,
    FrameFolderWriter,
    VideoReader,
    VideoWriter,
    container_takes,
    count_packets,
)
from nst_ops.media.video.encoders import encoder_for
from nst_ops.media.video.source import MediaSource
from nst_ops.pipeline.film import Reader, stylize_renditions, write_frames
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.painter import Pair
from nst_ops.pipeline.rendition import Rendition, blame, read_styles, rendition_row
from nst_ops.pipeline.workbench import Workbench


def stylize_film(
    bench: Workbench, unit: WorkUnit, item: Item, timings: Timings, animated: bool = False
) -> list[Row]:
    """Stylize a video, or an image that moves, decoded once for all of its styles; its row in each."""
    renditions = [Rendition(unit, item, style) for style in item["styles"]]
    if painted := read_styles(bench, renditions):
        with blame(*painted), bench.source.local_copy(item["relpath"]) as path:
            _stylize(bench, path, painted, animated)
    for rendition in renditions:
        timings.add(rendition.timings)
        bench.report(1, 0)
    return [rendition_row(bench, rendition) for rendition in renditions]


def open_film(bench: Workbench, source: MediaSource) -> VideoReader:
    """A reader of what the configuration selects of a video."""
    config = bench.config
    return VideoReader(source, config.resize.max_side, config.video.keep_damaged, bench.selection)


def place_film(bench: Workbench, item: Item, style_name: str, reader: Reader) -> tuple[str, str]:
    """Where a stylized film lies in the output, and its container."""
    wanted, has_sound = bench.config.video.container, isinstance(reader, VideoReader)
    relpath, container = video_output(item["relpath"], has_sound=has_sound, container=wanted)
    codecs = (*reader.info.audio_codecs, encoder_for(bench.config.video).codec)
    if container != "frames" and not container_takes(container, codecs):
        relpath, container = video_output(item["relpath"], fits=False, container=wanted)
    return bench.place(item, style_name, relpath), container


def written_size(bench: Workbench, reader: Reader) -> tuple[int, int]:
    """(width, height) of the frames that are written."""
    width, height = reader.output_size
    return (2 * width if bench.config.video.side_by_side else width), height


def film_outcome(
    bench: Workbench, reader: Reader, notes: Sequence[str], num_frames: int, num_damaged: int
) -> dict[str, Any]:
    """What the manifest says of a finished film, but for its file."""
    info, (width, height) = reader.info, written_size(bench, reader)
    notes = [*notes, f"{num_damaged} damaged places"] if num_damaged else notes
    return {
        "status": "ok",
        "note": "; ".join(notes) or None,
        "width": info.width,
        "height": info.height,
        "output_width": width,
        "output_height": height,
        "num_frames": num_frames,
        "frame_rate": float(info.frame_rate),
        "duration_s": info.duration_s,
        "video_codec": info.video_codec,
        "audio_codec": ",".join(info.audio_codecs) or None,
    }


def file_outcome(bench: Workbench, relpath: str, path: Path, num_frames: int) -> dict[str, Any]:
    """What the manifest says of the finished file, after a look whether every frame is in it."""
    num_written = count_packets(str(path))
    if num_written != num_frames:
        raise OSError(f"{num_frames} frames were stylized, but the output holds {num_written}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "output_uri": bench.output.uri(relpath),
        "output_bytes": path.stat().st_size,
        "output_sha256": sha256,
    }


def _stylize(bench: Workbench, path: str, renditions: Sequence[Rendition], animated: bool) -> None:
    write = partial(_write, bench, path)
    if animated:
        open_reader = partial(AnimationReader, path, bench.config.resize.max_side)
        stylize_renditions(bench, open_reader, None, renditions, write)
    else:
        stylize_renditions(bench, partial(open_film, bench, path), path, renditions, write)


def _write(
    bench: Workbench, path: str, rendition: Rendition, reader: Reader, pairs: Iterator[Pair]
) -> dict[str, Any]:
    """Write the stylized film; what the manifest says of it."""
    relpath, container = place_film(bench, rendition.item, rendition.style_name, reader)
    if container == "frames":
        return _write_pictures(bench, rendition, reader, relpath, pairs)
    copied, span_s = (path, reader.span_s) if isinstance(reader, VideoReader) else (None, None)
    with bench.output.atomic_write(relpath) as temporary:
        size = written_size(bench, reader)
        writer = VideoWriter(str(temporary), container, reader.info, size, copied, bench.config.video, span_s)
        with writer:
            num_frames = write_frames(bench, rendition, pairs, writer)
        started = time.perf_counter()
        file = file_outcome(bench, relpath, temporary, num_frames)
        rendition.timings.encode_s += time.perf_counter() - started
    return file | film_outcome(bench, reader, writer.notes, num_frames, reader.num_damaged)


def _write_pictures(
    bench: Workbench, rendition: Rendition, reader: Reader, relpath: str, pairs: Iterator[Pair]
) -> dict[str, Any]:
    """Write the stylized film as a folder of pictures, of which the manifest names the table."""
    with bench.output.atomic_write_folder(relpath) as folder:
        writer = FrameFolderWriter(str(folder), reader.info)
        with writer:
            num_frames = write_frames(bench, rendition, pairs, writer)
        table = (folder / FRAME_TABLE).read_bytes()
    return {
        "output_uri": bench.output.uri(f"{relpath}/{FRAME_TABLE}"),
        "output_bytes": len(table),
        "output_sha256": hashlib.sha256(table).hexdigest(),
        **film_outcome(bench, reader, writer.notes, num_frames, reader.num_damaged),
    }
