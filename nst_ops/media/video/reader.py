"""A video's frames, one by one, as they come out of the decoder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO, Self

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from nst_ops.media.errors import DamagedVideoError, EmptyFileError, UnreadableVideoError
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.colour import FULL, LIMITED, TO_RGB, Colour, known, sws_matrix
from nst_ops.media.video.container import (
    CLOCK_RESTART_S,
    STILL,
    Frame,
    VideoInfo,
    codec_name,
    even_size,
    open_input,
)


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
                if (last_pts - pts) * self.info.time_base > CLOCK_RESTART_S:
                    shift += last_pts + step - pts
                    pts = last_pts + step
                else:
                    pts = last_pts + 1
            last_pts = pts
            yield Frame(pts, picture.duration or step, self._to_rgb(picture))

    def _picture_stream(self) -> Any:
        """The first stream that moves: not cover art, and not FFmpeg's "best", which is the largest."""
        for stream in self._container.streams.video:
            if not stream.disposition & STILL:
                if not codec_name(stream):
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
            1 if is_rgb else known(first.colorspace),
            LIMITED if is_rgb else int(first.color_range or 0),
            known(first.color_trc),
            known(first.color_primaries),
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
            duration_s=duration_s,
            rotation=first.rotation,
            sample_aspect_ratio=aspect or None,
            colour=colour,
            video_codec=codec_name(stream),
            audio_codecs=tuple(filter(None, map(codec_name, container.streams.audio))),
            notes=tuple(notes),
        )

    def _to_rgb(self, frame: VideoFrame) -> UInt8Array:
        width, height = self.info.width, self.info.height  # the size may change midway, the output's not
        if self.output_size[0] < width or self.output_size[1] < height:  # odd sizes are padded when written
            width, height = self.output_size
        matrix = sws_matrix(self.info.colour.matrix, self.info.height)
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL if frame.color_range == FULL else LIMITED,
            dst_color_range=FULL,
            interpolation=TO_RGB,
        )
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


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
