"""Videos to uint8 frames and back, with PyAV, frame by frame.

Kept: the number of frames, each frame's own PTS in the source's time base, rotation, sample
aspect ratio, colour matrix, range, transfer and primaries, audio and subtitle streams
(copied packet by packet), chapters and metadata. Written: H.264, 4:2:0, 8 bit.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from nst_ops.media.errors import (
    DamagedVideoError,
    EmptyFileError,
    UnreadableImageError,
    UnreadableVideoError,
)
from nst_ops.media.images import UInt8Array, fit_size

av.logging.set_level(None)  # FFmpeg's chatter has no file name in it; errors reach us as exceptions

_UNSPECIFIED = 2
# ITU-T H.273 matrix coefficients to what swscale calls them.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_LIMITED, _FULL = 1, 2
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
# Measured on a 4:2:0 picture and back: Lanczos up and area down lose the least chroma (53 dB in
# RGB against 49 dB for bicubic both ways, 45 dB without the exact flags).
_TO_RGB = Interpolation.LANCZOS | _EXACT
_TO_YUV = Interpolation.AREA | _EXACT
# Containers write these themselves; copied, they would lie about the new file.
_CONTAINER_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
_MP4_ONLY = {"flac", "opus", "libopus", "truehd"}  # FFmpeg takes them for MOV, too, and fails at the header
_CLOCK_RESTART_S = 1  # recordings joined end to end begin anew; a smaller step back is a mere slip
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails
_STREAM_TAGS = ("language", "title")
_DEFAULT_DELAY_MS = 100  # what browsers take for delays of up to 10 ms
# Demuxers that read the file itself and no other: no playlist, no pattern of file names.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg,mxf,mpegvideo,mjpeg,yuv4mpegpipe,h264,hevc,m4v,vc1,obu,av1,"
    "ivf,nut,dv,gxf,rm,wtv,gif,apng,aac,mp3,flac,wav"
)

# The movie time scale rounds where each stream starts; its default of 1 ms would move the sound.
_ISO_BMFF = {"movflags": "+faststart", "movie_timescale": "90000"}
_MUXER: dict[str, dict[str, str]] = {"mp4": _ISO_BMFF, "mov": _ISO_BMFF, "matroska": {}}


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
class Colour:
    """H.273 code points of a stream; 2 is unspecified and stays so."""

    matrix: int = _UNSPECIFIED
    range: int = 0
    transfer: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED


@dataclass(frozen=True)
class VideoInfo:
    """What a writer needs to write a stylized twin."""

    width: int
    height: int
    """Stored size in pixels, before rotation."""
    time_base: Fraction
    frame_rate: Fraction
    """Average, in frames per second; the truth is in the PTS."""
    num_frames: int
    """As the header claims; 0 if it does not say."""
    duration_s: float
    rotation: int
    """Degrees counter-clockwise that turn a stored frame upright, as in ``VideoFrame.rotation``."""
    sample_aspect_ratio: Fraction | None
    colour: Colour
    video_codec: str
    audio_codecs: tuple[str, ...]
    subtitle_codecs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What of the source has no place in the output."""
    animation: bool = False
    """True for animated images: no sound, and the container is ours to choose."""


