"""Evaluate the output of a run: read its manifest, judge its pictures, write figures and page."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nst_ops.collection.manifest import Manifest
from nst_ops.config import ConfigError, EvaluateConfig
from nst_ops.evaluation.distribution import load_judge
from nst_ops.evaluation.evaluator import Pair, Taps, judge
from nst_ops.evaluation.image_report import Report, chosen_rows, histograms, style_against_content, write_page
from nst_ops.evaluation.images import choose_rows, read_pair, read_pictures, read_styles
from nst_ops.evaluation.metrics import metric
from nst_ops.media.errors import MediaError
from nst_ops.storage import Folder
from nst_ops.stylizers import Style
from nst_ops.stylizers.device import choose_device

PAGE, METRICS, SUMMARY = "index.html", "metrics.parquet", "summary.json"
_PLOTS = {
    "How each figure is spread over the pictures; gray: the photographs": ("histograms.png", histograms),
    "Each picture by its distances to photograph and style": ("style_content.png", style_against_content),
}
_NEEDS_NO_NETWORK = "palette"


@dataclass(frozen=True)
class Outcome:
    """What an evaluation came to.

    Attributes:
        report: the figures.
        page: where the page lies.
        unreadable: why, by source.
    """

    report: Report
    page: str
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if all pictures were judged, 3 if some could not be read."""
        return 3 if self.unreadable else 0


def evaluate_run(config: EvaluateConfig) -> Outcome:
    """Judge the pictures of ``config.run`` and write what came out to ``config.output``.

    Raises:
        ConfigError: no such run, style, weights, tap, metric or device, or no picture can be
            read; nothing was written.
        StorageFullError: there is no space for the output.
    """
    try:
        device, by = choose_device(config.device, "fp32")[0], config.page.rank_by
    except ValueError as error:
        raise ConfigError(f"device: {error}") from error
    taps = Taps(config.taps.style, config.taps.content, config.taps.distribution)
    try:
        metric(by)
        output, manifest = Folder(config.output), Manifest(Folder(config.run)).table()
        vgg, lacking = load_judge(taps.all(), config.vgg.weights)
    except KeyError as error:
        raise ConfigError(f"page.rank_by: there is no metric {error}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(str(error)) from error
    if not (rows := choose_rows(manifest, config.limit)):
        raise ConfigError(
            f"run: no manifest with a picture of status ok in '{config.run}': give the output folder of "
            "jobs/stylize_dataset.py"
        )
    used = {row["style"] for row in rows}
    styles = read_styles(config.style, config.style_side, config.style_limit, used)

    unreadable: dict[str, str] = {}
    with _progress() as bars:
        tasks = {"style": bars.add_task("styles", total=len(styles))}
        tasks["pair"] = bars.add_task("pictures", total=len(rows))

        def advance(what: str) -> None:
            bars.advance(tasks[what])

        report = judge(
            _read_ahead(rows, config, unreadable, lambda: advance("pair")),
            styles,
            vgg,
            taps,
            lacking=lacking,
            batch_size=config.batch_size,
            device=device,
            seed=config.seed,
            progress=advance,
        )
    if not report.rows:
        source, reason = next(iter(unreadable.items()))
        raise ConfigError(f"run: none of its {len(rows)} pictures can be read, such as '{source}': {reason}")
    if by not in report.metrics():
        report.notes.append(f"{by} was not measured, so {_NEEDS_NO_NETWORK} says which pictures are the best")
        by = _NEEDS_NO_NETWORK
    report.notes.extend(_notes(report, manifest, rows, unreadable))
    _write(report, output, config, manifest, styles, by, unreadable)
    return Outcome(report, output.uri(PAGE), unreadable)


def _progress() -> Progress:
    console = Console(stderr=True, markup=False)
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _read_ahead(
    rows: list[dict[str, Any]],
    config: EvaluateConfig,
    unreadable: dict[str, str],
    skipped: Callable[[], None],
) -> Iterator[Pair]:
    """The pairs of ``rows`` in their order, decoded by threads while the network is busy."""
    waiting: deque[tuple[dict[str, Any], Future[Pair]]] = deque()
    left = iter(rows)
    with ThreadPoolExecutor(config.threads, thread_name_prefix="decode") as pool:
        while True:
            while len(waiting) < 2 * config.batch_size and (row := next(left, None)):
                waiting.append((row, pool.submit(read_pair, row, config.max_side)))
            if not waiting:
                return
            row, pair = waiting.popleft()
            try:
                yield pair.result()
            except (OSError, MediaError) as error:
                unreadable[row["source_uri"]] = f"{type(error).__name__}: {error}"
                skipped()


def _notes(
    report: Report, manifest: pa.Table, rows: list[dict[str, Any]], unreadable: dict[str, str]
) -> list[str]:
    notes = []
    done = manifest.filter(pc.equal(manifest["status"], "ok"))
    num_videos = done.filter(pc.equal(done["kind"], "video")).num_rows
    if num_videos:
        notes.append(f"{num_videos:,} videos of the run were left out: only images are judged")
    if others := manifest.num_rows - done.num_rows:
        notes.append(f"{others:,} items of the run are not ok and were left out")
    if len(rows) < done.num_rows - num_videos:
        notes.append(f"{len(rows):,} of {done.num_rows - num_videos:,} pictures were chosen (limit)")
    own = sum(bool(row["style"]) for row in report.rows)
    if 0 < own < len(report.rows):
        notes.append(
            f"{own:,} pictures name a style that is among those used here and are held against it alone, "
            f"{len(report.rows) - own:,} against the average"
        )
    if unreadable:
        source, reason = next(iter(unreadable.items()))
        notes.append(
            f"{len(unreadable):,} pictures could not be read (all in {SUMMARY}), such as {source}: {reason}"
        )
    return notes


def _write(
    report: Report,
    output: Folder,
    config: EvaluateConfig,
    manifest: pa.Table,
    styles: list[Style],
    by: str,
    unreadable: Mapping[str, str],
) -> None:
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(report.rows), table)
    output.write_bytes(METRICS, table.getvalue())
    summary = report.summary() | {"unreadable": unreadable, "config": config.model_dump(mode="json")}
    output.write_bytes(SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    plots = {}
    for caption, (name, draw) in _PLOTS.items():
        plots[caption] = draw(report)
        output.write_bytes(name, plots[caption])
    by_name = {style.name: style for style in styles}

    def pictures(row: Mapping[str, Any]) -> Iterator[tuple[str, Image.Image]]:
        photo, stylized = read_pictures(dict(row), config.max_side)
        yield "photograph", photo
        yield "stylized", stylized
        style = by_name[row["nearest_style"]]
        caption = "its style" if row["style"] else "nearest style picture"
        yield f"{caption}: {style.name}", Image.fromarray(style.pixels_hwc)

    models = sorted({name for name in manifest["model"].to_pylist() if name})
    facts = {
        "run": f"{config.run} ({', '.join(models)})",
        "style": f"{config.style} ({len(styles):,} used)",
        "judged": f"{len(report.rows):,} pictures, at most {config.max_side} px",
        "network": f"VGG19 of {config.vgg.weights or 'torchvision (ImageNet)'}",
        "figures": f"{METRICS}: a row for each picture; {SUMMARY}",
    }
    page = write_page(
        report, "How good is it?", facts, plots, chosen_rows(report, by, config.page.pictures), by, pictures
    )
    output.write_bytes(PAGE, page.encode())
    output.remove_scratch()
