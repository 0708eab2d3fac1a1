"""A few videos of a run to look at: the file itself where browsers play it, or a short clip of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from nst_ops.config import VideoConfig
from nst_ops.media.formats import media_kind
from nst_ops.media.video import Selection
from nst_ops.report.clips import CLIP_S, write_clip
from nst_ops.storage import Folder

_MOST_BYTES = 50e6
"""Of a video that the page plays itself: a report should open at once."""


@dataclass(frozen=True)
class Player:
    """A video that the page plays."""

    name: str
    link: str
    """URL, relative to the page."""
    about: str


def make_players(rows: pa.Table, output: Folder, folder: str, video: VideoConfig, count: int) -> list[Player]:
    """Choose the smallest videos that are ok, and write clips of those that browsers may not play.

    Args:
        rows: of the manifest, to choose from.
        output: of the run.
        folder: of the page, in the output; clips are written to ``clips/`` below it.
        video: how the run wrote its videos.
        count: players at most; a video that cannot be read any more has none.
    """
    films = rows.filter(pc.and_(pc.equal(rows["status"], "ok"), pc.equal(rows["kind"], "video")))
    smallest = films.sort_by("output_bytes").slice(0, count).to_pylist()
    players = []
    for number, row in enumerate(smallest):
        name = row["source_uri"].rsplit("/", 1)[-1]
        if _plays(row, output, video):
            relpath = row["output_uri"].removeprefix(f"{output.uri()}/")
            players.append(Player(name, quote(os.path.relpath(relpath, folder)), "whole"))
            continue
        clip = f"clips/{number:02d}.mp4"
        try:
            with output.atomic_write(f"{folder}/{clip}") as temporary:
                beside = _write_clip(str(temporary), row, video)
        except Exception:  # a video that has gone since is no reason to fail a finished run
            continue
        side = ", before and after" if beside else ""
        players.append(Player(name, clip, f"the first {CLIP_S:g} s{side}"))
    return players


def _plays(row: Mapping[str, Any], output: Folder, video: VideoConfig) -> bool:
    """Whether browsers play the file where it lies, and the page can name it."""
    uri, inside = row["output_uri"], f"{output.uri()}/"
    plain = video.codec == "h264" and video.pixel_format == "yuv420p"
    named = uri.startswith(inside) and uri.lower().endswith((".mp4", ".m4v"))
    return output.is_local and plain and named and row["output_bytes"] <= _MOST_BYTES


def _write_clip(path: str, row: Mapping[str, Any], video: VideoConfig) -> bool:
    """Write a clip; whether the source stands beside."""
    source_uri = row["source_uri"]
    has_source = not video.side_by_side and media_kind(source_uri) == "video"
    selection = Selection(video.start_s, video.duration_s, video.max_frame_rate)
    write_clip(path, _media(row["output_uri"]), _media(source_uri) if has_source else None, selection)
    return has_source or video.side_by_side


def _media(uri: str) -> Any:
    folder, name = os.path.split(uri)
    return Folder(folder).media(name)
