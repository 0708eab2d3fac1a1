"""The report of a run: a contact sheet, and a page with speed over time, errors, images and videos."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nst_ops.collection.constants import MANIFEST, REPORT, REPORT_PAGE, STATUSES
from nst_ops.collection.progress import Progress, Totals, rates
from nst_ops.collection.results import ErrorGroup
from nst_ops.collection.run_lock import describe_configs
from nst_ops.config import StylizeConfig, VideoConfig
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.container import Frame, VideoInfo
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection
from nst_ops.media.video.source import MediaSource
from nst_ops.media.video.writer import VideoWriter
from nst_ops.report.contact_sheet import Strip, read_strips, write_contact_sheet
from nst_ops.report.html import definitions, figure, image, page, table, thumbnail
from nst_ops.report.text import digits, duration, pace
from nst_ops.storage import Folder, folder_and_name

CONTACT_SHEET = f"{REPORT}/contact_sheet.png"
CLIP_S = 5.0  # of a video that a clip shows
_CLIP_SIDE = 480
_CLIP = VideoConfig(crf=24, preset="veryfast")  # H.264 of 8 bit, 4:2:0
_NUM_PLAYERS, _TOP_ERRORS, _MOST_STEPS = 3, 20, 60
_MOST_BYTES = 50e6  # of a video that the page plays as it is: a report should open at once
_LEFT, _RIGHT = 60, 1000  # pixels of the plot between which time runs
_SPEED, _BUSY, _WAIT = "#2b6cb0", "#2f855a", "#dd6b20"


def write_report(
    output: Folder,
    config: StylizeConfig,
    model: str,
    progress: Progress,
    rows: pa.Table,
    counts: Mapping[str, int],
    errors: Sequence[ErrorGroup],
    read_style: Callable[[str], UInt8Array] | None = None,
) -> dict[str, str]:
    """Write ``report/``: the page, the clips that it plays, and the contact sheet if there is one to draw.

    Needed are the ``model`` in words, the last ``progress``, ``rows`` of the manifest to choose a few images and videos
    from, ``counts`` of the whole output by status, and the most frequent errors; ``read_style`` is that of
    ``read_strips``. Returned are the URIs of what was written: ``before/after`` and ``report``.
    """
    places = {}
    strips = read_strips(rows, config.report.pairs, read_style) if config.report.pairs else []
    if strips:
        places["before/after"] = write_contact_sheet(strips, output, CONTACT_SHEET)
    output.remove(f"{REPORT}/clips")  # of an earlier run
    title = f"{Folder(config.input).uri().rsplit('/', 1)[-1]}, stylized"
    body = [
        f"<h1>{escape(title)}</h1>",
        _tiles(counts),
        definitions(_facts(output, config, model, progress)),
        *_errors(errors, output),
        *_speed(progress),
        *_strips(strips),
        *_videos(rows, output, config.video),
    ]
    output.write_bytes(REPORT_PAGE, page(title, body, _STYLE).encode("utf-8", "replace"))
    return {**places, "report": output.uri(REPORT_PAGE)}


def _tiles(counts: Mapping[str, int]) -> str:
    """The number of rows of each status, large."""
    shown = [status for status in STATUSES if counts.get(status) or status in ("ok", "failed")]
    tiles = (f"<div class='tile {status}'><b>{counts.get(status, 0):,}</b> {status}</div>" for status in shown)
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _facts(output: Folder, config: StylizeConfig, model: str, progress: Progress) -> Iterator[tuple[str, str]]:
    """Facts about the run, by name."""
    done, planned, speed = progress.done, progress.planned, progress.overall
    yield "state", f"{progress.state}{f': {progress.reason}' if progress.reason else ''}"
    yield "input", Folder(config.input).uri()
    yield "output", output.uri()
    yield "model", f"{model}, style {config.style.images}" if config.style.images else model
    if planned.num_done_before:
        yield "earlier runs", f"{planned.num_done_before:,} rows"
    yield "this run", f"{done.num_rows:,} of {planned.num_rows:,} rows in {duration(done.elapsed_s)}, {pace(speed)}"
    if planned.num_workers:
        gpus = f" on a cluster of {planned.num_gpus:,} GPUs" if planned.num_gpus else ""
        yield "workers", f"{planned.num_workers:,}{gpus}"
        yield "networks", f"busy {speed.busy_share:.0%} of the time, waiting for input {speed.wait_share:.0%}"
    if configs := describe_configs(output):
        yield "configurations", configs
    if progress.num_retries:
        yield "lost units", f"{progress.num_retries:,}, tried again"
    yield "run", f"{progress.run_id}, begun {progress.started_at}, driver on {progress.host}"
    yield "details", "run.json: the whole configuration; manifest/: a row for each file and style"


def _errors(errors: Sequence[ErrorGroup], output: Folder) -> Iterator[str]:
    if not errors:
        return
    yield "<h2>Errors</h2>"
    lines = [(f"{error.num_rows:,}", error.error_type, error.message, error.example) for error in errors[:_TOP_ERRORS]]
    yield table(("rows", "error", "message", "for example"), lines)
    more = f"{len(errors) - _TOP_ERRORS:,} more kinds, and each file" if len(errors) > _TOP_ERRORS else "Each file"
    link = f"<a href='../{quote(MANIFEST)}/'>{MANIFEST}/</a>" if output.is_local else f"{MANIFEST}/"
    yield f"<p class=small>{more} with its reason: {link}, a Parquet dataset. Try them again with --retry-failed.</p>"


def _speed(progress: Progress) -> Iterator[str]:
    if len(progress.history) >= 2 and progress.history[-1].elapsed_s > 0:
        yield "<h2>Speed</h2>"
        yield image(plot_speed(progress.history, progress.planned.num_workers).encode(), "svg+xml")


def plot_speed(history: Sequence[Totals], num_workers: int) -> str:
    """SVG with the speed above, and below how busy the workers' networks were; ``history`` has at least two totals.

    It is written by hand: matplotlib takes 1 to 3 s to import, as long as a small run. Frames are drawn if there are
    more of them than rows: both on one axis would hide the smaller.
    """
    shown = _spaced(history)
    steps = [rates(earlier, later, num_workers) for earlier, later in itertools.pairwise(shown)]
    elapsed_s = shown[-1].elapsed_s
    unit_s, unit = (1, "s") if elapsed_s < 300 else (60, "min") if elapsed_s < 3 * 3600 else (3600, "h")
    edges = [totals.elapsed_s / unit_s for totals in shown]
    frames, rows = [step.frames_per_s for step in steps], [step.rows_per_s for step in steps]
    speeds, name = (frames, "video frames") if sum(frames) > sum(rows) else (rows, "files")
    busy, wait = [100 * step.busy_share for step in steps], [100 * step.wait_share for step in steps]
    curves = {"network busy, % of workers": (_BUSY, busy), "network waits, %": (_WAIT, wait)}
    body = _panel(30, 190, edges, {f"{name} per second": (_SPEED, speeds)}) + _panel(270, 90, edges, curves)
    body += f"<text x='{_RIGHT}' y='400' text-anchor='end'>{unit} since the start</text>"
    style = "font: 13px sans-serif; fill: none; stroke-width: 1.5"
    text = "text { fill: #444 } line { stroke: #ddd; stroke-width: 1 }"
    size = f"viewBox='0 0 {_RIGHT + 20} 410' width='{_RIGHT + 20}' height='410'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size} style='{style}'><style>{text}</style>{body}</svg>"


def _panel(top: int, height: int, edges: Sequence[float], curves: Mapping[str, tuple[str, Sequence[float]]]) -> str:
    """Stairs over ``edges`` with a grid, at ``top`` of the SVG; curves are (color, values) by label."""
    bottom, highest = top + height, max(max(values) for _, values in curves.values()) or 1.0
    y_step, x_step = _round_step(highest, 3), _round_step(edges[-1], 8)
    y_scale, x_scale = height / (y_step * math.ceil(highest / y_step)), (_RIGHT - _LEFT) / edges[-1]
    parts, label_x = [], _LEFT
    for number in range(math.ceil(highest / y_step) + 1):
        y = bottom - number * y_step * y_scale
        parts.append(f"<line x1='{_LEFT}' x2='{_RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>")
        parts.append(f"<text x='{_LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{digits(number * y_step)}</text>")
    for number in range(int(edges[-1] / x_step) + 1):
        x = _LEFT + number * x_step * x_scale
        parts.append(f"<text x='{x:.1f}' y='{bottom + 17}' text-anchor='middle'>{digits(number * x_step)}</text>")
    for label, (color, values) in curves.items():
        points = [f"{_LEFT + edge * x_scale:.1f}" for edge in edges]
        heights = [f"{bottom - value * y_scale:.1f}" for value in values]
        stairs = " ".join(f"V{y} H{x}" for x, y in zip(points[1:], heights, strict=True))
        parts.append(f"<path d='M{points[0]} {heights[0]} {stairs}' stroke='{color}'/>")
        parts.append(f"<text x='{label_x}' y='{top - 10}' style='fill: {color}'>{label}</text>")
        label_x += 8 * len(label) + 20
    return "".join(parts)


def _round_step(span: float, count: int) -> float:
    """Length of about ``count`` equal steps over ``span``: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(span / count))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= span / count)


