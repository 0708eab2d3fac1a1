"""Frames of a video or an animated image, one by one, each with its time."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image

from nst_ops.config.stylize import Hdr
from nst_ops.media.errors import EmptyFileError, UnreadableImageError, UnreadableVideoError, UnsupportedMediaError
from nst_ops.media.images import color_profile, open_repaired
from nst_ops.media.profiles import to_srgb
from nst_ops.media.video.clock import Span
from nst_ops.media.video.color import LIMITED, Color, ToRgb, side_data, sws_matrix, to_rgb
from nst_ops.media.video.container import (
    BROADCAST,
    Frame,
    VideoInfo,
    codec_name,
    even_size,
    own_streams,
    stream_duration_s,
    takes_copy,
)
from nst_ops.media.video.decoder import FrameDecoder
from nst_ops.media.video.hdr import NAMES, SDR, Mastering, tone_map
from nst_ops.media.video.segments import Segment, Selection, cut_segments, read_index
from nst_ops.media.video.source import MediaSource, size_of

ALL_FRAMES = Selection()
_NO_FRAMES = "no frame of it is selected: it ends before video.start_s"
_DEFAULT_DELAY_MS = 100  # what browsers take for delays of up to 10 ms

# Side data of a decoded frame that no encoder here writes, and what is said of a video that has it.
_LEFT_OUT = {
    Type.SPHERICAL: "its spherical projection is left out: players show it flat",
    Type.STEREO3D: "its stereo 3D arrangement is left out: players show it flat",
    Type.DYNAMIC_HDR_PLUS: "its HDR10+ metadata is left out",
    Type.DOVI_METADATA: "its Dolby Vision metadata is left out",
    Type.DYNAMIC_HDR_VIVID: "its HDR Vivid metadata is left out",
    Type.ICC_PROFILE: "its ICC profile is left out",
    Type.S12M_TIMECODE: "the timecode in its frames is left out",
    Type.AFD: "its active format description is left out",
}

TimedFrame = tuple[int, int, VideoFrame]  # PTS, duration, decoded frame


class VideoReader(AbstractContextManager["VideoReader"]):
    """Frames of the first video stream, front to back; of a segment of a remote file only its share is fetched.

    Args:
        source: the video.
        max_side: shrink frames to this longer side in pixels (both sides then even).
        keep_damaged: go on after packets that do not decode, counting them in ``num_damaged``.
        selection: frames of the video that are wanted.
        segment: part of the selection that is read, from its ``lead_pts`` on; None: all of it.
        tail: wanted frames to read after the segment, as far as there are any.
        hdr: whether frames of high dynamic range are mapped to SDR, or given as their codes, rounded to 8 bits.
        convert: makes RGB of a decoded frame, as ``to_rgb`` does; asked for ``rgb48le``, an array of the host.

    Raises EmptyFileError or UnreadableVideoError on opening, UnsupportedMediaError if the selection lies after the
    video's end, DamagedVideoError on opening a cut-off file, or while iterating.
    """

    def __init__(
        self,
        source: MediaSource,
        max_side: int | None = None,
        keep_damaged: bool = False,
        selection: Selection = ALL_FRAMES,
        segment: Segment | None = None,
        tail: int = 0,
        hdr: Hdr = "tonemap",
        convert: ToRgb = to_rgb,
    ) -> None:
        self._source, self._selection, self._tail, self._hdr = source, selection, tail, hdr
        self._convert = convert
        self._reformatter = VideoReformatter()
        self.changes: list[str] = []  # of the video while it was read, in words
        if size_of(source) == 0:
            raise EmptyFileError("the file is empty (0 bytes): copy it again from its origin")
        self._decoder = FrameDecoder(source, keep_damaged, segment is not None and segment.count > 1)
        try:
            frames = self._decoder.frames()
            first = next(frames, None)
            if first is None:
                raise UnreadableVideoError("none of its frames decodes: play it to check, re-encode it")
            self._from_start = itertools.chain([first], frames)
            self._first_pts: int = first.pts if first.pts is not None else first.dts or 0
            self._whole = self._describe(first)
            self.info = self._selected(self._whole)
            self._begin, self._stop = selection.bounds(self._first_pts, self.info.time_base)
            self._segment = self._find_segment(segment)
        except BaseException:
            self._decoder.close()
            raise
        self.output_size = even_size((self.info.width, self.info.height), max_side)

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    @property
    def num_damaged(self) -> int:
        """Damaged places so far, those that only warm up the smoothing left out."""
        return self._decoder.num_damaged

    @property
    def span(self) -> Span | None:
        """The part of the file that is selected; None if it is the whole, and is written at the times that it has.

        A whole video begins at 0 as in players, with its picture or its sound: the clock of a broadcast does not.
        """
        time_base, clock = self.info.time_base, self._decoder.clock
        if self._selection.start_s or self._selection.duration_s is not None:
            end_s = None if self._stop is None else float(self._stop * time_base)
            return Span(float(self._begin * time_base), end_s, clock=clock)
        begin = min([self._first_pts, *(math.floor(start / time_base) for start in self._sound_starts())])
        # What an encoder needs before the first sound that is heard; a broadcast has none, and its clock wraps to 0.
        if begin < 0 <= self._first_pts and self._decoder.container.format.name not in BROADCAST:
            begin = 0
        return Span(float(begin * time_base), is_cut=False, clock=clock) if begin or clock.jumps_s else None

    def _sound_starts(self) -> Iterator[Fraction]:
        """Yield when each stream of sound begins, in seconds."""
        for stream in self._sound:
            if stream.start_time is not None and stream.time_base:
                yield (stream.start_time + self._decoder.clock.first_ticks(stream.index)) * stream.time_base

    @property
    def ends_damaged(self) -> bool:
        """Whether no whole frame has come after the last damage."""
        return self._decoder.ends_damaged

    def sound_fits(self, container: str) -> bool:
        """Return whether a container takes all sound as it is."""
        return all(takes_copy(container, stream) for stream in self._sound)

    def frames(self) -> Iterator[Frame]:
        """Yield every frame once, at the working size, with rising PTS."""
        width, height = self.info.width, self.info.height  # the size may change midway, the output's not
        if self.output_size[0] < width or self.output_size[1] < height:  # odd sizes are padded when written
            width, height = self.output_size
        color, maps = self._color, self._color.is_hdr and self._hdr == "tonemap"
        matrix = sws_matrix(color.matrix, self.info.height)
        pixel_format = "rgb48le" if maps else "rgb24"
        decoded, size = None, (self.info.width, self.info.height)
        for pts, duration, decoded in self._kept():
            if (decoded.width, decoded.height) != size and not self.changes:
                scaled = f"from {size[0]}x{size[1]} to {decoded.width}x{decoded.height}"
                self.changes = [
                    f"the size of its frames changes {scaled} at {self._seconds(pts):.2f} s: they are scaled"
                ]
            rgb_hwc = self._convert(self._reformatter, decoded, (width, height), matrix, pixel_format)
            if maps:
                rgb_hwc = tone_map(rgb_hwc, color, self._mastering.peak_nits)
            yield Frame(pts, duration, rgb_hwc, self._captions(decoded))
        if decoded is None and (self._segment is None or self._segment.count == 1):
            raise UnsupportedMediaError(_NO_FRAMES)

    def _seconds(self, pts: int) -> float:
        """Return a time in seconds from the first frame on."""
        return float((pts - self._first_pts) * self.info.time_base)

    def _find_segment(self, segment: Segment | None) -> Segment | None:
        """Return what to seek to; None to read from the start of the video."""
        if segment is not None and segment.count > 1:
            return segment
        if self._begin <= self._first_pts or self._decoder.clock.jumps_s or (index := read_index(self._source)).problem:
            return None
        (segment,) = cut_segments(index, math.inf, 0, self._selection)
        if segment.num_frames == 0:
            raise UnsupportedMediaError(_NO_FRAMES)
        return segment

    def _kept(self) -> Iterator[TimedFrame]:
        """Yield the frames that are wanted, with the segment's lead and tail."""
        segment = self._segment
        lead_pts = segment.lead_pts if segment else self._begin
        start_pts = segment.start_pts if segment else self._begin
        end_pts = segment.end_pts if segment and segment.end_pts is not None else self._stop
        if self._begin > self._first_pts or self._stop is not None or segment:
            self._decoder.wanted = start_pts, end_pts
        frames = self._decoder.frames_from(lead_pts) if segment and lead_pts > self._first_pts else self._from_start
        tail = self._tail
        bucket_before: int | None = None
        held: TimedFrame | None = None  # a frame may have to reach to the next that is kept
        for pts, duration, frame in self._timed(frames):
            if pts < lead_pts:
                continue
            is_over = self._stop is not None and pts >= self._stop
            bucket = self._selection.bucket(pts, self._first_pts, self.info.time_base)
            is_kept = bucket != bucket_before
            bucket_before = bucket
            if held and self._selection.max_frame_rate is not None:
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
            held = pts, duration, frame
        if held:
            yield held

    def _timed(self, frames: Iterator[VideoFrame]) -> Iterator[TimedFrame]:
        """Put the frames on a clock that rises."""
        time_base = self._whole.time_base
        step = max(1, round(1 / (self._whole.frame_rate * time_base)))
        last_pts: int | None = None
        for frame in frames:
            pts = frame.pts if frame.pts is not None else frame.dts
            if pts is None:  # AVI and raw streams may give none: count on at the average rate
                pts = 0 if last_pts is None else last_pts + step
            if last_pts is not None and pts <= last_pts:  # a mere slip
                pts = last_pts + 1
            last_pts = pts
            yield pts, frame.duration or step, frame

    def _captions(self, decoded: VideoFrame) -> bytes:
        """Return the closed captions of a frame; none where frames are dropped, which would leave gaps in the text."""
        data = side_data(decoded).get(Type.A53_CC)
        return b"" if data is None or self._selection.max_frame_rate is not None else bytes(data)

    def _describe(self, first: VideoFrame) -> VideoInfo:
        """Describe the whole video by its header and its first frame."""
        stream, container, clock = self._decoder.stream, self._decoder.container, self._decoder.clock
        own = own_streams(container, self._source, stream)
        self._sound = [each for each in own if each.type == "audio" and codec_name(each)]
        attached = side_data(first)
        self._color, self._mastering = Color.of(first), Mastering.of(first)
        notes = [note for kind, note in _LEFT_OUT.items() if kind in attached]
        if Type.A53_CC in attached and self._selection.max_frame_rate is not None:
            notes.append("its closed captions are left out: video.max_frame_rate leaves out frames")
        notes += self._decoder.faults
        notes += clock.notes
        color, mastering = self._color, None
        if self._color.is_hdr and self._hdr == "tonemap":
            notes.append(f"HDR ({NAMES[color.transfer]}) is tone-mapped to SDR; video.hdr keep leaves it")
            color = SDR
        elif self._color.is_hdr:
            notes.append(f"HDR ({NAMES[color.transfer]}) is kept; its frames are stylized in 8 bits")
            mastering = self._mastering
        duration_s = stream_duration_s(container, stream)
        is_wrong = duration_s <= 0 or container.format.name in BROADCAST or clock.jumps_s or self._decoder.faults
        if clock.length_s and is_wrong:
            duration_s = clock.length_s
        matrix = attached.get(Type.DISPLAYMATRIX)
        if first.interlaced_frame:
            notes.append("interlaced: its two fields are stylized as one frame")
        if any(part.is_alpha for part in first.format.components) or stream.metadata.get("alpha_mode") == "1":
            notes.append("its transparency is left out")
        return VideoInfo(
            width=first.width,
            height=first.height,
            time_base=stream.time_base or Fraction(1, 90000),
            frame_rate=Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 25),
            duration_s=duration_s,
            display_matrix=struct.unpack_from("9i", bytes(matrix)) if matrix else (),
            sample_aspect_ratio=stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or None,
            mastering=mastering,
            color=color,
            video_codec=codec_name(stream),
            audio_codecs=tuple(map(codec_name, self._sound)),
            notes=tuple(notes),
        )

    def _selected(self, whole: VideoInfo) -> VideoInfo:
        """Describe the video as far as it is selected."""
        selection = self._selection
        rate, duration_s = whole.frame_rate, max(0.0, whole.duration_s - selection.start_s)
        if selection.max_frame_rate is not None:
            rate = min(rate, Fraction(selection.max_frame_rate).limit_denominator(1_000_000))
        if selection.duration_s is not None:
            duration_s = min(duration_s, selection.duration_s)
        return replace(whole, frame_rate=rate, duration_s=duration_s)


