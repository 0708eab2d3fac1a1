"""Containers as FFmpeg opens and writes them: streams, codecs, header, options of the muxer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame

from nst_ops.media.errors import UnreadableVideoError, UnsupportedMediaError
from nst_ops.media.images import UInt8Array, fit_size
from nst_ops.media.signatures import HEAD_BYTES, NO_MEDIA, content_format
from nst_ops.media.video.color import Color
from nst_ops.media.video.hdr import Mastering
from nst_ops.media.video.programs import read_programs
from nst_ops.media.video.source import MediaSource, RangeInput, lacks_table, size_of

av.logging.set_level(None)  # FFmpeg's chatter has no file name in it; errors reach us as exceptions

STILL = Disposition.attached_pic | Disposition.timed_thumbnails
MOST_FRAMES_PER_S = 1000  # what states more is mistaken
# FFmpeg takes them for MOV, too, and fails at the header.
_MP4_ONLY = {"av1", "flac", "opus", "libopus", "truehd"}
# Demuxers that read the file itself and no other: no playlist, no pattern of file names.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg,mxf,mpegvideo,mjpeg,yuv4mpegpipe,h264,hevc,m4v,vc1,obu,av1,"
    "ivf,nut,dv,gxf,rm,wtv,gif,apng,aac,mp3,flac,wav"
)
BROADCAST = {"mpegts", "mpeg"}  # formats whose clock begins anywhere, and whose length is only guessed from its ends
# Formats in which a stream may begin anywhere in the file, and options with which FFmpeg looks far for it.
_BEGIN_ANYWHERE = BROADCAST | {"flv"}
_LOOK_FAR = {"probesize": str(50 * 2**20), "analyzeduration": str(3600 * av.time_base), "scan_all_pmts": "1"}
_LEAST_BYTES = 188  # of a frame of a broadcast, for estimates: a packet of MPEG-TS
# Zeros between the packets of MPEG-TS, from recorders and rescued copies, that FFmpeg passes over and loses no frame.
_RESYNC = str(2**31 - 1)
_PASSED_BYTES = 2**15  # of other formats, at each try


@dataclass(frozen=True)
class Frame:
    """One frame at its time."""

    pts: int  # presentation time in units of the video's ``time_base``
    duration: int  # in the same unit; 0 if unknown
    rgb_hwc: Any  # uint8 sRGB (H, W, 3) as stored, not turned upright: an array, or a tensor on a device
    captions: bytes = b""  # closed captions that travel in the frame: ``cc_data`` triplets of CTA-708
    yuv: Callable[[], VideoFrame] | None = None  # in the place of RGB: waits for the planes on their way to the encoder


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video that its stylized video shares."""

    width: int  # stored size in pixels, before rotation
    height: int
    time_base: Fraction
    frame_rate: Fraction  # average, in frames per second; the truth is in the PTS
    duration_s: float
    color: Color
    video_codec: str
    audio_codecs: tuple[str, ...] = ()
    # Nine integers, as MP4 has them: from places in a stored frame to those where it is shown; empty if they agree.
    display_matrix: tuple[int, ...] = ()
    sample_aspect_ratio: Fraction | None = None
    mastering: Mastering | None = None  # of frames that are written in high dynamic range
    notes: tuple[str, ...] = ()  # properties that have no place in the output, in words

    @property
    def swaps_sides(self) -> bool:
        """Whether the width of a stored frame is the height of the upright one."""
        return bool(self.display_matrix) and abs(self.display_matrix[1]) > abs(self.display_matrix[0])

    def upright(self, frame_hwc: UInt8Array) -> UInt8Array:
        """Turn and mirror a stored frame (H, W, C) as the display matrix says, to the nearest quarter turn."""
        if not self.display_matrix:
            return frame_hwc
        a, b, _, c, d = self.display_matrix[:5]
        x, y = (c, b) if self.swaps_sides else (a, d)
        turned_hwc = frame_hwc.transpose(1, 0, 2) if self.swaps_sides else frame_hwc
        return turned_hwc[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1]


@dataclass(frozen=True)
class VideoHeader:
    """Claims of a video's header, for estimates; nothing is decoded."""

    width: int
    height: int
    num_frames: int
    duration_s: float


def read_header(source: MediaSource) -> VideoHeader:
    """Read size and length from a header; UnreadableVideoError if the file does not open or holds no video."""
    with open_input(source) as container:
        stream = video_stream(container)
        duration_s = stream_duration_s(container, stream)
        rate = float(stream.average_rate or 25)
        num_frames = stream.frames or round(duration_s * rate)
        most_frames = size_of(source) // _LEAST_BYTES
        if container.format.name in BROADCAST and num_frames > most_frames:  # the clock of a joined recording jumps
            num_frames, duration_s = most_frames, most_frames / rate
        return VideoHeader(stream.width, stream.height, num_frames, duration_s)


