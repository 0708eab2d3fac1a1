"""Where a file should end, by its own account: a cut-off one is seen before hours go into it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream

from nst_ops.media.errors import UnreadableVideoError
from nst_ops.media.images import UInt8Array, fit_size
from nst_ops.media.video.color import Color
from nst_ops.media.video.source import MediaSource, RangeInput


def promised_bytes(source: MediaSource, container: InputContainer, stream: Any) -> int:
    """Where the file should end, by its own account; 0 if it does not say."""
    name = container.format.name
    if "mp4" in name:
        entries = stream.index_entries
        ends = [entries[i].pos + entries[i].size for i in ((0, len(entries) - 1) if len(entries) else ())]
        return max(ends, default=0)
    file = RangeInput(source)
    if "matroska" in name:
        return _matroska_end(file)
    head = file.read(8)
    # A RIFF says how much follows its first 8 bytes; some writers count these, too.
    promised = int.from_bytes(head[4:], "little") if head[:4] == b"RIFF" else 0
    return 0 if promised == 0xFFFFFFFF else promised  # a recorder that never came back to fill it in


def _matroska_end(file: RangeInput) -> int:
    """The byte at which the segment ends, or 0 for a live recording, which does not know."""
    for element in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML header, segment
        if file.read(4) != element:
            return 0
        first = file.read(1)
        length = 9 - int.from_bytes(first, "big").bit_length()  # a leading 1 says how many bytes
        if not 1 <= length <= 8:
            return 0
        unknown = (1 << 7 * length) - 1
        size = int.from_bytes(first + file.read(length - 1), "big") & unknown
        if element == b"\x18\x53\x80\x67":
            return 0 if size == unknown else file.tell() + size
        file.seek(size, os.SEEK_CUR)
    return 0


_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}


class SampleTable(RangeInput):
    """A file of which the media data read as zeros and cost nothing; all other boxes are true.

    Of an hour of film that is a megabyte or two, at the front or at the end. ``is_whole`` says whether
    it tells of every packet: of other containers and of fragmented files it does not.
    """

    def __init__(self, source: MediaSource) -> None:
        super().__init__(source)
        self._media_data: list[range] = []
        self.is_whole = self._find_media_data()
        self.seek(0)

    def _find_media_data(self) -> bool:
        """Go from box to box; whether all of them are those of an MP4 without fragments."""
        start = 0
        while start < self.num_bytes:
            self.seek(start)
            head = self.read(16)
            num_bytes, kind, head_bytes = int.from_bytes(head[:4]), head[4:8], 8
            if num_bytes == 0:  # up to the end
                num_bytes = self.num_bytes - start
            elif num_bytes == 1:
                num_bytes, head_bytes = int.from_bytes(head[8:]), 16
            if num_bytes < head_bytes or kind == b"moof" or (start == 0 and kind not in _FIRST_BOXES):
                return False
            if kind == b"mdat":
                self._media_data.append(range(start + head_bytes, start + num_bytes))
            start += num_bytes
        return bool(self._media_data)

    def _piece(self, start: int, num_bytes: int) -> bytes:
        for data in self._media_data:
            if start in data:
                return bytes(min(num_bytes, min(data.stop, self.num_bytes) - start))
            if start < data.start:
                num_bytes = min(num_bytes, data.start - start)
        return super()._piece(start, num_bytes)


av.logging.set_level(None)  # FFmpeg's chatter has no file name in it; errors reach us as exceptions

STILL = Disposition.attached_pic | Disposition.timed_thumbnails
CLOCK_RESTART_S = 1  # recordings joined end to end begin anew; a smaller step back is a mere slip
# FFmpeg takes them for MOV, too, and fails at the header.
_MP4_ONLY = {"av1", "flac", "opus", "libopus", "truehd"}
# Demuxers that read the file itself and no other: no playlist, no pattern of file names.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg,mxf,mpegvideo,mjpeg,yuv4mpegpipe,h264,hevc,m4v,vc1,obu,av1,"
    "ivf,nut,dv,gxf,rm,wtv,gif,apng,aac,mp3,flac,wav"
)


@dataclass(frozen=True)
class Frame:
    """One picture at its time."""

    pts: int
    """Presentation time in units of the video's ``time_base``."""
    duration: int
    """In the same unit; 0 if unknown."""
    rgb_hwc: UInt8Array
    """(H, W, 3) as stored, not turned by ``rotation``."""