class VideoReader:
    """Frames of the first picture stream, front to back.

    Args:
        path: local file.
        max_side: shrink frames to this longer side in pixels (both sides then even).
        keep_damaged: go on after packets that do not decode, counting them in ``num_damaged``.

    Raises:
        EmptyFileError, UnreadableVideoError: on opening.
        DamagedVideoError: on opening a cut-off file, or while iterating.
    """

    def __init__(self, path: str, max_side: int | None = None, keep_damaged: bool = False) -> None:
        self.path = path
        self.keep_damaged = keep_damaged
        self.num_damaged = 0
        self.num_decoded = 0
        self._reformatter = VideoReformatter()
        if os.path.getsize(path) == 0:
            raise EmptyFileError("the file is empty (0 bytes): copy it again from its origin")
        self._container = open_input(path)
        try:
            self._stream = self._picture_stream()
            self._refuse_cut_off()
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = 2  # more of them can hang beside torch's own
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise UnreadableVideoError("none of its frames decodes: play it to check, re-encode it")
            self._first = first
            self.info = self._describe(first)
        except BaseException:
            self.close()
            raise
        self.output_size = even_size((self.info.width, self.info.height), max_side)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def frames(self) -> Iterator[Frame]:
        """Every frame once, at the working size, with rising PTS."""
        step = max(1, round(1 / (self.info.frame_rate * self.info.time_base)))
        last_pts: int | None = None
        shift = 0
        for picture in itertools.chain([self._first], self._decoded):
            pts = picture.pts if picture.pts is not None else picture.dts
            if pts is None:  # AVI and raw streams may give none: count on at the average rate
                pts = 0 if last_pts is None else last_pts + step
            else:
                pts += shift
            if last_pts is not None and pts <= last_pts:
                if (last_pts - pts) * self.info.time_base > _CLOCK_RESTART_S:
                    shift += last_pts + step - pts
                    pts = last_pts + step
                else:
                    pts = last_pts + 1
            last_pts = pts
            yield Frame(pts, picture.duration or step, self._to_rgb(picture))

    def _picture_stream(self) -> Any:
        """The first stream that moves: not cover art, and not FFmpeg's "best", which is the largest."""
        for stream in self._container.streams.video:
            if not stream.disposition & _STILL:
                if not _codec(stream):
                    raise UnreadableVideoError("FFmpeg does not know its codec: convert it to H.264")
                return stream
        raise UnreadableVideoError("it holds no video stream: is it a sound file?")

    def _refuse_cut_off(self) -> None:
        """Most containers say how long they are: see a cut-off file before hours go into it."""
        if self.keep_damaged:
            return
        promised, size = self._promised_bytes(), os.path.getsize(self.path)
        if promised > size:
            raise DamagedVideoError(
                f"cut off: its header reaches to byte {promised:,}, the file ends at {size:,}; copy it "
                "again, or set video.keep_damaged to write what decodes"
            )

    def _promised_bytes(self) -> int:
        """Where the file should end, by its own account; 0 if it does not say."""
        name = self._container.format.name
        if "mp4" in name:
            entries = self._stream.index_entries
            ends = [entries[i].pos + entries[i].size for i in ((0, len(entries) - 1) if len(entries) else ())]
            return max(ends, default=0)
        with open(self.path, "rb") as file:
            if "matroska" in name:
                return _matroska_end(file)
            head = file.read(8)
        # A RIFF says how much follows its first 8 bytes; some writers count these, too.
        promised = int.from_bytes(head[4:], "little") if head[:4] == b"RIFF" else 0
        return 0 if promised == 0xFFFFFFFF else promised  # a recorder that never came back to fill it in

    def _decode(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self._stream)
        whole = False  # whether a picture without holes has come
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError as error:
                self._damage(error)
                return
            try:
                frames = packet.decode()
            except (InvalidDataError, av.error.ExternalError) as error:
                # Before the first picture this is a recording that starts mid-way, not damage.
                if self.num_decoded:
                    self._damage(error)
                continue
            for frame in frames:
                if frame.is_corrupt and whole:
                    self._damage(None)  # the decoder has painted over a hole
                whole = whole or not frame.is_corrupt
                self.num_decoded += 1
                yield frame

    def _damage(self, error: FFmpegError | None) -> None:
        self.num_damaged += 1
        if not self.keep_damaged:
            what = error.strerror if error else "parts of the picture are missing"
            raise DamagedVideoError(
                f"damaged after frame {self.num_decoded} ({what}): copy it again, or set "
                "video.keep_damaged to write what decodes"
            ) from error

    def _describe(self, first: VideoFrame) -> VideoInfo:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
        time_base = stream.time_base or Fraction(1, 90000)
        if stream.duration:
            duration_s = float(stream.duration * time_base)
        else:
            duration_s = (container.duration or 0) / av.time_base
        is_rgb = first.format.is_rgb or first.format.has_palette
        colour = Colour(
            1 if is_rgb else _known(first.colorspace),
            _LIMITED if is_rgb else int(first.color_range or 0),
            _known(first.color_trc),
            _known(first.color_primaries),
        )
        notes = []
        if first.interlaced_frame:
            notes.append("interlaced: its two fields are stylized as one picture")
        if any(part.is_alpha for part in first.format.components) or stream.metadata.get("alpha_mode") == "1":
            notes.append("its transparency is left out")
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        return VideoInfo(
            width=first.width,
            height=first.height,
            time_base=time_base,
            frame_rate=Fraction(rate),
            num_frames=stream.frames,
            duration_s=duration_s,
            rotation=first.rotation,
            sample_aspect_ratio=aspect or None,
            colour=colour,
            video_codec=_codec(stream),
            audio_codecs=tuple(filter(None, map(_codec, container.streams.audio))),
            subtitle_codecs=tuple(filter(None, map(_codec, container.streams.subtitles))),
            notes=tuple(notes),
        )

    def _to_rgb(self, frame: VideoFrame) -> UInt8Array:
        width, height = self.info.width, self.info.height  # the size may change midway, the output's not
        if self.output_size[0] < width or self.output_size[1] < height:  # odd sizes are padded when written
            width, height = self.output_size
        matrix = _sws_matrix(self.info.colour.matrix, self.info.height)
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_FULL if frame.color_range == _FULL else _LIMITED,
            dst_color_range=_FULL,
            interpolation=_TO_RGB,
        )
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


