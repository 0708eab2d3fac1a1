"""Frames of a video out of the decoder, from its start or from any time, and the damage among them."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame

from nst_ops.media.errors import DamagedVideoError
from nst_ops.media.video.container import open_input, video_stream
from nst_ops.media.video.source import MediaSource, promised_bytes, size_of

# Seconds before a frame to which to seek: to the keyframe before it, or to an earlier one if decoding from there did
# not show it whole (a gradual refresh, a container whose index is off).
_STEPS_BACK_S = (0, 2, 20)


class FrameDecoder:
    """Frames of the first video stream, in the order in which they are shown.

    With ``keep_damaged`` it goes on after packets that do not decode, counting them in ``num_damaged``. Raises
    UnreadableVideoError on opening; DamagedVideoError on opening a cut-off file, or while iterating.
    """

    def __init__(self, source: MediaSource, keep_damaged: bool) -> None:
        self._source = source
        self.keep_damaged = keep_damaged
        # PTS from and up to which damage counts, the end left out: what lies around only warms up. None: everywhere.
        self.wanted: tuple[int, int | None] | None = None
        self._open()

    def close(self) -> None:
        """Release the file."""
        self.container.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames from where the file stands."""
        self.num_damaged = self.num_decoded = 0
        packets = self.container.demux(self.stream)
        whole = False  # whether a frame without holes has come
        pts: int | None = None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError as error:
                self._damage(error, pts)
                return
            pts = packet.pts if packet.pts is not None else pts
            try:
                frames = packet.decode()
            except (InvalidDataError, av.error.ExternalError) as error:
                # Before the first frame this is a recording that starts mid-way, not damage.
                if self.num_decoded:
                    self._damage(error, pts)
                continue
            for frame in frames:
                if frame.is_corrupt and whole:
                    self._damage(None, frame.pts)  # the decoder has concealed a hole
                whole |= not frame.is_corrupt
                self.num_decoded += 1
                yield frame

    def frames_from(self, pts: int) -> Iterator[VideoFrame]:
        """Yield the frames from the one at ``pts`` on, the same as if all before had been decoded."""
        for back_s in _STEPS_BACK_S:
            try:
                self.container.seek(pts - int(back_s / self.stream.time_base), stream=self.stream)
                frames = self.frames()
                first = _first_from(pts, frames)
            except (FFmpegError, DamagedVideoError):
                continue  # decoding from an earlier frame tells whether it is really damaged
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
        self.container = open_input(self._source)
        try:
            self.stream = video_stream(self.container, alone=True)
            self._refuse_cut_off()
        except BaseException:
            self.close()
            raise
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = 2  # more of them can hang beside torch's own

    def _refuse_cut_off(self) -> None:
        """Refuse a file that is shorter than its header says, before hours go into it."""
        if self.keep_damaged:
            return
        promised = promised_bytes(self._source, self.container.format.name, self.stream)
        if promised > (size := size_of(self._source)):
            raise DamagedVideoError(
                f"cut off: its header reaches to byte {promised:,}, the file ends at {size:,}; copy it again, or set "
                "video.keep_damaged to write what decodes"
            )

    def _damage(self, error: FFmpegError | None, pts: int | None) -> None:
        """Count a damaged place among the wanted frames, or raise it."""
        place = f"after frame {self.num_decoded}"
        if pts is not None and self.wanted is not None:
            start, end = self.wanted
            if pts < start or (end is not None and pts >= end):
                return
            place = f"near {float(pts * self.stream.time_base):.2f} s"
        self.num_damaged += 1
        if not self.keep_damaged:
            reason = error.strerror if error else "parts of the frame are missing"
            raise DamagedVideoError(
                f"damaged {place} ({reason}): copy it again, or set video.keep_damaged to write what decodes"
            ) from error


def _first_from(pts: int, frames: Iterator[VideoFrame]) -> VideoFrame | None:
    return next((frame for frame in frames if frame.pts is not None and frame.pts >= pts), None)
