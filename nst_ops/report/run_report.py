"""The page of a run: speed over time, errors, before and after, videos."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from html import escape
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nst_ops.collection.constants import MANIFEST, REPORT, REPORT_PAGE, STATUSES
from nst_ops.collection.progress import Progress, Rates, Totals, rates
from nst_ops.collection.results import ErrorGroup
from nst_ops.config import StylizeConfig, VideoConfig
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Frame, Selection, VideoReader, VideoWriter
from nst_ops.media.video.source import MediaSource
from nst_ops.report.contact_sheet import Strip, read_strips
from nst_ops.report.html import definitions, figure, image, page, table, thumbnail
from nst_ops.report.text import duration, pace
from nst_ops.storage import Folder

CLIP_S = 5.0
_SIDE = 480
_CONFIG = VideoConfig(crf=24, preset="veryfast")  # H.264 of 8 bit, 4:2:0


def write_clip(path: str, stylized: MediaSource, source: MediaSource | None, selection: Selection) -> None:
    """Write the first seconds of a stylized video as MP4, upright.

    Args:
        path: local file to write.
        stylized: video to show.
        source: what it was made from, to stand at its left; None to show it alone.
        selection: what of the source was stylized.

    Raises:
        MediaError: one of the two cannot be read.
        OSError: one of the two is not there.
    """
    with ExitStack() as readers:
        after = readers.enter_context(VideoReader(stylized, _SIDE, True, Selection(duration_s=CLIP_S)))
        turns = round(after.info.rotation / 90) % 4
        frames = after.frames()
        lefts: Iterator[Frame | None] = itertools.repeat(None)
        if source is not None:
            span = replace(selection, duration_s=min(CLIP_S, selection.duration_s or CLIP_S))
            lefts = readers.enter_context(VideoReader(source, _SIDE, True, span)).frames()
        shown = (_shown(left, right, turns) for left, right in zip(lefts, frames, strict=False))
        first = next(shown)
        height, width = first.rgb_hwc.shape[:2]
        aspect = after.info.sample_aspect_ratio
        aspect = 1 / aspect if aspect and turns % 2 else aspect
        info = replace(after.info, rotation=0, sample_aspect_ratio=aspect)
        with VideoWriter(path, "mp4", info, (width, height), None, _CONFIG) as writer:
            for frame in itertools.chain([first], shown):
                writer.write(frame)


def _shown(left: Frame | None, right: Frame, turns: int) -> Frame:
    """The frame upright, beside its source if there is one."""
    picture_hwc = np.rot90(right.rgb_hwc, turns)
    if left is not None:
        size = picture_hwc.shape[1], picture_hwc.shape[0]
        upright_hwc = np.ascontiguousarray(np.rot90(left.rgb_hwc, turns))
        left_hwc = cv2.resize(upright_hwc, size, interpolation=cv2.INTER_AREA)
        picture_hwc = np.concatenate([left_hwc, picture_hwc], axis=1)
    return Frame(right.pts, right.duration, np.ascontiguousarray(picture_hwc))


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
    return Folder(folder).media_source(name)


_SPEED, _BUSY, _WAIT = "#2b6cb0", "#2f855a", "#dd6b20"
_MOST_STEPS = 60


def plot_run(history: Sequence[Totals], num_workers: int) -> bytes:
    """An SVG with the speed above, and below how busy the workers' networks were.

    Args:
        history: samples in the order of time, at least two.
        num_workers: of the run.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # slow to import, needed here only
    from matplotlib.figure import Figure

    shown = _spaced(history)
    steps = [rates(earlier, later, num_workers) for earlier, later in itertools.pairwise(shown)]
    unit, name = (60.0, "min") if shown[-1].elapsed_s < 3 * 3600 else (3600.0, "h")
    edges = [sample.elapsed_s / unit for sample in shown]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasSVG(figure)
    speed, share = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_speed(speed, edges, steps)
    share.stairs([100 * step.busy_share for step in steps], edges, color=_BUSY, label="network busy")
    share.stairs([100 * step.wait_share for step in steps], edges, color=_WAIT, label="network waits")
    share.set(ylim=(0, 105), ylabel="% of workers", xlabel=f"{name} since the start", xlim=(0, edges[-1]))
    for axes in (speed, share):
        axes.legend(frameon=False, fontsize=8, loc="best")
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _draw_speed(axes: Any, edges: Sequence[float], steps: Sequence[Rates]) -> None:
    """Frames where there are any, else rows: both on one axis would hide the smaller."""
    frames = [step.frames_per_s for step in steps]
    rows = [step.rows_per_s for step in steps]
    values, label = (frames, "video frames") if sum(frames) > sum(rows) else (rows, "files")
    axes.stairs(values, edges, color=_SPEED, fill=True, alpha=0.25)
    axes.stairs(values, edges, color=_SPEED, label=label)
    axes.set(ylabel=f"{label} per second", ylim=(0, None))


def _spaced(history: Sequence[Totals]) -> list[Totals]:
    """Samples far enough apart that a step of the plot is wider than a unit's chance to end in it."""
    gap_s = history[-1].elapsed_s / _MOST_STEPS
    shown = [history[0]]
    for sample in history[1:]:
        if sample.elapsed_s > shown[-1].elapsed_s + gap_s:
            shown.append(sample)
    if len(shown) > 1 and shown[-1] is not history[-1]:
        shown[-1] = history[-1]
    return shown


_NUM_PLAYERS = 3
_TOP_ERRORS = 20