class AnimationReader:
    """Frames of an animated GIF, WebP, PNG or AVIF, composed by Pillow over white.

    The same interface as ``VideoReader``; the time base is a millisecond.

    Raises:
        UnreadableImageError: on opening, or while iterating over damaged frames.
    """

    num_damaged = 0

    def __init__(self, path: str, max_side: int | None = None) -> None:
        try:
            self._image = Image.open(path)
            self._num_frames: int = getattr(self._image, "n_frames", 1)
            # An animated PNG may begin with a still for viewers that know no better.
            self._first = int(bool(self._image.info.get("default_image")))
            durations = [self._duration_ms(index) for index in range(self._first, self._num_frames)]
        except Exception as error:
            raise UnreadableImageError(
                f"damaged animation: {error}: copy it again from its origin"
            ) from error
        self._durations_ms = durations
        total_ms = sum(durations)
        self.info = VideoInfo(
            width=self._image.width,
            height=self._image.height,
            time_base=Fraction(1, 1000),
            frame_rate=Fraction(1000 * len(durations), total_ms),
            num_frames=len(durations),
            duration_s=total_ms / 1000,
            rotation=0,
            sample_aspect_ratio=None,
            colour=Colour(matrix=1, range=_LIMITED),
            video_codec=str(self._image.format).lower(),
            audio_codecs=(),
            animation=True,
        )
        self.path = path
        self.output_size = even_size((self._image.width, self._image.height), max_side)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._image.close()

    def frames(self) -> Iterator[Frame]:
        """Every frame once, with its delay as its duration."""
        pts = 0
        for index, duration_ms in enumerate(self._durations_ms, self._first):
            try:
                self._image.seek(index)
                picture = self._image.convert("RGBA")
            except Exception as error:
                raise UnreadableImageError(f"damaged at frame {index}: {error}: copy it again") from error
            canvas = Image.new("RGBA", picture.size, "white")
            canvas.alpha_composite(picture)
            rgb = canvas.convert("RGB")
            if self.output_size[0] < rgb.width or self.output_size[1] < rgb.height:
                rgb = rgb.resize(self.output_size, Image.Resampling.LANCZOS)
            yield Frame(pts, duration_ms, np.asarray(rgb))
            pts += duration_ms

    def _duration_ms(self, index: int) -> int:
        self._image.seek(index)
        self._image.load()
        delay = round(float(self._image.info.get("duration", 0)))
        return delay if delay > 10 else _DEFAULT_DELAY_MS