@dataclass(frozen=True)
class VideoInfo:
    """What a writer needs to write a stylized twin."""

    width: int
    height: int
    """Stored size in pixels, before rotation."""
    time_base: Fraction
    frame_rate: Fraction
    """Average, in frames per second; the truth is in the PTS."""
    duration_s: float
    rotation: int
    """Degrees counter-clockwise that turn a stored frame upright, as in ``VideoFrame.rotation``."""
    sample_aspect_ratio: Fraction | None
    color: Color
    video_codec: str
    audio_codecs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What of the source has no place in the output."""


@dataclass(frozen=True)
class VideoHeader:
    """What the header of a video claims, for estimates; nothing is decoded."""

    width: int
    height: int
    num_frames: int
    duration_s: float


def read_header(source: MediaSource) -> VideoHeader:
    """Size and length of a video by its header.

    Raises:
        UnreadableVideoError: it does not open, or holds no video stream.
    """
    with open_input(source) as container:
        stream = video_stream(container)
        duration_s = (
            float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        )
        duration_s = duration_s or (container.duration or 0) / av.time_base
        num_frames = stream.frames or round(duration_s * float(stream.average_rate or 25))
        return VideoHeader(stream.width, stream.height, num_frames, duration_s)


def video_stream(container: InputContainer) -> Any:
    """The first stream that moves: not cover art, and not FFmpeg's "best", which is the largest.

    Raises:
        UnreadableVideoError: there is none, or its codec is unknown.
    """
    for stream in container.streams.video:
        if not stream.disposition & STILL:
            if not codec_name(stream):
                raise UnreadableVideoError("FFmpeg does not know its codec: convert it to H.264")
            return stream
    raise UnreadableVideoError("it holds no video stream: is it a sound file?")


def only_video_stream(container: InputContainer) -> Any:
    """``video_stream``; from here on the bytes of other streams are not even read.

    Raises:
        UnreadableVideoError: as ``video_stream``.
    """
    stream = video_stream(container)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def muxer_options(container: str, time_base: Fraction | None = None) -> dict[str, str]:
    """Options with which FFmpeg writes a container.

    Args:
        container: ``mp4``, ``mov`` or ``matroska``.
        time_base: of the picture, if it is alone in the file. An MP4 then holds its PTS exactly, whatever
            they start at; so are segments written, to be joined later.
    """
    if container == "matroska":
        return {"fflags": "+bitexact"}  # no random number in the file: the same frames, the same bytes
    # The movie time scale rounds where each stream starts; its default of 1 ms would move the sound.
    clock = 90000 if time_base is None else time_base.denominator
    return {"movflags": "+faststart", "movie_timescale": str(clock)}


def nominal_rate(info: VideoInfo) -> Fraction:
    """A frame rate that encoders and containers take; the PTS carry the truth, this is a hint."""
    rate = info.frame_rate.limit_denominator(1001) if 0 < info.frame_rate <= 1000 else Fraction(25)
    return rate or Fraction(1)


def count_packets(path: str) -> int:
    """Pictures in a file, by its index, without decoding."""
    with open_input(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def open_input(source: MediaSource) -> InputContainer:
    """Open a video for reading; nothing in it can make FFmpeg open another file or a URL.

    Raises:
        UnreadableVideoError: not a video that FFmpeg knows. What a remote file raises comes as it is, from
            here as from the methods of the container.
    """
    return open_file(f"file:{source}" if isinstance(source, str) else RangeInput(source))


def open_file(file: str | RangeInput, **options: str) -> InputContainer:
    """``open_input`` for what FFmpeg takes: a URL of its own, or a file object; with options of a demuxer."""
    try:
        return av.open(
            file,
            "r",
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS, **options},
            metadata_errors="replace",
        )
    except FFmpegError as error:
        raise UnreadableVideoError(
            f"does not open as a video ({error.strerror}): check that it is one and copy it again"
        ) from error


def even_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """(width, height) that 4:2:0 can hold, shrunk to ``max_side``: then rounded, else padded up."""
    width, height = fit_size(size, max_side)
    if (width, height) == size:
        return width + width % 2, height + height % 2
    return max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2))


def codec_name(stream: Stream) -> str:
    """Name of a stream's codec, whichever decoder reads it; empty if FFmpeg knows none."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else ""


def container_takes(container: str, codecs: tuple[str, ...]) -> bool:
    """Whether a container holds all these codecs."""
    with av.open(io.BytesIO(), "w", format=container) as probe:
        return codecs_for(probe).issuperset(codecs)


def codecs_for(output: OutputContainer) -> set[str]:
    """Names of the codecs that ``output`` takes."""
    codecs: set[str] = output.supported_codecs
    return codecs - _MP4_ONLY if output.format.name == "mov" else codecs