def _spaced(history: Sequence[Totals]) -> list[Totals]:
    """Totals so far apart that the end of a single unit makes no peak in the plot."""
    shown = [history[0]]
    for totals in history[1:]:
        if totals.elapsed_s > shown[-1].elapsed_s + history[-1].elapsed_s / _MOST_STEPS:
            shown.append(totals)
    if len(shown) > 1:
        shown[-1] = history[-1]
    return shown


def _strips(strips: Sequence[Strip]) -> Iterator[str]:
    if not strips:
        return
    yield "<h2>Before and after</h2><div class=rows>"
    for label, images in strips:
        shown = "".join(map(thumbnail, images))
        yield f"<div class=row><div class=images>{shown}</div><p class=small>{escape(label)}</p></div>"
    yield "</div>"


def _videos(rows: pa.Table, output: Folder, video: VideoConfig) -> Iterator[str]:
    """Play the smallest videos that are ok; those that browsers may not play as clips below ``report/``."""
    done = rows.filter(pc.and_(pc.equal(rows["status"], "ok"), pc.equal(rows["kind"], "video")))
    players = []
    for number, row in enumerate(done.sort_by("output_bytes").slice(0, _NUM_PLAYERS).to_pylist()):
        if _plays(row, output, video):
            relpath = row["output_uri"].removeprefix(f"{output.uri()}/")
            link, about = quote(os.path.relpath(relpath, REPORT)), "whole"
        else:
            link, about = f"clips/{number:02d}.mp4", f"the first {CLIP_S:g} s"
            try:
                with output.atomic_write(f"{REPORT}/{link}") as temporary:
                    if _write_clip(str(temporary), row, video):
                        about += ", before and after"
            except Exception:  # a video that has gone since is no reason to fail a finished run
                continue
        player = f"<video controls loop muted preload=auto src='{escape(link)}'></video>"
        name = row["source_uri"].rsplit("/", 1)[-1]
        players.append(f"<div class=row>{figure(player, f'{name}: {about}')}</div>")
    if players:
        yield f"<h2>Videos</h2><div class=rows>{''.join(players)}</div>"