class VideoWriter:
    """Writes frames beside the copied sound, subtitles, chapters and metadata of a source.

    Use as a context manager: leaving it without an error finishes the file, leaving it with
    one abandons it (the caller removes it).

    Args:
        path: local file to write.
        container: ``mp4``, ``mov`` or ``matroska``.
        info: the source, as its reader described it.
        size: width and height of the frames that will come.
        source_path: file whose other streams are copied; None for animations.
        crf: constant rate factor of x264.
        preset: speed preset of x264.
    """

    def __init__(
        self,
        path: str,
        container: str,
        info: VideoInfo,
        size: tuple[int, int],
        source_path: str | None,
        crf: int,
        preset: str,
    ) -> None:
        self._info = info
        self._size = size
        self.notes = list(info.notes)
        self._durations: dict[int, int] = {}  # by PTS; the encoder forgets them
        self._reformatter = VideoReformatter()
        self._matrix, self._colour = self._output_colour()
        self._output: OutputContainer = av.open(
            f"file:{path}", "w", format=container, options=_MUXER[container]
        )
        self._stream = self._add_video(crf, preset)
        self._copier = (
            StreamCopier(source_path, self._output, self._stream, self.notes) if source_path else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
                self._output.close()
        finally:
            if self._copier:
                self._copier.close()
            with contextlib.suppress(FFmpegError):  # what went wrong first is on its way already
                self._output.close()

    def write(self, frame: Frame) -> None:
        """Encode one frame; its size is that given to the constructor."""
        picture = VideoFrame.from_ndarray(_pad_to_even(frame.rgb_hwc), format="rgb24")
        encoded = self._reformatter.reformat(
            picture,
            format="yuv420p",
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=_FULL,
            dst_color_range=_FULL if self._colour.range == _FULL else _LIMITED,
            interpolation=_TO_YUV,
        )
        encoded.pts = frame.pts
        encoded.duration = frame.duration
        encoded.time_base = self._info.time_base
        encoded.colorspace = self._colour.matrix
        encoded.color_range = self._colour.range
        self._durations[frame.pts] = frame.duration
        self._mux(self._stream.encode(encoded))

    def _finish(self) -> None:
        self._mux(self._stream.encode(None))
        if self._copier:
            self._copier.copy_until(None)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            if self._copier and packet.dts is not None:
                # Keep the streams abreast, or the muxer would hold all the sound in memory.
                self._copier.copy_until(float(packet.dts * packet.time_base))
            self._output.mux(packet)

    def _output_colour(self) -> tuple[int, Colour]:
        """The swscale matrix to encode with, and the tags to write.

        An untagged source stays untagged, unless shrinking it would change what a player
        guesses from its size.
        """
        colour = self._info.colour
        matrix = _sws_matrix(colour.matrix, self._info.height)
        if colour.matrix == _UNSPECIFIED and _sws_matrix(_UNSPECIFIED, self._size[1]) != matrix:
            colour = replace(colour, matrix=1 if matrix == _SWS_MATRIX[1] else 6)
        if colour.matrix == 10:  # constant luminance is decoded like 9 and so must be written as 9
            colour = replace(colour, matrix=9)
        return matrix, colour

    def _add_video(self, crf: int, preset: str) -> Any:
        info = self._info
        # x264 refuses rates that no film has; the PTS carry the truth, this is a hint.
        rate = info.frame_rate.limit_denominator(1001) if 0 < info.frame_rate <= 1000 else Fraction(25)
        stream: Any = self._output.add_stream(
            "libx264", rate=rate or Fraction(1), options={"crf": str(crf), "preset": preset}
        )
        context = stream.codec_context
        context.width, context.height = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        context.pix_fmt = "yuv420p"
        context.time_base = info.time_base
        stream.time_base = info.time_base
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        context.colorspace, context.color_range = self._colour.matrix, self._colour.range
        context.color_trc, context.color_primaries = self._colour.transfer, self._colour.primaries
        if info.rotation:
            stream.set_display_rotation(info.rotation)
        return stream


class StreamCopier:
    """Copies what is not the picture from a source to an output, in step with the picture."""

    def __init__(self, source_path: str, output: OutputContainer, picture: Stream, notes: list[str]) -> None:
        self._source = open_input(source_path)
        self._output = output
        output.metadata.update(
            {k: v for k, v in self._source.metadata.items() if k.lower() not in _CONTAINER_TAGS}
        )
        chapters = self._source.chapters()
        if chapters:
            output.set_chapters(chapters)
        self._twins: dict[int, Stream] = {}
        pictures = 0
        for stream in self._source.streams:
            if stream.disposition & _STILL:
                self._add_cover(stream, notes)
            elif stream.type == "video":
                pictures += 1
                if pictures == 1:
                    picture.metadata.update(_stream_tags(stream))
                elif pictures == 2:
                    notes.append("only the first video stream is stylized, the others are left out")
            elif stream.type in ("audio", "subtitle"):
                self._add_twin(stream, notes)
            elif stream.type == "attachment" and output.format.name == "matroska":
                output.add_stream_from_template(stream)  # fonts of the subtitles
        self._packets = (
            self._source.demux([self._source.streams[i] for i in self._twins]) if self._twins else iter(())
        )
        self._next: Any = None
        self._last_dts: dict[int, int] = {}
        self._shifts: dict[int, int] = {}  # by stream, as the picture's where a clock begins anew

    def close(self) -> None:
        """Release the source."""
        self._source.close()

    def copy_until(self, time_s: float | None) -> None:
        """Copy packets up to a time in seconds, or all that are left."""
        while True:
            if self._next is None:
                self._next = self._read()
                if self._next is None:
                    return
            packet = self._next
            if time_s is not None and float(packet.dts * packet.time_base) > time_s:
                return
            self._next = None
            self._last_dts[packet.stream.index] = packet.dts
            packet.stream = self._twins[packet.stream.index]
            self._output.mux(packet)

    def _read(self) -> Any:
        """The next packet with a time; the demuxer ends each stream with an empty one."""
        try:
            for packet in self._packets:
                if packet.dts is None and packet.size and packet.stream.disposition & _STILL:
                    packet.pts = packet.dts = 0
                if packet.dts is not None:
                    self._go_on(packet)
                    return packet
        except FFmpegError:  # the picture's reader has judged the damage already
            pass
        return None

    def _go_on(self, packet: Any) -> None:
        """Let the clock of a stream rise where it slips or begins anew, as the picture's does."""
        index, is_text = packet.stream.index, packet.stream.type == "subtitle"
        packet.dts += self._shifts.get(index, 0)
        if packet.pts is not None:
            packet.pts += self._shifts.get(index, 0)
        earliest = self._last_dts[index] + (not is_text) if index in self._last_dts else packet.dts
        back = earliest - packet.dts
        if back <= 0:
            return
        if back * packet.time_base > _CLOCK_RESTART_S and not is_text:  # lines may overlap
            back += packet.duration or 0
            self._shifts[index] = self._shifts.get(index, 0) + back
            packet.pts = None if packet.pts is None else packet.pts + back
        packet.dts += back
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)

    def _add_twin(self, stream: Stream, notes: list[str]) -> None:
        name = _codec(stream) or "unknown codec"
        if name not in _codecs_for(self._output):
            notes.append(
                f"{stream.type} stream {stream.index} ({name}) does not fit into {self._output.format.name}"
            )
            return
        twin: Any = self._output.add_stream_from_template(stream)
        twin.metadata.update(stream.metadata | _stream_tags(stream))
        twin.disposition = stream.disposition
        self._twins[stream.index] = twin

    def _add_cover(self, stream: Stream, notes: list[str]) -> None:
        if self._output.format.name == "mp4":
            self._add_twin(stream, notes)
        else:
            notes.append("the cover picture is left out")


