"""Judge how still the videos of a run hold: read its manifest, measure, write figures and page."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nst_ops.collection.constants import RUN_FILE
from nst_ops.collection.manifest import Manifest
from nst_ops.config import ConfigError, EvaluateConfig, VideoConfig
from nst_ops.evaluation.distribution import load_judge
from nst_ops.evaluation.image_report import show
from nst_ops.evaluation.images import read_styles, spread
from nst_ops.evaluation.video_metrics import FIGURES, SOURCE, Gauge, read_row
from nst_ops.evaluation.video_report import busiest_crop, stillest_first, strip, videos_plot, write_page
from nst_ops.media.errors import MediaError
from nst_ops.storage import Folder
from nst_ops.stylizers.device import choose_device

PAGE, METRICS, SUMMARY, PLOT = "index.html", "stability.parquet", "summary.json", "stability.png"
_STYLIZED = "stylized"


@dataclass(frozen=True)
class StabilityReport:
    """How still the videos hold.

    Attributes:
        rows: of each video its name, files, style, size, number of frames and the ``FIGURES``; those of
            the source have the prefix ``source_``.
        notes: what else a reader has to know.
    """

    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Of each figure the mean over the videos that have it; nan where none has."""
        means = {}
        for name in [*FIGURES, *(f"{SOURCE}_{figure}" for figure in FIGURES)]:
            known = [row[name] for row in self.rows if math.isfinite(row[name])]
            means[name] = float(np.mean(known)) if known else math.nan
        return means

    def tables(self) -> list[Table]:
        """For a terminal: the means."""
        table = Table(title=f"{len(self.rows):,} videos, means")
        for column in ("figure", "better", "stylized", "source"):
            table.add_column(column, justify="left" if column in ("figure", "better") else "right")
        means = self.means()
        for name, about in FIGURES.items():
            cells = (means[name], means[f"{SOURCE}_{name}"])
            table.add_row(about.label, about.better, *(show(c) if math.isfinite(c) else "" for c in cells))
        notes = Table(show_header=False, title="notes", title_justify="left")
        for note in self.notes:
            notes.add_row(note)
        return [table, notes] if self.notes else [table]