class AnimationReader(AbstractContextManager["AnimationReader"]):
    """Frames of an animated GIF, WebP, PNG or AVIF, composed by Pillow over white, with the interface of VideoReader.

    The time base is a millisecond. Raises UnreadableImageError on opening, or while iterating over damaged frames.
    """

    num_damaged, ends_damaged = 0, False
    changes: Sequence[str] = ()

    def __init__(self, path: str, max_side: int | None = None) -> None:
        try:
            data = Path(path).read_bytes()
            self._image = open_repaired(data)
            self._profile = color_profile(data, self._image)
            num_frames: int = getattr(self._image, "n_frames", 1)
            # An animated PNG may begin with a still for viewers that know no better.
            self._first = int(bool(self._image.info.get("default_image")))
            self._durations_ms = [self._duration_ms(index) for index in range(self._first, num_frames)]
        except UnsupportedMediaError:
            raise
        except Exception as error:
            raise UnreadableImageError(f"damaged animation: {error}: copy it again from its origin") from error
        duration_s = Fraction(sum(self._durations_ms), 1000)
        rate, color = len(self._durations_ms) / duration_s, Color(matrix=1, range=LIMITED)
        codec = str(self._image.format).lower()
        self.info = VideoInfo(*self._image.size, Fraction(1, 1000), rate, float(duration_s), color, codec)
        self.output_size = even_size(self._image.size, max_side)

    def __exit__(self, *_: object) -> None:
        self._image.close()

    def sound_fits(self, container: str) -> bool:
        """Return whether a container takes all sound as it is."""
        return True

    def frames(self) -> Iterator[Frame]:
        """Yield every frame once, with its delay as its duration."""
        pts = 0
        for index, duration_ms in enumerate(self._durations_ms, self._first):
            try:
                self._image.seek(index)
                image = to_srgb(self._image.convert("RGBA"), self._profile)
            except Exception as error:
                raise UnreadableImageError(f"damaged at frame {index}: {error}: copy it again") from error
            rgb = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
            if self.output_size[0] < rgb.width or self.output_size[1] < rgb.height:
                rgb = rgb.resize(self.output_size, Image.Resampling.LANCZOS)
            yield Frame(pts, duration_ms, np.asarray(rgb))
            pts += duration_ms

    def _duration_ms(self, index: int) -> int:
        self._image.seek(index)
        self._image.load()
        delay = round(float(self._image.info.get("duration", 0)))
        return delay if delay > 10 else _DEFAULT_DELAY_MS
