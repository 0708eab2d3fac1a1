"""The report of a run: one page that opens from a file."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from urllib.parse import quote

import pyarrow as pa

from nst_ops.collection.layout import MANIFEST
from nst_ops.collection.progress import Progress
from nst_ops.collection.results import ErrorGroup
from nst_ops.collection.status import PAGE
from nst_ops.collection.status_table import STATUSES, duration, pace
from nst_ops.config import StylizeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.report.contact_sheet import Strip, read_strips
from nst_ops.report.html import definitions, figure, image, page, table, thumbnail
from nst_ops.report.players import Player, make_players
from nst_ops.report.run_plot import plot_run
from nst_ops.storage import Folder

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
    folder = posixpath.dirname(PAGE)
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
    output.write_bytes(PAGE, page(title, body, _STYLE).encode("utf-8", "replace"))
    return output.uri(PAGE)


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