@dataclass(frozen=True)
class StabilityOutcome:
    """What judging came to.

    Attributes:
        report: the figures.
        page: where the page lies.
        unreadable: why, by source.
    """

    report: StabilityReport
    page: str
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if all videos were judged, 3 if some could not be read."""
        return 3 if self.unreadable else 0


def evaluate_videos(config: EvaluateConfig) -> StabilityOutcome:
    """Measure the videos of ``config.run`` against their sources and write to ``config.output``.

    Raises:
        ConfigError: no such run, style, weights, tap or device, or no video can be judged.
        StorageFullError: there is no space for the output.
    """
    try:
        device = choose_device(config.device, "fp32")[0]
        run, output = Folder(config.run), Folder(config.output)
        manifest = Manifest(run).table()
        vgg, lacking = load_judge(config.taps.style, config.vgg.weights)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(str(error)) from error
    ok = manifest.filter(pc.and_(pc.equal(manifest["status"], "ok"), pc.equal(manifest["kind"], "video")))
    rows = ok.sort_by("source_uri").to_pylist()
    if not rows:
        raise ConfigError(
            f"run: no manifest with a video of status ok in '{config.run}': give the output folder of "
            "jobs/stylize_dataset.py; without --temporal pictures are judged"
        )
    chosen = spread(rows, config.limit) if config.limit else rows
    styles = read_styles(config.style, config.style_side, config.style_limit, {row["style"] for row in rows})
    gauge = Gauge(styles, vgg, [tap for tap in config.taps.style if tap not in lacking], device)
    unreadable: dict[str, str] = {}
    report = StabilityReport(
        list(_measure(chosen, config, _video_settings(run), gauge, output, unreadable)),
        [
            f"Gram error at {', '.join(taps)} is not measured: {why}"
            for why, taps in _by_reason(lacking).items()
        ],
    )
    if not report.rows:
        source, reason = next(iter(unreadable.items()))
        raise ConfigError(
            f"run: none of its {len(chosen)} videos can be judged, such as '{source}': {reason}"
        )
    report.notes.extend(f"could not be judged: {source}: {why}" for source, why in unreadable.items())
    if others := manifest.num_rows - len(chosen):
        report.notes.append(f"{others:,} rows of the manifest were left out: pictures, failures, limit")
    _write(report, output, config, unreadable)
    return StabilityOutcome(report, output.uri(PAGE), unreadable)


def _by_reason(lacking: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for tap, reason in sorted(lacking.items()):
        reasons.setdefault(reason, []).append(tap)
    return reasons


def _video_settings(run: Folder) -> VideoConfig:
    """How the run wrote its videos: which frames, and whether beside their source."""
    try:
        written = json.loads(run.read_bytes(RUN_FILE))["config"]["video"]
        known = {key: value for key, value in written.items() if key in VideoConfig.model_fields}
        return VideoConfig.model_validate(known)
    except (OSError, ValueError, KeyError, TypeError):  # a run of an earlier version, or its record is lost
        return VideoConfig()


def _measure(
    rows: list[dict[str, Any]],
    config: EvaluateConfig,
    video: VideoConfig,
    gauge: Gauge,
    output: Folder,
    unreadable: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """A row of figures for each video, while its strip is written; ``unreadable`` learns of the others."""
    excerpt_config = config.excerpt
    for number, row in enumerate(track(rows, "videos", console=Console(stderr=True))):
        try:
            excerpt, stylized = read_row(
                row, video, excerpt_config.start_s, excerpt_config.num_frames, config.max_side
            )
        except (OSError, MediaError) as error:
            unreadable[row["source_uri"]] = f"{type(error).__name__}: {error}"
            continue
        figures = gauge(excerpt, {_STYLIZED: stylized}, row["style"] or "")
        picture = strip(
            {SOURCE: excerpt.source_thwc, _STYLIZED: stylized},
            busiest_crop(stylized, excerpt.motion),
            len(stylized) // 3,
        )
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90, subsampling=0)
        output.write_bytes(name := f"strips/{number:05d}.jpg", buffer.getvalue())
        yield {
            "name": excerpt.name,
            "source_uri": row["source_uri"],
            "output_uri": row["output_uri"],
            "style": row["style"],
            "num_frames": len(stylized),
            "width": stylized.shape[2],
            "height": stylized.shape[1],
            "num_cuts": len(excerpt.cuts),
            "strip": name,
            **figures[_STYLIZED],
            **{f"{SOURCE}_{name}": figure for name, figure in figures[SOURCE].items()},
        }


def _write(
    report: StabilityReport, output: Folder, config: EvaluateConfig, unreadable: Mapping[str, str]
) -> None:
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(report.rows), table)
    output.write_bytes(METRICS, table.getvalue())
    means = {name: mean if math.isfinite(mean) else None for name, mean in report.means().items()}
    summary = {
        "videos": len(report.rows),
        "means": means,
        "notes": report.notes,
        "unreadable": dict(unreadable),
        "config": config.model_dump(mode="json"),
    }
    output.write_bytes(SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    plot = videos_plot(report.rows)
    output.write_bytes(PLOT, plot)
    facts = {
        "run": config.run,
        "style": config.style,
        "judged": f"{len(report.rows):,} videos, {config.excerpt.num_frames} frames of each at most, from "
        f"second {config.excerpt.start_s:g} on, up to {config.max_side} px; flow of the source by DIS",
        "figures": f"{METRICS}: a row for each video; {SUMMARY}",
    }
    restless = stillest_first(report.rows)[::-1][: 3 * config.page.pictures]
    strips = [(row["name"], output.read_bytes(row["strip"])) for row in restless]
    page = write_page(report.rows, report.means(), report.notes, facts, plot, strips)
    output.write_bytes(PAGE, page.encode())
    output.remove_scratch()
