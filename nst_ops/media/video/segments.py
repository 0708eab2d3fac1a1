"""Segments of a long video, by its index alone: when frames are shown, which are wanted, and where it can be cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from nst_ops.media.video.container import codec_name, demux, open_input, video_stream
from nst_ops.media.video.source import MediaSource, SampleTable, fragments_end, size_of
from nst_ops.media.video.structure import broken_at

_EARLY = 0.95  # share of the longest keyframe interval below which a keyframe answers a change of scene
_BUCKET_SLACK = Fraction(1, 16)  # clocks in milliseconds round: at its own rate a video keeps every frame
# Containers that hold every frame's PTS and an index of keyframes.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Codecs of which every packet shows one frame: VP8 and packed MPEG-4 have packets that show none.
_ONE_FRAME_A_PACKET = {"h264", "hevc", "av1", "vp9", "mpeg2video", "prores", "dnxhd", "mjpeg", "ffv1", "png", "cfhd"}

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """Which frames of a video are wanted, by its own clock, which starts at its first frame.

    Every frame has a bucket, the number of whole frames of ``max_frame_rate`` since the first. A frame is kept if its
    bucket is not that of the frame before it.
    """

    start_s: float = 0.0
    duration_s: float | None = None  # from ``start_s`` on; None: to the end
    max_frame_rate: float | None = None  # frames per second; None: every frame

    def bounds(self, first_pts: int, time_base: Fraction) -> tuple[int, int | None]:
        """Return the PTS from which frames are wanted, and from which they are not any more."""
        start = _exact(self.start_s)
        end = None if self.duration_s is None else first_pts + math.ceil((start + _exact(self.duration_s)) / time_base)
        return first_pts + math.ceil(start / time_base), end

    def bucket(self, pts: int, first_pts: int, time_base: Fraction) -> int:
        """Return the bucket of a frame; without ``max_frame_rate`` each has its own."""
        if self.max_frame_rate is None:
            return pts
        return math.floor((pts - first_pts) * time_base * _exact(self.max_frame_rate) + _BUCKET_SLACK)

    def kept(self, pts: Int64Array, time_base: Fraction) -> Int64Array:
        """Return the PTS of the frames that are kept, of the ascending PTS of a whole video."""
        if not len(pts):
            return pts
        begin, end = self.bounds(first_pts := int(pts[0]), time_base)
        wanted = pts[(pts >= begin) & (pts < end)] if end is not None else pts[pts >= begin]
        if self.max_frame_rate is None:
            return wanted
        buckets = [self.bucket(time, first_pts, time_base) for time in wanted.tolist()]
        return wanted[[n == 0 or bucket != buckets[n - 1] for n, bucket in enumerate(buckets)]]


@dataclass(frozen=True)
class Segment:
    """A part of a video that is stylized and encoded by itself."""

    number: int  # from 0 on
    count: int  # of segments of the video; with 1 it is done in one pass
    lead_pts: int  # the frame to read from: what lies before ``start_pts`` only warms up the smoothing
    start_pts: int
    end_pts: int | None  # of the next segment's first frame; None: to the end of the selection
    num_frames: int  # from ``start_pts`` on, by the packet index

    def holds(self, pts: int) -> bool:
        """Return whether a frame belongs to it, and not to what is read around it."""
        return pts >= self.start_pts and (self.end_pts is None or pts < self.end_pts)


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """When each frame of a video is shown, and where decoding can begin."""

    time_base: Fraction
    pts: Int64Array  # (N,) of the frames that are shown, ascending
    keyframes: Int64Array  # (K,) positions in ``pts``
    problem: str = ""  # why the video cannot be cut; empty if it can


def read_index(source: MediaSource) -> PacketIndex:
    """Read the packet index of the video stream that ``VideoReader`` reads.

    A video is only said to be cuttable if nothing speaks against it; the others are done in one pass. Of an MP4 or MOV
    only the sample table is read, of a fragmented one and of Matroska every byte. Raises UnreadableVideoError.
    """
    table = SampleTable(source)
    end, _, hole = (0, 0, None) if table.is_whole else fragments_end(source)
    if end > size_of(source) or hole is not None:
        nothing = np.empty(0, np.int64)
        problem = "its last fragment is cut off" if hole is None else "fragments are missing"
        return PacketIndex(Fraction(1, 90000), nothing, nothing, problem)
    # Without parsing, which would find no keyframes among zeros: a whole table needs no correction.
    container = open_input(table, fflags="noparse+nofillin") if table.is_whole else open_input(source)
    rows: list[tuple[int, bool, bool]] = []
    problem = ""
    with container:
        stream = video_stream(container, alone=True)
        time_base = stream.time_base or Fraction(1, 90000)
        if isinstance(source, str) and broken_at(source, container.format.name) is not None:
            problem = "packets are missing inside"
        elif container.format.name not in _INDEXED:
            problem = f"{container.format.name} cannot be searched exactly"
        elif codec_name(stream) not in _ONE_FRAME_A_PACKET:
            problem = f"packets of {codec_name(stream)} may show no frame"
        try:
            for packet in () if problem else demux(container, stream):
                if packet.size and packet.pts is None:
                    problem = "some of its frames have no time"
                elif packet.size:
                    rows.append((packet.pts, packet.is_keyframe, not packet.is_discard))
        except FFmpegError as error:
            problem = f"it cannot be read to its end ({error.strerror})"
    columns = np.array(rows, np.int64).reshape(-1, 3)
    pts, is_key, is_shown = columns[:, 0], columns[:, 1] > 0, columns[:, 2] > 0
    order = np.argsort(pts[is_shown], kind="stable")
    keyframes = np.flatnonzero(is_key[is_shown][order])
    return PacketIndex(time_base, pts[is_shown][order], keyframes, problem or _problem(pts, is_key, is_shown))


def _problem(pts: Int64Array, is_key: BoolArray, is_shown: BoolArray) -> str:
    """Say why packets with these times, in the order of the file, cannot be cut; empty if they can."""
    if (is_key & is_shown).sum() < 2:
        return "it has no keyframes but the first"
    if pts[is_shown].min() < 0:
        return "it begins before zero"  # MP4, which holds the segments, would hide these frames
    if len(np.unique(pts[is_shown])) < is_shown.sum():
        return "some of its frames have the same time"
    first = int(np.argmax(is_key))
    if first > 0 or (is_shown[first] and pts[is_shown].min() < pts[first]):
        return "it begins between two keyframes"
    latest_before = np.maximum.accumulate(pts)[:-1]
    if (pts[1:] < latest_before)[is_key[1:]].any():
        return "its clock begins anew, or its keyframes are none"
    return ""


def cut_segments(index: PacketIndex, target_s: float, lead: int, selection: Selection) -> tuple[Segment, ...]:
    """Cut the frames of a selection at keyframes, near the multiples of a length.

    Near a multiple, a keyframe that came early is taken before others: encoders set one where the scene changes. No
    segment is shorter than half of the length. A video that cannot be cut gives one segment. ``lead`` frames are read
    before each.
    """
    kept = selection.kept(index.pts, index.time_base)
    if index.problem or len(kept) == 0:
        start = int(kept[0]) if len(kept) else 0
        return (Segment(0, 1, start, start, None, len(kept)),)
    cuts = [0]
    if math.isfinite(target_s):
        cuts += _cuts(index, kept, float(_exact(target_s) / index.time_base))
    segments = []
    for number, (cut, end) in enumerate(itertools.pairwise([*cuts, len(kept)])):
        lead_pts, end_pts = int(kept[max(0, cut - lead)]), int(kept[end]) if end < len(kept) else None
        segments.append(Segment(number, len(cuts), lead_pts, int(kept[cut]), end_pts, end - cut))
    return tuple(segments)


def _cuts(index: PacketIndex, kept: Int64Array, target: float) -> Iterator[int]:
    """Yield positions in ``kept`` at which segments begin, but the first; ``target`` is in ticks."""
    intervals = np.diff(index.keyframes, prepend=index.keyframes[:1])
    is_early = intervals < _EARLY * max(intervals, default=0)
    positions = np.searchsorted(kept, index.pts[index.keyframes])
    is_inside = (positions > 0) & (positions < len(kept))
    positions, is_early = positions[is_inside], is_early[is_inside]
    times = kept[positions]
    start, end = int(kept[0]), int(kept[-1])
    last = start
    for number in range(1, math.floor((end - start) / target - 0.5) + 1):
        distances = np.abs(times - (start + number * target))
        fits = (times - last >= target / 2) & (end - times >= target / 2)
        near = fits & (distances <= target / 4)
        for candidates in (near & is_early, near, fits & (distances <= target / 2)):
            if candidates.any():
                best = int(np.argmin(np.where(candidates, distances, np.inf)))
                last = int(times[best])
                yield int(positions[best])
                break


def _exact(seconds_or_rate: float) -> Fraction:
    """Return the number that a person wrote: 0.04 is 1/25, not the nearest binary fraction."""
    return Fraction(seconds_or_rate).limit_denominator(1_000_000)