def _plays(row: dict[str, Any], output: Folder, video: VideoConfig) -> bool:
    """Tell whether browsers play the file where it lies, and the page can name it."""
    uri, inside = row["output_uri"], f"{output.uri()}/"
    plain = video.codec == "h264" and video.pixel_format == "yuv420p"
    named = uri.startswith(inside) and uri.lower().endswith((".mp4", ".m4v"))
    return output.is_local and plain and named and row["output_bytes"] <= _MOST_BYTES


def _write_clip(path: str, row: dict[str, Any], video: VideoConfig) -> bool:
    """Write a clip of a row; return whether the source stands beside it."""
    has_source = not video.side_by_side and media_kind(row["source_uri"]) == "video"
    selection = Selection(video.start_s, video.duration_s, video.max_frame_rate)
    write_clip(path, _media(row["output_uri"]), _media(row["source_uri"]) if has_source else None, selection)
    return has_source or video.side_by_side


def _media(uri: str) -> MediaSource:
    folder, name = folder_and_name(uri)
    return folder.media_source(name)


def write_clip(path: str, stylized: MediaSource, source: MediaSource | None, selection: Selection) -> None:
    """Write the first seconds of a stylized video as MP4, upright, at the right of its source if there is one.

    The selection is the part of the source that was stylized. Raises MediaError if one of the two cannot be read,
    OSError if it is not there.
    """
    with ExitStack() as readers:
        after = readers.enter_context(VideoReader(stylized, _CLIP_SIDE, True, Selection(duration_s=CLIP_S)))
        lefts: Iterator[Frame | None] = itertools.repeat(None)
        if source is not None:
            span = replace(selection, duration_s=min(CLIP_S, selection.duration_s or CLIP_S))
            lefts = readers.enter_context(VideoReader(source, _CLIP_SIDE, True, span)).frames()
        shown = (_shown(left, right, after.info) for left, right in zip(lefts, after.frames(), strict=False))
        first = next(shown)
        height, width = first.rgb_hwc.shape[:2]
        aspect = after.info.sample_aspect_ratio
        shown_aspect = 1 / aspect if aspect and after.info.swaps_sides else aspect
        info = replace(after.info, display_matrix=(), sample_aspect_ratio=shown_aspect)
        with VideoWriter(path, "mp4", info, (width, height), None, _CLIP) as writer:
            for frame in itertools.chain([first], shown):
                writer.write(frame)


def _shown(left: Frame | None, right: Frame, info: VideoInfo) -> Frame:
    """The frame upright, beside its source if there is one."""
    frame_hwc = info.upright(right.rgb_hwc)
    if left is not None:
        upright_hwc = np.ascontiguousarray(info.upright(left.rgb_hwc))
        left_hwc = cv2.resize(upright_hwc, frame_hwc.shape[1::-1], interpolation=cv2.INTER_AREA)
        frame_hwc = np.concatenate([left_hwc, frame_hwc], axis=1)
    return Frame(right.pts, right.duration, np.ascontiguousarray(frame_hwc))


_STYLE = """
.tiles { display: flex; gap: .8rem; flex-wrap: wrap; margin: 1rem 0 }
.tile { background: #faf8f5; border-radius: 6px; padding: .5rem 1rem; color: #555 }
.tile b { font-size: 1.5rem; color: #222; font-variant-numeric: tabular-nums; margin-right: .3rem }
.ok b { color: #2f855a }
.failed b, .crashed b { color: #c0392b }
.row p { margin: .3rem 0 0 }
.row video { width: 100% }
.row .images img { max-height: 256px; object-fit: contain }
th, td:nth-child(-n+2) { white-space: nowrap }
"""
