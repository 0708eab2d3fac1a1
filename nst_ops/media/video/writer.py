"""Frames back into a file, beside the sound of their source."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from nst_ops.config.stylize import VideoConfig
from nst_ops.media.errors import UnsupportedMediaError
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.color import FULL, LIMITED, SWS_MATRIX, TO_YUV, UNSPECIFIED, Color, sws_matrix
from nst_ops.media.video.container import Frame, VideoInfo, muxer_options, nominal_rate
from nst_ops.media.video.encoders import choose_encoder
from nst_ops.media.video.stream_copy import Span, StreamCopier


class VideoWriter:
    """Writes frames beside the copied sound, subtitles, chapters and metadata of a source.

    Use as a context manager: leaving it without an error finishes the file, leaving it with
    one abandons it (the caller removes it).

    Args:
        path: local file to write.
        container: ``mp4``, ``mov`` or ``matroska``.
        info: the source, as its reader described it.
        size: width and height of the frames that will come.
        source_path: file whose other streams are copied; None for animations and for segments of a
            film, of which ``mp4`` keeps the PTS exactly, in any time base.
        config: codec, quality, pixel format.
        span_s: begin and end (None: the end of the source) of what is written, in seconds on the
            source's clock. The output begins at 0: the PTS of frames are moved by the begin, what is
            copied is cut to the span and moved alike.

    Raises:
        UnsupportedMediaError: the encoder takes no frames of that size.
        ValueError: the encoder that is asked for is not on this machine.
    """

    def __init__(
        self,
        path: str,
        container: str,
        info: VideoInfo,
        size: tuple[int, int],
        source_path: str | None,
        config: VideoConfig,
        span_s: Span | None = None,
    ) -> None:
        self._info = info
        self._size = size
        self.notes = list(info.notes)
        self._durations: dict[int, int] = {}  # by PTS; the encoder forgets them
        self._reformatter = VideoReformatter()
        self._matrix, self._color = self._output_color()
        self._encoder = choose_encoder(config)
        self._pixel_format = self._encoder.pixel_formats[config.pixel_format]
        options = muxer_options(container, None if source_path else info.time_base)
        self._output: OutputContainer = av.open(f"file:{path}", "w", format=container, options=options)
        self._shift = round(Fraction(span_s[0]) / info.time_base) if span_s else 0
        self._stream = self._add_video(container, config)
        self._copier = (
            StreamCopier(source_path, self._output, self._stream, self.notes, span_s) if source_path else None
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
            format=self._pixel_format,
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=FULL,
            dst_color_range=FULL if self._color.range == FULL else LIMITED,
            interpolation=TO_YUV,
        )
        encoded.pts = frame.pts - self._shift
        encoded.duration = frame.duration
        encoded.time_base = self._info.time_base
        encoded.colorspace = self._color.matrix
        encoded.color_range = self._color.range
        self._durations[encoded.pts] = frame.duration
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

    def _output_color(self) -> tuple[int, Color]:
        """The swscale matrix to encode with, and the tags to write.

        An untagged source stays untagged, unless shrinking it would change what a player
        guesses from its size.
        """
        color = self._info.color
        matrix = sws_matrix(color.matrix, self._info.height)
        if color.matrix == UNSPECIFIED and sws_matrix(UNSPECIFIED, self._size[1]) != matrix:
            color = replace(color, matrix=1 if matrix == SWS_MATRIX[1] else 6)
        if color.matrix == 10:  # constant luminance is decoded like 9 and so must be written as 9
            color = replace(color, matrix=9)
        return matrix, color

    def _add_video(self, container: str, config: VideoConfig) -> Any:
        info, encoder = self._info, self._encoder
        rate = min(nominal_rate(info), encoder.max_frame_rate)
        options = encoder.options_for(config, rate)
        stream: Any = self._output.add_stream(encoder.name, rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        context.pix_fmt = self._pixel_format
        context.time_base = info.time_base
        stream.time_base = info.time_base
        context.thread_type, context.thread_count = "FRAME", encoder.num_threads
        if encoder.codec == "hevc" and container in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # or Apple's players do not open it
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
            if (encoder.codec, container) == ("av1", "matroska"):  # the others say it in their own stream
                self.notes.append("the shape of its pixels is lost: av1 keeps it only in video.container mp4")
        context.colorspace, context.color_range = self._color.matrix, self._color.range
        context.color_trc, context.color_primaries = self._color.transfer, self._color.primaries
        if info.rotation:
            stream.set_display_rotation(info.rotation)
        try:
            context.open()
        except FFmpegError as error:
            raise UnsupportedMediaError(
                f"{encoder.name} takes no frames of {context.width}x{context.height} pixels "
                f"({error.strerror}): set video.codec to h264, or resize.max_side if they are large"
            ) from error
        return stream


def _pad_to_even(rgb_hwc: UInt8Array) -> UInt8Array:
    height, width = rgb_hwc.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb_hwc, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return rgb_hwc
