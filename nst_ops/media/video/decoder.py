"""A film's pictures out of the decoder, from its start or from any time, and the damage among them."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame

from nst_ops.media.errors import DamagedVideoError
from nst_ops.media.video.container import only_video_stream, open_input, promised_bytes
from nst_ops.media.video.source import MediaSource, size_of

# Seconds before a picture to which to seek: to the keyframe before it, or to an earlier one if decoding
# from there did not show it whole (a gradual refresh, a container whose index is off).
_STEPS_BACK_S = (0, 2, 20)


class FrameDecoder:
    """Pictures of the first picture stream, in the order in which they are shown.

    Args:
        source: of the film.
        keep_damaged: go on after packets that do not decode, counting them in ``num_damaged``.

    Raises:
        UnreadableVideoError: on opening.
        DamagedVideoError: on opening a cut-off file, or while iterating.
    """

    def __init__(self, source: MediaSource, keep_damaged: bool) -> None:
        self._source = source
        self.keep_damaged = keep_damaged
        self.judged: tuple[int, int | None] | None = None
        """PTS from and up to which damage counts, the end left out: what lies around is read only to
        warm up. None: everywhere."""
        self._open()
        try:
            self._refuse_cut_off()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file."""
        self.container.close()

    def pictures(self) -> Iterator[VideoFrame]:
        """Pictures from where the file stands."""
        self.num_damaged = self.num_decoded = 0
        packets = self.container.demux(self.stream)
        whole = False  # whether a picture without holes has come
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
                # Before the first picture this is a recording that starts mid-way, not damage.
                if self.num_decoded:
                    self._damage(error, pts)
                continue
            for frame in frames:
                if frame.is_corrupt and whole:
                    self._damage(None, frame.pts)  # the decoder has painted over a hole
                whole = whole or not frame.is_corrupt
                self.num_decoded += 1
                yield frame

    def frames_from(self, pts: int) -> Iterator[VideoFrame]:
        """Pictures from the one at ``pts`` on, the same as if everything before had been decoded."""
        for back_s in _STEPS_BACK_S:
            try:
                self.container.seek(pts - int(back_s / self.stream.time_base), stream=self.stream)
                pictures = self.pictures()
                first = _first_from(pts, pictures)
            except (FFmpegError, DamagedVideoError):
                continue  # decoding from an earlier picture tells whether it is really damaged
            if first is not None and first.pts == pts and not first.is_corrupt:
                break
        else:
            self.close()
            self._open()
            pictures = self.pictures()
            first = _first_from(pts, pictures)
        if first is not None:
            yield first
            yield from pictures

    def _open(self) -> None:
        self.container = open_input(self._source)
        try:
            self.stream = only_video_stream(self.container)
        except BaseException:
            self.close()
            raise
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = 2  # more of them can hang beside torch's own

    def _refuse_cut_off(self) -> None:
        """Most containers say how long they are: see a cut-off file before hours go into it."""
        if self.keep_damaged:
            return
        promised = promised_bytes(self._source, self.container, self.stream)
        size = size_of(self._source)
        if promised > size:
            raise DamagedVideoError(
                f"cut off: its header reaches to byte {promised:,}, the file ends at {size:,}; copy it "
                "again, or set video.keep_damaged to write what decodes"
            )

    def _damage(self, error: FFmpegError | None, pts: int | None) -> None:
        if pts is not None and self.judged is not None:
            start, end = self.judged
            if pts < start or (end is not None and pts >= end):
                return
        self.num_damaged += 1
        if not self.keep_damaged:
            what = error.strerror if error else "parts of the picture are missing"
            place = f"after frame {self.num_decoded}"
            if self.judged is not None and pts is not None:
                place = f"near {float(pts * self.stream.time_base):.2f} s"
            raise DamagedVideoError(
                f"damaged {place} ({what}): copy it again, or set video.keep_damaged to write what decodes"
            ) from error


def _first_from(pts: int, pictures: Iterator[VideoFrame]) -> VideoFrame | None:
    return next((picture for picture in pictures if picture.pts is not None and picture.pts >= pts), None)
