"""Segments of a video joined into one, packet by packet, beside the sound of their source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.error import FFmpegError

from nst_ops.media.errors import UnreadableVideoError
from nst_ops.media.video.clock import Span
from nst_ops.media.video.container import VideoInfo, muxer_options, nominal_rate, open_input, video_stream
from nst_ops.media.video.source import MediaSource
from nst_ops.media.video.stream_copy import StreamCopier

_START_AGAIN = "run again with --retry-failed"


def join_segments(
    paths: Sequence[str], path: str, container: str, info: VideoInfo, source: MediaSource, span: Span | None = None
) -> tuple[int, list[str]]:
    """Join the segments of a video as if it had been written in one pass; nothing is encoded again.

    Args:
        paths: segments in order, each written by ``VideoWriter`` as an MP4 without a source, all with the same
            configuration. An empty file stands for a segment of which nothing decodes.
        path: local file to write; if an error is raised the caller removes it.
        container: ``mp4``, ``mov`` or ``matroska``.
        info: the source, as the reader of any of its segments described it.
        source: video whose sound, subtitles, chapters and metadata are copied.
        span: part of the source that the segments cover, as ``VideoReader.span``; the output starts at 0.

    Returns the number of frames in the output, and what of the source has no place in it. Raises UnreadableVideoError
    if a segment is damaged, or does not belong to the others.
    """
    first_path = next((part for part in paths if os.path.getsize(part)), None)
    if first_path is None:
        raise UnreadableVideoError("none of its frames decodes: play it to check, re-encode it")
    notes = list(info.notes)
    shift = round(Fraction(span.begin_s) / info.time_base) if span else 0
    output = av.open(f"file:{path}", "w", format=container, options=muxer_options(container))
    num_frames = 0
    try:
        stream = _add_stream(output, first_path, info)
        with contextlib.closing(StreamCopier(source, output, stream, notes, span)) as copier:
            for packet in _packets(paths, info.time_base):
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                copier.copy_beside(packet)
                packet.stream = stream
                output.mux(packet)
                num_frames += 1
            copier.copy_until(None)
            output.close()
    finally:
        with contextlib.suppress(FFmpegError):  # what went wrong first is on its way already
            output.close()
    return num_frames, notes


def _add_stream(output: OutputContainer, first_path: str, info: VideoInfo) -> Any:
    """Add a video stream with size, codec, color, shape and rotation of the first segment's."""
    with open_input(first_path) as segment:
        template = video_stream(segment)
        stream: Any = output.add_stream_from_template(template, opaque=True)
        if output.format.name in ("mp4", "mov"):
            stream.codec_context.codec_tag = template.codec_context.codec_tag
    stream.time_base = info.time_base
    stream.codec_context.framerate = nominal_rate(info)
    return stream


def _packets(paths: Sequence[str], time_base: Fraction) -> Iterator[Any]:
    """Yield packets of all segments on one clock in ``time_base``: PTS as they are, DTS rising below."""
    settings: Any = None
    last_dts: int | None = None
    latest_pts: int | None = None
    for number, path in enumerate(paths):
        if os.path.getsize(path) == 0:
            continue
        with open_input(path) as segment:
            stream = video_stream(segment)
            context = stream.codec_context
            own = context.name, context.width, context.height, context.pix_fmt, context.extradata
            settings = settings or own
            if own != settings:
                raise UnreadableVideoError(
                    f"segment {number} was encoded with other settings than the first: {_START_AGAIN}"
                )
            is_first, durations = True, _durations(path, time_base)
            for packet in segment.demux(stream):
                if not packet.size:
                    continue
                ticks = packet.time_base / time_base
                packet.pts, packet.dts = round(packet.pts * ticks), round(packet.dts * ticks)
                packet.time_base = time_base
                if is_first and latest_pts is not None and packet.pts <= latest_pts:
                    raise UnreadableVideoError(f"segment {number} begins before the one before it ends: {_START_AGAIN}")
                is_first = False
                packet.duration = durations[packet.pts]
                # The encoder reorders frames ahead of their time. All segments by as much: a DTS raised above that of
                # the segment before still is no later than its frame.
                last_dts = packet.dts = packet.dts if last_dts is None else max(packet.dts, last_dts + 1)
                latest_pts = packet.pts if latest_pts is None else max(latest_pts, packet.pts)
                yield packet


def _durations(path: str, time_base: Fraction) -> dict[int, int]:
    """Return durations by PTS: up to the next frame, the last one's to the end, as an MP4 keeps them."""
    with open_input(path) as segment:
        stream = video_stream(segment)
        ticks = stream.time_base / time_base
        pts = sorted(round(packet.pts * ticks) for packet in segment.demux(stream) if packet.size)
        ends = [*pts[1:], *(start + round((stream.duration or 0) * ticks) for start in pts[:1])]
    return {start: end - start for start, end in zip(pts, ends, strict=True)}
