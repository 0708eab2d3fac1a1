"""The sample table of an MP4 or MOV file: times, sizes and flags of its packets, apart from their bytes."""

from __future__ import annotations

from nst_ops.media.video.source import MediaSource, RangeInput

_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}


class SampleTable(RangeInput):
    """A file of which the media data read as zeros and cost nothing; all other boxes are true.

    Of an hour of film that is a megabyte or two, at the front or at the end. ``is_whole`` says whether
    it tells of every packet: of other containers and of fragmented files it does not.
    """

    def __init__(self, source: MediaSource) -> None:
        super().__init__(source)
        self._media_data: list[range] = []
        self.is_whole = self._find_media_data()
        self.seek(0)

    def _find_media_data(self) -> bool:
        """Go from box to box; whether all of them are those of an MP4 without fragments."""
        start = 0
        while start < self.num_bytes:
            self.seek(start)
            head = self.read(16)
            num_bytes, kind, head_bytes = int.from_bytes(head[:4]), head[4:8], 8
            if num_bytes == 0:  # up to the end
                num_bytes = self.num_bytes - start
            elif num_bytes == 1:
                num_bytes, head_bytes = int.from_bytes(head[8:]), 16
            if num_bytes < head_bytes or kind == b"moof" or (start == 0 and kind not in _FIRST_BOXES):
                return False
            if kind == b"mdat":
                self._media_data.append(range(start + head_bytes, start + num_bytes))
            start += num_bytes
        return bool(self._media_data)

    def _piece(self, start: int, num_bytes: int) -> bytes:
        for data in self._media_data:
            if start in data:
                return bytes(min(num_bytes, min(data.stop, self.num_bytes) - start))
            if start < data.start:
                num_bytes = min(num_bytes, data.start - start)
        return super()._piece(start, num_bytes)
