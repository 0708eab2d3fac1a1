"""Plots of stillness, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from benchmarks.smoothing_benchmark import PER_FRAME, Comparison
from nst_ops.evaluation.image_report import show
from nst_ops.evaluation.video_metrics import FIGURES, GAPS, SOURCE
from nst_ops.media.images import UInt8Array
from nst_ops.report.html import definitions, image, page
from nst_ops.temporal.metrics import Motion
from nst_ops.temporal.warp import warp

_COLOURS = {"per": "#555555", "gate": "#c98a1b", "ema": "#c0392b", "window": "#2b6cb0"}
_GOOD = "#e3f1e1"
_VIDEOS = 40
STILL, SHARP, STYLED = 0.35, 0.9, 1.05
"""What a good setting reaches: of the warping error, the fine texture and the Gram error of single frames."""


def stability_plot(comparison: Comparison) -> bytes:
    """Every version by how still it is, against the texture and the style that it keeps.

    Lower is stiller; the green corner has both. Lines join the settings of one mode.
    """
    means = comparison.mean()
    with_style = math.isfinite(means[PER_FRAME]["gram_share"])
    clips = f"{len(comparison.by_clip)} clips"
    label = f"shares of {PER_FRAME}, means over {clips}; small dots: the default, clip by clip"
    figure = Figure(figsize=(11 if with_style else 6, 4.8), layout="constrained")
    panels = figure.subplots(1, 1 + with_style, sharey=True, squeeze=False)[0]
    _panel(panels[0], comparison, "high_frequency_share")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("flicker left (warping error); lower is stiller")
    panels[0].set_xlabel("fine texture kept (high-frequency energy); right is sharper")
    _good_corner(panels[0], SHARP, panels[0].get_xlim()[1])
    if with_style:
        _panel(panels[1], comparison, "gram_share")
        panels[1].set_xlabel("distance to the style (Gram error); right is closer")
        panels[1].invert_xaxis()
        _good_corner(panels[1], STYLED, panels[1].get_xlim()[1])
    figure.suptitle(label, fontsize=10)
    return _png(figure)


def videos_plot(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Every video by how much more it changes along its motion than its source, the stillest first."""
    shown = stillest_first(rows)[-_VIDEOS:]
    names = [str(row["name"]) for row in shown]
    figure = Figure(figsize=(10, 1.4 + 0.24 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    for gap, color in zip(GAPS, (_COLOURS["window"], _COLOURS["gate"]), strict=True):
        ratios = [row[f"warping_ratio_{gap}"] for row in shown]
        left.plot(ratios, names, "o", color=color, label=f"{gap} frame{'s' * (gap > 1)} apart")
    left.axvline(1, color=_COLOURS["per"], linewidth=1)
    left.set_xscale("log")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_locator(NullLocator())
    left.set_xlabel("warping error, times the source's own; 1 is as still as filmed")
    left.legend(fontsize=8, frameon=False)
    right.plot([row["luminance_flicker"] for row in shown], names, "o", color=_COLOURS["ema"])
    right.set_xlim(left=0)
    right.set_xlabel("luminance flicker, gray levels")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        axes.tick_params(labelsize=8)
    return _png(figure)


def stillest_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Videos by their warping error as a ratio to the source's; those without one come first."""
    return sorted(rows, key=lambda row: np.nan_to_num(row["warping_ratio_1"]))


def _panel(axes: Axes, comparison: Comparison, key: str) -> None:
    means = comparison.mean()
    families: dict[str, list[str]] = {}
    for name in means:
        families.setdefault(name.split()[0], []).append(name)
    for family, names in families.items():
        points = [(means[name][key], means[name]["warping_share_1"]) for name in names]
        color = _COLOURS[family]
        axes.plot(*zip(*points, strict=True), "-o", color=color, markersize=6, linewidth=1.2, zorder=3)
        right = family == "window"  # labels of neighboring lines keep out of each other's way
        for name, point in zip(names, points, strict=True):
            is_default = name == comparison.default
            axes.annotate(
                f"{name} (default)" if is_default else name,
                point,
                (9, -11) if right else (-9, 4),
                textcoords="offset points",
                ha="left" if right else "right",
                fontsize=9,
                fontweight="bold" if is_default else "normal",
                color=color,
                zorder=5,
            )
    for clip in comparison.by_clip.values():
        own = clip[comparison.default]
        axes.plot(own[key], own["warping_share_1"], ".", color=_COLOURS["window"], alpha=0.3, markersize=5)
    best = means[comparison.default]
    axes.plot(
        best[key], best["warping_share_1"], "o", markersize=15, fillstyle="none", color="black", zorder=4
    )
    axes.spines[["top", "right"]].set_visible(False)


def _good_corner(axes: Axes, threshold: float, edge: float) -> None:
    axes.add_patch(Rectangle((threshold, 0), edge - threshold, STILL, color=_GOOD, zorder=0))
    axes.annotate(
        "goal", (threshold, STILL), (5, -12), textcoords="offset points", fontsize=9, color="#4b7a46"
    )
    far = axes.get_xlim()[0]
    margin = 0.2 * (edge - threshold)  # the corner's end is in view, however good all points are
    axes.set_xlim(min(far, threshold - margin) if edge > threshold else max(far, threshold - margin), edge)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


_CELL = 168
_GAP, _TEXT, _LABEL = 4, 20, 104
_PAPER, _INK, _MARK = (255, 255, 255), (40, 40, 40), (220, 40, 40)


@dataclass(frozen=True)
class Crop:
    """A square of a frame in pixels."""

    x: int
    y: int
    side: int

    def of(self, frames: UInt8Array) -> UInt8Array:
        """The square of frames (..., H, W, 3)."""
        return frames[..., self.y : self.y + self.side, self.x : self.x + self.side, :]


def busiest_crop(frames_thwc: UInt8Array, motion: Motion, share: float = 0.4) -> Crop:
    """Where a version of a clip changes most along its motion: look there for flicker.

    Args:
        frames_thwc: (T, H, W, 3), T at least 2.
        motion: of the source.
        share: side of the crop in shorter sides of the frame.
    """
    height, width = frames_thwc.shape[1:3]
    change = np.zeros((height, width), np.float32)
    for t in range(1, len(frames_thwc)):
        flow, mask = motion(t, t - 1)
        moved = warp(frames_thwc[t - 1].astype(np.float32), flow)
        change += mask * np.square(frames_thwc[t] - moved).mean(axis=2)
    side = max(8, round(share * min(height, width)))
    sums = cv2.boxFilter(change, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    y, x = np.unravel_index(
        np.argmax(sums[: height - side + 1, : width - side + 1]), (height - side + 1, width - side + 1)
    )
    return Crop(int(x), int(y), side)


def strip(versions: Mapping[str, UInt8Array], crop: Crop, start: int = 0, columns: int = 5) -> Image.Image:
    """A row for each version: a whole frame, a crop of consecutive frames, and one line of it over time.

    In the last column time runs downwards: what holds still or moves evenly draws clean lines,
    what flickers is ragged, and a ghost is a second line beside the first.

    Args:
        versions: frames (T, H, W, 3) by name, all of one shape.
        crop: what is enlarged.
        start: number of the first of the consecutive frames.
        columns: how many of them.
    """
    num_frames, height, width = next(iter(versions.values())).shape[:3]
    columns = min(columns, num_frames - start)
    whole = round(_CELL * width / height)
    lefts = [_LABEL, *(_LABEL + whole + _GAP + n * (_CELL + _GAP) for n in range(columns + 1))]
    size = (lefts[-1] + _CELL, _TEXT + len(versions) * (_CELL + _GAP))
    paper = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(15)
    heads = ["whole frame", *(f"frame {start + n}" for n in range(columns)), "one line over time"]
    for left, head in zip(lefts, heads, strict=True):
        draw.text((left, 1), head, _INK, font)
    scale = _CELL / height
    for row, (name, frames) in enumerate(versions.items()):
        top = _TEXT + row * (_CELL + _GAP)
        draw.multiline_text((0, top + 2), name, _INK, font)
        paper.paste(_scaled(frames[start], (whole, _CELL)), (lefts[0], top))
        corner = lefts[0] + crop.x * scale, top + crop.y * scale
        draw.rectangle((*corner, corner[0] + crop.side * scale, corner[1] + crop.side * scale), outline=_MARK)
        for n, left in enumerate(lefts[1:-1]):
            paper.paste(_scaled(crop.of(frames[start + n]), (_CELL, _CELL)), (left, top))
        over_time = Image.fromarray(crop.of(frames)[:, crop.side // 2])
        paper.paste(over_time.resize((_CELL, _CELL), Image.Resampling.NEAREST), (lefts[-1], top))
    return paper


def _scaled(frame_hwc: UInt8Array, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(frame_hwc).resize(size, Image.Resampling.BICUBIC)


_SHOWN = ("warping_ratio_1", "warping_ratio_10", "luminance_flicker", "high_frequency_energy", "gram")


def write_page(
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, float],
    notes: Sequence[str],
    facts: Mapping[str, str],
    plot: bytes,
    strips: Sequence[tuple[str, bytes]],
) -> str:
    """The page as HTML.

    Args:
        rows: of each video, as of ``StabilityReport``.
        means: of the figures.
        notes: what else a reader has to know.
        facts: what was judged, against what.
        plot: PNG.
        strips: names of videos, and their strips as JPEG.
    """
    remarks = "".join(f"<li>{escape(note)}</li>" for note in notes)
    body = [
        f"<h1>Do the videos hold still?</h1>{definitions(facts.items())}",
        f"<h2>Figures</h2>{_means(means)}",
        f"<h2>Notes</h2><ul>{remarks}</ul>" if notes else "",
        f"<h2>Videos</h2>{image(plot, 'png')}{_videos(rows)}",
        f"<h2>Strips</h2><p>{_ABOUT_STRIPS}</p>",
        *(f"<h3>{escape(name)}</h3>{image(jpeg, 'jpeg')}" for name, jpeg in strips),
    ]
    return page("Do the videos hold still?", body)


def _means(means: Mapping[str, float]) -> str:
    lines = []
    for name, about in FIGURES.items():
        cells = (f"<td>{_number(means[key])}</td>" for key in (name, f"{SOURCE}_{name}"))
        lines.append(
            f"<tr><td>{escape(about.label)}</td><td>{escape(about.meaning)}</td><td>{about.better}</td>"
            f"{''.join(cells)}</tr>"
        )
    heads = "<th>figure</th><th>what it means</th><th>better</th><th>stylized</th><th>source</th>"
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _videos(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = "".join(f"<th>{escape(FIGURES[name].label)}</th>" for name in _SHOWN)
    lines = []
    for row in sorted(rows, key=lambda row: str(row["name"])):
        cells = "".join(f"<td>{_number(row[name])}</td>" for name in _SHOWN)
        about = f"{row['num_frames']} frames, {row['width']}x{row['height']}, {row['num_cuts']} cuts"
        lines.append(f"<tr><td>{escape(row['name'])}</td><td>{about}</td>{cells}</tr>")
    return f"<table><tr><th>video</th><th></th>{heads}</tr>{''.join(lines)}</table>"


def _number(figure: float) -> str:
    return show(figure) if math.isfinite(figure) else ""


_ABOUT_STRIPS = (
    "The most restless first. The square is where the paint changes most along the motion. In the last "
    "picture time runs downwards: what holds still or moves evenly draws clean lines, what flickers is "
    "ragged, a ghost is a second line beside the first."
)
