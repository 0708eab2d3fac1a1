"""Frames back into a video beside the sound of its source, or into a folder of images."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image

from nst_ops.config.stylize import VideoConfig
from nst_ops.media.errors import UnsupportedMediaError
from nst_ops.media.video.captions import add_captions
from nst_ops.media.video.clock import Span
from nst_ops.media.video.color import sws_matrix, to_yuv
from nst_ops.media.video.container import Frame, VideoInfo, muxer_options, nominal_rate
from nst_ops.media.video.encoders import choose_encoder, open_encoder
from nst_ops.media.video.hdr import Mastering
from nst_ops.media.video.stream_copy import StreamCopier

_NO_CAPTIONS = "its closed captions are left out: images hold none"
FRAME_TABLE = "frames.csv"  # ``name`` and ``sha256`` of images, ``pts_s`` and ``duration_s`` on the source's clock


class EncodedAs(NamedTuple):
    """How an encoder takes frames: FFmpeg's pixel format, swscale's matrix, the range of H.273."""

    pixel_format: str
    matrix: int
    color_range: int


def encoded_as(info: VideoInfo, config: VideoConfig) -> EncodedAs:
    """Return how the encoder of ``config`` takes the frames of a video; ValueError if it is not on this machine."""
    pixel_format = choose_encoder(config).format_for(config, is_hdr=info.mastering is not None)
    return EncodedAs(pixel_format, sws_matrix(info.color.matrix, info.height), info.color.range)


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """Writes frames beside the copied sound, subtitles, chapters and metadata of a source.

    Leaving it without an error finishes the file, leaving it with one abandons it (the caller removes it).

    Args:
        path: local file to write.
        container: ``mp4``, ``mov`` or ``matroska``.
        info: the source, as its reader described it.
        size: width and height of the frames that will come.
        source_path: file whose other streams are copied; None for animations and for segments of a video, of which
            ``mp4`` keeps the PTS exactly, in any time base.
        config: codec, quality, pixel format.
        span: part of the source that is written. The output begins at 0: the PTS of frames are moved by its begin,
            what is copied is cut to it and moved alike.

    Raises UnsupportedMediaError if the encoder takes no frames of that size, ValueError if it is not on this machine.
    """

    def __init__(
        self,
        path: str,
        container: str,
        info: VideoInfo,
        size: tuple[int, int],
        source_path: str | None,
        config: VideoConfig,
        span: Span | None = None,
    ) -> None:
        self._info = info
        self.notes = list(info.notes)
        self._durations: dict[int, int] = {}  # by PTS; the encoder forgets them
        self._captions: dict[int, bytes] = {}  # by PTS
        self._reformatter = VideoReformatter()
        self._color = info.color.written(info.height, size[1])
        self._encoder, self._encoded_as = choose_encoder(config), encoded_as(info, config)
        pixel_format = self._encoded_as.pixel_format
        if info.mastering is not None and "10" not in pixel_format and "16" not in pixel_format:
            self.notes.append(f"{self._encoder.name} writes its HDR in 8 bits")
        if info.mastering not in (None, Mastering()) and not self._encoder.mastering:
            self.notes.append(f"{self._encoder.name} does not write its mastering data")
        self._shift = round(Fraction(span.begin_s) / info.time_base) if span else 0
        options = muxer_options(container, None if source_path else info.time_base)
        self._output: OutputContainer = av.open(f"file:{path}", "w", format=container, options=options)
        self._stream = self._add_stream(container, size, config)
        self._copier = StreamCopier(source_path, self._output, self._stream, self.notes, span) if source_path else None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._mux(self._stream.encode(None))
                if self._copier:
                    self._copier.copy_until(None)
                self._output.close()
        finally:
            if self._copier:
                self._copier.close()
            with contextlib.suppress(FFmpegError):  # what went wrong first is on its way already
                self._output.close()

    def write(self, frame: Frame) -> None:
        """Encode one frame, of the size given to the constructor; its planes, if it has ``yuv``."""
        encoded = frame.yuv() if frame.yuv else to_yuv(self._reformatter, frame.rgb_hwc, *self._encoded_as)
        encoded.pts, encoded.duration, encoded.time_base = frame.pts - self._shift, frame.duration, self._info.time_base
        encoded.colorspace, encoded.color_range = self._color.matrix, self._color.range
        self._durations[encoded.pts] = frame.duration
        if frame.captions:
            self._captions[encoded.pts] = frame.captions
        self._mux(self._stream.encode(encoded))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            if captions := self._captions.pop(packet.pts, b""):
                packet = self._captioned(packet, captions)
            if self._copier:
                self._copier.copy_beside(packet)
            self._output.mux(packet)

    def _captioned(self, packet: Any, captions: bytes) -> Any:
        """Return a packet with the closed captions of its frame in it."""
        captioned: Any = av.Packet(add_captions(self._encoder.codec, bytes(packet), captions))
        captioned.stream, captioned.time_base = packet.stream, packet.time_base
        captioned.pts, captioned.dts, captioned.duration = packet.pts, packet.dts, packet.duration
        captioned.is_keyframe = packet.is_keyframe
        return captioned

    def _add_stream(self, container: str, size: tuple[int, int], config: VideoConfig) -> Any:
        info, encoder = self._info, self._encoder
        rate = min(nominal_rate(info), encoder.max_frame_rate)
        stream: Any = self._output.add_stream(
            encoder.name, rate=rate, options=encoder.options_for(config, rate, info.mastering)
        )
        context = stream.codec_context
        context.width, context.height = size[0] + size[0] % 2, size[1] + size[1] % 2
        context.pix_fmt = self._encoded_as.pixel_format
        context.time_base = stream.time_base = info.time_base
        context.thread_type, context.thread_count = "FRAME", encoder.num_threads
        if encoder.mp4_tag and container in ("mp4", "mov"):
            context.codec_tag = encoder.mp4_tag
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
            if container in encoder.loses_aspect_in and info.sample_aspect_ratio != 1:
                self.notes.append(
                    f"the shape of its pixels is lost: {encoder.codec} keeps it only in video.container mp4"
                )
        context.colorspace, context.color_range = self._color.matrix, self._color.range
        context.color_trc, context.color_primaries = self._color.transfer, self._color.primaries
        if info.display_matrix:
            stream.set_display_matrix(_scaled(info.display_matrix, size[0] / info.width))
        try:
            open_encoder(context)
        except FFmpegError as error:
            raise UnsupportedMediaError(
                f"{encoder.name} takes no frames of {context.width}x{context.height} pixels "
                f"({error.strerror}): stylize it into another output with --video.codec h264, or a --resize.max_side"
            ) from error
        return stream


def _scaled(matrix: tuple[int, ...], scale: float) -> list[int]:
    """Return a display matrix for frames of another size: what it moves by is in pixels."""
    return [round(value * scale) if place in (6, 7) else value for place, value in enumerate(matrix)]


class FrameFolderWriter(AbstractContextManager["FrameFolderWriter"]):
    """Writes frames into an empty folder, upright, as ``000000.png``, ``000001.png``, ..., beside ``frames.csv``.

    The same interface as ``VideoWriter``. Frames have their own size, odd ones included.
    """

    def __init__(self, folder: str, info: VideoInfo) -> None:
        self.notes = list(info.notes)
        if info.audio_codecs:
            self.notes.append("its sound is left out: images hold none")
        if info.sample_aspect_ratio not in (None, 1):
            self.notes.append(f"its pixels are {info.sample_aspect_ratio} times as wide as high")
        self._folder, self._info, self._num_frames = Path(folder), info, 0
        self._file = (self._folder / FRAME_TABLE).open("w", encoding="utf-8", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")
        self._table.writerow(["name", "sha256", "pts_s", "duration_s"])

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, frame: Frame) -> None:
        """Write one frame."""
        name = f"{self._num_frames:06d}.png"
        if frame.captions and _NO_CAPTIONS not in self.notes:
            self.notes.append(_NO_CAPTIONS)
        upright_hwc = self._info.upright(frame.rgb_hwc)
        # The lowest level takes a third of the time and an eighth more room.
        encoded = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(upright_hwc)).save(encoded, format="PNG", compress_level=1)
        (self._folder / name).write_bytes(encoded.getbuffer())
        times = (float(time * self._info.time_base) for time in (frame.pts, frame.duration))
        self._table.writerow([name, hashlib.sha256(encoded.getbuffer()).hexdigest(), *times])
        self._num_frames += 1