def stream_duration_s(container: InputContainer, stream: Any) -> float:
    """Return the length of a stream; that of the file where the stream does not say."""
    length_s = (container.duration or 0) / av.time_base
    if stream.duration and stream.time_base:
        length_s = float(stream.duration * stream.time_base)
    # Matroska and fragmented MP4 say when they end, not how long they are.
    says_end = "matroska" in container.format.name or ("mp4" in container.format.name and not stream.frames)
    return length_s - max(0, container.start_time or 0) / av.time_base if says_end else length_s


def open_input(source: MediaSource | RangeInput, **demuxer_options: str) -> InputContainer:
    """Open a video for reading; nothing in it can make FFmpeg open another file or a URL.

    Raises UnreadableVideoError if FFmpeg does not know it. What a remote file raises comes as it is, from here as from
    the methods of the container.
    """
    file = f"file:{source}" if isinstance(source, str) else source
    if not isinstance(file, str | RangeInput):
        file = RangeInput(file)
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, **demuxer_options}
    if isinstance(source, str):  # of a remote file this might be a long way
        options |= {"resync_size": _RESYNC}
    try:
        return av.open(file, "r", options=options, metadata_errors="replace")
    except FFmpegError as error:
        reason = f"does not open as a video ({error.strerror}): check that it is one and copy it again"
        head = b"" if isinstance(source, RangeInput) else RangeInput(source).read(HEAD_BYTES)
        if not isinstance(source, RangeInput) and lacks_table(source):
            reason = (
                "does not open as a video: the file was not finished, its index (moov) is missing: copy it again, or "
                "rebuild it with a tool such as untrunc and a whole video of the same camera"
            )
        raise UnreadableVideoError(NO_MEDIA.get(content_format(head), reason)) from error


DEFAULT_MEGAPIXELS = 70.0
_max_pixels = int(DEFAULT_MEGAPIXELS * 1e6)


def limit_frame_megapixels(megapixels: float) -> None:
    """Set the size of frames, in millions of pixels, above which this process reads no video."""
    global _max_pixels
    _max_pixels = int(megapixels * 1e6)


def open_whole(source: MediaSource | RangeInput) -> InputContainer:
    """Open a video to read all of it: streams that begin late are known, if they do in its first 50 MB."""
    near = open_input(source)
    if not isinstance(source, str) or near.format.name not in _BEGIN_ANYWHERE:
        return near
    far = open_input(source, **_LOOK_FAR)
    # Where nothing is won, what is known of a stream is to be of its first part.
    lacks = len(near.streams) < len(far.streams) or any(
        codec_name(each) and not each.rate for each in near.streams.audio
    )
    best, other = (far, near) if lacks and not _changes(near, far) else (near, far)
    other.close()
    return best


def codec_changes(source: MediaSource, container: InputContainer) -> list[tuple[str, str, str]]:
    """Return the kind of each stream whose codec changes in its first 50 MB, as joined recordings do, and both codecs.

    The container is that of ``open_whole``, which knows the first codecs.
    """
    if not isinstance(source, str) or container.format.name not in _BEGIN_ANYWHERE:
        return []
    with open_input(source, **_LOOK_FAR) as far:
        return _changes(container, far)


def _changes(near: InputContainer, far: InputContainer) -> list[tuple[str, str, str]]:
    pairs = zip(near.streams, far.streams, strict=False)
    found = [(stream.type, codec_name(stream), codec_name(later)) for stream, later in pairs]
    return [(kind, before, after) for kind, before, after in found if before and after and before != after]


def demux(container: InputContainer, streams: Stream | Sequence[Stream]) -> Iterator[Any]:
    """Yield the packets of streams up to the end of the file; the last of each stream is empty.

    PyAV's own stops where FFmpeg asks to try again, and fails at the end if a stream has begun that was not known on
    opening.
    """
    num_tries = max(0, container.size) // _PASSED_BYTES + 16
    while True:
        try:
            yield from container.demux(streams)
        except IndexError:
            return
        except BlockingIOError:
            num_tries -= 1
            if num_tries <= 0:
                raise
        else:
            return


def has_more_streams(container: InputContainer) -> bool:
    """Return whether streams have begun, up to where a file was read, that were not known on opening.

    PyAV does not list them. It refuses a stream whose number is too high, though.
    """
    with av.open(io.BytesIO(), "w", format="nut") as other:
        numbered = [other.add_stream("pcm_s16le", rate=8000) for _ in range(len(container.streams) + 1)]
        try:
            list(container.demux(numbered[-1]))
        except (FFmpegError, IndexError):
            return True
        except ValueError:
            return False
    return True


