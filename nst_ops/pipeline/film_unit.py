"""A film in one style: frame by frame through the same three stages as images."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from pathlib import Path

import numpy as np

from nst_ops.collection.manifest import Row
from nst_ops.collection.plan import Item, WorkUnit
from nst_ops.media.errors import TooLargeError
from nst_ops.media.formats import video_output
from nst_ops.media.video import (
    AnimationReader,
    Frame,
    VideoReader,
    VideoWriter,
    container_takes,
    count_packets,
)
from nst_ops.pipeline.overlap import Timings, WriteBehind, read_ahead
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import StorageFullError
from nst_ops.stylizers import Style


def stylize_film(
    bench: Workbench, unit: WorkUnit, item: Item, style_name: str, timings: Timings, animated: bool = False
) -> Row:
    """Stylize a video, or an image that moves; its row."""
    own = Timings()
    try:
        style = bench.read_style(style_name)
        with bench.source.local_copy(item["relpath"]) as path:
            outcome = _stylize(bench, item, style_name, style, path, own, animated)
        row = bench.row(unit, item, style_name, own, **outcome)
    except StorageFullError:
        raise
    except MemoryError as error:
        row = bench.failed(unit, item, style_name, TooLargeError(str(error)), own)
    except Exception as error:  # any bad file becomes a row, never the end of the run
        row = bench.failed(unit, item, style_name, error, own)
    timings.add(own)
    return row


def _stylize(
    bench: Workbench,
    item: Item,
    style_name: str,
    style: Style | None,
    path: str,
    timings: Timings,
    animated: bool,
) -> dict[str, object]:
    """Write the stylized film; what the manifest says of it."""
    config = bench.config
    video, depth = config.video, config.workers.queue_frames
    started = time.perf_counter()
    reader: VideoReader | AnimationReader
    if animated:
        reader = AnimationReader(path, config.resize.max_side)
    else:
        reader = VideoReader(path, config.resize.max_side, video.keep_damaged)
    timings.decode_s += time.perf_counter() - started
    with reader:
        info = reader.info
        relpath, container = video_output(item["relpath"], has_sound=not animated)
        if not container_takes(container, info.audio_codecs):
            relpath, container = video_output(item["relpath"], fits=False)
        relpath = bench.place(item, style_name, relpath)
        num_frames = 0
        with bench.output.atomic_write(relpath) as temporary:
            copied = None if animated else path
            writer = VideoWriter(
                str(temporary), container, info, reader.output_size, copied, video.crf, video.preset
            )
            with (
                writer,
                contextlib.closing(read_ahead(reader.frames(), depth, timings)) as frames,
                WriteBehind(writer.write, depth, timings) as behind,
            ):
                while batch := list(itertools.islice(frames, config.model.batch_size)):
                    started = time.perf_counter()
                    frames_nhwc = np.stack([frame.rgb_hwc for frame in batch])
                    stylized_nhwc = bench.paint(frames_nhwc, [style] * len(batch))
                    timings.stylize_s += time.perf_counter() - started
                    for frame, stylized_hwc in zip(batch, stylized_nhwc, strict=True):
                        behind.put(Frame(frame.pts, frame.duration, stylized_hwc))
                    num_frames += len(batch)
                    bench.report(0, len(batch))
            started = time.perf_counter()
            output_bytes, output_sha256 = _check(temporary, num_frames)
            timings.encode_s += time.perf_counter() - started
    notes = list(writer.notes)
    if reader.num_damaged:
        notes.append(f"{reader.num_damaged} damaged places")
    return {
        "status": "ok",
        "note": "; ".join(notes) or None,
        "output_uri": bench.output.uri(relpath),
        "output_bytes": output_bytes,
        "output_sha256": output_sha256,
        "width": info.width,
        "height": info.height,
        "output_width": reader.output_size[0],
        "output_height": reader.output_size[1],
        "num_frames": num_frames,
        "frame_rate": float(info.frame_rate),
        "duration_s": info.duration_s,
        "video_codec": info.video_codec,
        "audio_codec": ",".join(info.audio_codecs) or None,
    }


def _check(path: Path, num_frames: int) -> tuple[int, str]:
    """Size and hash of a finished file, after a look whether every frame is in it."""
    num_packets = count_packets(str(path))
    if num_packets != num_frames:
        raise OSError(f"{num_frames} frames were written, but the output holds {num_packets}")
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