def _codec(stream: Stream) -> str:
    """FFmpeg's name of a stream's codec; empty if it knows none."""
    return stream.codec_context.name if stream.codec_context else ""


def _stream_tags(stream: Stream) -> dict[str, str]:
    """Language and title of a stream; what MP4 calls its name is its title."""
    tags = {"title": stream.metadata.get("name", "")} | stream.metadata
    return {key: tags[key] for key in _STREAM_TAGS if tags.get(key)}


def container_takes(container: str, codecs: tuple[str, ...]) -> bool:
    """Whether a container holds all these codecs."""
    with av.open(io.BytesIO(), "w", format=container) as probe:
        return _codecs_for(probe).issuperset(codecs)


def _codecs_for(output: OutputContainer) -> set[str]:
    codecs: set[str] = output.supported_codecs
    return codecs - _MP4_ONLY if output.format.name == "mov" else codecs


def count_packets(path: str) -> int:
    """Pictures in a file, by its index, without decoding."""
    with open_input(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def open_input(path: str) -> InputContainer:
    """Open a local file for reading; nothing in it can make FFmpeg open another file or a URL.

    Raises:
        UnreadableVideoError: not a video that FFmpeg knows.
    """
    try:
        return av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
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


def _pad_to_even(rgb_hwc: UInt8Array) -> UInt8Array:
    height, width = rgb_hwc.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb_hwc, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return rgb_hwc


def _sws_matrix(matrix: int, height: int) -> int:
    """The name swscale has for a matrix; unspecified is BT.709 from 720 lines on, as players guess."""
    if matrix == _UNSPECIFIED:
        return _SWS_MATRIX[1] if height >= 720 else _SWS_MATRIX[6]
    return _SWS_MATRIX.get(matrix, _SWS_MATRIX[6])


def _matroska_end(file: BinaryIO) -> int:
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


def _known(code_point: int | None) -> int:
    """H.273 code point, with 0 (reserved) read as unspecified."""
    return int(code_point) if code_point else _UNSPECIFIED


@dataclass(frozen=True)
class VideoHeader:
    """What the header of a video claims, for estimates; nothing is decoded."""

    width: int
    height: int
    num_frames: int
    duration_s: float


def read_header(path: str) -> VideoHeader:
    """Size and length of a local video by its header.

    Raises:
        UnreadableVideoError: it does not open, or holds no video stream.
    """
    with open_input(path) as container:
        if not container.streams.video:
            raise UnreadableVideoError("it holds no video stream: is it a sound file?")
        stream = container.streams.video[0]
        duration_s = (
            float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        )
        duration_s = duration_s or (container.duration or 0) / av.time_base
        num_frames = stream.frames or round(duration_s * float(stream.average_rate or 25))
        return VideoHeader(stream.width, stream.height, num_frames, duration_s)