def write_run_page(
    output: Folder,
    config: StylizeConfig,
    progress: Progress,
    rows: pa.Table,
    counts: Mapping[str, int],
    errors: Sequence[ErrorGroup],
    read_style: Callable[[str], UInt8Array] | None = None,
) -> str:
    """Write ``report/index.html``, and ``report/clips/`` with what it plays.

    Args:
        output: of the run.
        config: of the run.
        progress: how it ended.
        rows: of the manifest, enough to choose a few pictures and videos from.
        counts: rows of the whole output by status.
        errors: the most frequent.
        read_style: a style picture by name, uint8 sRGB (H, W, 3), where there are several.

    Returns:
        The URI of the page.
    """
    folder = REPORT
    output.remove(f"{folder}/clips")  # of an earlier run
    strips = read_strips(rows, config.report.pairs, read_style) if config.report.pairs else []
    players = make_players(rows, output, folder, config.video, _NUM_PLAYERS)
    title = f"{Folder(config.input).uri().rsplit('/', 1)[-1]}, stylized"
    body = [
        f"<h1>{escape(title)}</h1>",
        _tiles(counts),
        definitions(_facts(output, config, progress)),
        *_errors(errors, output),
        *_speed(progress),
        *_pictures(strips),
        *_videos(players),
    ]
    output.write_bytes(REPORT_PAGE, page(title, body, _STYLE).encode("utf-8", "replace"))
    return output.uri(REPORT_PAGE)


def _tiles(counts: Mapping[str, int]) -> str:
    """How many rows there are of each status, large."""
    tiles = (
        f"<div class='tile {status}'><b>{counts.get(status, 0):,}</b> {status}</div>"
        for status in STATUSES
        if counts.get(status) or status in ("ok", "failed")
    )
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _facts(output: Folder, config: StylizeConfig, progress: Progress) -> Iterator[tuple[str, str]]:
    """What is to be said of the run, by name."""
    done, planned, speed = progress.done, progress.planned, progress.overall
    yield "state", f"{progress.state}{f': {progress.reason}' if progress.reason else ''}"
    yield "input", Folder(config.input).uri()
    yield "output", output.uri()
    yield "model", _model(config)
    if planned.num_done_before:
        yield "earlier runs", f"{planned.num_done_before:,} rows"
    rows = f"{done.num_rows:,} of {planned.num_rows:,} rows"
    yield "this run", f"{rows} in {duration(done.elapsed_s)}, {pace(speed)}"
    if planned.num_workers:
        gpus = f" on a cluster of {planned.num_gpus:,} GPUs" if planned.num_gpus else ""
        yield "workers", f"{planned.num_workers:,}{gpus}"
        shares = f"busy {speed.busy_share:.0%} of the time, waiting for pictures {speed.wait_share:.0%}"
        yield "networks", shares
    if progress.num_retries:
        yield "lost units", f"{progress.num_retries:,}, tried again"
    yield "run", f"{progress.run_id}, begun {progress.started_at}, driver on {progress.host}"
    yield "details", "run.json: the whole configuration; manifest/: a row for each file and style"


def _model(config: StylizeConfig) -> str:
    model = config.model
    weights = "" if model.kind in ("identity", "gatys") else f", {str(model.checkpoint).rsplit('/', 1)[-1]}"
    style = f", style {config.style.images}" if config.style.images else ""
    return f"{model.kind}{weights}{style}"


def _errors(errors: Sequence[ErrorGroup], output: Folder) -> Iterator[str]:
    if not errors:
        return
    yield "<h2>Errors</h2>"
    lines = [
        (f"{error.num_rows:,}", error.error_type, error.message, error.example)
        for error in errors[:_TOP_ERRORS]
    ]
    yield table(("rows", "error", "message", "for example"), lines)
    more = f"{len(errors) - _TOP_ERRORS:,} more kinds, and each" if len(errors) > _TOP_ERRORS else "Each"
    link = f"<a href='../{quote(MANIFEST)}/'>{MANIFEST}/</a>" if output.is_local else f"{MANIFEST}/"
    yield (
        f"<p class=small>{more} file with its reason: {link}, a Parquet dataset. Take them again with "
        "--retry-failed.</p>"
    )


def _speed(progress: Progress) -> Iterator[str]:
    if len(progress.history) >= 2 and progress.history[-1].elapsed_s > 0:
        yield "<h2>Speed</h2>"
        yield image(plot_run(progress.history, progress.planned.num_workers), "svg+xml")


def _pictures(strips: Sequence[Strip]) -> Iterator[str]:
    if not strips:
        return
    yield "<h2>Before and after</h2><div class=rows>"
    for label, pictures in strips:
        shown = "".join(thumbnail(picture) for picture in pictures)
        yield f"<div class=row><div class=pictures>{shown}</div><p class=small>{escape(label)}</p></div>"
    yield "</div>"


def _videos(players: Sequence[Player]) -> Iterator[str]:
    if not players:
        return
    yield "<h2>Videos</h2><div class=rows>"
    for player in players:
        video = f"<video controls loop muted preload=auto src='{escape(player.link)}'></video>"
        yield f"<div class=row>{figure(video, f'{player.name}: {player.about}')}</div>"
    yield "</div>"


_STYLE = """
.tiles { display: flex; gap: .8rem; flex-wrap: wrap; margin: 1rem 0 }
.tile { background: #faf8f5; border-radius: 6px; padding: .5rem 1rem; color: #555 }
.tile b { font-size: 1.5rem; color: #222; font-variant-numeric: tabular-nums; margin-right: .3rem }
.ok b { color: #2f855a }
.failed b, .crashed b { color: #c0392b }
.row p { margin: .3rem 0 0 }
.row video { width: 100% }
.row .pictures img { max-height: 256px; object-fit: contain }
th, td:nth-child(-n+2) { white-space: nowrap }
"""