def video_stream(container: InputContainer, alone: bool = False) -> Any:
    """Return the first stream that moves: not cover art, and not FFmpeg's "best", which is the largest.

    With ``alone`` the bytes of other streams are not even read from here on. Raises UnreadableVideoError if there is
    none, or its codec is unknown; UnsupportedMediaError if its frames are larger than ``limit_frame_megapixels`` says.
    """
    stream = next((each for each in container.streams.video if not each.disposition & STILL), None)
    if stream is None:
        raise UnreadableVideoError("it holds no video stream: is it a sound file?")
    if not codec_name(stream):
        raise UnreadableVideoError("FFmpeg does not know its codec: convert it to H.264")
    num_pixels = stream.codec_context.width * stream.codec_context.height
    if num_pixels > _max_pixels:
        raise UnsupportedMediaError(
            f"frames of {num_pixels / 1e6:,.4g} megapixels, and video.max_megapixels is {_max_pixels / 1e6:,.4g}: "
            "shrink it, or raise that, with --retry-failed, where there is memory, about 40 MB for each"
        )
    stream.codec_context.options = {"max_pixels": str(_max_pixels)}  # of frames that come later
    for other in container.streams if alone else ():
        if other is not stream:
            other.discard = Discard.all
    return stream


def own_streams(container: InputContainer, source: MediaSource, video: Stream) -> list[Stream]:
    """Return the streams of the program that a video belongs to; of a file without programs all."""
    streams = list(container.streams)
    if container.format.name != "mpegts":
        return streams
    programs = read_programs(source)
    own = {pid for program in programs if video.id in program for pid in program}
    others = {pid for program in programs for pid in program} - own
    return [stream for stream in streams if stream.id not in others] if own else streams


def count_packets(path: str) -> int:
    """Count the frames in a file by its packets, without decoding."""
    with open_input(path) as container:
        return sum(packet.size > 0 for packet in demux(container, container.streams.video[0]))


def codec_name(stream: Stream) -> str:
    """Return the name of a stream's codec, whichever decoder reads it; empty if FFmpeg knows none."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else ""


def container_takes(container: str, codecs: tuple[str, ...]) -> bool:
    """Return whether a container holds all these codecs."""
    with av.open(io.BytesIO(), "w", format=container) as probe:
        return codecs_for(probe).issuperset(codecs)


def takes_copy(container: str, stream: Stream) -> bool:
    """Return whether a container takes the packets of a stream as they are, by writing a header for it alone."""
    options = {key: value for key, value in muxer_options(container).items() if key == "strict"}
    output = av.open(io.BytesIO(), "w", format=container, options=options)
    try:
        output.add_stream_from_template(stream)
        output.start_encoding()
    except (FFmpegError, ValueError):
        return False
    finally:
        with contextlib.suppress(FFmpegError):  # it misses packets
            output.close()
    return True


def codecs_for(output: OutputContainer) -> set[str]:
    """Return the names of the codecs that ``output`` takes."""
    codecs: set[str] = output.supported_codecs
    return codecs - _MP4_ONLY if output.format.name == "mov" else codecs


def muxer_options(container: str, time_base: Fraction | None = None) -> dict[str, str]:
    """Return the options with which FFmpeg writes an ``mp4``, ``mov`` or ``matroska``.

    With the ``time_base`` of a video that is alone in it, an MP4 holds its PTS exactly, whatever they start at: so are
    segments written, to be joined later.
    """
    if container == "matroska":
        # No random number in the file: the same frames, the same bytes. Sound that begins a little before zero, as AAC
        # out of an MP4 does, is left there: else all other streams would be late by as much.
        return {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
    # The movie time scale rounds where each stream starts; its default of 1 ms would move the sound.
    clock = 90000 if time_base is None else time_base.denominator
    # strict: MP3 below 16 kHz, which cheap cameras write, plays everywhere, yet FFmpeg calls it out of the standard.
    return {"movflags": "+faststart", "movie_timescale": str(clock), "strict": "unofficial"}


def nominal_rate(info: VideoInfo) -> Fraction:
    """Return a frame rate that encoders and containers take; the PTS carry the truth, this is a hint."""
    rate = info.frame_rate.limit_denominator(1001) if 0 < info.frame_rate <= MOST_FRAMES_PER_S else Fraction(25)
    return rate or Fraction(1)


def even_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return a (width, height) that 4:2:0 can hold, shrunk to ``max_side``: then rounded, else padded up."""
    width, height = fit_size(size, max_side)
    if (width, height) == size:
        return width + width % 2, height + height % 2
    return max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2))
