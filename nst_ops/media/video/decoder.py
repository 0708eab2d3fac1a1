"""Frames of a video out of the decoder, from its start or from any time, and the damage among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.error import FFmpegError, InvalidDataError
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from nst_ops.media.errors import DamagedVideoError
from nst_ops.media.video.clock import Clock, read_clock
from nst_ops.media.video.color import side_data
from nst_ops.media.video.container import codec_changes, demux, open_input, open_whole, video_stream
from nst_ops.media.video.source import MediaSource, RangeInput, fragments_end, promised_bytes, size_of
from nst_ops.media.video.structure import broken_at

# Seconds before a frame to which to seek: to the keyframe before it, or to an earlier one if decoding from there did
# not show it whole (a gradual refresh, a container whose index is off).
_STEPS_BACK_S = (0, 2, 20)
_STATES_LENGTH = {"flv"}  # formats whose header says how long they are, not where they end
_SLIP = 0.02  # share by which it may be wrong
_KEEP = "write what decodes with --video.keep_damaged true --retry-failed"


class FrameDecoder:
    """Frames of the first video stream, in the order in which they are shown.

    With ``keep_damaged`` it goes on after packets that do not decode, counting them in ``num_damaged``. Raises
    UnreadableVideoError on opening; DamagedVideoError on opening a cut-off file, or while iterating.
    """

    def __init__(self, source: MediaSource, keep_damaged: bool, is_part: bool = False) -> None:
        self._source, self._is_part = source, is_part
        self.keep_damaged = keep_damaged
        # PTS from and up to which damage counts, the end left out: what lies around only warms up. None: everywhere.
        self.wanted: tuple[int, int | None] | None = None
        self.faults: list[str] = []  # of the file as a whole, in words
        self.ends_damaged = False  # whether no whole frame has come after the last damage
        self._last_damage: _Damage | None = None
        self._open()
        # Where a part is read, its index has been found to rise.
        may_jump = isinstance(source, str) and not is_part and "mp4" not in self.container.format.name
        self.clock = read_clock(source) if may_jump else Clock()
        self._refuse_shorter()

    def close(self) -> None:
        """Release the file."""
        self.container.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames from where the file stands."""
        self.num_damaged = self.num_decoded = self._num_packets = 0
        self.ends_damaged = False
        self._last_damage = None
        packets = self.clock.steady(demux(self.container, self.stream))
        whole = False  # whether a frame without holes has come
        pts: int | None = None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except FFmpegError as error:
                self._count_damage(error, pts)
                packet, packets = av.Packet(), iter(())  # an empty one: the decoder still holds whole frames
                packet.stream = self.stream
            self._num_packets += packet.size > 0
            pts = packet.pts if packet.pts is not None else pts
            try:
                frames = packet.decode()
            except (InvalidDataError, av.error.ExternalError) as error:
                # Before the first frame this is a recording that starts mid-way, not damage.
                if self.num_decoded:
                    self._count_damage(error, pts)
                continue
            for frame in frames:
                if frame.is_corrupt and whole:
                    self._count_damage(None, frame.pts)  # the decoder has concealed a hole
                elif self._last_damage and self._last_damage.is_before(frame, self._num_packets):
                    self.ends_damaged = False
                    self._refuse_damage()
                whole |= not frame.is_corrupt
                self.num_decoded += 1
                # Where damage is refused, what follows it only tells whether it is at the end.
                if self.keep_damaged or not self._last_damage:
                    yield frame
        self._refuse_damage()

    def frames_from(self, pts: int) -> Iterator[VideoFrame]:
        """Yield the frames from the one at ``pts`` on, the same as if all before had been decoded."""
        for back_s in _STEPS_BACK_S:
            try:
                self.container.seek(pts - int(back_s / self.stream.time_base), stream=self.stream)
                frames = self.frames()
                first = _first_from(pts, frames)
            except (FFmpegError, DamagedVideoError):
                continue  # decoding from an earlier frame tells whether it is really damaged
            # The first frame after a seek may have the captions of those before it, which were skipped.
            if first is not None and self.num_decoded == 1 and Type.A53_CC in side_data(first):
                continue
            if first is not None and first.pts == pts and not first.is_corrupt:
                break
        else:
            self.close()
            self._open()
            frames = self.frames()
            first = _first_from(pts, frames)
        if first is not None:
            yield first
            yield from frames

    def _open(self) -> None:
        # Where part of a video is read, its index has been read before, and with it the whole file.
        path = self._source if isinstance(self._source, str) and not self._is_part else None
        end, whole, hole = fragments_end(path) if path else (0, 0, None)
        is_cut_off = self._refuse_cut_off(end)
        if hole is not None:
            self._refuse_hole(hole)
        # FFmpeg opens no file that ends with half a header of a fragment.
        self.container = open_input(RangeInput(self._source, whole)) if is_cut_off else open_whole(self._source)
        try:
            self.stream = video_stream(self.container, alone=True)
            container = self.container.format.name
            self._refuse_cut_off(promised_bytes(self._source, container, self.stream))
            place = broken_at(path, container) if path else None
            if place is not None and not self._refuse_cut_off(place):
                self._refuse_hole(place)
            for kind, before, after in codec_changes(path, self.container) if path else ():
                change = f"the codec of its {kind.replace('audio', 'sound')} changes from {before} to {after}"
                if kind == "video":
                    self._refuse(change, "cut it there, or")
                elif change not in self.faults:
                    self.faults.append(change)
        except BaseException:
            self.close()
            raise
        # Threads that each decode a frame lose whole ones beside a damaged one.
        self.stream.thread_type = "SLICE" if self.keep_damaged else "AUTO"
        self.stream.codec_context.thread_count = 2  # more of them can hang beside torch's own

    def _refuse_cut_off(self, promised: int) -> bool:
        """Refuse a file that is shorter than its header says; return whether it is."""
        size = size_of(self._source)
        if promised > size:
            self._refuse(f"cut off: its header reaches to byte {promised:,}, the file ends at {size:,}")
        return promised > size

    def _refuse_shorter(self) -> None:
        """Refuse a file that lasts shorter than its header says."""
        stated_s, end_s = (self.container.duration or 0) / av.time_base, self.clock.end_s
        is_shorter = end_s > 0 and stated_s - end_s > max(1, _SLIP * stated_s)
        if is_shorter and self.container.format.name in _STATES_LENGTH and not self.faults:
            self._refuse(f"cut off: its header says {stated_s:.2f} s, the file ends after {end_s:.2f} s")

    def _refuse_hole(self, place: int) -> None:
        self._refuse(f"damaged at byte {place:,} of {size_of(self._source):,}, where packets are missing")

    def _refuse(self, fault: str, remedy: str = "copy it again, or") -> None:
        """Raise for a fault of the file, before hours go into it, or keep it in mind."""
        if not self.keep_damaged:
            raise DamagedVideoError(f"{fault}; {remedy} {_KEEP}")
        if fault not in self.faults:
            self.faults.append(fault)

    def _count_damage(self, error: FFmpegError | None, pts: int | None) -> None:
        """Count a damaged place, if it is among the wanted frames."""
        if pts is not None and self.wanted is not None:
            start, end = self.wanted
            if pts < start or (end is not None and pts >= end):
                return
        self.num_damaged += 1
        self.ends_damaged = True
        if self.keep_damaged or not self._last_damage:  # the first is the one to name
            self._last_damage = _Damage(error, pts, self._num_packets, self.num_decoded)

    def _refuse_damage(self) -> None:
        """Raise for the damage that was counted, if it is not to be kept, and say whether it is at the end."""
        damage = self._last_damage
        if damage is None or self.keep_damaged:
            return
        place = f"after frame {damage.num_decoded}"
        if damage.pts is not None and self.wanted is not None:
            place = f"near {float(damage.pts * self.stream.time_base):.2f} s"
        if self.ends_damaged:
            place = f"at its very end, {place}, as a recording that was cut off"
        reason = damage.error.strerror if damage.error else "parts of the frame are missing"
        raise DamagedVideoError(f"damaged {place} ({reason}): copy it again, or {_KEEP}") from damage.error


@dataclass(frozen=True)
class _Damage:
    """A place that does not decode."""

    error: FFmpegError | None  # None: the decoder has concealed it
    pts: int | None
    num_packets: int  # that were read by then
    num_decoded: int  # frames by then

    def is_before(self, frame: VideoFrame, num_packets: int) -> bool:
        """Return whether a whole frame comes after it, in the file and on the screen."""
        is_later = frame.pts is None or self.pts is None or frame.pts > self.pts
        return is_later and num_packets > self.num_packets


def _first_from(pts: int, frames: Iterator[VideoFrame]) -> VideoFrame | None:
    return next((frame for frame in frames if frame.pts is not None and frame.pts >= pts), None)
