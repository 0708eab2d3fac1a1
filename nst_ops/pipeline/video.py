"""Videos: read (once for all styles) → stylize → smooth → encode → commit, frame by frame, all stages at once."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_ops.collection.manifest import Row
from nst_ops.collection.segments import SegmentRecord
from nst_ops.collection.units import Item, WorkUnit
from nst_ops.media.formats import video_output
from nst_ops.media.signatures import HEAD_BYTES, content_kind
from nst_ops.media.video.color import to_rgb
from nst_ops.media.video.container import MOST_FRAMES_PER_S, Frame, container_takes, count_packets
from nst_ops.media.video.encoders import encoder_for
from nst_ops.media.video.reader import AnimationReader, VideoReader
from nst_ops.media.video.segments import Segment
from nst_ops.media.video.source import MediaSource
from nst_ops.media.video.writer import FRAME_TABLE, FrameFolderWriter, VideoWriter, encoded_as
from nst_ops.pipeline.context import Pixels, WorkerContext, failing
from nst_ops.pipeline.prefetch import QUEUE_BYTES, Timings, fan_out, prefetch, timed
from nst_ops.storage import StorageError
from nst_ops.stylizers import Style, Stylizer
from nst_ops.temporal.scenes import read_samples, shot_at, survey_shots

Reader = VideoReader | AnimationReader
Pair = tuple[Frame, Pixels]  # a source frame and its stylized pixels (H, W, 3)


@dataclass
class StyledVideo:
    """A video, or a segment of it, on its way through one style."""

    unit: WorkUnit
    item: Item
    style_name: str
    style: Style | None = None  # None for a network that has its own style
    outcome: dict[str, Any] = field(default_factory=dict)  # columns of the manifest, or of a segment's record
    error: Exception | None = None
    timings: Timings = field(default_factory=Timings)


Write = Callable[[StyledVideo, Reader, Iterator[Frame]], dict[str, Any]]
"""Encodes the smoothed frames of a video in one style; returns its outcome."""


def holds_image(context: WorkerContext, item: Item) -> bool:
    """Return whether a file is an image by its content, whatever its name says; False where it cannot be read."""
    (read,) = context.source.read_ahead([item["relpath"]], num_bytes=HEAD_BYTES)
    try:
        return content_kind(read()) == "image"
    except StorageError:
        raise
    except OSError:  # reading the video will say it better
        return False


def stylize_video(
    context: WorkerContext, unit: WorkUnit, item: Item, timings: Timings, animated: bool = False
) -> list[Row]:
    """Stylize a video, or an animated image, in each of its styles; return a row for each."""
    videos = [StyledVideo(unit, item, style) for style in item["styles"]]
    if readable := read_styles(context, videos):
        with failing(*readable), context.source.local_copy(item["relpath"]) as path:
            open_animation = partial(AnimationReader, path, context.config.resize.max_side)
            open_reader = open_animation if animated else partial(open_video, context, path)
            source = None if animated else path
            stylize_frames(context, open_reader, source, readable, partial(_write, context, path))
    for video in videos:
        timings.add(video.timings)
        context.telemetry.add(1, 0)
    return [video_row(context, video) for video in videos]


def stylize_frames(
    context: WorkerContext,
    open_reader: Callable[[], Reader],
    source: MediaSource | None,
    videos: Sequence[StyledVideo],
    write: Write,
    segment: Segment | None = None,
) -> None:
    """Take frames through all stages: read, smooth and encode in threads, stylize in this one, or small ones beside it.

    Each video gets its outcome from ``write``, or the error that has failed it; an error of reading or stylizing
    fails all and is raised. ``source`` is the whole video, for its shots; None for an animation. Of a ``segment``
    only its own frames are written: those around it serve to smooth it.
    """
    reading, telemetry = Timings(), context.telemetry

    def smooth_and_encode(video: StyledVideo, pairs: Iterator[Pair]) -> None:
        finished = smooth_frames(context, video, reader, segment, pairs)
        smoothed = prefetch(finished, per_style, observe_fill=telemetry.encode_fill)
        with failing(video), contextlib.closing(smoothed) as frames:
            video.outcome = write(video, reader, frames)

    try:
        with reading.busy("decode_s"):
            opened = open_reader()
        with opened as reader:
            width, height = reader.output_size
            queue_frames = max(1, min(context.config.workers.queue_frames, QUEUE_BYTES // (3 * width * height)))
            per_style = max(1, queue_frames // len(videos))
            read = timed(read_frames(context, reader), reading, "decode_s")
            ahead = contextlib.closing(prefetch(read, queue_frames, reading, telemetry.decode_fill))
            with telemetry.follow(reading, *(video.timings for video in videos)), ahead as frames:
                consumers = [partial(smooth_and_encode, video) for video in videos]
                with contextlib.closing(_stylize(context, frames, (height, width), videos, source)) as stylized:
                    fan_out(stylized, consumers, per_style, reading)
    finally:
        for video in videos:
            video.timings.decode_s += reading.decode_s / len(videos)
            video.timings.wait_s += reading.wait_s / len(videos)


class _Batch(NamedTuple):
    """Frames that are stylized in one call, in the style of the video of this number."""

    frames: list[Frame]
    frames_nhwc: Pixels
    number: int
    stylizer: Stylizer | None  # with the statistics of a shot; None for the worker's own


def _stylize(
    context: WorkerContext,
    frames: Iterator[Frame],
    size: tuple[int, int],
    videos: Sequence[StyledVideo],
    source: MediaSource | None,
) -> Generator[tuple[int, Pair], None, None]:
    """Stylize frames of a height and width, each in every style; yield the number of the style and the pair."""

    def stylize(batch: _Batch) -> list[tuple[int, Pair]]:
        video, styles = videos[batch.number], [videos[batch.number].style] * len(batch.frames)
        stylized_nhwc = context.stylize(batch.frames_nhwc, styles, video.timings, batch.stylizer)
        return [(batch.number, pair) for pair in zip(batch.frames, stylized_nhwc, strict=True)]

    batches = _batches(context, frames, context.batch_size(*size), videos, source)
    for pairs in context.stylize_in_order(stylize, batches, lambda _: size):
        yield from pairs


def _batches(
    context: WorkerContext,
    frames: Iterator[Frame],
    batch_size: int,
    videos: Sequence[StyledVideo],
    source: MediaSource | None,
) -> Iterator[_Batch]:
    """Group frames for the network, once for each style; all of a shot are normalized by statistics sampled from it."""
    temporal = context.config.temporal
    shots = survey_shots(source, temporal.scene_threshold) if source and temporal.freeze_statistics else []
    for shot, run in itertools.groupby(frames, key=lambda frame: shot_at(shots, frame.pts) if shots else None):
        frozen: list[Stylizer | None] = [None] * len(videos)
        if shot and source:
            samples = read_samples(source, shot, context.config.resize.max_side, context.config.video.hdr)
            frozen = [context.freeze(samples, video.style) for video in videos]
        while batch := list(itertools.islice(run, batch_size)):
            frames_nhwc = stack(context, batch)
            for number, stylizer in enumerate(frozen):
                yield _Batch(batch, frames_nhwc, number, stylizer)


def read_frames(context: WorkerContext, reader: Reader) -> Iterator[Frame]:
    """Read the frames of a video, onto the device where they are to be there."""
    return map(context.device_frames.place, reader.frames()) if context.device_frames else reader.frames()


def smooth_frames(
    context: WorkerContext, video: StyledVideo, reader: Reader, segment: Segment | None, pairs: Iterator[Pair]
) -> Iterator[Frame]:
    """Smooth stylized frames over time; yield those that belong to the segment, as a writer takes them."""
    smoother, device = context.new_smoother(), context.device_frames
    width, height = reader.output_size
    stream = device.new_stream() if device else None
    held: deque[Frame] = deque()  # sources of the frames that the smoother still holds
    for pair in itertools.chain(pairs, (None,)):  # None: all were pushed
        if pair:
            held.append(pair[0])
        given = (pair[0].rgb_hwc, pair[1]) if pair else ()
        place = device.smoothing((height, width), stream, given) if device else contextlib.nullcontext()
        finished: list[Frame] = []
        with video.timings.busy("smooth_s"), place:
            for smoothed_hwc in smoother.push(*given) if pair else smoother.flush():
                source = held.popleft()
                if segment is None or segment.holds(source.pts):
                    finished.append(finish_frame(context, reader, source, smoothed_hwc))
        yield from finished


def finish_frame(context: WorkerContext, reader: Reader, source: Frame, smoothed_hwc: Pixels) -> Frame:
    """Return a smoothed frame as a writer takes it; one on the device is on its way to the host then."""
    device, config = context.device_frames, context.config.video
    if config.side_by_side:
        pixels = [source.rgb_hwc, smoothed_hwc]
        smoothed_hwc = device.join(pixels) if device else np.concatenate(pixels, axis=1)
    if device is None:
        return replace(source, rgb_hwc=smoothed_hwc)
    if config.container == "frames":
        return replace(source, rgb_hwc=device.down(smoothed_hwc))
    return replace(source, rgb_hwc=None, yuv=device.start_yuv(smoothed_hwc, encoded_as(reader.info, config)))


def stack(context: WorkerContext, frames: Sequence[Frame]) -> Pixels:
    """Return the pixels of frames of one size as a batch, where they are."""
    if len(frames) == 1:
        return frames[0].rgb_hwc[None]
    pixels = [frame.rgb_hwc for frame in frames]
    return context.device_frames.stack(pixels) if context.device_frames else np.stack(pixels)


def encode(
    context: WorkerContext, video: StyledVideo, frames: Iterator[Frame], writer: VideoWriter | FrameFolderWriter
) -> int:
    """Write frames and finish the file; return how many there were."""
    num_frames = 0
    with contextlib.ExitStack() as opened:
        opened.enter_context(writer)
        for frame in frames:
            with video.timings.busy("encode_s"):
                writer.write(frame)
            context.telemetry.add(0, 1)
            num_frames += 1
        with video.timings.busy("encode_s"):
            opened.close()  # an encoder holds dozens of frames until the end
    return num_frames


def _write(
    context: WorkerContext, path: str, video: StyledVideo, reader: Reader, frames: Iterator[Frame]
) -> dict[str, Any]:
    """Write a stylized video beside the sound of its source, or as a folder of frames; return its columns."""
    relpath, container = video_place(context, video, reader)
    if container == "frames":
        return _write_frame_folder(context, video, reader, relpath, frames)
    source, span = (path, reader.span) if isinstance(reader, VideoReader) else (None, None)
    size = written_size(context, reader)
    with context.output.atomic_write(relpath) as temporary:
        writer = VideoWriter(str(temporary), container, reader.info, size, source, context.config.video, span)
        num_frames = encode(context, video, frames, writer)
        with video.timings.busy("encode_s"):
            file = file_columns(context, relpath, temporary, num_frames)
    return file | video_columns(context, reader, _notes(writer, reader), num_frames)


def _write_frame_folder(
    context: WorkerContext, video: StyledVideo, reader: Reader, relpath: str, frames: Iterator[Frame]
) -> dict[str, Any]:
    """Write a stylized video as a folder of images, of which the manifest names the table."""
    with context.output.atomic_write_folder(relpath) as folder:
        writer = FrameFolderWriter(str(folder), reader.info)
        num_frames = encode(context, video, frames, writer)
        table = (folder / FRAME_TABLE).read_bytes()
    uri, sha256 = context.output.uri(f"{relpath}/{FRAME_TABLE}"), hashlib.sha256(table).hexdigest()
    file = {"output_uri": uri, "output_bytes": len(table), "output_sha256": sha256}
    return file | video_columns(context, reader, _notes(writer, reader), num_frames)


def _notes(writer: VideoWriter | FrameFolderWriter, reader: Reader) -> list[str]:
    """Say what of a video has no place in its output, what changes inside it, and what did not decode."""
    return [*writer.notes, *reader.changes, *damage_notes(reader)]


def read_styles(context: WorkerContext, videos: Sequence[StyledVideo]) -> list[StyledVideo]:
    """Read the style of each video; return those where it could be read, the others have failed."""
    for video in videos:
        with failing(video):
            video.style = context.style(video.item, video.style_name)
    return [video for video in videos if not video.error]


def open_video(
    context: WorkerContext, source: MediaSource, segment: Segment | None = None, tail: int = 0
) -> VideoReader:
    """Open what the configuration selects of a video, or a segment of that and ``tail`` frames more."""
    max_side, video = context.config.resize.max_side, context.config.video
    convert = context.device_frames.to_rgb if context.device_frames else to_rgb
    return VideoReader(source, max_side, video.keep_damaged, context.selection, segment, tail, video.hdr, convert)


def video_place(context: WorkerContext, video: StyledVideo, reader: Reader) -> tuple[str, str]:
    """Return where a stylized video lies in the output, and its container."""
    wanted, has_sound = context.config.video.container, isinstance(reader, VideoReader)
    relpath, container = video_output(video.item["relpath"], has_sound=has_sound, container=wanted)
    codec = encoder_for(context.config.video).codec
    fits = container == "frames" or (container_takes(container, (codec,)) and reader.sound_fits(container))
    if not fits:
        relpath, container = video_output(video.item["relpath"], fits=False, container=wanted)
    return context.output_path(video.item, video.style_name, relpath), container


def written_size(context: WorkerContext, reader: Reader) -> tuple[int, int]:
    """Return (width, height) of the frames that are written."""
    width, height = reader.output_size
    return (2 * width if context.config.video.side_by_side else width), height


def damage_notes(part: Reader | SegmentRecord) -> list[str]:
    """Say what of a video, or of a segment of it, did not decode."""
    if not part.num_damaged:
        return []
    places = "a damaged place" if part.num_damaged == 1 else f"{part.num_damaged:,} damaged places"
    return [places + (", the last at its very end" if part.ends_damaged else "")]


def video_columns(context: WorkerContext, reader: Reader, notes: Sequence[str], num_frames: int) -> dict[str, Any]:
    """Return the manifest's columns of a finished video, but for its file."""
    info, (width, height) = reader.info, written_size(context, reader)
    size = {"width": info.width, "height": info.height, "output_width": width, "output_height": height}
    length = {"num_frames": num_frames, "frame_rate": _likely(info.frame_rate), "duration_s": info.duration_s}
    codecs = {"video_codec": info.video_codec, "audio_codec": ",".join(info.audio_codecs) or None}
    return {"status": "ok", "note": "; ".join(notes) or None, **size, **length, **codecs}


def _likely(frame_rate: Fraction) -> float | None:
    """Return a frame rate, None where a file states what no video has."""
    return float(frame_rate) if 0 < frame_rate <= MOST_FRAMES_PER_S else None


def file_columns(context: WorkerContext, relpath: str, path: Path, num_frames: int) -> dict[str, Any]:
    """Return the manifest's columns of the finished file, after a look whether every frame is in it."""
    num_written = count_packets(str(path))
    if num_written != num_frames:
        raise OSError(f"{num_frames} frames were stylized, but the output holds {num_written}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    encoder, size = encoder_for(context.config.video).name, path.stat().st_size
    return {
        "output_uri": context.output.uri(relpath),
        "output_bytes": size,
        "output_sha256": sha256,
        "encoder": encoder,
    }


def video_row(context: WorkerContext, video: StyledVideo) -> Row:
    """Make the row of a video that is finished or has failed."""
    return context.row(video.unit, video.item, video.style_name, video.timings, video.error, **video.outcome)
