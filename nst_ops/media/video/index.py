"""The times of a film's pictures and its keyframes, by its packets: nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from nst_ops.media.video.container import codec_name, open_file, open_input, picture_alone
from nst_ops.media.video.sample_table import SampleTable
from nst_ops.media.video.source import MediaSource

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Containers that hold every picture's PTS and an index of keyframes.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Codecs of which every packet shows one picture: VP8 and packed MPEG-4 have packets that show none.
_ONE_PICTURE_A_PACKET = {
    *("h264", "hevc", "av1", "vp9", "mpeg2video", "prores", "dnxhd", "mjpeg", "ffv1", "png", "cfhd"),
}


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """When each picture of a film is shown, and where decoding can begin."""

    time_base: Fraction
    pts: Int64Array
    """(N,) of the pictures that are shown, ascending."""
    keyframes: Int64Array
    """(K,) positions in ``pts``."""
    problem: str = ""
    """Why the film cannot be cut; empty if it can."""


def read_index(source: MediaSource) -> PacketIndex:
    """Packet index of the picture stream that ``VideoReader`` reads.

    A film is only said to be cuttable if nothing speaks against it; the others are done in one pass.
    Of an MP4 or MOV only the sample table is read, of a fragmented one and of Matroska every byte.

    Raises:
        UnreadableVideoError: it does not open, or holds no picture stream.
    """
    with _open_packets(source) as container:
        stream = picture_alone(container)
        time_base = stream.time_base or Fraction(1, 90000)
        none = np.empty(0, np.int64)
        if container.format.name not in _INDEXED:
            return PacketIndex(time_base, none, none, f"{container.format.name} cannot be searched exactly")
        if codec_name(stream) not in _ONE_PICTURE_A_PACKET:
            return PacketIndex(time_base, none, none, f"packets of {codec_name(stream)} may show no picture")
        rows: list[tuple[int, bool, bool]] = []
        problem = ""
        try:
            for packet in container.demux(stream):
                if packet.size and packet.pts is None:
                    problem = "some of its pictures have no time"
                elif packet.size:
                    rows.append((packet.pts, packet.is_keyframe, not packet.is_discard))
        except FFmpegError as error:
            problem = f"it cannot be read to its end ({error.strerror})"
    table = np.array(rows, np.int64).reshape(-1, 3)
    pts, is_key, is_shown = table[:, 0], table[:, 1] > 0, table[:, 2] > 0
    order = np.argsort(pts[is_shown], kind="stable")
    keyframes = np.flatnonzero(is_key[is_shown][order])
    return PacketIndex(time_base, pts[is_shown][order], keyframes, problem or _problem(pts, is_key, is_shown))


def _open_packets(source: MediaSource) -> InputContainer:
    """A container of which the packets have the right times and flags, if not their bytes."""
    table = SampleTable(source)
    if table.is_whole:
        # No parsing: it would find no keyframes among zeros, and the table needs no correction.
        return open_file(table, fflags="noparse+nofillin")
    return open_input(source)


def _problem(pts: Int64Array, is_key: BoolArray, is_shown: BoolArray) -> str:
    """Why packets with these times, in the order of the file, cannot be cut; empty if they can."""
    if (is_key & is_shown).sum() < 2:
        return "it has no keyframes but the first"
    if pts[is_shown].min() < 0:
        return "it begins before zero"  # MP4, which holds the segments, would hide these pictures
    if len(np.unique(pts[is_shown])) < is_shown.sum():
        return "some of its pictures have the same time"
    first = int(np.argmax(is_key))
    if first > 0 or (is_shown[first] and pts[is_shown].min() < pts[first]):
        return "it begins between two keyframes"
    latest_before = np.maximum.accumulate(pts)[:-1]
    if (pts[1:] < latest_before)[is_key[1:]].any():
        return "its clock begins anew, or its keyframes are none"
    return ""
