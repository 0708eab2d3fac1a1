"""Where a file should end, by its own account: a cut-off one is seen before hours go into it."""

from __future__ import annotations

import os
from typing import Any

from av.container import InputContainer

from nst_ops.media.video.source import MediaSource, RangeInput


def promised_bytes(source: MediaSource, container: InputContainer, stream: Any) -> int:
    """Where the file should end, by its own account; 0 if it does not say."""
    name = container.format.name
    if "mp4" in name:
        entries = stream.index_entries
        ends = [entries[i].pos + entries[i].size for i in ((0, len(entries) - 1) if len(entries) else ())]
        return max(ends, default=0)
    file = RangeInput(source)
    if "matroska" in name:
        return _matroska_end(file)
    head = file.read(8)
    # A RIFF says how much follows its first 8 bytes; some writers count these, too.
    promised = int.from_bytes(head[4:], "little") if head[:4] == b"RIFF" else 0
    return 0 if promised == 0xFFFFFFFF else promised  # a recorder that never came back to fill it in


def _matroska_end(file: RangeInput) -> int:
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
