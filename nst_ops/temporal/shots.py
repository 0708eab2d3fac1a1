"""The shots of a film, from its keyframes alone: the same whichever part of the film is worked on.

Encoders set a keyframe where the scene changes, so a shot mostly begins at one. Where they set them at
fixed distances instead, a shot is taken to begin at the first keyframe after the cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Segment, VideoReader
from nst_ops.media.video.container import open_input, picture_stream
from nst_ops.media.video.source import MediaSource
from nst_ops.temporal.scenes import is_scene_cut

_THUMBNAIL = (128, 72)


@dataclass(frozen=True)
class Shot:
    """Frames between two scene cuts."""

    start_pts: int
    """PTS of its first keyframe, in the film's time base."""
    sample_pts: tuple[int, ...]
    """Of keyframes spread over it."""


def survey_shots(source: MediaSource, threshold: float = 0.35, max_samples: int = 4) -> list[Shot]:
    """Find the shots of a film; every packet is read, but only keyframes are decoded.

    Args:
        source: of the film.
        threshold: of ``is_scene_cut``; 1 for one shot.
        max_samples: keyframes to name of each shot.

    Returns:
        Shots in order, none where no keyframe has a time. Keyframes after the clock has stepped back
        belong to the last.

    Raises:
        UnreadableVideoError: it does not open, or holds no picture stream.
    """
    shots: list[list[int]] = []
    before: UInt8Array | None = None
    for pts, thumbnail_hwc in _keyframes(source):
        if before is None or is_scene_cut(before, thumbnail_hwc, threshold):
            shots.append([])
        shots[-1].append(pts)
        before = thumbnail_hwc
    return [Shot(times[0], _spread(times, max_samples)) for times in shots]


def shot_at(shots: Sequence[Shot], pts: int) -> Shot:
    """The shot that a frame belongs to; frames before the first keyframe belong to the first shot.

    Args:
        shots: at least one, in order.
        pts: of the frame.
    """
    return shots[max(0, bisect_right(shots, pts, key=lambda shot: shot.start_pts) - 1)]


def read_samples(source: MediaSource, shot: Shot, max_side: int | None = None) -> UInt8Array:
    """The frames that a shot is sampled by, as ``VideoReader`` gives them.

    Args:
        source: of the film.
        shot: of that film.
        max_side: longer side of the frames in pixels, as of ``VideoReader``.

    Returns:
        uint8 sRGB, (N, H, W, 3).

    Raises:
        UnreadableVideoError, DamagedVideoError: as of ``VideoReader``.
    """
    return np.stack([_read_frame(source, pts, max_side) for pts in shot.sample_pts])


def _keyframes(source: MediaSource) -> Iterator[tuple[int, UInt8Array]]:
    """PTS and thumbnail of every keyframe, as far as the file can be read, with rising PTS."""
    reformatter = VideoReformatter()
    width, height = _THUMBNAIL
    last_pts: int | None = None
    for frame in _decode_keyframes(source):
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None or (last_pts is not None and pts <= last_pts):
            continue
        last_pts = pts
        small = reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.AREA
        )
        yield pts, np.asarray(small.to_ndarray(), np.uint8)


def _decode_keyframes(source: MediaSource) -> Iterator[VideoFrame]:
    with open_input(source) as container:
        stream = picture_stream(container)
        stream.codec_context.skip_frame = "NONKEY"
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2  # as many as the reader's
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                return  # the reader says what is wrong with the file
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            yield from (frame for frame in frames if frame.key_frame)


def _spread(times: Sequence[int], count: int) -> tuple[int, ...]:
    """At most ``count`` of them, each in the middle of its share."""
    count = min(count, len(times))
    return tuple(times[(2 * i + 1) * len(times) // (2 * count)] for i in range(count))


def _read_frame(source: MediaSource, pts: int, max_side: int | None) -> UInt8Array:
    alone = Segment(number=0, count=2, lead_pts=pts, start_pts=pts, end_pts=pts + 1, num_frames=1)
    with VideoReader(source, max_side, keep_damaged=True, segment=alone) as reader:
        return next(reader.frames()).rgb_hwc
