"""Evaluate the videos of a run: how steady they are, frame against frame."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import cv2
import numpy as np

from nst_ops.collection.constants import RUN_FILE
from nst_ops.collection.run_lock import read_configs
from nst_ops.config import ConfigError, EvaluateConfig, VideoConfig
from nst_ops.evaluation import video_report
from nst_ops.evaluation.run import SUMMARY, FinishedRun, Outcome, Row, progress
from nst_ops.evaluation.video_metrics import SOURCE, Excerpt, VideoEvaluator, VideoResults
from nst_ops.media.errors import MediaError, UnsupportedMediaError
from nst_ops.media.images import UInt8Array, decode_image, fit_size
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection
from nst_ops.storage import Folder, folder_and_name

METRICS, PLOT = "stability.parquet", "stability.png"
_STYLIZED = "stylized"


def evaluate_videos(config: EvaluateConfig) -> Outcome[VideoResults]:
    """Measure the videos of ``config.run`` against their sources and write to ``config.output``.

    Raises ConfigError for no such run, style, weights, tap or device, or if no video can be measured; StorageFullError
    if there is no space for the output.
    """
    run = FinishedRun.open(config, config.taps.style)
    rows = run.rows("video", hint="; without --temporal its images are evaluated")
    styles = run.styles({row["style"] for row in rows})
    taps = [tap for tap in config.taps.style if tap not in run.missing]
    evaluator = VideoEvaluator(styles, run.vgg, taps, run.device)
    unreadable: dict[str, str] = {}
    results = VideoResults(list(_measure(run, rows, evaluator, unreadable)))
    if not results.rows:
        source, reason = next(iter(unreadable.items()))
        raise ConfigError(f"run: none of its {len(rows)} videos can be measured, such as '{source}': {reason}")
    for reason in sorted(set(run.missing.values())):
        missing = ", ".join(sorted(tap for tap, why in run.missing.items() if why == reason))
        results.notes.append(f"Gram error at {missing} is not measured: {reason}")
    results.notes.extend(f"could not be measured: {source}: {why}" for source, why in unreadable.items())
    if others := run.manifest.num_rows - len(rows):
        results.notes.append(f"{others:,} rows of the manifest were left out: images, failures, limit")
    return Outcome(results, video_report.terminal_tables(results), _write(run, results, unreadable), unreadable)


def _measure(run: FinishedRun, rows: list[Row], evaluator: VideoEvaluator, unreadable: dict[str, str]) -> Iterator[Row]:
    """Measure each video and write its strip; ``unreadable`` is filled with the others."""
    video = _video_settings(run.folder)
    for number, row in enumerate(progress(rows, "videos")):
        try:
            excerpt, stylized = _read_excerpt(row, video, run.config)
        except (OSError, MediaError) as error:
            unreadable[row["source_uri"]] = f"{type(error).__name__}: {error}"
            continue
        figures = evaluator(excerpt, {_STYLIZED: stylized}, row["style"] or "")
        versions = {SOURCE: excerpt.source_thwc, _STYLIZED: stylized}
        crop = video_report.busiest_crop(stylized, excerpt.motion)
        drawn = video_report.strip(versions, crop, len(stylized) // 3)
        buffer, relpath = io.BytesIO(), f"strips/{number:05d}.jpg"
        drawn.save(buffer, "JPEG", quality=90, subsampling=0)
        run.output.write_bytes(relpath, buffer.getvalue())
        yield {
            "name": excerpt.name,
            **{key: row[key] for key in ("source_uri", "output_uri", "style")},
            "num_frames": len(stylized),
            "width": stylized.shape[2],
            "height": stylized.shape[1],
            "num_cuts": len(excerpt.cuts),
            "strip": relpath,
            **figures[_STYLIZED],
            **{f"{SOURCE}_{name}": figure for name, figure in figures[SOURCE].items()},
        }


def _video_settings(run: Folder) -> VideoConfig:
    """How the run wrote its videos: which frames, and whether beside their source."""
    try:
        written = json.loads(run.read_bytes(RUN_FILE))["config"]["video"]
        # Only for some rows, where it came with --retry-failed; a video without damage reads the same.
        configs = [written, *(config["video"] for config in read_configs(run).values())]
        written["keep_damaged"] = any(config.get("keep_damaged", False) for config in configs)
        return VideoConfig.model_validate({k: v for k, v in written.items() if k in VideoConfig.model_fields})
    except (OSError, ValueError, KeyError, TypeError):  # a run of an earlier version, or its record is lost
        return VideoConfig()


def _read_excerpt(row: Row, video: VideoConfig, config: EvaluateConfig) -> tuple[Excerpt, UInt8Array]:
    """Source and stylized frames (T, H, W, 3) of a video, frame by frame the same instants.

    Raises MediaError if one of them cannot be read or measured, OSError if it is not there.
    """
    pairs: list[list[Any]] = []
    selection = Selection(video.start_s, video.duration_s, video.max_frame_rate)
    in_folder = row["output_uri"].endswith(".csv")  # a table of images, which lie beside it
    with _local(row["source_uri"]) as source_path, _local(row["output_uri"]) as output_path:
        before = _frames(source_path, selection, video.keep_damaged, upright=in_folder)
        after = _frames_in_folder(row["output_uri"]) if in_folder else _frames(output_path)
        for (_, source), (time_s, output) in zip(before, after, strict=False):
            if time_s < config.excerpt.start_s:
                continue
            if video.side_by_side:
                output = output[:, output.shape[1] // 2 :]
            size = fit_size((output.shape[1], output.shape[0]), config.max_side)
            both = map(np.ascontiguousarray, (source, output))
            pairs.append([cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA) for frame_hwc in both])
            if len(pairs) == config.excerpt.num_frames:
                break
    if not pairs:
        raise UnsupportedMediaError(f"it is over before excerpt.start_s, {config.excerpt.start_s:g} s")
    source_thwc, output_thwc = map(np.stack, zip(*pairs, strict=True))
    return Excerpt.estimate(row["source_uri"].rsplit("/", 1)[-1], source_thwc), output_thwc


def _frames(
    path: str, selection: Selection | None = None, keep_damaged: bool = True, upright: bool = False
) -> Iterator[tuple[float, UInt8Array]]:
    """Frames of a video with their times in seconds from its first."""
    with VideoReader(path, None, keep_damaged, selection or Selection()) as reader:
        first_pts: int | None = None
        for frame in reader.frames():
            first_pts = frame.pts if first_pts is None else first_pts
            shown_hwc = reader.info.upright(frame.rgb_hwc) if upright else frame.rgb_hwc
            yield float((frame.pts - first_pts) * reader.info.time_base), shown_hwc


def _frames_in_folder(table_uri: str) -> Iterator[tuple[float, UInt8Array]]:
    """Frames of a video that was written as upright images, with their times from its first."""
    folder, name = folder_and_name(table_uri)
    rows = list(csv.DictReader(folder.read_bytes(name).decode().splitlines()))
    for row in rows:
        time_s = float(row["pts_s"]) - float(rows[0]["pts_s"])
        yield time_s, decode_image(folder.read_bytes(row["name"])).rgb_hwc


def _local(uri: str) -> AbstractContextManager[str]:
    folder, name = folder_and_name(uri)
    return folder.local_copy(name)


def _write(run: FinishedRun, results: VideoResults, unreadable: dict[str, str]) -> str:
    """Write figures, plot and page: the URI of the page."""
    config = run.config
    summary = {
        "videos": len(results.rows),
        "means": {name: mean if math.isfinite(mean) else None for name, mean in results.means().items()},
        "notes": results.notes,
        "unreadable": unreadable,
    }
    facts = {
        "run": config.run,
        "style": config.style or "thumbnails of the checkpoint",
        "measured": f"{len(results.rows):,} videos, {config.excerpt.num_frames} frames of each at most, from "
        f"second {config.excerpt.start_s:g} on, up to {config.max_side} px; flow of the source by DIS",
        "figures": f"{METRICS}: a row for each video; {SUMMARY}",
    }
    plot, restless = video_report.videos_plot(results.rows), video_report.steadiest_first(results.rows)[::-1]
    strips = [(row["name"], run.output.read_bytes(row["strip"])) for row in restless[: 3 * config.page.images]]
    page = video_report.video_page(results, facts, plot, strips)
    return run.write(results.rows, METRICS, summary, {PLOT: plot}, page)
