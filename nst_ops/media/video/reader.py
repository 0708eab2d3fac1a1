"""A video's frames, one by one, as they come out of the decoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from nst_ops.media.errors import EmptyFileError, UnreadableVideoError, UnsupportedMediaError
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.color import FULL, LIMITED, TO_RGB, Color, known, sws_matrix
from nst_ops.media.video.container import CLOCK_RESTART_S, Frame, VideoInfo, codec_name, even_size
from nst_ops.media.video.decoder import FrameDecoder
from nst_ops.media.video.segments import Segment, Selection, cut_segments, read_index
from nst_ops.media.video.source import MediaSource, size_of

ALL_FRAMES = Selection()


class VideoReader:
    """Frames of the first picture stream, front to back.

    Args:
        source: local path, or a remote file: of a segment only its share is fetched.
        max_side: shrink frames to this longer side in pixels (both sides then even).
        keep_damaged: go on after packets that do not decode, counting them in ``num_damaged``.
        selection: frames that are wanted of the film.
        segment: part of the selection that is read, from its ``lead_pts`` on; None: all of it.
        tail: wanted frames to read after the segment, as far as there are any.

    Raises:
        EmptyFileError, UnreadableVideoError: on opening.
        UnsupportedMediaError: on opening or while iterating, if the selection lies after the film's end.
        DamagedVideoError: on opening a cut-off file, or while iterating.
    """

    def __init__(
        self,
        source: MediaSource,
        max_side: int | None = None,
        keep_damaged: bool = False,
        selection: Selection = ALL_FRAMES,
        segment: Segment | None = None,
        tail: int = 0,
    ) -> None:
        self._source = source
        self._selection = selection
        self._tail = tail
        self._reformatter = VideoReformatter()
        if size_of(source) == 0:
            raise EmptyFileError("the file is empty (0 bytes): copy it again from its origin")
        self._decoder = FrameDecoder(source, keep_damaged)
        try:
            self._pictures = self._decoder.pictures()
            first = next(self._pictures, None)
            if first is None:
                raise UnreadableVideoError("none of its frames decodes: play it to check, re-encode it")
            self._first = first
            self._first_pts: int = first.pts if first.pts is not None else first.dts or 0
            self._film = self._describe(first)
            self.info = self._selected(self._film)
            self._begin, self._stop = selection.bounds(self._first_pts, self.info.time_base)
            self._segment = self._find_segment(segment)
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
        self._decoder.close()

    @property
    def num_damaged(self) -> int:
        """Damaged places so far, those that only warm up the smoothing left out."""
        return self._decoder.num_damaged

    @property
    def span_s(self) -> tuple[float, float | None] | None:
        """Start and end of the selection in seconds on the file's clock; None if it is the whole film.

        The start is a whole number of ticks.
        """
        if self._selection.start_s == 0 and self._selection.duration_s is None:
            return None
        time_base = self.info.time_base
        return float(self._begin * time_base), None if self._stop is None else float(self._stop * time_base)

    def frames(self) -> Iterator[Frame]:
        """Every frame once, at the working size, with rising PTS."""
        frame: Frame | None = None
        for pts, duration, picture in self._kept():
            frame = Frame(pts, duration, self._to_rgb(picture))
            yield frame
        if frame is None and (self._segment is None or self._segment.count == 1):
            raise UnsupportedMediaError(_NO_FRAMES)

    def _find_segment(self, segment: Segment | None) -> Segment | None:
        """What to seek to; None to read from the start of the film."""
        if (segment is None or segment.count == 1) and self._begin > self._first_pts:
            index = read_index(self._source)
            if index.problem:
                return None
            (segment,) = cut_segments(index, math.inf, 0, self._selection)
            if segment.num_frames == 0:
                raise UnsupportedMediaError(_NO_FRAMES)
            return segment
        return segment if segment is not None and segment.count > 1 else None

    def _kept(self) -> Iterator[tuple[int, int, VideoFrame]]:
        """(PTS, duration, picture) of the frames that are wanted, with the segment's lead and tail."""
        segment = self._segment
        lead_pts = segment.lead_pts if segment else self._begin
        start_pts = segment.start_pts if segment else self._begin
        end_pts = segment.end_pts if segment and segment.end_pts is not None else self._stop
        if self.span_s or segment:
            self._decoder.judged = start_pts, end_pts
        if segment and lead_pts > self._first_pts:
            pictures = self._decoder.frames_from(lead_pts)
        else:
            pictures = itertools.chain([self._first], self._pictures)
        thinned = self._selection.max_frame_rate is not None
        tail = self._tail
        bucket_before: int | None = None
        held: tuple[int, int, VideoFrame] | None = None  # a frame may have to reach to the next that is kept
        for pts, duration, picture in self._timed(pictures):
            if pts < lead_pts:
                continue
            is_over = self._stop is not None and pts >= self._stop
            bucket = self._selection.bucket(pts, self._first_pts, self.info.time_base)
            is_kept = bucket != bucket_before
            bucket_before = bucket
            if held and thinned:
                held = held[0], pts + (0 if is_kept or is_over else duration) - held[0], held[2]
            if not (is_kept or is_over):
                continue
            if held:
                yield held
            held = None
            if is_over:
                return
            if end_pts is not None and pts >= end_pts:
                if tail == 0:
                    return
                tail -= 1
            held = pts, duration, picture
        if held:
            yield held

    def _timed(self, pictures: Iterator[VideoFrame]) -> Iterator[tuple[int, int, VideoFrame]]:
        """(PTS, duration, picture) on a clock that rises."""
        step = max(1, round(1 / (self._film.frame_rate * self._film.time_base)))
        last_pts: int | None = None
        shift = 0
        for picture in pictures:
            pts = picture.pts if picture.pts is not None else picture.dts
            if pts is None:  # AVI and raw streams may give none: count on at the average rate
                pts = 0 if last_pts is None else last_pts + step
            else:
                pts += shift
            if last_pts is not None and pts <= last_pts:
                if (last_pts - pts) * self._film.time_base > CLOCK_RESTART_S:
                    shift += last_pts + step - pts
                    pts = last_pts + step
                else:
                    pts = last_pts + 1
            last_pts = pts
            yield pts, picture.duration or step, picture

    def _selected(self, film: VideoInfo) -> VideoInfo:
        """The film as far as it is selected."""
        selection = self._selection
        rate, duration_s = film.frame_rate, max(0.0, film.duration_s - selection.start_s)
        if selection.max_frame_rate is not None:
            rate = min(rate, Fraction(selection.max_frame_rate).limit_denominator(1_000_000))
        if selection.duration_s is not None:
            duration_s = min(duration_s, selection.duration_s)
        return replace(film, frame_rate=rate, duration_s=duration_s)

    def _describe(self, first: VideoFrame) -> VideoInfo:
        stream, container = self._decoder.stream, self._decoder.container
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
        time_base = stream.time_base or Fraction(1, 90000)
        if stream.duration:
            duration_s = float(stream.duration * time_base)
        else:
            duration_s = (container.duration or 0) / av.time_base
        is_rgb = first.format.is_rgb or first.format.has_palette
        color = Color(
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
            color=color,
            video_codec=codec_name(stream),
            audio_codecs=tuple(filter(None, map(codec_name, container.streams.audio))),
            notes=tuple(notes),
        )

    def _to_rgb(self, frame: VideoFrame) -> UInt8Array:
        width, height = self.info.width, self.info.height  # the size may change midway, the output's not
        if self.output_size[0] < width or self.output_size[1] < height:  # odd sizes are padded when written
            width, height = self.output_size
        matrix = sws_matrix(self.info.color.matrix, self.info.height)
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


_NO_FRAMES = "no frame of it is selected: it ends before video.start_s"
